import { Cluster } from "ioredis";
import { afterAll, beforeAll, expect, test } from "vitest";
import { openTopology, type Topology } from "../../src/redis/client/topology.ts";
import { slotOf } from "../../src/redis/store/keys.ts";
import { startGateway } from "../support/gateway/gateway.ts";
import { request } from "../support/gateway/graphql-client.ts";
import { startCluster, type TestCluster } from "../support/redis/redis-cluster.ts";
import { command, waitUntil } from "../support/redis/redis-command.ts";
import type { TestRedis } from "../support/redis/redis-server.ts";

// A primary that says nothing: one that is busy is waited for, one that was replaced is left at once.

const commandTimeoutMs = 20_000;
/** Longer than it takes to be suspected, shorter than it takes the cluster to replace it. */
const pauseMs = 1000;
const key = "frozen";

let cluster: TestCluster;
let raw: Cluster;
let topology: Topology;

beforeAll(async () => {
  cluster = await startCluster();
  raw = new Cluster([...cluster.nodes]);
  raw.on("error", () => undefined);
  const source = { kind: "cluster", nodes: cluster.nodes, options: {} } as const;
  topology = openTopology(source, { commandTimeoutMs, onError: () => undefined });
  // Each connection is there when it is needed, as with a gateway that is at work.
  for (let i = 0; i < 30; i++) await topology.client.set(`warm-${i}`, i);
});
afterAll(async () => {
  topology.client.disconnect();
  topology.close();
  raw.disconnect();
  await cluster.stop();
});

const document = `mutation ($input: AddMessagesInput!) { addMessages(input: $input) { messages { text } } }`;

test("a primary that is only busy keeps its connection and the commands sent over it", async () => {
  const { client } = topology;
  const busy = await cluster.primaryOf(key);
  const before = topology.primaries();
  await command(busy, "CLIENT", "PAUSE", String(pauseMs), "ALL");
  const since = performance.now();
  await Promise.all(Array.from({ length: 50 }, () => client.rpush(key, "x")));
  expect(performance.now() - since).toBeGreaterThan(pauseMs / 2);
  expect(await client.llen(key)).toBe(50);
  expect(topology.primaries()).toEqual(before);
});

test("the slots are asked of a server that answers, however many do not", async () => {
  const old = await cluster.primaryOf(key);
  const replicaOfAnother = cluster.servers.slice(3).find((_, i) => cluster.servers[i] !== old);
  const gateway = await startGateway({
    redis: { cluster: cluster.nodes },
    waitReplicas: 1,
    waitTimeoutMs: 200,
    redisCommandTimeoutMs: commandTimeoutMs,
  });
  const add = (messageId: string) =>
    request(gateway.url, document, { input: { sessionId: key, messages: [{ role: "USER", text: "x", messageId }] } });
  await raw.del(key);
  await waitUntil("it is acknowledged", async () => (await add("before")).errors === undefined);
  for (const server of [old, replicaOfAnother]) server?.pause();

  const written = add("meanwhile");
  const sent = topology.client.set(`{${key}}x`, "y");
  const next = await promoted(old);
  const since = performance.now();
  // What was sent to the old one is sent again, by the commands' connection and by the durable one.
  await sent;
  await waitUntil("it is written there", async () => (await command<number>(next, "LLEN", key)) === 2);
  expect(performance.now() - since).toBeLessThan(commandTimeoutMs / 4);
  const place = topology.place(slotOf(key));
  expect(place?.name).toBe(`${next.host}:${next.port}`);

  for (const server of [old, replicaOfAnother]) server?.resume();
  await written;
  await waitUntil("the old one follows, and it is acknowledged", async () => {
    return (await add("meanwhile")).errors === undefined;
  });
  expect(await raw.llen(key)).toBe(2);
  await gateway.close();
});

/** Nobody that stands still is asked. */
async function promoted(old: TestRedis): Promise<TestRedis> {
  const replica = cluster.servers[cluster.servers.indexOf(old) + 3];
  if (replica === undefined) throw new Error("Its replica stands three places behind each primary");
  await waitUntil("its replica is primary", async () => (await command<string[]>(replica, "ROLE"))[0] === "master");
  return replica;
}
