/**
 * A bucket of tokens that fills at `perSecond`, up to `burst`. Taking what is not there leaves a debt, which is how long
 * the next must wait. Times are milliseconds of a monotonic clock.
 */
export class Bucket {
  readonly #perMs: number;
  readonly #burst: number;
  #tokens: number;
  #at: number;

  constructor(perSecond: number, burst: number, now: number) {
    this.#perMs = perSecond / 1000;
    this.#burst = burst;
    this.#tokens = burst;
    this.#at = now;
  }

  /** Takes one; gives how many ms until there is no debt: 0 where there is none. */
  take(now: number): number {
    this.#fill(now);
    this.#tokens -= 1;
    return this.#tokens >= 0 ? 0 : -this.#tokens / this.#perMs;
  }

  /** Takes one only where there is one; gives 0 then, else how many ms until there is. */
  tryTake(now: number): number {
    this.#fill(now);
    if (this.#tokens < 1) return (1 - this.#tokens) / this.#perMs;
    this.#tokens -= 1;
    return 0;
  }

  isFull(now: number): boolean {
    this.#fill(now);
    return this.#tokens >= this.#burst;
  }

  #fill(now: number): void {
    this.#tokens = Math.min(this.#burst, this.#tokens + (now - this.#at) * this.#perMs);
    this.#at = now;
  }
}

/** Beyond it the least recently seen are forgotten, which can only let them do more. */
const mostKeys = 100_000;

/** A bucket for each key, as long as it is not full. */
export class Rates {
  readonly #perMinute: number;
  readonly #buckets = new Map<string, Bucket>();

  constructor(perMinute: number) {
    this.#perMinute = perMinute;
  }

  /** 0: it may; else in how many seconds it may again. */
  take(key: string, now = performance.now()): number {
    const known = this.#buckets.get(key);
    const bucket = known ?? new Bucket(this.#perMinute / 60, this.#perMinute, now);
    // Moved to the end, so that the first is the one seen longest ago.
    if (known) this.#buckets.delete(key);
    this.#buckets.set(key, bucket);
    const waitMs = bucket.tryTake(now);
    this.#forget(now);
    return Math.ceil(waitMs / 1000);
  }

  /** A few at a time: those that were not seen for so long that they start anew, and what is too much. */
  #forget(now: number): void {
    let looked = 0;
    for (const [key, bucket] of this.#buckets) {
      if (looked++ === 2 || (this.#buckets.size <= mostKeys && !bucket.isFull(now))) return;
      this.#buckets.delete(key);
    }
  }
}
