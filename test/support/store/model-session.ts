import type { WhenBusy } from "../../../src/conversation/conversations/api.ts";
import type { RunStatus } from "../../../src/conversation/run.ts";

/** A message by what tells it from every other: its text, or for a row that is no message the row itself. */
export interface ModelRow {
  readonly key: string;
  readonly kind: "human" | "ai" | "garbage";
}

/**
 * A place as a client would hold it: the very row, where it lay, or before the first. Epochs are told apart over all
 * sessions, as generations are within one.
 */
export interface ModelCursor {
  readonly epoch: number;
  readonly position: number;
  readonly row: ModelRow | null;
}

export interface ModelRun {
  readonly id: string;
  readonly text: string;
  readonly regenerates: boolean;
  readonly replaceFrom: ModelCursor | null;
  status: RunStatus;
  error: string | null;
  /** The process that is to make the reply. */
  process: string;
  token: number;
  soFar: string;
  /** Its lease has run out. */
  lapsed: boolean;
  /** Where the reply is to replace what lies there, and what was seen then. */
  cut: number | null;
  seen: number;
}

export interface ModelRecord {
  epoch: number;
  /** Epochs since the history began, was cleared or lost rows. */
  epochs: ReadonlySet<number>;
  read: number;
  title: string | null;
  archived: boolean;
  ttl: number | null;
  expires: boolean;
  token: number;
  active: ModelRun | null;
  last: ModelRun | null;
  usage: number;
  queue: ModelRun[];
  readonly runs: Map<string, ModelRun>;
  /** The list as it was last recorded. */
  recorded: readonly ModelRow[];
}

export interface ModelOp {
  readonly fingerprint: string;
  /** Of messages that were added, where each lies: placeIn(), with commas between. */
  readonly result: string;
}

export interface ModelSession {
  rows: ModelRow[];
  /** Whether the list expires, by whomsoever. */
  expires: boolean;
  record: ModelRecord | null;
  /** Outlives the record. */
  readonly ops: Map<string, ModelOp>;
}

export interface ModelTurn {
  readonly op: { readonly id: string; readonly fingerprint: string };
  readonly runId: string;
  readonly text: string;
  readonly regenerates: boolean;
  readonly replaceFrom: ModelCursor | null;
  readonly whenBusy: WhenBusy;
}

export type ModelCode = "NOT_FOUND" | "CURSOR_EXPIRED" | "SESSION_EXISTS" | "MESSAGE_ID_REUSED";

export function newModelRecord(epoch: number): ModelRecord {
  return {
    epoch,
    epochs: new Set([epoch]),
    read: 0,
    title: null,
    archived: false,
    ttl: null,
    expires: false,
    token: 0,
    active: null,
    last: null,
    usage: 0,
    queue: [],
    runs: new Map(),
    recorded: [],
  };
}

export function newModelRun(turn: ModelTurn, process: string): ModelRun {
  const { runId, text, regenerates, replaceFrom } = turn;
  const open = { status: "QUEUED", error: null, token: 0, soFar: "", lapsed: false, cut: null, seen: 0 } as const;
  return { id: runId, text, regenerates, replaceFrom, process, ...open };
}

export function end(run: ModelRun, status: RunStatus, error: string | null): void {
  run.status = status;
  run.error = error;
}

/** The place of the newest USER message below a position. */
export function humanBelow(rows: readonly ModelRow[], position: number): number | null {
  const found = rows.slice(0, position).findLastIndex((row) => row.kind === "human");
  return found < 0 ? null : found;
}

/** A list that is no history and that nobody has a record of. */
export function isOthers({ record, rows }: ModelSession): boolean {
  return !record && (rows[0]?.kind === "garbage" || rows.at(-1)?.kind === "garbage");
}

/** Whether rows that were recorded are gone. */
export function hasLost({ rows }: ModelSession, { recorded }: ModelRecord): boolean {
  if (recorded.length === 0) return false;
  return (
    rows.length < recorded.length ||
    rows[0]?.key !== recorded[0]?.key ||
    rows[recorded.length - 1]?.key !== recorded.at(-1)?.key
  );
}

export function setRows(session: ModelSession, rows: readonly ModelRow[]): void {
  session.rows = [...rows];
  if (rows.length === 0) session.expires = false;
}

/** Ends an active run whose lease is over. */
export function closeLapsed(record: ModelRecord): boolean {
  if (!record.active?.lapsed) return false;
  end(record.active, "FAILED", "RUN_LOST");
  record.active = null;
  return true;
}

/** Where a row lies, as the result of an op tells it. */
export function placeIn(position: number, row: ModelRow): string {
  return `${position} ${row.key}`;
}

/** The ops of rows that move keep telling where those lie. */
export function moveOps({ ops }: ModelSession, rows: readonly ModelRow[], from: number, to: number): void {
  const moved = new Map(rows.map((row, i) => [placeIn(from + i, row), placeIn(to + i, row)]));
  for (const [id, { fingerprint, result }] of ops) {
    const places = result.split(",").map((place) => moved.get(place) ?? place);
    ops.set(id, { fingerprint, result: places.join(",") });
  }
}
