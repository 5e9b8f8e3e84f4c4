/**
 * An iterator whose consumer pulls: next() computes when it is asked, and return() ends it at once, also while a next()
 * waits. Not an async generator: one that is parked on a pending next() could not be ended.
 */
export abstract class PulledIterator<T> implements AsyncIterableIterator<T> {
  /** How many subscribers it is pulled for. */
  subscribers = 1;
  readonly #open: OpenIterators;
  #turn: Promise<unknown> = Promise.resolve();
  #ended = false;
  #forgetSignal: (() => void) | null = null;

  constructor(open: OpenIterators) {
    this.#open = open;
    open.add(this);
  }

  /** Ends it when the signal aborts. */
  endWith(signal: AbortSignal | undefined): this {
    if (signal === undefined) return this;
    const end = () => this.end();
    signal.addEventListener("abort", end);
    this.#forgetSignal = () => signal.removeEventListener("abort", end);
    if (signal.aborted) end();
    return this;
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
        // The consumer of an iterator that threw does not return it.
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

  end(): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#forgetSignal?.();
    this.release();
    this.#open.delete(this);
  }
}

/** The iterators that have not ended. */
export interface OpenIterators {
  add(iterator: PulledIterator<unknown>): void;
  delete(iterator: PulledIterator<unknown>): void;
}
