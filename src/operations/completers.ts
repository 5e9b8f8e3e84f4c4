import { GraphQLBoolean, GraphQLID, GraphQLString, locatedError, responsePathAsArray } from "graphql";
import type { FieldNode, GraphQLError, GraphQLLeafType, GraphQLResolveInfo } from "graphql";
import type { Context } from "../graphql/context.ts";

// How a compiled query (compiled-query.ts) makes the answer's values of what resolvers give: in the same steps as graphql-js
// with the resolvers of answer-budget.ts, so that errors come in the same order. What is too much is a rejected promise.

/** What a value that is here comes to in the answer, or a promise of that. Throws what is wrong with it. */
export type Complete = (value: unknown, run: Run, path: Path | undefined) => unknown;

export type Path = GraphQLResolveInfo["path"];

/** What is known of the values of a field, or of the items of a list. */
interface Place {
  readonly complete: Complete;
  readonly isNonNull: boolean;
  readonly nodes: readonly FieldNode[];
  /** The field's name in the answer, where nothing asks for its path unless it fails: it is handed its parent's. */
  readonly plainKey: string | null;
}

export interface FieldPlan extends Place {
  /** Its name in the answer. */
  readonly key: string;
  readonly parentName: string;
  /** Does not throw: it returns the error, or a promise that is rejected. */
  readonly read: (source: unknown, run: Run, path: Path | undefined) => unknown;
}

export type Arguments = Readonly<Record<string, unknown>>;

/** One execution. */
export class Run {
  readonly context: Context;
  readonly variableValues: Readonly<Record<string, unknown>>;
  /** Of a subscription: its event. */
  readonly rootValue: object | undefined;
  /** Arguments by the place of their field, where other runs have the same variables; null: worked out in each. */
  readonly args: Map<readonly FieldNode[], Arguments> | null;
  readonly errors: GraphQLError[] = [];
  #failed: Set<Path | undefined> | null = null;

  constructor(
    context: Context,
    variableValues: Readonly<Record<string, unknown>>,
    rootValue: object | undefined,
    args: Run["args"] = null,
  ) {
    this.context = context;
    this.variableValues = variableValues;
    this.rootValue = rootValue;
    this.args = args;
  }

  /** What fails inside of what has failed as a whole is told no more. */
  add(error: GraphQLError, path: Path | undefined): void {
    const failed = (this.#failed ??= new Set<Path | undefined>());
    for (let at = path; at !== undefined; at = at.prev) if (failed.has(at)) return;
    if (failed.has(undefined)) return;
    failed.add(path);
    this.errors.push(error);
  }
}

/** Fields are begun in their order and waited for together. */
export function completeObject(fields: readonly FieldPlan[]): Complete {
  return (source, run, path) => {
    const object: Record<string, unknown> = {};
    let promised: Map<string, Promise<unknown>> | null = null;
    try {
      for (const field of fields) {
        const { key, parentName, plainKey } = field;
        const at = plainKey === null ? { prev: path, key, typename: parentName } : path;
        const value = completeAt(field, field.read(source, run, at), run, at);
        // Also while it is a promise, so that the keys stand in their order.
        object[key] = value;
        if (value instanceof Promise) (promised ??= new Map<string, Promise<unknown>>()).set(key, value);
      }
    } catch (error) {
      return failedBeside(object, promised, error);
    }
    return promised === null ? object : whole(object, promised);
  };
}

export function completeList(item: Place): Complete {
  return (value, run, path) => {
    // Other iterables there may be are none of this schema's.
    if (!Array.isArray(value)) throw new TypeError("Expected a list.");
    const items: readonly unknown[] = value;
    const { answer } = run.context;
    const tooLong = answer?.list(items) ?? null;
    if (tooLong !== null) return Promise.reject(tooLong);
    const list: unknown[] = [];
    let promised: Map<number, Promise<unknown>> | null = null;
    try {
      for (let i = 0; i < items.length; i++) {
        const given = items[i];
        const refusal = given instanceof Promise ? null : (answer?.refusal ?? null);
        const value = refusal === null ? given : Promise.reject(refusal);
        const completed = completeAt(item, value, run, { prev: path, key: i, typename: undefined });
        list.push(completed);
        if (completed instanceof Promise) (promised ??= new Map<number, Promise<unknown>>()).set(i, completed);
        if (refusal !== null) break;
      }
    } catch (error) {
      return failedBeside(list, promised, error);
    }
    return promised === null ? list : whole(list, promised);
  };
}

/** Of a promise of the platform's, which is what all of this schema's resolvers give that give one. */
function completeAt(place: Place, value: unknown, run: Run, at: Path | undefined): unknown {
  try {
    const { complete } = place;
    const completed =
      value instanceof Promise ? value.then((settled) => complete(settled, run, at)) : complete(value, run, at);
    return completed instanceof Promise ? completed.catch((error: unknown) => fail(place, error, run, at)) : completed;
  } catch (error) {
    return fail(place, error, run, at);
  }
}

/** Null, where that may be. Else it fails what it is a part of. */
function fail({ isNonNull, nodes, plainKey }: Place, error: unknown, run: Run, at: Path | undefined): null {
  const path = plainKey === null ? at : { prev: at, key: plainKey, typename: undefined };
  const located = locatedError(error, nodes, responsePathAsArray(path));
  if (isNonNull) throw located;
  run.add(located, path);
  return null;
}

/** The parts that are promises take their places when all of them are there. */
async function whole<Key extends string | number>(
  parent: Record<Key, unknown>,
  promised: ReadonlyMap<Key, Promise<unknown>>,
): Promise<unknown> {
  const parts = await Promise.all(promised.values());
  for (const [i, key] of [...promised.keys()].entries()) parent[key] = parts[i];
  return parent;
}

/** Of parts that were begun before, each may fail as well: nobody else would wait for them. */
function failedBeside<Key extends string | number>(
  parent: Record<Key, unknown>,
  promised: ReadonlyMap<Key, Promise<unknown>> | null,
  error: unknown,
): Promise<unknown> {
  if (promised === null) throw error;
  return whole(parent, promised).finally(() => {
    throw error;
  });
}

export function completeLeaf(type: GraphQLLeafType): Complete {
  const serialized = (value: unknown): unknown => {
    const result: unknown = type.serialize(value);
    if (result === null || result === undefined) throw new TypeError(`A value of type ${type.name} comes to nothing.`);
    return result;
  };
  if (type === GraphQLString || type === GraphQLID) {
    return (value, { context: { answer } }) => {
      if (typeof value !== "string") return serialized(value);
      const refusal = answer?.text(value) ?? null;
      return refusal === null ? value : Promise.reject(refusal);
    };
  }
  if (type.name === "JSON") {
    return (value, { context: { answer } }) => {
      const refusal = answer?.json(value) ?? null;
      return refusal === null ? serialized(value) : Promise.reject(refusal);
    };
  }
  if (type === GraphQLBoolean) return (value) => (typeof value === "boolean" ? value : serialized(value));
  return serialized;
}
