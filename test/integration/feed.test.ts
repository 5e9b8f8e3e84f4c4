import { Redis } from "ioredis";
import { describe, expect } from "vitest";
import { Feed } from "../../src/redis/feed/feed.ts";
import { Hub } from "../../src/redis/client/hub.ts";
import { sessionKeys } from "../../src/redis/store/keys.ts";
import {
  commandsOf,
  cursorOf,
  noChecks,
  openBackend,
  range,
  replyOf,
  startServer,
  test,
  textsOf,
  type TestBackend,
} from "../support/store/feeds.ts";
import { waitUntil } from "../support/redis/redis-command.ts";
import { completed, foreignRow, must, newOp, newRecord, newTurn, openStore, owner } from "../support/store/store.ts";

describe("messages (P3, P5)", () => {
  test("of this process, of another and of foreign code come once and in order", async ({ redis, one, two }) => {
    await one.append("mixed", "first");
    const here = await one.open("mixed");
    const there = await two.open("mixed");
    for (let i = 0; i < 20; i++) {
      await one.append("mixed", `a${i}`);
      await redis.lpush("mixed", foreignRow(`f${i}`), foreignRow(`g${i}`));
      await two.append("mixed", `b${i}`, `c${i}`);
    }
    const expected = range(0, 20, "").flatMap((i) => ["a", "f", "g", "b", "c"].map((name) => `${name}${i}`));
    for (const reader of [here, there]) {
      await reader.untilCount("message", 100);
      expect(textsOf(reader)).toEqual(expected);
      expect(reader.ofKind("message").map(({ message }) => message.row.position)).toEqual(
        Array.from({ length: 100 }, (_, i) => i + 1),
      );
    }
  });

  test("a foreign burst of more than a page, in one command and in many", async ({ redis, one }) => {
    await one.append("burst", "first");
    const reader = await one.open("burst");
    await redis.lpush("burst", ...range(0, 700).map((text) => foreignRow(text)));
    const pipeline = redis.pipeline();
    for (const text of range(700, 1100)) pipeline.lpush("burst", foreignRow(text));
    await pipeline.exec();
    await reader.untilCount("message", 1100);
    expect(textsOf(reader)).toEqual(range(0, 1100));
  });

  test("with keyspace events off foreign pushes come with the check", async () => {
    await using quiet = await startServer("--notify-keyspace-events", "");
    await using backend = openBackend(quiet.port, { feedCheckMs: 300 });
    await backend.append("s", "first");
    const reader = await backend.open("s");
    await quiet.redis.lpush("s", foreignRow("foreign"));
    await reader.untilCount("message", 1);
    expect(textsOf(reader)).toEqual(["foreign"]);
  });

  test("a row that is no UTF-8 is one of them, and no loss", async ({ redis, one, two }) => {
    await one.append("latin", "first");
    const readers = [await one.open("latin"), await two.open("latin")];
    const turn = newTurn("latin", "question");
    await one.backend.store.begin(owner, "latin", turn);
    const row = (text: string) => Buffer.from(foreignRow(text), "latin1");
    await redis.lpush("latin", row("caf\xe9"));
    for (const reader of readers) await reader.untilCount("message", 2);
    await redis.lpush("latin", row("\xe0"), foreignRow("plain"));
    await one.append("latin", "last");
    for (const reader of readers) {
      await reader.untilCount("message", 5);
      expect(textsOf(reader)).toEqual(["question", "caf\ufffd", "\ufffd", "plain", "last"]);
      expect(reader.ofKind("reset")).toEqual([]);
    }
    const reading = await one.backend.store.read(owner, "latin", { pages: [], runId: turn.runId });
    expect(reading?.run?.status).toBe("RUNNING");
  });

  test("an own message costs its subscribers no reading", async ({ redis, one, two }) => {
    await one.append("cheap", "first");
    const readers = await Promise.all([one.open("cheap"), one.open("cheap"), two.open("cheap")]);
    const counts = await commandsOf(redis, async () => {
      for (const text of range(0, 100)) await one.append("cheap", text);
      for (const reader of readers) await reader.untilCount("message", 100);
      // What a feed still owed would come a moment later.
      await reads(one, "cheap", 20);
    });
    expect(counts.get("evalsha")).toBe(100 + 20);
  });

  test("nor does text of a reply, which lets the list of a session with a TTL live longer", async ({
    redis,
    one,
    two,
  }) => {
    const { store } = one.backend;
    await store.create(owner, "sliding", newRecord(null, 100), newOp());
    const begun = await store.begin(owner, "sliding", newTurn("sliding", "question"));
    if (begun.kind !== "started") throw new Error(begun.kind);
    // The first may have to bring its script along.
    await store.progress(begun, 0, "x");
    const reader = await two.open("sliding");
    const counts = await commandsOf(redis, async () => {
      for (let i = 1; i <= 20; i++) {
        await store.progress(begun, i, "x");
        // Longer than events are held against publications.
        await new Promise((resolve) => setTimeout(resolve, 20));
      }
      await reader.until("the text", () => replyOf(reader) === "x".repeat(21));
    });
    expect(counts.get("evalsha")).toBe(20);
  });

  test("a push during the first reading is not forgotten", async ({ server, redis, one }) => {
    const opened = openStore(server.port);
    const { store } = opened;
    const subscriber = new Redis(server.port, "127.0.0.1", { autoResubscribe: false });
    const hub = new Hub(subscriber, opened.redis, 5000, () => undefined);
    await one.append("early", "first");
    const read = store.read.bind(store);
    let pushed = 0;
    store.read = async (...args) => {
      const reading = await read(...args);
      if (pushed++ === 0) {
        const heard = new Promise((resolve) => subscriber.once("message", resolve));
        await redis.lpush("early", foreignRow("pushed"));
        await heard;
        // The answer takes longer than events are held against publications.
        await new Promise((resolve) => setTimeout(resolve, 50));
      }
      return reading;
    };
    const feed = new Feed(owner, "early", store, hub, noChecks(), {
      db: 0,
      checkMs: () => 600_000,
      onError: () => undefined,
    });
    await feed.start();
    await waitUntil("the feed tells of it", () => Promise.resolve(feed.next > 0));
    expect(feed.entry(0)).toMatchObject({ kind: "message", row: { position: 1 } });
    feed.close();
    hub.close();
    opened.close();
  });

  test("a publication that comes during a reading hides no foreign push behind it", async ({ server, redis, one }) => {
    await one.append("late", "first");
    const opened = openStore(server.port);
    const { store } = opened;
    const subscriber = new Redis(server.port, "127.0.0.1", { autoResubscribe: false });
    const hub = new Hub(subscriber, opened.redis, 5000, () => undefined);
    const feed = new Feed(owner, "late", store, hub, noChecks(), {
      db: 0,
      checkMs: () => 600_000,
      onError: () => undefined,
    });
    await feed.start();
    const read = store.read.bind(store);
    let readings = 0;
    store.read = async (...args) => {
      const reading = await read(...args);
      if (readings++ === 0) {
        const come = new Promise((resolve) =>
          subscriber.on("message", (_, event) => event === "lpush" && resolve(event)),
        );
        await one.append("late", "own");
        await come;
        // Longer than a publication explains events.
        await new Promise((resolve) => setTimeout(resolve, 50));
      } else if (pushes.made === 0) await push();
      return reading;
    };
    // While the feed has just looked at the publication, and Redis has answered what it may have asked then.
    const pushes = { made: 0 };
    const push = async () => {
      pushes.made++;
      const come = new Promise((resolve) => subscriber.once("message", resolve));
      await redis.lpush("late", foreignRow("behind it"));
      await come;
    };
    await redis.lpush("late", foreignRow("before it"));
    const told = () => {
      const entries = Array.from({ length: feed.next }, (_, i) => must(feed.entry(i)));
      return entries.flatMap((entry) => (entry.kind === "message" ? [entry.row.raw] : []));
    };
    await waitUntil("the own message", () => Promise.resolve(told().length >= 2));
    if (pushes.made === 0) await push();
    await waitUntil("the push behind it", () => Promise.resolve(told().length === 3));
    expect(told()).toEqual([foreignRow("before it"), expect.stringContaining("own"), foreignRow("behind it")]);
    feed.close();
    hub.close();
    opened.close();
  });

  test("what others publish on its channel neither ends the process nor loses anything", async ({ redis, one }) => {
    await one.append("noise", "first");
    const reader = await one.open("noise");
    let unsure = 0;
    const stop = one.backend.feeds.watch("noise", { onEnded: () => undefined, onUnsure: () => unsure++ });
    const channel = sessionKeys("noise").events;
    const header = { v: 1, seq: 2, gen: 1, base: 0, at: 1, prev: "", pushes: 1 };
    const noise = ["", "P", "Px\ty\tz", "{", "[]", '{"v":2}', `${JSON.stringify(header)}\nRgarbage`, "Px\t0\t\\"];
    for (const message of noise) {
      await redis.publish(channel, message);
      await one.append("noise", `after ${message.slice(0, 4)}`);
    }
    await reader.untilCount("message", noise.length);
    expect(textsOf(reader)).toEqual(noise.map((message) => `after ${message.slice(0, 4)}`));
    // At first, and for each that it could not make out.
    expect(unsure).toBeGreaterThan(4);
    stop();
  });
});

