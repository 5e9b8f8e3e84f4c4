import { execute, Kind, parse, subscribe, validate } from "graphql";
import type { ExecutionResult } from "graphql";
import { describe, expect, test } from "vitest";

import type { SessionEvent } from "../../src/conversation/events.ts";
import { AnswerBudget } from "../../src/graphql/answer-budget.ts";
import type { Context } from "../../src/graphql/context.ts";
import { toGraphQLError } from "../../src/graphql/errors.ts";
import { schema } from "../../src/graphql/schema.ts";
import { CompiledQuery } from "../../src/operations/compiled-query.ts";
import { contextOf } from "../support/gateway/graphql-operation.ts";
import { FakeConversations, noted, runningRun, stored } from "../support/store/fake-conversations.ts";

// The events of a subscription are executed by what is compiled of it, or by graphql-js: nobody must be able to tell.

const message = `id position role text createdAt cursor stored finishReason
  content { __typename ... on TextBlock { text } } usage { totalTokens } session { title messageCount }`;
const session = `id sessionId title messageCount metadata messages(last: 2) { edges { cursor node { ${message} } } }`;
const sessionEvents = `subscription ($with: Boolean = true, $without: Boolean!) {
  told: sessionEvents(sessionId: "jim") {
    kind: __typename
    ... on StreamOpened { cursor session { ${session} } }
    ... on StreamWaiting { cursor waitsFor: sessionId }
    ... on MessageAdded { ...Added message @skip(if: $without) { again: text } }
    ... on ReplyProgress { runId replyId index offset text @include(if: $with) }
    ... on PartAdded { runId index part { __typename ... on ReasoningPart { messageId text } } }
    ... on PartProgress { runId index offset text }
    ... on RunChanged { run { id status model text userMessage { id } reply { id } session { sessionId } error { code } } }
    ... on SessionUpdated { session { ${session} } }
    ... on HistoryReset { kept cursor session { ${session} } }
    ... on SessionRemoved { removedId sessionId }
  }
}
fragment Added on MessageAdded { message { ${message} } }`;
const messageAdded = `subscription { messageAdded(sessionId: "jim") { ${message} other: text } }`;

function conversation(): { readonly fake: FakeConversations; readonly events: readonly SessionEvent[] } {
  const fake = new FakeConversations();
  const rows = [
    noted("jim", 0, "m1", "run-1", "Hi! I'm Jim."),
    stored("ai", "Hello, Jim."),
    "no message",
    stored("human", null),
  ];
  fake.put("jim", rows, { title: "Jim" });
  const run = runningRun("jim");
  const at = { sessionId: "jim", runId: run.runId };
  const shown = fake.session("jim", [{ first: null, after: null, last: 2, before: null }]);
  const messages = rows.map((_, i) => ({ kind: "message" as const, cursor: `c${i}`, message: fake.placed("jim", i) }));
  const events: readonly SessionEvent[] = [
    { kind: "opened", cursor: "c", session: shown },
    { kind: "waiting", cursor: "c", sessionId: "jim" },
    ...messages,
    { kind: "progress", ...at, replyLocalId: "~1~r", index: 1, offset: 3, text: "lo" },
    { kind: "partAdded", ...at, index: 0, part: { kind: "reasoning", messageLocalId: "~1~r", text: "Hm" } },
    { kind: "partProgress", ...at, index: 0, offset: 2, text: "." },
    { kind: "run", run },
    { kind: "updated", session: shown },
    { kind: "reset", kept: 1, cursor: "c", session: shown },
    { kind: "removed", sessionId: "jim" },
  ];
  return { fake, events };
}

/** As a client is told it. */
function told({ data, errors = [] }: ExecutionResult): string {
  return JSON.stringify({ data, errors: errors.map(toGraphQLError) });
}

/** What both make of each event. */
async function bothOf(text: string, variables: Readonly<Record<string, unknown>>, mostBytes: number | null) {
  const { fake, events } = conversation();
  const document = parse(text);
  const operation = document.definitions.find((one) => one.kind === Kind.OPERATION_DEFINITION);
  if (operation === undefined) throw new Error("No operation");
  expect(validate(schema, document)).toEqual([]);
  const context: Context = contextOf(fake);
  const stream = await subscribe({ schema, document, contextValue: context, variableValues: variables });
  if (!(Symbol.asyncIterator in stream)) throw new Error(told(stream));
  const { live } = context;
  const compiled = new CompiledQuery(schema, document, operation, 10_000).events(variables);
  if (live === undefined || compiled === null) throw new Error("Its events cannot be executed");
  const budget = () => (mostBytes === null ? {} : { answer: new AnswerBudget(mostBytes, () => undefined) });
  const results: { readonly kind: string; readonly expected: string; readonly compiled: string }[] = [];
  // messageAdded ends with an error, or passes by, what is no message.
  for (const event of text === messageAdded ? events.filter(({ kind }) => kind === "message") : events) {
    const [one, other] = [live.parentOf(event), live.parentOf(event)];
    if (one === null || other === null) throw new Error(`Nothing is delivered of ${event.kind}`);
    const contextValue = { ...contextOf(fake), ...budget() };
    const expected = told(await execute({ schema, document, rootValue: one, contextValue, variableValues: variables }));
    const ours = told(await compiled({ ...contextOf(fake), ...budget() }, other));
    results.push({ kind: event.kind, expected, compiled: ours });
  }
  await stream.return(undefined);
  return results;
}

describe.each([
  ["sessionEvents", sessionEvents, { without: false }, 13],
  ["sessionEvents, with parts left out", sessionEvents, { with: false, without: true }, 13],
  ["messageAdded", messageAdded, {}, 4],
])("%s", (_name, text, variables, count) => {
  test("each event is what graphql-js makes of it", async () => {
    const results = await bothOf(text, variables, null);
    expect(results).toHaveLength(count);
    for (const { kind, expected, compiled } of results) {
      expect(compiled, kind).toBe(expected);
      expect(compiled, kind).toContain('"errors":[]');
    }
  });

  test("an event that is too large fails alike", async () => {
    const results = await bothOf(text, variables, 20);
    for (const { kind, expected, compiled } of results) expect(compiled, kind).toBe(expected);
    expect(results.filter(({ compiled }) => compiled.includes("answerBytes")).length).toBeGreaterThan(2);
  });
});
