import {
  archivedFields,
  archiveHead,
  doneLine,
  endLine,
  rowLine,
  RowsDigest,
  sessionLine,
  voidLine,
} from "../../conversation/message/archive.ts";
import { notFound, ParleyError } from "../../conversation/errors.ts";
import { anonymous, type Session } from "../../conversation/session.ts";
import { exactRow } from "../store/exact-row.ts";
import { guarded } from "../client/failure.ts";
import { sessionKeys } from "../store/keys.ts";
import { recordedSessions, type RecordedSession } from "./session-records.ts";
import type { RedisBackend } from "../store/backend.ts";

interface ExportSelection {
  /** null: everybody's. */
  readonly owner: string | null;
  /** null: all. */
  readonly sessionId: string | null;
}

export interface ExportProgress {
  readonly sessions: number;
  readonly rows: number;
  /** Of the whole, about, from 0 to 1; null: how much there is is not known. */
  readonly share: number | null;
}

/** A page holds so many rows as fit in about as many bytes; a single row may be larger. */
const pageBytes = 4_000_000;
const mostRows = 1000;
const attempts = 5;

/**
 * Gives an archive piece by piece (see conversation/message/archive.ts), and holds no more than a page at a time. Each
 * session is as it was at one time: what is appended while it is read is left out, and where its history is rewound,
 * cleared or trimmed it is begun again. Rejects with NOT_FOUND where the one session asked for is not there.
 */
export async function* exportArchive(
  backend: RedisBackend,
  { owner, sessionId }: ExportSelection,
  onProgress: (progress: ExportProgress) => void,
): AsyncGenerator<string> {
  const { commands: redis, store } = backend;
  let sessions = 0;
  let rows = 0;
  yield archiveHead;
  if (sessionId === null) {
    for await (const one of recordedSessions(backend, owner)) yield* archived(one);
  } else {
    const key = sessionKeys(store.historyKey(sessionId)).session;
    const of = owner ?? (await guarded(redis.hget(key, "owner"))) ?? anonymous.subject;
    yield* archived({ owner: of, sessionId, share: null });
    if (sessions === 0) throw notFound();
  }
  yield doneLine(sessions);

  async function* archived(one: RecordedSession): AsyncGenerator<string> {
    const { owner: of, sessionId: id, share } = one;
    for (let attempt = 0; attempt < attempts; attempt++) {
      const session = (await store.read(of, id, { pages: [] }))?.session;
      // It went meanwhile.
      if (!session) return;
      const record = await guarded(redis.hgetall(sessionKeys(session.historyKey).session));
      if (record["gen"] !== String(session.generation)) continue;
      const { generation, base, expiresAt } = session;
      yield sessionLine({ sessionId: id, owner: of, generation, base, expiresAt, record: archivedFields(record) });
      const digest = new RowsDigest();
      let whole = true;
      for await (const row of rowsOf(of, session, share)) {
        whole = row !== null;
        if (row === null) break;
        digest.add(row);
        yield rowLine(row);
      }
      if (whole) {
        sessions++;
        rows += digest.rows;
        yield endLine(digest.rows, digest.hex());
        onProgress({ sessions, rows, share });
        return;
      }
      yield voidLine;
    }
    throw new ParleyError(
      "STORE_UNAVAILABLE",
      `The history of session ${JSON.stringify(id)} is rewound faster than it can be exported. Try again.`,
      { retryAfterSeconds: 1 },
    );
  }

  /** The rows as they lie in Redis, oldest first; null, and no more, where the history is no longer the same. */
  async function* rowsOf(of: string, session: Session, share: number | null): AsyncGenerator<Buffer | null> {
    const { sessionId: id, historyKey, generation, end } = session;
    let size = 16;
    for (let next = session.base; next < end;) {
      const ranges = [[next, Math.min(next + size, end) - 1]] as const;
      const reading = await store.read(of, id, { pages: [], ranges });
      const page = reading?.ranges[0] ?? [];
      if (reading?.session.generation !== generation || page[0]?.position !== next) {
        yield null;
        return;
      }
      let bytes = 0;
      for (const row of page) {
        const exact = await exactRow(redis, historyKey, reading.session.base, row);
        yield exact;
        if (exact === null) return;
        bytes += exact.byteLength;
      }
      next += page.length;
      // Of a session that is asked for alone it is known how long it is.
      const done = sessionId === null ? share : (next - session.base) / (end - session.base);
      onProgress({ sessions, rows: rows + next - session.base, share: done });
      size = Math.max(1, Math.min(mostRows, Math.floor((pageBytes / Math.max(bytes, 1)) * page.length)));
    }
  }
}
