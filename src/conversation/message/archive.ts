import { isUtf8 } from "node:buffer";
import { createHash, type Hash } from "node:crypto";
import { isObject, parseJson } from "./json.ts";

/**
 * An archive of sessions, as NDJSON. Each session is written in one piece, its rows oldest first, each character for
 * character as it lies in Redis (as base64 where it is no UTF-8):
 *
 *     {"parley":"archive","version":1}
 *     {"session":{"sessionId":…,"owner":…,"generation":…,"base":…,"expiresAt":…,"record":{…}}}
 *     {"row":"{\"type\":\"human\",…}"}        or {"bytes":"…"}
 *     {"end":{"rows":…,"digest":…}}           or {"void":true}: it changed meanwhile, and follows again if it is still there
 *     {"done":{"sessions":…}}
 *
 * Archives may stand behind one another in one file.
 */
export interface ArchivedSession {
  readonly sessionId: string;
  readonly owner: string;
  readonly generation: number;
  /** Position of the first row. */
  readonly base: number;
  /** Milliseconds since the epoch; null: it does not expire by itself. */
  readonly expiresAt: number | null;
  /** The session record's own fields, as Redis has them. */
  readonly record: Readonly<Record<string, string>>;
}

type ArchiveLine =
  | { readonly kind: "archive" }
  | { readonly kind: "session"; readonly session: ArchivedSession }
  | { readonly kind: "row"; readonly row: Buffer }
  | { readonly kind: "void" }
  | { readonly kind: "end"; readonly rows: number; readonly digest: string }
  | { readonly kind: "done" };

/** What is wrong with an archive, and in which line. */
export class ArchiveError extends Error {
  override readonly name = "ArchiveError";
}

const text = /^[^]*$/;
const whole = /^\d{1,15}$/;

/** The fields that an archive carries. The others are the gateway's own state of the moment: lease, runs, recorded marks. */
const recordFields: Readonly<Record<string, RegExp>> = {
  title: text,
  instructions: text,
  model: text,
  mem: /^(BUFFER|WINDOW|TOKEN_BUFFER|SUMMARY_BUFFER)$/,
  memTurns: /^\d{0,15}$/,
  memTokens: /^\d{0,15}$/,
  metadata: text,
  archived: /^[01]$/,
  created: whole,
  updated: whole,
  ttl: /^[1-9]\d{0,11}$/,
  read: whole,
  iu: whole,
  ou: whole,
  tu: whole,
  fork: text,
  era: whole,
  cuts: /^\d{1,15}:\d{1,15}(,\d{1,15}:\d{1,15}){0,31}$/,
  sumText: text,
  sumPos: whole,
  sumMark: /^[0-9a-f]{16}$/,
};

export function archivedFields(record: Readonly<Record<string, string>>): Readonly<Record<string, string>> {
  return Object.fromEntries(Object.entries(record).filter(([name, value]) => recordFields[name]?.test(value) ?? false));
}

const lineOf = (value: object) => `${JSON.stringify(value)}\n`;

export const archiveHead = lineOf({ parley: "archive", version: 1 });
export const voidLine = lineOf({ void: true });
export const sessionLine = (session: ArchivedSession) => lineOf({ session });
export const rowLine = (row: Buffer) =>
  lineOf(isUtf8(row) ? { row: row.toString("utf8") } : { bytes: row.toString("base64") });
export const endLine = (rows: number, digest: string) => lineOf({ end: { rows, digest } });
export const doneLine = (sessions: number) => lineOf({ done: { sessions } });

/** Over all rows, each with its length in front. */
export class RowsDigest {
  readonly #hash: Hash = createHash("sha256");
  rows = 0;

  add(row: Buffer): void {
    this.rows++;
    this.#hash.update(`${row.byteLength}:`).update(row);
  }

  /** Ends it. */
  hex(): string {
    return this.#hash.digest("hex");
  }
}

/** @throws {ArchiveError} where it is no line of an archive of this version */
export function parseArchiveLine(line: string, number: number): ArchiveLine {
  const wrong = (what: string) => new ArchiveError(`Line ${number} of the archive ${what}.`);
  const value = parseJson(line);
  if (!isObject(value)) throw wrong("is no JSON object");
  const { row, bytes, session, end } = value;
  if (typeof row === "string") return { kind: "row", row: Buffer.from(row, "utf8") };
  if (typeof bytes === "string") return { kind: "row", row: Buffer.from(bytes, "base64") };
  if (value["void"] === true) return { kind: "void" };
  if (isObject(value["done"])) return { kind: "done" };
  if (isObject(end)) {
    const { rows, digest } = end;
    if (typeof rows === "number" && typeof digest === "string") return { kind: "end", rows, digest };
  }
  if (value["parley"] === "archive") {
    if (value["version"] === 1) return { kind: "archive" };
    throw wrong("says that it was written by a later version of Parley");
  }
  if (isObject(session)) {
    const { sessionId, owner, generation, base, expiresAt, record } = session;
    if (
      typeof sessionId === "string" &&
      typeof owner === "string" &&
      isCount(generation) &&
      isCount(base) &&
      (expiresAt === null || isCount(expiresAt)) &&
      isObject(record)
    ) {
      const fields: Record<string, string> = {};
      for (const [name, field] of Object.entries(record)) {
        const pattern = recordFields[name];
        if (pattern === undefined || typeof field !== "string" || !pattern.test(field))
          throw wrong(`has a field ${JSON.stringify(name.slice(0, 40))} that is unknown or has a wrong value`);
        fields[name] = field;
      }
      return { kind: "session", session: { sessionId, owner, generation, base, expiresAt, record: fields } };
    }
  }
  throw wrong("is nothing that an archive holds");
}

function isCount(value: unknown): value is number {
  return typeof value === "number" && Number.isSafeInteger(value) && value >= 0;
}
