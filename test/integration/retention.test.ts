import { RedisChatMessageHistory } from "@langchain/redis";
import { Redis } from "ioredis";
import { afterAll, afterEach, beforeAll, expect, test } from "vitest";
import { encodeCursor } from "../../src/conversation/message/cursor.ts";
import { execute } from "../support/gateway/graphql-client.ts";
import { startGateway } from "../support/gateway/gateway.ts";
import { commandsOf, cursorOf, listOf, openBackend, range, textsOf, type TestBackend } from "../support/store/feeds.ts";
import { waitUntil } from "../support/redis/redis-command.ts";
import { startRedis, type TestRedis } from "../support/redis/redis-server.ts";
import { foreignRow, must, owner } from "../support/store/store.ts";

const kept = 5;

let server: TestRedis;
let redis: Redis;
let one: TestBackend;

beforeAll(async () => {
  server = await startRedis({ appendonly: false });
  redis = new Redis(server.port, "127.0.0.1");
  one = openBackend(server.port, { maxMessages: kept });
});
afterEach(() => one.abortAll());
afterAll(async () => {
  await one.backend.close();
  redis.disconnect();
  await server.stop();
});

async function sessionOf(id: string) {
  return must(await one.backend.store.read(owner, id, { pages: [] })).session;
}

test("a subscriber that keeps up gets every message, and does not notice that old ones are trimmed", async () => {
  await one.append("keeps-up", "first");
  const reader = await one.open("keeps-up");
  const commands = await commandsOf(redis, async () => {
    for (const text of range(0, 40)) await one.append("keeps-up", text);
    await reader.untilCount("message", 40);
  });
  expect(textsOf(reader)).toEqual(range(0, 40));
  expect(reader.ofKind("reset")).toEqual([]);
  expect(await redis.llen("keeps-up")).toBe(kept);
  // Each write trims, and Redis tells of it; that is explained by the write's own publication, so it costs no reading.
  expect(commands.get("lrange") ?? 0).toBeLessThan(10);
  expect(commands.get("ltrim")).toBe(36);
});

test("one write of more than is kept reaches a subscriber whole", async () => {
  await one.append("at-once", "first");
  const reader = await one.open("at-once");
  await one.append("at-once", ...range(0, 20));
  await reader.untilCount("message", 20);
  expect(textsOf(reader)).toEqual(range(0, 20));
  expect(await sessionOf("at-once")).toMatchObject({ base: 16, end: 21, messageCount: kept });
});

test("a subscriber that lags behind the oldest kept message gets one reset, and no other gets any", async () => {
  await one.append("lags", "first");
  const { generation } = await sessionOf("lags");
  const slow = await one.open("lags", null, "never");
  const quick = await one.open("lags");
  // More than the feed's ring holds.
  for (let i = 0; i < 6; i++) await one.append("lags", ...range(i * 100, i * 100 + 100));
  await quick.untilCount("message", 600);
  slow.startPulling();
  await slow.untilCount("reset", 1);
  await one.append("lags", "last");
  await slow.untilCount("message", 1);
  await quick.untilCount("message", 601);
  expect(textsOf(slow)).toEqual(["last"]);
  expect(slow.ofKind("reset").map(({ kept: below }) => below)).toEqual([0]);
  expect(quick.ofKind("reset")).toEqual([]);
  // Nothing was lost: no new generation, so all other cursors still hold.
  expect((await sessionOf("lags")).generation).toBe(generation);
});

test("to resume, a cursor holds while nothing behind it is missing", async () => {
  await one.append("resume", ...range(0, 3));
  const before = await one.open("resume", "");
  await before.untilCount("message", 3);
  const cursor = cursorOf(before);
  await one.append("resume", ...range(3, 3 + kept));
  const holding = await one.open("resume", cursor);
  await holding.untilCount("message", kept);
  expect(textsOf(holding)).toEqual(range(3, 3 + kept));
  expect(holding.ofKind("reset")).toEqual([]);
  await one.append("resume", "one too many");
  const expired = await one.open("resume", cursor);
  await expired.untilCount("reset", 1);
  const page = { first: 10, after: cursor, last: null, before: null };
  const reading = await one.backend.store.read(owner, "resume", { pages: [page] });
  expect(reading?.session.pages[0]).toMatchObject({ code: "CURSOR_EXPIRED" });
  // From the beginning means from what there is.
  const all = await one.open("resume", "");
  await all.untilCount("message", kept);
  expect(all.ofKind("message").map(({ message }) => message.row.position)).toEqual([4, 5, 6, 7, 8]);
  const { generation } = await sessionOf("resume");
  const start = encodeCursor("resume", { generation, position: -1, mark: "" });
  await (await one.open("resume", start)).untilCount("reset", 1);
});

