import { resolve } from "node:path";

import { z } from "zod";

import { addresses, integer, isRedisUrl, natMap, onOff, variable } from "./values.ts";
import type { Definition, RedisAddress } from "./values.ts";

/** Of the connections to Redis servers; a URL brings its own user, password and database. */
export interface RedisAccess {
  readonly username: string | null;
  readonly password: string | null;
  readonly db: number;
  /** null: no TLS, unless the URL is rediss://. */
  readonly tls: RedisTls | null;
}

/** Paths of PEM files; null: the system's authorities, no client certificate. */
export interface RedisTls {
  readonly caFile: string | null;
  readonly certFile: string | null;
  readonly keyFile: string | null;
}

export type RedisConfig =
  | { readonly kind: "url"; readonly url: string; readonly access: RedisAccess }
  | {
      readonly kind: "sentinel";
      readonly sentinels: readonly RedisAddress[];
      readonly name: string;
      readonly sentinelUsername: string | null;
      readonly sentinelPassword: string | null;
      readonly access: RedisAccess;
    }
  | {
      readonly kind: "cluster";
      readonly nodes: readonly RedisAddress[];
      /** "host:port" as the cluster calls a node -> where it is reached from here. */
      readonly natMap: Readonly<Record<string, RedisAddress>>;
      readonly access: RedisAccess;
    }
  /** Parley runs a redis-server of its own, whose files are in the directory (absolute). */
  | { readonly kind: "embedded"; readonly directory: string };

export const redisDefinitions = {
  REDIS_URL: variable(
    z.string().refine(isRedisUrl, "must be a URL redis://[user:password@]host[:port][/db], or rediss:// for TLS"),
    null,
    "The Redis that holds the conversations. Without it Parley runs a redis-server of its own in DATA_DIR.",
  ),
  REDIS_SENTINELS: variable(
    addresses,
    null,
    "Sentinels as host:port,host:port that know the primary of REDIS_SENTINEL_NAME. Instead of REDIS_URL.",
  ),
  REDIS_SENTINEL_NAME: variable(z.string(), "mymaster", "What the Sentinels call the primary."),
  REDIS_SENTINEL_USERNAME: variable(z.string(), null, "ACL user at the Sentinels."),
  REDIS_SENTINEL_PASSWORD: variable(z.string(), null, "Password at the Sentinels."),
  REDIS_CLUSTER_NODES: variable(
    addresses,
    null,
    "Some nodes of a cluster as host:port,host:port; the others are found through them. Instead of REDIS_URL.",
  ),
  REDIS_NAT_MAP: variable(
    natMap,
    null,
    "Where nodes of a cluster are reached from here: 10.0.0.1:6379=localhost:7001.",
  ),
  REDIS_USERNAME: variable(
    z.string(),
    null,
    "ACL user at Sentinel's servers or a cluster's nodes (a URL has its own).",
  ),
  REDIS_PASSWORD: variable(
    z.string(),
    null,
    "Password at Sentinel's servers or a cluster's nodes (a URL has its own).",
  ),
  REDIS_DB: variable(integer(0, 1_000_000), "0", "Database behind Sentinel (a URL has its own; a cluster has only 0)."),
  REDIS_TLS: variable(onOff, "off", "TLS to Redis, and to the Sentinels; a rediss:// URL switches it on too."),
  REDIS_TLS_CA_FILE: variable(z.string(), null, "PEM file of the authorities that Redis' certificate is held against."),
  REDIS_TLS_CERT_FILE: variable(z.string(), null, "PEM file of the client certificate."),
  REDIS_TLS_KEY_FILE: variable(z.string(), null, "PEM file of the client certificate's key."),
  REDIS_WAIT_REPLICAS: variable(
    integer(0, 100),
    "0",
    "A write is acknowledged when so many replicas hold it. To survive every failover: the number of all replicas.",
  ),
  REDIS_WAIT_TIMEOUT_MS: variable(
    integer(1, 600_000),
    "1000",
    "How long the replicas may take; then the caller gets STORE_UNAVAILABLE, and a retry the result.",
  ),
  DATA_DIR: variable(z.string(), ".parley", "Where Parley's own redis-server keeps its files."),
  REDIS_COMMAND_TIMEOUT_MS: variable(integer(100, 600_000), "5000", "After that long a command to Redis has failed."),
  REDIS_KEYSPACE_EVENTS: variable(
    z.literal("enable", "must be `enable`, or left out"),
    null,
    "`enable` switches keyspace notifications on in the server, so that what other programs write is seen at once.",
  ),
  LIST_KEYSPACE_EVENTS: variable(
    onOff,
    "on",
    "Where notifications are on: whether an open list of sessions (sessionChanged) hears at once of what other programs write to any of them. Redis then names each key of the database that anybody pushes to, deletes or renames; off, lists are compared within FEED_CHECK_MS.",
  ),
} as const;

