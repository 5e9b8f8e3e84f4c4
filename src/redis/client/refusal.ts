import { Cluster, type Redis } from "ioredis";
import { redisOf, type RedisSource } from "./connection.ts";

/** Why servers that are there will not have us: mistakes of configuration, which waiting does not mend. */
export type Refusal =
  /** The password or user is wrong, or missing. */
  | { readonly kind: "login"; readonly by: "server" | "sentinel" }
  | { readonly kind: "database" }
  | { readonly kind: "noSentinel" };

/** A server that is away may come back: it is not waited for. */
const limitMs = 1500;

/** Asks once, on a connection of its own. null: let in, or nobody answers. */
export async function refusalOf(source: Exclude<RedisSource, { kind: "client" }>): Promise<Refusal | null> {
  const errors: unknown[] = [];
  const redis = connectionTo(source);
  redis.on("error", (error: unknown) => errors.push(error));
  const asked = redis.connect().then(() => redis.ping());
  let timer: NodeJS.Timeout | undefined;
  const limit = new Promise<void>((resolve) => (timer = setTimeout(resolve, limitMs)));
  try {
    await Promise.race([asked, limit]);
  } catch (error) {
    errors.push(error);
  } finally {
    clearTimeout(timer);
    asked.catch(() => undefined);
    redis.disconnect();
  }
  return errors.map(meaningOf).find((refusal) => refusal !== null) ?? null;
}

function connectionTo(source: Exclude<RedisSource, { kind: "client" }>): Redis | Cluster {
  const once = { lazyConnect: true, connectTimeout: limitMs };
  const never = () => null;
  if (source.kind !== "cluster") {
    return redisOf(source, { ...once, retryStrategy: never, sentinelRetryStrategy: never, maxRetriesPerRequest: 0 });
  }
  return new Cluster([...source.nodes], {
    ...source.options,
    lazyConnect: true,
    clusterRetryStrategy: never,
    slotsRefreshTimeout: limitMs,
    redisOptions: { ...source.options.redisOptions, connectTimeout: limitMs },
  });
}

/** ioredis wraps: a cluster's error has that of the last node, Sentinel's has the words of the last one in its own. */
function meaningOf(error: unknown): Refusal | null {
  if (!(error instanceof Error)) return null;
  if ("lastNodeError" in error && error.lastNodeError !== error) return meaningOf(error.lastNodeError);
  const { message } = error;
  const ofSentinel = message.startsWith("All sentinels are unreachable");
  if (/\b(?:WRONGPASS|NOAUTH)\b/.test(message)) return { kind: "login", by: ofSentinel ? "sentinel" : "server" };
  if (ofSentinel && message.includes("unknown command")) return { kind: "noSentinel" };
  return message.includes("DB index is out of range") ? { kind: "database" } : null;
}
