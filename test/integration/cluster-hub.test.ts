import { Cluster } from "ioredis";
import { afterAll, afterEach, beforeAll, expect, test } from "vitest";
import { ClusterHub } from "../../src/redis/client/cluster-hub.ts";
import { connectCluster, connectNode } from "../../src/redis/client/connection.ts";
import type { Listener } from "../../src/redis/client/hub.ts";
import { moveSlots, slotOfKey } from "../drills/slots.ts";
import { startGateway } from "../support/gateway/gateway.ts";
import { startCluster, type TestCluster } from "../support/redis/redis-cluster.ts";
import { command, waitUntil } from "../support/redis/redis-command.ts";
import type { TestRedis } from "../support/redis/redis-server.ts";

const settings = { commandTimeoutMs: 5000, onError: () => undefined };

let cluster: TestCluster;
let client: Cluster;
let raw: Cluster;
let hub: ClusterHub;

beforeAll(async () => {
  cluster = await startCluster();
  raw = new Cluster([...cluster.nodes]);
  client = connectCluster(cluster.nodes, {}, settings);
  // Its own checks come so seldom that they are not what a test waits for.
  hub = new ClusterHub(client, (node) => connectNode(node, {}, settings, "subscriber"), 60_000, settings.onError);
  await waitUntil("the slots are known", () => Promise.resolve(client.slots.length > 0));
});
afterEach(() => waitUntil("no channel is left", async () => (await channels()).length === 0));
afterAll(async () => {
  hub.close();
  client.disconnect();
  raw.disconnect();
  await cluster.stop();
});

/** What is subscribed on any primary. */
async function channels(): Promise<readonly string[]> {
  const primaries = cluster.servers.filter((server) => server.running).slice(0, 3);
  const asked = primaries.flatMap((server) => [
    command<string[]>(server, "PUBSUB", "CHANNELS"),
    command<string[]>(server, "PUBSUB", "SHARDCHANNELS"),
  ]);
  // ioredis' cluster client listens for itself.
  return (await Promise.all(asked)).flat().filter((channel) => channel.includes("hub"));
}

interface Heard extends Listener {
  readonly messages: string[];
  readonly resumed: () => number;
}

function listener(): Heard {
  const messages: string[] = [];
  let resumed = 0;
  return {
    messages,
    resumed: () => resumed,
    onMessage: (_channel, text) => messages.push(text),
    onResumed: () => resumed++,
  };
}

const keyevent = "__keyevent@0__:lpush";
const keyspace = (key: string) => `__keyspace@0__:${key}`;

async function publish(channel: string, text: string): Promise<void> {
  await raw.spublish(channel, text);
}

test("hears publications and keyspace events of all slots, also of keys with braces in odd places", async () => {
  const keys = ["hub-a", "hub-b", "hub-c", "{hub}d", "{}{hub-e}", "hub-}f{"];
  for (const key of keys) {
    const one = listener();
    await hub.subscribe([key, keyspace(key)], one);
    await publish(key, "published");
    await raw.lpush(key, "x");
    await waitUntil(`both of ${key}`, () => Promise.resolve(one.messages.length === 2));
    expect([...one.messages].sort()).toEqual(["lpush", "published"]);
    expect(one.resumed()).toBe(0);
    hub.unsubscribe([key, keyspace(key)], one);
  }
});

test("hears an event of keys at all primaries, each once, until it lets go", async () => {
  const one = listener();
  await hub.subscribe([keyevent], one);
  const keys = ["hub-0", "hub-1", "hub-2", "hub-3", "hub-4", "hub-5"];
  const homes = await Promise.all(keys.map((key) => cluster.primaryOf(key)));
  expect(new Set(homes.map(({ port }) => port)).size).toBe(3);
  for (const key of keys) await raw.lpush(key, "x");
  await waitUntil("all are heard", () => Promise.resolve(one.messages.length >= keys.length));
  expect([...one.messages].sort()).toEqual(keys);
  expect(one.resumed()).toBe(0);
  hub.unsubscribe([keyevent], one);
  await waitUntil("nobody listens", async () => {
    const asked = homes.map((server) => command<[string, number]>(server, "PUBSUB", "NUMSUB", keyevent));
    return (await Promise.all(asked)).every(([, subscribers]) => subscribers === 0);
  });
});

test("a subscriber that leaves before Redis has acknowledged its subscription leaves no channel behind", async () => {
  const one = listener();
  const on = Array.from({ length: 20 }, (_, i) => hub.subscribe([`hub-early-${i}`], one));
  for (let i = 0; i < 20; i++) hub.unsubscribe([`hub-early-${i}`], one);
  await Promise.all(on);
});

test("follows a slot that goes elsewhere, and one that goes and comes back before anybody looks", async () => {
  const key = "hub-moving";
  const all = [key, keyspace(key)];
  const first = listener();
  const second = listener();
  await hub.subscribe(all, first);
  await hub.subscribe(all, second);
  const primaries = cluster.servers.slice(0, 3);
  const home = await cluster.primaryOf(key);
  const [away, further] = primaries.filter((server) => server !== home);
  if (away === undefined || further === undefined) throw new Error("There are three primaries");
  const routes: readonly (readonly TestRedis[])[] = [
    [home, away],
    [away, further, away],
    [away, home],
  ];
  for (const route of routes) {
    const before = [first, second].map((one) => one.resumed());
    for (const [i, to] of route.slice(1).entries()) await moveSlots([slotOfKey(key)], route[i] ?? home, to, primaries);
    for (const [i, one] of [first, second].entries()) {
      await waitUntil("it is told to read", () => Promise.resolve(one.resumed() > (before[i] ?? 0)));
    }
    await waitUntil("it is heard where it is now", async () => {
      const heard = first.messages.length;
      await publish(key, "again");
      await raw.lpush(key, "x");
      return first.messages.slice(heard).includes("again") && first.messages.slice(heard).includes("lpush");
    });
  }
  expect(second.messages).toEqual(first.messages);
  hub.unsubscribe(all, first);
  hub.unsubscribe(all, second);
});

test("after a failover all events come from the new primary, where keyspace events are switched on too", async () => {
  for (const server of cluster.servers) await command(server, "CONFIG", "SET", "notify-keyspace-events", "");
  const gateway = await startGateway({ redis: { cluster: cluster.nodes }, enableKeyspaceEvents: true });
  const flags = async (server: TestRedis) =>
    (await command<string[]>(server, "CONFIG", "GET", "notify-keyspace-events"))[1];
  const old = await cluster.primaryOf("hub-over");
  await waitUntil("events are on", async () => (await flags(old)) !== "");
  const one = listener();
  await hub.subscribe(["hub-over", keyspace("hub-over")], one);
  const ofAll = listener();
  await hub.subscribe([keyevent], ofAll);
  await old.kill();
  const next = await cluster.nextPrimaryOf("hub-over", old);
  await waitUntil("events are on there", async () => (await flags(next)) !== "");
  await waitUntil("it is told to read", () => Promise.resolve(one.resumed() > 0));
  await waitUntil("it is heard", async () => {
    await raw.lpush("hub-over", "x");
    await publish("hub-over", "again");
    return one.messages.includes("lpush") && one.messages.includes("again");
  });
  await waitUntil("who listens at all is told to read, and hears it there", async () => {
    await raw.lpush("hub-over", "x");
    return ofAll.resumed() > 0 && ofAll.messages.includes("hub-over");
  });
  await gateway.close();
  hub.unsubscribe(["hub-over", keyspace("hub-over")], one);
  hub.unsubscribe([keyevent], ofAll);
});
