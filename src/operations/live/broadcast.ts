import { GraphQLError } from "graphql";
import type { ExecutionResult, OperationDefinitionNode } from "graphql";

import type { SessionEvent } from "../../conversation/events.ts";
import type { Live, LiveReader } from "../../conversation/ports/live.ts";
import { beginEvent } from "../../graphql/context.ts";
import type { Context, LiveSource } from "../../graphql/context.ts";
import type { ExecuteEvent } from "../compiled-query.ts";
import type { MaskError } from "../masking.ts";
import { Outcome } from "./outcome.ts";
import type { Results } from "./results.ts";

/** How many of the newest results subscribers that lag behind share. */
const sharedOutcomes = 64;

/** What is executed on behalf of many: no client's end is its end. */
const caller = {
  signal: new AbortController().signal,
  whileWaiting: <Result>(work: () => Promise<Result>) => work(),
  resume: { lastEventId: null, cursor: null },
};

/**
 * One subscription operation with its variables, for all subscribers of the same viewer. Where they have received the same
 * they share one reader; each that lags has a reader of its own, and joins the others again when it has caught up.
 */
export class Broadcast {
  /** How many readers it has. */
  readers = 0;
  readonly #operation: OperationDefinitionNode;
  readonly #context: Context;
  readonly #executeEvent: ExecuteEvent;
  readonly #parentOf: LiveSource["parentOf"];
  readonly #mask: MaskError;
  readonly #onEnd: () => unknown;
  /** The one that came to the newest event last. */
  #tip: Reader | null = null;
  /** By what the event was made of, while there are several readers. */
  #recent: Map<object, Outcome | null | Promise<Outcome | null>> | null = null;

  /** `onEnd`: it has no subscribers any more. */
  constructor(
    operation: OperationDefinitionNode,
    { conversations, viewer, answer }: Pick<Context, "conversations" | "viewer" | "answer">,
    executeEvent: ExecuteEvent,
    parentOf: LiveSource["parentOf"],
    mask: MaskError,
    onEnd: () => unknown,
  ) {
    this.#operation = operation;
    this.#executeEvent = executeEvent;
    // No subscriber's own: it outlives the first one.
    this.#context = { ...caller, conversations, viewer, ...(answer === undefined ? {} : { answer }) };
    this.#parentOf = parentOf;
    this.#mask = mask;
    this.#onEnd = onEnd;
  }

  /** The subscriber begins with a stream of its own. */
  join(results: Results, events: LiveSource["events"]): void {
    new Reader(this, events).add(results);
  }

  /** The reader has delivered all that there is. */
  meet(reader: Reader): void {
    const tip = this.#tip;
    if (tip === null || tip === reader || !tip.isIdle || !tip.live.isLevelWith(reader.live)) this.#tip = reader;
    else if (tip.size >= reader.size) tip.absorb(reader);
    else {
      this.#tip = reader;
      reader.absorb(tip);
    }
  }

