import { readFile } from "node:fs/promises";
import { GraphQLError, Kind, NoSchemaIntrospectionCustomRule, specifiedRules, validate } from "graphql";
import type { GraphQLSchema } from "graphql";
import { isObject } from "../conversation/message/json.ts";
import { ParleyError } from "../conversation/errors.ts";
import { checkCost, planCost } from "../graphql/limits-cost.ts";
import { parseBounded } from "../graphql/limits.ts";
import type { QueryLimits } from "../config/limits.ts";
import { sha256Of } from "./documents.ts";

/** The list cannot be served: every mistake in it, one a line. */
export class PersistedOperationsError extends Error {
  override readonly name = "PersistedOperationsError";
}

export interface ListChecks {
  readonly schema: GraphQLSchema;
  readonly limits: QueryLimits;
  readonly introspection: boolean;
}

/** @throws {PersistedOperationsError} */
export async function readPersistedList(path: string, checks: ListChecks): Promise<ReadonlyMap<string, string>> {
  let text: string;
  try {
    text = await readFile(path, "utf8");
  } catch (error) {
    const why = error instanceof Error && "code" in error ? String(error.code) : String(error);
    throw new PersistedOperationsError(`The list of persisted operations cannot be read: ${path} (${why}).`);
  }
  let list: unknown;
  try {
    list = JSON.parse(text);
  } catch {
    throw new PersistedOperationsError(`The list of persisted operations is no JSON: ${path}.`);
  }
  return checkedList(list, checks);
}

/**
 * By id, and by the hash of its text, whatever the ids are. Two forms are taken: an object id -> text (relay-compiler,
 * graphql-codegen) and Apollo's persisted query manifest.
 * @throws {PersistedOperationsError}
 */
export function checkedList(list: unknown, checks: ListChecks): ReadonlyMap<string, string> {
  const problems: string[] = [];
  const texts = new Map<string, string>();
  for (const { id, name, text } of entriesOf(list)) {
    if (texts.has(id) && texts.get(id) !== text) problems.push(`${name}: there is another document with this id.`);
    problems.push(...problemsOf(text, checks).map((problem) => `${name}: ${problem}`));
    texts.set(id, text);
  }
  if (problems.length > 0) {
    throw new PersistedOperationsError(
      ["The list of persisted operations has mistakes:", ...problems.map((problem) => `  ${problem}`)].join("\n"),
    );
  }
  for (const text of [...texts.values()]) texts.set(sha256Of(text), text);
  return texts;
}

interface Entry {
  readonly id: string;
  /** To tell it by. */
  readonly name: string;
  readonly text: string;
}

function entriesOf(list: unknown): readonly Entry[] {
  if (isObject(list) && Array.isArray(list["operations"])) {
    return list["operations"].map((operation: unknown, index) => {
      const { id, name, body } = isObject(operation) ? operation : {};
      if (typeof id === "string" && typeof body === "string") {
        return { id, name: typeof name === "string" && name !== "" ? name : id, text: body };
      }
      throw new PersistedOperationsError(`The list's operations[${index}] must have an id and a body.`);
    });
  }
  if (!isObject(list)) {
    throw new PersistedOperationsError("The list must be an object: documents by their id, or Apollo's manifest.");
  }
  return Object.entries(list).map(([id, text]) => {
    if (typeof text === "string") return { id, name: id, text };
    throw new PersistedOperationsError(`The list's document ${id} must be a text.`);
  });
}

function problemsOf(text: string, { schema, limits, introspection }: ListChecks): readonly string[] {
  try {
    const document = parseBounded(text, limits);
    const rules = introspection ? specifiedRules : [...specifiedRules, NoSchemaIntrospectionCustomRule];
    const invalid = validate(schema, document, rules);
    if (invalid.length > 0) return invalid.map(({ message }) => message);
    for (const operation of document.definitions) {
      if (operation.kind !== Kind.OPERATION_DEFINITION) continue;
      checkCost(planCost(schema, document, operation), {}, limits.maxCost);
    }
    return [];
  } catch (error) {
    if (error instanceof GraphQLError || error instanceof ParleyError) return [error.message];
    throw error;
  }
}
