import { Cluster } from "ioredis";
import type { Client } from "../client/connection.ts";
import type { ListPlace, ListQuery } from "../../conversation/ports/store.ts";
import { guarded } from "../client/failure.ts";
import { sessionKeys, sharedKeys, type SharedKeys } from "./keys.ts";
import type { Head } from "../scripts/replies.ts";

/** What a sidebar is told: which session changed, and how. */
interface ListNews {
  readonly key: string;
  readonly kind: "added" | "updated" | "removed";
}

const retries = 20;
const retryMs = 1000;
const mostRetrying = 10_000;

/**
 * How long before its end a session is looked at, where it has `remainingMs`: foreign code may have given the list a longer
 * life since, which the record is to have too. (Then it is looked at once more when it has ended, to be listed no longer.)
 */
function lookAheadMs(remainingMs: number): number {
  return Math.max(0, Math.min(mostAheadMs, Math.floor(remainingMs / 2)));
}

export const mostAheadMs = 30_000;

/**
 * What lies in other slots than a session's: the owner's list by last change, the deadlines, the sidebar's channel. It is
 * written beside the scripts, idempotently, awaited by nobody, and mended when a reader finds it stale. On a single server
 * a turn's scripts write it themselves: as commands of their own these would cost more than the turn's two scripts.
 */
export class SessionIndex {
  readonly #redis: Client;
  readonly #prefix: string;
  readonly #shared: SharedKeys;
  readonly #failed: (error: unknown) => void;
  #retrying = 0;

  constructor(redis: Client, prefix: string, failed: (error: unknown) => void) {
    this.#redis = redis;
    this.#prefix = prefix;
    this.#shared = sharedKeys(prefix);
    this.#failed = failed;
  }

  /**
   * Before a turn begins, so that a process that dies right behind the script leaves a deadline and a listed session.
   * `mayBeNew`: a session that is there already is listed already, and stays in its place until its turn has begun.
   */
  expect(owner: string, key: string, leaseMs: number, mayBeNew: boolean): void {
    const now = Date.now();
    if (mayBeNew) this.#send(() => this.#redis.zadd(this.#shared.sessions(owner), "NX", now, key));
    // Never later than it is: the session may be another's, whose run is not to wait for this one (P11).
    this.#send(() => this.#redis.zadd(this.#shared.due, "LT", now + leaseMs, key));
  }

