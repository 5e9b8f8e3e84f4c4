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
  const [first = "", ...rest] = message.split("\n");
  const header = parseJson(first);
  if (!isObject(header) || header["v"] !== 1) return null;
  const number = (name: string) => (typeof header[name] === "number" ? header[name] : null);
  const text = (name: string) => (typeof header[name] === "string" ? header[name] : "");
  const lines: Line[] = [];
  for (const line of rest) {
    if (line.startsWith("M")) {
      lines.push({ kind: "message", raw: line.slice(1) });
    } else if (line.startsWith("R")) {
      const [state = "", input = "", text = "", ...log] = line.slice(1).split("\t");
      lines.push({ kind: "run", state, input, text, log: log.join("\n") });
    } else {
      return null;
    }
  }
  return {
    kind: "write",
    sequence: number("seq") ?? 0,
    stamp: text("stamp"),
    generation: number("gen") ?? 0,
    from: number("from"),
    base: number("base") ?? 0,
    at: number("at") ?? 0,
    previousMark: text("prev"),
    tipMark: text("tip"),
    pushes: number("pushes") ?? 0,
    reset: number("reset"),
    updated: header["upd"] === 1,
    readCount: number("read") ?? 0,
    added: header["add"] === 1,
    removed: header["gone"] === 1,
    more: header["more"] === 1,
    lines,
  };
}
