import { resolve } from "node:path";

import { z } from "zod";

import { authConfig, authDefinitions } from "./config-auth.ts";
import type { AuthConfig } from "./config-auth.ts";
import {
  addresses,
  integer,
  isHttpUrl,
  isLoopback,
  isOrigin,
  isRedisUrl,
  list,
  modelForm,
  modelName,
  natMap,
  onOff,
  variable,
} from "./config-values.ts";
import type { Definition, RedisAddress } from "./config-values.ts";

/** Everything that can be configured, checked, and never changed. Nothing but main.ts reads the environment. */
export interface Config {
  readonly host: string;
  /** 0: any free one. */
  readonly port: number;
  readonly auth: AuthConfig;
  readonly redis: RedisConfig;
  readonly redisCommandTimeoutMs: number;
  /** Replicas that must hold a write before it is acknowledged. */
  readonly waitReplicas: number;
  readonly waitTimeoutMs: number;
  /** Switch keyspace notifications on in the server. */
  readonly enableKeyspaceEvents: boolean;
  readonly feedCheckMs: number;
  readonly historyKeyPrefix: string;
  /** null: sessions never expire. */
  readonly sessionTtlSeconds: number | null;
  /** What new sessions use: "provider:name", or "offline". */
  readonly model: string;
  /** What a caller may choose, `model` first. */
  readonly models: readonly string[];
  readonly openai: { readonly apiKey: string | null; readonly baseUrl: string | null };
  /** null: the model's own default. */
  readonly modelTemperature: number | null;
  readonly modelMaxRetries: number;
  readonly modelTimeoutMs: number;
  readonly systemPrompt: string | null;
  readonly memory: MemoryConfig;
  /** UTF-16 units of one message. */
  readonly maxMessageChars: number;
  /** Kept in one session; null: all. */
  readonly maxMessagesPerSession: number | null;
  /** Waiting in one session. */
  readonly maxQueuedRuns: number;
  readonly runLeaseMs: number;
  readonly replyWaitMs: number;
  readonly shutdownGraceMs: number;
  readonly maxBodyBytes: number;
  readonly production: boolean;
  readonly metrics: boolean;
  /** null: whoever reaches the port reads them. */
  readonly metricsToken: string | null;
  readonly graphiql: boolean;
  readonly introspection: boolean;
  /** null: no list. */
  readonly allowedOrigins: readonly string[] | null;
  readonly logLevel: LogLevel;
}

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

export interface MemoryConfig {
  readonly strategy: (typeof strategies)[number];
  readonly maxTurns: number;
  readonly maxTokens: number;
  /** Most rows that a turn reads. */
  readonly maxMessages: number;
}

const strategies = ["BUFFER", "WINDOW", "TOKEN_BUFFER", "SUMMARY_BUFFER"] as const;
const logLevels = ["fatal", "error", "warn", "info", "debug", "trace", "silent"] as const;
export type LogLevel = (typeof logLevels)[number];

export interface ConfigProblem {
  readonly variable: string;
  readonly message: string;
}

/** All mistakes at once. */
export class ConfigError extends Error {
  override readonly name = "ConfigError";
  readonly problems: readonly ConfigProblem[];

  constructor(problems: readonly ConfigProblem[]) {
    const lines = problems.map(({ variable, message }) => `  ${variable}: ${message}`);
    super(["The configuration has mistakes:", ...lines].join("\n"));
    this.problems = problems;
  }
}

export interface Variable {
  readonly name: string;
  /** As one would write it; null: none. */
  readonly default: string | null;
  readonly description: string;
}

const millisecondsOfADay = 86_400_000;

