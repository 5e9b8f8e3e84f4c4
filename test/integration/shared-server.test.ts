import { Redis } from "ioredis";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { BackendOptions } from "../../src/redis/store/backend.ts";
import { sharedKeys } from "../../src/redis/store/keys.ts";
import { openBackend } from "../support/store/feeds.ts";
import { waitUntil } from "../support/redis/redis-command.ts";
import { startRedis, type TestRedis } from "../support/redis/redis-server.ts";
import { newTurn, owner } from "../support/store/store.ts";

// Deployments of several prefixes on one Redis: each looks after its own sessions.

let server: TestRedis;
let redis: Redis;
beforeAll(async () => {
  server = await startRedis({ appendonly: false });
  redis = new Redis(server.url);
});
afterAll(async () => {
  redis.disconnect();
  await server.stop();
});

/** A deployment, and the history keys that its poll brings to it. */
function deploy(historyKeyPrefix: string, options: Partial<BackendOptions> = {}) {
  const attended: string[] = [];
  const deployment = openBackend(server.port, {
    historyKeyPrefix,
    async attend(key) {
      attended.push(key);
      return (await deployment.backend.store.attend(key, true)).dueAt;
    },
    ...options,
  });
  return { ...deployment, attended };
}

describe.each([
  ["", "chat:"],
  ["chat:", ""],
  ["a:", "a:b:"],
])("deployments with prefixes %j and %j", (one, other) => {
  test("leave each other's deadlines alone", async () => {
    await redis.flushall();
    await using mine = deploy(one, { leaseMs: 1 });
    await using theirs = deploy(other, { leaseMs: 1 });
    for (const { backend } of [mine, theirs]) await backend.store.begin(owner, "lost", newTurn("lost", "Hi"));
    const { due } = sharedKeys(other);
    const score = () => redis.zscore(due, `${other}lost`);
    await waitUntil("its deadline is noted", async () => (await score()) !== null);
    const before = await score();
    mine.backend.start();
    await waitUntil("the own run is closed", async () => (await redis.zcard(sharedKeys(one).due)) === 0);
    expect(mine.attended).toEqual([`${one}lost`]);
    // Not claimed either: it is due at once for those whose it is.
    expect(await score()).toBe(before);
    theirs.backend.start();
    await waitUntil("the other is closed by its own", async () => (await score()) === null);
    expect(theirs.attended).toEqual([`${other}lost`]);
  });

  test("list and deliver only their own sessions", async () => {
    await redis.flushall();
    await using mine = deploy(one);
    await using theirs = deploy(other);
    const sidebar = await mine.changes();
    await theirs.append("theirs", "x");
    await mine.append("mine", "x");
    await sidebar.until("the own", () => sidebar.events.some((event) => event.kind === "added"));
    const added = sidebar.events.flatMap((event) => (event.kind === "added" ? event.session.sessionId : []));
    expect(added).toEqual(["mine"]);
    const list = await mine.backend.store.list(owner, { direction: "older", from: null, count: 10 });
    expect(list.map(({ sessionId }) => sessionId)).toEqual(["mine"]);
    mine.abortAll();
  });
});
