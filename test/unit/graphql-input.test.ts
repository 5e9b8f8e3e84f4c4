import { describe, expect, test } from "vitest";

import { FakeConversations } from "../support/store/fake-conversations.ts";
import { contextOf, operate } from "../support/gateway/graphql-operation.ts";

const mutations = {
  sendMessage: `mutation ($input: SendMessageInput!) { sendMessage(input: $input) { run { id } } }`,
  regenerateReply: `mutation ($input: RegenerateReplyInput!) { regenerateReply(input: $input) { run { id } } }`,
  addMessages: `mutation ($input: AddMessagesInput!) { addMessages(input: $input) { session { id } } }`,
  createSession: `mutation ($input: CreateSessionInput!) { createSession(input: $input) { session { id } } }`,
  updateSession: `mutation ($input: UpdateSessionInput!) { updateSession(input: $input) { session { id } } }`,
} as const;
type Mutation = keyof typeof mutations;

async function given(mutation: Mutation, input: Readonly<Record<string, unknown>>) {
  const fake = new FakeConversations();
  const { errors } = await operate(contextOf(fake), mutations[mutation], { input });
  return { errors, fake };
}

const one = (message: Readonly<Record<string, unknown>>) => ({ messages: [{ role: "USER", ...message }] });

describe("what is refused, by the name of the input", () => {
  const refused: [Mutation, Record<string, unknown>, string][] = [
    ["sendMessage", {}, "input.text"],
    ["sendMessage", { text: null }, "input.text"],
    ["sendMessage", { text: "hi", content: [{ text: "hi" }] }, "input.text"],
    ["sendMessage", { text: "" }, "input.text"],
    ["sendMessage", { text: " \n\t" }, "input.text"],
    ["sendMessage", { content: [] }, "input.content"],
    ["sendMessage", { content: [{ text: " " }] }, "input.content"],
    ["sendMessage", { content: [{ image: { url: "http://example.com/a.png" } }] }, "input.content[0].image.url"],
    ["sendMessage", { content: [{ image: { url: "file:///etc/passwd" } }] }, "input.content[0].image.url"],
    ["sendMessage", { content: [{ text: "a" }, { other: "text" }] }, "input.content[1].other"],
    ["sendMessage", { content: [{ other: { kind: "file" } }] }, "input.content[0].other"],
    ["sendMessage", { content: [{ other: { type: 1 } }] }, "input.content[0].other"],
    [
      "sendMessage",
      { content: [{ other: { type: "image_url", image_url: { url: "http://10.0.0.1/" } } }] },
      "input.content[0].other",
    ],
    ["sendMessage", { text: "hi", messageId: "" }, "input.messageId"],
    ["sendMessage", { text: "hi", messageId: "a:b" }, "input.messageId"],
    ["sendMessage", { text: "hi", messageId: "x".repeat(129) }, "input.messageId"],
    ["regenerateReply", { idempotencyKey: "" }, "input.idempotencyKey"],
    ["regenerateReply", { idempotencyKey: "x".repeat(129) }, "input.idempotencyKey"],
    ["addMessages", { messages: [] }, "input.messages"],
    ["addMessages", one({}), "input.messages[0].text"],
    ["addMessages", one({ text: "" }), "input.messages[0].text"],
    ["addMessages", one({ role: "FUNCTION", text: "hi" }), "input.messages[0].role"],
    ["addMessages", one({ role: "OTHER", text: "hi" }), "input.messages[0].role"],
    ["addMessages", one({ role: "TOOL", text: "hi" }), "input.messages[0].toolCallId"],
    ["addMessages", one({ role: "TOOL", toolCallId: "", text: "hi" }), "input.messages[0].toolCallId"],
    ["addMessages", one({ role: "TOOL", toolCallId: "t" }), "input.messages[0].text"],
    ["addMessages", one({ toolCallId: "t", text: "hi" }), "input.messages[0].toolCallId"],
    ["addMessages", one({ toolFailed: false, text: "hi" }), "input.messages[0].toolFailed"],
    [
      "addMessages",
      one({ text: "hi", toolCalls: [{ callId: "t", name: "f", args: {} }] }),
      "input.messages[0].toolCalls",
    ],
    [
      "addMessages",
      one({ role: "ASSISTANT", toolCalls: [{ callId: "t", name: "f", args: [1] }] }),
      "input.messages[0].toolCalls[0].args",
    ],
    ["addMessages", one({ text: "hi", messageId: "a b" }), "input.messages[0].messageId"],
    [
      "addMessages",
      {
        messages: [
          { role: "USER", text: "a", messageId: "m" },
          { role: "USER", text: "b", messageId: "m" },
        ],
      },
      "input.messages[1].messageId",
    ],
    ["createSession", { ttlSeconds: 0 }, "input.ttlSeconds"],
    ["createSession", { metadata: [1] }, "input.metadata"],
    ["createSession", { memory: { strategy: "WINDOW", maxTurns: 0 } }, "input.memory.maxTurns"],
    ["createSession", { memory: { strategy: "TOKEN_BUFFER", maxTokens: 0 } }, "input.memory.maxTokens"],
    ["createSession", { memory: { strategy: "BUFFER", maxTurns: 3 } }, "input.memory.maxTurns"],
    ["updateSession", { ttlSeconds: -1 }, "input.ttlSeconds"],
    ["updateSession", { metadata: "text" }, "input.metadata"],
  ];

  test.each(refused)("%s %j: %s", async (mutation, input, field) => {
    const sessionId = mutation === "createSession" ? {} : { sessionId: "jim" };
    const { errors, fake } = await given(mutation, { ...sessionId, ...input });
    expect(errors).toMatchObject([{ code: "BAD_USER_INPUT", field }]);
    expect(fake.calls).toEqual([]);
  });

  test.each([
    ["two kinds of block at once", { content: [{ text: "a", other: { type: "b" } }] }],
    ["no kind of block", { content: [{}] }],
  ])("%s, by graphql-js' own @oneOf", async (_, input) => {
    const { errors, fake } = await given("sendMessage", { sessionId: "jim", ...input });
    expect(errors).toMatchObject([{ message: expect.stringContaining("ContentBlockInput") as string }]);
    expect(fake.calls).toEqual([]);
  });

  test("a filter by metadata that is no object", async () => {
    const fake = new FakeConversations();
    const { errors } = await operate(contextOf(fake), `{ sessions(filter: { metadata: "x" }) { nodes { id } } }`);
    expect(errors).toMatchObject([{ code: "BAD_USER_INPUT", field: "filter.metadata" }]);
  });
});

