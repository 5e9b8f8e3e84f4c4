import type { Redis } from "ioredis";
import { ParleyError } from "../../conversation/errors.ts";
import { guarded } from "../client/failure.ts";
import { sessionKeys } from "../store/keys.ts";
import type { RedisBackend } from "../store/backend.ts";

export interface RecordedSession {
  readonly owner: string;
  readonly sessionId: string;
  /** How much of all keys was looked through to find it, about, from 0 to 1; null: not known. */
  readonly share: number | null;
}

const keysAScan = 500;

interface Scanned {
  readonly redis: Redis;
  readonly keys: readonly string[];
  /** How much of all keys was looked through, about, from 0 to 1, where so much of these was; null: not known. */
  readonly shareAt: (part: number) => number | null;
}

/** All keys of a type on these servers, as SCAN gives them: some may come twice. */
export async function* scannedKeys(
  backend: Pick<RedisBackend, "primaries">,
  match: string,
  type: string,
): AsyncGenerator<Scanned> {
  const primaries = await backend.primaries();
  for (const [index, redis] of primaries.entries()) {
    // A user's ACL may forbid to ask.
    const whole = await redis.dbsize().catch(() => 0);
    let cursor = "0";
    for (let looked = 0; looked === 0 || cursor !== "0"; looked += keysAScan) {
      const [next, keys] = await guarded(redis.scan(cursor, "MATCH", match, "COUNT", keysAScan, "TYPE", type));
      cursor = next;
      const shareOf = (keysLooked: number) => (index + Math.min(1, keysLooked / whole)) / primaries.length;
      yield { redis, keys, shareAt: (part) => (whole === 0 ? null : shareOf(looked + part * keysAScan)) };
    }
  }
}

/**
 * All sessions that have a record, or those of one owner, looked for by SCAN: an owner's list is written beside the
 * scripts and may lack one. Those that were there all the time are given once each; who looks at them last meets what
 * came or went meanwhile.
 */
export async function* recordedSessions(backend: RedisBackend, owner: string | null): AsyncGenerator<RecordedSession> {
  const { store } = backend;
  const given = new Set<string>();
  for await (const { redis, keys, shareAt } of scannedKeys(backend, "parley:{*}:session:*", "hash")) {
    const owners = await guarded(Promise.all(keys.map((key) => redis.hget(key, "owner"))));
    for (const [i, key] of keys.entries()) {
      const [, historyKey = ""] = /^parley:\{[^}]*\}:session:(.*)$/s.exec(key) ?? [];
      const sessionId = store.sessionIdOf(historyKey);
      const found = owners[i] ?? null;
      if (sessionId === null || sessionKeys(historyKey).session !== key || given.has(key)) continue;
      if (found === null || (owner !== null && found !== owner)) continue;
      given.add(key);
      yield { owner: found, sessionId, share: shareAt(i / keys.length) };
    }
  }
}

/** Makes sessions of one owner another's, each whole; a run that is going goes on. Gives how many there were. */
export async function giveSessions(
  backend: RedisBackend,
  { from, to, match }: { readonly from: string; readonly to: string; readonly match: (sessionId: string) => boolean },
  onProgress: (given: number, share: number | null) => void,
): Promise<number> {
  let given = 0;
  for await (const { sessionId, share } of recordedSessions(backend, from)) {
    if (match(sessionId) && (await backend.store.give(from, to, sessionId))) onProgress(++given, share);
  }
  return given;
}

/** Deletes all of an owner's sessions as deleteSession does, runs that are going included. Gives how many there were. */
export async function deleteOwner(
  backend: RedisBackend,
  owner: string,
  onProgress: (deleted: number, share: number | null) => void,
): Promise<number> {
  const { commands: redis, store } = backend;
  let deleted = 0;
  for await (const { sessionId, share } of recordedSessions(backend, owner)) {
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
