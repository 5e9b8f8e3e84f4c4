import type { ExecutionResult, GraphQLError } from "graphql";

import type { Resume } from "../../graphql/context.ts";
import type { Outcome } from "./outcome.ts";
import { SocketClosing } from "./socket-closing.ts";

/** Who writes into a sink. */
export interface Writer {
  /** What waited is gone: more may follow. */
  go(): void;
}

/** Where results go without being pulled. */
export interface Sink {
  /**
   * "taken": more may follow at once. "waits": bytes of it are still here, and the writer is called when they are gone.
   * "closed": it went nowhere, and nothing will any more.
   */
  write(outcome: Outcome, writer: Writer): "taken" | "waits" | "closed";
}

/** What reads for a subscriber. */
interface ResultsReader {
  /** The subscriber is free. */
  resume(): void;
  remove(results: Results): Promise<void>;
  /** The subscriber cannot be served any more. */
  fail(results: Results, error: Error): void;
}

/**
 * One subscriber's results. Pulled (SSE, multipart), each next() gives one. With a sink (WebSocket) the first next() starts
 * to deliver into it, without a promise for each result, and stays pending until the stream has ended:
 *
 *     busy ──(next(), or the sink has sent all)──▶ free ──(a result)──▶ busy, or free where the sink took it at once
 *     either ──(the end, an error, a closed sink, return())──▶ ended
 *
 * It holds no queue (P10): its reader gives it nothing while it is busy.
 */
export class Results implements AsyncIterableIterator<ExecutionResult>, Writer {
  reader: ResultsReader | null = null;
  isFree = false;
  readonly #resume: Resume;
  #sink: Sink | null = null;
  #pending: PromiseWithResolvers<IteratorResult<ExecutionResult>> | null = null;
  #ended = false;
  /** The error that ended it while no next() was pending: the following one rejects with it. */
  #failure: GraphQLError | null = null;

  constructor(resume: Resume) {
    this.#resume = resume;
  }

  /** Before the first next(). */
  deliverTo(sink: Sink): void {
    this.#sink = sink;
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  next(): Promise<IteratorResult<ExecutionResult>> {
    const pending = this.#pending?.promise;
    if (pending !== undefined) return this.#sink === null ? pending.then(() => this.next()) : pending;
    const failure = this.#failure;
    this.#failure = null;
    if (failure !== null) return Promise.reject(failure);
    if (this.#ended) return Promise.resolve({ done: true, value: undefined });
    this.#pending = Promise.withResolvers();
    const { promise } = this.#pending;
    this.go();
    return promise;
  }

  async return(): Promise<IteratorResult<ExecutionResult>> {
    const { reader } = this;
    this.end(null);
    await reader?.remove(this);
    return { done: true, value: undefined };
  }

  go(): void {
    if (this.isFree || this.#ended) return;
    this.isFree = true;
    this.reader?.resume();
  }

  /** Called while it is free. */
  take(outcome: Outcome): void {
    // Before it is written: a sink that waits may go on at once.
    this.isFree = false;
    if (this.#sink === null) {
      this.#resume.cursor = outcome.cursor ?? this.#resume.cursor;
      const pending = this.#pending;
      this.#pending = null;
      pending?.resolve({ done: false, value: outcome });
      return;
    }
    const answer = this.#sink.write(outcome, this);
    if (answer === "taken") this.isFree = true;
    else if (answer === "closed") this.reader?.fail(this, new SocketClosing());
  }

  end(error: GraphQLError | null): void {
    if (this.#ended) return;
    this.#ended = true;
    this.isFree = false;
    this.reader = null;
    const pending = this.#pending;
    this.#pending = null;
    if (error === null) pending?.resolve({ done: true, value: undefined });
    else if (pending !== null) pending.reject(error);
    else this.#failure = error;
  }
}
