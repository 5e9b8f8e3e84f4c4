import { describe, expect, test } from "vitest";

import { FakeConversations } from "../support/store/fake-conversations.ts";
import { contextOf, operate } from "../support/gateway/graphql-operation.ts";

async function send(selection: string, variables: Readonly<Record<string, unknown>> = {}, declared = "") {
  const fake = new FakeConversations();
  const document = `mutation ${declared} { sendMessage(input: { sessionId: "jim", text: "Hi" }) { ${selection} } }
    fragment Reply on SendMessagePayload { run { id } reply { text } }
    fragment Outer on SendMessagePayload { ...Reply }`;
  const { data, errors } = await operate(contextOf(fake), document, variables);
  expect(errors).toEqual([]);
  return { data, waited: fake.callsOf("sendMessage").map(([, , , wait]) => wait), fake };
}

describe("sendMessage", () => {
  test.each([
    ["selected", `reply { text }`],
    ["under an alias", `answer: reply { text }`],
    ["in an inline fragment", `... on SendMessagePayload { reply { text } }`],
    ["in nested named fragments", `...Outer`],
    ["in a @defer that is switched off", `...Reply @defer(if: false)`],
    ["deferred and also not", `...Reply @defer reply { id }`],
    ["included by a literal", `reply @include(if: true) { text }`],
  ])("waits with reply %s", async (_, selection) => {
    expect((await send(selection)).waited).toEqual([true]);
  });

  test.each([
    ["not selected", `run { id reply { text } }`],
    ["skipped", `run { id } reply @skip(if: true) { text }`],
    ["deferred", `run { id } ... @defer { reply { text } }`],
    ["deferred around fragments", `run { id } ... @defer(label: "late") { ...Outer }`],
    ["deferred by a spread", `run { id } ...Reply @defer`],
  ])("does not wait with reply %s", async (_, selection) => {
    expect((await send(selection)).waited).toEqual([false]);
  });

  test.each([true, false])("goes by variables in @include and @defer: %s", async (on) => {
    const declared = "($on: Boolean!)";
    expect((await send(`run { id } reply @include(if: $on) { text }`, { on }, declared)).waited).toEqual([on]);
    expect((await send(`run { id } ...Reply @defer(if: $on)`, { on }, declared)).waited).toEqual([!on]);
  });

  test("gives the reply that it waited for without asking again", async () => {
    const { data, fake } = await send(`run { status } reply { text }`);
    expect(data).toEqual({ sendMessage: { run: { status: "COMPLETED" }, reply: { text: "Hello, Jim." } } });
    expect(fake.callsOf("awaitRun")).toEqual([]);
  });

  test("answers at once with a deferred reply, which then waits for the end", async () => {
    const { data, fake } = await send(`run { status } ... @defer { reply { text } }`);
    expect(data).toEqual({ sendMessage: { run: { status: "RUNNING" }, reply: { text: "Hello, Jim." } } });
    expect(fake.callsOf("awaitRun").map(([, sessionId]) => sessionId)).toEqual(["jim"]);
  });

  test.each([
    ["the run alone", `run { id status text } userMessage { id }`],
    ["the reply and the runs of its messages", `run { id } reply { text cursor run { id status } }`],
    ["a deferred reply", `run { id } ... @defer { reply { text } }`],
    ["a session that is skipped", `run { id } session @skip(if: true) { id }`],
  ])("reads nothing of the session for %s", async (_, selection) => {
    const { fake } = await send(selection);
    expect(fake.callsOf("sendMessage").map(([, , read]) => read)).toEqual([null]);
    expect([...fake.callsOf("readSession"), ...fake.callsOf("readRun")]).toEqual([]);
  });

  test.each([
    ["asked for", `session { id }`],
    ["of the run", `run { session { id } }`],
    ["of the reply", `reply { session { id } }`],
    ["of a deferred part", `run { id } ... @defer { session { id } }`],
  ])("takes the session %s from the reading that its run is of", async (_, selection) => {
    const { fake } = await send(selection);
    expect(fake.callsOf("sendMessage").map(([, , read]) => read)).toEqual([{ pages: [] }]);
    expect(fake.callsOf("readSession")).toEqual([]);
  });

  test("hands the message on, with QUEUE for whenBusy", async () => {
    const fake = new FakeConversations();
    const document = `mutation ($input: SendMessageInput!) { sendMessage(input: $input) { run { id } } }`;
    const input = {
      sessionId: "jim",
      content: [
        { text: "Look:" },
        { image: { url: "https://example.com/cat.png", detail: "low" } },
        { other: { type: "file", id: "f1" } },
      ],
      messageId: "m-1",
      replaceFrom: "a-cursor",
      model: "offline",
      newSession: { title: "A title", metadata: { project: "sea" } },
      tools: [{ name: "map", description: "Shows a map.", parameters: { type: "object" } }],
    };
    expect((await operate(contextOf(fake), document, { input })).errors).toEqual([]);
    expect(fake.callsOf("sendMessage")[0]?.[1]).toEqual({
      sessionId: "jim",
      newSession: { title: "A title", instructions: null, model: null, metadata: { project: "sea" } },
      content: [
        { kind: "text", text: "Look:" },
        { kind: "image", url: "https://example.com/cat.png", detail: "low" },
        { kind: "other", type: "file", data: { type: "file", id: "f1" } },
      ],
      messageId: "m-1",
      idempotencyKey: null,
      whenBusy: "QUEUE",
      replaceFrom: "a-cursor",
      model: "offline",
      tools: [{ name: "map", description: "Shows a map.", parameters: { type: "object" } }],
    });
  });
});

test("regenerateReply waits by the same rule", async () => {
  const fake = new FakeConversations();
  const regenerate = (selection: string) =>
    operate(
      contextOf(fake),
      `mutation { regenerateReply(input: { sessionId: "jim", whenBusy: INTERRUPT }) { ${selection} } }`,
    );
  expect((await regenerate(`reply { text }`)).data).toEqual({ regenerateReply: { reply: { text: "Hello, Jim." } } });
  await regenerate(`run { id } ... @defer { reply { text } }`);
  expect(fake.callsOf("regenerateReply").map(([, , , wait]) => wait)).toEqual([true, false]);
  expect(fake.callsOf("regenerateReply")[0]?.[1]).toEqual({
    sessionId: "jim",
    replaceFrom: null,
    idempotencyKey: null,
    model: null,
    whenBusy: "INTERRUPT",
    tools: [],
  });
});
