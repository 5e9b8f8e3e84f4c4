import type { Redis } from "ioredis";
import { describe, expect } from "vitest";
import { parseCursor } from "../../src/conversation/message/cursor.ts";
import { messagesOf } from "../../src/conversation/conversations/messages-only.ts";
import {
  cursorOf,
  listOf,
  openBackend,
  range,
  startServer,
  test,
  textsOf,
  type TestBackend,
} from "../support/store/feeds.ts";
import { waitUntil } from "../support/redis/redis-command.ts";
import { foreignRow, must, newTurn, owner } from "../support/store/store.ts";

describe("loss is told (P4)", () => {
  const losses: Readonly<Record<string, (redis: Redis, key: string) => Promise<unknown>>> = {
    "DEL by foreign code": (redis, key) => redis.del(key),
    "LTRIM by foreign code": (redis, key) => redis.ltrim(key, 0, 2),
    "one row removed from the middle": async (redis, key) =>
      redis.lrem(key, 1, must((await redis.lrange(key, 2, 2))[0])),
    "the newest row overwritten": (redis, key) => redis.lset(key, 0, foreignRow("other")),
    "a row put in front of the oldest": (redis, key) => redis.rpush(key, foreignRow("older")),
    "as many other rows in its place": (redis, key) =>
      redis
        .multi()
        .del(key)
        .lpush(key, ...range(0, 6, "other").map((text) => foreignRow(text)))
        .exec(),
    "another list renamed to it": async (redis, key) => {
      await redis.lpush(`${key} copy`, ...range(0, 9, "other").map((text) => foreignRow(text)));
      await redis.rename(`${key} copy`, key);
    },
    "rewound and written on, as after a failover": (redis, key) =>
      redis.multi().ltrim(key, 2, -1).lpush(key, foreignRow("x"), foreignRow("y"), foreignRow("z")).exec(),
  };

  test.for(Object.entries(losses))("%s", async ([name, lose], { redis, one, two }) => {
    const key = `loss ${name}`;
    await one.append(key, ...range(0, 6));
    const reader = await one.open(key, "");
    const elsewhere = await two.open(key);
    const only = await one.open(key, null, "never");
    const messages = messagesOf(only.source);
    await reader.untilCount("message", 6);
    const stale = cursorOf(reader);
    await lose(redis, key);
    await reader.untilCount("reset", 1);
    await elsewhere.untilCount("reset", 1);
    expect(reader.ofKind("reset")[0]).toMatchObject({ kept: 0 });
    await expect(messages.next()).rejects.toMatchObject({ code: "CURSOR_EXPIRED" });

    const late = await one.open(key, stale);
    await late.untilCount("reset", 1);
    await one.append(key, "goes on");
    for (const each of [reader, elsewhere, late]) {
      await each.until("the next message", () => textsOf(each).at(-1) === "goes on");
      expect(each.ofKind("reset")).toHaveLength(1);
    }
    expect(textsOf(late)).toEqual(["goes on"]);
  });

  test("FLUSHALL ends the session", async () => {
    await using flushed = await startServer();
    await using backend = openBackend(flushed.port, { feedCheckMs: 300 });
    await backend.append("s", ...range(0, 5));
    const reader = await backend.open("s");
    const only = messagesOf((await backend.open("s", null, "never")).source);
    await flushed.redis.flushall();
    await reader.until("the end", () => reader.ended);
    expect(reader.events.at(-1)).toEqual({ kind: "removed", sessionId: "s" });
    await expect(only.next()).rejects.toMatchObject({ code: "NOT_FOUND" });
    await waitUntil("nothing is left", () => Promise.resolve(backend.backend.feeds.size.feeds === 0));
  });

  test("FLUSHALL and a new history under the same id are noticed, although writes are counted anew", async () => {
    await using flushed = await startServer();
    await using backend = openBackend(flushed.port);
    for (const text of range(0, 30)) await backend.append("s", text);
    const reader = await backend.open("s");
    const another = await backend.open("s", "");
    await another.untilCount("message", 30);
    await flushed.redis.flushall();
    for (const text of range(0, 5, "new")) await backend.append("s", text);
    await reader.untilCount("reset", 1);
    await backend.append("s", "last");
    for (const one of [reader, another]) {
      await one.until("the last message", () => textsOf(one).at(-1) === "last");
      const reset = must(one.ofKind("reset")[0]);
      const after = one.events
        .slice(one.events.indexOf(reset))
        .flatMap((event) => (event.kind === "message" ? [event] : []));
      expect(after.map(({ message }) => message.row.position)).toEqual(
        Array.from({ length: 6 - reset.session.end }, (_, i) => reset.session.end + i),
      );
    }
  });

  test("a foreign push right behind FLUSHALL starts a history of its own", async () => {
    await using flushed = await startServer();
    await using backend = openBackend(flushed.port);
    for (const text of range(0, 30)) await backend.append("s", text);
    const reader = await backend.open("s");
    await flushed.redis.multi().flushall().lpush("s", foreignRow("foreign")).exec();
    await reader.untilCount("reset", 1);
    expect(reader.ofKind("reset")[0]).toMatchObject({ kept: 0, session: { messageCount: 1 } });
    await flushed.redis.lpush("s", foreignRow("next"));
    await reader.untilCount("message", 1);
    expect(textsOf(reader)).toEqual(["next"]);
  });

  test("clear, rewind and delete by another process", async ({ one, two }) => {
    await one.append("resets", ...range(0, 6));
    const reader = await one.open("resets", "");
    await reader.untilCount("message", 6);
    const cursor = must(reader.ofKind("message")[4]).cursor;
    const { end } = must(await two.backend.store.read(owner, "resets", { pages: [] })).session;
    expect(end).toBe(6);
    await rewind(two, "resets", cursor);
    await reader.untilCount("reset", 1);
    await reader.until("the message instead", () => listOf(reader).length === 5);
    expect(reader.ofKind("reset")[0]).toMatchObject({ kept: 4 });
    expect(listOf(reader)).toEqual(["m0", "m1", "m2", "m3", "instead"]);
    await two.backend.store.clear(owner, "resets");
    await reader.untilCount("reset", 2);
    expect(reader.ofKind("reset")[1]).toMatchObject({ kept: 0, session: { messageCount: 0 } });
    await two.append("resets", "anew");
    await reader.until("the new message", () => textsOf(reader).at(-1) === "anew");
    await two.backend.store.remove(owner, "resets");
    await reader.until("the end", () => reader.ended);
    expect(reader.events.at(-1)).toEqual({ kind: "removed", sessionId: "resets" });
    expect(reader.error).toBeNull();
  });

  test("a history that expires is removed", async ({ redis, one }) => {
    await redis.lpush("short", foreignRow("first"));
    const reader = await one.open("short");
    // Long enough to be noticed before it is over, also on a busy machine.
    await redis.pexpire("short", 2000);
    await reader.until("the end", () => reader.ended);
    expect(reader.events.at(-1)).toEqual({ kind: "removed", sessionId: "short" });
  });
});

async function rewind(from: TestBackend, sessionId: string, cursor: string): Promise<void> {
  const begun = await from.backend.store.begin(
    owner,
    sessionId,
    newTurn(sessionId, "instead", { replaceFrom: must(parseCursor(sessionId, cursor)) }),
  );
  expect(begun.kind).toBe("started");
}
