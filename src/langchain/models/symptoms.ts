import { isObject } from "../../conversation/message/json.ts";

export interface Symptoms {
  readonly statuses: readonly number[];
  /** Codes, types and class names. */
  readonly names: ReadonlySet<string>;
  /** The messages, one a line; never shown. */
  readonly text: string;
  /** Of the provider's answer. */
  readonly headers: { get(name: string): string | null };
}

/** SDKs wrap: the cause, the body of the answer and the response hold what the error itself does not. */
export function symptomsOf(error: unknown): Symptoms {
  const statuses: number[] = [];
  const names = new Set<string>();
  const texts: string[] = [];
  let headers: Symptoms["headers"] = new Headers();
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
    if (value["headers"] instanceof Headers) headers = value["headers"];
    for (const key of ["cause", "error", "innererror", "response"]) look(value[key], depth + 1);
  };
  look(error, 0);
  return { statuses, names, text: texts.join("\n"), headers };
}

/** What the log may have of a failure: nothing of its words. */
export interface ProviderFacts {
  /** As HTTP, or the provider's error, told it; null where there was no answer. */
  readonly providerStatus: number | null;
  readonly providerRequestId: string | null;
}

export function providerFactsOf(error: unknown): ProviderFacts {
  const { statuses, headers } = symptomsOf(error);
  const id = requestIdHeaders.map((name) => headers.get(name)).find((value) => value !== null) ?? null;
  return { providerStatus: statuses[0] ?? null, providerRequestId: id?.slice(0, 200) ?? null };
}

const requestIdHeaders = ["x-request-id", "request-id", "apim-request-id", "x-amzn-requestid", "x-goog-request-id"];

/** "Please try again in 7m12.5s", "retryDelay": "33s". */
const retryTime =
  /(?:try again in|retry (?:after|in))\s+((?:[\d.]+\s*(?:ms|milliseconds?|hours?|h|minutes?|min|m|seconds?|sec|s)\b[\s,]*|[\d.]+(?:h|m)(?=\d))+)|\n([\d.]+s)(?=\n|$)/i;
const maxSeconds = 2 ** 31 - 1;

/** How long the provider asks to be left alone: by its headers, else in its words. In whole seconds, rounded up. */
export function retryAfterSecondsOf({ headers, text }: Symptoms): number | null {
  const ms = Number(headers.get("retry-after-ms") ?? Number.NaN);
  const header = headers.get("retry-after")?.trim() ?? "";
  const date = /[a-z]/i.test(header) ? Math.max(0, Date.parse(header) - Date.now()) / 1000 : Number.NaN;
  const seconds = [ms / 1000, header === "" ? Number.NaN : Number(header), date, secondsIn(text)].find(
    (value) => Number.isFinite(value) && value >= 0,
  );
  return seconds === undefined ? null : Math.min(maxSeconds, Math.ceil(seconds));
}

function secondsIn(text: string): number {
  const [, words, delay] = retryTime.exec(text) ?? [];
  const given = words ?? delay;
  if (given === undefined) return Number.NaN;
  let seconds = 0;
  for (const [, amount, unit = "s"] of given.matchAll(/([\d.]+)\s*([a-z]+)/gi)) {
    const kind = unit.toLowerCase();
    const factor =
      kind.startsWith("ms") || kind.startsWith("milli")
        ? 0.001
        : kind.startsWith("h")
          ? 3600
          : kind.startsWith("m")
            ? 60
            : 1;
    seconds += Number(amount) * factor;
  }
  return seconds;
}
