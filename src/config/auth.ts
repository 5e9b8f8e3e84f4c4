import { z } from "zod";

import { integer, isHttpUrl, isLoopback, onOff, variable } from "./values.ts";
import type { Definition } from "./values.ts";

/** Who may use the gateway, and how that is told. */
export type AuthConfig =
  /** Everyone who reaches the port is the one owner of everything. */
  | { readonly kind: "none"; readonly allowAnonymous: boolean }
  | {
      readonly kind: "jwt";
      readonly key: { readonly secret: string } | { readonly jwksUrl: string };
      /** null: any. */
      readonly issuer: string | null;
      readonly audience: string | null;
      readonly clockSkewSeconds: number;
      /** Name of a cookie that may hold the token; null: none. */
      readonly cookie: string | null;
    }
  | { readonly kind: "keys"; readonly file: string; readonly cookie: string | null };

export const authDefinitions = {
  AUTH: variable(
    z.enum(["none", "jwt", "keys"], "must be none, jwt or keys"),
    "none",
    "Who has access: `none` (everyone who reaches the port; only from this machine), `jwt` (who sends a valid token), `keys` (who sends an API key).",
  ),
  AUTH_JWT_SECRET: variable(z.string(), null, "AUTH=jwt: the secret of HS256 tokens, at least 32 bytes."),
  AUTH_JWKS_URL: variable(
    z.string().refine(isHttpUrl, "must be a URL with http: or https:"),
    null,
    "AUTH=jwt: where the issuer's public keys are (RS, PS, ES, EdDSA). Instead of AUTH_JWT_SECRET.",
  ),
  AUTH_JWT_ISSUER: variable(z.string(), null, "What a token's `iss` must be."),
  AUTH_JWT_AUDIENCE: variable(z.string(), null, "What a token's `aud` must be, or hold."),
  AUTH_CLOCK_SKEW_SECONDS: variable(
    integer(0, 600),
    "5",
    "How far the issuer's clock may be off: for so long a token counts before its `nbf` and after its `exp`.",
  ),
  AUTH_KEYS_FILE: variable(
    z.string(),
    null,
    "AUTH=keys: the file with the hashes of the keys, one JSON object a line; `parley keys add` writes it. Read again when it changes.",
  ),
  AUTH_COOKIE: variable(
    z.string().regex(/^[\w!#$%&'*+.^`|~-]+$/, "must be a cookie's name"),
    null,
    "A cookie that may hold the token, for pages of the gateway's own origin or of ALLOWED_ORIGINS.",
  ),
  ALLOW_ANONYMOUS: variable(
    onOff,
    "off",
    "Lets AUTH=none listen beyond this machine, and answer by any name there: whoever reaches it may do all.",
  ),
  ALLOW_BARE_KEYS: variable(
    onOff,
    "off",
    'Lets HISTORY_KEY_PREFIX be "" with AUTH: session ids are then names of keys in Redis, beside those of other programs.',
  ),
} as const;

type Name = keyof typeof authDefinitions;

/** How one variable is read: null where it is left out, or wrong (which is told already). */
export type ReadVariable = <Value>(name: Name, definition: Definition<Value>) => Value | null;

export interface Surroundings {
  readonly host: string;
  readonly historyKeyPrefix: string;
  readonly production: boolean;
}

/** What is wrong is told to `problem`, without its value. */
export function authConfig(
  given: ReadVariable,
  problem: (variable: string, message: string) => void,
  { host, historyKeyPrefix, production }: Surroundings,
): AuthConfig {
  const d = authDefinitions;
  const kind = given("AUTH", d.AUTH) ?? "none";
  const secret = given("AUTH_JWT_SECRET", d.AUTH_JWT_SECRET);
  const jwksUrl = given("AUTH_JWKS_URL", d.AUTH_JWKS_URL);
  const issuer = given("AUTH_JWT_ISSUER", d.AUTH_JWT_ISSUER);
  const audience = given("AUTH_JWT_AUDIENCE", d.AUTH_JWT_AUDIENCE);
  const clockSkewSeconds = given("AUTH_CLOCK_SKEW_SECONDS", d.AUTH_CLOCK_SKEW_SECONDS) ?? 5;
  const file = given("AUTH_KEYS_FILE", d.AUTH_KEYS_FILE);
  const cookie = given("AUTH_COOKIE", d.AUTH_COOKIE);
  const allowAnonymous = given("ALLOW_ANONYMOUS", d.ALLOW_ANONYMOUS) ?? false;
  const allowBareKeys = given("ALLOW_BARE_KEYS", d.ALLOW_BARE_KEYS) ?? false;

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
    problem("AUTH_JWKS_URL", "must be https: who answers in its place could make tokens for everyone");
  }
  const key = jwksUrl === null ? { secret: secret ?? "" } : { jwksUrl };
  return { kind, key, issuer, audience, clockSkewSeconds, cookie };
}

function isPlainHttp(url: string): boolean {
  const { protocol, hostname } = new URL(url);
  return protocol === "http:" && !isLoopback(hostname.replace(/^\[|\]$/g, ""));
}
