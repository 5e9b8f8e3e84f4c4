import { isObject } from "../../conversation/message/json.ts";
import { failureOf } from "./failure.ts";
import { currentWatch } from "./watched.ts";

/**
 * LangChain asks this after each failed request of a model, and tries again unless it throws. Once more is asked only what
 * may succeed, and only as long as somebody waits: a provider that wants to be left alone for longer is what has gone wrong.
 */
export function onFailedAttempt(error: unknown): void {
  if (error instanceof Error && error.name === "AbortError") throw error;
  const { code, retryable, retryAfterSeconds } = failureOf(error, false);
  // A limit that says nothing of its end is more likely to last than to be over in a second.
  if (!retryable || (code === "MODEL_RATE_LIMITED" && retryAfterSeconds === undefined)) throw error;
  if (retryAfterSeconds === undefined) return;
  const waitMs = retryAfterSeconds * 1000;
  const remainingMs = currentWatch()?.remainingMs() ?? Infinity;
  if (waitMs >= remainingMs) throw error;
  // LangChain waits at least so long.
  if (isObject(error)) Object.assign(error, { retryAfterMs: waitMs });
}
