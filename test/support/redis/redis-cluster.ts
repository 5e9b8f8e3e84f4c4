import calculateSlot from "cluster-key-slot";
import { startRedis } from "./redis-server.ts";
import { command, replicasOnline, waitUntil } from "./redis-command.ts";
import { freePort } from "../../../src/embedded-redis/port.ts";
import type { TestRedis } from "./server-process.ts";

/** Three primaries with a replica each; a node counts as down after 1,500 ms. */
export interface TestCluster {
  /** For ioredis: new Cluster(nodes). */
  readonly nodes: readonly { readonly host: string; readonly port: number }[];
  /** Primaries first, then their replicas in the same order. */
  readonly servers: readonly TestRedis[];
  /** The running primary that has the key's slot now. */
  primaryOf(key: string): Promise<TestRedis>;
  /** Resolves with the key's primary once that is another than `old`, and cluster_state is ok on all running nodes. */
  nextPrimaryOf(key: string, old: TestRedis): Promise<TestRedis>;
  stop(): Promise<void>;
}

const slotCount = 16_384;
const primaryCount = 3;

/** Resolves when cluster_state is ok on all six nodes and each primary's replica is online. */
export async function startCluster(): Promise<TestCluster> {
  const servers: TestRedis[] = [];
  const stop = async (): Promise<void> => {
    await Promise.all(servers.map((server) => server.stop()));
  };
  try {
    for (let index = 0; index < primaryCount * 2; index += 1) servers.push(await startNode());
    await join(servers);
  } catch (error) {
    await stop();
    throw error;
  }

  const primaryOf = async (key: string): Promise<TestRedis> => {
    const slot = calculateSlot(key);
    const asked = servers.find((server) => server.running);
    if (asked === undefined) throw new Error("no node of the cluster runs");
    for (const [first, last, [, port]] of await command<SlotRange[]>(asked, "CLUSTER", "SLOTS")) {
      const server = servers.find((each) => each.port === port);
      if (first <= slot && slot <= last && server !== undefined) return server;
    }
    throw new Error(`no node has slot ${slot}`);
  };
  return {
    nodes: servers.map(({ host, port }) => ({ host, port })),
    servers,
    primaryOf,
    nextPrimaryOf: async (key, old) => {
      let next = old;
      await waitUntil(`another node has the slot of ${key}`, async () => {
        next = await primaryOf(key);
        return next !== old && next.running && (await allOk(servers.filter((server) => server.running)));
      });
      return next;
    },
    stop,
  };
}

/** The part of CLUSTER SLOTS' reply that is read: first slot, last slot, primary (address, port). */
type SlotRange = [first: number, last: number, primary: [host: string, port: number]];

async function startNode(): Promise<TestRedis> {
  const bus = await freePort();
  // The ping period: a node shows a replica only once its offset has grown, by the primary's first ping.
  return await startRedis({
    args: [
      ...["--cluster-enabled", "yes", "--cluster-config-file", "nodes.conf", "--cluster-node-timeout", "1500"],
      ...["--cluster-port", String(bus), "--repl-diskless-sync-delay", "0"],
      ...["--repl-ping-replica-period", "1"],
    ],
  });
}

async function join(servers: readonly TestRedis[]): Promise<void> {
  const primaries = servers.slice(0, primaryCount);
  for (const [index, primary] of primaries.entries()) {
    const first = Math.floor((index * slotCount) / primaryCount);
    const last = Math.floor(((index + 1) * slotCount) / primaryCount) - 1;
    await command(primary, "CLUSTER", "ADDSLOTSRANGE", String(first), String(last));
    // Distinct epochs from the start, or the nodes first have to find out that theirs collide.
    await command(primary, "CLUSTER", "SET-CONFIG-EPOCH", String(index + 1));
  }
  // Everybody everybody: gossip alone takes seconds to introduce them.
  for (const [index, met] of servers.entries()) {
    const bus = await busPort(met);
    const later = servers.slice(index + 1);
    await Promise.all(later.map((server) => command(server, "CLUSTER", "MEET", met.host, String(met.port), bus)));
  }
  await waitUntil("all nodes know each other", async () => {
    const known = await Promise.all(servers.map((server) => clusterInfo(server, "cluster_known_nodes")));
    return known.every((count) => count === String(servers.length));
  });
  for (const [index, primary] of primaries.entries()) {
    const replica = servers[primaryCount + index];
    if (replica === undefined) continue;
    const id = await command<string>(primary, "CLUSTER", "MYID");
    await waitUntil("the replica may follow", async () => {
      return (await command<string>(replica, "CLUSTER", "REPLICATE", id)) === "OK";
    });
  }
  await waitUntil("the cluster is ok and its replicas are online", async () => {
    const online = await Promise.all(primaries.map((primary) => replicasOnline(primary, 1)));
    return online.every(Boolean) && (await allOk(servers)) && (await agree(servers));
  });
}

async function allOk(servers: readonly TestRedis[]): Promise<boolean> {
  const states = await Promise.all(servers.map((server) => clusterInfo(server, "cluster_state")));
  return states.every((state) => state === "ok");
}

/** Every node shows each primary with its replica: a client may ask any of them first. */
async function agree(servers: readonly TestRedis[]): Promise<boolean> {
  const views = await Promise.all(servers.map((server) => command<unknown[][]>(server, "CLUSTER", "SLOTS")));
  return views.every((ranges) => ranges.length === primaryCount && ranges.every((range) => range.length === 4));
}

async function clusterInfo(server: TestRedis, field: string): Promise<string | undefined> {
  const info = await command<string>(server, "CLUSTER", "INFO");
  return new RegExp(`^${field}:(.*?)\\r?$`, "m").exec(info)?.[1];
}

async function busPort(server: TestRedis): Promise<string> {
  const nodes = await command<string>(server, "CLUSTER", "NODES");
  const bus = /:\d+@(\d+)[^\n]*myself/.exec(nodes)?.[1];
  if (bus === undefined) throw new Error(`no bus port in: ${nodes}`);
  return bus;
}
