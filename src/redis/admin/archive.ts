import type { Redis } from "ioredis";
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
import type { Client } from "../client/connection.ts";
import { exactRow } from "../store/exact-row.ts";
import { guarded } from "../client/failure.ts";
import { sessionKeys } from "../store/keys.ts";
import { recordedSessions, type RecordedSession } from "./session-records.ts";
import type { RedisSessionStore } from "../store/session-store.ts";

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

/** Gives an archive piece by piece (see conversation/message/archive.ts). It holds no more than a page at a time. */
export class Exporter {
  readonly #redis: Client;
  readonly #primaries: () => Promise<readonly Redis[]>;
  readonly #store: RedisSessionStore;
  readonly #onProgress: (progress: ExportProgress) => void;
  #sessions = 0;
  #rows = 0;
  #alone = false;

  constructor(
    redis: Client,
    primaries: () => Promise<readonly Redis[]>,
    store: RedisSessionStore,
    onProgress: (progress: ExportProgress) => void,
  ) {
    this.#redis = redis;
    this.#primaries = primaries;
    this.#store = store;
    this.#onProgress = onProgress;
  }

  /**
   * Each session is as it was at one time: what is appended while it is read is left out, and where its history is
   * rewound, cleared or trimmed it is begun again. Rejects with NOT_FOUND where the one session asked for is not there.
   */
  async *archive({ owner, sessionId }: ExportSelection): AsyncGenerator<string> {
    yield archiveHead;
    if (sessionId === null) {
      const primaries = await this.#primaries();
      for await (const one of recordedSessions(primaries, this.#store, owner)) yield* this.#session(one);
    } else {
      const key = this.#store.historyKey(sessionId);
      const of = owner ?? (await guarded(this.#redis.hget(sessionKeys(key).session, "owner"))) ?? anonymous.subject;
      this.#alone = true;
      yield* this.#session({ owner: of, sessionId, share: null });
      if (this.#sessions === 0) throw notFound();
    }
    yield doneLine(this.#sessions);
  }

  async *#session({ owner, sessionId, share }: RecordedSession): AsyncGenerator<string> {
    for (let attempt = 0; attempt < attempts; attempt++) {
      const session = (await this.#store.read(owner, sessionId, { pages: [] }))?.session;
      // It went meanwhile.
      if (!session) return;
      const record = await guarded(this.#redis.hgetall(sessionKeys(session.historyKey).session));
      if (record["gen"] !== String(session.generation)) continue;
      const { generation, base, expiresAt } = session;
      yield sessionLine({ sessionId, owner, generation, base, expiresAt, record: archivedFields(record) });
      const digest = new RowsDigest();
      let whole = true;
      for await (const row of this.#rowsOf(owner, session, share)) {
        whole = row !== null;
        if (row === null) break;
        digest.add(row);
        yield rowLine(row);
      }
      if (whole) {
        this.#sessions++;
        this.#rows += digest.rows;
        yield endLine(digest.rows, digest.hex());
        this.#onProgress({ sessions: this.#sessions, rows: this.#rows, share });
        return;
      }
      yield voidLine;
    }
    throw new ParleyError(
      "STORE_UNAVAILABLE",
      `The history of session ${JSON.stringify(sessionId)} is rewound faster than it can be exported. Try again.`,
      { retryAfterSeconds: 1 },
    );
  }

  /** The rows as they lie in Redis, oldest first; null, and no more, where the history is no longer the same. */
  async *#rowsOf(owner: string, session: Session, share: number | null): AsyncGenerator<Buffer | null> {
    const { sessionId, historyKey, generation, end } = session;
    let size = 16;
    for (let next = session.base; next < end;) {
      const ranges = [[next, Math.min(next + size, end) - 1]] as const;
      const reading = await this.#store.read(owner, sessionId, { pages: [], ranges });
      const rows = reading?.ranges[0] ?? [];
      if (reading?.session.generation !== generation || rows[0]?.position !== next) {
        yield null;
        return;
      }
      let bytes = 0;
      for (const row of rows) {
        const exact = await exactRow(this.#redis, historyKey, reading.session.base, row);
        yield exact;
        if (exact === null) return;
        bytes += exact.byteLength;
      }
      next += rows.length;
      const rowsSoFar = this.#rows + next - session.base;
      // Of a session that is asked for alone it is known how long it is.
      const done = this.#alone ? (next - session.base) / (end - session.base) : share;
      this.#onProgress({ sessions: this.#sessions, rows: rowsSoFar, share: done });
      size = Math.max(1, Math.min(mostRows, Math.floor((pageBytes / Math.max(bytes, 1)) * rows.length)));
    }
  }
}
