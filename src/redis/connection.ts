import { Redis, type RedisOptions as AllOptions } from "ioredis";

/** ioredis' options, less the two that change what replies look like. */
export type RedisOptions = Omit<AllOptions, "replyMapping" | "protocol">;

/** How to reach Redis: by URL, by ioredis' options, or over a connection that the caller has (it is duplicated, never closed). */
export type RedisSource =
  | { readonly kind: "url"; readonly url: string }
  | { readonly kind: "options"; readonly options: RedisOptions }
  | { readonly kind: "client"; readonly client: Redis };

export interface ConnectionSettings {
  /** Milliseconds after which a command that got no answer is given up. */
  readonly commandTimeoutMs: number;
  readonly onError: (error: unknown) => void;
}

/**
 * Commands wait for a connection that comes back, at most commandTimeoutMs, and are sent again when a reply was lost:
 * every script is safe to run twice (P2). A connection that neither takes nor gives bytes is dropped by socketTimeout.
 */
function options(settings: ConnectionSettings): RedisOptions {
  return {
    commandTimeout: settings.commandTimeoutMs,
    connectTimeout: settings.commandTimeoutMs,
    maxRetriesPerRequest: null,
    retryStrategy: (attempt) => Math.min(25 * 2 ** Math.min(attempt, 5), 500),
    keepAlive: 10_000,
    noDelay: true,
  };
}

export function connect(source: RedisSource, settings: ConnectionSettings, role: "commands" | "subscriber"): Redis {
  const own: RedisOptions = { ...options(settings), connectionName: `parley-${role}` };
  // A subscriber waits for what it subscribes to as long as it takes; it is watched by PING instead.
  if (role === "subscriber") own.autoResubscribe = false;
  const redis =
    source.kind === "url"
      ? new Redis(source.url, own)
      : source.kind === "options"
        ? new Redis({ ...source.options, ...own })
        : source.client.duplicate(own);
  redis.on("error", settings.onError);
  return redis;
}
