import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { Client } from "../../src/redis/client/connection.ts";
import { sessionKeys } from "../../src/redis/store/keys.ts";
import { waitUntil } from "../support/redis/redis-command.ts";
import { startRedis } from "../support/redis/redis-server.ts";
import {
  completed,
  newMessage,
  newOp,
  newRecord,
  newTurn,
  openStore,
  openStoreOn,
  owner,
  type TestStore,
} from "../support/store/store.ts";
import { startProxy } from "../support/redis/tcp-proxy.ts";
import { topologies, type TestTopology } from "../support/redis/topologies.ts";

// An owner's list and the deadlines, which in a cluster are written beside the scripts: whatever comes in between, and
// whatever is refused, they say what is there.

const mostQueued = 2;

async function addMessage({ store }: TestStore<Client>, sessionId: string): Promise<void> {
  await store.append(owner, sessionId, [newMessage(sessionId, "USER", "x", null)], newOp());
}

/** Where the owner's list and the deadlines have it, and where the session itself says that they should. */
async function places({ redis, store }: TestStore<Client>, key: string) {
  const { due, sessions } = store.shared;
  const [listed, watched] = await Promise.all([redis.zscore(sessions(owner), key), redis.zscore(due, key)]);
  const [updated, until] = await redis.hmget(sessionKeys(key).session, "updated", "until");
  return { found: [listed, watched], expected: [updated, until] };
}

test("a deletion whose list is written late leaves the next session of that id listed, and its run watched", async () => {
  const server = await startRedis({ appendonly: false });
  const proxy = await startProxy(server.port);
  const deletes = openStore(server.port, { indexPort: proxy.port });
  const starts = openStore(server.port);
  await addMessage(deletes, "again");
  await waitUntil("it is listed", async () => (await places(starts, "again")).found[0] !== null);

  proxy.blackhole(true);
  await deletes.store.remove(owner, "again");
  expect(await starts.store.begin(owner, "again", newTurn("again", "question"))).toMatchObject({ kind: "started" });
  const news: unknown[] = [];
  const sidebar = starts.redis.duplicate();
  sidebar.on("message", (_channel, text: string) => news.push(JSON.parse(text)));
  await sidebar.subscribe(starts.store.shared.list(owner));
  proxy.blackhole(false);

  await waitUntil("it is told that it is there again", () => Promise.resolve(news.length >= 2));
  expect(news).toEqual([
    { key: "again", kind: "removed" },
    { key: "again", kind: "added" },
  ]);
  const { found, expected } = await places(starts, "again");
  expect(found).toEqual(expected);

  sidebar.disconnect();
  deletes.close();
  starts.close();
  await proxy.close();
  await server.stop();
});

describe.each(["standalone", "Cluster"] as const)("on %s", (shape) => {
  let redis: TestTopology;
  let at: TestStore<Client>;

  beforeAll(async () => {
    redis = await topologies[shape]();
    at = openStoreOn(redis.source, { maxQueuedRuns: mostQueued });
  });
  afterAll(async () => {
    at.close();
    await redis.stop();
  });

  /** What the index has sent to the owner's list so far is carried out. */
  const flushed = () => at.redis.zcard(at.store.shared.sessions(owner));

  test("a removal from the list that comes after its session was started again leaves it in the list", async () => {
    await at.store.begin(owner, "again", newTurn("again", "question"));
    await flushed();
    at.store.forget(owner, "again");
    await flushed();
    await waitUntil("it is listed", async () => (await places(at, "again")).found[0] !== null);
    const { found, expected } = await places(at, "again");
    expect(found).toEqual(expected);
  });

  test("one that is gone, or another's, stays out", async () => {
    await addMessage(at, "gone");
    await at.store.remove(owner, "gone");
    await addMessage(at, "given");
    await at.store.give(owner, "ann", "given");
    await addMessage(at, "kept");
    const { sessions } = at.store.shared;
    await waitUntil("what is behind them is listed", async () => {
      return (await at.redis.zscore(sessions(owner), "kept")) !== null;
    });
    // Whether they are there was looked for on the connections that these readings go over.
    await Promise.all([places(at, "gone"), places(at, "given")]);
    expect(await at.redis.zmscore(sessions(owner), "gone", "given")).toEqual([null, null]);
    expect(await at.redis.zscore(sessions("ann"), "given")).not.toBeNull();
  });

  describe("what is refused, or was done before, leaves the list as it was", () => {
    const done = newTurn("settled", "question");
    const stale = { generation: 1, position: 0, mark: "0123456789abcdef" };
    const busy = (whenBusy: "QUEUE" | "REJECT") => newTurn("busy", "x", { whenBusy });

    beforeAll(async () => {
      const { store } = at;
      const begun = await store.begin(owner, "settled", done);
      if (begun.kind !== "started") throw new Error(`Expected a turn, got ${begun.kind}`);
      await store.finish(begun, completed(begun, "reply"), "finish");
      await store.create(owner, "empty", newRecord(null), newOp());
      await store.begin(owner, "busy", newTurn("busy", "question"));
      for (let i = 0; i < mostQueued; i++) await store.begin(owner, "busy", busy("QUEUE"));
      await addMessage(at, "deleted");
      await store.remove(owner, "deleted");
      await store.create("ann", "another's", newRecord(null), newOp());
      await waitUntil("only what is there is listed", async () => !(await list()).includes("deleted"));
    });

    const list = () => at.redis.zrange(at.store.shared.sessions(owner), 0, "-1", "WITHSCORES");

    test.each([
      ["known", "settled", done],
      ["busy", "busy", busy("REJECT")],
      ["full", "busy", busy("QUEUE")],
      ["expired", "settled", newTurn("settled", "x", { replaceFrom: stale })],
      ["nothing", "empty", newTurn("empty", null)],
      ["expired", "deleted", newTurn("deleted", "x", { replaceFrom: stale })],
      ["notFound", "deleted", newTurn("deleted", null)],
      ["notFound", "another's", newTurn("another's", "x")],
    ] as const)("%s: %s", async (kind, sessionId, turn) => {
      const before = await list();
      expect(await at.store.begin(owner, sessionId, turn)).toMatchObject({ kind });
      // One that was not listed is listed for a moment, in case that it comes to be there.
      if (before.includes(sessionId)) expect(await list()).toEqual(before);
      else await waitUntil("it is not listed", async () => !(await list()).includes(sessionId));
      expect(await list()).toEqual(before);
    });
  });
});