/** None of these messages repeats the value: URLs and keys hold secrets. */
const definitions = {
  PORT: variable(integer(0, 65_535), "4000", "Port of the endpoint; 0 picks a free one."),
  HOST: variable(z.string(), "127.0.0.1", "Address to listen on; 0.0.0.0 for all."),
  ...authDefinitions,
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
  FEED_CHECK_MS: variable(
    integer(100, 600_000),
    "5000",
    "How often a followed session is read for what no notification told.",
  ),
  HISTORY_KEY_PREFIX: variable(
    z.string(),
    "",
    "Put before a session id to make its key in Redis. LangChain JS has none; Python's community class has `message_store:`.",
  ),
  SESSION_TTL_SECONDS: variable(
    integer(1, 100 * 365 * 86_400),
    null,
    "A session goes so long after its last write, as with LangChain's sessionTTL. Without it sessions stay.",
  ),
  MODEL: variable(
    z.string().regex(modelName, modelForm),
    "openai:gpt-4o-mini where OPENAI_API_KEY or OPENAI_BASE_URL is set, else offline",
    "The model that replies, as provider:name.",
  ),
  MODELS: variable(
    list.refine((names) => names.every((name) => modelName.test(name)), `each ${modelForm}`),
    "MODEL alone",
    "What a caller may choose, separated by commas.",
  ),
  OPENAI_API_KEY: variable(z.string(), null, "For the models of openai:."),
  OPENAI_BASE_URL: variable(
    z.string().refine(isHttpUrl, "must be a URL with http: or https:"),
    null,
    "A server that speaks OpenAI's format: Ollama, vLLM, a proxy.",
  ),
  MODEL_TEMPERATURE: variable(
    z
      .string()
      .regex(/^\d+(\.\d+)?$/, "must be a number from 0 to 2")
      .transform(Number)
      .refine((value) => value <= 2, "must be a number from 0 to 2"),
    null,
    "From 0 to 2. Without it the model's own.",
  ),
  MODEL_MAX_RETRIES: variable(integer(0, 20), "2", "How often a failed call of the model is tried again."),
  MODEL_TIMEOUT_MS: variable(
    integer(1, millisecondsOfADay),
    "60000",
    "After that long a call of the model has failed.",
  ),
  SYSTEM_PROMPT: variable(
    z.string(),
    null,
    "Given to the model ahead of the history, where a session has none of its own.",
  ),
  MEMORY_STRATEGY: variable(
    z.enum(strategies, `must be one of ${strategies.join(", ")}`),
    "BUFFER",
    "What of the history the model sees: all, the last turns, the last tokens, or these and a summary.",
  ),
  MEMORY_MAX_TURNS: variable(integer(1, 10_000), "10", "WINDOW: how many turns."),
  MEMORY_MAX_TOKENS: variable(integer(1, 10_000_000), "2000", "TOKEN_BUFFER and SUMMARY_BUFFER: how many tokens."),
  MEMORY_MAX_MESSAGES: variable(
    integer(1, 100_000),
    "400",
    "The most messages that a turn reads, whatever the strategy.",
  ),
  MAX_MESSAGE_CHARS: variable(integer(1, 100_000_000), "100000", "Length of one message, in UTF-16 units."),
  MAX_MESSAGES_PER_SESSION: variable(
    integer(1, 100_000_000),
    null,
    "A session keeps so many messages: the oldest are dropped as new ones come. Without it all stay.",
  ),
  MAX_QUEUED_RUNS: variable(integer(0, 10_000), "20", "How many replies may wait in one session."),
  RUN_LEASE_MS: variable(
    integer(1000, 3_600_000),
    "15000",
    "A reply whose gateway is silent for so long is given up as RUN_LOST.",
  ),
  REPLY_WAIT_MS: variable(
    integer(0, millisecondsOfADay),
    "120000",
    "How long a mutation that selects `reply` waits for it.",
  ),
  SHUTDOWN_GRACE_MS: variable(integer(0, millisecondsOfADay), "10000", "How long replies may go on after SIGTERM."),
  MAX_BODY_BYTES: variable(integer(1000, 1_000_000_000), "1048576", "Of a request's body, and of a WebSocket message."),
  NODE_ENV: variable(
    z.string(),
    null,
    "`production`: log lines are JSON; GraphiQL and introspection are off unless switched on; page origins are checked strictly.",
  ),
  METRICS: variable(
    onOff,
    "on where HOST is loopback or METRICS_TOKEN is set, else off",
    "GET /metrics for Prometheus, on the same port.",
  ),
  METRICS_TOKEN: variable(
    z.string().regex(/^\S{16,}$/, "must have at least 16 characters, without spaces"),
    null,
    "What a reader of /metrics must send as `Authorization: Bearer …`.",
  ),
  GRAPHIQL: variable(onOff, "on, in production off", "The page to try operations on."),
  INTROSPECTION: variable(onOff, "on, in production off", "Whether clients may read the schema."),
  ALLOWED_ORIGINS: variable(
    list.refine(
      (origins) => origins.every(isOrigin),
      "each must be an origin such as https://chat.example, without a path",
    ),
    null,
    "Origins of pages elsewhere that may use the endpoint (CORS, WebSocket), separated by commas.",
  ),
  LOG_LEVEL: variable(
    z.enum(logLevels, `must be one of ${logLevels.join(", ")}`),
    "info",
    `One of ${logLevels.join(", ")}.`,
  ),
} as const;

