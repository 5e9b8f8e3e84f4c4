/** Looking into parsed JSON of unknown shape. */

export type JsonObject = Readonly<Record<string, unknown>>;

export function isObject(value: unknown): value is JsonObject {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

export function isTexts(value: unknown): value is readonly string[] {
  return Array.isArray(value) && value.every((one) => typeof one === "string");
}

export function objectOrEmpty(value: unknown): JsonObject {
  return isObject(value) ? value : {};
}

export function arrayOrEmpty(value: unknown): readonly unknown[] {
  return Array.isArray(value) ? value : [];
}

export function stringOrNull(value: unknown): string | null {
  return typeof value === "string" && value !== "" ? value : null;
}

/** What each word stands for, from groups of words that stand for the same. */
export function byWord<const Meaning>(
  groups: readonly (readonly [meaning: Meaning, words: readonly string[]])[],
): ReadonlyMap<string, Meaning> {
  return new Map(groups.flatMap(([meaning, words]) => words.map((word) => [word, meaning] as const)));
}

export function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** The entries of `data` that JSON can hold, as JSON holds them. */
export function jsonEntries(data: JsonObject): Record<string, unknown> {
  const entries: [string, unknown][] = [];
  for (const [key, value] of Object.entries(data)) {
    const kept = jsonValue(value);
    if (kept !== undefined) entries.push([key, kept]);
  }
  return Object.fromEntries(entries);
}

/** undefined: JSON cannot hold it. */
function jsonValue(value: unknown): unknown {
  // What most entries are is what it is in JSON too: no need to write it down and read it back.
  if (typeof value === "string" || typeof value === "boolean" || value === null) return value;
  if (Array.isArray(value) && value.length === 0) return [];
  try {
    return JSON.parse(JSON.stringify(value));
  } catch {
    return undefined;
  }
}
