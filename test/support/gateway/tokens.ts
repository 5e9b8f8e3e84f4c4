import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { SignJWT, exportJWK, generateKeyPair } from "jose";
import type { CryptoKey, JWK, JWTPayload } from "jose";

export const secret = "a secret of the tests, long enough for HS256";

export interface TokenOptions {
  /** null: none. Default: chat:read and chat:write. */
  readonly scope?: string | null;
  readonly sessions?: readonly string[];
  /** Seconds from now; null: never. Default: an hour. */
  readonly livesSeconds?: number | null;
  readonly claims?: JWTPayload;
}

function claimsOf(subject: string, { scope, sessions, livesSeconds = 3600, claims = {} }: TokenOptions): JWTPayload {
  return {
    sub: subject,
    ...(scope === null ? {} : { scope: scope ?? "chat:read chat:write" }),
    ...(sessions === undefined ? {} : { sessions: [...sessions] }),
    ...(livesSeconds === null ? {} : { exp: Math.floor(Date.now() / 1000) + livesSeconds }),
    ...claims,
  };
}

/** Signed with the secret above. */
export function tokenFor(subject: string, options: TokenOptions = {}): Promise<string> {
  return new SignJWT(claimsOf(subject, options))
    .setProtectedHeader({ alg: "HS256" })
    .sign(new TextEncoder().encode(secret));
}

export interface Signer {
  readonly kid: string;
  readonly publicJwk: JWK;
  readonly privateKey: CryptoKey;
  /** `kid` null: the token does not say which key it was made with. */
  token(subject: string, options?: TokenOptions, kid?: string | null): Promise<string>;
}

export async function createSigner(alg: string, kid: string): Promise<Signer> {
  const { publicKey, privateKey } = await generateKeyPair(alg, { extractable: true });
  const publicJwk = { ...(await exportJWK(publicKey)), kid, alg, use: "sig" };
  return {
    kid,
    publicJwk,
    privateKey,
    token: (subject, options = {}, named = kid) =>
      new SignJWT(claimsOf(subject, options))
        .setProtectedHeader(named === null ? { alg } : { alg, kid: named })
        .sign(privateKey),
  };
}

/** An issuer's key set over HTTP. */
export interface KeySetServer extends AsyncDisposable {
  readonly url: string;
  readonly fetched: number;
  keys: readonly JWK[];
  /** Answers 500 while true. */
  broken: boolean;
}

export async function startKeySet(keys: readonly JWK[]): Promise<KeySetServer> {
  let fetched = 0;
  const server = createServer((_request, response) => {
    fetched += 1;
    response.statusCode = keySet.broken ? 500 : 200;
    response.setHeader("content-type", "application/json");
    response.end(JSON.stringify({ keys: keySet.keys }));
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo; // it listens on a port
  const keySet: KeySetServer = {
    url: `http://127.0.0.1:${port}/keys`,
    get fetched() {
      return fetched;
    },
    keys,
    broken: false,
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
  return keySet;
}
