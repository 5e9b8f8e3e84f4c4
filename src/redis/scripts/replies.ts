import { ExpiredCursor, unknownMessage } from "../../conversation/message/cursor.ts";
import { PageTooLarge, type ParleyError } from "../../conversation/errors.ts";
import { markOf } from "../../conversation/message/ids.ts";
import { parseJson } from "../../conversation/message/json.ts";
import type { MessagePage, MemorySettings, MemoryStrategy, Session } from "../../conversation/session.ts";
import type { Row, TokenUsage } from "../../conversation/message/message.ts";
import { runErrorCodes, runStatuses, type Run, type RunError, type RunErrorCode } from "../../conversation/run.ts";
import { joinFragments } from "../../conversation/message/stored-message.ts";
import { isObject } from "../../conversation/message/json.ts";
import type { Found, RunState } from "../../conversation/ports/store.ts";
import type { Reply } from "./scripts.ts";

/** Reading what the scripts answer. The scripts are ours, so a wrong shape is a bug and throws. */

export function text(reply: Reply | undefined): string {
  if (typeof reply === "string") return reply;
  if (typeof reply === "number") return String(reply);
  throw new TypeError(`Expected text from a script, got ${JSON.stringify(reply)}`);
}

export function number(reply: Reply | undefined): number {
  return Number(text(reply));
}

export function list(reply: Reply | undefined): readonly Reply[] {
  if (Array.isArray(reply)) return reply as readonly Reply[]; // Array.isArray gives any[] for a readonly union
  throw new TypeError(`Expected a list from a script, got ${JSON.stringify(reply)}`);
}

/** What every writing script says of the session it leaves behind. Times are Redis' own, in ms. */
export interface Head {
  readonly now: number;
  readonly added: boolean;
  readonly updated: number;
  /** When somebody should look after the session's runs; 0: nothing to look after. */
  readonly due: number;
  readonly expires: number;
  /** Runs wait and none is going. */
  readonly free: boolean;
  readonly nextOwner: string | null;
  readonly generation: number;
  /** Position of the oldest row. */
  readonly base: number;
  /** Whether the script has written the index too (SessionIndex): "", or what went wrong there; null: it has not. */
  readonly indexed: string | null;
}

function numberIn(object: Readonly<Record<string, unknown>>, key: string): number {
  const value = object[key];
  return typeof value === "number" ? value : 0;
}

function stringIn(object: Readonly<Record<string, unknown>>, key: string): string | null {
  const value = object[key];
  return typeof value === "string" ? value : null;
}

function objectOf(json: string): Readonly<Record<string, unknown>> {
  const value = parseJson(json);
  if (!isObject(value)) throw new TypeError(`Expected a JSON object from a script, got ${json.slice(0, 80)}`);
  return value;
}

export function headOf(reply: Reply | undefined): Head {
  const head = objectOf(text(reply));
  return {
    now: numberIn(head, "now"),
    added: numberIn(head, "added") === 1,
    updated: numberIn(head, "updated"),
    due: numberIn(head, "due"),
    expires: numberIn(head, "expires"),
    free: numberIn(head, "free") === 1,
    nextOwner: stringIn(head, "nextOwner"),
    generation: numberIn(head, "gen"),
    base: numberIn(head, "base"),
    indexed: stringIn(head, "indexed"),
  };
}

/** A run as the scripts keep it. */
export interface RunRecord extends RunState {
  readonly inputLocalId: string | null;
  readonly replyLocalId: string;
  readonly queuedAt: number;
  readonly startedAt: number | null;
  readonly finishedAt: number | null;
  readonly token: number;
  readonly process: string;
  readonly regenerates: boolean;
  readonly userPosition: number | null;
  readonly userMark: string;
  readonly replyMark: string;
  readonly error: Run["error"];
  readonly usage: TokenUsage | null;
  readonly notes: readonly string[];
}

