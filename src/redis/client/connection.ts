import { Cluster, Redis } from "ioredis";
import type { ClusterNode, ClusterOptions as AllClusterOptions, NatMap, RedisOptions as AllOptions } from "ioredis";
import { prepareSending, type SendingSettings } from "./sending.ts";

/** ioredis' options, less the two that change what replies look like. */
export type RedisOptions = Omit<AllOptions, "replyMapping" | "protocol">;
/** Of each node's connection; where a node is, the cluster says. */
type NodeOptions = Omit<NonNullable<AllClusterOptions["redisOptions"]>, "replyMapping" | "protocol">;
export type ClusterOptions = Omit<AllClusterOptions, "replyMapping" | "redisOptions"> & {
  readonly redisOptions?: NodeOptions | undefined;
};

/** A connection that scripts and commands are sent over, whatever the topology behind it. */
export type Client = Redis | Cluster;

/** How to reach Redis: by URL, by ioredis' options (Sentinel's among them), as a cluster, or over a client that the caller has. */
export type RedisSource =
  | { readonly kind: "url"; readonly url: string; readonly options?: RedisOptions }
  | { readonly kind: "options"; readonly options: RedisOptions }
  | { readonly kind: "cluster"; readonly nodes: readonly ClusterNode[]; readonly options: ClusterOptions }
  /** It is duplicated, and stays the caller's. */
  | { readonly kind: "client"; readonly client: Client };

/** What ioredis would put in front of each key, as LangChain's own history over such a client has it. */
export function keyPrefixOf(source: RedisSource): string {
  switch (source.kind) {
    case "url":
      return source.options?.keyPrefix ?? "";
    case "options":
      return source.options.keyPrefix ?? "";
    case "cluster":
      return source.options.keyPrefix ?? source.options.redisOptions?.keyPrefix ?? "";
    case "client":
      return source.client.options.keyPrefix ?? "";
  }
}

export interface ConnectionSettings extends SendingSettings {
  readonly onError: (error: unknown) => void;
}

export type Role = "commands" | "subscriber" | "durable";

/** The caller of a durable write repeats it, so the connection only looks for the new primary. */
const demoted = (error: Error): boolean => error.message.startsWith("READONLY");

const slowestRetryMs = 500;
const retryStrategy = (attempt: number) => Math.min(25 * 2 ** Math.min(attempt, 5), slowestRetryMs);

/**
 * Commands wait for a connection that comes back, at most commandTimeoutMs, and are sent again when a reply was lost:
 * every script is safe to run twice (P2). A connection that takes commands and gives nothing is dropped by socketTimeout.
 */
function connectionOptions({ commandTimeoutMs }: ConnectionSettings, role: Role): RedisOptions {
  return {
    connectionName: `parley-${role}`,
    commandTimeout: commandTimeoutMs,
    connectTimeout: commandTimeoutMs,
    socketTimeout: commandTimeoutMs * 2,
    // A peer that is frozen never answers the end of a connection: what was under way is sent elsewhere soon.
    disconnectTimeout: 100,
    // A little later than that, what waits is dropped: else all that was asked for while Redis was away would pile up here,
    // and be carried out for nobody when it is back.
    maxRetriesPerRequest: Math.ceil(commandTimeoutMs / slowestRetryMs) + 4,
    retryStrategy,
    sentinelRetryStrategy: retryStrategy,
    // A Sentinel that is frozen must not hold the search for the primary: the next one is asked.
    sentinelCommandTimeout: Math.min(1000, commandTimeoutMs),
    role: "master",
    // Keys are whole names here; a prefix of the caller's client is part of historyKeyPrefix.
    keyPrefix: "",
    lazyConnect: false,
    enableOfflineQueue: true,
    // A primary that was demoted answers READONLY: the connection looks for the new one and sends the command again.
    reconnectOnError: (error) => (error.message.startsWith("READONLY") ? 2 : false),
    keepAlive: 10_000,
    noDelay: true,
    // The hub subscribes again, since it reads what came before the acknowledgement; callers repeat durable writes.
    ...(role === "subscriber" ? { autoResubscribe: false } : {}),
    ...(role === "durable"
      ? { autoResendUnfulfilledCommands: false, enableOfflineQueue: false, reconnectOnError: demoted }
      : {}),
  };
}