describe("what is handed on", () => {
  test("messages of all four roles", async () => {
    const { errors, fake } = await given("addMessages", {
      sessionId: "jim",
      messages: [
        { role: "SYSTEM", text: "Be brief." },
        { role: "USER", content: [{ text: "Weather?" }], name: "jim", messageId: "m1" },
        { role: "ASSISTANT", toolCalls: [{ callId: "t1", name: "weather", args: { at: "Rome" } }] },
        { role: "TOOL", text: "", toolCallId: "t1", toolFailed: true },
      ],
      idempotencyKey: "key",
    });
    expect(errors).toEqual([]);
    const plain = { name: null, messageId: null, toolCallId: null, toolFailed: null, toolCalls: [] };
    expect(fake.callsOf("addMessages")[0]?.[1]).toEqual({
      sessionId: "jim",
      messages: [
        { ...plain, role: "SYSTEM", content: [{ kind: "text", text: "Be brief." }] },
        { ...plain, role: "USER", content: [{ kind: "text", text: "Weather?" }], name: "jim", messageId: "m1" },
        {
          ...plain,
          role: "ASSISTANT",
          content: [],
          toolCalls: [{ callId: "t1", name: "weather", args: { at: "Rome" } }],
        },
        { ...plain, role: "TOOL", content: [], toolCallId: "t1", toolFailed: true },
      ],
      idempotencyKey: "key",
    });
  });

  test.each([
    [{}, {}],
    [
      { title: null, memory: null, ttlSeconds: null, metadata: null, archived: null },
      { title: null, memory: null, ttlSeconds: null, metadata: null, archived: null },
    ],
    [
      { title: "T", memory: { strategy: "WINDOW" }, ttlSeconds: 60, metadata: { a: 1 }, archived: true },
      {
        title: "T",
        memory: { strategy: "WINDOW", maxTurns: 10, maxTokens: null },
        ttlSeconds: 60,
        metadata: { a: 1 },
        archived: true,
      },
    ],
  ])("an update with %j, what is left out told apart from null", async (input, update) => {
    const { errors, fake } = await given("updateSession", { sessionId: "jim", ...input });
    expect(errors).toEqual([]);
    // Without undefined: toEqual takes it for absent, and so does the use case.
    expect(fake.callsOf("updateSession")[0]?.[1]).toEqual({ sessionId: "jim", ...update });
  });

  test.each([
    [{}, undefined],
    [{ ttlSeconds: null }, null],
    [{ ttlSeconds: 5 }, 5],
  ])("a new session's life with %j: %j", async (input, ttlSeconds) => {
    const { fake } = await given("createSession", input);
    expect(fake.callsOf("createSession")[0]?.[1].ttlSeconds).toBe(ttlSeconds);
  });

  test.each([
    [{ strategy: "BUFFER" }, null, null],
    [{ strategy: "WINDOW" }, 10, null],
    [{ strategy: "WINDOW", maxTurns: 3 }, 3, null],
    [{ strategy: "TOKEN_BUFFER" }, null, 2000],
    [{ strategy: "SUMMARY_BUFFER", maxTokens: 500 }, null, 500],
  ])("memory %j: %j turns, %j tokens", async (memory, maxTurns, maxTokens) => {
    const { fake } = await given("createSession", { memory });
    expect(fake.callsOf("createSession")[0]?.[1].memory).toEqual({ strategy: memory.strategy, maxTurns, maxTokens });
  });

  test.each([
    ["", { titleContains: null, archived: false, metadata: null, updatedAfter: null }],
    ["(filter: {})", { titleContains: null, archived: false, metadata: null, updatedAfter: null }],
    ["(filter: { archived: null })", { titleContains: null, archived: null, metadata: null, updatedAfter: null }],
    [
      `(filter: { archived: true, titleContains: "a", metadata: { p: [1] }, updatedAfter: "1970-01-01T01:00:01+01:00" })`,
      { titleContains: "a", archived: true, metadata: { p: [1] }, updatedAfter: 1000 },
    ],
  ])("the filter of sessions%s", async (args, filter) => {
    const fake = new FakeConversations();
    const { errors } = await operate(contextOf(fake), `{ sessions${args} { nodes { id } } }`);
    expect(errors).toEqual([]);
    // Through JSON: graphql-js' literals have no prototype.
    expect(JSON.parse(JSON.stringify(fake.callsOf("listSessions")[0]?.[2]))).toEqual(filter);
  });
});

