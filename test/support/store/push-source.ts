import type { Live, LiveReader } from "../../../src/conversation/ports/live.ts";

/**
 * A source of events that a test feeds by hand. It pulls as real ones do: return() settles a pending next() at once,
 * and `returned` resolves.
 */
export class PushSource<Event extends object> implements Live<Event> {
  readonly returned: Promise<void>;
  /** Events taken so far. */
  taken = 0;
  readonly #events: Event[] = [];
  readonly #markReturned: () => void;
  #waiting: ((result: IteratorResult<Event, undefined>) => void) | null = null;
  readonly origin = null;
  subscribers = 1;
  #reader: LiveReader | null = null;
  #failure: Error | null = null;
  #done = false;

  constructor() {
    const { promise, resolve } = Promise.withResolvers<undefined>();
    this.returned = promise;
    this.#markReturned = () => resolve(undefined);
  }

  push(event: Event): void {
    if (this.#waiting === null) {
      this.#events.push(event);
      this.#wakeUp();
      return;
    }
    const settle = this.#waiting;
    this.#waiting = null;
    this.taken += 1;
    settle({ value: event, done: false });
  }

  /** Ends the stream, after what was pushed. */
  end(): void {
    this.#done = true;
    this.#waiting?.({ value: undefined, done: true });
    this.#wakeUp();
  }

  /** The next() after what was pushed rejects. */
  fail(error: Error): void {
    this.#failure = error;
    this.#wakeUp();
  }

  poll(): Event | null {
    const event = this.#events.shift();
    if (event === undefined) return null;
    this.taken += 1;
    return event;
  }

  wait(reader: LiveReader): boolean {
    if (this.#events.length > 0 || this.#failure !== null || this.#done) return false;
    this.#reader = reader;
    return true;
  }

  isLevelWith(): boolean {
    return false;
  }

  fork(): Live<Event> {
    throw new Error("Nobody else reads what a test feeds by hand.");
  }

  next(): Promise<IteratorResult<Event, undefined>> {
    const event = this.#events.shift();
    if (event !== undefined) {
      this.taken += 1;
      return Promise.resolve({ value: event, done: false });
    }
    if (this.#failure !== null) return Promise.reject(this.#failure);
    if (this.#done) return Promise.resolve({ value: undefined, done: true });
    return new Promise((resolve) => {
      this.#waiting = resolve;
    });
  }

  return(): Promise<IteratorResult<Event, undefined>> {
    this.end();
    this.#markReturned();
    return Promise.resolve({ value: undefined, done: true });
  }

  #wakeUp(): void {
    const reader = this.#reader;
    this.#reader = null;
    if (reader !== null) queueMicrotask(() => reader.wake());
  }

  [Symbol.asyncIterator](): this {
    return this;
  }
}
