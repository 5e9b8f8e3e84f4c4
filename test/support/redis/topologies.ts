import { Cluster, Redis } from "ioredis";
import { redisSourceOf } from "../../../src/options.ts";
import type { GatewayOptions } from "../../../src/gateway.ts";
import type { RedisSource } from "../../../src/redis/client/connection.ts";
import { startCluster } from "./redis-cluster.ts";
import { startSentinel } from "./redis-sentinel.ts";
import { startRedis, type TestRedis } from "./redis-server.ts";

/** Real servers in one of the shapes that Redis is run in. */
export interface TestTopology {
  /** As createGateway takes it. */
  readonly redis: GatewayOptions["redis"];
  /** The same as a store takes it. */
  readonly source: RedisSource;
  /** The same for a gateway that is a process of its own. */
  readonly env: Readonly<Record<string, string>>;
  /** Who names the primary, where somebody does. */
  readonly sentinels?: { readonly ports: readonly number[]; readonly name: string };
  /** All data servers. */
  readonly servers: readonly TestRedis[];
  /** A client as a program beside the gateway has one; stop() ends it. */
  raw(options?: { readonly keyPrefix?: string }): Redis | Cluster;
  /** The server that takes this key's writes now. */
  primaryOf(key: string): Promise<TestRedis>;
  /** Resolves when another server than `old` takes them. */
  nextPrimaryOf(key: string, old: TestRedis): Promise<TestRedis>;
  stop(): Promise<void>;
}

async function standalone(): Promise<TestTopology> {
  const server = await startRedis();
  return withClients({
    redis: server.url,
    env: { REDIS_URL: server.url },
    servers: [server],
    client: (options) => new Redis(server.url, { ...options }),
    primaryOf: () => Promise.resolve(server),
    nextPrimaryOf: () => Promise.reject(new Error("There is no other server")),
    stop: () => server.stop(),
  });
}

async function sentinel(): Promise<TestTopology> {
  const started = await startSentinel();
  const { sentinels, name, servers } = started;
  const options = { sentinels: sentinels.map((address) => ({ ...address })), name };
  return withClients({
    redis: options,
    env: { REDIS_SENTINELS: addresses(sentinels), REDIS_SENTINEL_NAME: name },
    sentinels: { ports: sentinels.map(({ port }) => port), name },
    servers,
    client: (more) => new Redis({ ...options, ...more }),
    primaryOf: () => started.primary(),
    nextPrimaryOf: (_key, old) => started.nextPrimary(old),
    stop: () => started.stop(),
  });
}

async function cluster(): Promise<TestTopology> {
  const started = await startCluster();
  const { nodes, servers } = started;
  return withClients({
    redis: { cluster: nodes },
    env: { REDIS_CLUSTER_NODES: addresses(nodes) },
    servers,
    client: (options) => new Cluster([...nodes], { ...options }),
    primaryOf: (key) => started.primaryOf(key),
    nextPrimaryOf: (key, old) => started.nextPrimaryOf(key, old),
    stop: () => started.stop(),
  });
}

/** Each started by its own; keyed by the name that a test tells. */
export const topologies: Readonly<Record<"standalone" | "Sentinel" | "Cluster", () => Promise<TestTopology>>> = {
  standalone,
  Sentinel: sentinel,
  Cluster: cluster,
};

type Servers = Omit<TestTopology, "source" | "raw" | "stop"> & {
  readonly client: (options?: { readonly keyPrefix?: string }) => Redis | Cluster;
  readonly stop: () => Promise<void>;
};

function withClients({ client, stop, ...rest }: Servers): TestTopology {
  const clients: (Redis | Cluster)[] = [];
  return {
    ...rest,
    source: redisSourceOf(rest.redis, null),
    raw(options) {
      const made = client(options);
      // A failover that a test brings about says so on every connection.
      made.on("error", () => undefined);
      clients.push(made);
      return made;
    },
    async stop() {
      for (const made of clients) made.disconnect();
      await stop();
    },
  };
}

function addresses(servers: readonly { readonly host: string; readonly port: number }[]): string {
  return servers.map(({ host, port }) => `${host}:${port}`).join(",");
}
