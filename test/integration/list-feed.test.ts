import { Redis } from "ioredis";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { openBackend, startServer, type Reader, type TestBackend } from "../support/store/feeds.ts";
import type { SessionChange } from "../../src/conversation/events.ts";
import { waitUntil } from "../support/redis/redis-command.ts";
import { startRedis, type TestRedis } from "../support/redis/redis-server.ts";
import { foreignRow, newMessage, newOp, newRecord, openStore, owner, type TestStore } from "../support/store/store.ts";

// A sidebar over many sessions: what nobody was told of is found, and looking for it costs the same however many there are.

const count = 1500;
/** How many a check looks at: the newest, and others in turn. */
const looked = 100;
let server: TestRedis;
let elsewhere: TestRedis;
let redis: Redis;
/** Writes as a process that dies right behind each script: its list and its news go where nobody looks. */
let silent: TestStore;

beforeAll(async () => {
  [server, elsewhere] = await Promise.all([startRedis({ appendonly: false }), startRedis({ appendonly: false })]);
  redis = new Redis(server.url);
  silent = openStore(server.port, { indexPort: elsewhere.port });
});
afterAll(async () => {
  silent.close();
  redis.disconnect();
  await Promise.all([server.stop(), elsewhere.stop()]);
});

async function calls(name: string): Promise<number> {
  const stats = await redis.info("commandstats");
  return Number(new RegExp(`cmdstat_${name}:calls=(\\d+)`).exec(stats)?.[1] ?? 0);
}

test("of old sessions and new ones, and not of all at once", async () => {
  await using one = openBackend(server.port, { feedCheckMs: 20 });
  const settings = {
    title: null,
    instructions: null,
    model: null,
    memory: null,
    metadata: null,
    ttlSeconds: undefined,
  };
  for (let i = 0; i < count; i += 100) {
    const ids = Array.from({ length: 100 }, (_, n) => `s${String(i + n).padStart(4, "0")}`);
    await Promise.all(ids.map((id) => one.backend.store.create(owner, id, settings, newOp())));
  }
  const sidebar = await one.changes();
  const told = (kind: "added" | "updated", id: string) =>
    sidebar.until(`${id} is ${kind}`, () =>
      sidebar.events.some((event) => event.kind === kind && event.session.sessionId === id),
    );
  const [hmgets, checks] = [await calls("hmget"), await calls("zcard")];

  await silent.store.update(owner, "s0000", { title: "Old" });
  await silent.store.append(owner, "s1499", [newMessage("s1499", "USER", "new", null)], newOp());
  await silent.store.remove(owner, "s0700");
  await told("updated", "s0000");
  await told("updated", "s1499");
  await sidebar.until("s0700 is removed", () =>
    sidebar.events.some((event) => event.kind === "removed" && event.sessionId === "s0700"),
  );

  const [read, checked] = [(await calls("hmget")) - hmgets, (await calls("zcard")) - checks];
  expect(checked).toBeGreaterThan(2);
  // A check may be under way at either end, and what the deletion writes is looked at too.
  expect(read).toBeLessThanOrEqual((checked + 1) * looked + 10);
  one.abortAll();
});

test("also of one that came without any news, however old its place in the list is", async () => {
  await using one = openBackend(server.port, { feedCheckMs: 20 });
  const sidebar = await one.changes();
  await silent.store.append(owner, "imported", [newMessage("imported", "USER", "x", null)], newOp());
  await redis.zadd(one.backend.store.shared.sessions(owner), 1, "imported");
  await sidebar.until("it is added", () =>
    sidebar.events.some((event) => event.kind === "added" && event.session.sessionId === "imported"),
  );
  // And of one that is taken out of the list alone.
  await redis.zrem(one.backend.store.shared.sessions(owner), "imported");
  await sidebar.until("it is removed", () =>
    sidebar.events.some((event) => event.kind === "removed" && event.sessionId === "imported"),
  );
  one.abortAll();
});

/** `count` sessions of a message each, and a sidebar over them that has told all that was before. */
async function sidebarOver(one: TestBackend, names: readonly string[]): Promise<Reader<SessionChange>> {
  for (const name of names) await one.append(name, "first");
  return await one.changes();
}

function changesOf(sidebar: Reader<SessionChange>, kind: "added" | "updated", sessionId: string): number {
  return sidebar.events.filter((event) => event.kind === kind && event.session.sessionId === sessionId).length;
}

