import { randomUUID } from "node:crypto";
import { Redis } from "ioredis";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { Hub } from "../../src/redis/client/hub.ts";
import { Feed } from "../../src/redis/feed/feed.ts";
import type { SessionScript } from "../../src/redis/scripts/contracts.ts";
import { sessionKeys } from "../../src/redis/store/keys.ts";
import { waitUntil } from "../support/redis/redis-command.ts";
import { noChecks, startServer, type OwnServer } from "../support/store/feeds.ts";
import { scriptCases, started } from "../support/store/script-cases.ts";
import { foreignRow, newMessage, newOp, openStore, owner, type TestStore } from "../support/store/store.ts";

// A followed session is compared with what its feed knows. The feed learns that from publications, so a session in which
// gateways write is not read because of it; and whatever anybody else does to it is seen.

let own: OwnServer;
let redis: Redis;
let at: TestStore;
let hub: Hub;

beforeAll(async () => {
  // Without keyspace events: only comparing tells of foreign writes.
  own = await startServer("--notify-keyspace-events", "");
  ({ redis } = own);
  at = openStore(own.port);
  hub = new Hub(new Redis(own.port, "127.0.0.1", { autoResubscribe: false }), at.redis, 5000, () => undefined);
  // A subscription that was asked for before that is made again when the connection is ready, and read behind once more.
  await waitUntil("the hub is connected", () => Promise.resolve(hub.ready));
});
afterAll(async () => {
  hub.close();
  at.close();
  await own[Symbol.asyncDispose]();
});

/** A feed, and how often it has read its session since it began. */
async function follow(id: string, as = owner): Promise<{ readonly feed: Feed; readings: number; close: () => void }> {
  const settings = { db: 0, checkMs: () => 600_000, onError: () => undefined };
  const feed = new Feed(as, id, at.store, hub, noChecks(), settings);
  const read = feed.read.bind(feed);
  const followed = { feed, readings: 0, close: () => feed.close() };
  feed.read = (request) => {
    followed.readings++;
    return read(request);
  };
  await feed.start();
  return followed;
}

/** What of a session differs from what its feed knows; null: nothing. */
async function differenceOf(feed: Feed): Promise<string | null> {
  return (await at.store.compare([feed])).get(0) ?? null;
}

async function isAsKnown(feed: Feed): Promise<void> {
  await waitUntil("the session is as its feed knows it", async () => (await differenceOf(feed)) === null);
}

async function filled(id: string, ...texts: readonly string[]): Promise<void> {
  const messages = texts.map((text) => newMessage(id, "USER", text, null));
  await at.store.append(owner, id, messages, newOp());
}

describe("a feed knows its session from publications alone behind", () => {
  const scripts: readonly SessionScript[] = [
    ...([
      "begin",
      "attend",
      "progress",
      "renew",
      "finish",
      "cancel",
      "append",
      "update",
      "title",
      "mark-read",
    ] as const),
    ...(["step", "answer", "waiting", "respond", "claim", "summary", "clear", "view"] as const),
  ];

  test.each(scripts)("%s", async (name) => {
    const id = `knows-${name}-${randomUUID()}`;
    const act = await scriptCases[name].prepare(at, id);
    const followed = await follow(id);
    expect(await differenceOf(followed.feed)).toBeNull();
    await act(at);
    await isAsKnown(followed.feed);
    expect(followed.readings).toBe(0);
    followed.close();
  });

  test("several writes, of several messages, with a life that slides", async () => {
    const id = `slides ${randomUUID()}`;
    await filled(id, "one");
    await at.store.update(owner, id, { ttlSeconds: 900 });
    const followed = await follow(id);
    await filled(id, "two", "three");
    const turn = await started(at, id, "question");
    await at.store.progress(turn, 0, "é\u{1f600}");
    await at.store.progress(turn, 3, "more", { offset: 0, lines: '["r",0,0,0,"Hm"]\n' });
    await isAsKnown(followed.feed);
    await at.store.cancel(owner, id, turn.runId);
    await isAsKnown(followed.feed);
    expect(followed.readings).toBe(0);
    followed.close();
  });
});

