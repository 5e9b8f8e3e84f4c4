import { Redis } from "ioredis";
import { afterAll, beforeAll, expect, test } from "vitest";
import { openBackend } from "../support/feeds.ts";
import { startRedis, type TestRedis } from "../support/redis-server.ts";
import { newMessage, newOp, openStore, owner, type TestStore } from "../support/store.ts";

// A sidebar over many sessions: what nobody was told of is found, and looking for it costs the same however many there are.

const count = 1500;
const batch = 200;
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
  const [hgets, checks] = [await calls("hget"), await calls("zcard")];

  await silent.store.update(owner, "s0000", { title: "Old" });
  await silent.store.append(owner, "s1499", [newMessage("s1499", "USER", "new", null)], newOp());
  await silent.store.remove(owner, "s0700");
  await told("updated", "s0000");
  await told("updated", "s1499");
  await sidebar.until("s0700 is removed", () =>
    sidebar.events.some((event) => event.kind === "removed" && event.sessionId === "s0700"),
  );

  const [read, checked] = [(await calls("hget")) - hgets, (await calls("zcard")) - checks];
  expect(checked).toBeGreaterThan(2);
  // A check may be under way at either end.
  expect(read).toBeLessThanOrEqual((checked + 1) * 2 * batch);
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
