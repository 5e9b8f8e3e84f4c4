import { isObject } from "../conversation/json.ts";
import type { RunError, RunErrorCode } from "../conversation/run.ts";

// What went wrong with a model, as a RunError. Providers put keys, addresses and whole requests into their messages, so
// none of their words is passed on: only status, code and class decide, and the words are ours.

/** A failure that is known where it is thrown; `error` is what the run shows. */
export class ModelFailure extends Error {
  override readonly name = "ModelFailure";
  readonly error: RunError;

  constructor(error: RunError, options?: ErrorOptions) {
    super(error.message, options);
    this.error = error;
  }
}

type ModelErrorCode = Exclude<RunErrorCode, "RUN_LOST">;

const told: Readonly<Record<ModelErrorCode, Omit<RunError, "code">>> = {
  MODEL_RATE_LIMITED: {
    message: "The model is getting too many requests right now. Try again in a moment.",
    retryable: true,
  },
  MODEL_UNAVAILABLE: { message: "The model cannot be reached right now. Try again in a moment.", retryable: true },
  MODEL_TIMEOUT: { message: "The model took too long to answer. Try again.", retryable: true },
  MODEL_UNAUTHORIZED: { message: "The model's provider refused the gateway's API key.", retryable: false },
  CONTEXT_TOO_LONG: {
    message:
      "The conversation is too long for this model. Start a new one, or choose a memory strategy that sends less.",
    retryable: false,
  },
  CONTENT_REFUSED: { message: "The model's provider refused this content.", retryable: false },
  REPLY_CUT_OFF: { message: "The reply broke off before it was complete. Try again.", retryable: true },
  OTHER: { message: "The model could not answer.", retryable: true },
};

/** `message` and `retryable` where the usual ones do not fit. */
export function runError(code: ModelErrorCode, other: Partial<Omit<RunError, "code">> = {}): RunError {
  return { code, ...told[code], ...other };
}

/**
 * `started`: the model had begun to answer, so a connection that ends is a reply cut off and not a model that cannot
 * be reached.
 */
export function failureOf(error: unknown, started: boolean): RunError {
  if (error instanceof ModelFailure) return error.error;
  const { statuses, names, text } = symptomsOf(error);
  const has = (...wanted: string[]): boolean => wanted.some((name) => names.has(name));
  const status = (test: (status: number) => boolean): boolean => statuses.some(test);

  if (has("ContextOverflowError", "context_length_exceeded", "string_above_max_length")) {
    return runError("CONTEXT_TOO_LONG");
  }
  if (has("content_filter", "content_policy_violation", "ResponsibleAIPolicyViolation", "ModelRefusalError")) {
    return runError("CONTENT_REFUSED");
  }
  if (has("insufficient_quota", "InsufficientQuotaError", "RateLimitQuotaExhaustedError", "billing_error")) {
    return runError("MODEL_RATE_LIMITED", {
      message: "The gateway's quota with the model's provider is used up.",
      retryable: false,
    });
  }
  if (status((code) => code === 429) || has("rate_limit_exceeded", "rate_limit_error")) {
    return runError("MODEL_RATE_LIMITED");
  }
  if (
    status((code) => code === 401 || code === 403) ||
    has("invalid_api_key", "authentication_error", "permission_error")
  ) {
    return runError("MODEL_UNAUTHORIZED");
  }
  if (status((code) => code === 404) || has("model_not_found", "not_found_error")) {
    return runError("MODEL_UNAVAILABLE", {
      message: "The model's provider does not have this model.",
      retryable: false,
    });
  }
  if (
    status((code) => code === 408) ||
    has("TimeoutError", "APIConnectionTimeoutError", "ETIMEDOUT", ...undiciTimeouts)
  ) {
    return runError("MODEL_TIMEOUT");
  }
  if (status((code) => code >= 500) || has("server_error", "api_error", "overloaded_error", "internal_error")) {
    return runError("MODEL_UNAVAILABLE");
  }
  // Most compatible servers give a 400 without a code here, and only their words tell it from other bad requests.
  if (status((code) => code === 400 || code === 413) && contextWords.test(text)) return runError("CONTEXT_TOO_LONG");
  if (status((code) => code >= 400)) {
    return runError("OTHER", { message: "The model's provider did not accept the request.", retryable: false });
  }
  if (has("APIConnectionError", "SocketError", ...socketCodes) || hasWords(text, "terminated", "fetch failed")) {
    return runError(started ? "REPLY_CUT_OFF" : "MODEL_UNAVAILABLE");
  }
  // LangChain's words for a stream without a single piece; it has no code for it.
  if (hasWords(text, "Received empty response from chat model call.")) return runError("REPLY_CUT_OFF");
  // A frame that ends in the middle is no JSON.
  if (started && has("SyntaxError")) return runError("REPLY_CUT_OFF");
  return runError("OTHER");
}

const undiciTimeouts = ["UND_ERR_HEADERS_TIMEOUT", "UND_ERR_BODY_TIMEOUT", "UND_ERR_CONNECT_TIMEOUT"];
const socketCodes = [
  "ECONNREFUSED",
  "ECONNRESET",
  "ENOTFOUND",
  "EAI_AGAIN",
  "EHOSTUNREACH",
  "ENETUNREACH",
  "EPIPE",
  "UND_ERR_SOCKET",
  "ERR_STREAM_PREMATURE_CLOSE",
];
const contextWords = /context (?:length|window|size)|maximum context|prompt is too long|too many (?:input )?tokens/i;

interface Symptoms {
  readonly statuses: readonly number[];
  /** Codes, types and class names. */
  readonly names: ReadonlySet<string>;
  /** The messages, one a line; never shown. */
  readonly text: string;
}

/** SDKs wrap: the cause, the body of the answer and the response hold what the error itself does not. */
function symptomsOf(error: unknown): Symptoms {
  const statuses: number[] = [];
  const names = new Set<string>();
  const texts: string[] = [];
  const look = (value: unknown, depth: number): void => {
    if (!isObject(value) || depth > 5) return;
    for (const key of ["status", "statusCode", "code"]) {
      const number = value[key];
      if (typeof number === "number") statuses.push(number);
    }
    for (const key of ["name", "code", "type", "lc_error_code"]) {
      const name = value[key];
      if (typeof name === "string") names.add(name);
    }
    if (value instanceof Error) names.add(value.constructor.name);
    if (typeof value["message"] === "string") texts.push(value["message"]);
    for (const key of ["cause", "error", "innererror", "response"]) look(value[key], depth + 1);
  };
  look(error, 0);
  return { statuses, names, text: texts.join("\n") };
}

function hasWords(text: string, ...lines: string[]): boolean {
  return text.split("\n").some((line) => lines.includes(line));
}
