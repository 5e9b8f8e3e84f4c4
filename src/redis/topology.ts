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
import { SentinelWatch } from "./sentinel-watch.ts";

/** What of Redis depends on how many servers it is: one, one behind Sentinel, or a cluster. */
export interface Topology {
  readonly client: Client;
  readonly hub: PubSub;
  /** Database of the keyspace channels; a cluster has only 0. */
  readonly db: number;
  /** A connection to each server that takes writes. */
  primaries(): readonly Redis[];
  /** A connection of one's own to the server that has this slot's writes; `name` tells servers apart. null: not known now.
   * `node`: the very node, where a server sent there for a key on its way ("host:port"). */
  place(slot: number, node: string | null): { readonly name: string; connect(role: Role): Redis } | null;
  /** A server said that a slot is elsewhere. */
  refresh(): void;
  /** Ends all but `client`, which its user ends when what is on its way is through. */
  close(): void;
}

export function openTopology(source: RedisSource, settings: ConnectionSettings): Topology {
  const pingEveryMs = settings.commandTimeoutMs;
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
  const hub = new Hub(connect("subscriber"), pingEveryMs, settings.onError);
  const watch =
    client.options.sentinels && client.options.sentinels.length > 0
      ? new SentinelWatch(client.options, (port) => {
          for (const redis of connections) {
            if (redis.status === "ready" && portOf(redis) !== port) redis.disconnect(true);
          }
        })
      : null;
  return {
    client,
    hub,
    db: client.options.db ?? 0,
    primaries: () => [client],
    place: () => ({ name: "primary", connect }),
    refresh: () => undefined,
    close() {
      hub.close();
      watch?.close();
    },
  };
}

function clusterTopology(cluster: Cluster, options: ClusterOptions, settings: ConnectionSettings): Topology {
  const connect = (node: string, role: Role) => connectNode(node, options, settings, role);
  const hub = new ClusterHub(
    cluster,
    (node) => connect(node, "subscriber"),
    settings.commandTimeoutMs,
    settings.onError,
  );
  return {
    client: cluster,
    hub,
    db: 0,
    primaries: () => cluster.nodes("master"),
    place(slot, asked) {
      const node = asked ?? cluster.slots[slot]?.[0];
      return node === undefined ? null : { name: node, connect: (role) => connect(node, role) };
    },
    refresh: () => cluster.refreshSlotsCache(),
    close: () => hub.close(),
  };
}

function portOf(redis: Redis): number | undefined {
  return "remotePort" in redis.stream && typeof redis.stream.remotePort === "number"
    ? redis.stream.remotePort
    : undefined;
}
