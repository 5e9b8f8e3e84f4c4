import { describe, expect, test } from "vitest";

import { encodeCursor } from "../../src/conversation/message/cursor.ts";
import { badInput } from "../../src/conversation/errors.ts";
import { FakeConversations, noted, runningRun, stored } from "../support/store/fake-conversations.ts";
import { contextOf, operate } from "../support/gateway/graphql-operation.ts";

const base64 = (text: string): string => Buffer.from(text).toString("base64");
const run = runningRun("user:jim");

/** With a session id that holds a colon, as authentication makes them. */
function conversation(): FakeConversations {
  const fake = new FakeConversations();
  fake.put("user:jim", [noted("user:jim", 0, "m1", run.runId, "Hi!"), stored("ai", "Hello.", { id: "m2" })], {
    activeRun: null,
  });
  fake.putRun(run);
  return fake;
}

async function read(fake: FakeConversations, document: string, variables: Readonly<Record<string, unknown>> = {}) {
  const { data, errors } = await operate(contextOf(fake), document, variables);
  expect(errors).toEqual([]);
  return data;
}

describe("node", () => {
  const byId = `query ($id: ID!) { node(id: $id) {
    __typename id
    ... on Session { sessionId messages(last: 1) { nodes { text } } }
    ... on Message { text session { sessionId } }
    ... on Run { status session { sessionId } }
  } }`;

  test("gives each of the three types by its id", async () => {
    const ids = [base64("Session:user:jim"), base64("Message:user:jim:m1"), base64(`Run:user:jim:${run.runId}`)];
    const nodes = await Promise.all(ids.map((id) => read(conversation(), byId, { id })));
    expect(nodes).toEqual([
      { node: { __typename: "Session", id: ids[0], sessionId: "user:jim", messages: { nodes: [{ text: "Hello." }] } } },
      { node: { __typename: "Message", id: ids[1], text: "Hi!", session: { sessionId: "user:jim" } } },
      { node: { __typename: "Run", id: ids[2], status: "RUNNING", session: { sessionId: "user:jim" } } },
    ]);
  });

  test.each([
    ["nothing", ""],
    ["no base64", "%%%"],
    ["no type", base64("jim")],
    ["an unknown type", base64("User:jim")],
    ["a session without a name", base64("Session:")],
    ["a message without a session", base64("Message:m1")],
    ["a message without a name", base64("Message:user:jim:")],
    ["another spelling of an id", `${base64("Session:user:jim")}=`],
    ["a session that is not there", base64("Session:none")],
    ["a message that is not there", base64("Message:user:jim:none")],
    ["a run that is not there", base64("Run:user:jim:none")],
  ])("is null for %s", async (_, id) => {
    expect(await read(conversation(), byId, { id })).toEqual({ node: null });
  });

  test("nodes gives several in their order, with one reading of their session", async () => {
    const fake = conversation();
    const ids = [base64("Message:user:jim:m2"), "nonsense", base64("Session:user:jim"), base64("Message:user:jim:m1")];
    const document = `query ($ids: [ID!]!) { nodes(ids: $ids) {
      ... on Message { text session { messageCount } }
      ... on Session { messages(first: 1) { nodes { text } } }
    } }`;
    expect(await read(fake, document, { ids })).toEqual({
      nodes: [
        { text: "Hello.", session: { messageCount: 2 } },
        null,
        { messages: { nodes: [{ text: "Hi!" }] } },
        { text: "Hi!", session: { messageCount: 2 } },
      ],
    });
    expect(fake.callsOf("readSession")).toHaveLength(1);
  });

  test("nodes refuses more than 100 ids", async () => {
    const ids = Array.from({ length: 101 }, () => base64("Session:user:jim"));
    const fake = conversation();
    const { errors } = await operate(contextOf(fake), `query ($ids: [ID!]!) { nodes(ids: $ids) { id } }`, { ids });
    expect(errors).toMatchObject([{ code: "BAD_USER_INPUT", field: "ids" }]);
    expect(fake.calls).toEqual([]);
  });
});

