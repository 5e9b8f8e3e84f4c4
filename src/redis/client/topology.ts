import { Cluster, type Redis } from "ioredis";
import { ClusterHub } from "./cluster-hub.ts";
import {
  connectCluster,
  connectNode,
  connectRedis,
  duplicateCluster,
  type Client,
  type ClusterOptions,
  type ConnectionSettings,
  type RedisSource,
  type Role,
} from "./connection.ts";
import { Hub, type PubSub } from "./hub.ts";
import { MuteNodes } from "./mute-nodes.ts";
import { SentinelWatch, type ServerAddress } from "./sentinel-watch.ts";

/** How often a subscriber connection is asked whether its server is a primary: live text is that late where nothing tells of it. */
const lookEveryMs = 1000;

/** What of Redis depends on how many servers it is: one, one behind Sentinel, or a cluster. */
export interface Topology {
  readonly client: Client;
  readonly hub: PubSub;
  /** Database of the keyspace channels; a cluster has only 0. */
  readonly db: number;
  /** A connection to each server that takes writes. */
  primaries(): readonly Redis[];
  /** A connection of one's own to the server that has this slot's writes; `name` tells servers apart. null: not known now. */
  place(slot: number): { readonly name: string; connect(role: Role): Redis } | null;
  /** A server said that a slot is elsewhere. */
  refresh(): void;
  /** Called when primaries() are others than before (a failover, a new shard, one that came back). Only clusters call it. */
  onPrimaries(listener: () => void): void;
  /** Ends all but `client`, which its user ends when what is on its way is through. */
  close(): void;
}

export function openTopology(source: RedisSource, settings: ConnectionSettings): Topology {
  if (source.kind === "cluster") {
    return clusterTopology(connectCluster(source.nodes, source.options, settings), source.options, settings);
  }
  if (source.kind === "client" && source.client instanceof Cluster) {
    const cluster = duplicateCluster(source.client, settings);
    return clusterTopology(cluster, source.client.options, settings);
  }
  const connections = new Set<Redis>();
  const connect = (role: Role): Redis => {
    const redis = connectRedis(source, settings, role);
    connections.add(redis);
    redis.on("end", () => connections.delete(redis));
    return redis;
  };
  const client = connect("commands");
  const hub = new Hub(
    connect("subscriber"),
    client,
    Math.min(lookEveryMs, settings.commandTimeoutMs),
    settings.onError,
  );
  const watch =
    client.options.sentinels && client.options.sentinels.length > 0
      ? new SentinelWatch(client.options, (primary) => {
          // Also one that is still shaking hands with the old one, frozen as that may be.
          for (const redis of connections) if (isElsewhere(redis, primary)) redis.disconnect(true);
        })
      : null;
  return {
    client,
    hub,
    db: client.options.db ?? 0,
    primaries: () => [client],
    place: () => ({ name: "primary", connect }),
    refresh: () => undefined,
    onPrimaries: () => undefined,
    close() {
      hub.close();
      watch?.close();
    },
  };
}

function clusterTopology(cluster: Cluster, options: ClusterOptions, settings: ConnectionSettings): Topology {
  const durable = new Map<string, Redis>();
  const connect = (node: string, role: Role) => {
    const redis = connectNode(node, options, settings, role);
    if (role === "durable") durable.set(node, redis);
    return redis;
  };
  const hub = new ClusterHub(
    cluster,
    (node) => connect(node, "subscriber"),
    settings.commandTimeoutMs,
    settings.onError,
  );
  const mute = new MuteNodes(cluster);
  const listeners = new Set<() => void>();
  watchPrimaries(cluster, (replaced) => {
    for (const node of replaced) {
      durable.get(node)?.disconnect();
      durable.delete(node);
    }
    for (const listener of listeners) listener();
  });
  return {
    client: cluster,
    hub,
    db: 0,
    primaries: () => cluster.nodes("master"),
    place(slot) {
      const node = cluster.slots[slot]?.[0];
      return node === undefined ? null : { name: node, connect: (role) => connect(node, role) };
    },
    refresh: () => cluster.refreshSlotsCache(),
    onPrimaries: (listener) => void listeners.add(listener),
    close() {
      hub.close();
      mute.close();
    },
  };
}

/**
 * A primary that was replaced may be frozen and hold what was sent to it until the time-out: its connection is dropped,
 * and the cluster sends that again, where the slot is now. `onChange` gets the addresses of those that are none any more.
 */
function watchPrimaries(cluster: Cluster, onChange: (replaced: readonly string[]) => void): void {
  let before = new Set<Redis>();
  cluster.on("refresh", () => {
    const now = new Set(cluster.nodes("master"));
    const replaced = [...before].filter((redis) => !now.has(redis));
    const others = replaced.length > 0 || [...now].some((redis) => !before.has(redis));
    const first = before.size === 0;
    before = now;
    for (const redis of replaced) redis.disconnect();
    const names = new Set([...now].map(nameOf));
    if (others && !first) onChange(replaced.map(nameOf).filter((name) => !names.has(name)));
  });
}

/** As the cluster's slots have it. */
function nameOf({ options }: Redis): string {
  return `${options.host}:${options.port}`;
}

function isElsewhere(redis: Redis, { ips, port }: ServerAddress): boolean {
  const { stream } = redis as { readonly stream?: Redis["stream"] }; // there is none before the first connection
  if (stream === undefined || !("remotePort" in stream) || typeof stream.remotePort !== "number") return false;
  const ip = stream.remoteAddress?.replace(/^::ffff:/, "") ?? "";
  return stream.remotePort !== port || !ips.includes(ip);
}
