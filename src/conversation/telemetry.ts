import type { TokenUsage } from "./message.ts";
import type { RunErrorCode } from "./run.ts";

export type OperationType = "query" | "mutation" | "subscription" | "unknown";

export interface OperationReport {
  /** "unknown": it was refused before it could be read. */
  readonly type: OperationType;
  /** The root field of the schema that it selects, "several", or "" where it was not read. Never a name of the caller's. */
  readonly field: string;
  /** "OK", or the code of its first error. */
  readonly code: string;
  /** Until its answer, of a subscription until it was open. */
  readonly seconds: number;
}

/** How a run ended for the process that made it. CLOSED: by somebody else (cancelled, interrupted, deleted, taken over). */
export type RunEnding = "COMPLETED" | "FAILED" | "CLOSED";

/** The port to the operator's view. Nothing that is told names a user, a session or a text; nothing throws. */
export interface Telemetry {
  operation(report: OperationReport): void;
  /** A request or a socket was refused before there was an operation in it. */
  refused(code: string): void;
  /** A stream over HTTP (SSE, multipart) began. Returns what to call at its end. */
  streamOpened(): () => void;
  runEnded(ending: RunEnding, code: RunErrorCode | null, seconds: number): void;
  /** From the beginning of a run to its first text. */
  firstText(seconds: number): void;
  tokens(usage: TokenUsage): void;
  /** A subscriber had fallen behind its feed and read on from its own place: so many events in one reading. */
  caughtUp(events: number): void;
  /** `name`: a script's, or a command's in lower case. */
  redisCommand(name: string, seconds: number, failed: boolean): void;
  redisReconnected(role: string): void;
}

const nothing = () => undefined;

export const silentTelemetry: Telemetry = {
  operation: nothing,
  refused: nothing,
  streamOpened: () => nothing,
  runEnded: nothing,
  firstText: nothing,
  tokens: nothing,
  caughtUp: nothing,
  redisCommand: nothing,
  redisReconnected: nothing,
};
