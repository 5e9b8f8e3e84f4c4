import { GraphQLError } from "graphql";
import type { ExecutionResult, OperationDefinitionNode } from "graphql";

import type { LiveReader } from "../../conversation/ports/live.ts";
import type { Resume } from "../../graphql/context.ts";
import type { LiveSource } from "../../graphql/reading/live.ts";
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
   * "taken": more may follow at once. "waits": bytes of it are still here, and the writer is told when they are gone.
   * "closed": it went nowhere, and nothing will any more.
   */
  write(outcome: Outcome, writer: Writer): "taken" | "waits" | "closed";
}

export type DeliveryState = "new" | "delivering" | "idle" | "full" | "awaiting" | "ended";

/** Executes events, each once for all who share the operation. */
export interface EventExecution {
  readonly operation: OperationDefinitionNode;
  outcome(event: object, source: LiveSource): Outcome | Promise<Outcome>;
}

/**
 * One subscriber's results. Pulled (SSE, multipart), next() gives them one by one. With a sink (WebSocket) the first
 * next() starts to deliver into it, without a promise for each result, and stays pending until the stream has ended:
 *
 *     new ──(next())──▶ delivering ◀──(wake)─── idle ◀──(take)─┐
 *                        │  │  │ └─(nothing there)──▲ └──────────┘ or full, awaiting, ended, as below
 *                        │  │  └─(sink is full)──▶ full ──(go)──▶ delivering
 *                        │  └─(must be awaited: catching up, a reading, an execution)──▶ awaiting ──▶ delivering
 *                        └─(the source's end, an error, a closed sink)──▶ ended
 *     any ──(return())──▶ ended
 *
 * What a subscriber lags behind is a place in its source, never a queue here (P10): nothing is taken from the source
 * before the sink has taken what came before it.
 */
export class SharedResults implements AsyncIterableIterator<ExecutionResult>, LiveReader<object>, Writer {
  readonly #execution: EventExecution;
  readonly #source: LiveSource;
  readonly #resume: Resume;
  #sink: Sink | null = null;
  #state: DeliveryState = "new";
  #end: PromiseWithResolvers<IteratorResult<ExecutionResult>> | null = null;

  constructor(execution: EventExecution, source: LiveSource, resume: Resume) {
    this.#execution = execution;
    this.#source = source;
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
    if (this.#sink === null) return this.#pull();
    if (this.#state === "ended") return Promise.resolve({ done: true, value: undefined });
    this.#end ??= Promise.withResolvers();
    if (this.#state === "new") this.#deliver();
    return this.#end.promise;
  }

  async return(): Promise<IteratorResult<ExecutionResult>> {
    this.#close();
    await this.#source.events.return?.();
    return { done: true, value: undefined };
  }

  async #pull(): Promise<IteratorResult<ExecutionResult>> {
    const { events } = this.#source;
    try {
      const { value: event, done } = (await events.next()) as IteratorResult<object, undefined>; // as Live has it
      if (done === true) return { done, value: undefined };
      const { result } = await this.#execution.outcome(event, this.#source);
      this.#resume.cursor = this.#source.cursorOf(event) ?? this.#resume.cursor;
      return { done: false, value: result };
    } catch (error) {
      throw this.#located(error);
    }
  }

  wake(): void {
    if (this.#state === "idle") this.#deliver();
  }

  take(event: object): boolean {
    if (this.#state !== "idle") return false;
    try {
      const outcome = this.#execution.outcome(event, this.#source);
      if (!(outcome instanceof Promise)) return this.#write(outcome);
      this.#await(outcome.then((ready) => this.#write(ready)));
    } catch (error) {
      this.#fail(error);
    }
    return false;
  }

  go(): void {
    if (this.#state === "full") this.#deliver();
  }

  #deliver(): void {
    const { events } = this.#source;
    this.#state = "delivering";
    try {
      for (let event = events.poll(); event !== null; event = events.poll()) {
        const outcome = this.#execution.outcome(event, this.#source);
        if (outcome instanceof Promise) {
          this.#await(outcome.then((ready) => this.#write(ready)));
          return;
        }
        if (!this.#write(outcome)) return;
      }
      if (events.wait(this)) this.#state = "idle";
      else this.#await(this.#next());
    } catch (error) {
      this.#fail(error);
    }
  }

  /** Awaits what cannot be polled. Whether more may be delivered. */
  async #next(): Promise<boolean> {
    const { value: event, done } = (await this.#source.events.next()) as IteratorResult<object, undefined>; // as above
    if (done === true) {
      this.#close();
      return false;
    }
    return this.#write(await this.#execution.outcome(event, this.#source));
  }

  #await(work: Promise<boolean>): void {
    this.#state = "awaiting";
    work.then(
      (more) => {
        if (more && this.#state === "awaiting") this.#deliver();
      },
      (error: unknown) => this.#fail(error),
    );
  }

  #write(outcome: Outcome): boolean {
    if (this.#state === "ended" || this.#sink === null) return false;
    // Before it is written: a sink that waits may go on at once.
    const before = this.#state;
    this.#state = "full";
    const answer = this.#sink.write(outcome, this);
    if (answer === "closed") {
      this.#fail(new SocketClosing());
      return false;
    }
    if (answer === "waits") return false;
    this.#state = before;
    return true;
  }

  #fail(error: unknown): void {
    if (this.#state === "ended") return;
    this.#state = "ended";
    // It has nobody to tell where ending fails as well.
    Promise.resolve(this.#source.events.return?.()).catch(() => undefined);
    this.#end?.reject(this.#located(error));
  }

  #close(): void {
    if (this.#state === "ended") return;
    this.#state = "ended";
    this.#end?.resolve({ done: true, value: undefined });
  }

  /** As executors name the operation that an error ended. */
  #located(error: unknown): GraphQLError {
    const originalError = error instanceof Error ? error : new Error(String(error));
    return new GraphQLError(originalError.message, { originalError, nodes: [this.#execution.operation] });
  }
}
