import { Redis } from "ioredis";
import { describe, expect } from "vitest";
import type { SessionEvent } from "../../src/conversation/events.ts";
import { Feed } from "../../src/redis/feed/feed.ts";
import { Hub } from "../../src/redis/client/hub.ts";
import {
  commandCounts,
  cursorOf,
  noChecks,
  openBackend,
  range,
  Reader,
  replyOf,
  startServer,
  test,
  textsOf,
  type LiveReader,
  type TestBackend,
} from "../support/store/feeds.ts";
import { waitUntil } from "../support/redis/redis-command.ts";
import {
  completed,
  foreignRow,
  newMessage,
  newOp,
  newRecord,
  newTurn,
  openStore,
  owner,
} from "../support/store/store.ts";

// Streams of sessions that nobody has started yet.

async function waiting(
  at: TestBackend,
  sessionId: string,
  pulls: "always" | "never" = "always",
  after: string | null = null,
): Promise<LiveReader> {
  const reader = await at.open(sessionId, after, pulls, "wait");
  if (pulls === "never") await reader.next();
  await reader.untilCount("waiting", 1);
  return reader;
}

/** "RUNNING", "message", "progress", …: a run of progress counts as one. */
function steps(reader: { readonly events: readonly SessionEvent[] }): readonly string[] {
  const names = reader.events.map((event) => (event.kind === "run" ? event.run.status : event.kind));
  return names.filter((name, i) => name !== "progress" || names[i - 1] !== name);
}

const wholeTurn = ["waiting", "opened", "RUNNING", "message", "progress", "message", "COMPLETED"];

