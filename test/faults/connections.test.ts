import { Redis } from "ioredis";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { connectRedis } from "../../src/redis/client/connection.ts";
import { RedisFeeds } from "../../src/redis/feed/feeds.ts";
import { Hub } from "../../src/redis/client/hub.ts";
import { listOf, openBackend, range, Reader, textOf, textsOf, type TestBackend } from "../support/store/feeds.ts";
import { waitUntil } from "../support/redis/redis-command.ts";
import { startRedis, type TestRedis } from "../support/redis/redis-server.ts";
import { foreignRow, newMessage, newOp, openStore, owner } from "../support/store/store.ts";
import { startProxy, type TcpProxy } from "../support/redis/tcp-proxy.ts";

let server: TestRedis;
let redis: Redis;
let one: TestBackend;
let two: TestBackend;

beforeAll(async () => {
  server = await startRedis({ appendonly: false });
  redis = new Redis(server.port, "127.0.0.1");
  one = openBackend(server.port, { commandTimeoutMs: 1000 });
  two = openBackend(server.port, { commandTimeoutMs: 1000 });
});

afterAll(async () => {
  await Promise.all([one.backend.close(), two.backend.close()]);
  redis.disconnect();
  await server.stop();
});

async function stored(key: string): Promise<readonly string[]> {
  return (await redis.lrange(key, 0, -1)).reverse().map(textOf);
}

describe("connections that break", () => {
  test.each([["pubsub"], ["normal"]])("CLIENT KILL TYPE %s, again and again under load", async (type) => {
    await one.append(type, "first");
    const readers = [await one.open(type), await one.open(type, ""), await two.open(type)];
    const sidebar = await two.changes();
    const load = { writing: true };
    const write = async (from: TestBackend, name: string) => {
      for (const text of range(0, 150, name)) {
        const row = newMessage(type, "USER", text, null);
        const op = newOp();
        // On a busy machine a connection may be killed so often that the time is over: sent again, it is the same write.
        await waitUntil(`${text} is acknowledged`, async () => {
          await from.backend.store.append(owner, type, [row], op);
          return true;
        });
        await pace();
      }
    };
    const writers = Promise.all([write(one, "a"), write(two, "b")]).finally(() => (load.writing = false));
    let killed = 0;
    for (let i = 0; load.writing; i++) {
      await redis.lpush(type, foreignRow(`f${i}`));
      killed += Number(await redis.call("CLIENT", "KILL", "TYPE", type, "SKIPME", "yes"));
      await pace(30);
    }
    await writers;
    expect(killed).toBeGreaterThan(5);
    const texts = await stored(type);
    expect(new Set(texts).size).toBe(texts.length);
    for (const reader of readers) {
      await reader.until("the newest message", () => listOf(reader).length === texts.length);
      expect(textsOf(reader)).toEqual(reader === readers[1] ? texts : texts.slice(1));
      expect(reader.ofKind("reset")).toEqual([]);
    }
    await sidebar.until("the session as it is", () =>
      sidebar.events.some((event) => event.kind === "updated" && event.session.messageCount === texts.length),
    );
    one.abortAll();
    two.abortAll();
  });

  test("CLIENT PAUSE that lasts longer than the time-outs", async () => {
    await one.append("paused", "first");
    const readers = [await one.open("paused"), await two.open("paused")];
    const errors = one.errors.length;
    await redis.call("CLIENT", "PAUSE", "2500", "ALL");
    await expect(one.append("paused", "perhaps")).rejects.toMatchObject({ code: "STORE_UNAVAILABLE" });
    await waitUntil("Redis answers", () => redis.ping().then(() => true));
    await waitUntil("it takes writes", () => two.append("paused", "after").then(() => true));
    for (const reader of readers) {
      await reader.until("the newest", () => textsOf(reader).includes("after"));
    }
    expect(one.errors.length).toBeGreaterThan(errors);
    const texts = (await stored("paused")).slice(1);
    for (const reader of readers) {
      await reader.untilCount("message", texts.length);
      expect(textsOf(reader)).toEqual(texts);
    }
    one.abortAll();
    two.abortAll();
  });
});

