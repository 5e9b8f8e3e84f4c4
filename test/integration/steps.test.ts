import { Redis } from "ioredis";
import { afterAll, afterEach, beforeAll, expect, test } from "vitest";

import type { Cursor } from "../../src/conversation/message/cursor.ts";
import { markOf } from "../../src/conversation/message/ids.ts";
import { openBackend, textOf, textsOf, type TestBackend } from "../support/store/feeds.ts";
import { startRedis, type TestRedis } from "../support/redis/redis-server.ts";
import { completed, foreignRow, must, newMessage, newOp, newTurn, owner } from "../support/store/store.ts";

// A reply that calls tools and the answers to it are one step: a call is never without its answers, nor an answer without
// its call, whatever becomes of the history around them.

let server: TestRedis;
let redis: Redis;
let plain: TestBackend;

beforeAll(async () => {
  server = await startRedis({ appendonly: false });
  redis = new Redis(server.port, "127.0.0.1");
  plain = openBackend(server.port);
});
afterAll(async () => {
  await plain.backend.close();
  redis.disconnect();
  await server.stop();
});
afterEach(() => plain.abortAll());

const human = (text: string) => foreignRow(text);
const reply = (text: string) => foreignRow(text, "ai");
const answer = (text: string) => foreignRow(text, "tool");

async function listOf(id: string): Promise<readonly string[]> {
  return (await redis.lrange(id, 0, -1)).reverse().map(textOf);
}

async function cursorAt({ backend }: TestBackend, id: string, position: number): Promise<Cursor> {
  const { session } = must(await backend.store.read(owner, id, { pages: [] }));
  return { generation: session.generation, position, mark: markOf(must(await redis.lindex(id, -position - 1))) };
}

test.each([
  [5, ["q", "call", "a1", "a2", "new"]],
  [4, ["call", "a1", "a2", "new"]],
  [3, ["new"]],
  [1, ["new"]],
])("MAX_MESSAGES_PER_SESSION %i: answers go with their call", async (maxMessages, kept) => {
  const id = `trim ${maxMessages}`;
  const small = openBackend(server.port, { maxMessages });
  await redis.lpush(id, human("q"), reply("call"), answer("a1"), answer("a2"));
  await small.backend.store.append(owner, id, [newMessage(id, "USER", "new", null)], newOp());
  expect(await listOf(id)).toEqual(kept);
  const { session } = must(await small.backend.store.read(owner, id, { pages: [] }));
  expect([session.base, session.end, session.messageCount]).toEqual([5 - kept.length, 5, kept.length]);
  await small.backend.close();
});

test("a step longer than the history may be is dropped whole; a subscriber that opens then goes on behind it", async () => {
  const small = openBackend(server.port, { maxMessages: 2 });
  await redis.lpush("long", human("q"), reply("call"), answer("a1"), answer("a2"));
  // A script meets them, and there is nothing that may stay.
  const { session } = must(await small.backend.store.read(owner, "long", { pages: [] }));
  expect([session.base, session.end, session.messageCount]).toEqual([4, 4, 0]);
  const reader = await small.open("long");
  await small.backend.store.markRead(owner, "long", null);
  await small.append("long", "next");
  await reader.until("the next message", () => textsOf(reader).at(-1) === "next");
  expect(reader.ofKind("message").map(({ message }) => message.row.position)).toEqual([4]);
  expect(reader.ofKind("reset")).toEqual([]);
  expect(await listOf("long")).toEqual(["next"]);
  small.abortAll();
  await small.backend.close();
});

test("an edit inside a step begins at the reply that calls the tools", async () => {
  const { store } = plain.backend;
  await redis.lpush("edit", human("q"), reply("call"), answer("a1"), answer("a2"), reply("done"));
  const replaceFrom = await cursorAt(plain, "edit", 3);
  const turn = await store.begin(owner, "edit", newTurn("edit", "other", { replaceFrom }));
  expect(turn.kind).toBe("started");
  expect(await listOf("edit")).toEqual(["q", "other"]);
});

test("a reply made anew from inside a step takes the place of the whole step", async () => {
  const { store } = plain.backend;
  await redis.lpush("anew", human("q"), reply("call"), answer("a1"), answer("a2"), reply("done"));
  const replaceFrom = await cursorAt(plain, "anew", 2);
  const turn = await store.begin(owner, "anew", newTurn("anew", null, { replaceFrom }));
  if (turn.kind !== "started") throw new Error(turn.kind);
  await store.finish(turn, completed(turn, "again"), newOp().id);
  expect(await listOf("anew")).toEqual(["q", "again"]);
});

test("a tool's answer without a call is a step of its own", async () => {
  const { store } = plain.backend;
  await redis.lpush("alone", human("q"), answer("a1"), reply("done"));
  const replaceFrom = await cursorAt(plain, "alone", 1);
  await store.begin(owner, "alone", newTurn("alone", "other", { replaceFrom }));
  expect(await listOf("alone")).toEqual(["q", "other"]);
});

test.each([
  [0, ["q"]],
  [1, ["q", "call", "a1", "a2"]],
  [2, ["q", "call", "a1", "a2"]],
  [3, ["q", "call", "a1", "a2"]],
  [4, ["q", "call", "a1", "a2", "done"]],
])("a fork through position %i has whole steps", async (position, kept) => {
  const { store } = plain.backend;
  const id = `fork ${position}`;
  await redis.lpush(id, human("q"), reply("call"), answer("a1"), answer("a2"), reply("done"));
  const place = await cursorAt(plain, id, position);
  const { session } = must(await store.read(owner, id, { pages: [] }));
  await store.fork(owner, session, place, `${id} copy`, null, newOp());
  expect(await listOf(`${id} copy`)).toEqual(kept);
});
