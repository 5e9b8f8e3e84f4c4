import {
  GraphQLBoolean,
  GraphQLID,
  GraphQLInt,
  GraphQLString,
  isEnumType,
  locatedError,
  responsePathAsArray,
} from "graphql";
import type { FieldNode, GraphQLError, GraphQLLeafType, GraphQLResolveInfo } from "graphql";
import type { Context } from "../graphql/context.ts";

// How a compiled query (compiled-query.ts) writes the answer of what resolvers give, as JSON text from the start: in the same
// steps as graphql-js with the resolvers of answer-budget.ts, so that errors come in the same order. What is too much is a
// rejected promise.

/** A part of the answer as JSON text, or a promise of that. */
type Written = string | Promise<string>;

/** A promise and the text in front of it. */
interface Part {
  readonly text: string;
  readonly promised: Promise<string>;
}

/** Writes a value that is here. Throws what is wrong with it. */
export type Complete = (value: unknown, run: Run, path: Path | undefined) => Written;

export type Path = GraphQLResolveInfo["path"];

export const nullText = "null";

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
  const opened = fields.map((field, i) => ({ field, opening: `${i === 0 ? "{" : ","}${JSON.stringify(field.key)}:` }));
  const end = fields.length === 0 ? "{}" : "}";
  return (source, run, path) => {
    let text = "";
    let parts: Part[] | null = null;
    try {
      for (const { field, opening } of opened) {
        const { key, parentName, plainKey } = field;
        const at = plainKey === null ? { prev: path, key, typename: parentName } : path;
        const value = completeAt(field, field.read(source, run, at), run, at);
        text += opening;
        if (typeof value === "string") text += value;
        else {
          (parts ??= []).push({ text, promised: value });
          text = "";
        }
      }
    } catch (error) {
      return failedBeside(parts, error);
    }
    return parts === null ? text + end : whole(parts, text + end);
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
    let text = "[";
    let parts: Part[] | null = null;
    try {
      for (let i = 0; i < items.length; i++) {
        const given = items[i];
        const refusal = given instanceof Promise ? null : (answer?.refusal ?? null);
        const one = refusal === null ? given : Promise.reject(refusal);
        const written = completeAt(item, one, run, { prev: path, key: i, typename: undefined });
        if (i > 0) text += ",";
        if (typeof written === "string") text += written;
        else {
          (parts ??= []).push({ text, promised: written });
          text = "";
        }
        if (refusal !== null) break;
      }
    } catch (error) {
      return failedBeside(parts, error);
    }
    return parts === null ? `${text}]` : whole(parts, `${text}]`);
  };
}

/** Of a promise of the platform's, which is what all of this schema's resolvers give that give one. */
function completeAt(place: Place, value: unknown, run: Run, at: Path | undefined): Written {
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
function fail({ isNonNull, nodes, plainKey }: Place, error: unknown, run: Run, at: Path | undefined): string {
  const path = plainKey === null ? at : { prev: at, key: plainKey, typename: undefined };
  const located = locatedError(error, nodes, responsePathAsArray(path));
  if (isNonNull) throw located;
  run.add(located, path);
  return nullText;
}

async function whole(parts: readonly Part[], end: string): Promise<string> {
  const written = await Promise.all(parts.map(({ promised }) => promised));
  // Added, not joined: then all is copied together once, where the answer is sent.
  return parts.reduceRight((rest, { text }, i) => text + (written[i] ?? "") + rest, end);
}

/** Of parts that were begun before, each may fail as well: nobody else would wait for them. */
function failedBeside(parts: readonly Part[] | null, error: unknown): Promise<string> {
  if (parts === null) throw error;
  return whole(parts, "").finally(() => {
    throw error;
  });
}

export function completeLeaf(type: GraphQLLeafType): Complete {
  const write = writerOf(type);
  const serialized = (value: unknown): string => {
    const result: unknown = type.serialize(value);
    if (result === null || result === undefined) throw new TypeError(`A value of type ${type.name} comes to nothing.`);
    return write(result);
  };
  if (type === GraphQLString || type === GraphQLID) {
    return (value, { context: { answer } }) => {
      if (typeof value !== "string") return serialized(value);
      const refusal = answer?.text(value) ?? null;
      return refusal === null ? JSON.stringify(value) : Promise.reject(refusal);
    };
  }
  if (type.name === "JSON") {
    return (value, { context: { answer } }) => {
      const refusal = answer?.json(value) ?? null;
      return refusal === null ? serialized(value) : Promise.reject(refusal);
    };
  }
  if (type === GraphQLBoolean) return (value) => (typeof value === "boolean" ? String(value) : serialized(value));
  return serialized;
}

/** Names and times are written between quotes as they are: nothing in them has to be escaped. */
function writerOf(type: GraphQLLeafType): (value: unknown) => string {
  if (type === GraphQLInt) return String;
  return isEnumType(type) || type.name === "DateTime"
    ? (value) => `"${String(value)}"`
    : (value) => JSON.stringify(value);
}

/** Of a property that holds JSON text already. */
export const completeWritten: Complete = (value, { context: { answer } }) => {
  const text = String(value); // writtenIn() is for properties that are text
  const refusal = answer?.written(text) ?? null;
  return refusal === null ? text : Promise.reject(refusal);
};
