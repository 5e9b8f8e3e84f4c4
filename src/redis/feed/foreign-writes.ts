import { setTimeout as sleep } from "node:timers/promises";
import type { Listener, PubSub } from "../client/hub.ts";

/** Who wants to know that a history may have been written. */
export interface Watcher {
  onWritten(key: string): void;
  /** What was written in the meantime is unknown. */
  onResumed(): void;
}

/** What LangChain and other programs do to a history, or to what is to become one. */
const events = ["lpush", "del", "expired", "evicted", "rename_from", "rename_to"];

const patienceMs = 250;

/**
 * Writes to histories that nobody follows, for the lists of sessions that are open: one subscription to the servers'
 * keyevent channels for all lists of the process, and only while there is one. These channels name every key of the
 * database that anybody writes, so what is no history of a listed session is dropped by its first characters and one
 * look into a map (P11: who has a session listed is told of it, nobody else).
 */
export class ForeignWrites implements Listener {
  readonly #hub: PubSub;
  readonly #channels: readonly string[];
  readonly #prefix: string;
  readonly #onError: (error: unknown) => void;
  readonly #watchers = new Set<Watcher>();
  readonly #watching = new Map<string, Watcher>();
  #listening: Promise<void> | null = null;
  /** The user that Redis knows this gateway by may not: asked once, said once. */
  #forbidden = false;

  constructor(hub: PubSub, db: number, prefix: string, onError: (error: unknown) => void) {
    this.#hub = hub;
    this.#channels = events.map((event) => `__keyevent@${db}__:${event}`);
    this.#prefix = prefix;
    this.#onError = onError;
  }

  /**
   * Begins to listen, where nobody did. Resolves when all that is written is told of, or a moment later: lists are also
   * compared from time to time, and one is not to wait for a server that is away.
   */
  async join(watcher: Watcher): Promise<void> {
    this.#watchers.add(watcher);
    this.listen();
    await Promise.race([this.#listening?.catch(() => undefined), sleep(patienceMs, undefined, { ref: false })]);
  }

  leave(watcher: Watcher): void {
    this.#watchers.delete(watcher);
    if (this.#watchers.size > 0 || this.#listening === null) return;
    this.#listening = null;
    this.#hub.unsubscribe(this.#channels, this);
  }

  /** Again, where it has failed. */
  listen(): void {
    if (this.#listening !== null || this.#forbidden || this.#watchers.size === 0) return;
    const listening = this.#hub.subscribe(this.#channels, this);
    this.#listening = listening;
    listening.catch((error: unknown) => {
      if (this.#listening === listening) this.#listening = null;
      this.#forbidden = error instanceof Error && error.message.startsWith("NOPERM");
      this.#onError(error);
    });
  }

  /** From now on writes under this key are this watcher's. */
  watch(key: string, watcher: Watcher): void {
    this.#watching.set(key, watcher);
  }

  unwatch(key: string, watcher: Watcher): void {
    if (this.#watching.get(key) === watcher) this.#watching.delete(key);
  }

  onMessage(_channel: string, key: string): void {
    if (!key.startsWith(this.#prefix)) return;
    this.#watching.get(key)?.onWritten(key);
  }

  onResumed(): void {
    for (const watcher of this.#watchers) watcher.onResumed();
  }
}
