import { Redis } from "ioredis";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { ask, follow } from "../support/gateway/conversation.ts";
import { startGateway, type TestGateway } from "../support/gateway/gateway.ts";
import { execute, subscribe } from "../support/gateway/graphql-client.ts";
import { startOpenAI, type OpenAIServer } from "../support/model/openai-server.ts";
import { startRedis, type TestRedis } from "../support/redis/redis-server.ts";

// Rows that are no messages, written by anybody into a history: they are shown as they are and are in nobody's way.

let server: TestRedis;
let redis: Redis;
let openai: OpenAIServer;
let gateway: TestGateway;
beforeAll(async () => {
  [server, openai] = await Promise.all([startRedis(), startOpenAI()]);
  redis = new Redis(server.url);
  gateway = await startGateway({
    redis: server.url,
    model: "openai:small",
    openai: { apiKey: "key", baseUrl: openai.baseUrl },
  });
});
beforeEach(() => redis.flushdb());
afterAll(async () => {
  await gateway.close();
  redis.disconnect();
  await Promise.all([server.stop(), openai.close()]);
});

interface Shown {
  readonly position: number;
  readonly role: string;
  readonly text: string;
  readonly content: readonly unknown[];
  readonly stored: unknown;
  readonly storedText: string;
}

const shownFields = "position role text content { __typename } stored storedText";
const newest = `query ($id: String!) {
  session(sessionId: $id) { messageCount messages(last: 50) { nodes { id cursor ${shownFields} } } }
}`;
const oldest = newest.replace("last", "first");

async function pageOf(sessionId: string, query = newest): Promise<readonly Shown[]> {
  interface Data {
    readonly session: { readonly messageCount: number; readonly messages: { readonly nodes: readonly Shown[] } };
  }
  const { session } = await execute<Data>(gateway.url, query, { id: sessionId });
  expect(session.messageCount).toBe(session.messages.nodes.length);
  return session.messages.nodes;
}

/** Each row and what `stored` gives of it: its JSON, or its text where JSON! has no value for it. */
const oddRows: readonly (readonly [raw: string, stored: unknown])[] = [
  ["null", "null"],
  [" null ", " null "],
  ["5", 5],
  ["-0.5", -0.5],
  ["1e999", "1e999"],
  ["-1e999", "-1e999"],
  ["true", true],
  ['"text"', "text"],
  ['""', ""],
  ["[]", []],
  ["[null]", [null]],
  ["{}", {}],
  ["", ""],
  ["{nope", "{nope"],
  ['{"type":null,"data":null}', { type: null, data: null }],
  ['{"type":"human","data":[]}', { type: "human", data: [] }],
];

const human = '{"type":"human","data":{"content":"Hi! I\'m Jim."}}';

describe.each([
  ["in the middle", [human], ['{"type":"ai","data":{"content":"Hello Jim!"}}']],
  ["at the newest end", [human, '{"type":"ai","data":{"content":"Hello Jim!"}}'], []],
  ["at the oldest end", [], [human, '{"type":"ai","data":{"content":"Hello Jim!"}}']],
])("a row that is no message, %s of a history", (_where, before, after) => {
  test.each(oddRows)("%j is shown and breaks nothing", async (raw, stored) => {
    // Begun and emptied here, so that the session is known whatever its ends are.
    await execute(gateway.url, `mutation { createSession(input: { sessionId: "odd" }) { session { id } } }`);
    await redis.lpush("odd", ...before, raw, ...after);
    const shown = { position: before.length, role: "OTHER", text: "", content: [], stored, storedText: raw };
    // Three times: a query that recurs takes another way.
    for (const query of [newest, oldest, newest, newest, oldest]) {
      const nodes = await pageOf("odd", query);
      expect(nodes).toHaveLength(3);
      expect(nodes[before.length]).toMatchObject(shown);
    }
    const { run, reply } = await ask(gateway.url, "odd", "What did I just say my name was?");
    expect(run.error).toBeNull();
    expect(reply?.text).toBe("Your name is Jim.");
    expect(openai.requests.at(-1)?.messages.map(({ role }) => role)).toEqual(["user", "assistant", "user"]);
    expect(await redis.lindex("odd", -1 - before.length)).toBe(raw);
  });
});

