import type { Row, TokenUsage } from "./message/message.ts";

/**
 * A run is one reply being made.
 *
 *                      WAITING ──cancel──▶ CANCELLED
 *                       ▲   │ └──expire──▶ FAILED
 *                     wait  └─respond─┐
 *                       │             ▼
 *     QUEUED ──take──▶ RUNNING ──finish──▶ COMPLETED
 *        │                │ ├───cancel───▶ CANCELLED
 *        └────cancel──▶ CANCELLED
 *                         └─fail, lost──▶ FAILED
 *
 * COMPLETED, CANCELLED and FAILED are final. Each arrow is one Lua script.
 */
export const runStatuses = ["QUEUED", "RUNNING", "WAITING", "COMPLETED", "CANCELLED", "FAILED"] as const;
export type RunStatus = (typeof runStatuses)[number];

export const runErrorCodes = [
  "MODEL_RATE_LIMITED",
  "MODEL_UNAVAILABLE",
  "MODEL_TIMEOUT",
  "MODEL_UNAUTHORIZED",
  "CONTEXT_TOO_LONG",
  "CONTENT_REFUSED",
  "REPLY_CUT_OFF",
  "TOOL_LIMIT",
  "RUN_TIMEOUT",
  "CANNOT_WAIT",
  "APPROVAL_EXPIRED",
  "RUN_LOST",
  "OTHER",
] as const;
export type RunErrorCode = (typeof runErrorCodes)[number];

export interface RunError {
  readonly code: RunErrorCode;
  /** Can be shown to the user: holds no key, address or stack. */
  readonly message: string;
  readonly retryable: boolean;
  /** As the provider said; only where it did. */
  readonly retryAfterSeconds?: number;
}

export interface Run {
  /** A UUIDv7. */
  readonly runId: string;
  readonly sessionId: string;
  readonly historyKey: string;
  /** Of the history it belongs to, for cursors of userRow and replyRow. */
  readonly generation: number;
  readonly status: RunStatus;
  readonly model: string;
  readonly queuedAt: number;
  readonly startedAt: number | null;
  readonly finishedAt: number | null;
  /** Until when it waits for decisions; null: it does not wait. */
  readonly waitsUntil: number | null;
  /** The stored message that was sent; null when regenerating. */
  readonly inputRow: string | null;
  /** The message that it answers, where it is (still) in the history. */
  readonly userRow: Row | null;
  /** Local part of the Message.id that `inputRow` has, or will have; null when regenerating, and of runs of before this was kept. */
  readonly inputLocalId: string | null;
  /** Local part of the reply's Message.id. */
  readonly replyLocalId: string;
  /** The newest reply that it has appended. */
  readonly replyRow: Row | null;
  /** The positions that its rows lie between, both included; others may have appended in between. null: it has appended none. */
  readonly rows: { readonly first: number; readonly last: number } | null;
  /** Of the message that is being made, or was made last. */
  readonly text: string;
  /** What it made beside the text (part-log.ts). */
  readonly log: string;
  readonly error: RunError | null;
  readonly usage: TokenUsage | null;
  /** What the reply was made without, a line each: holds no key, address or stack. */
  readonly notes: readonly string[];
  /** The text is the object that an agent was to give, as JSON. */
  readonly isStructured: boolean;
}

export function isFinal(status: RunStatus): boolean {
  return status === "COMPLETED" || status === "CANCELLED" || status === "FAILED";
}