export function stateOf(json: string): RunRecord {
  const state = objectOf(json);
  const status = runStatuses.find((one) => one === state["st"]) ?? "FAILED";
  const time = (key: string) => (typeof state[key] === "number" ? state[key] : null);
  const code: RunErrorCode = runErrorCodes.find((one) => one === state["code"]) ?? "OTHER";
  return {
    runId: stringIn(state, "id") ?? "",
    status,
    model: stringIn(state, "model") ?? "",
    inputLocalId: stringIn(state, "ul"),
    replyLocalId: stringIn(state, "rl") ?? "",
    replyHint: numberIn(state, "hint"),
    replyMessageId: stringIn(state, "rid") ?? "",
    origin: stringIn(state, "tp"),
    replyPosition: time("rp"),
    queuedAt: numberIn(state, "q"),
    startedAt: time("s"),
    finishedAt: time("f"),
    token: numberIn(state, "tok"),
    process: stringIn(state, "own") ?? "",
    regenerates: state["re"] !== undefined,
    userPosition: time("up"),
    userMark: stringIn(state, "um") ?? "",
    replyMark: stringIn(state, "rm") ?? "",
    error: status === "FAILED" ? errorOf(state, code) : null,
    usage: usageOf(state["iu"], state["ou"], state["tu"]),
    notes: stringIn(state, "no")?.split("\n") ?? [],
  };
}

function errorOf(state: Readonly<Record<string, unknown>>, code: RunErrorCode): RunError {
  const after = state["ra"];
  return {
    code,
    message: stringIn(state, "msg") ?? "",
    retryable: state["rt"] === 1,
    ...(typeof after === "number" ? { retryAfterSeconds: after } : {}),
  };
}

function usageOf(input: unknown, output: unknown, total: unknown): TokenUsage | null {
  if (typeof input !== "number" || typeof output !== "number" || typeof total !== "number") return null;
  return { inputTokens: input, outputTokens: output, totalTokens: total };
}

export interface RunParts {
  readonly input: string;
  readonly text: string;
  readonly log: string;
  /** Raw rows, "" where they are not (or no longer) where the run says. */
  readonly userRow: string;
  readonly replyRow: string;
}

/** `parts.state`: as it is stored, and `parts.text` as escaped fragments. */
export function runOf(
  sessionId: string,
  historyKey: string,
  generation: number,
  parts: RunParts & { readonly state: string },
): Run {
  const read = { ...parts, text: joinFragments(parts.text) };
  return runIn(sessionId, historyKey, generation, stateOf(parts.state), read);
}

export function runIn(
  sessionId: string,
  historyKey: string,
  generation: number,
  state: RunRecord,
  parts: RunParts,
): Run {
  const placed = (raw: string, position: number | null, mark: string): Row | null =>
    raw === "" || position === null ? null : { position, mark, raw };
  return {
    runId: state.runId,
    sessionId,
    historyKey,
    generation,
    status: state.status,
    model: state.model,
    queuedAt: state.queuedAt,
    startedAt: state.startedAt,
    finishedAt: state.finishedAt,
    // A waiting message has a hole for its position, written as a tab.
    inputRow: state.regenerates || parts.input === "" ? null : parts.input.replace("\t", "0"),
    userRow: state.status === "QUEUED" ? null : placed(parts.userRow, state.userPosition, state.userMark),
    inputLocalId: state.inputLocalId,
    replyLocalId: state.replyLocalId,
    replyRow: placed(parts.replyRow, state.replyPosition, state.replyMark),
    text: parts.text,
    log: parts.log,
    error: state.error,
    usage: state.usage,
    notes: state.notes,
  };
}

export function runView(
  sessionId: string,
  historyKey: string,
  generation: number,
  reply: Reply | undefined,
): Run | null {
  const [state, input, partial, userRow, replyRow, log] = list(reply);
  if (state === undefined) return null;
  const parts = {
    state: text(state),
    input: text(input),
    text: text(partial),
    userRow: text(userRow),
    replyRow: text(replyRow),
    log: text(log),
  };
  return runOf(sessionId, historyKey, generation, parts);
}

/** A list of texts that a script may have packed into one (view.lua). */
function unpacked(reply: Reply | undefined): readonly string[] {
  return typeof reply === "string" ? reply.split("\0") : list(reply).map(text);
}

/** Rows as LRANGE gives them, newest first, the oldest of them at `low`; here oldest first. */
export function rowsOf(low: number, newestFirst: Reply | undefined): readonly Row[] {
  return unpacked(newestFirst)
    .toReversed()
    .map((raw, i) => new ReadRow(low + i, raw));
}

/** A row whose mark is worked out when it is asked for: most of a page's never are. */
class ReadRow implements Row {
  readonly position: number;
  readonly raw: string;
  #mark: string | null = null;

