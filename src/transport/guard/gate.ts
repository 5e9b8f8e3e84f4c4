import type { Limits } from "../../config/limits.ts";
import type { Place } from "../../operations/exchange.ts";
import type { LimitName } from "../../conversation/limit-names.ts";

/**
 * How much the process executes at a time. What is too much is refused at once, which costs next to nothing, so that what
 * was let in is answered soon (P10) and refused clients come back when there is room.
 *
 *     enter ─▶ executing ─(it waits for a reply)─▶ waiting ─(the reply is there)─▶ executing ─▶ left
 *                  └──────────────────────────(answered)─────────────────────────────▶ left
 */
export interface Gate {
  /** Which limit leaves no room for an operation, or null. */
  full(): LimitName | null;
  /** Takes a place until it is left. It takes one also where there is none. */
  enter(): Place;
  /** So many bytes of an answer are made. Returns what to call once when the network has them, or nobody wants them. */
  hold(bytes: number): () => void;
  /** Operations being executed. */
  readonly size: number;
  close(): void;
}

/** How often the event loop is asked how late it is. */
const tickMs = 100;

type GateLimits = Pick<Limits, "maxConcurrentOperations" | "maxEventLoopLagMs" | "maxPendingAnswerBytes">;

export function createGate(limits: GateLimits): Gate {
  const { maxConcurrentOperations, maxEventLoopLagMs, maxPendingAnswerBytes } = limits;
  let executing = 0;
  let pending = 0;
  let expectedAt = performance.now() + tickMs;
  let lagMs = 0;
  let before = 0;
  const count = (change: 1 | -1) => void (executing += change);
  const timer = setInterval(() => {
    const now = performance.now();
    before = lagMs;
    lagMs = now - expectedAt;
    expectedAt = now + tickMs;
  }, tickMs).unref();

  return {
    get size() {
      return executing;
    },
    full() {
      if (executing >= maxConcurrentOperations) return "operations";
      if (pending > maxPendingAnswerBytes) return "pendingAnswerBytes";
      // Twice in a row: once may be a collection of garbage, or one large answer.
      return Math.min(lagMs, before) > maxEventLoopLagMs ? "eventLoopLag" : null;
    },
    hold(bytes) {
      pending += bytes;
      return () => void (pending -= bytes);
    },
    enter: () => new TakenPlace(count),
    close: () => clearInterval(timer),
  };
}

/** Several fields of one operation may wait at a time: while one of them does, the operation counts as waiting. */
class TakenPlace implements Place {
  readonly #count: (change: 1 | -1) => void;
  #waits = 0;
  #left = false;

  constructor(count: (change: 1 | -1) => void) {
    this.#count = count;
    count(1);
  }

  wait(): () => void {
    if (this.#waits++ === 0 && !this.#left) this.#count(-1);
    let over = false;
    return () => {
      if (over) return;
      over = true;
      if (--this.#waits === 0 && !this.#left) this.#count(1);
    };
  }

  leave(): void {
    if (this.#left) return;
    this.#left = true;
    if (this.#waits === 0) this.#count(-1);
  }
}
