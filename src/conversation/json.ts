/** Looking into parsed JSON of unknown shape. */

export type JsonObject = Readonly<Record<string, unknown>>;

export function isObject(value: unknown): value is JsonObject {
  return typeof value === "object" && value !== null && !Array.isArray(value);
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

export function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** The entries of `data` that JSON can hold, as JSON holds them. */
export function jsonEntries(data: JsonObject): Record<string, unknown> {
  const entries = Object.entries(data).map(([key, value]): [string, unknown] => {
    try {
      return [key, JSON.parse(JSON.stringify(value))];
    } catch {
      return [key, undefined];
    }
  });
  return Object.fromEntries(entries.filter(([, value]) => value !== undefined));
}
