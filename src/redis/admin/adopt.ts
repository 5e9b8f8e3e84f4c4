import { historyKeyProblem } from "../../conversation/conversations/access.ts";
import { scannedKeys } from "./session-records.ts";
import type { RedisBackend } from "../store/backend.ts";

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

/** Looks through all lists of all primaries for histories that foreign code made, and gives them records, so that they are listed. */
export async function adoptAll(
  backend: Pick<RedisBackend, "primaries" | "store">,
  owner: string,
  match: string,
  onProgress: (progress: AdoptProgress) => void,
): Promise<AdoptResult> {
  let scanned = 0;
  let adopted = 0;
  let skipped = 0;
  for await (const { keys, shareAt } of scannedKeys(backend, match, "list")) {
    for (const key of keys) {
      scanned++;
      const sessionId = historyKeyProblem(key) === null ? backend.store.sessionIdOf(key) : null;
      if (sessionId && (await backend.store.adopt(owner, key))) adopted++;
      else skipped++;
    }
    onProgress({ scanned, adopted, skipped, share: shareAt(1) });
  }
  return { scanned, adopted, skipped };
}