const foreign: Readonly<Record<string, (id: string) => Promise<unknown>>> = {
  "a push": (id) => redis.lpush(id, foreignRow("foreign")),
  "a pop": (id) => redis.lpop(id),
  "a trim of the newest": (id) => redis.ltrim(id, 1, -1),
  "a trim of the oldest": (id) => redis.ltrim(id, 0, 0),
  "another newest row": (id) => redis.lset(id, 0, foreignRow("other")),
  "another oldest row": (id) => redis.lset(id, -1, foreignRow("other")),
  "a life": (id) => redis.pexpire(id, 600_000),
  "an end": (id) => redis.del(id),
  "something else in its place": (id) => redis.multi().del(id).set(id, "text").exec(),
  "an end of all of it": (id) => redis.del(...sessionKeys(id).all),
  "an end of its record": (id) => redis.del(sessionKeys(id).session),
  "something else in its record's place": (id) =>
    redis.multi().del(sessionKeys(id).session).set(sessionKeys(id).session, "text").exec(),
  "a write of a gateway that knows of no stamp": (id) => redis.hincrby(sessionKeys(id).session, "seq", 1),
};

describe("what was not published is seen", () => {
  test.each(Object.entries(foreign))("%s", async (name, act) => {
    const id = `foreign ${name}`;
    await filled(id, "one", "two", "grüße, 世界");
    const { feed, close } = await follow(id);
    expect(await differenceOf(feed)).toBeNull();
    await act(id);
    expect(await differenceOf(feed)).not.toBeNull();
    close();
  });

  test("the first message of a session that is waited for, a job queue in its place, and another's session", async () => {
    const { feed, close } = await follow("to come");
    const states = new Set<string>();
    const changed = async (act: () => Promise<unknown>) => {
      await act();
      const state = await differenceOf(feed);
      if (state === null) throw new Error("Nothing differs");
      states.add(state);
      // Read behind the comparison, and nothing of this owner's is found.
      feed.compared(state);
      expect(await differenceOf(feed)).toBeNull();
    };
    await changed(() => Promise.resolve());
    await changed(() => redis.lpush("to come", "job 1"));
    await changed(() => redis.lpush("to come", "job 2"));
    await changed(async () => {
      await redis.del("to come");
      await at.store.append("somebody", "to come", [newMessage("to come", "USER", "theirs", null)], newOp());
    });
    expect(states.size).toBe(4);
    expect(feed.waits).toBe(true);
    close();
  });

  test("an owner that is another, and rows that are no UTF-8 are as they were recorded", async () => {
    await filled("given", "one");
    const { feed, close } = await follow("given");
    await redis.lpush("given", Buffer.concat([Buffer.from(foreignRow("é").slice(0, -20)), Buffer.from([0xff, 0xc3])]));
    await at.store.touch(owner, "given", null);
    await isAsKnown(feed);
    await at.store.give(owner, "ann", "given");
    expect(await differenceOf(feed)).not.toBeNull();
    close();
  });

  test("a run that was begun by a gateway which knows no part log, beside others", async () => {
    const ids = ["no log", "beside it"];
    for (const id of ids) await filled(id, "one");
    const followed = await Promise.all(ids.map((id) => follow(id)));
    const feeds = followed.map(({ feed }) => feed);
    await started(at, "no log", "question");
    await redis.hdel(sessionKeys("no log").session, "llen");
    for (const feed of feeds) await isAsKnown(feed);
    await redis.lpush("beside it", foreignRow("two"));
    expect([...(await at.store.compare(feeds)).keys()]).toEqual([1]);
    for (const { close } of followed) close();
  });

  test("many at a time: the answer names those that differ", async () => {
    const ids = Array.from({ length: 100 }, (_, i) => `many ${i}`);
    for (const id of ids) await filled(id, "one");
    const followed = await Promise.all(ids.map((id) => follow(id)));
    const feeds = followed.map(({ feed }) => feed);
    expect(await at.store.compare(feeds)).toEqual(new Map());
    await redis.lpush("many 7", foreignRow("two"));
    await redis.del("many 99");
    expect([...(await at.store.compare(feeds)).keys()]).toEqual([7, 99]);
    for (const { close } of followed) close();
  });
});
