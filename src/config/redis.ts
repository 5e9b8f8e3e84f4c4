import { resolve } from "node:path";
import { addresses, natMap, onOff, orNull, redisUrl, text, whole, type RedisAddress } from "./forms.ts";
import { setting, type Values } from "./setting.ts";

/** Of the connections to Redis servers; a URL brings its own user, password and database. */
export interface RedisAccess {
  readonly username: string | null;
  readonly password: string | null;
  readonly db: number;
  /** null: no TLS, unless the URL is rediss://. */
  readonly tls: RedisTls | null;
}

/** Paths of PEM files; null: the system's authorities, no client certificate. */
interface RedisTls {
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

export const redisSettings = {
  url: setting(
    "REDIS_URL",
    orNull(redisUrl),
    null,
    "The Redis that holds the conversations. Without it Parley runs a redis-server of its own in DATA_DIR.",
  ),
  sentinels: setting(
    "REDIS_SENTINELS",
    orNull(addresses),
    null,
    "Sentinels as host:port,host:port that know the primary of REDIS_SENTINEL_NAME. Instead of REDIS_URL.",
  ),
  name: setting("REDIS_SENTINEL_NAME", text(), "mymaster", "What the Sentinels call the primary."),
  sentinelUsername: setting("REDIS_SENTINEL_USERNAME", orNull(text()), null, "ACL user at the Sentinels."),
  sentinelPassword: setting("REDIS_SENTINEL_PASSWORD", orNull(text()), null, "Password at the Sentinels."),
  nodes: setting(
    "REDIS_CLUSTER_NODES",
    orNull(addresses),
    null,
    "Some nodes of a cluster as host:port,host:port; the others are found through them. Instead of REDIS_URL.",
  ),
  natMap: setting(
    "REDIS_NAT_MAP",
    orNull(natMap),
    null,
    "Where nodes of a cluster are reached from here: 10.0.0.1:6379=localhost:7001.",
  ),
  username: setting(
    "REDIS_USERNAME",
    orNull(text()),
    null,
    "ACL user at Sentinel's servers or a cluster's nodes (a URL has its own).",
  ),
  password: setting(
    "REDIS_PASSWORD",
    orNull(text()),
    null,
    "Password at Sentinel's servers or a cluster's nodes (a URL has its own).",
  ),
  db: setting(
    "REDIS_DB",
    whole(0, 1_000_000),
    0,
    "Database behind Sentinel (a URL has its own; a cluster has only 0).",
  ),
  tls: setting("REDIS_TLS", onOff, false, "TLS to Redis, and to the Sentinels; a rediss:// URL switches it on too."),
  caFile: setting(
    "REDIS_TLS_CA_FILE",
    orNull(text()),
    null,
    "PEM file of the authorities that Redis' certificate is held against.",
  ),
  certFile: setting("REDIS_TLS_CERT_FILE", orNull(text()), null, "PEM file of the client certificate."),
  keyFile: setting("REDIS_TLS_KEY_FILE", orNull(text()), null, "PEM file of the client certificate's key."),
  directory: setting("DATA_DIR", text(), ".parley", "Where Parley's own redis-server keeps its files."),
};

/** `ways`: the variables by which a Redis is given, right or wrong. What is wrong is told to `problem`, without its value. */
export function redisConfig(
  settings: Values<typeof redisSettings>,
  ways: readonly string[],
  problem: (variable: string, message: string) => void,
): RedisConfig {
  const { url, sentinels, nodes, username, password, db } = settings;
  const { caFile, certFile, keyFile } = settings;
  const files = { caFile, certFile, keyFile };
  const tls = settings.tls || Object.values(files).some((file) => file !== null);
  const access: RedisAccess = { username, password, db, tls: tls ? files : null };
  for (const name of ways.slice(1)) {
    problem(name, `cannot stand beside ${ways[0] ?? ""}: one Redis holds the conversations`);
  }
  if ((certFile === null) !== (keyFile === null)) {
    const variable = certFile === null ? "REDIS_TLS_CERT_FILE" : "REDIS_TLS_KEY_FILE";
    problem(variable, "is needed too: a client certificate has a file and a key");
  }
  if (nodes) {
    if (access.db !== 0) problem("REDIS_DB", "must be 0: a cluster has no other");
    return { kind: "cluster", nodes, natMap: settings.natMap ?? {}, access };
  }
  if (sentinels) {
    const { name, sentinelUsername, sentinelPassword } = settings;
    return { kind: "sentinel", sentinels, name, sentinelUsername, sentinelPassword, access };
  }
  if (url !== null) return { kind: "url", url, access };
  return { kind: "embedded", directory: resolve(settings.directory) };
}
