import { notFound, ParleyError } from "../errors.ts";
import type { PlacedMessage, SessionEvent } from "../events.ts";
import type { Live, LiveMessages, LiveReader } from "../ports/live.ts";

/**
 * The messages of a stream of session events; ends with CURSOR_EXPIRED at a reset and NOT_FOUND when the session goes.
 * Not an async generator: one that is parked on a pending next() could not be ended.
 */
export class MessagesOnly implements LiveMessages, LiveReader<SessionEvent> {
  readonly start: string | null;
  readonly #events: Live<SessionEvent>;
  /** What ended it, met where it could not be thrown: the next next() says so. */
  #failure: ParleyError | null = null;
  #reader: LiveReader<PlacedMessage> | null = null;

  private constructor(events: Live<SessionEvent>, start: string | null) {
    this.#events = events;
    this.start = start;
  }

  /**
   * `events`: of which nothing was taken yet.
   * @throws {ParleyError} NOT_FOUND where they say that the session is gone
   */
  static async of(events: Live<SessionEvent>): Promise<MessagesOnly> {
    const first = events.poll();
    const messages = new MessagesOnly(events, first !== null && "cursor" in first ? first.cursor : null);
    if (first?.kind === "removed") await messages.throw(notFound());
    return messages;
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  poll(): PlacedMessage | null {
    while (this.#failure === null) {
      const event = this.#events.poll();
      if (event === null) return null;
      if (event.kind === "message") return event.message;
      this.#failure = failureOf(event);
    }
    return null;
  }

  wait(reader: LiveReader<PlacedMessage>): boolean {
    if (this.#failure !== null) return false;
    this.#reader = reader;
    return this.#events.wait(this);
  }

  take(event: SessionEvent): boolean {
    if (event.kind === "message") return this.#reader?.take(event.message) === true;
    this.#failure = failureOf(event);
    if (this.#failure === null) return true;
    // Not from here: it would go on before the source knows that this one takes no more.
    queueMicrotask(() => this.wake());
    return false;
  }

  wake(): void {
    this.#reader?.wake();
  }

  async next(): Promise<IteratorResult<PlacedMessage>> {
    while (this.#failure === null) {
      const result: IteratorResult<SessionEvent> = await this.#events.next();
      if (result.done) return { done: true, value: undefined };
      if (result.value.kind === "message") return { done: false, value: result.value.message };
      this.#failure = failureOf(result.value);
    }
    const error = this.#failure;
    this.#failure = null;
    await this.return();
    throw error;
  }

  async return(): Promise<IteratorResult<PlacedMessage>> {
    await this.#events.return?.();
    return { done: true, value: undefined };
  }

  async throw(error: unknown): Promise<IteratorResult<PlacedMessage>> {
    await this.return();
    throw error;
  }
}

/** Why there are no messages behind this event, or null. */
function failureOf({ kind }: SessionEvent): ParleyError | null {
  if (kind === "removed") return notFound();
  if (kind !== "reset") return null;
  return new ParleyError(
    "CURSOR_EXPIRED",
    "The history was cleared, rewound or lost. Read the session's messages anew and subscribe from its cursor.",
  );
}
