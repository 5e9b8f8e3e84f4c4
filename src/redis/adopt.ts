import type { Redis } from "ioredis";
import { historyKeyProblem } from "../conversation/session-id.ts";
import { guarded } from "./failure.ts";
import type { RedisSessionStore } from "./session-store.ts";

export interface AdoptProgress {
  readonly scanned: number;
  readonly adopted: number;
  /** Keys that are no histories, or are listed already. */
  readonly skipped: number;
}

/** Looks through all lists of all primaries for histories that foreign code made, and gives them records, so that they are listed. */
export async function adoptAll(
  primaries: readonly Redis[],
  store: RedisSessionStore,
  owner: string,
  match: string,
  onProgress: (progress: AdoptProgress) => void,
): Promise<AdoptProgress> {
  let scanned = 0;
  let adopted = 0;
  let skipped = 0;
  for (const redis of primaries) {
    let cursor = "0";
    do {
      const [next, keys] = await guarded(redis.scan(cursor, "MATCH", match, "COUNT", 500, "TYPE", "list"));
      cursor = next;
      for (const key of keys) {
        scanned++;
        const sessionId = historyKeyProblem(key) === null ? store.sessionIdOf(key) : null;
        if (sessionId && (await store.adopt(owner, key))) adopted++;
        else skipped++;
      }
      onProgress({ scanned, adopted, skipped });
    } while (cursor !== "0");
  }
  return { scanned, adopted, skipped };
}