  /** What a script takes along to write all but the expiries itself; null in a cluster, where these lie in other slots. */
  keysOf(owner: string): readonly string[] | null {
    if (this.#redis instanceof Cluster) return null;
    return [this.#shared.sessions(owner), this.#shared.due, this.#shared.list(owner)];
  }

  note(owner: string, key: string, head: Head): void {
    if (head.indexed === undefined) {
      this.#send(() => this.#redis.zadd(this.#shared.sessions(owner), head.updated, key));
      if (head.due > 0) this.#send(() => this.#redis.zadd(this.#shared.due, head.due, key));
      this.tell(owner, { key, kind: head.added ? "added" : "updated" });
    } else if (head.indexed !== "") this.#failed(new Error(`The index was not written: ${head.indexed}`));
    if (head.expires > 0) {
      const at = head.expires - lookAheadMs(head.expires - head.now);
      this.#send(() => this.#redis.zadd(this.#shared.expiries, at, JSON.stringify([owner, key])));
    }
  }

  /**
   * Nothing came of what was expected. What is not there must not stay in the list, nor what is another's: it would tell
   * that it is there (P11). Its deadline stays: whoever polls it sees what there is to do.
   */
  withdraw(owner: string, key: string): void {
    this.#send(async () => {
      if ((await this.#updatedOf(owner, key)) === null) await this.#unlist(owner, key);
    });
  }

  /**
   * It is gone, or another's. Its deadline stays, as one under the same id may be another's by now: whoever polls it takes
   * it away, unless it was given anew.
   */
  forget(owner: string, key: string): void {
    this.#send(() => this.#unlist(owner, key));
  }

  tell(owner: string, news: ListNews): void {
    const channel = this.#shared.list(owner);
    const text = JSON.stringify(news);
    this.#send(() =>
      this.#redis instanceof Cluster ? this.#redis.spublish(channel, text) : this.#redis.publish(channel, text),
    );
  }

  async list(owner: string, query: ListQuery): Promise<readonly ListPlace[]> {
    const key = this.#shared.sessions(owner);
    const found: ListPlace[] = [];
    const from = query.from;
    // Members of one score come in the order of their names; those on the far side of the place are skipped.
    for (let skip = 0; found.length < query.count;) {
      const want = query.count - found.length + 1;
      const older = query.direction === "older";
      const bound = from ? from.updatedAt : older ? "+inf" : "-inf";
      const flat = older
        ? await guarded(this.#redis.zrange(key, bound, "-inf", "BYSCORE", "REV", "LIMIT", skip, want, "WITHSCORES"))
        : await guarded(this.#redis.zrange(key, bound, "+inf", "BYSCORE", "LIMIT", skip, want, "WITHSCORES"));
      const rows = scored(flat);
      for (const [member, updatedAt] of rows) {
        if (!member.startsWith(this.#prefix)) continue;
        const sessionId = member.slice(this.#prefix.length);
        if (from && updatedAt === from.updatedAt && !beyond(member, this.#prefix + from.sessionId, older)) continue;
        found.push({ sessionId, updatedAt });
      }
      if (rows.length < want) break;
      skip += rows.length;
    }
    return found.slice(0, query.count);
  }

  /**
   * Another gateway may start the session again at any time, and list it before it is taken out here. So it is looked for
   * behind that: what is started later still is listed later, too.
   */
  async #unlist(owner: string, key: string): Promise<void> {
    await this.#redis.zrem(this.#shared.sessions(owner), key);
    this.tell(owner, { key, kind: "removed" });
    const updated = await this.#updatedOf(owner, key);
    if (updated === null) return;
    // What it was given by a write since is newer.
    await this.#redis.zadd(this.#shared.sessions(owner), "GT", updated, key);
    this.tell(owner, { key, kind: "added" });
  }

  /** null: there is no such session of this owner's. */
  async #updatedOf(owner: string, key: string): Promise<string | null> {
    const [of, updated = null] = await this.#redis.hmget(sessionKeys(key).session, "owner", "updated");
    return of === owner ? updated : null;
  }

  /** Tried again while Redis is away, for a while: what is lost here is mended only when the session is met again. */
  #send(command: () => Promise<unknown>, attempt = 0): void {
    command().catch((error: unknown) => {
      this.#failed(error);
      if (attempt >= retries || this.#retrying >= mostRetrying) return;
      this.#retrying++;
      setTimeout(() => {
        this.#retrying--;
        this.#send(command, attempt + 1);
      }, retryMs).unref();
    });
  }
}

/** Redis orders members of one score by their bytes; the newest-first list runs through them backwards. */
function beyond(member: string, place: string, older: boolean): boolean {
  const order = Buffer.compare(Buffer.from(member), Buffer.from(place));
  return older ? order < 0 : order > 0;
}

/** ZRANGE … WITHSCORES: flat under RESP2, pairs under RESP3. */
function scored(reply: readonly unknown[]): readonly (readonly [member: string, score: number])[] {
  if (reply.length > 0 && Array.isArray(reply[0])) {
    return reply.map((pair) => {
      const [member, score] = pair as readonly unknown[]; // RESP3 pairs, checked by the line above
      return [String(member), Number(score)] as const;
    });
  }
  const pairs: (readonly [string, number])[] = [];
  for (let i = 0; i + 1 < reply.length; i += 2) pairs.push([String(reply[i]), Number(reply[i + 1])]);
  return pairs;
}
