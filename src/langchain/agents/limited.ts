import { ModelFailure, runError } from "../models/failure.ts";

interface Limited {
  readonly signal: AbortSignal;
  /** null: its time is not over. */
  readonly failure: () => unknown;
  /** Its signal aborts, for this reason, which is its failure. */
  readonly stop: (reason: unknown) => void;
  readonly end: () => void;
}

/** A signal that also aborts after a time. A controller of its own: libraries leave listeners behind on a signal that lives longer. */
export function limited(
  outer: AbortSignal,
  ms: number | null,
  reason: Error = new ModelFailure(runError("RUN_TIMEOUT")),
): Limited {
  const controller = new AbortController();
  let failure: unknown = null;
  const abort = (): void => controller.abort(outer.reason);
  if (outer.aborted) abort();
  outer.addEventListener("abort", abort, { once: true });
  const stop = (why: unknown): void => {
    failure ??= why;
    controller.abort(why);
  };
  const timer = ms === null ? undefined : setTimeout(stop, ms, reason);
  return {
    signal: controller.signal,
    failure: () => failure,
    stop,
    end() {
      clearTimeout(timer);
      outer.removeEventListener("abort", abort);
    },
  };
}

export function aborted(signal: AbortSignal): Promise<never> {
  return new Promise((_, reject) => {
    const abort = (): void => reject(signal.reason instanceof Error ? signal.reason : new Error("Aborted"));
    if (signal.aborted) abort();
    signal.addEventListener("abort", abort, { once: true });
  });
}
