import type { Cluster, Redis } from "ioredis";
import type { GatewayOptions } from "../../src/gateway.ts";
import { freePort } from "../../src/embedded-redis/port.ts";
import { spawnGateway, startGateway, type GatewayProcess } from "../support/gateway/gateway.ts";
import { waitUntil } from "../support/redis/redis-command.ts";
import type { TestRedis } from "../support/redis/redis-server.ts";
import { startProxy, type TcpProxy } from "../support/redis/tcp-proxy.ts";
import { topologies } from "../support/redis/topologies.ts";
import { Load, type Count } from "./load.ts";

const sessionIds = ["drill-a", "drill-b", "drill-c"];

export interface StageOptions {
  readonly on: keyof typeof topologies;
  readonly gateway?: Partial<GatewayOptions>;
  /** The gateways are processes of their own. */
  readonly spawned?: boolean;
  /** The gateways reach a single server through a proxy. */
  readonly proxied?: boolean;
  readonly padding?: number;
}

/** Redis, two gateways and a load on them, while a fault is brought about. */
export interface Stage {
  readonly load: Load;
  readonly servers: readonly TestRedis[];
  readonly raw: Redis | Cluster;
  readonly sessionIds: readonly string[];
  readonly primary: () => Promise<TestRedis>;
  readonly nextPrimary: (old: TestRedis) => Promise<TestRedis>;
  /** Of spawned gateways. */
  readonly gateway: (i: number) => GatewayProcess;
  /** Starts a spawned gateway that has gone, where it was. */
  readonly startAgain: (i: number) => Promise<void>;
  /** Between the gateways and a single server. */
  readonly proxy: () => TcpProxy;
}

/** Sets all up, waits until the load runs, has the fault happen, waits until the load runs again, and counts. */
export async function play(options: StageOptions, fault: (stage: Stage) => Promise<void>): Promise<Count> {
  const topology = await topologies[options.on]();
  const undo: (() => Promise<unknown>)[] = [() => topology.stop()];
  try {
    const proxy = options.proxied ? await startProxy((await topology.primaryOf("")).port) : null;
    if (proxy) undo.push(() => proxy.close());
    const redis = proxy ? `redis://127.0.0.1:${proxy.port}` : topology.redis;
    const gateways: GatewayProcess[] = [];
    const ports = await Promise.all([freePort(), freePort()]);
    const spawn = async (i: number) => {
      const env = { ...topology.env, PORT: String(ports[i]), RUN_LEASE_MS: "2000", LOG_LEVEL: "error" };
      gateways[i] = await spawnGateway(env);
    };
    const urls: string[] = [];
    for (const i of [0, 1]) {
      if (options.spawned) {
        await spawn(i);
        undo.push(async () => gateways[i]?.kill());
        urls.push(gateways[i]?.url ?? "");
      } else {
        const gateway = await startGateway({ runLeaseMs: 4000, ...options.gateway, redis });
        undo.push(() => gateway.close());
        urls.push(gateway.url);
      }
    }
    for (const url of urls) await waitUntil("it is ready", async () => (await fetch(new URL("/readyz", url))).ok);
    const load = await Load.start({
      urls,
      sessionIds,
      raw: () => topology.raw(),
      probe: {
        ports: topology.servers.map(({ port }) => port),
        keys: options.on === "Cluster" ? sessionIds : sessionIds.slice(0, 1),
        ...(topology.sentinels ? { sentinels: topology.sentinels } : {}),
        replicas: options.gateway?.waitReplicas ?? 0,
      },
      padding: options.padding ?? 0,
    });
    await load.acknowledge(40);
    const [first = ""] = sessionIds;
    await fault({
      load,
      servers: topology.servers,
      raw: topology.raw(),
      sessionIds,
      primary: () => topology.primaryOf(first),
      nextPrimary: (old) => topology.nextPrimaryOf(first, old),
      gateway: (i) => must(gateways[i]),
      startAgain: spawn,
      proxy: () => must(proxy),
    });
    await load.acknowledge(40);
    return await load.count();
  } finally {
    for (const step of undo.reverse()) await step();
  }
}

function must<T>(value: T | null | undefined): T {
  if (value === null || value === undefined) throw new Error("The stage was set without it");
  return value;
}