test("rows that are no messages come to subscribers as they are pushed", async () => {
  await ask(gateway.url, "odd", "Hello");
  const stream = await follow(gateway.url, "odd");
  for (const [raw] of oddRows) await redis.lpush("odd", raw);
  const added = await stream.waitForCount(oddRows.length, ({ __typename }) => __typename === "MessageAdded");
  expect(added.map((event) => ("message" in event ? event.message.role : null))).toEqual(oddRows.map(() => "OTHER"));
  stream.close();
  expect((await pageOf("odd")).slice(2).map(({ storedText }) => storedText)).toEqual(oddRows.map(([raw]) => raw));
});

test("a history of nothing but rows that are no messages has its page, its title and its turn", async () => {
  await execute(gateway.url, `mutation { createSession(input: { sessionId: "odd" }) { session { id } } }`);
  for (const [raw] of oddRows) await redis.lpush("odd", raw);
  expect((await pageOf("odd")).map(({ stored }) => stored)).toEqual(oddRows.map(([, stored]) => stored));
  const titled = await execute<{ generateTitle: { error: { code: string; retryable: boolean } } }>(
    gateway.url,
    `mutation { generateTitle(input: { sessionId: "odd" }) { error { code retryable } } }`,
  );
  expect(titled.generateTitle.error).toEqual({ code: "OTHER", retryable: false });
  expect((await ask(gateway.url, "odd", "Hello")).run.status).toBe("COMPLETED");
});

test("what a reply was made without is kept with its run", async () => {
  const url = "https://example.com/a.pdf";
  const content = [
    { type: "text", text: "What is in it?" },
    { type: "file", source_type: "url", url, mime_type: "application/pdf" },
  ];
  const notes = ["Left out of what the model saw, as it does not take it: a file."];
  await redis.lpush("files", JSON.stringify({ type: "human", data: { content } }));
  await redis.lpush("files", '{"type":"ai","data":{"content":"A report."}}');
  const stream = subscribe<{ readonly run?: { readonly status: string; readonly notes: readonly string[] } }>(
    gateway.url,
    `subscription { sessionEvents(sessionId: "files") { __typename ... on RunChanged { run { status notes } } } }`,
  );
  await stream.waitForCount(1);
  const send = `mutation ($text: String, $content: [ContentBlockInput!]) {
    sendMessage(input: { sessionId: "files", text: $text, content: $content }) { run { id notes error { message retryable } } reply { text } }
  }`;
  interface Sent {
    readonly sendMessage: {
      readonly run: { readonly id: string; readonly notes: readonly string[]; readonly error: unknown };
    };
  }
  const { sendMessage } = await execute<Sent>(gateway.url, send, { text: "Thanks, and now something else." });
  expect(sendMessage.run).toMatchObject({ notes, error: null });
  const { run } = await stream.waitFor((event) => event.run?.status === "COMPLETED");
  expect(run?.notes).toEqual(notes);
  stream.close();
  const { node } = await execute<{ node: unknown }>(
    gateway.url,
    `query ($id: ID!) { node(id: $id) { ... on Run { notes } } }`,
    {
      id: sendMessage.run.id,
    },
  );
  expect(node).toEqual({ notes });

  // As the message itself it is an error, and in the way of no later turn.
  const own = [{ text: "And this?" }, { other: { type: "file", source_type: "url", url } }];
  const failed = await execute<Sent>(gateway.url, send, { content: own });
  expect(failed.sendMessage.run).toMatchObject({ notes, error: { retryable: false } });
  const later = await execute<Sent>(gateway.url, send, { text: "Hello" });
  expect(later.sendMessage.run).toMatchObject({
    notes: ["Left out of what the model saw, as it does not take it: 2 files."],
    error: null,
  });
  // Without memory of them there is nothing to tell.
  expect((await ask(gateway.url, "other", "Hello")).run.status).toBe("COMPLETED");
  const other = await execute(gateway.url, `{ session(sessionId: "other") { lastRun { notes } } }`);
  expect(other).toEqual({ session: { lastRun: { notes: [] } } });
});