describe("a subscriber connection that is mute", () => {
  const faults: Readonly<Record<string, (proxy: TcpProxy, on: boolean) => void>> = {
    "black hole": (proxy, on) => proxy.blackhole(on),
    "its bytes thrown away": (proxy, on) => proxy.dropReplies(on),
  };

  test.each(Object.entries(faults))("is noticed, and everything is read again: %s", async (name, fault) => {
    const proxy = await startProxy(server.port);
    const errors: unknown[] = [];
    const settings = { commandTimeoutMs: 200, onError: (error: unknown) => errors.push(error) };
    const options = { host: "127.0.0.1", port: proxy.port };
    const subscriber = connectRedis({ kind: "options", options }, settings, "subscriber");
    const opened = openStore(server.port);
    const hub = new Hub(subscriber, opened.redis, 200, settings.onError);
    // Only its own PING can find out: nothing is read from time to time.
    const never = () => 600_000;
    const lists = { foreignWrites: null, listCheckMs: never };
    const feeds = new RedisFeeds(opened.store, opened.redis, hub, { db: 0, checkMs: never, ...lists, ...settings });
    await two.append(name, "first");
    const stop = new AbortController();
    const reader = new Reader(
      await feeds.open(owner, name, null, "refuse", { pages: [] }, stop.signal),
      stop,
      "always",
    );
    await two.append(name, "heard");
    await reader.untilCount("message", 1);

    const reconnected = new Promise((resolve) => subscriber.once("ready", resolve));
    fault(proxy, true);
    for (const text of range(0, 5)) await two.append(name, text);
    await redis.lpush(name, foreignRow("foreign"));
    await waitUntil("somebody notices", () => Promise.resolve(errors.length > 0));
    expect(textsOf(reader)).toEqual(["heard"]);
    fault(proxy, false);
    await reconnected;
    await reader.untilCount("message", 7);
    expect(textsOf(reader)).toEqual(["heard", ...range(0, 5), "foreign"]);
    stop.abort();
    hub.close();
    opened.close();
    await proxy.close();
  });

  test("everything black-holed: the command connection is replaced too", async () => {
    const proxy = await startProxy(server.port);
    await using behind = openBackend(proxy.port, { commandTimeoutMs: 1000 });
    await two.append("hole", "first");
    const reader = await behind.open("hole");
    await reader.untilCount("opened", 1);
    const ready = new Promise((resolve) => behind.backend.commands.once("ready", resolve));
    proxy.dropReplies(true);
    await expect(behind.append("hole", "perhaps")).rejects.toMatchObject({ code: "STORE_UNAVAILABLE" });
    await two.append("hole", "second");
    await waitUntil("the connection is given up", () => Promise.resolve(behind.backend.commands.status !== "ready"));
    proxy.dropReplies(false);
    await ready;
    await reader.until("all", () => textsOf(reader).includes("second"));
    expect(textsOf(reader)).toEqual((await stored("hole")).slice(1));
    behind.abortAll();
    await proxy.close();
  });
});

test("a subscriber that was refused while Redis was away leaves no channel behind when Redis is back", async () => {
  const away = await startRedis({ appendonly: false });
  await using backend = openBackend(away.port, { commandTimeoutMs: 1000 });
  await backend.append("s", "first");
  await away.kill();
  const refused = await Promise.allSettled([backend.open("s"), backend.open("other"), backend.changes()]);
  for (const one of refused) expect(one).toMatchObject({ reason: { code: "STORE_UNAVAILABLE" } });
  expect(backend.backend.feeds.size).toEqual({ feeds: 0, subscriptions: 0 });
  await away.restart();
  await waitUntil("it is back", () => backend.append("s", "second").then(() => true));
  const reader = await backend.open("s");
  const looker = new Redis(away.port, "127.0.0.1");
  await reader.untilCount("opened", 1);
  expect((await looker.pubsub("CHANNELS")).length).toBe(2);
  backend.abortAll();
  await waitUntil("no channel is left", async () => (await looker.pubsub("CHANNELS")).length === 0);
  looker.disconnect();
  await away.stop();
});

/** Paces a load; nothing is waited for. */
function pace(ms = 1): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