describe("a message", () => {
  const first = (fields: string) => `{ session(sessionId: "user:jim") { messages(first: 9) { nodes { ${fields} } } } }`;

  test("has the id that its caller could compute, its place, and the run that it started", async () => {
    const fake = conversation();
    const { row } = fake.placed("user:jim", 0);
    expect(await read(fake, first("id messageId cursor run { id }"))).toMatchObject({
      session: {
        messages: {
          nodes: [
            {
              id: base64("Message:user:jim:m1"),
              messageId: "m1",
              cursor: encodeCursor("user:jim", { generation: 1, position: 0, mark: row.mark }),
              run: { id: base64(`Run:user:jim:${run.runId}`) },
            },
            { messageId: "m2", run: null },
          ],
        },
      },
    });
  });

  test("copied together with its note, within the session or from another, has no run and an id of its own", async () => {
    const fake = new FakeConversations();
    fake.putRun(run);
    const original = noted("user:jim", 0, "m1", run.runId);
    fake.put("user:jim", [original, original, noted("user:ann", 2, "m1", run.runId)]);
    const data = (await read(fake, first("id run { id }"))) as {
      session: { messages: { nodes: { id: string; run: unknown }[] } };
    };
    const { nodes } = data.session.messages;
    expect(nodes.map((node) => node.run === null)).toEqual([false, true, true]);
    expect(new Set(nodes.map(({ id }) => id)).size).toBe(3);
    expect(nodes[0]?.id).toBe(base64("Message:user:jim:m1"));
  });

  test("shows what is stored, whatever it is, and does not make its page fail", async () => {
    const fake = new FakeConversations();
    const deep = `${"[".repeat(3000)}${"]".repeat(3000)}`;
    const rows = [stored("human", "é", { id: "m" }), "no json {", deep, `{"id":12345678901234567890}`];
    fake.put("user:jim", rows);
    const data = await read(fake, first("role text stored storedText"));
    expect(data).toEqual({
      session: {
        messages: {
          nodes: [
            { role: "USER", text: "é", stored: JSON.parse(rows[0] ?? "") as unknown, storedText: rows[0] },
            { role: "OTHER", text: "", stored: "no json {", storedText: "no json {" },
            { role: "OTHER", text: "", stored: "(nested over 200 levels deep)", storedText: deep },
            { role: "OTHER", text: "", stored: { id: 12345678901234567000 }, storedText: rows[3] },
          ],
        },
      },
    });
  });

  test("has its content by kinds, and its tool calls", async () => {
    const fake = new FakeConversations();
    const blocks = [
      { type: "text", text: "Look" },
      { type: "image_url", image_url: { url: "data:x" } },
      { type: "reasoning", reasoning: "…" },
      { type: "video", url: "https://x" },
    ];
    const tool_calls = [{ id: "t1", name: "find", args: { a: 1 } }];
    fake.put("user:jim", [stored("ai", blocks, { tool_calls, response_metadata: { finish_reason: "tool_calls" } })]);
    const fields = `role finishReason toolCalls { callId name args }
      content { __typename ... on TextBlock { text } ... on ImageBlock { url detail } ... on ReasoningBlock { text }
        ... on OtherBlock { type data } }`;
    expect(await read(fake, first(fields))).toEqual({
      session: {
        messages: {
          nodes: [
            {
              role: "ASSISTANT",
              finishReason: "TOOL_CALLS",
              toolCalls: [{ callId: "t1", name: "find", args: { a: 1 } }],
              content: [
                { __typename: "TextBlock", text: "Look" },
                { __typename: "ImageBlock", url: "data:x", detail: null },
                { __typename: "ReasoningBlock", text: "…" },
                { __typename: "OtherBlock", type: "video", data: blocks[3] },
              ],
            },
          ],
        },
      },
    });
  });
});

describe("a session", () => {
  test("has the gateway's defaults where it has no settings of its own", async () => {
    const fake = conversation();
    const fields = `model memory { strategy maxTurns maxTokens summary } createdAt metadata`;
    expect(await read(fake, `{ session(sessionId: "user:jim") { ${fields} } }`)).toEqual({
      session: {
        model: "offline",
        memory: { strategy: "WINDOW", maxTurns: 10, maxTokens: null, summary: null },
        createdAt: "1970-01-01T00:00:00.000Z",
        metadata: {},
      },
    });
  });

  test("has its own settings and summary", async () => {
    const fake = new FakeConversations();
    const memory = { strategy: "SUMMARY_BUFFER", maxTurns: null, maxTokens: 500 } as const;
    fake.put("s", [], { model: "openai:gpt-4o-mini", memory, summary: "So far…", metadata: { a: [1] } });
    const fields = `model memory { strategy maxTurns maxTokens summary } metadata`;
    expect(await read(fake, `{ session(sessionId: "s") { ${fields} } }`)).toEqual({
      session: { model: "openai:gpt-4o-mini", memory: { ...memory, summary: "So far…" }, metadata: { a: [1] } },
    });
  });

  test("has a cursor behind its newest message, also while empty", async () => {
    const fake = conversation();
    fake.put("empty", []);
    const { row } = fake.placed("user:jim", 1);
    const document = `{ jim: session(sessionId: "user:jim") { cursor } empty: session(sessionId: "empty") { cursor } }`;
    expect(await read(fake, document)).toEqual({
      jim: { cursor: encodeCursor("user:jim", { generation: 1, position: 1, mark: row.mark }) },
      empty: { cursor: encodeCursor("empty", { generation: 1, position: -1, mark: "" }) },
    });
  });

  test("counts its tokens as far as GraphQL's Int goes", async () => {
    const fake = new FakeConversations();
    fake.put("s", [], { usage: { inputTokens: 5e9, outputTokens: 7, totalTokens: 5e9 + 7 } });
    const document = `{ session(sessionId: "s") { totalUsage { inputTokens outputTokens totalTokens } } }`;
    expect(await read(fake, document)).toEqual({
      session: { totalUsage: { inputTokens: 2147483647, outputTokens: 7, totalTokens: 2147483647 } },
    });
  });
});

