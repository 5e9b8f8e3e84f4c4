import type { RunError, RunErrorCode } from "../../conversation/run.ts";
import {
  balanceWords,
  contextCodes,
  contextWords,
  limitWords,
  quotaCodes,
  quotaWords,
  rateLimitCodes,
  refusalCodes,
  refusalWords,
  retryWords,
  socketCodes,
  tooLargeWords,
  undiciTimeouts,
} from "./provider-words.ts";
import { retryAfterSecondsOf, symptomsOf, type Symptoms } from "./symptoms.ts";

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

type ModelErrorCode = Exclude<RunErrorCode, "RUN_LOST" | "APPROVAL_EXPIRED">;

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
  TOOL_LIMIT: { message: "The agent asked its model or its tools more often than it may.", retryable: true },
  RUN_TIMEOUT: { message: "The agent took too long to answer.", retryable: true },
  CANNOT_WAIT: {
    message:
      "The agent asked for an answer in the middle of its work (LangGraph's interrupt()), and cannot wait for one. Only calls of tools that need an approval can wait.",
    retryable: false,
  },
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
  const symptoms = symptomsOf(error);
  const failure = kindOf(symptoms, started);
  if (!failure.retryable) return failure;
  const seconds = retryAfterSecondsOf(symptoms);
  return seconds === null ? failure : { ...failure, retryAfterSeconds: seconds };
}

/** How a tool's failure ends the whole run, where its model can do nothing about it; null: the model is told that the tool failed. */
export function endingFailure(ofTool: unknown): ModelFailure | null {
  const failure = failureOf(ofTool, true);
  return failure.code === "CANNOT_WAIT" ? new ModelFailure(failure) : null;
}

/** By code first: words are looked at where no code decides. */
function kindOf({ statuses, names, text }: Symptoms, started: boolean): RunError {
  const has = (...wanted: string[]): boolean => wanted.some((name) => names.has(name));
  const status = (test: (status: number) => boolean): boolean => statuses.some(test);
  const isLimited = status((code) => code === 429) || has(...rateLimitCodes);

  // interrupt() throws the one without a checkpointer, as every run is, and the other with one of a graph within.
  if (has("MISSING_CHECKPOINTER", "GraphInterrupt")) return runError("CANNOT_WAIT");
  if (has(...contextCodes) || tooLargeWords.test(text)) return runError("CONTEXT_TOO_LONG");
  if (has(...refusalCodes)) return runError("CONTENT_REFUSED");
  if (has("not_openai")) {
    return runError("MODEL_UNAVAILABLE", {
      message: "The model's server does not answer in OpenAI's format.",
      retryable: false,
    });
  }
  if (has("reply_cut_off")) return runError("REPLY_CUT_OFF");
  // Gemini's words for any limit speak of the quota; where it says when to come back, that is all it means.
  const isExhausted = quotaWords.test(text) && !(isLimited && retryWords.test(text));
  if (
    status((code) => code === 402) ||
    has(...quotaCodes) ||
    (balanceWords.test(text) && status((code) => code === 500)) ||
    (isExhausted && (isLimited || status((code) => code === 400 || code === 403)))
  ) {
    return runError("MODEL_RATE_LIMITED", {
      message: "The gateway's quota with the model's provider is used up.",
      retryable: false,
    });
  }
  if (isLimited) return runError("MODEL_RATE_LIMITED");
  // Most compatible servers have no code for it, and only their words tell it from other bad requests, or from a broken server.
  const isOfAnother = status((code) => code > 400 && ![413, 422, 500].includes(code));
  if (!isOfAnother && contextWords.test(text)) {
    return runError(limitWords.test(text) ? "MODEL_RATE_LIMITED" : "CONTEXT_TOO_LONG");
  }
  if (status((code) => code === 400 || code === 403 || code === 451) && refusalWords.test(text)) {
    return runError("CONTENT_REFUSED");
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
  if (status((code) => code >= 498) || has("server_error", "api_error", "overloaded_error", "internal_error")) {
    return runError("MODEL_UNAVAILABLE");
  }
  if (status((code) => code >= 400) || has("invalid_request_error")) {
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

function hasWords(text: string, ...lines: string[]): boolean {
  return text.split("\n").some((line) => lines.includes(line));
}
