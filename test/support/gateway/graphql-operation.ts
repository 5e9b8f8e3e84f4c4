import { execute, parse, subscribe } from "graphql";
import type { ExecutionResult } from "graphql";

import type { Caller } from "../../../src/conversation/conversations/api.ts";
import type { Conversations } from "../../../src/conversation/conversations/conversations.ts";
import { anonymous } from "../../../src/conversation/session.ts";
import type { Context } from "../../../src/graphql/context.ts";
import { toGraphQLError } from "../../../src/graphql/errors.ts";
import { schema } from "../../../src/graphql/schema.ts";

/** Waits for as long as its signal says; nothing counts it meanwhile. */
export function anonymousCaller(signal = new AbortController().signal): Caller {
  return { viewer: anonymous, signal, whileWaiting: (work) => work() };
}

export function contextOf(conversations: Conversations, lastEventId: string | null = null): Context {
  return { conversations, ...anonymousCaller(), resume: { lastEventId, cursor: null } };
}

interface Answer {
  readonly data: unknown;
  /** As a client sees them. */
  readonly errors: readonly {
    readonly message: string;
    readonly path: readonly (string | number)[];
    readonly code: unknown;
    readonly field: unknown;
  }[];
}

/** Runs one query or mutation as graphql-js does: @defer is known to the lookahead, its fields come along at once. */
export async function operate(
  context: Context,
  document: string,
  variables: Readonly<Record<string, unknown>> = {},
): Promise<Answer> {
  return answerOf(
    await execute({ schema, document: parse(document), contextValue: context, variableValues: variables }),
  );
}

/** The events of a subscription as they come. */
export async function listen(
  context: Context,
  document: string,
  variables: Readonly<Record<string, unknown>> = {},
): Promise<{ readonly next: () => Promise<Answer | null>; readonly stop: () => Promise<void> }> {
  const stream = await subscribe({
    schema,
    document: parse(document),
    contextValue: context,
    variableValues: variables,
  });
  if (!(Symbol.asyncIterator in stream)) throw new Error(JSON.stringify(answerOf(stream)));
  const next = async (): Promise<Answer | null> => {
    const result = await stream.next();
    return result.done === true ? null : answerOf(result.value);
  };
  const stop = async (): Promise<void> => {
    await stream.return(undefined);
  };
  return { next, stop };
}

/** Through JSON, as the wire does it: graphql-js' objects have no prototype. */
function answerOf(result: ExecutionResult): Answer {
  const errors = (result.errors ?? []).map(toGraphQLError).map(({ message, path, extensions }) => ({
    message,
    path: path ?? [],
    code: extensions["code"],
    field: extensions["field"],
  }));
  return { data: JSON.parse(JSON.stringify(result.data ?? null)), errors };
}