test("what foreign code pushes beyond the limit is trimmed when it is met, and subscribers have the newest in the end", async () => {
  await one.append("foreign", "first");
  const reader = await one.open("foreign");
  await redis.lpush("foreign", ...range(0, 20, "f").map((text) => foreignRow(text)));
  await waitUntil("the list is trimmed", async () => (await redis.llen("foreign")) === kept);
  await one.append("foreign", "last");
  await reader.until("last", () => textsOf(reader).includes("last"));
  const session = await sessionOf("foreign");
  expect(session).toMatchObject({ base: 17, end: 22, messageCount: kept });
  // Either each came, or the reader was told that some are missing: then it reads them with the session.
  const told = reader.ofKind("reset").length > 0 ? ["last"] : [...range(0, 20, "f"), "last"];
  expect(Object.values(listOf(reader)).slice(-told.length)).toEqual(told);
});

test("LangChain's own history reads the kept messages in order, and goes on behind them", async () => {
  await one.append("langchain", ...range(0, 12));
  const history = new RedisChatMessageHistory({ sessionId: "langchain", config: { url: server.url } });
  try {
    expect((await history.getMessages()).map((message) => message.content)).toEqual(range(7, 12));
    await history.addUserMessage("mine");
    const { pages, base } = must(
      await one.backend.store.read(owner, "langchain", {
        pages: [{ first: null, after: null, last: 1, before: null }],
      }),
    ).session;
    expect(base).toBe(8);
    expect(pages[0]).toMatchObject({ rows: [{ position: 12 }], hasPreviousPage: true });
    expect((await history.getMessages()).map((message) => message.content)).toEqual([...range(8, 12), "mine"]);
  } finally {
    await history.client.quit();
  }
});

test("addMessages of more than is kept answers all that it was given", async () => {
  const gateway = await startGateway({ redis: server.url, maxMessagesPerSession: 2 });
  try {
    const add = `mutation ($messages: [MessageInput!]!) {
      addMessages(input: { sessionId: "many", idempotencyKey: "k", messages: $messages }) {
        messages { id position text } session { messageCount messages { nodes { id } } }
      }
    }`;
    type Added = { id: string; position: number; text: string };
    type Data = { addMessages: { messages: Added[]; session: { messageCount: number; messages: { nodes: Added[] } } } };
    const messages = range(0, 5).map((text, i) => ({ role: "USER", text, ...(i === 1 ? { messageId: "own" } : {}) }));
    const first = (await execute<Data>(gateway.url, add, { messages })).addMessages;
    expect(first.messages.map(({ position, text }) => [position, text])).toEqual(
      range(0, 5).map((text, i) => [i, text]),
    );
    expect(first.messages[1]?.id).toBe(Buffer.from("Message:many:own").toString("base64"));
    expect(first.session.messageCount).toBe(5);
    expect(first.session.messages.nodes.map(({ id }) => id)).toEqual(first.messages.slice(3).map(({ id }) => id));
    // Sent again, what is kept is told: the other rows are gone, and so is the time that was written in them.
    expect((await execute<Data>(gateway.url, add, { messages })).addMessages.messages).toEqual(first.messages.slice(3));
  } finally {
    await gateway.close();
  }
});

test("over GraphQL: the messages that are kept can be read, and unread is still messageCount - readCount", async () => {
  const gateway = await startGateway({ redis: server.url, maxMessagesPerSession: 4 });
  try {
    const texts = (from: number, to: number) => range(from, to).map((text) => ({ role: "USER", text }));
    const add = `mutation ($messages: [MessageInput!]!) {
      addMessages(input: { sessionId: "api", messages: $messages }) { messages { position } }
    }`;
    await execute(gateway.url, add, { messages: texts(0, 3) });
    await execute(gateway.url, `mutation { markRead(input: { sessionId: "api" }) { session { readCount } } }`);
    await execute(gateway.url, add, { messages: texts(3, 9) });
    const ask = `{ session(sessionId: "api") {
      messageCount readCount messages(first: 10) { nodes { position text } pageInfo { hasPreviousPage hasNextPage } }
    } }`;
    expect(await execute(gateway.url, ask)).toEqual({
      session: {
        messageCount: 9,
        readCount: 3,
        messages: {
          nodes: [5, 6, 7, 8].map((position) => ({ position, text: `m${position}` })),
          pageInfo: { hasPreviousPage: false, hasNextPage: false },
        },
      },
    });
  } finally {
    await gateway.close();
  }
});