type Definitions = typeof definitions;
type Name = keyof Definitions;
/** Keys of the record are known, as Object.keys cannot tell. */
const names = Object.keys(definitions) as Name[];

export const variables: readonly Variable[] = names.map((name) => {
  const { default: fallback, description } = definitions[name];
  return { name, default: fallback, description };
});

/**
 * An empty variable counts as left out.
 * @throws {ConfigError} with every mistake
 */
export function loadConfig(env: Readonly<Record<string, string | undefined>>): Config {
  const problems: ConfigProblem[] = [];
  const given = <Value>(name: Name, { schema }: Definition<Value>): Value | null => {
    const text = env[name]?.trim();
    if (text === undefined || text === "") return null;
    const { success, data, error } = schema.safeParse(text);
    if (success) return data;
    problems.push({ variable: name, message: error.issues[0]?.message ?? "is not valid" });
    return null;
  };
  /** For those whose default is written as one would write it. */
  const required = <Value>(name: Name, definition: Definition<Value>): Value =>
    given(name, definition) ?? definition.schema.parse(definition.default);
  const d = definitions;

  const production = env["NODE_ENV"]?.trim() === "production";
  const host = required("HOST", d.HOST);
  const historyKeyPrefix = required("HISTORY_KEY_PREFIX", d.HISTORY_KEY_PREFIX);
  const auth = authConfig(
    given,
    (variable, message) => {
      problems.push({ variable, message });
    },
    { host, historyKeyPrefix, production },
  );
  const metricsToken = given("METRICS_TOKEN", d.METRICS_TOKEN);
  const redis = redisConfig();
  const openai = {
    apiKey: given("OPENAI_API_KEY", d.OPENAI_API_KEY),
    baseUrl: given("OPENAI_BASE_URL", d.OPENAI_BASE_URL),
  };
  const hasOpenai = openai.apiKey !== null || openai.baseUrl !== null;
  const model = given("MODEL", d.MODEL) ?? (hasOpenai ? "openai:gpt-4o-mini" : "offline");
  const models = [...new Set([model, ...(given("MODELS", d.MODELS) ?? [])])];
  if (models.some((name) => name.startsWith("openai:")) && !hasOpenai && !isGiven(env, "OPENAI_BASE_URL")) {
    const variable = "OPENAI_API_KEY";
    problems.push({
      variable,
      message: "is needed by the model openai:… (or OPENAI_BASE_URL, for a server without keys)",
    });
  }

  const config: Config = {
    host,
    port: required("PORT", d.PORT),
    auth,
    redis,
    redisCommandTimeoutMs: required("REDIS_COMMAND_TIMEOUT_MS", d.REDIS_COMMAND_TIMEOUT_MS),
    waitReplicas: required("REDIS_WAIT_REPLICAS", d.REDIS_WAIT_REPLICAS),
    waitTimeoutMs: required("REDIS_WAIT_TIMEOUT_MS", d.REDIS_WAIT_TIMEOUT_MS),
    enableKeyspaceEvents: given("REDIS_KEYSPACE_EVENTS", d.REDIS_KEYSPACE_EVENTS) === "enable",
    feedCheckMs: required("FEED_CHECK_MS", d.FEED_CHECK_MS),
    historyKeyPrefix,
    sessionTtlSeconds: given("SESSION_TTL_SECONDS", d.SESSION_TTL_SECONDS),
    model,
    models,
    openai,
    modelTemperature: given("MODEL_TEMPERATURE", d.MODEL_TEMPERATURE),
    modelMaxRetries: required("MODEL_MAX_RETRIES", d.MODEL_MAX_RETRIES),
    modelTimeoutMs: required("MODEL_TIMEOUT_MS", d.MODEL_TIMEOUT_MS),
    systemPrompt: given("SYSTEM_PROMPT", d.SYSTEM_PROMPT),
    memory: {
      strategy: required("MEMORY_STRATEGY", d.MEMORY_STRATEGY),
      maxTurns: required("MEMORY_MAX_TURNS", d.MEMORY_MAX_TURNS),
      maxTokens: required("MEMORY_MAX_TOKENS", d.MEMORY_MAX_TOKENS),
      maxMessages: required("MEMORY_MAX_MESSAGES", d.MEMORY_MAX_MESSAGES),
    },
    maxMessageChars: required("MAX_MESSAGE_CHARS", d.MAX_MESSAGE_CHARS),
    maxMessagesPerSession: given("MAX_MESSAGES_PER_SESSION", d.MAX_MESSAGES_PER_SESSION),
    maxQueuedRuns: required("MAX_QUEUED_RUNS", d.MAX_QUEUED_RUNS),
    runLeaseMs: required("RUN_LEASE_MS", d.RUN_LEASE_MS),
    replyWaitMs: required("REPLY_WAIT_MS", d.REPLY_WAIT_MS),
    shutdownGraceMs: required("SHUTDOWN_GRACE_MS", d.SHUTDOWN_GRACE_MS),
    maxBodyBytes: required("MAX_BODY_BYTES", d.MAX_BODY_BYTES),
    production,
    metrics: given("METRICS", d.METRICS) ?? (isLoopback(host) || metricsToken !== null),
    metricsToken,
    graphiql: given("GRAPHIQL", d.GRAPHIQL) ?? !production,
    introspection: given("INTROSPECTION", d.INTROSPECTION) ?? !production,
    allowedOrigins: given("ALLOWED_ORIGINS", d.ALLOWED_ORIGINS),
    logLevel: required("LOG_LEVEL", d.LOG_LEVEL),
  };
  if (problems.length > 0) throw new ConfigError(problems);
  return config;

  function redisConfig(): RedisConfig {
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
    const ways = (["REDIS_URL", "REDIS_SENTINELS", "REDIS_CLUSTER_NODES"] as const).filter((name) =>
      isGiven(env, name),
    );
    for (const name of ways.slice(1)) {
      problems.push({
        variable: name,
        message: `cannot stand beside ${ways[0] ?? ""}: one Redis holds the conversations`,
      });
    }
    if ((files.certFile === null) !== (files.keyFile === null)) {
      const variable = files.certFile === null ? "REDIS_TLS_CERT_FILE" : "REDIS_TLS_KEY_FILE";
      problems.push({ variable, message: "is needed too: a client certificate has a file and a key" });
    }
    if (nodes) {
      if (access.db !== 0) problems.push({ variable: "REDIS_DB", message: "must be 0: a cluster has no other" });
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
}

function isGiven(env: Readonly<Record<string, string | undefined>>, name: Name): boolean {
  return (env[name]?.trim() ?? "") !== "";
}