describe("a stream that came before its session", () => {
  test("gets all events of its first turn, at this gateway and at another", async ({ one, two }) => {
    const readers = [
      await waiting(one, "first"),
      await waiting(one, "first", "always", ""),
      await waiting(two, "first"),
    ];
    const { store } = one.backend;
    const begun = await store.begin(owner, "first", newTurn("first", "question"));
    if (begun.kind !== "started") throw new Error(begun.kind);
    await store.progress(begun, 0, "ans");
    await store.progress(begun, 3, "wer");
    await store.finish(begun, completed(begun, "answer"), newOp().id);
    for (const reader of readers) {
      await reader.until("the end of the run", () => reader.events.at(-1)?.kind === "run" && steps(reader).length > 4);
      expect(steps(reader)).toEqual(wholeTurn);
      expect(textsOf(reader)).toEqual(["question", "answer"]);
      expect(replyOf(reader)).toBe("answer");
      const [opened] = reader.ofKind("opened");
      expect(opened?.session).toMatchObject({ end: 0, readCount: 0, activeRun: null, lastRun: null, queuedRuns: [] });
    }
  });

  test("misses nothing, however much is written before its first reading is over", async ({ redis, one, two }) => {
    for (const [i, name] of range(0, 20, "race ").entries()) {
      const opening = Array.from({ length: 4 }, (_, n) => (n % 2 === 0 ? one : two).open(name, "", "always", "wait"));
      const writing = (async () => {
        if (i % 3 === 0) await redis.lpush(name, ...range(0, 3, "f").map((text) => foreignRow(text)));
        for (const text of range(0, 5)) await two.append(name, text);
      })();
      const readers = await Promise.all(opening);
      await writing;
      const expected = [...(i % 3 === 0 ? range(0, 3, "f") : []), ...range(0, 5)];
      for (const reader of readers) {
        await reader.until("the last one", () => textsOf(reader).at(-1) === "m4");
        expect(textsOf(reader)).toEqual(expected);
        expect(reader.ofKind("reset")).toEqual([]);
        expect(reader.ofKind("opened")).toHaveLength(1);
      }
    }
  });

  test("gets StreamOpened once the session is made, and nothing of what the session has not", async ({ one, two }) => {
    const reader = await waiting(one, "made");
    await two.backend.store.create(owner, "made", newRecord("A title", null), newOp());
    await reader.untilCount("opened", 1);
    expect(reader.ofKind("opened")[0]?.session).toMatchObject({ title: "A title", end: 0 });
    await two.append("made", "first");
    await reader.untilCount("message", 1);
    expect(steps(reader)).toEqual(["waiting", "opened", "message"]);
  });

  test("begins with what LangChain code pushes, one message or many", async ({ redis, one }) => {
    const few = await waiting(one, "pushed");
    await redis.lpush("pushed", foreignRow("hello"));
    await few.untilCount("message", 1);
    expect(steps(few)).toEqual(["waiting", "opened", "message"]);

    const many = await waiting(one, "pushed more");
    const slow = await waiting(one, "pushed more", "never");
    await redis.lpush("pushed more", ...range(0, 700).map((text) => foreignRow(text)));
    await many.untilCount("message", 700);
    slow.startPulling();
    await slow.untilCount("message", 700);
    for (const reader of [many, slow]) {
      expect(textsOf(reader)).toEqual(range(0, 700));
      expect(steps(reader).slice(0, 3)).toEqual(["waiting", "opened", "message"]);
    }
  });

  test("with keyspace events off it begins with the check", async () => {
    await using quiet = await startServer("--notify-keyspace-events", "");
    await using backend = openBackend(quiet.port, { feedCheckMs: 300 });
    const reader = await waiting(backend, "s");
    await quiet.redis.lpush("s", foreignRow("foreign"));
    await reader.untilCount("message", 1);
    expect(textsOf(reader)).toEqual(["foreign"]);
  });

  test("does not begin with a list that is no history, but with the session that comes after it", async ({
    redis,
    one,
  }) => {
    const reader = await waiting(one, "jobs");
    await redis.lpush("jobs", JSON.stringify({ job: 1 }));
    await redis.del("jobs");
    await redis.set("jobs", "text");
    await expect(one.open("jobs", null, "always", "wait")).rejects.toMatchObject({ code: "NOT_FOUND" });
    await redis.del("jobs");
    await one.append("jobs", "hello");
    await reader.untilCount("message", 1);
    expect(steps(reader)).toEqual(["waiting", "opened", "message"]);
  });

  test("delivers everything to a client that did not read meanwhile, too", async ({ one }) => {
    const reader = await waiting(one, "late", "never");
    // More than the ring holds.
    for (const text of range(0, 600)) await one.append("late", text);
    reader.startPulling();
    await reader.untilCount("message", 600);
    expect(textsOf(reader)).toEqual(range(0, 600));
    expect(steps(reader).slice(0, 3)).toEqual(["waiting", "opened", "message"]);
    expect(reader.ofKind("reset")).toEqual([]);
  });

  test("a fork of another session begins it, with all that was copied", async ({ one, two }) => {
    await one.append("origin", ...range(0, 3));
    const reader = await waiting(one, "copy");
    const origin = await one.backend.store.read(owner, "origin", { pages: [] });
    if (!origin) throw new Error("no origin");
    await two.backend.store.fork(owner, origin.session, null, "copy", null, newOp());
    await reader.untilCount("message", 3);
    expect(textsOf(reader)).toEqual(range(0, 3));
    expect(steps(reader).slice(0, 3)).toEqual(["waiting", "opened", "message"]);
  });

  test("ends like other streams when the session goes, and the next stream waits", async ({ one, two }) => {
    const reader = await waiting(one, "short");
    await one.append("short", "first");
    await reader.untilCount("message", 1);
    await two.backend.store.remove(owner, "short");
    const next = await waiting(one, "short");
    await reader.until("its end", () => reader.ended);
    expect(reader.events.at(-1)).toEqual({ kind: "removed", sessionId: "short" });
    await one.append("short", "again");
    await next.untilCount("message", 1);
    expect(steps(next)).toEqual(["waiting", "opened", "message"]);
    expect(textsOf(next)).toEqual(["again"]);
  });

  test("one that expires while some wait for it to begin again", async ({ one }) => {
    await one.backend.store.create(owner, "brief", newRecord(null, 1), newOp());
    await one.append("brief", "first");
    const before = await one.open("brief");
    await before.until("its end", () => before.ended);
    const reader = await waiting(one, "brief");
    await one.append("brief", "second");
    await reader.untilCount("message", 1);
    expect(textsOf(reader)).toEqual(["second"]);
  });

  test("its cursor leads to the beginning, before there is a session and after", async ({ one, two }) => {
    const reader = await waiting(one, "resumed");
    const cursor = cursorOf(reader);
    reader.abort();
    const again = await waiting(two, "resumed", "always", cursor);
    await one.append("resumed", "a", "b");
    await again.untilCount("message", 2);
    const late = await one.open("resumed", cursor, "always", "wait");
    await late.untilCount("message", 2);
    expect(textsOf(late)).toEqual(["a", "b"]);
    expect(late.ofKind("reset")).toEqual([]);
    const opened = again.ofKind("opened")[0];
    const behind = await one.open("resumed", opened?.cursor, "always", "wait");
    await behind.untilCount("message", 2);
    expect(textsOf(behind)).toEqual(["a", "b"]);
  });

  test("a place whose session is gone brings its removal and the end", async ({ one, two }) => {
    await one.append("past", "a");
    const reader = await one.open("past", "");
    await reader.untilCount("message", 1);
    const cursor = cursorOf(reader);
    await one.backend.store.remove(owner, "past");
    const late = await two.open("past", cursor, "always", "end");
    await late.until("its end", () => late.ended);
    expect(late.events).toEqual([{ kind: "removed", sessionId: "past" }]);
    expect(late.error).toBeNull();
  });
});

