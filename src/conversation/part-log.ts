import { parseJson } from "./message/json.ts";

/** A part of what a run makes. Its place among the run's parts never changes. */
export type RunPart =
  /** `start`: where in the message's text it begins, in UTF-16 units. */
  | { readonly kind: "text"; readonly messageLocalId: string; readonly start: number; readonly text: string }
  | { readonly kind: "reasoning"; readonly messageLocalId: string; readonly text: string };

/**
 * A run's part log holds what the text of its reply does not: a line for each piece of reasoning, in order,
 *     ["r", index of its part, offset in that part, length of the reply's text before it, "the piece"]
 * Together with the text it gives the parts: text between two reasoning parts is a part of its own. The log only grows, so a
 * reader's place in it is a length, in UTF-16 units as all lengths here.
 */
export interface LogRecord {
  readonly index: number;
  readonly offset: number;
  /** How long the reply's text was. */
  readonly at: number;
  readonly text: string;
  /** Where in the log the next line begins. */
  readonly next: number;
}

/** The first record at or behind `from`; null: there is none. Lines of a later version are passed over. */
export function recordAt(log: string, from: number): LogRecord | null {
  for (let at = from; at < log.length;) {
    const end = log.indexOf("\n", at);
    const next = end < 0 ? log.length : end + 1;
    const line = parseJson(log.slice(at, next));
    if (Array.isArray(line) && line[0] === "r") {
      const [, index, offset, position, text] = line as readonly unknown[]; // Array.isArray gives any[]
      return { index: Number(index), offset: Number(offset), at: Number(position), text: String(text), next };
    }
    at = next;
  }
  return null;
}

/** The index of the text part that goes on behind the log's first `length` units. */
export function textIndexAt(log: string, length: number): number {
  if (length === 0) return 0;
  const last = recordAt(log, log.lastIndexOf("\n", length - 2) + 1);
  return last === null ? 0 : last.index + 1;
}

/** All parts, the one with index 0 first. */
export function partsOf(log: string, text: string, messageLocalId: string): readonly RunPart[] {
  const parts: RunPart[] = [];
  let start = 0;
  const addText = (end: number): void => {
    if (end > start) parts.push({ kind: "text", messageLocalId, start, text: text.slice(start, end) });
    start = end;
  };
  let thought = "";
  const addReasoning = (): void => {
    if (thought !== "") parts.push({ kind: "reasoning", messageLocalId, text: thought });
    thought = "";
  };
  for (let record = recordAt(log, 0); record !== null; record = recordAt(log, record.next)) {
    if (record.offset === 0) {
      addReasoning();
      addText(record.at);
    }
    thought += record.text;
  }
  addReasoning();
  addText(text.length);
  return parts;
}

/** What a line has beside its text, at most, in bytes. */
const lineBytes = 64;

/** The log as the process writes it that carries the run out. */
export class PartLog {
  readonly #mostBytes: number;
  #lines = "";
  #bytes = 0;
  /** Of the part that is being made. */
  #index = -1;
  #isReasoning = false;
  #offset = 0;
  #at = 0;
  /** Reasoning that has no line yet. */
  #open = "";
  #openBytes = 0;
  /** More was thought than the log may hold: the rest is not in it. */
  isFull = false;

  constructor(mostBytes: number) {
    this.#mostBytes = mostBytes;
  }

  /** The text of the reply goes on. */
  text(): void {
    if (this.#isReasoning) {
      this.#close(this.#open.length);
      this.#isReasoning = false;
      this.#index += 1;
    } else if (this.#index < 0) this.#index = 0;
  }

  /** `at`: how long the reply's text is. */
  reasoning(piece: string, at: number): void {
    if (this.#mostBytes === 0) return;
    const bytes = Buffer.byteLength(JSON.stringify(piece));
    if (this.isFull || this.#bytes + this.#openBytes + bytes + lineBytes > this.#mostBytes) {
      this.isFull = true;
      return;
    }
    if (!this.#isReasoning) {
      this.#isReasoning = true;
      this.#index += 1;
      this.#offset = 0;
      this.#at = at;
    }
    this.#open += piece;
    this.#openBytes += bytes;
  }

  /** The log with all that came so far, but for half a surrogate pair at its end. */
  get lines(): string {
    this.#close(wholeEnd(this.#open));
    return this.#lines;
  }

  /** The log at the run's end. */
  get whole(): string {
    this.#close(this.#open.length);
    return this.#lines;
  }

  #close(end: number): void {
    const piece = this.#open.slice(0, end);
    if (piece === "") return;
    const line = `${JSON.stringify(["r", this.#index, this.#offset, this.#at, piece])}\n`;
    this.#lines += line;
    this.#bytes += Buffer.byteLength(line);
    this.#offset += piece.length;
    this.#open = this.#open.slice(end);
    this.#openBytes = Buffer.byteLength(JSON.stringify(this.#open));
  }
}

/** Where a text ends that is not to end inside a surrogate pair. */
export function wholeEnd(text: string): number {
  const last = text.charCodeAt(text.length - 1);
  return last >= 0xd800 && last <= 0xdbff ? text.length - 1 : text.length;
}
