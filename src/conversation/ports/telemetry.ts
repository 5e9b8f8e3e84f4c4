import type { LimitName } from "../limit-names.ts";
import type { TokenUsage } from "../message/message.ts";
import type { RunErrorCode } from "../run.ts";

export type OperationType = "query" | "mutation" | "subscription" | "unknown";

interface OperationReport {
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

/** How a call of a tool ended. CANCELLED: the run was over before. */
export type ToolOutcome = "OK" | "FAILED" | "TIMEOUT" | "CANCELLED";

/** Work that is followed from its beginning to its end, what it causes inside it: the spans of a trace. */
export type Work =
  /** An HTTP request to the endpoint, or the handshake of a WebSocket. `headers` may say where its trace comes from. */
  | { readonly kind: "request"; readonly method: string; readonly path: string; readonly headers: CallerHeaders }
  /** An operation's message over a WebSocket. `within`: the handshake it came by; `given`: its own traceparent. */
  | { readonly kind: "message"; readonly path: string; readonly within: Span; readonly given: unknown }
  | {
      readonly kind: "operation";
      readonly type: OperationType;
      readonly field: string;
      /** The caller's own word for it. */
      readonly name: string | null;
    }
  /** `origin`: the traceparent of the request that asked for it, in any process. */
  | { readonly kind: "run"; readonly runId: string; readonly origin: string | null }
  | { readonly kind: "chain"; readonly memory: string }
  | { readonly kind: "model"; readonly model: string; readonly purpose: "reply" | "title" | "summary" }
  /** A call of a tool; both names are the operator's. */
  | { readonly kind: "tool"; readonly agent: string; readonly tool: string }
  /** What is remembered of a session in short is made anew, off a turn's path. */
  | { readonly kind: "summary" }
  /** A session gets a title by itself, off a turn's path. */
  | { readonly kind: "title" };

interface CallerHeaders {
  get(name: string): string | null;
}

/** What shows only on the way. */
export interface Facts {
  /** Of an HTTP answer. */
  readonly status?: number;
  readonly usage?: TokenUsage | null;
  readonly responseModel?: string;
  readonly finishReason?: string;
  /** Its first text is there. */
  readonly firstText?: true;
  /** Of a run. */
  readonly outcome?: RunEnding | "WAITING";
}

export interface Span {
  /** What `work` does, also later and in what it starts, belongs to this. */
  inside<Result>(work: () => Result): Result;
  tell(facts: Facts): void;
  /** "OK", or the code of what went wrong. Only the first call counts. */
  end(code: string): void;
}

/** Where in which trace the caller is. */
interface TraceContext {
  readonly traceId: string;
  readonly spanId: string;
  /** Both, as W3C Trace Context writes them, to go on with the trace elsewhere. */
  readonly traceparent: string;
}

/** The port to the operator's view. Nothing that is told names a user, a session or a text; nothing throws. */
export interface Telemetry {
  begin(work: Work): Span;
  /** null: nobody follows what is done here. */
  here(): TraceContext | null;
  operation(report: OperationReport): void;
  /** A request or a socket was refused before there was an operation in it. */
  refused(code: string): void;
  /** Somebody had as much as may be of this, and got no more. */
  limited(limit: LimitName): void;
  /** A stream over HTTP (SSE, multipart) began. Returns what to call at its end. */
  streamOpened(): () => void;
  runEnded(ending: RunEnding, code: RunErrorCode | null, seconds: number): void;
  /** Both names are the operator's. */
  toolEnded(agent: string, tool: string, outcome: ToolOutcome, seconds: number): void;
  /** From the beginning of a run to its first text. */
  firstText(seconds: number): void;
  tokens(usage: TokenUsage): void;
  /** A request to a model's provider was sent again: its connection, kept from an earlier one, had been closed. */
  modelReconnected(): void;
  /** A subscriber had fallen behind its feed and read on from its own place: so many events in one reading. */
  caughtUp(events: number): void;
  /**
   * A command is sent. `name`: a script's, or a command's in lower case. Returns what to call with its answer: null, or
   * the code of its failure.
   */
  redisCommand(name: string, isScript: boolean): (failure: string | null) => void;
  redisReconnected(role: string): void;
}

const nothing = () => undefined;

/** Of what nobody follows. */
export const noSpan: Span = { inside: (work) => work(), tell: nothing, end: nothing };

/** Of a Telemetry that follows nothing. */
export const untraced: Pick<Telemetry, "begin" | "here"> = { begin: () => noSpan, here: () => null };

export const silentTelemetry: Telemetry = {
  ...untraced,
  operation: nothing,
  refused: nothing,
  limited: nothing,
  streamOpened: () => nothing,
  runEnded: nothing,
  toolEnded: nothing,
  firstText: nothing,
  tokens: nothing,
  modelReconnected: nothing,
  caughtUp: nothing,
  redisCommand: () => nothing,
  redisReconnected: nothing,
};
