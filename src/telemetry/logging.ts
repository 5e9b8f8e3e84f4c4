import { pino } from "pino";
import type { Logger as FullLogger } from "pino";
import type { LogLevel } from "../config/table.ts";

export type { FullLogger };

interface LoggingOptions {
  readonly level: LogLevel;
  /** For people: coloured lines, where pino-pretty is installed. Else one JSON object a line. */
  readonly pretty: boolean;
  /** For commands whose output is data. Default false: stdout. */
  readonly toStderr?: boolean;
  /** Of several processes that write into one log: which one says so. null: there is one. */
  readonly worker?: number | null;
}

/** Lines about what the gateway does. The text of messages is never among them. */
export async function createLogger(given: LoggingOptions): Promise<FullLogger> {
  const { level, pretty, toStderr = false, worker = null } = given;
  const options = { level, base: worker === null ? null : { worker }, serializers: { err: describeError } };
  const destination = toStderr ? 2 : 1;
  if (!pretty) return pino(options, pino.destination({ dest: destination, sync: true }));
  try {
    const { default: prettyPrint } = await import("pino-pretty");
    return pino(options, prettyPrint({ sync: true, destination, translateTime: "SYS:HH:MM:ss" }));
  } catch {
    // A development tool: an installed package doesn't bring it.
    return pino(options);
  }
}

/** Of a message or a stack, in UTF-16 units. */
const mostChars = 8192;

export interface DescribedError {
  readonly type: string;
  readonly message: string;
  readonly code?: string | number;
  readonly stack?: string;
  readonly cause?: DescribedError;
}

/**
 * Chosen members only: ioredis hangs the command with all its arguments on its errors, GraphQL its document, and both
 * hold what users wrote.
 */
export function describeError(error: unknown, depth = 0): DescribedError {
  if (!(error instanceof Error)) return { type: typeof error, message: "Something was thrown that is no Error." };
  const code =
    "code" in error && (typeof error.code === "string" || typeof error.code === "number") ? error.code : null;
  return {
    type: error.name,
    message: clipped(error.message),
    ...(code === null ? {} : { code }),
    ...(error.stack === undefined ? {} : { stack: clipped(error.stack) }),
    ...(error.cause === undefined || depth > 3 ? {} : { cause: describeError(error.cause, depth + 1) }),
  };
}

/** The error that was described in another process. */
export function errorOf({ type, message, stack, code, cause }: DescribedError): Error {
  const error = new Error(message, cause === undefined ? {} : { cause: errorOf(cause) });
  return Object.assign(error, { name: type, stack }, code === undefined ? {} : { code });
}

function clipped(text: string): string {
  return text.length <= mostChars ? text : `${text.slice(0, mostChars)}…`;
}
