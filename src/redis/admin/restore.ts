import { randomUUID } from "node:crypto";
import { subjectProblem, historyKeyProblem } from "../../conversation/conversations/access.ts";
import {
  ArchiveError,
  parseArchiveLine,
  RowsDigest,
  type ArchivedSession,
} from "../../conversation/message/archive.ts";
import type { Client } from "../client/connection.ts";
import { guarded } from "../client/failure.ts";
import { sessionKeys } from "../store/keys.ts";
import type { RedisBackend } from "../store/backend.ts";
import type { RedisSessionStore } from "../store/session-store.ts";

interface ImportOptions {
  /** Whose the sessions shall be; null: whose they were. */
  readonly owner: string | null;
  /** Replace sessions that are there already. */
  readonly replace: boolean;
}

export interface ImportResult {
  readonly restored: number;
  /** Restored by an earlier import of the same archive. */
  readonly known: number;
  /** Whose time was over before they were imported. */
  readonly expired: number;
  /** Left as they are, because there is a session of that name; the first 100 of them in `inTheWay`. */
  readonly refused: number;
  readonly inTheWay: readonly string[];
  readonly rows: number;
}

const chunkRows = 500;
const chunkBytes = 4_000_000;
/** Left behind by an import that was broken off, a copy goes away by itself. */
const stagingSeconds = 3600;

interface Staged {
  readonly session: ArchivedSession;
  readonly historyKey: string;
  readonly staging: string;
  readonly digest: RowsDigest;
  waiting: Buffer[];
  bytes: number;
}

/** Puts the sessions of an archive back, byte for byte, each whole or not at all. */
export class Importer {
  readonly #redis: Client;
  readonly #store: RedisSessionStore;
  readonly #options: ImportOptions;
  readonly #onProgress: (progress: ImportResult) => void;
  #result = { restored: 0, known: 0, expired: 0, refused: 0, rows: 0 };
  readonly #inTheWay: string[] = [];

  constructor({ commands, store }: RedisBackend, options: ImportOptions, onProgress: (progress: ImportResult) => void) {
    this.#redis = commands;
    this.#store = store;
    this.#options = options;
    this.#onProgress = onProgress;
  }

  get result(): ImportResult {
    return { ...this.#result, inTheWay: this.#inTheWay };
  }

  /** @throws {ArchiveError} at the first thing that is wrong; what stood before it is imported and stays */
  async import(archive: AsyncIterable<Uint8Array>): Promise<ImportResult> {
    let staged: Staged | null = null;
    let complete = false;
    let number = 0;
    try {
      for await (const text of linesOf(archive)) {
        const line = parseArchiveLine(text, ++number);
        const misplaced = () => new ArchiveError(`Line ${number} of the archive is out of place.`);
        if ((line.kind === "row" || line.kind === "void" || line.kind === "end") !== (staged !== null)) {
          throw misplaced();
        }
        complete = line.kind === "done";
        if (line.kind === "session") staged = this.#begin(line.session, number);
        if (staged === null) continue;
        if (line.kind === "row") await this.#add(staged, line.row);
        if (line.kind === "void") await this.#discard(staged);
        if (line.kind === "end") {
          if (staged.digest.rows !== line.rows || staged.digest.hex() !== line.digest) {
            throw new ArchiveError(`The session that ends in line ${number} is not as it was archived.`);
          }
          await this.#place(staged, line.digest);
        }
        if (line.kind === "void" || line.kind === "end") staged = null;
      }
    } catch (error) {
      if (staged !== null) await this.#discard(staged).catch(() => undefined);
      throw error;
    }
    if (staged !== null) await this.#discard(staged);
    if (!complete) throw new ArchiveError("The archive ends in the middle: it was not written to its end.");
    return this.result;
  }

  #begin(session: ArchivedSession, number: number): Staged {
    const historyKey = this.#store.historyKey(session.sessionId);
    const problem = session.sessionId === "" ? "is empty" : historyKeyProblem(historyKey);
    if (problem !== null) throw new ArchiveError(`The session id in line ${number} of the archive ${problem}.`);
    const nobody = this.#options.owner === null ? subjectProblem(session.owner) : null;
    if (nobody !== null) throw new ArchiveError(`The owner in line ${number} of the archive ${nobody}.`);
    const staging = sessionKeys(historyKey).staging(randomUUID());
    return { session, historyKey, staging, digest: new RowsDigest(), waiting: [], bytes: 0 };
  }

