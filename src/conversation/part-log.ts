import { arrayOrEmpty, isObject, objectOrEmpty, parseJson, type JsonObject } from "./message/json.ts";

/**
 * WRITING: the model writes its arguments. NEEDS_APPROVAL: it is not to begin before somebody has decided on it, and on all
 * others of its step. NEEDS_RESULT: a page is to carry it out. RUNNING has begun. Of a run that has ended, UNKNOWN had begun and its result was lost, CANCELLED had not.
 */
const toolStatuses = [
  "WRITING",
  "NEEDS_APPROVAL",
  "NEEDS_RESULT",
  "RUNNING",
  "DONE",
  "FAILED",
  "REJECTED",
  "CANCELLED",
  "UNKNOWN",
] as const;
type ToolStatus = (typeof toolStatuses)[number];

/** What may be decided on a call that waits for an approval. */
export const approvalKinds = ["APPROVE", "EDIT", "REJECT"] as const;
/** BEGIN, RESULT: of a call that a page carries out. */
const decisionKinds = ["BEGIN", ...approvalKinds, "RESULT"] as const;
export type DecisionKind = (typeof decisionKinds)[number];

/** What becomes of a call of a tool. */
export interface ToolChange {
  readonly status: ToolStatus;
  /** Milliseconds since the epoch. */
  readonly startedAt?: number;
  readonly finishedAt?: number;
  /** What the tool answered, as LangChain stores a message's content; left out: nothing yet, or too much for the log. */
  readonly content?: unknown;
  /** Of `content` there is less than the tool answered, or nothing. */
  readonly isCut?: true;
  /** What may be decided on it now. */
  readonly allowed?: readonly DecisionKind[];
  readonly decided?: DecisionKind;
  /** The arguments that it is called with, where they are others than the model wrote, or the log has not all of these; null: it has not. */
  readonly args?: JsonObject | null;
}

export interface ToolPart extends ToolChange {
  readonly kind: "tool";
  readonly messageLocalId: string;
  /** The only one of its run. */
  readonly callId: string;
  readonly name: string;
  /** The arguments as the model wrote them: JSON, once they are whole. */
  readonly argsText: string;
  /** How often it has changed. */
  readonly revision: number;
}

/** A part of what a run makes. Its place among the run's parts never changes. */
export type RunPart =
  /** `start`: where in the message's text it begins, in UTF-16 units. */
  | { readonly kind: "text"; readonly messageLocalId: string; readonly start: number; readonly text: string }
  | { readonly kind: "reasoning"; readonly messageLocalId: string; readonly text: string }
  | ToolPart
  /** What a tool tells while it works. */
  | {
      readonly kind: "data";
      readonly messageLocalId: string;
      readonly callId: string;
      readonly name: string;
      readonly data: unknown;
    };

/**
 * A run's part log holds what the text of its newest message does not: a line for each piece, in order. `at` is how long
 * the message's text was before it, index a part's place among all, and lengths are in UTF-16 units.
 *     ["r", index, offset in the part, at, "piece of reasoning"]
 *     ["c", index, 0, at, call id, tool]                          a call of a tool begins
 *     ["a", index, offset in the part, at, "piece of its arguments"]
 *     ["s", index, revision, at, { status, … }]                   what becomes of the call
 *     ["d", index, 0, at, call id, name, data]
 *     ["t", 0, 0, at, "text"]                                     the message has ended; all of its text
 *     ["m", index of the next part, 0, 0, local id]               another message begins
 * Together with the text it gives the parts: text between two other parts is a part of its own. The log only grows, so a
 * reader's place in it is a length. The log of a ConversationChain has reasoning alone.
 */
export type LogRecord = {
  readonly index: number;
  readonly offset: number;
  readonly at: number;
  /** Where in the log the next line begins. */
  readonly next: number;
} & (
  | { readonly kind: "reasoning" | "arguments" | "ended"; readonly text: string }
  | { readonly kind: "call"; readonly callId: string; readonly name: string }
  | { readonly kind: "change"; readonly change: ToolChange }
  | { readonly kind: "data"; readonly callId: string; readonly name: string; readonly data: unknown }
  | { readonly kind: "message"; readonly localId: string }
);

