import {
  defaultFieldResolver,
  getNamedType,
  getNullableType,
  GraphQLID,
  GraphQLString,
  isListType,
  isObjectType,
} from "graphql";
import type { GraphQLField, GraphQLSchema } from "graphql";

import type { ParleyError } from "../conversation/errors.ts";
import type { AnswerBudget } from "./answer-budget.ts";
import type { Context } from "./context.ts";

// Whoever executes an operation counts what the answer comes to hold: a compiled query in its completers, graphql-js in
// the resolvers of the fields that can be large, for it has no other place that knows the operation.
//
// No resolver throws: it returns a rejected promise. Where an item of a list throws, graphql-js and Yoga's executor drop the
// promises of the items before it, and each of those that is rejected later is an unhandled rejection, which ends a Node.js
// process. Promises of all items they await together.

type AnyField = GraphQLField<unknown, unknown>;
/** Why the value is too much; null: there is room for it. */
type Count = (answer: AnswerBudget, value: unknown) => ParleyError | null;

const own = new WeakMap<object, AnyField["resolve"]>();

/** A field's resolver without the counting; undefined: it is a property. */
export function uncountedResolver(field: AnyField): AnyField["resolve"] {
  return own.has(field) ? own.get(field) : field.resolve;
}

/** Changes the schema's fields. */
export function countFields(schema: GraphQLSchema): GraphQLSchema {
  for (const type of Object.values(schema.getTypeMap())) {
    // Types of the introspection are all schemas' together.
    if (!isObjectType(type) || type.name.startsWith("__")) continue;
    for (const field of Object.values(type.getFields())) {
      const count = counterOf(field);
      if (count !== null || field.resolve !== undefined) countField(field, count);
    }
  }
  return schema;
}

function counterOf({ type }: AnyField): Count | null {
  if (isListType(getNullableType(type))) return countList;
  const named = getNamedType(type);
  if (named === GraphQLString || named === GraphQLID) return countText;
  return named.name === "JSON" ? countJson : null;
}

const countText: Count = (answer, value) => (typeof value === "string" ? answer.text(value) : null);
const countJson: Count = (answer, value) => (value === null || value === undefined ? null : answer.json(value));
const countList: Count = (answer, value) => {
  if (!Array.isArray(value)) return null;
  return value.reduce<ParleyError | null>((refusal, item) => refusal ?? countText(answer, item), answer.list(value));
};

/** `count`: null where the value cannot be large. */
function countField(field: AnyField, count: Count | null): void {
  own.set(field, field.resolve);
  const { resolve = defaultFieldResolver } = field;
  field.resolve = (source, args, context, info) => {
    const answer = count === null ? undefined : (context as Context).answer; // of all operations on this schema
    try {
      const value: unknown = resolve(source, args, context, info);
      if (count === null || answer === undefined) return value;
      if (value instanceof Promise) return value.then((settled: unknown) => counted(answer, settled, count));
      return counted(answer, value, count);
    } catch (error) {
      return Promise.reject(error instanceof Error ? error : new Error(String(error)));
    }
  };
}

function counted(answer: AnswerBudget, value: unknown, count: Count): unknown {
  const refusal = count(answer, value);
  if (refusal !== null) return Promise.reject(refusal);
  return count === countList && Array.isArray(value) ? taken(answer, value) : value;
}

/** The items, as long as the answer is not too large. Promises are begun already: all of them have to be awaited. */
function* taken(answer: AnswerBudget, items: readonly unknown[]): Generator {
  for (const item of items) {
    const refusal = item instanceof Promise ? null : answer.refusal;
    yield refusal === null ? item : Promise.reject(refusal);
    if (refusal !== null) return;
  }
}
