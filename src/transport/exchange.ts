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
}

/** Refuses by throwing a ParleyError: UNAUTHENTICATED, or STORE_UNAVAILABLE where nobody can tell right now. */
export type Authenticate = (credentials: Credentials) => Identity | Promise<Identity>;

/** One operation on its way: an HTTP request, or one `subscribe` message of a WebSocket. */
export interface Exchange extends Validity {
  /** Asked once, however often it is called. */
  readonly identity: () => Promise<Identity>;
  /** These two are the identity's, once that is known. */
  readonly expiresAt: number | null;
  readonly revocation: Revocation | null;
  readonly resume: Resume;
  /** Aborts when the operation is over, or its client gone. */
  readonly signal: AbortSignal;
  /** Safe to call twice. */
  readonly end: () => void;
}

/** One for all: making an error for each request, with its stack, costs more than the signal. */
const over = new DOMException("The operation is over, or its client gone.", "AbortError");

export function createExchange(identify: () => Identity | Promise<Identity>, lastEventId: string | null): Exchange {
  const controller = new AbortController();
  let identity: Promise<Identity> | null = null;
  let validity: Validity = { expiresAt: null };
  const ask = async () => {
    const known = await identify();
    validity = known;
    return known;
  };
  return {
    identity: () => (identity ??= ask()),
    get expiresAt() {
      return validity.expiresAt;
    },
    get revocation() {
      return validity.revocation ?? null;
    },
    resume: { lastEventId, cursor: null },
    signal: controller.signal,
    end: () => controller.abort(over),
  };
}