const texts = new Map<unknown, "reasoning" | "arguments" | "ended">([
  ["r", "reasoning"],
  ["a", "arguments"],
  ["t", "ended"],
]);

/** The first record at or behind `from`; null: there is none. Lines of a later version are passed over. */
export function recordAt(log: string, from: number): LogRecord | null {
  for (let at = from; at < log.length;) {
    const end = log.indexOf("\n", at);
    const next = end < 0 ? log.length : end + 1;
    const record = recordOf(parseJson(log.slice(at, next)), next);
    if (record !== null) return record;
    at = next;
  }
  return null;
}

function recordOf(line: unknown, next: number): LogRecord | null {
  if (!Array.isArray(line)) return null;
  const [kind, index, offset, position, first, second, third] = line as readonly unknown[]; // Array.isArray gives any[]
  const where = { index: Number(index), offset: Number(offset), at: Number(position), next };
  const text = texts.get(kind);
  if (text !== undefined) return { ...where, kind: text, text: String(first) };
  switch (kind) {
    case "c":
      return { ...where, kind: "call", callId: String(first), name: String(second) };
    case "s":
      return { ...where, kind: "change", change: changeOf(first) };
    case "d":
      return { ...where, kind: "data", callId: String(first), name: String(second), data: third };
    case "m":
      return { ...where, kind: "message", localId: String(first) };
    default:
      return null;
  }
}

function changeOf(value: unknown): ToolChange {
  const { status, startedAt, finishedAt, content, isCut, allowed, decided, args } = objectOrEmpty(value);
  const decision = decisionKinds.find((one) => one === decided);
  return {
    // A later version may have more of them.
    status: toolStatuses.find((one) => one === status) ?? "UNKNOWN",
    ...(typeof startedAt === "number" ? { startedAt } : {}),
    ...(typeof finishedAt === "number" ? { finishedAt } : {}),
    ...(content === undefined ? {} : { content }),
    ...(isCut === true ? { isCut } : {}),
    ...(allowed === undefined ? {} : { allowed: decisionKinds.filter((one) => arrayOrEmpty(allowed).includes(one)) }),
    ...(decision === undefined ? {} : { decided: decision }),
    ...(isObject(args) || args === null ? { args } : {}),
  };
}

/** Where the first line of this kind begins at or behind `from`, where a line begins; -1: nowhere. A line holds no line end. */
function lineOf(kind: string, log: string, from: number): number {
  if (from >= log.length) return -1;
  const start = `["${kind}",`;
  if (log.startsWith(start, from)) return from;
  const end = log.indexOf(`\n${start}`, from);
  return end < 0 ? -1 : end + 1;
}

/** Whether a message ends at or behind `from`. */
export function hasEnd(log: string, from: number): boolean {
  return lineOf("t", log, from) >= 0;
}

/** The text of the message that is being made at this place of the log. `newest`: that of the message at the log's end. */
export function textAt(log: string, from: number, newest: string): string {
  const line = lineOf("t", log, from);
  const record = line < 0 ? null : recordAt(log, line);
  return record?.kind === "ended" ? record.text : newest;
}