test("what starts it during the first reading is not forgotten, also where no keyspace event tells of it", async () => {
  await using quiet = await startServer("--notify-keyspace-events", "");
  const opened = openStore(quiet.port);
  const { store } = opened;
  const subscriber = new Redis(quiet.port, "127.0.0.1", { autoResubscribe: false });
  const hub = new Hub(subscriber, opened.redis, 5000, () => undefined);
  const read = store.read.bind(store);
  let readings = 0;
  store.read = async (...args) => {
    const reading = await read(...args);
    if (readings++ === 0) {
      const heard = new Promise((resolve) => subscriber.once("message", resolve));
      await store.append(owner, "early", [newMessage("early", "USER", "first", null)], newOp());
      await heard;
    }
    return reading;
  };
  const feed = new Feed(owner, "early", store, hub, noChecks(), {
    db: 0,
    checkMs: () => 600_000,
    onError: () => undefined,
  });
  await feed.start();
  await waitUntil("the feed tells of it", () => Promise.resolve(feed.next > 1));
  expect([feed.entry(0), feed.entry(1)]).toMatchObject([
    { kind: "started" },
    { kind: "message", row: { position: 0 } },
  ]);
  feed.close();
  hub.close();
  opened.close();
});

test("a stream that waits goes on over a restart of Redis", async () => {
  await using own = await startServer();
  await using backend = openBackend(own.port, { feedCheckMs: 600_000 });
  const readers = [await waiting(backend, "before"), await waiting(backend, "after")];
  await own.server.restart();
  for (const [i, name] of ["before", "after"].entries()) {
    // The first may be told to whoever listens before the gateway does again.
    await own.redis.lpush(name, foreignRow("hello"));
    await readers[i]?.untilCount("message", 1);
  }
  for (const reader of readers) expect(steps(reader)).toEqual(["waiting", "opened", "message"]);
});

test("writes of another owner under the same id do not begin the stream", async ({ one }) => {
  const { store } = one.backend;
  const stop = new AbortController();
  const mine = new Reader(
    await one.backend.feeds.open("somebody", "taken", null, "wait", { pages: [] }, stop.signal),
    stop,
    "always",
  );
  await mine.untilCount("waiting", 1);
  for (let i = 0; i < 20; i++) {
    const begun = await store.begin(owner, "taken", newTurn("taken", `question ${i}`));
    if (begun.kind !== "started") throw new Error(begun.kind);
    for (let at = 0; at < 20; at++) await store.progress(begun, at, "x");
    await store.finish(begun, completed(begun, "x".repeat(20)), newOp().id);
  }
  await store.remove(owner, "taken");
  const row = newMessage("taken", "USER", "mine", null);
  await store.append("somebody", "taken", [row], newOp());
  await mine.untilCount("message", 1);
  expect(steps(mine)).toEqual(["waiting", "opened", "message"]);
  expect(textsOf(mine)).toEqual(["mine"]);
  stop.abort();
});

test("waiting streams write nothing, and share one feed and its readings", async () => {
  await using own = await startServer();
  await using backend = openBackend(own.port, { feedCheckMs: 100 });
  const changes = async () => /rdb_changes_since_last_save:(\d+)/.exec(await own.redis.info("persistence"))?.[1];
  const before = await changes();
  const readings = () => commandCounts(own.redis).then((counts) => counts.get("evalsha") ?? 0);
  const readers = await Promise.all(Array.from({ length: 50 }, () => waiting(backend, "crowd")));
  expect(backend.backend.feeds.size).toEqual({ feeds: 1, subscriptions: 50 });
  // Some checks later.
  const soFar = await readings();
  await waitUntil("some checks", async () => (await readings()) > soFar + 5);
  expect(await changes()).toBe(before);
  expect(await own.redis.dbsize()).toBe(0);
  const shared = new Set<unknown>();
  await backend.append("crowd", "hello");
  for (const reader of readers) {
    await reader.untilCount("message", 1);
    shared.add(reader.ofKind("message")[0]?.message.row);
    expect(steps(reader)).toEqual(["waiting", "opened", "message"]);
  }
  expect(shared.size).toBe(1);
  backend.abortAll();
  await waitUntil("nothing is left", () => Promise.resolve(backend.backend.feeds.size.feeds === 0));
});
