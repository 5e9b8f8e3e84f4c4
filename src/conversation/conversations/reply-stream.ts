import type { Piece } from "../ports/model.ts";
import { PartLog, wholeEnd } from "../part-log.ts";
import type { LogBatch, ProgressAnswer } from "../ports/store.ts";

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

  /** `logBytes`: what the part log may hold. */
  constructor(
    send: (offset: number, text: string, log: LogBatch) => Promise<ProgressAnswer>,
    onClosed: () => void,
    logBytes: number,
  ) {
    this.#send = send;
    this.#onClosed = onClosed;
    this.#log = new PartLog(logBytes);
  }

  get text(): string {
    return this.#text;
  }

  /** The whole part log. */
  get log(): string {
    return this.#log.whole;
  }

  /** More was thought than the log may hold. */
  get isLogFull(): boolean {
    return this.#log.isFull;
  }

  add({ kind, text }: Piece): void {
    if (text === "" || this.#done) return;
    if (kind === "text") {
      this.#log.text();
      this.#text += text;
    } else this.#log.reasoning(text, wholeEnd(this.#text));
    this.#plan();
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
        void this.#flush();
      });
    else
      this.#timer = setTimeout(() => {
        this.#timer = null;
        void this.#flush();
      }, waitMs);
  }

  async #flush(): Promise<void> {
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
    if (this.#stored < wholeEnd(this.#text) || this.#storedLog < this.#log.lines.length) this.#plan(wait);
  }
}
