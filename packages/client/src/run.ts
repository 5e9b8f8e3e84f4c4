import type { RunRow } from "./documents.ts";
import type { ToolStatus } from "./message.ts";

/** One reply being made. */
export interface RunInfo {
  readonly id: string;
  /** Of the message that it makes. */
  readonly replyId: string;
  /** WAITING: somebody has to decide on the calls of tools in `approvals`, or a page has to carry them out. */
  readonly status: "QUEUED" | "RUNNING" | "WAITING" | "COMPLETED" | "CANCELLED" | "FAILED";
  readonly model: string;
  /** Of the message that it answers; null where that is not known yet. */
  readonly userMessageId: string | null;
  /** What it waits for; empty unless it is WAITING. */
  readonly approvals: readonly Approval[];
  /** When it is given up, unless somebody has decided by then; null unless it is WAITING. */
  readonly waitsUntil: string | null;
}

/** A call of a tool that goes on only when somebody has decided on it, or a page has carried it out. */
export interface Approval {
  readonly callId: string;
  readonly name: string;
  readonly args: Readonly<Record<string, unknown>>;
  /** NEEDS_APPROVAL; of a page's tool NEEDS_RESULT, and RUNNING once a page has begun it. */
  readonly status: ToolStatus;
  /** What may be decided; a gateway of a later version may have more of them. */
  readonly allowed: readonly string[];
}

/** What becomes of a call. The first decision on a call counts. */
export type Decision =
  | { readonly approve: { readonly callId: string } }
  /** All of the arguments that it is called with. */
  | { readonly edit: { readonly callId: string; readonly args: Readonly<Record<string, unknown>> } }
  | { readonly reject: { readonly callId: string; readonly reason?: string } }
  /** Of a tool of the page's: of the pages that begin a call one does. */
  | { readonly begin: { readonly callId: string } }
  | { readonly result: { readonly callId: string; readonly text: string; readonly failed?: boolean } };

export interface RunError {
  readonly code: string;
  readonly message: string;
  readonly retryable: boolean;
}

export function runOf({ id, replyId, status, model, userMessageId, approvals, waitsUntil }: RunRow): RunInfo {
  return { id, replyId, status, model, userMessageId, approvals, waitsUntil };
}

/** One that went away with its session, or is forgotten. */
export function lostRun(id: string): RunInfo {
  return { id, replyId: "", status: "CANCELLED", model: "", userMessageId: null, approvals: [], waitsUntil: null };
}

export function hasEnded({ status }: RunInfo): boolean {
  return status === "COMPLETED" || status === "CANCELLED" || status === "FAILED";
}
