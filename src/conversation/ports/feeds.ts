import type { ReadRequest } from "../conversations/api.ts";
import type { SessionChange, SessionEvent } from "../events.ts";
import type { Live } from "./live.ts";

/** What becomes of a stream whose session does not exist: it fails with NOT_FOUND, waits for the session, or gives `removed` and ends. */
export type WhenAbsent = "refuse" | "wait" | "end";

/** The port to live events. */
export interface Feeds {
  /**
   * Resolves once no event can be missed; rejects with NOT_FOUND or INVALID_CURSOR. `after`: a cursor, "" for all from the
   * beginning, null from now on. A stream that waits for its session gets all from the beginning. A key that holds no
   * history is NOT_FOUND whatever `absent` says. While the store is away the iterator waits, and goes on without a gap (P3).
   */
  open(
    owner: string,
    sessionId: string,
    after: string | null,
    absent: WhenAbsent,
    read: ReadRequest,
    signal?: AbortSignal,
  ): Promise<Live<SessionEvent>>;
  changes(owner: string, read: ReadRequest, signal: AbortSignal): Promise<AsyncIterableIterator<SessionChange>>;
  /** Watches a session's runs, until the returned function is called. Costs no reading. */
  watch(historyKey: string, watcher: RunWatcher): () => void;
}

export interface RunWatcher {
  /** These runs have ended, whoever ended them. */
  onEnded(runIds: readonly string[]): void;
  /** These runs wait for decisions, each time that they do. */
  onWaiting?(runIds: readonly string[]): void;
  /** From here on no event is missed, but one may have been before: ask the store. Called at first and after each reconnect. */
  onUnsure(): void;
}
