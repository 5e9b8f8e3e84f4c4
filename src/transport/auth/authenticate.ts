import type { AuthOptions } from "../../config/auth.ts";
import {
  CredentialsExpired,
  tokenMissing,
  unauthenticated,
  viewerOf,
} from "../../conversation/conversations/access.ts";
import { ParleyError } from "../../conversation/errors.ts";
import type { Authenticate, Credentials, RequestHeaders } from "../../operations/identity.ts";
import type { Logger } from "../../operations/logger.ts";
import { keyVerifier } from "./api-keys.ts";
import { tokenOf } from "./token.ts";
import type { VerifyToken } from "./token.ts";

/** What a program's own `authenticate` is given: an HTTP request, or a WebSocket's connection_init. */
export interface AuthRequest {
  /** With the `authorization` of connection_init in place of the upgrade's, where there is one. */
  readonly headers: RequestHeaders;
  /** The payload of connection_init; null over HTTP. */
  readonly connectionParams: Readonly<Record<string, unknown>> | null;
}

/** What it answers; null: nobody that it knows. */
export interface Authenticated {
  /** At most 255 bytes, without "*"; not `anonymous`. Each subject has its own sessions. */
  readonly subject: string;
  /** Default: chat:read and chat:write. */
  readonly scopes?: readonly string[];
  /**
   * Patterns of session ids, `*` for any text. Default: ids that begin with "<subject>:". Given, they bound all that the
   * subject reaches, and bring histories of foreign code along that match and are nobody's.
   */
  readonly sessions?: readonly string[];
  /** Patterns of the names of models and agents that it may choose, `*` for any text. Default: all that there are. */
  readonly models?: readonly string[];
  /** Milliseconds since the epoch, or a Date: its streams and sockets end then. Default: never. */
  readonly expiresAt?: number | Date | null;
}

export type AuthenticateRequest = (
  request: AuthRequest,
) => Authenticated | null | undefined | Promise<Authenticated | null | undefined>;

/** null: nobody has to sign in. */
export async function authenticator(options: AuthOptions, logger: Logger): Promise<Authenticate | null> {
  switch (options.kind) {
    case "none":
      return null;
    case "jwt": {
      // Loaded here: nobody else needs its library to start.
      const { jwtVerifier } = await import("./jwt.ts");
      return byToken(
        jwtVerifier(options, (err) =>
          logger.error({ err }, "The issuer's keys cannot be had: no token can be checked."),
        ),
        options.cookie,
      );
    }
    case "keys":
      return byToken(
        keyVerifier(options.file, (problem) => logger.error({ problem }, "AUTH_KEYS_FILE has a mistake.")),
        options.cookie,
      );
  }
}

function byToken(verify: VerifyToken, cookie: string | null): Authenticate {
  return async (credentials) => {
    const token = tokenOf(credentials, cookie);
    if (token === null) throw tokenMissing();
    return { ...(await verify(token)), token };
  };
}

/** A program's own function. What it throws lets nobody in, and is for the log. */
export function ownAuthenticator(authenticate: AuthenticateRequest, logger: Logger): Authenticate {
  return async (credentials) => {
    let known: Authenticated | null | undefined;
    try {
      known = await authenticate(requestOf(credentials));
    } catch (cause) {
      if (cause instanceof ParleyError) throw cause;
      logger.warn({ err: cause }, "The program's authenticate() has thrown: nobody is let in by that.");
      throw unauthenticated({ cause });
    }
    if (known === null || known === undefined) throw unauthenticated();
    const { subject, scopes = ["chat:read", "chat:write"], sessions = null, models = null, expiresAt = null } = known;
    const end = expiresAt instanceof Date ? expiresAt.getTime() : expiresAt;
    const viewer = viewerOf({ subject, scopes, sessions, models });
    const token = tokenOf(credentials, null) ?? undefined;
    if (end === null || end > Date.now()) return { viewer, expiresAt: end, token };
    throw Number.isNaN(end) ? unauthenticated() : new CredentialsExpired();
  };
}

function requestOf({ headers, connectionParams }: Credentials): AuthRequest {
  const given = connectionParams?.["authorization"] ?? connectionParams?.["Authorization"];
  const get = (name: string) =>
    typeof given === "string" && name.toLowerCase() === "authorization" ? given : headers.get(name);
  return { headers: { get }, connectionParams };
}
