import type { Redis } from "ioredis";
import { ParleyError } from "../../conversation/errors.ts";
import { guarded } from "../client/failure.ts";
import { sessionKeys } from "../store/keys.ts";
import type { Client } from "../client/connection.ts";
import type { RedisSessionStore } from "../store/session-store.ts";

export interface RecordedSession {
  readonly owner: string;
  readonly sessionId: string;
  /** How much of all keys was looked through to find it, about, from 0 to 1; null: not known. */
  readonly share: number | null;
}

const keysAScan = 1000;

/**
 * All sessions that have a record, or those of one owner, looked for by SCAN: an owner's list is written beside the
 * scripts and may lack one. Those that were there all the time are given once each; who looks at them last meets what
 * came or went meanwhile.
 */
export async function* recordedSessions(
  primaries: readonly Redis[],
  store: RedisSessionStore,
  owner: string | null,
): AsyncGenerator<RecordedSession> {
  const given = new Set<string>();
  for (const [index, redis] of primaries.entries()) {
    const whole = await keysOf(redis);
    let looked = 0;
    let cursor = "0";
    do {
      const scan = redis.scan(cursor, "MATCH", "parley:{*}:session:*", "COUNT", keysAScan, "TYPE", "hash");
      const [next, keys] = await guarded(scan);
      cursor = next;
      const owners = await guarded(Promise.all(keys.map((key) => redis.hget(key, "owner"))));
      for (const [i, key] of keys.entries()) {
        const [, historyKey = ""] = /^parley:\{[^}]*\}:session:(.*)$/s.exec(key) ?? [];
        const sessionId = store.sessionIdOf(historyKey);
        const found = owners[i] ?? null;
        if (sessionId === null || sessionKeys(historyKey).session !== key || given.has(key)) continue;
        if (found === null || (owner !== null && found !== owner)) continue;
        given.add(key);
        const part = whole === null ? null : Math.min(1, (looked + (i / keys.length) * keysAScan) / whole);
        yield { owner: found, sessionId, share: part === null ? null : (index + part) / primaries.length };
      }
      looked += keysAScan;
    } while (cursor !== "0");
  }
}

/** SCAN looks at about COUNT of these at a time. null: that may not be asked (a user's ACL). */
export async function keysOf(redis: Redis): Promise<number | null> {
  const keys = await redis.dbsize().catch(() => 0);
  return keys > 0 ? keys : null;
}

/** Makes sessions of one owner another's, each whole; a run that is going goes on. Gives how many there were. */
export async function giveSessions(
  primaries: readonly Redis[],
  store: RedisSessionStore,
  { from, to, match }: { readonly from: string; readonly to: string; readonly match: (sessionId: string) => boolean },
  onProgress: (given: number, share: number | null) => void,
): Promise<number> {
  let given = 0;
  for await (const { sessionId, share } of recordedSessions(primaries, store, from)) {
    if (match(sessionId) && (await store.give(from, to, sessionId))) onProgress(++given, share);
  }
  return given;
}

/** Deletes all of an owner's sessions as deleteSession does, runs that are going included. Gives how many there were. */
export async function deleteOwner(
  redis: Client,
  primaries: readonly Redis[],
  store: RedisSessionStore,
  owner: string,
  onProgress: (deleted: number, share: number | null) => void,
): Promise<number> {
  let deleted = 0;
  for await (const { sessionId, share } of recordedSessions(primaries, store, owner)) {
    try {
      await store.remove(owner, sessionId);
      onProgress(++deleted, share);
    } catch (error) {
      // Somebody else was quicker.
      if (!(error instanceof ParleyError) || error.code !== "NOT_FOUND") throw error;
    }
  }
  // Names of sessions that went by themselves.
  const listed = store.shared.sessions(owner);
  for (const key of await guarded(redis.zrange(listed, 0, "-1"))) {
    if ((await guarded(redis.exists(sessionKeys(key).session))) === 0) await guarded(redis.zrem(listed, key));
  }
  return deleted;
}