  constructor(position: number, raw: string) {
    this.position = position;
    this.raw = raw;
  }

  get mark(): string {
    return (this.#mark ??= markOf(this.raw));
  }
}

/** Why view.lua has no page: a place of it does not hold. */
function expiredOf(reply: Reply): ParleyError | null {
  const [code, kept, mark] = list(reply);
  if (code === "UNKNOWN") return unknownMessage();
  if (code === "LOST") return new ExpiredCursor(null, true);
  if (code !== "EXPIRED") return null;
  return new ExpiredCursor(kept === undefined ? null : { position: number(kept), mark: text(mark) });
}

export function pageOf(reply: Reply): MessagePage | ParleyError {
  const expired = expiredOf(reply);
  if (expired) return expired;
  const [code, low, previous, next, rows, mark] = list(reply);
  if (code === "LARGE") return new PageTooLarge(number(low));
  const after = mark === undefined ? null : { position: number(low) - 1, mark: text(mark) };
  return { rows: rowsOf(number(low), rows), hasPreviousPage: previous === 1, hasNextPage: next === 1, after };
}

/** The one row of view.lua's kind of page "at". */
export function foundOf(reply: Reply): Found | ParleyError {
  const expired = expiredOf(reply);
  if (expired) return expired;
  const [, position, , , rows, mark] = list(reply);
  const [row = null] = rowsOf(number(position), rows);
  return { position: number(position), mark: text(mark), row };
}

const strategies: readonly MemoryStrategy[] = ["BUFFER", "WINDOW", "TOKEN_BUFFER", "SUMMARY_BUFFER"];

/** "STRATEGY:turns:tokens", as scripts pass it on. */
export function memoryOf(packed: string): MemorySettings {
  const [name, turns, tokens] = packed.split(":");
  const strategy = strategies.find((one) => one === name) ?? "BUFFER";
  return { strategy, maxTurns: turns ? Number(turns) : null, maxTokens: tokens ? Number(tokens) : null };
}

export function packMemory(memory: MemorySettings): string {
  return `${memory.strategy}:${memory.maxTurns ?? ""}:${memory.maxTokens ?? ""}`;
}

/** The answer of view.lua, without its code. */
export function sessionOf(sessionId: string, historyKey: string, reply: readonly Reply[]): Session {
  const [flat, n, tipMark, expires, , , active, last, queue, pages] = reply;
  const pairs = unpacked(flat);
  const record: Record<string, string> = Object.create(null) as Record<string, string>; // no prototype: field names are data
  for (let i = 0; i < pairs.length; i += 2) record[pairs[i] ?? ""] = pairs[i + 1] ?? "";
  const field = (name: string) => record[name] ?? null;
  const count = (name: string) => Number(record[name] ?? 0);
  const generation = count("gen");
  const base = count("base");
  const messageCount = number(n);
  const metadata = parseJson(record["metadata"] ?? "{}");
  const ttl = field("ttl");
  const memory = field("mem");
  return {
    sessionId,
    historyKey,
    owner: record["owner"] ?? "",
    title: field("title"),
    instructions: field("instructions"),
    model: field("model"),
    memory: memory === null ? null : memoryOf(`${memory}:${record["memTurns"] ?? ""}:${record["memTokens"] ?? ""}`),
    summary: field("sumText"),
    metadata: isObject(metadata) ? metadata : {},
    archived: field("archived") === "1",
    createdAt: field("created") === null ? null : count("created"),
    updatedAt: count("updated"),
    ttlSeconds: ttl === null ? null : Number(ttl),
    expiresAt: number(expires) > 0 ? number(expires) : null,
    generation,
    base,
    end: base + messageCount,
    tipMark: text(tipMark),
    messageCount,
    readCount: count("read"),
    usage: { inputTokens: count("iu"), outputTokens: count("ou"), totalTokens: count("tu") },
    activeRun: runView(sessionId, historyKey, generation, active),
    lastRun: runView(sessionId, historyKey, generation, last),
    queuedRuns: list(queue).flatMap((one) => runView(sessionId, historyKey, generation, one) ?? []),
    forkedFrom: field("fork"),
    pages: list(pages).map(pageOf),
    sequence: count("seq"),
  };
}
