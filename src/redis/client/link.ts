import type { Redis } from "ioredis";

export interface LinkEvents {
  readonly onReady?: () => void;
  /** What was sent over it and not answered will not be; what was subscribed on it is not any more. */
  readonly onClosed?: () => void;
}

/** A connection to one server, whose users wait for it, and for answers that count for that very connection alone. */
export class Link {
  readonly redis: Redis;
  /** Grows with each connection: what was sent over one is not known to the next. */
  epoch = 0;
  /** Callers that wait for an answer on this connection, or for the connection itself. Sets: a promise would keep each race it was in. */
  readonly #onLost = new Set<(error: Error) => void>();
  readonly #onReady = new Set<() => void>();

  constructor(redis: Redis, { onReady, onClosed }: LinkEvents = {}) {
    this.redis = redis;
    redis.on("ready", () => {
      for (const resolve of this.#onReady) resolve();
      onReady?.();
    });
    redis.on("close", () => {
      this.epoch++;
      for (const reject of [...this.#onLost]) reject(new Error("The connection was lost"));
      onClosed?.();
    });
  }

  /** Resolves when there is a connection; rejects after `withinMs`. */
  async ready(withinMs: number): Promise<void> {
    if (this.redis.status === "ready") return;
    await new Promise<void>((resolve, reject) => {
      const onReady = () => {
        clearTimeout(timer);
        this.#onReady.delete(onReady);
        resolve();
      };
      const timer = setTimeout(() => {
        this.#onReady.delete(onReady);
        reject(new Error("The primary cannot be reached"));
      }, withinMs);
      this.#onReady.add(onReady);
    });
  }

  /** An answer, or the loss of the connection: what was under way may be sent again over the next one, or wait for its time-out. */
  answered<T>(answer: Promise<T>): Promise<T> {
    return new Promise<T>((resolve, reject) => {
      const settle = () => this.#onLost.delete(reject);
      this.#onLost.add(reject);
      answer.then(resolve, reject).finally(settle);
    });
  }
}
