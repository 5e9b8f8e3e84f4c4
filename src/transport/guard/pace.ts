import { Bucket } from "./rate.ts";

/** A socket whose messages may be left in the network for a while. */
export interface Pausable {
  pause(): void;
  resume(): void;
}

const burstSeconds = 4;

/**
 * Reads no faster than `perSecond`, a few seconds' worth at once excepted. A client that sends more is slowed down by its
 * own network: nothing of it piles up here, nothing is lost, and it costs no more than its share.
 */
export class Pace {
  readonly #socket: Pausable;
  readonly #bucket: Bucket;
  readonly #onHeld: () => void;
  readonly #mayResume: () => boolean;
  #timer: NodeJS.Timeout | null = null;
  #until = 0;

  /** `onHeld`: it was too much just now. `mayResume`: nothing else keeps the socket from being read. */
  constructor(socket: Pausable, perSecond: number, onHeld: () => void, mayResume: () => boolean) {
    this.#socket = socket;
    this.#bucket = new Bucket(perSecond, perSecond * burstSeconds, performance.now());
    this.#onHeld = onHeld;
    this.#mayResume = mayResume;
  }

  /** Nothing is to be read now, whatever else would allow it. */
  get holds(): boolean {
    return this.#timer !== null;
  }

  /** A message or a ping has come. */
  count(): void {
    const now = performance.now();
    const waitMs = this.#bucket.take(now);
    if (waitMs === 0) return;
    // What was read from the network already still comes, and makes the wait longer.
    this.#until = now + waitMs;
    if (this.#timer !== null) return;
    this.#onHeld();
    this.#socket.pause();
    this.#plan(waitMs);
  }

  stop(): void {
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#timer = null;
  }

  #plan(waitMs: number): void {
    this.#timer = setTimeout(() => {
      const left = this.#until - performance.now();
      this.#timer = null;
      if (left > 0) this.#plan(left);
      else if (this.#mayResume()) this.#socket.resume();
    }, waitMs).unref();
  }
}