describe("cursors", () => {
  test('"": all from the beginning; a cursor: what came after it; null: from now on', async ({ one }) => {
    await one.append("after", ...range(0, 450));
    const all = await one.open("after", "");
    await all.untilCount("message", 450);
    const cursors = all.ofKind("message").map((event) => event.cursor);
    const some = await one.open("after", must(cursors[100]));
    const now = await one.open("after");
    await one.append("after", "new");
    for (const reader of [all, some, now]) await reader.until("the newest", () => textsOf(reader).includes("new"));
    expect(textsOf(all)).toEqual([...range(0, 450), "new"]);
    expect(textsOf(some)).toEqual([...range(101, 450), "new"]);
    expect(textsOf(now)).toEqual(["new"]);
  });

  test("that are no cursors are INVALID_CURSOR, an unknown session is NOT_FOUND", async ({ one }) => {
    await one.append("known", "first");
    const known = await one.open("known");
    await known.untilCount("opened", 1);
    const cursor = cursorOf(known);
    await one.append("other", "first");
    await expect(one.open("known", "nonsense")).rejects.toMatchObject({ code: "INVALID_CURSOR" });
    await expect(one.open("other", cursor)).rejects.toMatchObject({ code: "INVALID_CURSOR" });
    await expect(one.open("unknown")).rejects.toMatchObject({ code: "NOT_FOUND" });
  });
});

