import type { ReadRequest } from "./api.ts";
import type { SessionChange, SessionEvent } from "./events.ts";
import type { Live } from "./live.ts";

/** The port to what happens live. */
export interface Feeds {
  /**
   * Resolves once nothing can be missed, with NOT_FOUND or INVALID_CURSOR otherwise. `after`: a cursor, "" for all from
   * the beginning, null from now on. While the store is away the iterator waits, and goes on without a gap (P3).
   */
  open(
    owner: string,
    sessionId: string,
    after: string | null,
    read: ReadRequest,
    signal: AbortSignal,
  ): Promise<Live<SessionEvent>>;
  changes(owner: string, read: ReadRequest, signal: AbortSignal): Promise<AsyncIterableIterator<SessionChange>>;
  /** Watches a session's runs, until the returned function is called. Costs no reading. */
  watch(historyKey: string, watcher: RunWatcher): () => void;
}

export interface RunWatcher {
  /** These runs have ended, whoever ended them. */
  onEnded(runIds: readonly string[]): void;
  /** From here on nothing is missed, but something may have been: ask the store. Called at first and after a reconnect. */
  onUnsure(): void;
}
