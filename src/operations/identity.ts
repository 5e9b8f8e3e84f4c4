import type { Viewer } from "../conversation/session.ts";

// The caller, before and after it is known. Part of the types that the package publishes: nothing here drags a library along.

/** By lower-case name; what was sent several times comes joined by ", ". */
export interface RequestHeaders {
  get(name: string): string | null;
}

/** What is known of a caller before it is known who it is. */
export interface Credentials {
  readonly headers: RequestHeaders;
  /** The payload of connection_init (WebSocket); null over HTTP. */
  readonly connectionParams: Readonly<Record<string, unknown>> | null;
  /** The request names an Origin, and pages from there are let in: what a browser adds by itself (cookies) may count. */
  readonly fromKnownPage: boolean;
}

/** Credentials that may be taken back at any time. */
export interface Revocation {
  readonly revoked: boolean;
  /** The listener is called when they are, unless the returned function was called before. */
  onRevoked(listener: () => void): () => void;
}

/** Until when somebody is who they are. */
export interface Validity {
  /** Milliseconds since the epoch: nothing is delivered from then on. null: never. */
  readonly expiresAt: number | null;
  /** null, or left out: it is not taken back before. */
  readonly revocation?: Revocation | null;
}

export interface Identity extends Validity {
  readonly viewer: Viewer;
  /** The token that was shown; left out: none was. Only ever kept in memory, and not logged. */
  readonly token?: string | undefined;
}

/** `connectionParams`: the payload of connection_init (WebSocket); null over HTTP. Throws as Authenticate does. */
export type Identify = (
  headers: RequestHeaders,
  connectionParams: Readonly<Record<string, unknown>> | null,
) => Identity | Promise<Identity>;

/** Refuses by throwing a ParleyError: UNAUTHENTICATED, or STORE_UNAVAILABLE where nobody can tell right now. */
export type Authenticate = (credentials: Credentials) => Identity | Promise<Identity>;