describe("a reply (P6)", () => {
  test("late readers have the text so far, then the rest; nothing twice", async ({ one, two }) => {
    const { store } = one.backend;
    const begun = await store.begin(owner, "reply", newTurn("reply", "Say the alphabet"));
    if (begun.kind !== "started") throw new Error(begun.kind);
    const letters = "abcdefghij𝄞klmnop";
    const readers = [await one.open("reply"), await two.open("reply")];
    let at = 0;
    for (const letter of letters) {
      expect(await store.progress(begun, at, letter)).toEqual({ kind: "ok" });
      at += letter.length;
      readers.push(await (at % 2 === 0 ? one : two).open("reply"));
    }
    await store.finish(begun, completed(begun, letters), "op");
    for (const reader of readers) {
      await reader.until("the end of the run", () => reader.events.at(-1)?.kind === "run");
      expect(replyOf(reader)).toBe(letters);
      const kinds = reader.events.map(({ kind }) => kind).filter((kind, i, all) => kind !== all[i - 1]);
      expect(kinds.slice(-2)).toEqual(["message", "run"]);
      expect(kinds.filter((kind) => kind === "message")).toHaveLength(1);
    }
  });

  test("a subscriber that missed a turn and a half gets them in order", async ({ one, two }) => {
    await one.append("turns", "first");
    const reader = await one.open("turns", null, "never");
    expect((await reader.next())?.kind).toBe("opened");
    // More than the ring holds, so that the reader reads on from its own place.
    for (const text of range(0, 600)) await one.append("turns", text);
    await turn(two, "turns", "question 1", "answer 1");
    const begun = await two.backend.store.begin(owner, "turns", newTurn("turns", "question 2"));
    if (begun.kind !== "started") throw new Error(begun.kind);
    await two.backend.store.progress(begun, 0, "answ");
    reader.startPulling();
    await reader.until("the text", () => reader.ofKind("progress").length > 0);
    await two.backend.store.finish(begun, completed(begun, "answer 2"), "op");
    await reader.until("the end", () =>
      reader.ofKind("run").some(({ run }) => run.runId === begun.runId && run.text === "answer 2"),
    );
    const told = reader.events.filter(({ kind }) => kind !== "updated").slice(601);
    const steps = told.map((event) => (event.kind === "run" ? event.run.status : event.kind));
    // Of the first turn its messages, as of any that was over before the reader came back.
    expect(steps).toEqual([
      ...["message", "message"],
      ...["RUNNING", "message", "progress", "progress", "message", "COMPLETED"],
    ]);
    expect(replyOf(reader)).toBe("answer 2");
    expect(textsOf(reader).slice(-4)).toEqual(["question 1", "answer 1", "question 2", "answer 2"]);
  });

  test("readers that come at any moment of many turns: text in its place, nothing after a run's end", async ({
    redis,
    one,
    two,
  }) => {
    await one.append("many turns", "first");
    const readers = [await one.open("many turns")];
    for (let i = 0; i < 30; i++) {
      const from = i % 2 === 0 ? one : two;
      const begun = await from.backend.store.begin(owner, "many turns", newTurn("many turns", `question ${i}`));
      if (begun.kind !== "started") throw new Error(begun.kind);
      let text = "";
      const opening: Promise<unknown>[] = [];
      for (const word of range(0, 4, `word ${i} `)) {
        opening.push((i % 3 === 0 ? one : two).open("many turns").then((reader) => readers.push(reader)));
        await from.backend.store.progress(begun, text.length, word);
        text += word;
      }
      await from.backend.store.finish(begun, completed(begun, `${text}!`), newOp().id);
      if (i % 5 === 0) await redis.lpush("many turns", foreignRow(`foreign ${i}`));
      await Promise.all(opening);
    }
    await one.append("many turns", "over");
    for (const reader of readers) {
      await reader.until("the last message", () => textsOf(reader).at(-1) === "over");
      const known = new Map<string, string>();
      const ended = new Set<string>();
      for (const event of reader.events) {
        if (event.kind === "opened" && event.session.activeRun)
          known.set(event.session.activeRun.runId, event.session.activeRun.text);
        if (event.kind === "progress") {
          const text = known.get(event.runId) ?? "";
          expect(event.offset).toBe(text.length);
          expect(ended.has(event.runId)).toBe(false);
          known.set(event.runId, text + event.text);
        }
        if (event.kind === "run" && event.run.finishedAt !== null) {
          expect(known.get(event.run.runId)).toBe(event.run.text);
          expect(ended.has(event.run.runId)).toBe(false);
          ended.add(event.run.runId);
        }
      }
      expect(new Set(textsOf(reader)).size).toBe(textsOf(reader).length);
    }
    expect(textsOf(must(readers[0]))).toHaveLength(30 * 2 + 6 + 1);
  });

  test("the end of a cancelled run that waited is delivered once, and that of the run before it not again", async ({
    redis,
    one,
    two,
  }) => {
    await turn(two, "queue", "question", "answer");
    const reader = await one.open("queue");
    const going = await two.backend.store.begin(owner, "queue", newTurn("queue", "going"));
    if (going.kind !== "started") throw new Error(going.kind);
    const waiting = await two.backend.store.begin(owner, "queue", newTurn("queue", "waiting"));
    if (waiting.kind !== "queued") throw new Error(waiting.kind);
    await two.backend.store.finish(going, completed(going, "done"), "op");
    await two.backend.store.cancel(owner, "queue", waiting.runId);
    await redis.lpush("queue", foreignRow("read on"));
    await reader.until("the foreign message", () => textsOf(reader).at(-1) === "read on");
    await one.append("queue", "and on");
    await reader.until("the next one", () => textsOf(reader).at(-1) === "and on");
    expect(reader.ofKind("run").map(({ run }) => [run.runId, run.status])).toEqual([
      [going.runId, "RUNNING"],
      [waiting.runId, "QUEUED"],
      [going.runId, "COMPLETED"],
      [waiting.runId, "CANCELLED"],
    ]);
  });
});

