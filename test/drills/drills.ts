import { setTimeout as sleep } from "node:timers/promises";
import { command, replicasOnline, waitUntil } from "../support/redis/redis-command.ts";
import type { TestRedis } from "../support/redis/redis-server.ts";
import type { Count } from "./load.ts";
import { moveSlots, slotOfKey } from "./slots.ts";
import { play, type Stage, type StageOptions } from "./stage.ts";

export interface Drill {
  readonly name: string;
  /** Short enough to be part of npm test. */
  readonly quick: boolean;
  /** Whether Redis itself forgets acknowledged writes here; then what is lost must be told. */
  readonly loses: boolean;
  readonly run: () => Promise<Count>;
}

const kilobytes64 = 65_536;

function drill(
  name: string,
  options: StageOptions & { readonly quick?: boolean; readonly loses?: boolean },
  fault: (stage: Stage) => Promise<void>,
): Drill {
  const { quick = false, loses = false } = options;
  return { name, quick, loses, run: () => play(options, fault) };
}

/** Replicas that stand still take nothing: what the primary acknowledges meanwhile is its alone. */
async function loseTail(
  { load, primary, nextPrimary, servers }: Stage,
  tail: (before: number) => Promise<void>,
): Promise<void> {
  const old = await primary();
  await waitUntil("both replicas are online", () => replicasOnline(old, 2));
  const replicas = servers.filter((server) => server !== old);
  for (const replica of replicas) replica.pause();
  await tail(load.acknowledged);
  await old.kill();
  for (const replica of replicas) replica.resume();
  const { host, port } = await nextPrimary(old);
  // With REDIS_WAIT_REPLICAS at the number of all replicas nothing is acknowledged before it is back. (The Sentinels would
  // make it a replica too, ten seconds later.)
  await old.restart();
  await command(old, "REPLICAOF", host, String(port));
}

const standalone: readonly Drill[] = [
  drill("CLIENT KILL, again and again", { on: "standalone", quick: true }, async ({ raw }) => {
    for (let i = 0; i < 15; i++) {
      await raw.call("CLIENT", "KILL", "TYPE", i % 2 === 0 ? "normal" : "pubsub", "SKIPME", "yes");
      await sleep(100);
    }
  }),
  drill("CLIENT PAUSE 1.5 s", { on: "standalone", quick: true }, async ({ raw }) => {
    await raw.call("CLIENT", "PAUSE", "1500", "ALL");
    await raw.call("PING");
  }),
  drill("SIGSTOP 1.5 s, SIGCONT", { on: "standalone", quick: true }, async ({ primary }) => {
    const server = await primary();
    server.pause();
    await sleep(1500);
    server.resume();
  }),
  drill("SIGKILL, restart with AOF", { on: "standalone", quick: true }, async ({ primary }) => {
    const server = await primary();
    await server.kill();
    await sleep(500);
    await server.restart();
  }),
  drill("OOM with noeviction, 1.5 s", { on: "standalone", quick: true }, async ({ raw }) => {
    await raw.call("CONFIG", "SET", "maxmemory", "100kb");
    await sleep(1500);
    await raw.call("CONFIG", "SET", "maxmemory", "0");
  }),
  drill(
    "black-holed connections, 2.5 s",
    { on: "standalone", quick: true, proxied: true, gateway: { redisCommandTimeoutMs: 1000 } },
    async ({ proxy }) => {
      proxy().blackhole(true);
      await sleep(2500);
      proxy().blackhole(false);
    },
  ),
  drill(
    "replies thrown away, then cut",
    { on: "standalone", proxied: true, gateway: { redisCommandTimeoutMs: 1000 } },
    async ({ proxy }) => {
      proxy().dropReplies(true);
      await sleep(1500);
      proxy().dropReplies(false);
      proxy().cutAll();
    },
  ),
];