describe("scalars", () => {
  const created = `mutation ($metadata: JSON) { createSession(input: { metadata: $metadata }) { session { id } } }`;

  test("JSON takes literals with variables in them", async () => {
    const fake = new FakeConversations();
    const { errors } = await operate(
      contextOf(fake),
      `mutation ($x: Int) { createSession(input: { metadata: { a: $x, b: [1.5, "t", null, true] } }) { session { id } } }`,
      { x: 7 },
    );
    expect(errors).toEqual([]);
    const metadata = fake.callsOf("createSession")[0]?.[1].metadata;
    expect(JSON.parse(JSON.stringify(metadata))).toEqual({ a: 7, b: [1.5, "t", null, true] });
  });

  test.each([
    ["NaN", { a: Number.NaN }],
    ["Infinity", { a: [Number.POSITIVE_INFINITY] }],
    ["a function", { a: () => 1 }],
    ["what is nested too deeply", JSON.parse(`${'{"a":'.repeat(300)}1${"}".repeat(300)}`) as unknown],
  ])("JSON refuses %s", async (_, metadata) => {
    const fake = new FakeConversations();
    const { errors } = await operate(contextOf(fake), created, { metadata });
    expect(errors).toMatchObject([{ code: "BAD_USER_INPUT" }]);
    expect(fake.calls).toEqual([]);
  });

  test.each(["2026-11-22", "2026-11-22T20:40:00", "yesterday", "2026-13-01T00:00:00Z", 1000])(
    "DateTime refuses %j",
    async (updatedAfter) => {
      const fake = new FakeConversations();
      const document = `query ($filter: SessionFilter) { sessions(filter: $filter) { nodes { id } } }`;
      const { errors } = await operate(contextOf(fake), document, { filter: { updatedAfter } });
      expect(errors).toMatchObject([{ code: "BAD_USER_INPUT" }]);
      expect(fake.calls).toEqual([]);
    },
  );
});
