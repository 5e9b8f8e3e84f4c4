import type { RunRow } from "./documents.ts";

/** One reply being made. */
export interface RunInfo {
  readonly id: string;
  /** Of the message that it makes. */
  readonly replyId: string;
  readonly status: "QUEUED" | "RUNNING" | "COMPLETED" | "CANCELLED" | "FAILED";
  readonly model: string;
}

export interface RunError {
  readonly code: string;
  readonly message: string;
  readonly retryable: boolean;
}

export function runOf({ id, replyId, status, model }: RunRow): RunInfo {
  return { id, replyId, status, model };
}

export function hasEnded({ status }: RunInfo): boolean {
  return status === "COMPLETED" || status === "CANCELLED" || status === "FAILED";
}