describe("the end of a subscriber", () => {
  test("return() and abort end one that waits at once, and leave nothing behind", async ({ redis, one }) => {
    await one.append("ends", "first");
    const returned = await one.open("ends");
    const aborted = await one.open("ends");
    const sidebar = await one.changes();
    await returned.untilCount("opened", 1);
    await aborted.untilCount("opened", 1);
    await sidebar.untilCount("opened", 1);
    await returned.return();
    await returned.until("the end", () => returned.ended);
    aborted.abort();
    await aborted.until("the end", () => aborted.ended);
    await sidebar.return();
    await sidebar.until("the end", () => sidebar.ended);
    await nothingLeft(redis, one);
  });

  test("200 that come and go at the same time leave nothing behind", async ({ redis, one }) => {
    await one.append("cycles", "first");
    const cycle = async (i: number) => {
      const reader = i % 10 === 0 ? await one.changes() : await one.open(i % 2 === 0 ? "cycles" : `cycles ${i % 7}`);
      if (i % 3 === 0) await reader.untilCount("opened", 1);
      if (i % 2 === 0) reader.abort();
      else await reader.return();
    };
    for (const i of range(0, 7, "")) await one.append(`cycles ${i}`, "first");
    await Promise.all(Array.from({ length: 200 }, (_, i) => cycle(i)));
    await nothingLeft(redis, one);
  });

  test("a sender that stops waiting before its subscription stands leaves nothing behind", async ({ redis, one }) => {
    const watcher = { onEnded: () => undefined, onUnsure: () => undefined };
    for (let i = 0; i < 20; i++) one.backend.feeds.watch(`watched ${i}`, watcher)();
    await nothingLeft(redis, one);
  });
});

async function nothingLeft(redis: Redis, one: TestBackend): Promise<void> {
  await waitUntil("no feed is left", () => Promise.resolve(one.backend.feeds.size.feeds === 0));
  expect(one.backend.feeds.size).toEqual({ feeds: 0, subscriptions: 0 });
  await waitUntil("no channel is left", async () => (await redis.pubsub("CHANNELS")).length === 0);
}

/** Reads so often through the same connection: what was under way before is done after it. */
async function reads(from: TestBackend, sessionId: string, count: number): Promise<void> {
  const page = { first: null, after: null, last: 1, before: null };
  for (let i = 0; i < count; i++) await from.backend.store.read(owner, sessionId, { pages: [page] });
}

async function turn(two: TestBackend, sessionId: string, question: string, answer: string): Promise<void> {
  const begun = await two.backend.store.begin(owner, sessionId, newTurn(sessionId, question));
  if (begun.kind !== "started") throw new Error(begun.kind);
  await two.backend.store.finish(begun, completed(begun, answer), newOp().id);
}
