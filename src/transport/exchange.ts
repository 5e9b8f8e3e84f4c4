import type { Viewer } from "../conversation/session.ts";
import type { Resume } from "../graphql/context.ts";

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

export interface Identity {
  readonly viewer: Viewer;
  /** Milliseconds since the epoch: nothing is delivered from then on. null: never. */
  readonly expiresAt: number | null;
}

/** Refuses by throwing a ParleyError: UNAUTHENTICATED, or STORE_UNAVAILABLE where nobody can tell right now. */
export type Authenticate = (credentials: Credentials) => Identity | Promise<Identity>;

/** One operation on its way: an HTTP request, or one `subscribe` message of a WebSocket. */
export interface Exchange {
  /** Asked once, however often it is called. */
  readonly identity: () => Promise<Identity>;
  /** The identity's, once that is known. */
  readonly expiresAt: number | null;
  readonly resume: Resume;
  /** Aborts when the operation is over, or its client gone. */
  readonly signal: AbortSignal;
  /** Safe to call twice. */
  readonly end: () => void;
}

export function createExchange(identify: () => Identity | Promise<Identity>, lastEventId: string | null): Exchange {
  const controller = new AbortController();
  let identity: Promise<Identity> | null = null;
  let expiresAt: number | null = null;
  const ask = async () => {
    const known = await identify();
    ({ expiresAt } = known);
    return known;
  };
  return {
    identity: () => (identity ??= ask()),
    get expiresAt() {
      return expiresAt;
    },
    resume: { lastEventId, cursor: null },
    signal: controller.signal,
    end: () => controller.abort(),
  };
}
