import { isObject, type JsonObject } from "../../conversation/message/json.ts";

/** What a reply cost, as OpenAI's chat format tells it. */
export interface WireUsage {
  readonly prompt_tokens: number;
  readonly completion_tokens: number;
  readonly total_tokens: number;
  readonly prompt_tokens_details?: JsonObject;
  readonly completion_tokens_details?: JsonObject;
}

/**
 * `given` on top of what was told before. Servers tell it with every chunk, growing, or the input first and the output
 * last, so the greatest of each counts. null: nothing was counted yet; a count of nothing at all is none.
 */
export function mergedUsage(before: WireUsage | null, given: unknown): WireUsage | null {
  if (!isObject(given)) return before;
  const input = countOf(given["prompt_tokens"], given["input_tokens"]);
  const output = countOf(given["completion_tokens"], given["output_tokens"]);
  const total = countOf(given["total_tokens"]);
  // Of a total alone nobody knows the parts; all of it as input keeps the sum.
  const prompt_tokens = Math.max(before?.prompt_tokens ?? 0, input ?? Math.max(0, (total ?? 0) - (output ?? 0)));
  const completion_tokens = Math.max(before?.completion_tokens ?? 0, output ?? 0);
  // More than the sum is right: Gemini counts its thoughts in the total only.
  const total_tokens = Math.max(before?.total_tokens ?? 0, total ?? 0, prompt_tokens + completion_tokens);
  if (total_tokens === 0) return before;
  const promptDetails =
    given["prompt_tokens_details"] ?? given["input_tokens_details"] ?? before?.prompt_tokens_details;
  const completionDetails =
    given["completion_tokens_details"] ?? given["output_tokens_details"] ?? before?.completion_tokens_details;
  return {
    prompt_tokens,
    completion_tokens,
    total_tokens,
    ...(isObject(promptDetails) ? { prompt_tokens_details: promptDetails } : {}),
    ...(isObject(completionDetails) ? { completion_tokens_details: completionDetails } : {}),
  };
}

/** The same in the form of the Responses API. */
export function responsesUsage(given: unknown): JsonObject | null {
  const usage = mergedUsage(null, given);
  return usage === null
    ? null
    : {
        input_tokens: usage.prompt_tokens,
        output_tokens: usage.completion_tokens,
        total_tokens: usage.total_tokens,
        input_tokens_details: usage.prompt_tokens_details ?? {},
        output_tokens_details: usage.completion_tokens_details ?? {},
      };
}

function countOf(...values: readonly unknown[]): number | null {
  const count = values.find((value) => typeof value === "number" && Number.isSafeInteger(value) && value >= 0);
  return typeof count === "number" ? count : null;
}
