import type { Redis } from "ioredis";
import { historyKeyProblem } from "../../conversation/conversations/access.ts";
import { guarded } from "../client/failure.ts";
import { keysOf } from "./session-records.ts";
import type { RedisSessionStore } from "../store/session-store.ts";

export interface AdoptResult {
  readonly scanned: number;
  readonly adopted: number;
  /** Keys that are no histories, or are listed already. */
  readonly skipped: number;
}

export interface AdoptProgress extends AdoptResult {
  /** How much of all keys was looked through, about, from 0 to 1; null: not known. */
  readonly share: number | null;
}

const keysAScan = 500;

/** Looks through all lists of all primaries for histories that foreign code made, and gives them records, so that they are listed. */
export async function adoptAll(
  primaries: readonly Redis[],
  store: RedisSessionStore,
  owner: string,
  match: string,
  onProgress: (progress: AdoptProgress) => void,
): Promise<AdoptResult> {
  let scanned = 0;
  let adopted = 0;
  let skipped = 0;
  for (const [index, redis] of primaries.entries()) {
    const whole = await keysOf(redis);
    let looked = 0;
    let cursor = "0";
    do {
      const [next, keys] = await guarded(redis.scan(cursor, "MATCH", match, "COUNT", keysAScan, "TYPE", "list"));
      cursor = next;
      for (const key of keys) {
        scanned++;
        const sessionId = historyKeyProblem(key) === null ? store.sessionIdOf(key) : null;
        if (sessionId && (await store.adopt(owner, key))) adopted++;
        else skipped++;
      }
      looked += keysAScan;
      const share = whole === null ? null : (index + Math.min(1, looked / whole)) / primaries.length;
      onProgress({ scanned, adopted, skipped, share });
    } while (cursor !== "0");
  }
  return { scanned, adopted, skipped };
}
