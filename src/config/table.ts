import { z } from "zod";

import {
  historyKeyPrefix,
  httpUrl,
  isHostName,
  isOrigin,
  list,
  model,
  models,
  oneOf,
  onOff,
  orNull,
  temperature,
  text,
  trueFor,
  whole,
  workers,
} from "./forms.ts";
import { limits, queryLimits } from "./limits.ts";
import { derived, setting, type Values } from "./setting.ts";

// Every setting once: its option of createGateway, its variable, its form, its default, and what it means. The variables
// that only the command has lie in auth.ts, redis.ts and tracing.ts, with what they mean together.

const dayMs = 86_400_000;
const centurySeconds = 100 * 365 * 86_400;

/** Of the command: `parley` listens, stops and writes a log. */
export const commandSettings = {
  port: setting("PORT", whole(0, 65_535), 4000, "Port of the endpoint; 0 picks a free one."),
  host: setting("HOST", text(), "127.0.0.1", "Address to listen on; 0.0.0.0 for all."),
  workers: setting(
    "WORKERS",
    workers,
    1,
    "Processes that share the port, so that all cores are used: how many, or `auto` for one a core. Limits that count in one process are divided by it (docs/operating.md).",
  ),
  shutdownGraceMs: setting("SHUTDOWN_GRACE_MS", whole(0, dayMs), 10_000, "How long replies may go on after SIGTERM."),
  agentsFile: setting(
    "AGENTS_FILE",
    orNull(text()),
    null,
    "Agents: a JSON file, or an ES module that exports LangChain's models and tools (docs/agents.md).",
  ),
  logLevel: setting(
    "LOG_LEVEL",
    oneOf("fatal", "error", "warn", "info", "debug", "trace", "silent"),
    "info",
    "One of fatal, error, warn, info, debug, trace, silent.",
  ),
};

