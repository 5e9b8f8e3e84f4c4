import type { ReadRequest } from "../conversations/api.ts";
import type { SessionChange, SessionEvent } from "../events.ts";
import type { Live } from "./live.ts";

/** What becomes of a stream of a session that there is not: NOT_FOUND, it waits for one, or `removed` and the end. */
export type WhenAbsent = "refuse" | "wait" | "end";

/** The port to what happens live. */
export interface Feeds {
  /**
   * Resolves once nothing can be missed, with NOT_FOUND or INVALID_CURSOR otherwise. `after`: a cursor, "" for all from
   * the beginning, null from now on. Who waits is told of all from the beginning. A key that holds what is no history is
   * NOT_FOUND whatever is to become of a stream of none. While the store is away the iterator waits, and goes on without a gap (P3).
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
  /** From here on nothing is missed, but something may have been: ask the store. Called at first and after a reconnect. */
  onUnsure(): void;
}
