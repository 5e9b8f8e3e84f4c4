/** Whom a keep-alive looks after: told each time that a ping is due. */
interface KeptAlive {
  keepAlive(): void;
}

/** Each tick wakes the process, also one that has nobody to tell. */
const shortestTickMs = 1000;

/**
 * Pings for many sockets with one timer, which runs while there are any. Each is told once a round. They are spread over
 * it evenly, also where all came at once, so that not all pings of a process go out at once.
 */
export class KeepAlive {
  readonly #everyMs: number;
  readonly #slots: readonly Set<KeptAlive>[];
  #size = 0;
  #current = 0;
  /** Where who comes next stands. */
  #next = 0;
  #timer: NodeJS.Timeout | null = null;

  constructor(everyMs: number) {
    this.#everyMs = everyMs;
    const slots = Math.min(64, Math.max(1, Math.floor(everyMs / shortestTickMs)));
    this.#slots = Array.from({ length: slots }, () => new Set<KeptAlive>());
  }

  /** Gives where it stands in the round. */
  add(one: KeptAlive): number {
    const slot = this.#next;
    this.#next = (slot + 1) % this.#slots.length;
    this.#slots[slot]?.add(one);
    this.#size += 1;
    this.#timer ??= setInterval(() => this.#tick(), this.#everyMs / this.#slots.length).unref();
    return slot;
  }

  /** `slot`: what add() gave. */
  delete(one: KeptAlive, slot: number): void {
    if (this.#slots[slot]?.delete(one) !== true) return;
    this.#size -= 1;
    if (this.#size > 0 || this.#timer === null) return;
    clearInterval(this.#timer);
    this.#timer = null;
  }

  #tick(): void {
    this.#current = (this.#current + 1) % this.#slots.length;
    // Who is cut off now leaves.
    for (const one of this.#slots[this.#current] ?? []) one.keepAlive();
  }
}
