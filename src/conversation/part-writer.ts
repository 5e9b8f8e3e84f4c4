import { isObject } from "./message/json.ts";
import { partsOf, recordAt, wholeEnd, type ToolChange } from "./part-log.ts";

/** What a line has beside its text, at most, in bytes. */
const lineBytes = 64;

interface Open {
  readonly kind: "r" | "a";
  readonly index: number;
  readonly at: number;
  /** Has no line yet. */
  text: string;
  bytes: number;
}

/** A run's part log (part-log.ts) as the process writes it that carries the run out. */
export class PartLog {
  readonly #mostBytes: number;
  #lines = "";
  #bytes = 0;
  /** Of the part that was begun last. */
  #index = -1;
  #isText = false;
  #isReasoning = false;
  #open: Open | null = null;
  /** How much of each part has lines. */
  readonly #offsets = new Map<number, number>();
  readonly #calls = new Map<string, { readonly index: number; revision: number }>();
  /** Calls of whose arguments there is less here than the model wrote. */
  readonly #cutCalls = new Set<string>();
  /** What there was more of than the log may hold: the rest is not in it. */
  readonly leftOut = new Set<"reasoning" | "tools">();

  /** `log`: what another process has written of it, up to the end of a message. */
  constructor(mostBytes: number, log = "") {
    this.#mostBytes = mostBytes;
    this.#lines = log;
    this.#index = partsOf(log, "", "").length - 1;
    for (let at = 0, record = recordAt(log, 0); record !== null; at = record.next, record = recordAt(log, at)) {
      const { index, offset } = record;
      if (record.kind === "reasoning" || record.kind === "arguments")
        this.#offsets.set(index, offset + record.text.length);
      if (record.kind === "call") this.#calls.set(record.callId, { index, revision: 0 });
      if (record.kind === "change") {
        for (const call of this.#calls.values()) if (call.index === index) call.revision = offset;
        if (record.change.isCut === true) this.#leaveOut("tools");
      }
      if (record.kind !== "ended") this.#bytes += Buffer.byteLength(log.slice(at, record.next));
    }
  }

  /** The text of the message goes on. */
  text(): void {
    if (this.#isText) return;
    this.#close(true);
    this.#index += 1;
    this.#isText = true;
    this.#isReasoning = false;
  }

  /** `at`: how long the message's text is, here and below. */
  reasoning(piece: string, at: number): void {
    // What would come behind a gap would not be understood.
    if (this.leftOut.has("reasoning") || !this.#hasRoom(piece)) {
      this.#leaveOut("reasoning");
      return;
    }
    if (!this.#isReasoning) {
      this.#begin();
      this.#isReasoning = true;
    }
    this.#add("r", this.#index, piece, at);
  }

  call(callId: string, name: string, at: number): void {
    this.#begin();
    this.#calls.set(callId, { index: this.#index, revision: 0 });
    this.#line(["c", this.#index, 0, at, callId, name]);
  }

  args(callId: string, piece: string, at: number): void {
    const call = this.#calls.get(callId);
    if (call === undefined) return;
    if (this.#cutCalls.has(callId) || !this.#hasRoom(piece)) {
      this.#cutCalls.add(callId);
      this.#leaveOut("tools");
      return;
    }
    this.#add("a", call.index, piece, at);
  }

  change(callId: string, change: ToolChange, at: number): void {
    const call = this.#calls.get(callId);
    if (call === undefined) return;
    const { content, args, ...small } = change;
    const told = {
      ...small,
      ...(content === undefined ? {} : this.#kept(content)),
      ...this.#argsOf(callId, args, change.decided !== undefined),
    };
    call.revision += 1;
    this.#line(["s", call.index, call.revision, at, told]);
  }

  /** `data`: what JSON has. */
  data(callId: string, name: string, data: unknown, at: number): void {
    if (!this.#hasRoom(JSON.stringify(data) + name)) {
      this.#leaveOut("tools");
      return;
    }
    this.#begin();
    this.#line(["d", this.#index, 0, at, callId, name, data]);
  }

  message(localId: string): void {
    this.#close(true);
    this.#isText = this.#isReasoning = false;
    this.#line(["m", this.#index + 1, 0, 0, localId]);
  }

  ended(text: string): void {
    this.#line(["t", 0, 0, text.length, text]);
    this.#isText = this.#isReasoning = false;
  }

  /** The log with all that came so far, but for half a surrogate pair at its end. */
  get lines(): string {
    this.#close(false);
    return this.#lines;
  }

  /** The same with that half. */
  get whole(): string {
    this.#close(true);
    return this.#lines;
  }

  /** Another part that is no text. */
  #begin(): void {
    this.#close(true);
    this.#index += 1;
    this.#isText = this.#isReasoning = false;
  }

  /** Who decides is to see them; and what there is of them is not to be taken for all. */
  #argsOf(callId: string, args: ToolChange["args"], isDecided: boolean): Pick<ToolChange, "args"> {
    const isCut = this.#cutCalls.delete(callId);
    if (args !== undefined) return isDecided || isCut ? { args } : {};
    return isCut ? { args: null } : {};
  }

  /** Of what a tool has answered. Images, sounds and files are what is long, and the text beside them names them. */
  #kept(content: unknown): Pick<ToolChange, "content" | "isCut"> {
    if (this.#hasRoom(JSON.stringify(content))) return { content };
    this.#leaveOut("tools");
    const texts = Array.isArray(content) ? content.filter((block) => !isObject(block) || block["type"] === "text") : [];
    return { ...(texts.length > 0 && this.#hasRoom(JSON.stringify(texts)) ? { content: texts } : {}), isCut: true };
  }

  /** Where nothing is to be kept nobody is told that it is not. */
  #leaveOut(what: "reasoning" | "tools"): void {
    if (this.#mostBytes > 0) this.leftOut.add(what);
  }

  #hasRoom(text: string): boolean {
    const bytes = Buffer.byteLength(JSON.stringify(text));
    return this.#bytes + (this.#open?.bytes ?? 0) + bytes + lineBytes <= this.#mostBytes;
  }

  #add(kind: Open["kind"], index: number, piece: string, at: number): void {
    if (this.#open?.index !== index) {
      this.#close(true);
      this.#open = { kind, index, at, text: "", bytes: 0 };
    }
    this.#open.text += piece;
    this.#open.bytes += Buffer.byteLength(JSON.stringify(piece));
  }

  #close(whole: boolean): void {
    const open = this.#open;
    if (open === null) return;
    const { kind, index, at, text } = open;
    const end = whole ? text.length : wholeEnd(text);
    const rest = text.slice(end);
    this.#open = rest === "" ? null : { ...open, text: rest, bytes: Buffer.byteLength(JSON.stringify(rest)) };
    if (end === 0) return;
    const offset = this.#offsets.get(index) ?? 0;
    this.#offsets.set(index, offset + end);
    const line = `${JSON.stringify([kind, index, offset, at, text.slice(0, end)])}\n`;
    this.#lines += line;
    this.#bytes += Buffer.byteLength(line);
  }

  /** A line with all that came before it. */
  #line(line: readonly unknown[]): void {
    this.#close(true);
    const text = `${JSON.stringify(line)}\n`;
    this.#lines += text;
    // What the message itself holds is none of what is kept beside it.
    if (line[0] !== "t") this.#bytes += Buffer.byteLength(text);
  }
}
