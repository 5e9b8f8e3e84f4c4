import { createRemoteJWKSet, customFetch, errors, jwtVerify } from "jose";
import type { FetchImplementation, FlattenedJWSInput, JWSHeaderParameters, JWTPayload, JWTVerifyOptions } from "jose";

import type { JwtOptions } from "../../config/auth.ts";
import { isTexts } from "../../conversation/message/json.ts";
import { CredentialsExpired, unauthenticated, viewerOf } from "../../conversation/conversations/access.ts";
import { ParleyError } from "../../conversation/errors.ts";
import type { Viewer } from "../../conversation/session.ts";
import type { Identity } from "../../operations/identity.ts";
import type { VerifyToken } from "./token.ts";

/** Only what has a public key: an HS256 token "signed" with that public key is no token (algorithm confusion). */
const publicKeyAlgorithms = [
  ...["RS256", "RS384", "RS512", "PS256", "PS384", "PS512"],
  ...["ES256", "ES384", "ES512", "EdDSA", "Ed25519"],
];

/** A key that is not in the set is asked for again, at most once in so many ms, however many tokens name unknown keys. */
const refetchMs = 1000;
/** A key that its issuer took back is trusted no longer than this. */
const keysKeptMs = 300_000;
const fetchTimeoutMs = 5000;
/** Of a key set: some hundreds of keys. What comes from elsewhere is not read without end. */
const maxKeySetBytes = 1024 * 1024;

/**
 * `onKeysAway` is told why the key set cannot be had, once until it can be.
 * @throws {ParleyError} by the function: UNAUTHENTICATED; STORE_UNAVAILABLE where the key set cannot be had
 */
export function jwtVerifier(options: JwtOptions, onKeysAway: (cause: unknown) => void = () => undefined): VerifyToken {
  const { key, issuer, audience, clockSkewSeconds } = options;
  const rules: JWTVerifyOptions = {
    clockTolerance: clockSkewSeconds,
    requiredClaims: ["sub"],
    ...(issuer === null ? {} : { issuer }),
    ...(audience === null ? {} : { audience }),
  };
  const verify =
    "secret" in key
      ? withSecret(new TextEncoder().encode(key.secret), { ...rules, algorithms: ["HS256"] })
      : withKeySet(new URL(key.jwksUrl), { ...rules, algorithms: publicKeyAlgorithms });
  let away = false;
  return async (token) => {
    try {
      const payload = await verify(token);
      away = false;
      return identityOf(payload, clockSkewSeconds);
    } catch (cause) {
      if (cause instanceof ParleyError) throw cause;
      if (cause instanceof KeysAway) {
        if (!away) onKeysAway(cause.cause);
        away = true;
        throw keysAway(cause);
      }
      throw isExpired(cause) ? new CredentialsExpired({ cause }) : unauthenticated({ cause });
    }
  };
}

/** Whether its end is all that is wrong with a token: jose looks at that when everything else was right. */
function isExpired(cause: unknown): boolean {
  if (!(cause instanceof errors.JWTExpired)) return false;
  try {
    viewerOfClaims(cause.payload);
    return true;
  } catch {
    return false;
  }
}

type Verify = (token: string) => Promise<JWTPayload>;

function withSecret(secret: Uint8Array, rules: JWTVerifyOptions): Verify {
  return async (token) => (await jwtVerify(token, secret, rules)).payload;
}

class KeysAway extends Error {}

function withKeySet(url: URL, rules: JWTVerifyOptions): Verify {
  const keys = createRemoteJWKSet(url, {
    cooldownDuration: refetchMs,
    cacheMaxAge: keysKeptMs,
    timeoutDuration: fetchTimeoutMs,
    [customFetch]: fetchBounded,
  });

  /** The set's own answer is about the token; that there is no set is not. */
  async function look(header: JWSHeaderParameters, token: FlattenedJWSInput) {
    try {
      return await keys(header, token);
    } catch (error) {
      const aboutToken =
        error instanceof errors.JWKSNoMatchingKey ||
        error instanceof errors.JWKSMultipleMatchingKeys ||
        error instanceof errors.JOSENotSupported ||
        error instanceof errors.JWSInvalid;
      if (aboutToken) throw error;
      throw new KeysAway("The key set cannot be had", { cause: error });
    }
  }

  async function getKey(header: JWSHeaderParameters, token: FlattenedJWSInput) {
    try {
      return await look(header, token);
    } catch (error) {
      if (!(error instanceof errors.JWKSNoMatchingKey) || !keys.coolingDown) throw error;
      // The key may have come since the set was fetched a moment ago (rotation): waited for, so that a new token works
      // at once and a flood of unknown keys is still one fetch a second.
      await new Promise((resolve) => setTimeout(resolve, refetchMs));
      return await look(header, token);
    }
  }

  return async (token) => {
    try {
      return (await jwtVerify(token, getKey, rules)).payload;
    } catch (error) {
      if (!(error instanceof errors.JWKSMultipleMatchingKeys)) throw error;
      // A token that does not say which key it was made with, while two are in use.
      for await (const key of error) {
        try {
          return (await jwtVerify(token, key, rules)).payload;
        } catch (mismatch) {
          if (!(mismatch instanceof errors.JWSSignatureVerificationFailed)) throw mismatch;
        }
      }
      throw new errors.JWSSignatureVerificationFailed();
    }
  };
}

/** The platform's fetch, with an end to what is read. */
const fetchBounded: FetchImplementation = async (url, options) => {
  const { status, body } = await fetch(url, options);
  const parts: Uint8Array[] = [];
  let bytes = 0;
  for await (const part of body ?? []) {
    bytes += part.byteLength;
    if (bytes > maxKeySetBytes) throw new Error(`The key set has more than ${maxKeySetBytes} bytes`);
    parts.push(part);
  }
  return new Response(Buffer.concat(parts), { status });
};

function keysAway(cause: unknown): ParleyError {
  const message = "Tokens cannot be checked right now: their issuer's keys cannot be had. Try again.";
  return new ParleyError("STORE_UNAVAILABLE", message, { retryAfterSeconds: 1 }, { cause });
}

/** @throws {ParleyError} UNAUTHENTICATED: nobody can be called so, or may do what it says */
function viewerOfClaims({ sub, scope, sessions, models }: JWTPayload): Viewer {
  if (typeof sub !== "string") throw unauthenticated();
  return viewerOf({
    ...{ subject: sub, scopes: wordsOf(scope) },
    ...{ sessions: patternsOf(sessions), models: patternsOf(models) },
  });
}

function identityOf(payload: JWTPayload, clockSkewSeconds: number): Identity {
  const { exp } = payload;
  const viewer = viewerOfClaims(payload);
  if (exp === undefined) return { viewer, expiresAt: null };
  // A token that is let in only because clocks differ lives as long as they may.
  const end = exp * 1000;
  return { viewer, expiresAt: end > Date.now() ? end : end + clockSkewSeconds * 1000 };
}

/** RFC 8693 writes scopes as words of one string; some issuers make a list of them. */
function wordsOf(scope: unknown): readonly string[] {
  if (typeof scope === "string") return scope.split(" ").filter((word) => word !== "");
  return isTexts(scope) ? scope : [];
}

/** null: the token does not say. One that says it in another form must not get more than it would have said. */
function patternsOf(claim: unknown): readonly string[] | null {
  if (claim === undefined || claim === null) return null;
  if (typeof claim === "string") return [claim];
  if (isTexts(claim)) return claim;
  throw unauthenticated();
}
