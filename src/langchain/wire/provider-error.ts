import { arrayOrEmpty, byWord, isObject, stringOrNull, type JsonObject } from "../../conversation/message/json.ts";

/** A provider's error in OpenAI's form, whatever form it came in. */
export interface ProviderError {
  /** All words of it; only for telling kinds of errors apart, never shown or logged. */
  readonly message: string;
  readonly type: string | null;
  readonly code: string | null;
  readonly param: string | null;
  /** As HTTP would tell it; null where nothing tells. */
  readonly status: number | null;
}

const maxWords = 16_000;
const maxDepth = 6;

/**
 * The error that `body` is: `{error: {…}}`, `{error: "…"}`, Google's `[{error: {…}}]`, vLLM's `{object: "error", message}`,
 * FastAPI's `{detail}`, OpenRouter's upstream error in `metadata.raw`, plain text, or a page of HTML.
 */
export function providerError(body: unknown, httpStatus: number | null = null): ProviderError {
  const words: string[] = [];
  const found = { type: null, code: null, param: null, status: null } as Mutable<Omit<ProviderError, "message">>;
  look(body, 0, words, found);
  const { type, code, param } = found;
  const named = statusByName.get(code?.toLowerCase() ?? "") ?? statusByName.get(type?.toLowerCase() ?? "") ?? null;
  return {
    message: words.join("\n").slice(0, maxWords),
    type,
    code,
    param,
    status: httpStatus ?? found.status ?? named,
  };
}

/** The error that a record of a stream, or a whole body, tells of; null where it tells of none. */
export function errorIn(record: JsonObject): ProviderError | null {
  const { error } = record;
  if ((isObject(error) && !isEmpty(error)) || Array.isArray(error) || (typeof error === "string" && error !== ""))
    return providerError(record);
  if (record["object"] === "error" || record["type"] === "error") return providerError(record);
  const bare = record["choices"] === undefined && record["type"] === undefined && record["usage"] === undefined;
  const tells = stringOrNull(record["message"]) ?? stringOrNull(record["detail"]) ?? record["detail"];
  return bare && record["id"] === undefined && (typeof tells === "string" || Array.isArray(tells))
    ? providerError(record)
    : null;
}

/** Some have the field of an error with each chunk, and nothing in it. */
function isEmpty(error: JsonObject): boolean {
  return Object.values(error).every((value) => value === null || value === "" || value === 0);
}

export function failed(code: string, status: number | null = null): ProviderError {
  return { message: code, type: code, code, param: null, status };
}

/** A reply that ended before it was complete. */
export const cutOff = failed("reply_cut_off");
/** The model refused to answer. Its words have been streamed as text. */
export const refused = failed("content_refused", 400);
/** What came is neither a stream nor JSON: a page, most often. */
export const notOpenAI = failed("not_openai");

export function errorResponse(error: ProviderError, status: number, headers: Headers): Response {
  const json = new Headers(headers);
  json.set("content-type", "application/json");
  json.delete("content-length");
  json.delete("content-encoding");
  return new Response(JSON.stringify({ error }), { status, headers: json });
}

type Mutable<T> = { -readonly [Key in keyof T]: T[Key] };

function look(value: unknown, depth: number, words: string[], found: Mutable<Omit<ProviderError, "message">>): void {
  if (depth > maxDepth) return;
  if (typeof value === "string") {
    words.push(value);
    return;
  }
  if (Array.isArray(value)) {
    // FastAPI names a parameter by its path.
    const path = value.every((part) => typeof part === "string" || typeof part === "number");
    if (path) words.push(value.join("."));
    else for (const one of arrayOrEmpty(value)) look(one, depth + 1, words, found);
    return;
  }
  if (!isObject(value)) return;
  for (const key of ["code", "status", "status_code", "http_code"]) {
    const given = value[key];
    const status = typeof given === "number" ? given : /^[45]\d\d$/.test(String(given)) ? Number(given) : null;
    if (status !== null && status >= 400 && status < 600) found.status ??= status;
    else if (key === "code" && (typeof given === "string" || typeof given === "number")) found.code ??= String(given);
    // Google's name of the kind: RESOURCE_EXHAUSTED.
    else if (key === "status" && typeof given === "string") found.type ??= given;
  }
  found.type ??= stringOrNull(value["type"]) === "error" ? null : stringOrNull(value["type"]);
  found.param ??= stringOrNull(value["param"]);
  for (const [key, inner] of Object.entries(value)) {
    // A validator repeats the request's own value there: words of the user's, not of the error.
    if (key !== "input" && key !== "code" && key !== "status") look(inner, depth + 1, words, found);
  }
}

/** For errors that come without a status: in a stream, or with HTTP 200. */
const statusByName = byWord<number>([
  [400, ["invalid_request_error", "invalid_argument", "context_length_exceeded", "content_filter"]],
  [401, ["authentication_error", "invalid_api_key", "unauthenticated"]],
  [403, ["permission_error", "permission_denied"]],
  [404, ["not_found_error", "not_found", "model_not_found"]],
  [429, ["insufficient_quota", "rate_limit_error", "rate_limit_exceeded", "resource_exhausted"]],
  [500, ["server_error", "internal_server_error", "api_error", "internal"]],
  [503, ["unavailable", "service_unavailable", "overloaded_error"]],
  [504, ["deadline_exceeded"]],
]);
