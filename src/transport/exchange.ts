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
}

/** One operation on its way: an HTTP request, or one `subscribe` message of a WebSocket. */
export interface Exchange {
  readonly viewer: () => Viewer | Promise<Viewer>;
  readonly resume: Resume;
  /** Aborts when the operation is over, or its client gone. */
  readonly signal: AbortSignal;
  /** Safe to call twice. */
  readonly end: () => void;
}

export function createExchange(viewer: () => Viewer | Promise<Viewer>, lastEventId: string | null): Exchange {
  const controller = new AbortController();
  return {
    viewer,
    resume: { lastEventId, cursor: null },
    signal: controller.signal,
    end: () => controller.abort(),
  };
}
