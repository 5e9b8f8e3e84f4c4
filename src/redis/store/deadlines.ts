import type { Client } from "../client/connection.ts";
import { arrayOrEmpty, parseJson } from "../../conversation/message/json.ts";
import { guarded } from "../client/failure.ts";
import { text } from "../scripts/replies.ts";
import type { Scripts } from "../scripts/scripts.ts";
import { mostAheadMs } from "./session-index.ts";
import type { RedisSessionStore } from "./session-store.ts";

const pollMs = 1000;
const claimMs = 5000;
const most = 50;

interface DeadlineParts {
  readonly redis: Client;
  readonly scripts: Scripts;
  readonly store: RedisSessionStore;
  /** Closes a session's lost run, takes the next; gives when to look again (0: not at all), or null: has not looked. */
  readonly attend: (historyKey: string) => Promise<number | null>;
  readonly onError: (error: unknown) => void;
}

/**
 * Every gateway polls the deadlines, so that an orphaned or waiting run and an expired session are never left to luck.
 * One gateway claims an entry; should it die over it, the entry comes due again.
 */
export class Deadlines {
  readonly #parts: DeadlineParts;
  #timer: NodeJS.Timeout | null = null;
  #closed = false;

  constructor(parts: DeadlineParts) {
    this.#parts = parts;
  }

  close(): void {
    this.#closed = true;
    if (this.#timer) clearTimeout(this.#timer);
  }

  start(): void {
    if (this.#closed) return;
    this.#timer = setTimeout(() => void this.#poll().finally(() => this.start()), pollMs * (0.8 + 0.4 * Math.random()));
    this.#timer.unref();
  }

  async #poll(): Promise<void> {
    const { due, expiries } = this.#parts.store.shared;
    // At a time: mostly nothing is due, and the two answers wake the process once.
    await Promise.all([
      this.#each(due, (key, claim) => this.#due(key, claim)),
      this.#each(expiries, (member, claim) => this.#expired(member, claim)),
    ]);
  }

  async #each(zset: string, look: (member: string, claim: string) => Promise<void>): Promise<void> {
    try {
      const { claim, members } = await guarded(
        this.#parts.scripts.call("due-claim", [zset], { holdMs: claimMs, most }),
      );
      // One session that cannot be looked after must not keep the others waiting.
      for (const member of members) await look(text(member), text(claim)).catch(this.#parts.onError);
    } catch (error) {
      this.#parts.onError(error);
    }
  }

  async #due(key: string, claim: string): Promise<void> {
    if (this.#parts.store.sessionIdOf(key) === null) return;
    const dueAt = await this.#parts.attend(key);
    // Nobody has looked: the claim runs out, and another process does.
    if (dueAt === null) return;
    const { due } = this.#parts.store.shared;
    if (dueAt > 0) await guarded(this.#parts.redis.zadd(due, dueAt, key));
    else await this.#settle(due, key, claim);
  }

  async #expired(member: string, claim: string): Promise<void> {
    const [owner, key]: readonly unknown[] = arrayOrEmpty(parseJson(member));
    const sessionId = typeof key === "string" ? this.#parts.store.sessionIdOf(key) : null;
    if (typeof owner !== "string" || sessionId === null) return;
    const reading = await this.#parts.store.read(owner, sessionId, { pages: [] });
    const expiresAt = reading?.session.expiresAt ?? null;
    if (expiresAt !== null) {
      // Reading it has given the record the list's life. Where that is near, this was the look ahead of its end.
      const near = expiresAt - Date.now() < 2 * mostAheadMs;
      const at = near ? expiresAt : expiresAt - mostAheadMs;
      await guarded(this.#parts.redis.zadd(this.#parts.store.shared.expiries, at, member));
      return;
    }
    if (!reading) this.#parts.store.forget(owner, sessionId);
    await this.#settle(this.#parts.store.shared.expiries, member, claim);
  }

  async #settle(zset: string, member: string, claim: string): Promise<void> {
    await guarded(this.#parts.scripts.call("due-settle", [zset], { member, claim }));
  }
}
