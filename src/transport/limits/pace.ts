import { Bucket } from "./rate.ts";

/** A socket whose messages may be left in the network for a while. */
export interface Pausable {
  pause(): void;
  resume(): void;
}

/**
 * Reads no faster than `perSecond`, a few seconds' worth at once excepted. A client that sends more is slowed down by its
 * own network: nothing of it piles up here, nothing is lost, and it costs no more than its share.
 */
export interface Pace {
  /** A message or a ping has come. */
  count(): void;
  /** Nothing is to be read now, whatever else would allow it. */
  readonly holds: boolean;
  stop(): void;
}

const burstSeconds = 4;

/** `onHeld`: it was too much just now. `mayResume`: nothing else keeps the socket from being read. */
export function paceOf(socket: Pausable, perSecond: number, onHeld: () => void, mayResume: () => boolean): Pace {
  const bucket = new Bucket(perSecond, perSecond * burstSeconds, performance.now());
  let timer: NodeJS.Timeout | null = null;
  let until = 0;
  const plan = (waitMs: number) => {
    timer = setTimeout(go, waitMs).unref();
  };
  const go = () => {
    const left = until - performance.now();
    timer = null;
    if (left > 0) plan(left);
    else if (mayResume()) socket.resume();
  };
  return {
    get holds() {
      return timer !== null;
    },
    count() {
      const now = performance.now();
      const waitMs = bucket.take(now);
      if (waitMs === 0) return;
      // What was read from the network already still comes, and makes the wait longer.
      until = now + waitMs;
      if (timer !== null) return;
      onHeld();
      socket.pause();
      plan(waitMs);
    },
    stop() {
      if (timer !== null) clearTimeout(timer);
      timer = null;
    },
  };
}