  async #add(staged: Staged, row: Buffer): Promise<void> {
    staged.digest.add(row);
    staged.waiting.push(row);
    staged.bytes += row.byteLength;
    if (staged.waiting.length >= chunkRows || staged.bytes >= chunkBytes) await this.#flush(staged);
  }

  async #flush(staged: Staged): Promise<void> {
    const rows = staged.waiting;
    if (rows.length === 0) return;
    staged.waiting = [];
    staged.bytes = 0;
    const length = await guarded(this.#redis.lpush(staged.staging, ...rows));
    // A push whose answer was lost is sent again, and its rows are there twice.
    if (length !== staged.digest.rows)
      throw new Error("A copy has become longer than what it is a copy of. Try again.");
    await guarded(this.#redis.expire(staged.staging, stagingSeconds));
    this.#result.rows += rows.length;
    this.#onProgress(this.result);
  }

  async #place(staged: Staged, digest: string): Promise<void> {
    const { session, staging } = staged;
    const { ttl } = session.record;
    const ownLife = ttl === undefined ? session.expiresAt : null;
    if (ownLife !== null && ownLife <= Date.now()) {
      this.#result.expired++;
      await this.#discard(staged);
      return;
    }
    await this.#flush(staged);
    const owner = this.#options.owner ?? session.owner;
    const { replace } = this.#options;
    const outcome = await this.#store.restore(owner, session, {
      staging,
      rows: staged.digest.rows,
      digest,
      replace,
      livesUntil: ownLife,
      sameAt: replace ? await this.#sameAt(owner, staged) : null,
    });
    this.#result[outcome]++;
    if (outcome === "refused" && this.#inTheWay.length < 100) this.#inTheWay.push(session.sessionId);
    if (outcome !== "restored") await this.#discard(staged);
    this.#onProgress(this.result);
  }

  /** The count of writes at which the session that is there has exactly the staged rows, in their places; null: it has not. */
  async #sameAt(owner: string, { session, historyKey, staging, digest }: Staged): Promise<number | null> {
    const there = (await this.#store.read(owner, session.sessionId, { pages: [] }))?.session;
    if (there?.base !== session.base || there.messageCount !== digest.rows) return null;
    for (let from = 0; from < digest.rows; from += chunkRows) {
      const rowsOf = (key: string) => guarded(this.#redis.lrangeBuffer(key, from, from + chunkRows - 1));
      const [staged, kept] = await Promise.all([rowsOf(staging), rowsOf(historyKey)]);
      if (staged.length !== kept.length || staged.some((row, i) => kept[i]?.equals(row) !== true)) return null;
    }
    return there.sequence;
  }

  async #discard({ staging }: Staged): Promise<void> {
    await guarded(this.#redis.del(staging));
  }
}

/** Split at line feeds alone: a row may hold the other characters that end a line elsewhere (U+2028). Empty lines are left out. */
export async function* linesOf(chunks: AsyncIterable<Uint8Array>): AsyncGenerator<string> {
  let parts: Uint8Array[] = [];
  for await (const chunk of chunks) {
    let from = 0;
    for (let at = chunk.indexOf(10); at >= 0; at = chunk.indexOf(10, from)) {
      parts.push(chunk.subarray(from, at));
      const line = Buffer.concat(parts).toString("utf8");
      if (line.trim() !== "") yield line;
      parts = [];
      from = at + 1;
    }
    parts.push(chunk.subarray(from));
  }
  const last = Buffer.concat(parts).toString("utf8");
  if (last.trim() !== "") yield last;
}
