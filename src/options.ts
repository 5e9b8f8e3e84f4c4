import type { Cluster, Redis } from "ioredis";
import type { MemorySettings, MemoryStrategy } from "./conversation/session.ts";
import type { CustomModel } from "./langchain/models/custom-model.ts";
import type { LimitOptions } from "./config/limit-options.ts";
import type { QueryLimits } from "./graphql/limits.ts";
import type { ClusterOptions, RedisOptions, RedisSource } from "./redis/client/connection.ts";
import type { TracingOptions } from "./telemetry/tracing/options.ts";
import type { AuthOptions, AuthenticateRequest } from "./transport/auth/authenticate.ts";
import type { Logger } from "./operations/logger.ts";
import type { PersistedMode } from "./operations/documents/persisted.ts";

/** A redis-server of Parley's own, whose files lie in the directory. `environment`: where PATH and HOME are looked up. */
export interface EmbeddedSource {
  readonly directory: string;
  readonly environment: Readonly<Record<string, string | undefined>>;
  readonly onProgress?: (text: string) => void;
}

/** A URL, and what it cannot say (TLS files, for instance). */
export interface UrlSource {
  readonly url: string;
  readonly options: RedisOptions;
}

/** Some nodes of a cluster, and ioredis' options for it (redisOptions: of each node's connection). */
export interface ClusterSource {
  readonly cluster: readonly { readonly host: string; readonly port: number }[];
  readonly options?: ClusterOptions;
}

/** Everything but `redis` may be left out. Times are milliseconds unless named otherwise. */
export interface GatewayOptions extends LimitOptions {
  /**
   * A redis:// or rediss:// URL, ioredis' options (Sentinel's too), an ioredis client (Redis or Cluster: it is duplicated,
   * and stays the caller's), a cluster's nodes, or a redis-server of Parley's own.
   */
  readonly redis:
    string | UrlSource | RedisOptions | Redis | Cluster | ClusterSource | { readonly embedded: EmbeddedSource };
  /**
   * Says who asks, for each HTTP request and each WebSocket; null lets nobody in. Each subject then has sessions of its
   * own. Left out, and without `auth`: there is one owner of everything, and everyone who reaches the port is it.
   */
  readonly authenticate?: AuthenticateRequest;
  /** Tokens or API keys that Parley checks itself, instead of `authenticate`. */
  readonly auth?: AuthOptions;
  /**
   * In front of each sessionId; "" as in LangChain JS, "message_store:" as in Python's community class. A keyPrefix of
   * ioredis' options goes ahead of it.
   */
  readonly historyKeyPrefix?: string;
  /** Sessions go so many seconds after their last write; null (default): never. */
  readonly sessionTtlSeconds?: number | null;
  /** "openai:gpt-4o-mini", "anthropic:…", "offline" (default), or the name of one of `customModels`. */
  readonly model?: string;
  /** What a caller may choose besides `model` and `customModels`. */
  readonly models?: readonly string[];
  /** LangChain chat models of the program's own, or functions that make them, by name. */
  readonly customModels?: Readonly<Record<string, CustomModel>>;
  readonly openai?: {
    readonly apiKey?: string | null;
    readonly baseUrl?: string | null;
    /** null (default): "completions" with a `baseUrl`, else what LangChain takes for the model. */
    readonly api?: "completions" | "responses" | null;
  };
  readonly modelTemperature?: number | null;
  readonly modelMaxRetries?: number;
  readonly modelTimeoutMs?: number;
  /**
   * Whether sessions that are started from now on, and have no title, get one of the model's after their first reply
   * (true, with the model "offline" false). It costs the owner tokens; an owner whom it could bring beyond a limit gets none.
   */
  readonly autoTitle?: boolean;
  /** Between two words of the offline model (15). */
  readonly offlineWordDelayMs?: number;
  readonly systemPrompt?: string | null;
  readonly memory?: Partial<MemoryOptions>;
  readonly maxMessageChars?: number;
  readonly maxQueuedRuns?: number;
  /** The most messages that a session keeps, the oldest being trimmed as new ones come; null (default): all. */
  readonly maxMessagesPerSession?: number | null;
  readonly runLeaseMs?: number;
  readonly replyWaitMs?: number;
  readonly feedCheckMs?: number;
  readonly redisCommandTimeoutMs?: number;
  readonly enableKeyspaceEvents?: boolean;
  /** Whether open lists of sessions hear by keyspace events of what other programs write (true). */
  readonly listKeyspaceEvents?: boolean;
  /** Replicas that must hold a write before it is acknowledged (0). On time-out the caller gets STORE_UNAVAILABLE, and a retry the result. */
  readonly waitReplicas?: number;
  /** How long they may take (1000). */
  readonly waitTimeoutMs?: number;
  readonly maxBodyBytes?: number;
  readonly production?: boolean;
  readonly graphiql?: boolean;
  /** GET /metrics for Prometheus. Default: not in production. */
  readonly metrics?: boolean;
  /** What a reader of /metrics must send as a bearer token; null (default): nothing. */
  readonly metricsToken?: string | null;
  /**
   * A collector of the gateway's own. Left out: OpenTelemetry's TracerProvider, where the program has registered one
   * before. null: nobody traces.
   */
  readonly tracing?: TracingOptions | null;
  readonly introspection?: boolean;
  readonly allowedOrigins?: readonly string[] | null;
  /** By which names clients may call the gateway, besides addresses, localhost and the hosts of `allowedOrigins`; null (default): by any with authentication, else by none. */
  readonly allowedHosts?: readonly string[] | null;
  /** What one operation may ask for; more is TOO_COMPLEX. What is left out has its default (graphql/limits.ts). */
  readonly queryLimits?: Partial<QueryLimits>;
  readonly persistedOperations?: PersistedOptions;
  /** For how long browsers are told to come by https alone; null (default): they are not told. */
  readonly hstsSeconds?: number | null;
  readonly logger?: Logger;
  /** Only its commands over the data are used (adopt, export, …): it looks after nobody's runs. Default false. */
  readonly idle?: boolean;
}

