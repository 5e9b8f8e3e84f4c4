import { z } from "zod";
import { httpUrl, isLoopback, oneOf, onOff, orNull, text, whole } from "./forms.ts";
import { setting, type Values } from "./setting.ts";

/** Tokens or API keys that Parley checks itself. */
export type AuthOptions =
  /** Everyone who reaches the gateway is the one owner of everything. `allowAnonymous`: this is intended, also for clients on other machines. */
  | { readonly kind: "none"; readonly allowAnonymous?: boolean }
  | ({ readonly kind: "jwt"; readonly cookie: string | null } & JwtOptions)
  /** `cookie`: the name of a cookie that may hold the token; null: none. */
  | { readonly kind: "keys"; readonly cookie: string | null; readonly file: string };

export interface JwtOptions {
  /** A secret for HS256, or the URL of a JSON Web Key Set for everything with a public key. */
  readonly key: { readonly secret: string } | { readonly jwksUrl: string };
  /** What `iss` and `aud` must be; null: whatever they are. */
  readonly issuer: string | null;
  readonly audience: string | null;
  /** How far the issuer's clock and ours may lie apart. */
  readonly clockSkewSeconds: number;
}

export const authSettings = {
  kind: setting(
    "AUTH",
    oneOf("none", "jwt", "keys"),
    "none",
    "Who has access: `none` (every client that reaches the port; only from this machine), `jwt` (clients with a valid token), `keys` (clients with an API key).",
  ),
  secret: setting("AUTH_JWT_SECRET", orNull(text()), null, "AUTH=jwt: the secret of HS256 tokens, at least 32 bytes."),
  jwksUrl: setting(
    "AUTH_JWKS_URL",
    orNull(httpUrl),
    null,
    "AUTH=jwt: where the issuer's public keys are (RS, PS, ES, EdDSA). Instead of AUTH_JWT_SECRET.",
  ),
  issuer: setting("AUTH_JWT_ISSUER", orNull(text()), null, "What a token's `iss` must be."),
  audience: setting("AUTH_JWT_AUDIENCE", orNull(text()), null, "What a token's `aud` must be, or hold."),
  clockSkewSeconds: setting(
    "AUTH_CLOCK_SKEW_SECONDS",
    whole(0, 600),
    5,
    "How far the issuer's clock may be off: for so long a token counts before its `nbf` and after its `exp`.",
  ),
  file: setting(
    "AUTH_KEYS_FILE",
    orNull(text()),
    null,
    "AUTH=keys: the file with the hashes of the keys, one JSON object a line; `parley keys add` writes it. Read again when it changes.",
  ),
  cookie: setting(
    "AUTH_COOKIE",
    orNull(text(z.string().regex(/^[\w!#$%&'*+.^`|~-]+$/, "must be a cookie's name"))),
    null,
    "A cookie that may hold the token, for pages of the gateway's own origin or of ALLOWED_ORIGINS.",
  ),
  allowAnonymous: setting(
    "ALLOW_ANONYMOUS",
    onOff,
    false,
    "Lets AUTH=none listen beyond this machine, and answer by any name there: every client that reaches it may do everything.",
  ),
  allowBareKeys: setting(
    "ALLOW_BARE_KEYS",
    onOff,
    false,
    'Lets HISTORY_KEY_PREFIX be "" with AUTH: session ids are then names of keys in Redis, beside those of other programs.',
  ),
};

/** What else of the configuration bears on access. */
interface Surroundings {
  readonly host: string;
  readonly historyKeyPrefix: string;
  readonly production: boolean;
}

/** What is wrong is told to `problem`, without its value. */
export function authOptions(
  { kind, secret, jwksUrl, issuer, audience, clockSkewSeconds, file, cookie, ...allowed }: Values<typeof authSettings>,
  { host, historyKeyPrefix, production }: Surroundings,
  problem: (variable: string, message: string) => void,
): AuthOptions {
  const { allowAnonymous, allowBareKeys } = allowed;
  if (kind === "none") {
    if (!isLoopback(host) && !allowAnonymous) {
      problem("HOST", "is reached from elsewhere, and everyone may do everything: set AUTH, or ALLOW_ANONYMOUS=1");
    }
    return { kind, allowAnonymous };
  }
  if (historyKeyPrefix === "" && !allowBareKeys) {
    problem(
      "HISTORY_KEY_PREFIX",
      "must not be empty with AUTH: callers would name keys that other programs may use. Set it, or ALLOW_BARE_KEYS=1",
    );
  }
  if (kind === "keys") {
    if (file === null) problem("AUTH_KEYS_FILE", "is needed with AUTH=keys");
    return { kind, file: file ?? "", cookie };
  }
  if (secret === null && jwksUrl === null) problem("AUTH_JWT_SECRET", "is needed with AUTH=jwt, or AUTH_JWKS_URL");
  if (secret !== null && jwksUrl !== null) {
    problem("AUTH_JWKS_URL", "cannot stand beside AUTH_JWT_SECRET: tokens are made with one or the other");
  }
  const exposed = production || !isLoopback(host);
  if (exposed && secret !== null && Buffer.byteLength(secret) < 32) {
    problem("AUTH_JWT_SECRET", "must have at least 32 bytes, or it can be guessed from any token");
  }
  if (exposed && jwksUrl !== null && isPlainHttp(jwksUrl)) {
    problem("AUTH_JWKS_URL", "must be https: a server that answers in its place could make tokens for everyone");
  }
  const key = jwksUrl === null ? { secret: secret ?? "" } : { jwksUrl };
  return { kind, key, issuer, audience, clockSkewSeconds, cookie };
}

function isPlainHttp(url: string): boolean {
  const { protocol, hostname } = new URL(url);
  return protocol === "http:" && !isLoopback(hostname.replace(/^\[|\]$/g, ""));
}
