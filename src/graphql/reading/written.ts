import type { GraphQLField } from "graphql";
import type { MessageParent } from "./message-parent.ts";

const name = "writtenIn";

/**
 * For a field's extensions: which property of its parent holds the field's value as JSON text. Where an answer is written
 * without being made of objects first, it is taken as it is. It says the same as the field's own property.
 */
export function writtenIn(property: keyof MessageParent & `written${string}`): Readonly<Record<string, string>> {
  return { [name]: property };
}

/** null: the value is in the property of the field's own name. */
export function writtenPropertyOf({ extensions }: GraphQLField<unknown, unknown>): string | null {
  const property = extensions[name];
  return typeof property === "string" ? property : null;
}
