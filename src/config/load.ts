import { authConfig } from "./auth.ts";
import type { AuthConfig } from "./auth.ts";
import { limitConfig } from "./limits.ts";
import type { LimitConfig } from "./limits.ts";
import { queryConfig } from "./queries.ts";
import type { QueryConfig } from "./queries.ts";
import { redisConfig } from "./redis.ts";
import type { RedisConfig } from "./redis.ts";
import { isLoopback } from "./values.ts";
import type { Definition } from "./values.ts";
import { tracingConfig } from "./tracing.ts";
import type { TracingConfig } from "./tracing.ts";
import { definitions } from "./variables.ts";
import type { logLevels, openaiApis, strategies } from "./variables.ts";

/** Everything that can be configured, checked, and never changed. Nothing but main.ts reads the environment. */
export interface Config extends QueryConfig, LimitConfig {
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
  /** Open lists of sessions hear of other programs' writes. */
  readonly listKeyspaceEvents: boolean;
  readonly feedCheckMs: number;
  readonly historyKeyPrefix: string;
  /** null: sessions never expire. */
  readonly sessionTtlSeconds: number | null;
  /** What new sessions use: "provider:name", or "offline". */
  readonly model: string;
  /** What a caller may choose, `model` first. */
  readonly models: readonly string[];
  readonly openai: {
    readonly apiKey: string | null;
    readonly baseUrl: string | null;
    readonly api: (typeof openaiApis)[number] | null;
  };
  /** null: the model's own default. */
  readonly modelTemperature: number | null;
  readonly modelMaxRetries: number;
  readonly modelTimeoutMs: number;
  /** Sessions without a title get one after their first reply. */
  readonly autoTitle: boolean;
  readonly offlineWordDelayMs: number;
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
  /** null: there is no collector. */
  readonly tracing: TracingConfig | null;
  readonly graphiql: boolean;
  readonly introspection: boolean;
  /** null: no list. */
  readonly allowedOrigins: readonly string[] | null;
  /** null: no list. */
  readonly allowedHosts: readonly string[] | null;
  readonly logLevel: LogLevel;
}

export interface MemoryConfig {
  readonly strategy: (typeof strategies)[number];
  readonly maxTurns: number;
  readonly maxTokens: number;
  /** Most rows that a turn reads. */
  readonly maxMessages: number;
}

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

type Name = keyof typeof definitions;
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
  const problem = (variable: string, message: string): void => {
    problems.push({ variable, message });
  };
  const isGiven = (name: Name): boolean => (env[name]?.trim() ?? "") !== "";
  const given = <Value>(name: Name, { schema }: Definition<Value>): Value | null => {
    const text = env[name]?.trim();
    if (text === undefined || text === "") return null;
    const { success, data, error } = schema.safeParse(text);
    if (success) return data;
    problem(name, error.issues[0]?.message ?? "is not valid");
    return null;
  };
  /** For those whose default is written as one would write it. */
  const required = <Value>(name: Name, definition: Definition<Value>): Value =>
    given(name, definition) ?? definition.schema.parse(definition.default);
  const d = definitions;

  const production = env["NODE_ENV"]?.trim() === "production";
  const host = required("HOST", d.HOST);
  const historyKeyPrefix = required("HISTORY_KEY_PREFIX", d.HISTORY_KEY_PREFIX);
  const auth = authConfig(given, problem, { host, historyKeyPrefix, production });
  const metricsToken = given("METRICS_TOKEN", d.METRICS_TOKEN);
  const queries = queryConfig({ given, required, problem });
  const redis = redisConfig({ given, required, isGiven, problem });
  const openai = {
    apiKey: given("OPENAI_API_KEY", d.OPENAI_API_KEY),
    baseUrl: given("OPENAI_BASE_URL", d.OPENAI_BASE_URL),
    api: given("OPENAI_API", d.OPENAI_API),
  };
  const hasOpenai = openai.apiKey !== null || openai.baseUrl !== null;
  const model = given("MODEL", d.MODEL) ?? (hasOpenai ? "openai:gpt-4o-mini" : "offline");
  const models = [...new Set([model, ...(given("MODELS", d.MODELS) ?? [])])];
  if (models.some((name) => name.startsWith("openai:")) && !hasOpenai && !isGiven("OPENAI_BASE_URL")) {
    problem("OPENAI_API_KEY", "is needed by the model openai:… (or OPENAI_BASE_URL, for a server without keys)");
  }

  const graphiql = given("GRAPHIQL", d.GRAPHIQL);
  const listed = queries.persistedOperations.mode === "only";
  if (graphiql === true && listed) {
    problem("GRAPHIQL", "cannot be on with PERSISTED_OPERATIONS=only: what is typed into it is not on the list");
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
    listKeyspaceEvents: required("LIST_KEYSPACE_EVENTS", d.LIST_KEYSPACE_EVENTS),
    feedCheckMs: required("FEED_CHECK_MS", d.FEED_CHECK_MS),
    historyKeyPrefix,
    sessionTtlSeconds: given("SESSION_TTL_SECONDS", d.SESSION_TTL_SECONDS),
    model,
    models,
    openai,
    modelTemperature: given("MODEL_TEMPERATURE", d.MODEL_TEMPERATURE),
    modelMaxRetries: required("MODEL_MAX_RETRIES", d.MODEL_MAX_RETRIES),
    modelTimeoutMs: required("MODEL_TIMEOUT_MS", d.MODEL_TIMEOUT_MS),
    autoTitle: given("AUTO_TITLE", d.AUTO_TITLE) ?? model !== "offline",
    offlineWordDelayMs: required("OFFLINE_WORD_DELAY_MS", d.OFFLINE_WORD_DELAY_MS),
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
    tracing: tracingConfig(given),
    ...queries,
    ...limitConfig(given, isGiven),
    graphiql: graphiql ?? !(production || listed),
    introspection: given("INTROSPECTION", d.INTROSPECTION) ?? !production,
    allowedOrigins: given("ALLOWED_ORIGINS", d.ALLOWED_ORIGINS),
    allowedHosts: given("ALLOWED_HOSTS", d.ALLOWED_HOSTS),
    logLevel: required("LOG_LEVEL", d.LOG_LEVEL),
  };
  if (problems.length > 0) throw new ConfigError(problems);
  return config;
}