/** What a single server or Sentinel is reached by; for a cluster see connectCluster and connectNode. */
export function connectRedis(
  source: Exclude<RedisSource, { kind: "cluster" }>,
  settings: ConnectionSettings,
  role: Role,
): Redis {
  return prepared(redisOf(source, connectionOptions(settings, role)), settings, role);
}

function prepared<C extends Client>(client: C, settings: ConnectionSettings, role: Role): C {
  client.on("error", settings.onError);
  if (role !== "subscriber") prepareSending(client, role, settings);
  return client;
}

/** A client of one server or Sentinel with these options over the source's. */
export function redisOf(source: Exclude<RedisSource, { kind: "cluster" }>, own: RedisOptions): Redis {
  switch (source.kind) {
    case "url":
      return new Redis(source.url, { ...source.options, ...own });
    case "options":
      return new Redis({ ...source.options, ...own });
    case "client":
      if (source.client instanceof Cluster) throw new TypeError("A cluster's client is not one connection");
      return source.client.duplicate(own);
  }
}

/** The connection for commands, whatever the topology. */
export function connectClient(source: RedisSource, settings: ConnectionSettings): Client {
  if (source.kind === "cluster") return connectCluster(source.nodes, source.options, settings);
  if (source.kind === "client" && source.client instanceof Cluster) return duplicateCluster(source.client, settings);
  return connectRedis(source, settings, "commands");
}

export function connectCluster(
  nodes: readonly ClusterNode[],
  options: ClusterOptions,
  settings: ConnectionSettings,
): Cluster {
  const { redisOptions, ...rest } = options;
  return prepared(
    new Cluster([...nodes], { ...rest, ...clusterOptions(redisOptions, settings) }),
    settings,
    "commands",
  );
}

/** A cluster like the caller's, with what Parley needs of it. */
export function duplicateCluster(client: Cluster, settings: ConnectionSettings): Cluster {
  return prepared(client.duplicate([], clusterOptions(client.options.redisOptions, settings)), settings, "commands");
}

function clusterOptions(redisOptions: NodeOptions | undefined, settings: ConnectionSettings) {
  return {
    // Short: a node that is frozen must not keep the others from being asked where the slots are (see mute-nodes.ts).
    slotsRefreshTimeout: Math.min(1000, settings.commandTimeoutMs),
    slotsRefreshInterval: 2000,
    clusterRetryStrategy: retryStrategy,
    retryDelayOnFailover: 50,
    retryDelayOnMoved: 20,
    retryDelayOnTryAgain: 50,
    maxRedirections: 1000,
    // Replicas lag: a session is read where it is written.
    scaleReads: "master",
    // All pub/sub is the hub's.
    shardedSubscribers: false,
    enableOfflineQueue: true,
    lazyConnect: false,
    keyPrefix: "",
    redisOptions: { ...redisOptions, ...withoutRetries(connectionOptions(settings, "commands")) },
  } satisfies ClusterOptions;
}

/** A cluster retries over its nodes: a node's own connection gives its commands back when it closes. */
function withoutRetries(options: RedisOptions): RedisOptions {
  const rest = { ...options };
  delete rest.retryStrategy;
  delete rest.maxRetriesPerRequest;
  delete rest.reconnectOnError;
  return rest;
}

/** A connection of one's own to a node of a cluster, by the address that the cluster calls it ("host:port"). */
export function connectNode(node: string, options: ClusterOptions, settings: ConnectionSettings, role: Role): Redis {
  const colon = node.lastIndexOf(":");
  const called = { host: node.slice(0, colon), port: Number(node.slice(colon + 1)) };
  const address = mapped(options.natMap, node) ?? called;
  const own = connectionOptions(settings, role);
  return prepared(new Redis({ ...options.redisOptions, ...own, ...address }), settings, role);
}

/** Where a server that others call so is reached from here. */
export function mapped(
  natMap: NatMap | undefined,
  node: string,
): { readonly host: string; readonly port: number } | null {
  if (!natMap) return null;
  return typeof natMap === "function" ? natMap(node) : (natMap[node] ?? null);
}
