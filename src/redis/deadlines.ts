import type { Client } from "./connection.ts";
import { arrayOrEmpty, parseJson } from "../conversation/json.ts";
import { guarded } from "./failure.ts";
import { dueKey, expiriesKey } from "./keys.ts";
import { text } from "./replies.ts";
import type { Scripts } from "./scripts.ts";
import type { RedisSessionStore } from "./session-store.ts";

const pollMs = 1000;
const claimMs = 5000;
const most = 50;

/**
 * Every gateway polls the deadlines, so that an orphaned or waiting run and an expired session are never left to luck.
 * One gateway claims an entry; should it die over it, the entry comes due again.
 */
export class Deadlines {
  readonly #redis: Client;
  readonly #scripts: Scripts;
  readonly #store: RedisSessionStore;
  /** Looks after a session's runs: closes a lost one, takes the next. */
  readonly #attend: (historyKey: string) => Promise<void>;
  readonly #onError: (error: unknown) => void;
  #timer: NodeJS.Timeout | null = null;
  #closed = false;

  constructor(
    redis: Client,
    scripts: Scripts,
    store: RedisSessionStore,
    attend: (historyKey: string) => Promise<void>,
    onError: (error: unknown) => void,
  ) {
    this.#redis = redis;
    this.#scripts = scripts;
    this.#store = store;
    this.#attend = attend;
    this.#onError = onError;
  }

  start(): void {
    this.#plan();
  }

  close(): void {
    this.#closed = true;
    if (this.#timer) clearTimeout(this.#timer);
  }

  #plan(): void {
    if (this.#closed) return;
    this.#timer = setTimeout(() => void this.#poll().finally(() => this.#plan()), pollMs * (0.8 + 0.4 * Math.random()));
    this.#timer.unref();
  }

  async #poll(): Promise<void> {
    try {
      await this.#each(dueKey, (key, claim) => this.#due(key, claim));
      await this.#each(expiriesKey, (member, claim) => this.#expired(member, claim));
    } catch (error) {
      this.#onError(error);
    }
  }

  async #each(zset: string, look: (member: string, claim: string) => Promise<void>): Promise<void> {
    const [claim, ...members] = await guarded(this.#scripts.run("due-claim", [zset], [claimMs, most]));
    for (const member of members) {
      try {
        await look(text(member), text(claim));
      } catch (error) {
        // One session that cannot be looked after must not keep the others waiting.
        this.#onError(error);
      }
    }
  }

  async #due(key: string, claim: string): Promise<void> {
    if (this.#store.sessionIdOf(key) === null) return;
    await this.#attend(key);
    const due = await this.#store.dueAt(key);
    if (due > 0) await guarded(this.#redis.zadd(dueKey, due, key));
    else await this.#settle(dueKey, key, claim);
  }

  async #expired(member: string, claim: string): Promise<void> {
    const [owner, key]: readonly unknown[] = arrayOrEmpty(parseJson(member));
    const sessionId = typeof key === "string" ? this.#store.sessionIdOf(key) : null;
    if (typeof owner !== "string" || sessionId === null) return;
    const reading = await this.#store.read(owner, sessionId, { pages: [] });
    const expiresAt = reading?.session.expiresAt ?? null;
    if (expiresAt !== null) {
      await guarded(this.#redis.zadd(expiriesKey, expiresAt, member));
      return;
    }
    if (!reading) this.#store.forget(owner, sessionId);
    await this.#settle(expiriesKey, member, claim);
  }

  async #settle(zset: string, member: string, claim: string): Promise<void> {
    await guarded(this.#scripts.run("due-settle", [zset], [member, claim]));
  }
}