const introduces = /^\["[rcdm]",/;

/** The index of the text part that goes on behind the log's first `length` units. */
export function textIndexAt(log: string, length: number): number {
  for (let end = length; end > 0;) {
    const start = end < 2 ? 0 : log.lastIndexOf("\n", end - 2) + 1;
    if (introduces.test(log.slice(start, start + 5))) {
      const record = recordAt(log, start);
      if (record !== null) return record.kind === "message" ? record.index : record.index + 1;
    }
    end = start;
  }
  return 0;
}

/** The local part of the Message.id of the message that is being made at this place; null: of the run's first, which the log does not name. */
export function messageAt(log: string, place: number): string | null {
  const line = log.lastIndexOf('\n["m",', place) + 1;
  const record = line === 0 && !log.startsWith('["m",') ? null : recordAt(log, line);
  return record?.kind === "message" ? record.localId : null;
}

/** A call of a tool as the log has it up to `end`. null: there is none of this index. */
export function toolPartAt(log: string, index: number, end: number, firstLocalId: string): ToolPart | null {
  let part: ToolPart | null = null;
  for (let at = 0; at < end;) {
    const next = log.indexOf("\n", at) + 1;
    if (next === 0) break;
    // Only the lines of this part are read.
    const isOwn = ["c", "a", "s"].some((kind) => log.startsWith(`["${kind}",${index},`, at));
    const record = isOwn ? recordAt(log, at) : null;
    if (record?.kind === "call") part = newToolPart(record, messageAt(log, at) ?? firstLocalId);
    else if (record !== null && part !== null) part = changed(part, record);
    at = next;
  }
  return part;
}

function newToolPart({ callId, name }: LogRecord & { readonly kind: "call" }, messageLocalId: string): ToolPart {
  return { kind: "tool", messageLocalId, callId, name, argsText: "", revision: 0, status: "WRITING" };
}

function changed(part: ToolPart, record: LogRecord): ToolPart {
  if (record.kind === "arguments") return { ...part, argsText: part.argsText + record.text };
  return record.kind === "change" ? { ...part, ...record.change, revision: record.offset } : part;
}

/** All parts, the one with index 0 first. `text`, `localId`: of the newest message. `isOver`: nothing of it is going on any more. */
export function partsOf(log: string, text: string, localId: string, isOver = false): readonly RunPart[] {
  const parts: RunPart[] = [];
  let messageLocalId = log.startsWith('["m",') ? "" : localId;
  let whole = textAt(log, 0, text);
  let start = 0;
  const addText = (end: number): void => {
    if (end > start) parts.push({ kind: "text", messageLocalId, start, text: whole.slice(start, end) });
    start = end;
  };
  for (let record = recordAt(log, 0); record !== null; record = recordAt(log, record.next)) {
    const { index } = record;
    const part = parts[index];
    switch (record.kind) {
      case "message":
        messageLocalId = record.localId;
        break;
      case "ended":
        addText(whole.length);
        start = 0;
        whole = textAt(log, record.next, text);
        break;
      case "reasoning":
        if (record.offset === 0) {
          addText(record.at);
          parts.push({ kind: "reasoning", messageLocalId, text: record.text });
        } else if (part?.kind === "reasoning") parts[index] = { ...part, text: part.text + record.text };
        break;
      case "call":
        addText(record.at);
        parts.push(newToolPart(record, messageLocalId));
        break;
      case "arguments":
      case "change":
        if (part?.kind === "tool") parts[index] = changed(part, record);
        break;
      case "data": {
        addText(record.at);
        const { callId, name, data } = record;
        parts.push({ kind: "data", messageLocalId, callId, name, data });
        break;
      }
    }
  }
  addText(whole.length);
  return isOver ? parts.map(over) : parts;
}

/** Nobody tells a run that was closed from outside what became of its calls. */
function over(part: RunPart): RunPart {
  if (part.kind !== "tool") return part;
  const asked = part.allowed === undefined ? {} : { allowed: [] };
  if (part.status === "RUNNING") return { ...part, ...asked, status: "UNKNOWN" };
  return unbegun.has(part.status) ? { ...part, ...asked, status: "CANCELLED" } : part;
}

const unbegun: ReadonlySet<ToolStatus> = new Set(["WRITING", "NEEDS_APPROVAL", "NEEDS_RESULT"]);

/** Whether somebody may decide on the call now. */
export function isUndecided(part: RunPart): part is ToolPart {
  return part.kind === "tool" && (part.allowed ?? []).length > 0;
}

/** The arguments of a call; null where they are not (or not yet) a JSON object. */
export function argsOf(argsText: string): Readonly<Record<string, unknown>> | null {
  if (argsText.trim() === "") return {};
  const args = parseJson(argsText);
  return isObject(args) ? args : null;
}

/** Where a text ends that is not to end inside a surrogate pair. */
export function wholeEnd(text: string): number {
  const last = text.charCodeAt(text.length - 1);
  return last >= 0xd800 && last <= 0xdbff ? text.length - 1 : text.length;
}
