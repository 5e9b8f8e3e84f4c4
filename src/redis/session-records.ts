import type { Redis } from "ioredis";
import { ParleyError } from "../conversation/errors.ts";
import { guarded } from "./failure.ts";
import { sessionKeys, sessionsKey } from "./keys.ts";
import type { Client } from "./connection.ts";
import type { RedisSessionStore } from "./session-store.ts";

export interface RecordedSession {
  readonly owner: string;
  readonly sessionId: string;
}

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
  for (const redis of primaries) {
    let cursor = "0";
    do {
      const scan = redis.scan(cursor, "MATCH", "parley:{*}:session:*", "COUNT", 1000, "TYPE", "hash");
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
        yield { owner: found, sessionId };
      }
    } while (cursor !== "0");
  }
}

/** Deletes all of an owner's sessions as deleteSession does, runs that are going included. Gives how many there were. */
export async function deleteOwner(
  redis: Client,
  primaries: readonly Redis[],
  store: RedisSessionStore,
  owner: string,
  onProgress: (deleted: number) => void,
): Promise<number> {
  let deleted = 0;
  for await (const { sessionId } of recordedSessions(primaries, store, owner)) {
    try {
      await store.remove(owner, sessionId);
      onProgress(++deleted);
    } catch (error) {
      // Somebody else was quicker.
      if (!(error instanceof ParleyError) || error.code !== "NOT_FOUND") throw error;
    }
  }
  // Names of sessions that went by themselves.
  for (const key of await guarded(redis.zrange(sessionsKey(owner), 0, "-1"))) {
    if ((await guarded(redis.exists(sessionKeys(key).session))) === 0)
      await guarded(redis.zrem(sessionsKey(owner), key));
  }
  return deleted;
}