describe("what other programs write to sessions that nobody follows", () => {
  test.each([
    ["a push", (at: Redis) => at.lpush("a", foreignRow("foreign")), { end: 2 }],
    ["a push and a trim that leave the length as it was", pushAndTrim, { end: 1 }],
    ["a deletion", (at: Redis) => at.del("a"), { end: 0 }],
    ["a history renamed away", (at: Redis) => at.rename("a", "elsewhere"), { end: 0 }],
  ] as const)("is delivered at once if keyspace events are on: %s", async (_what, write, session) => {
    await using at = await startServer();
    // No check comes within the test.
    await using one = openBackend(at.port);
    const sidebar = await sidebarOver(one, ["a", "b"]);
    await write(at.redis);
    await sidebar.until("it is told", () => changesOf(sidebar, "updated", "a") > 0);
    const told = sidebar.events.findLast((event) => event.kind === "updated");
    expect(told).toMatchObject({ session: { sessionId: "a", ...session } });
    expect(changesOf(sidebar, "updated", "b")).toBe(0);
    one.abortAll();
  });

  test("is delivered at once if keyspace events are on: a session that expires", async () => {
    await using at = await startServer();
    await using one = openBackend(at.port, { sessionTtlSeconds: 1 });
    const sidebar = await sidebarOver(one, ["a"]);
    await sidebar.untilCount("removed", 1);
    expect(sidebar.ofKind("removed")).toEqual([{ kind: "removed", sessionId: "a" }]);
    one.abortAll();
  });

  test("a write of the gateway itself is delivered once", async () => {
    await using at = await startServer();
    await using one = openBackend(at.port);
    await using other = openBackend(at.port);
    const sidebar = await sidebarOver(one, ["a", "b"]);
    for (let i = 0; i < 5; i++) await other.append("a", `own ${i}`);
    await at.redis.lpush("b", foreignRow("last"));
    await sidebar.until("the last is told", () => changesOf(sidebar, "updated", "b") > 0);
    expect(changesOf(sidebar, "updated", "a")).toBeLessThanOrEqual(5);
    expect(sidebar.ofKind("removed")).toEqual([]);
    one.abortAll();
  });

  test("is found if keyspace events are off: the newest 50 within FEED_CHECK_MS, the others in turn", async () => {
    await using at = await startServer("--notify-keyspace-events", "");
    await using one = openBackend(at.port, { feedCheckMs: 100 });
    const names = Array.from({ length: 300 }, (_, i) => `s${String(i).padStart(3, "0")}`);
    const sidebar = await sidebarOver(one, names);
    const checks = async () => Number(/cmdstat_zcard:calls=(\d+)/.exec(await at.redis.info("commandstats"))?.[1] ?? 0);
    const before = await checks();
    await at.redis.lpush("s299", foreignRow("to one of the newest"));
    await sidebar.until("the newest is told", () => changesOf(sidebar, "updated", "s299") > 0);
    // One check may have been under way when it was written; the event takes one more reading.
    expect((await checks()) - before).toBeLessThanOrEqual(4);
    await at.redis.lpush("s000", foreignRow("to the oldest"));
    await sidebar.until("the oldest is told", () => changesOf(sidebar, "updated", "s000") > 0);
    one.abortAll();
  });

  test("is listened to only while a list is open, and not at all where it is switched off", async () => {
    await using at = await startServer();
    const listening = async () => {
      const counts = (await at.redis.pubsub("NUMSUB", "__keyevent@0__:lpush")) as readonly unknown[];
      return Number(counts[1]);
    };
    await using one = openBackend(at.port);
    await one.append("a", "first");
    const session = await one.open("a");
    expect(await listening()).toBe(0);
    const lists = [await one.changes(), await one.changes()];
    expect(await listening()).toBe(1);
    for (const list of lists) list.abort();
    await waitUntil("nobody listens", async () => (await listening()) === 0);
    session.abort();
    await using off = openBackend(at.port, { listEvents: false });
    const sidebar = await off.changes();
    expect(await listening()).toBe(0);
    sidebar.abort();
  });

  test("tells nobody of another owner's (P11), and nobody of keys that are no listed session", async () => {
    await using at = await startServer();
    await using one = openBackend(at.port, { historyKeyPrefix: "chat:", adopts: false });
    await one.append("a", "first");
    await one.backend.store.create("mallory", "theirs", newRecord("Theirs"), newOp());
    const sidebar = await one.changes();
    const stop = new AbortController();
    const theirs = await one.backend.feeds.changes("mallory", { pages: [] }, stop.signal);
    expect(await theirs.next()).toMatchObject({ value: { kind: "opened" } });
    const { redis } = at;
    for (const key of ["chat:theirs", "chat:unknown", "a", "jobs", "parley:due", "other:a"]) {
      await redis.lpush(key, foreignRow("x")).catch(() => undefined);
    }
    expect(await theirs.next()).toMatchObject({ value: { kind: "updated", session: { sessionId: "theirs" } } });
    await redis.lpush("chat:a", foreignRow("mine"));
    await sidebar.until("its own is told", () => changesOf(sidebar, "updated", "a") > 0);
    expect(sidebar.events.map((event) => event.kind)).toEqual(["opened", "updated"]);
    stop.abort();
    one.abortAll();
  });
});

/** As LangChain programs do that keep the last messages only. */
function pushAndTrim(at: Redis): Promise<unknown> {
  return at.multi().lpush("a", foreignRow("foreign")).ltrim("a", 0, 0).exec();
}
