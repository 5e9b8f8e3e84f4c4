/**
 * Tells a reader that doesn't read from one that has nothing to read (P10): bytes that wait while none are taken for
 * `afterMs` are a stall. Any progress starts the time anew.
 */
export class StallWatch {
  readonly #afterMs: number;
  readonly #onStall: () => void;
  #waiting = 0;
  #timer: NodeJS.Timeout | null = null;

  constructor(afterMs: number, onStall: () => void) {
    this.#afterMs = afterMs;
    this.#onStall = onStall;
  }

  /** Bytes were handed over that the reader has not taken yet. */
  waiting(): void {
    this.#waiting += 1;
    if (this.#waiting > 1) return;
    // One timer for the life of the connection: refresh() costs a tenth of setting and clearing one for each write.
    if (this.#timer !== null) this.#timer.refresh();
    else {
      this.#timer = setTimeout(() => {
        if (this.#waiting > 0) this.#onStall();
      }, this.#afterMs).unref();
    }
  }

  /** Some that waited were taken. */
  taken(): void {
    this.#waiting -= 1;
    if (this.#waiting > 0) this.#timer?.refresh();
  }

  stop(): void {
    this.#waiting = 0;
    if (this.#timer !== null) clearTimeout(this.#timer);
  }
}
