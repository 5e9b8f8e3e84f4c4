import { readFileSync } from "node:fs";
import type { ConfigProblem, Environment } from "../config/load.ts";
import type { RedisAccess, RedisConfig } from "../config/redis.ts";
import { redisSourceOf } from "../options.ts";
import type { GatewayOptions } from "../gateway.ts";

/**
 * Where the configured Redis is, as createGateway takes it. Reads the PEM files.
 * @throws where one of them cannot be read
 */
export function redisSource(
  redis: RedisConfig,
  environment: Environment,
  onProgress: (text: string) => void,
): GatewayOptions["redis"] {
  switch (redis.kind) {
    case "embedded":
      return { embedded: { directory: redis.directory, environment, onProgress } };
    case "url": {
      const tls = tlsOf(redis.access);
      return tls ? { url: redis.url, options: tls } : redis.url;
    }
    case "sentinel": {
      const tls = tlsOf(redis.access);
      return {
        sentinels: redis.sentinels.map((address) => ({ ...address })),
        name: redis.name,
        ...(redis.sentinelUsername === null ? {} : { sentinelUsername: redis.sentinelUsername }),
        ...(redis.sentinelPassword === null ? {} : { sentinelPassword: redis.sentinelPassword }),
        ...loginOf(redis.access),
        db: redis.access.db,
        ...(tls ? { ...tls, sentinelTLS: tls.tls, enableTLSForSentinelMode: true } : {}),
      };
    }
    case "cluster": {
      const natMap = Object.fromEntries(Object.entries(redis.natMap).map(([called, at]) => [called, { ...at }]));
      return {
        cluster: redis.nodes,
        options: {
          ...(Object.keys(natMap).length > 0 ? { natMap } : {}),
          // A certificate names hosts: the cluster's own names for its nodes are used, not looked up first.
          ...(redis.access.tls ? { dnsLookup: (address, callback) => callback(null, address) } : {}),
          redisOptions: { ...loginOf(redis.access), ...tlsOf(redis.access) },
        },
      };
    }
  }
}

/** What the configured servers refuse when they are asked once. One that is away is no mistake: it is waited for later. */
export async function redisProblems(redis: RedisConfig): Promise<readonly ConfigProblem[]> {
  if (redis.kind === "embedded") return [];
  const source = redisSourceOf(
    redisSource(redis, {}, () => undefined),
    null,
  );
  if (source.kind === "client") return [];
  const { refusalOf } = await import("../redis/client/refusal.ts");
  const refusal = await refusalOf(source);
  const named = { url: "REDIS_URL", sentinel: "REDIS_PASSWORD", cluster: "REDIS_PASSWORD" }[redis.kind];
  const problem = (variable: string, message: string) => [{ variable, message }];
  switch (refusal?.kind) {
    case undefined:
      return [];
    case "login":
      return problem(
        refusal.by === "sentinel" ? "REDIS_SENTINEL_PASSWORD" : named,
        "is refused: the user or the password is wrong, or missing",
      );
    case "database":
      return problem(redis.kind === "url" ? "REDIS_URL" : "REDIS_DB", "names a database that the server does not have");
    case "noSentinel":
      return problem("REDIS_SENTINELS", "names a server that is no Sentinel");
  }
}

function loginOf({ username, password }: RedisAccess): { readonly username?: string; readonly password?: string } {
  return { ...(username === null ? {} : { username }), ...(password === null ? {} : { password }) };
}

function tlsOf({ tls }: RedisAccess): { readonly tls: { ca?: string; cert?: string; key?: string } } | null {
  if (tls === null) return null;
  const { caFile, certFile, keyFile } = tls;
  return {
    tls: {
      ...(caFile === null ? {} : { ca: readFileSync(caFile, "utf8") }),
      ...(certFile === null ? {} : { cert: readFileSync(certFile, "utf8") }),
      ...(keyFile === null ? {} : { key: readFileSync(keyFile, "utf8") }),
    },
  };
}