const sentinel: readonly Drill[] = [
  drill("Sentinel failover, primary killed", { on: "Sentinel" }, async ({ primary, nextPrimary }) => {
    const old = await primary();
    await old.kill();
    await nextPrimary(old);
  }),
  drill("Sentinel failover, primary frozen", { on: "Sentinel" }, async ({ load, primary, nextPrimary }) => {
    const old = await primary();
    old.pause();
    await nextPrimary(old);
    await load.acknowledge(10);
    old.resume();
  }),
  drill(
    "lost tail, REDIS_WAIT_REPLICAS=0",
    { on: "Sentinel", quick: true, loses: true, padding: kilobytes64 },
    (stage) =>
      loseTail(stage, (before) =>
        // More than the sockets' buffers take, which the replicas read when they go on.
        waitUntil("a tail", () => Promise.resolve(stage.load.acknowledged > before + 300)),
      ),
  ),
  drill(
    "lost tail, REDIS_WAIT_REPLICAS=2, connections killed between script and WAIT",
    { on: "Sentinel", quick: true, padding: kilobytes64, gateway: { waitReplicas: 2, waitTimeoutMs: 500 } },
    (stage) =>
      loseTail(stage, async () => {
        const old = await stage.primary();
        for (let i = 0; i < 5; i++) {
          await sleep(200);
          await command(old, "CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes");
        }
      }),
  ),
];

const cluster: readonly Drill[] = [
  drill("Cluster, a primary killed", { on: "Cluster" }, async ({ primary, nextPrimary }) => {
    const old = await primary();
    await old.kill();
    await nextPrimary(old);
  }),
  drill("Cluster, a primary frozen", { on: "Cluster" }, async ({ load, primary, servers, sessionIds }) => {
    const old = await primary();
    const [asked] = servers.filter((server) => server !== old);
    if (asked === undefined) throw new Error("There are six servers");
    old.pause();
    const slot = slotOfKey(sessionIds[0] ?? "");
    await waitUntil("another primary", async () => !(await ownSlots(asked, old.port, slot, slot + 1)).includes(slot));
    await load.acknowledge(10);
    old.resume();
  }),
  drill(
    "live slot migration, there and back",
    { on: "Cluster", quick: true },
    async ({ load, primary, servers, sessionIds }) => {
      const primaries = servers.slice(0, 3);
      const slots = sessionIds.slice(0, 1).map(slotOfKey);
      for (let i = 0; i < 3; i++) {
        const from = await primary();
        const to = primaries[(primaries.indexOf(from) + 1) % 3];
        if (to === undefined) throw new Error("There are three primaries");
        await moveSlots(slots, from, to, primaries);
        await load.acknowledge(5);
      }
    },
  ),
  drill("resharding under subscriptions, 200 slots", { on: "Cluster" }, async ({ primary, servers, sessionIds }) => {
    const primaries = servers.slice(0, 3);
    const from = await primary();
    const to = primaries[(primaries.indexOf(from) + 1) % 3];
    if (to === undefined) throw new Error("There are three primaries");
    const first = slotOfKey(sessionIds[0] ?? "");
    const range = await ownSlots(from, from.port, first - 100, first + 100);
    await moveSlots(range, from, to, primaries);
  }),
];

/** Which of the slots low..high-1 are those of the primary on this port, as one of the servers sees it. */
async function ownSlots(asked: TestRedis, port: number, low: number, high: number): Promise<readonly number[]> {
  const ranges = await command<[number, number, [string, number]][]>(asked, "CLUSTER", "SLOTS");
  const own = ranges.filter(([, , [, primary]]) => primary === port);
  return Array.from({ length: high - low }, (_, i) => low + i).filter((slot) =>
    own.some(([from, to]) => from <= slot && slot <= to),
  );
}

const gateways: readonly Drill[] = [
  drill(
    "a gateway killed with kill -9, started again",
    { on: "standalone", spawned: true },
    async ({ load, gateway, startAgain }) => {
      await gateway(0).kill();
      await load.acknowledge(20);
      await startAgain(0);
    },
  ),
  drill(
    "both gateways restarted, one after the other",
    { on: "standalone", spawned: true },
    async ({ gateway, startAgain }) => {
      for (const i of [0, 1]) {
        await gateway(i).stop();
        await startAgain(i);
      }
    },
  ),
];

export const drills: readonly Drill[] = [...standalone, ...sentinel, ...cluster, ...gateways];