/** By the names of createGateway's options. */
export const optionSettings = {
  waitReplicas: setting(
    "REDIS_WAIT_REPLICAS",
    whole(0, 100),
    0,
    "How many replicas must hold a write before it is acknowledged. To survive every failover: the number of all replicas.",
  ),
  waitTimeoutMs: setting(
    "REDIS_WAIT_TIMEOUT_MS",
    whole(1, 600_000),
    1000,
    "How long the replicas may take; then the caller gets STORE_UNAVAILABLE, and a retry the result.",
  ),
  redisCommandTimeoutMs: setting(
    "REDIS_COMMAND_TIMEOUT_MS",
    whole(100, 600_000),
    5000,
    "How long a command to Redis may take; then it has failed.",
  ),
  enableKeyspaceEvents: setting(
    "REDIS_KEYSPACE_EVENTS",
    trueFor("enable", z.literal("enable", "must be `enable`, or left out")),
    derived(null, () => false),
    "`enable` switches keyspace notifications on in the server, so that what other programs write is seen at once.",
  ),
  listKeyspaceEvents: setting(
    "LIST_KEYSPACE_EVENTS",
    onOff,
    true,
    "Where notifications are on: whether an open list of sessions (sessionChanged) hears at once of what other programs write to any of them. Redis then names each key of the database that anybody pushes to, deletes or renames; off, lists are compared within FEED_CHECK_MS.",
  ),
  feedCheckMs: setting(
    "FEED_CHECK_MS",
    whole(100, 600_000),
    5000,
    "How often a followed session is compared with what is known of it, to find changes that came without a notification; once a second where notifications are off.",
  ),
  historyKeyPrefix: setting(
    "HISTORY_KEY_PREFIX",
    historyKeyPrefix,
    "",
    "Put before a session id to make its key in Redis. LangChain JS has none; Python's community class has `message_store:`.",
  ),
  sessionTtlSeconds: setting(
    "SESSION_TTL_SECONDS",
    orNull(whole(1, centurySeconds)),
    null,
    "How long a session lives after its last write, as with LangChain's sessionTTL. Without it sessions never expire.",
  ),
  model: setting(
    "MODEL",
    model,
    derived("openai:gpt-4o-mini where OPENAI_API_KEY or OPENAI_BASE_URL is set, else offline", (known) => known.model),
    "The model that replies, as provider:name.",
  ),
  models: setting(
    "MODELS",
    models,
    derived("MODEL alone", () => []),
    "What a caller may choose, separated by commas.",
  ),
  openai: {
    apiKey: setting("OPENAI_API_KEY", orNull(text()), null, "The API key for models of `openai:`."),
    baseUrl: setting(
      "OPENAI_BASE_URL",
      orNull(httpUrl),
      null,
      "A server that speaks OpenAI's format: Ollama, vLLM, a proxy.",
    ),
    api: setting(
      "OPENAI_API",
      orNull(oneOf("completions", "responses")),
      derived("completions where OPENAI_BASE_URL is set, else by the model", () => null),
      "Which of OpenAI's APIs is spoken: chat completions, or responses.",
    ),
  },
  modelTemperature: setting("MODEL_TEMPERATURE", orNull(temperature), null, "From 0 to 2. Without it the model's own."),
  modelMaxRetries: setting(
    "MODEL_MAX_RETRIES",
    whole(0, 20),
    2,
    "How often a failed call of the model is tried again.",
  ),
  modelTimeoutMs: setting(
    "MODEL_TIMEOUT_MS",
    whole(1, dayMs),
    60_000,
    "How long a call of the model may take; then it has failed.",
  ),
  mcpConnectTimeoutMs: setting(
    "MCP_CONNECT_TIMEOUT_MS",
    whole(1, 600_000),
    10_000,
    "How long a reply of an agent waits for the MCP servers of its tools; then it fails with MODEL_UNAVAILABLE.",
  ),
  clientTools: setting(
    "CLIENT_TOOLS",
    onOff,
    false,
    "Whether a page may give tools of its own with a message, to agents that have `clientTools`.",
  ),
  autoTitle: setting(
    "AUTO_TITLE",
    onOff,
    derived("on, with MODEL=offline off", (known) => known.model !== "offline"),
    "Whether the model makes a title after a session's first reply, for sessions that start from now on and have no title. It costs the owner tokens; no title is made where it could exceed a limit of the owner.",
  ),
  offlineWordDelayMs: setting(
    "OFFLINE_WORD_DELAY_MS",
    whole(0, 60_000),
    15,
    "How long the offline model waits between two words: with 300 there is time to try a reload in mid-reply.",
  ),
  systemPrompt: setting(
    "SYSTEM_PROMPT",
    orNull(text()),
    null,
    "Given to the model ahead of the history, where a session has none of its own.",
  ),
  memory: {
    strategy: setting(
      "MEMORY_STRATEGY",
      oneOf("BUFFER", "WINDOW", "TOKEN_BUFFER", "SUMMARY_BUFFER"),
      "BUFFER",
      "What of the history the model sees: all, the last turns, the last tokens, or these and a summary.",
    ),
    maxTurns: setting("MEMORY_MAX_TURNS", whole(1, 10_000), 10, "WINDOW: how many turns."),
    maxTokens: setting(
      "MEMORY_MAX_TOKENS",
      whole(1, 10_000_000),
      2000,
      "TOKEN_BUFFER and SUMMARY_BUFFER: how many tokens.",
    ),
    maxMessages: setting(
      "MEMORY_MAX_MESSAGES",
      whole(1, 100_000),
      400,
      "The most messages that a turn reads, whatever the strategy.",
    ),
  },
  runLeaseMs: setting(
    "RUN_LEASE_MS",
    whole(1000, 3_600_000),
    15_000,
    "How long the gateway that makes a reply may be silent; then the reply fails with RUN_LOST.",
  ),
  replyWaitMs: setting(
    "REPLY_WAIT_MS",
    whole(0, dayMs),
    120_000,
    "How long a mutation that selects `reply` waits for it.",
  ),
  ...limits,
  queryLimits,
  persistedOperations: {
    mode: setting(
      "PERSISTED_OPERATIONS",
      oneOf("auto", "off", "only"),
      "auto",
      "`auto`: clients may register operations and send their hashes; `only`: nothing but PERSISTED_OPERATIONS_FILE is answered; `off`.",
    ),
    file: setting(
      "PERSISTED_OPERATIONS_FILE",
      orNull(text()),
      null,
      "JSON of documents by id (relay-compiler, graphql-codegen) or Apollo's persisted query manifest, checked at start.",
    ),
  },
  hstsSeconds: setting(
    "HSTS_SECONDS",
    orNull(whole(0, centurySeconds)),
    null,
    "Behind TLS: for how long browsers are to come by https alone (Strict-Transport-Security).",
  ),
  production: setting(
    "NODE_ENV",
    trueFor("production", z.string()),
    derived(null, (known) => known.production),
    "`production`: log lines are JSON; GraphiQL, the console, /ag-ui and introspection are off unless switched on; page origins are checked strictly.",
  ),
  metrics: setting(
    "METRICS",
    onOff,
    derived("on where HOST is loopback or METRICS_TOKEN is set, else off", (known) => !known.production),
    "GET /metrics for Prometheus, on the same port.",
  ),
  metricsToken: setting(
    "METRICS_TOKEN",
    orNull(text(z.string().regex(/^\S{16,}$/, "must have at least 16 characters, without spaces"))),
    null,
    "What a reader of /metrics must send as `Authorization: Bearer …`.",
  ),
  graphiql: setting(
    "GRAPHIQL",
    onOff,
    derived("on, in production and with PERSISTED_OPERATIONS=only off", (known) => !known.production),
    "The page to try operations on.",
  ),
  console: setting(
    "CONSOLE",
    onOff,
    derived("on, in production and with PERSISTED_OPERATIONS=only off", (known) => !known.production),
    "The page at /console: a chat, and what goes over the wire meanwhile. Whoever opens it signs in as any other client.",
  ),
  agUi: setting(
    "AG_UI",
    onOff,
    derived("on, in production and with PERSISTED_OPERATIONS=only off", (known) => !known.production),
    "POST /ag-ui: sessions as threads of AG-UI, for CopilotKit and other clients of that protocol.",
  ),
  introspection: setting(
    "INTROSPECTION",
    onOff,
    derived("on, in production off", (known) => !known.production),
    "Whether clients may read the schema.",
  ),
  allowedOrigins: setting(
    "ALLOWED_ORIGINS",
    orNull(list(isOrigin, "each must be an origin such as https://chat.example, without a path")),
    null,
    "Origins of pages elsewhere that may use the endpoint (CORS, WebSocket), separated by commas. Left out, in development: pages of this machine.",
  ),
  allowedHosts: setting(
    "ALLOWED_HOSTS",
    orNull(list(isHostName, "each must be a host name such as chat.example, without a port")),
    null,
    "Names that clients may call the gateway by, separated by commas, besides addresses, localhost and the hosts of ALLOWED_ORIGINS. Without it any name with AUTH or ALLOW_ANONYMOUS=1, else none.",
  ),
};

export type CommandSettings = Values<typeof commandSettings>;
export type OptionSettings = Values<typeof optionSettings>;
/** What sessions without settings of their own remember. */
export type MemoryOptions = OptionSettings["memory"];
export type LogLevel = CommandSettings["logLevel"];
