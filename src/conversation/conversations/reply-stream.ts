import type { Piece } from "../ports/model.ts";
import { isStoreUnavailable } from "../errors.ts";
import { wholeEnd } from "../part-log.ts";
import { PartLog } from "../part-writer.ts";
import type { LogBatch, ProgressAnswer, StepReply } from "../ports/store.ts";

/**
 * How long text gathers before a batch is sent, in ms. The first goes at once, which is when the event loop comes round:
 * a reply that was there whole needs no batch. A reply that goes on for long comes 20 times a second, which still looks like
 * writing, and costs every reader and Redis half as much from then on.
 */
const gatherMs = 25;
const longGatherMs = 50;
/** Half a second. */
const batchesOfShort = 20;
const retryMs = 200;

const leftOutNotes = {
  reasoning: "Of the model's reasoning only the beginning is kept: it was too long.",
  tools: "Of what tools were given and have answered not all is among the run's parts: it was too long.",
} as const;

/**
 * The way of a reply's text and reasoning into the store, beside the model's loop: add() never waits. One batch is in
 * flight; a batch says what lengths it expects before it, so what was resent by the connection or lost by Redis is found out
 * and mended. To readers a batch never ends inside a surrogate pair.
 */
export class ReplyStream {
  readonly #send: (offset: number, text: string, log: LogBatch) => Promise<ProgressAnswer>;
  readonly #onClosed: () => void;
  readonly #log: PartLog;
  #text = "";
  #stored = 0;
  #storedLog = 0;
  #sending = false;
  #timer: NodeJS.Timeout | null = null;
  #next: NodeJS.Immediate | null = null;
  #lastSent = 0;
  #batches = 0;
  #done = false;
  /** The last of the writes that come one after another: batches, and what write() is given. */
  #tail: Promise<unknown> = Promise.resolve();

  /** `logBytes`: what the part log may hold. `log`: of a run that has waited. */
  constructor(
    send: (offset: number, text: string, log: LogBatch) => Promise<ProgressAnswer>,
    onClosed: () => void,
    logBytes: number,
    log = "",
  ) {
    this.#send = send;
    this.#onClosed = onClosed;
    this.#log = new PartLog(logBytes, log);
    this.#storedLog = log.length;
  }

  get text(): string {
    return this.#text;
  }

  /** The whole part log. */
  get log(): string {
    return this.#log.whole;
  }

  /** What the log has not all of, each in a line that can be shown to the user. */
  get notes(): readonly string[] {
    return [...this.#log.leftOut].map((what) => leftOutNotes[what]);
  }

  /** `localId`: of a message that begins. */
  add(piece: Piece, localId = ""): void {
    if (this.#done || ("text" in piece && piece.text === "")) return;
    const at = wholeEnd(this.#text);
    switch (piece.kind) {
      case "text":
        this.#log.text();
        this.#text += piece.text;
        break;
      case "reasoning":
        this.#log.reasoning(piece.text, at);
        break;
      case "message":
        this.#log.message(localId);
        break;
      case "call":
        this.#log.call(piece.callId, piece.name, at);
        break;
      case "arguments":
        this.#log.args(piece.callId, piece.text, at);
        break;
      case "change":
        this.#log.change(piece.callId, piece.change, at);
        break;
      case "data":
        this.#log.data(piece.callId, piece.name, piece.data, at);
        break;
    }
    this.#plan();
  }

  /** The message that is being made has ended: what comes is of the next one. */
  endMessage(): void {
    this.#log.ended(this.#text);
    this.#text = "";
    this.#stored = 0;
  }

  /**
   * A write that takes the log with it, behind all that was sent before; repeated until the store takes it. `before`: what
   * the log is told at its turn. false: the run is closed.
   */
  async write(store: (log: LogBatch) => Promise<StepReply>, before: () => void): Promise<boolean> {
    const written = this.#tail.then(() => this.#write(store, before));
    this.#tail = written.catch(() => undefined);
    return await written;
  }

  async #write(store: (log: LogBatch) => Promise<StepReply>, before: () => void): Promise<boolean> {
    this.#sending = true;
    try {
      before();
      while (!this.#done) {
        const lines = this.#log.whole.slice(this.#storedLog);
        const answer = await this.#tried(() => store({ offset: this.#storedLog, lines }));
        if (answer?.kind === "length") this.#storedLog = answer.logLength;
        else if (answer?.kind === "closed") {
          this.stop();
          this.#onClosed();
        } else if (answer !== null) {
          this.#storedLog += lines.length;
          return true;
        }
      }
      return false;
    } finally {
      this.#sending = false;
      if (this.#lags) this.#plan();
    }
  }

  /** null: the store is away, and what was made may not go on without it. */
  async #tried(write: () => Promise<StepReply>): Promise<StepReply | null> {
    try {
      return await write();
    } catch (error) {
      if (!isStoreUnavailable(error)) throw error;
      await new Promise((resolve) => setTimeout(resolve, retryMs));
      return null;
    }
  }

  get #lags(): boolean {
    return this.#stored < wholeEnd(this.#text) || this.#storedLog < this.#log.lines.length;
  }

  /** Sends nothing any more: the run's end carries the whole text. */
  stop(): void {
    this.#done = true;
    if (this.#timer) clearTimeout(this.#timer);
    if (this.#next) clearImmediate(this.#next);
    this.#timer = null;
    this.#next = null;
  }

  /** From when the last batch was sent. */
  #pause(): number {
    const gather = this.#batches < batchesOfShort ? gatherMs : longGatherMs;
    return Math.max(0, this.#lastSent + gather - performance.now());
  }

  #plan(waitMs = this.#pause()): void {
    if (this.#done || this.#sending || this.#timer || this.#next) return;
    if (waitMs === 0)
      this.#next = setImmediate(() => {
        this.#next = null;
        this.#tail = this.#tail.then(() => this.#flush());
      });
    else
      this.#timer = setTimeout(() => {
        this.#timer = null;
        this.#tail = this.#tail.then(() => this.#flush());
      }, waitMs);
  }

  async #flush(): Promise<void> {
    if (this.#done) return;
    const batch = this.#text.slice(this.#stored, wholeEnd(this.#text));
    const lines = this.#log.lines.slice(this.#storedLog);
    if (batch === "" && lines === "") return;
    this.#sending = true;
    this.#lastSent = performance.now();
    this.#batches += 1;
    let wait: number | undefined;
    try {
      const answer = await this.#send(this.#stored, batch, { offset: this.#storedLog, lines });
      if (answer.kind === "ok") {
        this.#stored += batch.length;
        this.#storedLog += lines.length;
      } else if (answer.kind === "length") {
        this.#stored = Math.min(answer.length, this.#text.length);
        this.#storedLog = Math.min(answer.logLength, this.#log.lines.length);
      } else {
        this.stop();
        this.#onClosed();
      }
    } catch {
      // The store is away: the text waits here and goes as one batch when it is back.
      wait = retryMs;
    }
    this.#sending = false;
    if (this.#lags) this.#plan(wait);
  }
}
