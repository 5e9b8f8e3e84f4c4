import { GraphQLBoolean, GraphQLID, GraphQLString } from "graphql";
import type { GraphQLLeafType, GraphQLResolveInfo } from "graphql";

import type { Context } from "../graphql/context.ts";

// How a compiled query (compiled-query.ts) makes the answer's values of what resolvers give.

/** What a field's value comes to in the answer, or a promise of that. Throws for what is unusual. */
export type Complete = (value: unknown, run: Run, path: Path | undefined) => unknown;

export type Path = GraphQLResolveInfo["path"];

/** One execution. */
export interface Run {
  readonly context: Context;
  readonly variableValues: Readonly<Record<string, unknown>>;
}

export interface Completer {
  readonly complete: Complete;
  /** Something in it has a resolver, which may ask where it is. */
  readonly resolves: boolean;
}

export interface FieldPlan extends Completer {
  /** Its name in the answer. */
  readonly key: string;
  readonly parentName: string;
  readonly read: (source: unknown, run: Run, path: Path | undefined) => unknown;
}

/** Never seen outside: it says that the executor is to do it. */
export const unusual = new Error("Not foreseen by the compiled query.");

export function refuse(): never {
  throw unusual;
}

/** Fields are begun in their order and waited for together, as the executor does. */
export function completeObject(fields: readonly FieldPlan[]): Complete {
  return (source, run, path) => {
    if (source instanceof Error) refuse();
    const object: Record<string, unknown> = {};
    let pending: Promise<unknown>[] | null = null;
    for (const { key, parentName, resolves, read, complete } of fields) {
      const at = resolves ? { prev: path, key, typename: parentName } : undefined;
      const value = completeValue(read(source, run, at), complete, run, at);
      // Also while it is a promise, so that the keys stand in their order.
      object[key] = value;
      if (value instanceof Promise) (pending ??= []).push(part(value, (settled) => (object[key] = settled)));
    }
    return pending === null ? object : whole(object, pending);
  };
}

export function completeList({ complete, resolves }: Completer): Completer {
  return {
    complete(value, run, path) {
      // Other iterables there may be are none of this schema's.
      const items: readonly unknown[] = Array.isArray(value) ? value : refuse();
      run.context.answer?.list(items);
      const list: unknown[] = [];
      let pending: Promise<unknown>[] | null = null;
      for (let i = 0; i < items.length; i++) {
        const at = resolves ? { prev: path, key: i, typename: undefined } : undefined;
        const completed = completeValue(items[i], complete, run, at);
        list.push(completed);
        if (completed instanceof Promise) (pending ??= []).push(part(completed, (settled) => (list[i] = settled)));
      }
      return pending === null ? list : whole(list, pending);
    },
    resolves,
  };
}

/** Of a promise of the platform's, which is what all of this schema's resolvers give that give one. */
function completeValue(value: unknown, complete: Complete, run: Run, path: Path | undefined): unknown {
  if (!(value instanceof Promise)) return complete(value, run, path);
  return part(value, (settled) => complete(settled, run, path));
}

/** What follows a promise of a part of an answer. What is begun behind it may throw, and then nobody waits for it. */
function part(value: Promise<unknown>, follow: (settled: unknown) => unknown): Promise<unknown> {
  const followed = value.then(follow);
  followed.catch(() => undefined);
  return followed;
}

async function whole<Parent>(parent: Parent, parts: readonly Promise<unknown>[]): Promise<Parent> {
  await Promise.all(parts);
  return parent;
}

export function completeLeaf(type: GraphQLLeafType): Complete {
  const serialized = (value: unknown): unknown => {
    if (value instanceof Error) refuse();
    return type.serialize(value) ?? refuse();
  };
  if (type === GraphQLString || type === GraphQLID) {
    return (value, { context }) => {
      if (typeof value !== "string") return serialized(value);
      context.answer?.text(value);
      return value;
    };
  }
  if (type.name === "JSON") {
    return (value, { context }) => {
      context.answer?.json(value);
      return serialized(value);
    };
  }
  if (type === GraphQLBoolean) return (value) => (typeof value === "boolean" ? value : serialized(value));
  return serialized;
}
