import { AsyncLocalStorage } from "node:async_hooks";

/** How a piece of work ended that was under watch. */
export type Watched<T> =
  | { readonly kind: "done"; readonly value: T }
  | { readonly kind: "threw"; readonly error: unknown }
  | { readonly kind: "cancelled" }
  | { readonly kind: "timedOut" };

/** The longest time that a timer of Node takes; beyond it, it would fire at once. */
const longestTimerMs = 2 ** 31 - 1;

/** What runs under watch may ask and tell, however deep it is. */
export interface Watch {
  /** Until the work counts as silent for too long. */
  readonly remainingMs: () => number;
  /** Something was heard of it. */
  readonly touch: () => void;
}

const watches = new AsyncLocalStorage<Watch>();

/** Of the work that the caller is part of; null: nobody watches it. */
export function currentWatch(): Watch | null {
  return watches.getStore() ?? null;
}

/**
 * Runs `work` until it ends, `outer` aborts or nothing was heard of it (`touch`) for `idleMs`. In the last two cases its
 * signal aborts and this settles at once, also where the work ignores its signal: what it does then is nobody's concern.
 */
export function watched<T>(
  outer: AbortSignal,
  idleMs: number,
  work: (signal: AbortSignal, touch: () => void) => Promise<T>,
): Promise<Watched<T>> {
  if (outer.aborted) return Promise.resolve({ kind: "cancelled" });
  const { promise, resolve } = Promise.withResolvers<Watched<T>>();
  // A controller of its own, since the libraries below leave listeners behind on a signal that lives longer than they.
  const inner = new AbortController();
  let settled = false;
  const settle = (end: Watched<T>): void => {
    settled = true;
    clearTimeout(timer);
    outer.removeEventListener("abort", cancel);
    resolve(end);
  };
  const cancel = (): void => {
    settle({ kind: "cancelled" });
    inner.abort();
  };
  const timer = setTimeout(
    () => {
      settle({ kind: "timedOut" });
      inner.abort();
    },
    Math.min(idleMs, longestTimerMs),
  );
  outer.addEventListener("abort", cancel, { once: true });
  let heardAt = performance.now();
  // Refreshing a timer that was cleared would start it again.
  const touch = (): void => {
    if (settled) return;
    heardAt = performance.now();
    timer.refresh();
  };
  const watch: Watch = { remainingMs: () => heardAt + idleMs - performance.now(), touch };
  const begun = watches.run(watch, () => work(inner.signal, touch));
  begun.then(
    (value) => settle({ kind: "done", value }),
    (error: unknown) => settle({ kind: "threw", error }),
  );
  return promise;
}

/** Work within what is watched during which nothing is to be heard of it, or only while `isHeard`. */
export async function unheard<T>(work: () => Promise<T>, isHeard: () => boolean = () => false): Promise<T> {
  const watch = currentWatch();
  if (watch === null) return await work();
  watch.touch();
  const touch = (): void => {
    if (!isHeard()) watch.touch();
  };
  const touching = setInterval(touch, Math.max(10, Math.min(1000, watch.remainingMs() / 3)));
  try {
    return await work();
  } finally {
    clearInterval(touching);
    watch.touch();
  }
}
