import type { LimitName } from "./limit-names.ts";
import type { RunStatus } from "./run.ts";

/**
 * Refusals, as a closed union of codes. They reach a client as `extensions.code` of a GraphQL error; whatever is
 * thrown that is not a ParleyError is logged whole and masked as INTERNAL_SERVER_ERROR.
 */
export const errorCodes = [
  "BAD_USER_INPUT",
  "INVALID_CURSOR",
  "CURSOR_EXPIRED",
  "NOT_FOUND",
  "NOT_WAITING",
  "UNAUTHENTICATED",
  "FORBIDDEN",
  "SESSION_BUSY",
  "QUEUE_FULL",
  "RATE_LIMITED",
  "LIMIT_REACHED",
  "OVERLOADED",
  "SESSION_EXISTS",
  "MESSAGE_ID_REUSED",
  "TOO_COMPLEX",
  "PAYLOAD_TOO_LARGE",
  "STORE_UNAVAILABLE",
  "INTERNAL_SERVER_ERROR",
] as const;

export type ErrorCode = (typeof errorCodes)[number];

export interface ErrorDetails {
  /** The input that is wrong, e.g. "input.text" (BAD_USER_INPUT). */
  readonly field?: string;
  /** "<sessionId>:<runId>" of the run that is going (SESSION_BUSY); a client gets it as a global id. */
  readonly runId?: string;
  /** Of that run. */
  readonly status?: RunStatus;
  /** Whole seconds (RATE_LIMITED, QUEUE_FULL, STORE_UNAVAILABLE, OVERLOADED). */
  readonly retryAfterSeconds?: number;
  /** Which one, by its name in limits.ts (RATE_LIMITED, LIMIT_REACHED, OVERLOADED). */
  readonly limit?: LimitName;
}

export class ParleyError extends Error {
  override readonly name = "ParleyError";
  readonly code: ErrorCode;
  readonly details: ErrorDetails;

  constructor(code: ErrorCode, message: string, details: ErrorDetails = {}, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
    this.details = details;
  }
}

/** A page whose rows were not sent: with those of the pages before, they hold more bytes than the reading may. */
export class PageTooLarge extends ParleyError {
  /** Of its rows alone. */
  readonly bytes: number;

  constructor(bytes: number) {
    super("TOO_COMPLEX", `The page would hold ${bytes} bytes. Ask for fewer messages at a time.`, {
      limit: "answerBytes",
    });
    this.bytes = bytes;
  }
}

export function badInput(field: string, message: string): ParleyError {
  return new ParleyError("BAD_USER_INPUT", message, { field });
}

export function notFound(what = "session"): ParleyError {
  return new ParleyError("NOT_FOUND", `There is no such ${what}. It may have been deleted, or it may have expired.`);
}

/** A request met Redis while it was away. The write may or may not stand: a retry with the same id gives the result. */
export function storeUnavailable(cause: unknown): ParleyError {
  return new ParleyError(
    "STORE_UNAVAILABLE",
    "The conversation store cannot be reached right now. Try again; with the same messageId or idempotencyKey a retry is safe.",
    { retryAfterSeconds: 1 },
    { cause },
  );
}

export function messageIdReused(): ParleyError {
  return new ParleyError(
    "MESSAGE_ID_REUSED",
    "This messageId or idempotencyKey was used with other content. Choose a new one for a new message.",
  );
}

export function isStoreUnavailable(error: unknown): error is ParleyError {
  return error instanceof ParleyError && error.code === "STORE_UNAVAILABLE";
}
