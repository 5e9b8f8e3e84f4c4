import { randomUUID } from "node:crypto";
import { encodeCursor, ExpiredCursor } from "../../../conversation/message/cursor.ts";
import { ReadMessage } from "../../../conversation/message/read-message.ts";
import type { Op, Place } from "../../../conversation/ports/store.ts";
import type { Session } from "../../../conversation/session.ts";
import { guarded } from "../../client/failure.ts";
import { exactRow } from "../../store/exact-row.ts";
import { sessionKeys } from "../../store/keys.ts";
import { recordFields, callersOp, type SessionCalls } from "../session-calls.ts";
import { changesTooFast, view } from "../reading/view.ts";

const chunkRows = 500;

export async function fork(
  calls: SessionCalls,
  owner: string,
  source: Session,
  through: Place | null,
  sessionId: string,
  title: string | null,
  op: Op,
): Promise<void> {
  const key = calls.historyKey(sessionId);
  const staging = sessionKeys(key).staging(randomUUID());
  const tip = { position: source.end - 1, mark: source.tipMark };
  const last = through === null ? tip : await endOfStep(calls, owner, source, through);
  const { instructions, memory, metadata, model, ttlSeconds } = source;
  const ttl = ttlSeconds === null ? [] : ["ttl", ttlSeconds];
  const record = ["fork", source.sessionId, ...ttl, ...recordFields({ title, instructions, model, memory, metadata })];
  await calls.starting(owner, async (full) => {
    // Where there is no room only a retry gets an answer, and that needs no copy.
    const rows = full ? 0 : await stage(calls, owner, source, last, staging);
    await calls.make("fork", { owner, key, op: callersOp(op), staging }, { rows, record }, full);
  });
}

/** Of a reply that calls tools, and of an answer to it, the last of its answers: a call is not copied without them. */
async function endOfStep(calls: SessionCalls, owner: string, source: Session, through: Place): Promise<Place> {
  const { generation, sessionId, historyKey } = source;
  for (let last = through; ;) {
    const after = encodeCursor(historyKey, { ...last, generation });
    const pages = [{ first: 50, after, last: null, before: null }];
    const reading = await view(calls, owner, sessionId, { pages });
    const page = typeof reading === "string" ? undefined : reading.session.pages[0];
    if (page === undefined || page instanceof Error) throw new ExpiredCursor();
    const other = page.rows.findIndex(({ raw }) => new ReadMessage(raw).role !== "TOOL");
    const { position, mark } = page.rows.slice(0, other < 0 ? page.rows.length : other).at(-1) ?? last;
    last = { position, mark };
    if (other >= 0 || !page.hasNextPage) return last;
  }
}

/**
 * Copies a session's rows up to `last` to the key `staging`, byte for byte, and gives how many there were. Through this
 * process, not in a script: on a cluster the fork lies in another slot.
 */
async function stage(
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
    const reading = await view(calls, owner, sessionId, { pages, ranges });
    // While the last row holds, so do all below it: what is appended or rewound above it meanwhile counts for nothing.
    if (typeof reading === "string" || reading.session.pages[0] instanceof Error) throw new ExpiredCursor();
    const rows = reading.ranges[0] ?? [];
    if (rows.length === 0) break;
    const { base } = reading.session;
    const copies = await Promise.all(rows.map((row) => exactRow(calls.redis, historyKey, base, row)));
    const exact = copies.filter((copy) => copy !== null);
    if (exact.length < rows.length) throw changesTooFast();
    await guarded(calls.redis.lpush(staging, ...exact));
    // Left behind by a process that died, the copy goes away by itself.
    await guarded(calls.redis.expire(staging, 600));
    staged += rows.length;
  }
  return staged;
}