describe("a run", () => {
  test("has its input, its messages and the id that its reply will have", async () => {
    const fake = new FakeConversations();
    const raw = noted("jim", 4, "m5", null, "Who am I?");
    const userRow = { position: 4, mark: "0123456789abcdef", raw };
    fake.put("jim", [], { activeRun: runningRun("jim", { inputRow: raw, userRow, text: "You a" }) });
    const fields = `input { ... on TextBlock { text } } userMessage { id position cursor } replyId reply { id } text error { code }`;
    expect(await read(fake, `{ session(sessionId: "jim") { activeRun { ${fields} } } }`)).toEqual({
      session: {
        activeRun: {
          input: [{ text: "Who am I?" }],
          userMessage: {
            id: base64("Message:jim:m5"),
            position: 4,
            cursor: encodeCursor("jim", { generation: 1, position: 4, mark: "0123456789abcdef" }),
          },
          replyId: base64("Message:jim:~1~reply"),
          reply: null,
          text: "You a",
          error: null,
        },
      },
    });
  });

  test("is cancelled by its global id; anything else is NOT_FOUND", async () => {
    const fake = conversation();
    const cancel = (runId: string) =>
      operate(contextOf(fake), `mutation ($runId: ID!) { cancelRun(input: { runId: $runId }) { run { status } } }`, {
        runId,
      });
    expect((await cancel(base64(`Run:user:jim:${run.runId}`))).data).toEqual({
      cancelRun: { run: { status: "CANCELLED" } },
    });
    expect(fake.callsOf("cancelRun").map(([, ...where]) => where)).toEqual([["user:jim", run.runId]]);
    for (const id of ["nonsense", base64("Session:user:jim"), base64("Run:user:jim:none")]) {
      expect((await cancel(id)).errors).toMatchObject([{ code: "NOT_FOUND" }]);
    }
  });
});

test("deleteSession gives back both ids", async () => {
  const fake = conversation();
  const document = `mutation { deleteSession(input: { sessionId: "user:jim" }) { deletedId sessionId } }`;
  expect(await read(fake, document)).toEqual({
    deleteSession: { deletedId: base64("Session:user:jim"), sessionId: "user:jim" },
  });
  expect(fake.callsOf("deleteSession").map(([, id]) => id)).toEqual(["user:jim"]);
});

test("generateTitle gives a model's failure as data", async () => {
  const fake = conversation();
  fake.generateTitle = () =>
    Promise.resolve({
      session: fake.session("user:jim", []),
      error: { code: "MODEL_TIMEOUT", message: "The model took too long.", retryable: true },
    });
  const document = `mutation { generateTitle(input: { sessionId: "user:jim" }) {
    session { title } error { code message retryable }
  } }`;
  expect(await read(fake, document)).toEqual({
    generateTitle: {
      session: { title: null },
      error: { code: "MODEL_TIMEOUT", message: "The model took too long.", retryable: true },
    },
  });
});

test("viewer and models", async () => {
  const data = await read(conversation(), `{ viewer { subject scopes } models { name isDefault } }`);
  expect(data).toEqual({
    viewer: { subject: "anonymous", scopes: ["chat:read", "chat:write", "admin"] },
    models: [
      { name: "offline", isDefault: true },
      { name: "openai:gpt-4o-mini", isDefault: false },
    ],
  });
});

test("a refusal by a use case is an error of that field", async () => {
  const fake = conversation();
  fake.updateSession = () => Promise.reject(badInput("input.model", "There is no such model."));
  const document = `mutation { updateSession(input: { sessionId: "user:jim", model: "x" }) { session { id } } }`;
  const { errors } = await operate(contextOf(fake), document);
  expect(errors).toEqual([
    { message: "There is no such model.", path: ["updateSession"], code: "BAD_USER_INPUT", field: "input.model" },
  ]);
});
