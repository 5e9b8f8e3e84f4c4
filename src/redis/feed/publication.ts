import { isObject, parseJson } from "../../conversation/message/json.ts";
import type { LogBatch } from "../../conversation/ports/store.ts";
import { joinFragments } from "../../conversation/message/stored-message.ts";

/**
 * What a script publishes on a session's channel (scripts/lib/commit.lua and scripts/turn/progress.lua): either a batch of text,
 * and of lines for the run's part log where there are some,
 *     P<run id> TAB <offset> TAB <escaped text> [TAB <length of the log before it> TAB <lines>]
 * or one write, a header and a line for each thing that happened, in the order that readers are told:
 *     {"stamp":…,"v":1,"seq":…,"gen":…,"base":…,"at":…,"prev":…,"tip":…,"pushes":…}
 *     R<run state> TAB <input row> TAB <escaped text> [TAB <part log, a TAB behind each line>]
 *     M<stored message>
 */
export type Publication = Batch | Write;

export interface Batch {
  readonly kind: "batch";
  readonly runId: string;
  /** UTF-16 units. */
  readonly offset: number;
  readonly text: string;
  readonly log: LogBatch | null;
}

export interface Write {
  readonly kind: "write";
  readonly sequence: number;
  /** Names it as no other; "": not known. */
  readonly stamp: string;
  readonly generation: number;
  /** The generation before this write, where it began a new one. */
  readonly from: number | null;
  readonly base: number;
  /** Position of the first message in `lines`; the mark of the row before it. */
  readonly at: number;
  readonly previousMark: string;
  /** The mark of the last message in `lines`; "": not known. */
  readonly tipMark: string;
  /** How many keyspace events of the list this write explains. */
  readonly pushes: number;
  /** Rows from this position on are gone. */
  readonly reset: number | null;
  readonly updated: boolean;
  readonly readCount: number;
  /** The session begins with it. */
  readonly added: boolean;
  readonly removed: boolean;
  /** The lines do not tell all: read. */
  readonly more: boolean;
  readonly lines: readonly Line[];
}

export type Line =
  | { readonly kind: "message"; readonly raw: string }
  | {
      readonly kind: "run";
      readonly state: string;
      readonly input: string;
      readonly text: string;
      readonly log: string;
    };

/** Whether it is a batch of text, for who only wants to pass those by. */
export function isBatch(message: string): boolean {
  return message.startsWith("P");
}

/** null: of a later version, or nothing that we know; then only reading helps. */
export function parsePublication(message: string): Publication | null {
  if (isBatch(message)) {
    const [runId = "", offset = "", text = "", logOffset, lines = ""] = message.slice(1).split("\t");
    if (!/^\d+$/.test(offset)) return null;
    const log = logOffset === undefined ? null : { offset: Number(logOffset), lines };
    return { kind: "batch", runId, offset: Number(offset), text: joinFragments(text), log };
  }
  const headerEnd = endOfLine(message, 0);
  const header = parseJson(message.slice(0, headerEnd));
  if (!isObject(header) || header["v"] !== 1) return null;
  const lines: Line[] = [];
  for (let start = headerEnd + 1; start <= message.length;) {
    const end = endOfLine(message, start);
    const line = message.slice(start + 1, end);
    if (message[start] === "M") {
      lines.push({ kind: "message", raw: line });
    } else if (message[start] === "R") {
      const [state = "", input = "", text = "", ...log] = line.split("\t");
      lines.push({ kind: "run", state, input, text, log: log.join("\n") });
    } else {
      return null;
    }
    start = end + 1;
  }
  return {
    kind: "write",
    sequence: numberOf(header["seq"]) ?? 0,
    stamp: textOf(header["stamp"]),
    generation: numberOf(header["gen"]) ?? 0,
    from: numberOf(header["from"]),
    base: numberOf(header["base"]) ?? 0,
    at: numberOf(header["at"]) ?? 0,
    previousMark: textOf(header["prev"]),
    tipMark: textOf(header["tip"]),
    pushes: numberOf(header["pushes"]) ?? 0,
    reset: numberOf(header["reset"]),
    updated: header["upd"] === 1,
    readCount: numberOf(header["read"]) ?? 0,
    added: header["add"] === 1,
    removed: header["gone"] === 1,
    more: header["more"] === 1,
    lines,
  };
}

function endOfLine(message: string, start: number): number {
  const end = message.indexOf("\n", start);
  return end < 0 ? message.length : end;
}

function numberOf(value: unknown): number | null {
  return typeof value === "number" ? value : null;
}

function textOf(value: unknown): string {
  return typeof value === "string" ? value : "";
}
