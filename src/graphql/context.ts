import type { Conversations } from "../conversation/api.ts";
import type { Viewer } from "../conversation/session.ts";
import type { Readings } from "./readings.ts";

/** What a resolver knows of its operation. The transport makes one for each operation. */
export interface Context {
  readonly conversations: Conversations;
  readonly viewer: Viewer;
  /** Aborts when the client goes away or the operation is complete. */
  readonly signal: AbortSignal;
  readonly resume: Resume;
  /** How often `conversations` was asked for; left out where nobody counts. */
  readonly asked?: number;
  /** What a query has read so far: readingsOfQuery(). */
  readings?: Readings;
}

/**
 * How an SSE stream is resumed: `lastEventId` (the request's Last-Event-ID, null elsewhere) takes the place of `after`,
 * and a subscription notes at `cursor` what the event that it delivers now can be resumed from.
 */
export interface Resume {
  readonly lastEventId: string | null;
  cursor: string | null;
}
