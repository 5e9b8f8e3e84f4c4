/**
 * Tells a reader that doesn't read from one that has nothing to read (P10): bytes that wait while none are taken for
 * `afterMs` are a stall. Any progress starts the time anew.
 */
export interface StallWatch {
  /** Bytes were handed over that the reader has not taken yet. */
  waiting(): void;
  /** Some that waited were taken. */
  taken(): void;
  stop(): void;
}

export function watchStall(afterMs: number, onStall: () => void): StallWatch {
  let waiting = 0;
  let timer: NodeJS.Timeout | null = null;
  const fired = () => {
    if (waiting > 0) onStall();
  };
  return {
    waiting() {
      waiting += 1;
      // One timer for the life of the connection: refresh() costs a tenth of setting and clearing one for each write.
      if (waiting === 1) timer = timer === null ? setTimeout(fired, afterMs).unref() : timer.refresh();
    },
    taken() {
      waiting -= 1;
      if (waiting > 0) timer?.refresh();
    },
    stop() {
      waiting = 0;
      if (timer !== null) clearTimeout(timer);
    },
  };
}
