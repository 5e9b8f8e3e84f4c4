import { encodeCursor, ExpiredCursor } from "../../conversation/message/cursor.ts";
import type { Session } from "../../conversation/session.ts";
import type { Place } from "../../conversation/ports/store.ts";
import type { Client } from "../client/connection.ts";
import { exactRow } from "./exact-row.ts";
import { guarded } from "../client/failure.ts";
import type { SessionCalls } from "../scripts/session-calls.ts";
import { changesTooFast, readSession } from "./session-reading.ts";

const chunkRows = 500;

/**
 * Copies a session's rows up to `last` to the key `staging`, byte for byte, and gives how many there were. Through this
 * process, not in a script: on a cluster the fork lies in another slot.
 */
export async function stageFork(
  redis: Client,
  calls: SessionCalls,
  owner: string,
  source: Session,
  last: Place,
  staging: string,
): Promise<number> {
  const { generation, sessionId, historyKey } = source;
  const cursor = encodeCursor(historyKey, { ...last, generation });
  const pages = [{ first: 1, after: cursor, last: null, before: null }];
  let staged = 0;
  for (let from = source.base; from <= last.position; from += chunkRows) {
    const ranges = [[from, Math.min(from + chunkRows - 1, last.position)]] as const;
    const reading = await readSession(calls, owner, sessionId, historyKey, { pages, ranges }, null);
    // While the last row holds, so do all below it: what is appended or rewound above it meanwhile counts for nothing.
    if (typeof reading === "string" || reading.session.pages[0] instanceof Error) throw new ExpiredCursor();
    const rows = reading.ranges[0] ?? [];
    if (rows.length === 0) break;
    const { base } = reading.session;
    const copies = await Promise.all(rows.map((row) => exactRow(redis, historyKey, base, row)));
    const exact = copies.filter((copy) => copy !== null);
    if (exact.length < rows.length) throw changesTooFast();
    await guarded(redis.lpush(staging, ...exact));
    // Left behind by a process that died, the copy goes away by itself.
    await guarded(redis.expire(staging, 600));
    staged += rows.length;
  }
  return staged;
}