type Name = keyof typeof redisDefinitions;

/** How loadConfig reads the variables, and hears what is wrong with them. */
export interface RedisVariables {
  /** null: left out, or wrong (which is told already). */
  readonly given: <Value>(name: Name, definition: Definition<Value>) => Value | null;
  readonly required: <Value>(name: Name, definition: Definition<Value>) => Value;
  /** Also where it is wrong. */
  readonly isGiven: (name: Name) => boolean;
  readonly problem: (variable: string, message: string) => void;
}

/** What is wrong is told to `problem`, without its value. */
export function redisConfig({ given, required, isGiven, problem }: RedisVariables): RedisConfig {
  const d = redisDefinitions;
  const url = given("REDIS_URL", d.REDIS_URL);
  const sentinels = given("REDIS_SENTINELS", d.REDIS_SENTINELS);
  const nodes = given("REDIS_CLUSTER_NODES", d.REDIS_CLUSTER_NODES);
  const files = {
    caFile: given("REDIS_TLS_CA_FILE", d.REDIS_TLS_CA_FILE),
    certFile: given("REDIS_TLS_CERT_FILE", d.REDIS_TLS_CERT_FILE),
    keyFile: given("REDIS_TLS_KEY_FILE", d.REDIS_TLS_KEY_FILE),
  };
  const tls = required("REDIS_TLS", d.REDIS_TLS) || Object.values(files).some((file) => file !== null);
  const access: RedisAccess = {
    username: given("REDIS_USERNAME", d.REDIS_USERNAME),
    password: given("REDIS_PASSWORD", d.REDIS_PASSWORD),
    db: required("REDIS_DB", d.REDIS_DB),
    tls: tls ? files : null,
  };
  const ways = (["REDIS_URL", "REDIS_SENTINELS", "REDIS_CLUSTER_NODES"] as const).filter(isGiven);
  for (const name of ways.slice(1)) {
    problem(name, `cannot stand beside ${ways[0] ?? ""}: one Redis holds the conversations`);
  }
  if ((files.certFile === null) !== (files.keyFile === null)) {
    const variable = files.certFile === null ? "REDIS_TLS_CERT_FILE" : "REDIS_TLS_KEY_FILE";
    problem(variable, "is needed too: a client certificate has a file and a key");
  }
  if (nodes) {
    if (access.db !== 0) problem("REDIS_DB", "must be 0: a cluster has no other");
    return { kind: "cluster", nodes, natMap: given("REDIS_NAT_MAP", d.REDIS_NAT_MAP) ?? {}, access };
  }
  if (sentinels) {
    return {
      kind: "sentinel",
      sentinels,
      name: required("REDIS_SENTINEL_NAME", d.REDIS_SENTINEL_NAME),
      sentinelUsername: given("REDIS_SENTINEL_USERNAME", d.REDIS_SENTINEL_USERNAME),
      sentinelPassword: given("REDIS_SENTINEL_PASSWORD", d.REDIS_SENTINEL_PASSWORD),
      access,
    };
  }
  if (url !== null) return { kind: "url", url, access };
  return { kind: "embedded", directory: resolve(required("DATA_DIR", d.DATA_DIR)) };
}
