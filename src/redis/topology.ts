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
  const client = connectRedis(source, settings, "commands");
  const hub = new Hub(connectRedis(source, settings, "subscriber"), pingEveryMs, settings.onError);
  return {
    client,
    hub,
    db: client.options.db ?? 0,
    primaries: () => [client],
    place: () => ({ name: "primary", connect: (role) => connectRedis(source, settings, role) }),
  };
}

function clusterTopology(cluster: Cluster, options: ClusterOptions, settings: ConnectionSettings): Topology {
  const connect = (node: string, role: Role) => connectNode(node, options, settings, role);
  return {
    client: cluster,
    hub: new ClusterHub(cluster, (node) => connect(node, "subscriber"), settings.commandTimeoutMs, settings.onError),
    db: 0,
    primaries: () => cluster.nodes("master"),
    place(slot) {
      const node = cluster.slots[slot]?.[0];
      return node === undefined ? null : { name: node, connect: (role) => connect(node, role) };
    },
  };
}