/** Operations by their hash or id instead of their text. */
export interface PersistedOptions {
  /** auto (default): those that clients register, and the list; only: the list, nothing else is answered; off: none. */
  readonly mode?: PersistedMode;
  /** The list: a file (documents by id, or Apollo's manifest). */
  readonly file?: string | null;
  /** More of it: documents by id. */
  readonly documents?: Readonly<Record<string, string>>;
}

export interface MemoryOptions {
  readonly strategy: MemoryStrategy;
  readonly maxTurns: number;
  readonly maxTokens: number;
  /** The most messages that a turn reads, whatever the strategy. */
  readonly maxMessages: number;
}

/** What sessions without settings of their own remember: only what their strategy counts by. */
export function memorySettingsOf(memory: MemoryOptions): MemorySettings {
  const counted = memory.strategy === "TOKEN_BUFFER" || memory.strategy === "SUMMARY_BUFFER";
  return {
    strategy: memory.strategy,
    maxTurns: memory.strategy === "WINDOW" ? memory.maxTurns : null,
    maxTokens: counted ? memory.maxTokens : null,
  };
}

/** `embedded`: Parley's own redis-server, already started; null where it uses the caller's. */
export function redisSourceOf(redis: GatewayOptions["redis"], embedded: { readonly url: string } | null): RedisSource {
  if (embedded) return { kind: "url", url: embedded.url };
  if (typeof redis === "string") return { kind: "url", url: redis };
  if (isClient(redis)) return { kind: "client", client: redis };
  if ("url" in redis) return { kind: "url", url: redis.url, options: redis.options };
  if ("cluster" in redis) return { kind: "cluster", nodes: redis.cluster, options: redis.options ?? {} };
  if ("embedded" in redis) throw new TypeError("The embedded Redis did not start");
  return { kind: "options", options: redis };
}

function isClient(redis: object): redis is Redis | Cluster {
  return "duplicate" in redis && typeof redis.duplicate === "function";
}
