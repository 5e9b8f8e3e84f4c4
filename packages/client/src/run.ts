import type { RunRow } from "./documents.ts";

/** One reply being made. */
export interface RunInfo {
  readonly id: string;
  /** Of the message that it makes. */
  readonly replyId: string;
  readonly status: "QUEUED" | "RUNNING" | "COMPLETED" | "CANCELLED" | "FAILED";
  readonly model: string;
  /** Of the message that it answers; null where that is not known yet. */
  readonly userMessageId: string | null;
}

export interface RunError {
  readonly code: string;
  readonly message: string;
  readonly retryable: boolean;
}

export function runOf({ id, replyId, status, model, userMessageId }: RunRow): RunInfo {
  return { id, replyId, status, model, userMessageId };
}

/** One that went away with its session, or is forgotten. */
export function lostRun(id: string): RunInfo {
  return { id, replyId: "", status: "CANCELLED", model: "", userMessageId: null };
}

export function hasEnded({ status }: RunInfo): boolean {
  return status === "COMPLETED" || status === "CANCELLED" || status === "FAILED";
}
