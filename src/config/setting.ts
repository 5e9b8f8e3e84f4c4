import type { z } from "zod";

/** How a value is given: in the text of a variable, or as an option of createGateway. */
export interface Form<Value> {
  readonly text: z.ZodType<Value, string>;
  /** What an option must be: "must be …", for the error that says so. */
  readonly must: string;
  readonly holds: (option: unknown) => boolean;
  /** How a variable says null: "0" of a limit. Left out: by being left out. */
  readonly none?: string;
}

/** What is known of a gateway before its settings are complete. Some defaults depend on it. */
export interface Known {
  readonly authenticates: boolean;
  readonly production: boolean;
  readonly model: string;
}

export interface Setting<Value> {
  /** Of the environment. */
  readonly variable: string;
  readonly form: Form<Value>;
  readonly defaultFor: (known: Known) => Value;
  /** As one would write it in the environment; null: there is none. */
  readonly shownDefault: string | null;
  readonly description: string;
}

class DerivedDefault<Value> {
  readonly shown: string | null;
  readonly of: (known: Known) => Value;

  constructor(shown: string | null, of: (known: Known) => Value) {
    this.shown = shown;
    this.of = of;
  }
}

/** A default that depends on what is known of the gateway; `shown`: the rule in words. */
export function derived<Value>(shown: string | null, of: (known: Known) => Value): DerivedDefault<Value> {
  return new DerivedDefault(shown, of);
}

export function setting<Value>(
  variable: string,
  form: Form<Value>,
  fallback: NoInfer<Value> | DerivedDefault<NoInfer<Value>>,
  description: string,
): Setting<Value> {
  if (fallback instanceof DerivedDefault) {
    return { variable, form, defaultFor: fallback.of, shownDefault: fallback.shown, description };
  }
  const shownDefault = asText(fallback) ?? form.none ?? null;
  return { variable, form, defaultFor: () => fallback, shownDefault, description };
}

function asText(value: unknown): string | null {
  if (value === null || typeof value === "string") return value;
  return typeof value === "boolean" ? (value ? "on" : "off") : JSON.stringify(value);
}

/** Settings by the names of their options; a table within it holds the options of an option. */
export interface Table {
  readonly [option: string]: Setting<unknown> | Table;
}

/** Each setting of a table has its value. */
export type Values<T> = { readonly [Name in keyof T]: T[Name] extends Setting<infer Value> ? Value : Values<T[Name]> };

/** Those that are given; the others have their defaults. */
export type Given<T> = { readonly [Name in keyof T]?: T[Name] extends Setting<infer Value> ? Value : Given<T[Name]> };

export function isSetting(entry: Setting<unknown> | Table): entry is Setting<unknown> {
  return typeof entry["variable"] === "string";
}

/** All settings of a table, one after the other, each with the name of its option: "memory.maxTurns". */
export function settingsOf(
  table: Table,
  path = "",
): readonly { readonly option: string; readonly setting: Setting<unknown> }[] {
  return Object.entries(table).flatMap(([name, entry]) =>
    isSetting(entry) ? [{ option: path + name, setting: entry }] : settingsOf(entry, `${path}${name}.`),
  );
}

/** What is given beside the table's settings stays as it is. */
export function withDefaults<T extends Table, G extends Given<T>>(table: T, given: G, known: Known): G & Values<T> {
  const values: Record<string, unknown> = { ...given };
  for (const [name, entry] of Object.entries(table)) {
    const value = values[name];
    if (!isSetting(entry)) values[name] = withDefaults(entry, value ?? {}, known);
    else if (value === undefined) values[name] = entry.defaultFor(known);
  }
  return values as G & Values<T>; // what was given, and each name of the table
}
