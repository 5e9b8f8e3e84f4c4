import { z } from "zod";

import { authDefinitions } from "./auth.ts";
import { limitDefinitions } from "./limits.ts";
import { queryDefinitions } from "./queries.ts";
import { redisDefinitions } from "./redis.ts";
import {
  historyKeyPrefix,
  integer,
  isHostName,
  isHttpUrl,
  isOrigin,
  list,
  modelForm,
  modelName,
  onOff,
  variable,
} from "./values.ts";

export const openaiApis = ["completions", "responses"] as const;
export const strategies = ["BUFFER", "WINDOW", "TOKEN_BUFFER", "SUMMARY_BUFFER"] as const;
export const logLevels = ["fatal", "error", "warn", "info", "debug", "trace", "silent"] as const;
import { tracingDefinitions } from "./tracing.ts";

const millisecondsOfADay = 86_400_000;

/** None of these messages repeats the value: URLs and keys hold secrets. */
export const definitions = {
  PORT: variable(integer(0, 65_535), "4000", "Port of the endpoint; 0 picks a free one."),
  HOST: variable(z.string(), "127.0.0.1", "Address to listen on; 0.0.0.0 for all."),
  ...authDefinitions,
  ...redisDefinitions,
  FEED_CHECK_MS: variable(
    integer(100, 600_000),
    "5000",
    "How often a followed session is read for what no notification told.",
  ),
  HISTORY_KEY_PREFIX: variable(
    historyKeyPrefix,
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
  OPENAI_API: variable(
    z.enum(openaiApis, `must be one of ${openaiApis.join(", ")}`),
    "completions where OPENAI_BASE_URL is set, else by the model",
    "Which of OpenAI's APIs is spoken: chat completions, or responses.",
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
  AUTO_TITLE: variable(
    onOff,
    "on, with MODEL=offline off",
    "A session that is started from now on, and has no title, gets one of the model's after its first reply. It costs the owner tokens; an owner whom it could bring beyond a limit gets none.",
  ),
  OFFLINE_WORD_DELAY_MS: variable(
    integer(0, 60_000),
    "15",
    "Between two words of the offline model: with 300 there is time to try a reload in mid-reply.",
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
  ...queryDefinitions,
  ...limitDefinitions,
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
  ...tracingDefinitions,
  GRAPHIQL: variable(
    onOff,
    "on, in production and with PERSISTED_OPERATIONS=only off",
    "The page to try operations on.",
  ),
  INTROSPECTION: variable(onOff, "on, in production off", "Whether clients may read the schema."),
  ALLOWED_ORIGINS: variable(
    list.refine(
      (origins) => origins.every(isOrigin),
      "each must be an origin such as https://chat.example, without a path",
    ),
    null,
    "Origins of pages elsewhere that may use the endpoint (CORS, WebSocket), separated by commas. Left out, in development: pages of this machine.",
  ),
  ALLOWED_HOSTS: variable(
    list.refine((names) => names.every(isHostName), "each must be a host name such as chat.example, without a port"),
    null,
    "Names that clients may call the gateway by, separated by commas, besides addresses, localhost and the hosts of ALLOWED_ORIGINS. Without it any name with AUTH or ALLOW_ANONYMOUS=1, else none.",
  ),
  LOG_LEVEL: variable(
    z.enum(logLevels, `must be one of ${logLevels.join(", ")}`),
    "info",
    `One of ${logLevels.join(", ")}.`,
  ),
} as const;