  left(reader: Reader): void {
    if (this.#tip === reader) this.#tip = null;
    this.readers--;
    if (this.readers <= 1) this.#recent = null;
    if (this.readers === 0) this.#onEnd();
  }

  /** What is delivered for the event; null: nothing. `origin`: what else has the same outcome. */
  outcomeOf(event: SessionEvent, origin: object | null): Outcome | null | Promise<Outcome | null> {
    const known = origin === null ? undefined : this.#recent?.get(origin);
    if (known !== undefined) return known;
    const outcome = this.#execute(event);
    if (origin === null || this.readers <= 1) return outcome;
    const recent = (this.#recent ??= new Map<object, Outcome | null | Promise<Outcome | null>>());
    recent.set(origin, outcome);
    const [oldest] = recent.keys();
    if (recent.size > sharedOutcomes && oldest !== undefined) recent.delete(oldest);
    return outcome;
  }

  #execute(event: SessionEvent): Outcome | null | Promise<Outcome | null> {
    const rootValue = this.#parentOf(event);
    if (rootValue === null) return null;
    // Of several events that are executed at a time each counts for itself.
    const contextValue = { ...this.#context };
    beginEvent(contextValue);
    const result = this.#executeEvent(contextValue, rootValue);
    const outcomeOf = (ready: ExecutionResult) => new Outcome(ready, this.#mask, event);
    return result instanceof Promise ? result.then(outcomeOf) : outcomeOf(result);
  }

  /** As executors name the operation that an error ended. */
  located(error: unknown): GraphQLError {
    const originalError = error instanceof Error ? error : new Error(String(error));
    return new GraphQLError(originalError.message, { originalError, nodes: [this.#operation] });
  }
}

type State = "blocked" | "reading" | "idle" | "over";

/**
 * Reads one stream of a broadcast for all subscribers that are at the same place of it: each event is read, executed and
 * serialised once, and handed to each of them.
 *
 *     blocked ──(one of its subscribers is free)──▶ reading ──(nothing is left)──▶ idle ──(woken)──▶ reading
 *                    ▲                                │ └─(the stream's end, an error)──▶ over
 *                    └────(all of them are busy)──────┘
 *
 * Before it reads on, those of its subscribers that are still busy get a reader of their own. Readers that are idle at the
 * same place become one (Broadcast.meet).
 */
class Reader implements LiveReader {
  readonly live: Live<SessionEvent>;
  readonly #broadcast: Broadcast;
  readonly #results = new Set<Results>();
  #state: State = "blocked";

  constructor(broadcast: Broadcast, live: Live<SessionEvent>) {
    this.#broadcast = broadcast;
    this.live = live;
    broadcast.readers++;
  }

  get size(): number {
    return this.#results.size;
  }

  get isIdle(): boolean {
    return this.#state === "idle";
  }

  get isDone(): boolean {
    for (const { isFree } of this.#results) if (!isFree) return false;
    return true;
  }

  add(results: Results): void {
    results.reader = this;
    this.#results.add(results);
    this.live.subscribers = this.#results.size;
  }

  async remove(results: Results): Promise<void> {
    this.#results.delete(results);
    this.live.subscribers = this.#results.size;
    if (this.#results.size === 0) await this.#end();
  }

  /** One of its subscribers cannot be served any more. */
  fail(results: Results, error: Error): void {
    results.end(this.#broadcast.located(error));
    this.remove(results).catch(ignore);
  }

  /** One of its subscribers is free. */
  resume(): void {
    if (this.#state !== "blocked") return;
    if (this.#results.size === 1) {
      this.#advance();
      return;
    }
    // The others are about to be free as well: then they need no readers of their own.
    this.#state = "reading";
    setImmediate(() => this.#advance());
  }

  wake(): void {
    if (this.#state === "idle") this.#advance();
  }

  /** Takes all subscribers of one that is at the same place. */
  absorb(other: Reader): void {
    for (const results of other.#results) this.add(results);
    other.#results.clear();
    other.#end().catch(ignore);
  }

  #advance(): void {
    if (this.#isOver()) return;
    this.#state = "reading";
    try {
      while (!this.#isOver()) {
        if (this.live.wait(this)) {
          this.#state = "idle";
          this.#broadcast.meet(this);
          return;
        }
        if (!this.#partFromBusy()) {
          this.#state = "blocked";
          return;
        }
        const event = this.live.poll();
        const outcome = event === null ? this.#next() : this.#broadcast.outcomeOf(event, this.live.origin);
        if (outcome instanceof Promise) {
          outcome.then(
            (ready) => {
              this.#deliver(ready);
              this.#advance();
            },
            (error: unknown) => this.#fail(error),
          );
          return;
        }
        this.#deliver(outcome);
      }
    } catch (error) {
      this.#fail(error);
    }
  }

  /** No property: delivering may end it. */
  #isOver(): boolean {
    return this.#state === "over";
  }

  /** Whether any are left. */
  #partFromBusy(): boolean {
    let free = 0;
    for (const { isFree } of this.#results) if (isFree) free++;
    if (free === 0 || free === this.#results.size) return free > 0;
    for (const results of [...this.#results].filter(({ isFree }) => !isFree)) {
      this.#results.delete(results);
      new Reader(this.#broadcast, this.live.fork()).add(results);
    }
    this.live.subscribers = this.#results.size;
    return true;
  }

  /** Awaits what cannot be polled. */
  async #next(): Promise<Outcome | null> {
    const { value: event, done } = (await this.live.next()) as IteratorResult<SessionEvent, undefined>; // as Live has it
    if (done !== true) return this.#broadcast.outcomeOf(event, null);
    for (const results of this.#results) results.end(null);
    this.#results.clear();
    await this.#end();
    return null;
  }

  #deliver(outcome: Outcome | null): void {
    if (outcome === null) return;
    // A subscriber that ends meanwhile is not handed it any more: a Set's iteration leaves out what is deleted.
    for (const results of this.#results) results.take(outcome);
  }

  #fail(error: unknown): void {
    const located = this.#broadcast.located(error);
    for (const results of this.#results) results.end(located);
    this.#results.clear();
    this.#end().catch(ignore);
  }

  async #end(): Promise<void> {
    if (this.#isOver()) return;
    this.#state = "over";
    this.#broadcast.left(this);
    await this.live.return?.();
  }
}

/** Nobody is left to hear that ending fails as well. */
const ignore = (): void => undefined;
