/**
 * An iterator whose consumer pulls: next() computes when it is asked, and return() ends it at once, also while a next()
 * waits. Not an async generator: one that is parked on a pending next() could not be ended.
 */
export abstract class PulledIterator<T> implements AsyncIterableIterator<T> {
  readonly #onEnd: () => void;
  #turn: Promise<unknown> = Promise.resolve();
  #ended = false;

  constructor(onEnd: () => void) {
    this.#onEnd = onEnd;
  }

  protected get ended(): boolean {
    return this.#ended;
  }

  /** The next result, where the iterator has not ended; waits for it. */
  protected abstract pull(): Promise<IteratorResult<T>>;

  /** Drops what is held, and wakes a pull that waits. Called once. */
  protected abstract release(): void;

  [Symbol.asyncIterator](): this {
    return this;
  }

  next(): Promise<IteratorResult<T>> {
    // Consumers pull one by one; should one pull ahead, its pulls are answered in order.
    const turn = this.#turn
      .then(() => this.pull())
      .catch((error: unknown) => {
        // Who consumes an iterator that threw does not return it.
        this.end();
        throw error;
      });
    this.#turn = turn.catch(() => undefined);
    return turn;
  }

  return(): Promise<IteratorResult<T>> {
    this.end();
    return Promise.resolve({ done: true, value: undefined });
  }

  throw(error: unknown): Promise<IteratorResult<T>> {
    this.end();
    return Promise.reject(error instanceof Error ? error : new Error(String(error)));
  }

  end(): void {
    if (this.#ended) return;
    this.#ended = true;
    this.release();
    this.#onEnd();
  }
}
