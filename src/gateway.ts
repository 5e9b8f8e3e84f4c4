import type { BaseChatModel } from "@langchain/core/language_models/chat_models";
import type { Cluster, Redis } from "ioredis";
import type { Conversations } from "./conversation/api.ts";
import { ConversationService } from "./conversation/conversations.ts";
import { anonymous, type MemoryStrategy, type MemorySettings } from "./conversation/session.ts";
import { Turns } from "./conversation/turns.ts";
import { schema } from "./graphql/schema.ts";
import { createReplies } from "./langchain/replies.ts";
import { adoptAll, type AdoptProgress } from "./redis/adopt.ts";
import { RedisBackend } from "./redis/backend.ts";
import type { ClusterOptions, RedisOptions, RedisSource } from "./redis/connection.ts";
import { startEmbeddedRedis, type EmbeddedRedis } from "./redis/server/embedded.ts";
import { silentLogger, type Logger } from "./transport/logger.ts";
import { createTransport } from "./transport/transport.ts";

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
export interface GatewayOptions {
  /**
   * A redis:// or rediss:// URL, ioredis' options (Sentinel's too), an ioredis client (Redis or Cluster: it is duplicated,
   * and stays the caller's), a cluster's nodes, or a redis-server of Parley's own.
   */
  readonly redis:
    string | UrlSource | RedisOptions | Redis | Cluster | ClusterSource | { readonly embedded: EmbeddedSource };
  /** In front of each sessionId; "" as in LangChain JS, "message_store:" as in Python's community class. */
  readonly historyKeyPrefix?: string;
  /** Sessions go so many seconds after their last write; null (default): never. */
  readonly sessionTtlSeconds?: number | null;
  /** "openai:gpt-4o-mini", "anthropic:…", "offline" (default), or the name of one of `customModels`. */
  readonly model?: string;
  /** What a caller may choose besides `model` and `customModels`. */
  readonly models?: readonly string[];
  /** LangChain chat models of the program's own, or functions that make them, by name. */
  readonly customModels?: Readonly<Record<string, BaseChatModel | (() => BaseChatModel | Promise<BaseChatModel>)>>;
  readonly openai?: { readonly apiKey?: string | null; readonly baseUrl?: string | null };
  readonly modelTemperature?: number | null;
  readonly modelMaxRetries?: number;
  readonly modelTimeoutMs?: number;
  readonly systemPrompt?: string | null;
  readonly memory?: Partial<MemoryOptions>;
  readonly maxMessageChars?: number;
  readonly maxQueuedRuns?: number;
  readonly runLeaseMs?: number;
  readonly replyWaitMs?: number;
  readonly feedCheckMs?: number;
  readonly redisCommandTimeoutMs?: number;
  readonly enableKeyspaceEvents?: boolean;
  /** Replicas that must hold a write before it is acknowledged (0). On time-out the caller gets STORE_UNAVAILABLE, and a retry the result. */
  readonly waitReplicas?: number;
  /** How long they may take (1000). */
  readonly waitTimeoutMs?: number;
  readonly maxBodyBytes?: number;
  readonly slowReaderMs?: number;
  readonly keepAliveMs?: number;
  readonly production?: boolean;
  readonly graphiql?: boolean;
  readonly introspection?: boolean;
  readonly allowedOrigins?: readonly string[] | null;
  readonly logger?: Logger;
}

export interface MemoryOptions {
  readonly strategy: MemoryStrategy;
  readonly maxTurns: number;
  readonly maxTokens: number;
  /** The most messages that a turn reads, whatever the strategy. */
  readonly maxMessages: number;
}

export interface Gateway {
  /** For a server of the program's own: HTTP and SSE. WebSockets need listen(). */
  fetch(request: Request): Promise<Response>;
  /** Rejects where the port cannot be had. Port 0 picks one. */
  listen(address?: {
    readonly port?: number;
    readonly host?: string;
  }): Promise<{ readonly url: string; readonly port: number }>;
  /** Nobody new gets in, running replies get `graceMs` to end, sockets are closed with 1001, Redis is left. */
  close(options?: { readonly graceMs?: number }): Promise<void>;
  /** The use cases without GraphQL, for the program itself. */
  readonly conversations: Conversations;
  /** The URL of the redis-server that Parley runs itself; null where it uses the caller's. */
  readonly redisUrl: string | null;
  readonly modelName: string;
  /** Gives histories that foreign code made records, so that they are listed. */
  adopt(options?: {
    readonly owner?: string;
    readonly match?: string;
    readonly onProgress?: (progress: AdoptProgress) => void;
  }): Promise<AdoptProgress>;
}

/** Sets a gateway up. Resolves without waiting for Redis: until it is there requests get STORE_UNAVAILABLE. */
export async function createGateway(options: GatewayOptions): Promise<Gateway> {
  const logger = options.logger ?? silentLogger;
  const memory: MemoryOptions = {
    strategy: "BUFFER",
    maxTurns: 10,
    maxTokens: 2000,
    maxMessages: 400,
    ...options.memory,
  };
  const memorySettings = settingsOf(memory);
  const model = options.model ?? "offline";
  const leaseMs = options.runLeaseMs ?? 15_000;
  const embedded = await embeddedOf(options);
  const onError = (error: unknown) => logger.warn({ err: error }, "Something failed beside a request.");

  const replies = createReplies({
    defaultModel: model,
    models: options.models ?? [],
    openai: {
      apiKey: options.openai?.apiKey ?? null,
      baseUrl: options.openai?.baseUrl ?? null,
      temperature: options.modelTemperature ?? null,
      maxRetries: options.modelMaxRetries ?? 2,
    },
    timeoutMs: options.modelTimeoutMs ?? 60_000,
    memoryDefaults: memory,
    ...(options.customModels ? { custom: options.customModels } : {}),
  });
  const backend: RedisBackend = new RedisBackend({
    source: sourceOf(options, embedded),
    commandTimeoutMs: options.redisCommandTimeoutMs ?? 5000,
    enableKeyspaceEvents: options.enableKeyspaceEvents ?? false,
    feedCheckMs: options.feedCheckMs ?? 5000,
    historyKeyPrefix: options.historyKeyPrefix ?? "",
    sessionTtlSeconds: options.sessionTtlSeconds ?? null,
    leaseMs,
    waitReplicas: options.waitReplicas ?? 0,
    waitTimeoutMs: options.waitTimeoutMs ?? 1000,
    maxQueuedRuns: options.maxQueuedRuns ?? 20,
    model,
    memory: memorySettings,
    memoryRows: memory.maxMessages,
    onError: redisErrors(logger),
    onAdvice(advice) {
      for (const line of advice) logger.warn({}, line);
    },
    onTurnFree: (historyKey) => void turns.attend(historyKey, false).catch(onError),
    attend: (historyKey) => turns.attend(historyKey, true),
  });
  const turns: Turns = new Turns(backend.store, backend.feeds, replies, {
    leaseMs,
    systemPrompt: options.systemPrompt ?? null,
    onError,
    now: Date.now,
  });
  const conversations = new ConversationService(backend.store, backend.feeds, replies, turns, {
    historyKeyPrefix: options.historyKeyPrefix ?? "",
    model,
    memory: memorySettings,
    maxMessageChars: options.maxMessageChars ?? 100_000,
    maxTitleChars: 500,
    maxMetadataBytes: 16_384,
    maxMessagesPerAdd: 1000,
    replyWaitMs: options.replyWaitMs ?? 120_000,
    now: Date.now,
  });
  const transport = createTransport({
    conversations,
    schema,
    logger,
    production: options.production ?? false,
    graphiql: options.graphiql ?? !(options.production ?? false),
    ...(options.introspection === undefined ? {} : { introspection: options.introspection }),
    allowedOrigins: options.allowedOrigins ?? null,
    ...(options.maxBodyBytes === undefined ? {} : { maxBodyBytes: options.maxBodyBytes }),
    ...(options.slowReaderMs === undefined ? {} : { slowReaderMs: options.slowReaderMs }),
    ...(options.keepAliveMs === undefined ? {} : { keepAliveMs: options.keepAliveMs }),
    async ready() {
      const problem = await backend.problem();
      return problem === null ? { ok: true, warnings: backend.advice } : { ok: false, reason: problem };
    },
  });
  backend.start();
  void replies.warm().then((problem) => {
    if (problem) logger.warn({ code: problem.code }, `The default model cannot be used: ${problem.message}`);
  });

  let closing: Promise<void> | null = null;
  const close = async (graceMs: number): Promise<void> => {
    transport.drain();
    backend.stopPolling();
    await turns.close(graceMs);
    await transport.close();
    await backend.close();
    await embedded?.stop();
  };
  return {
    fetch: (request) => transport.fetch(request),
    listen: ({ port = 4000, host = "127.0.0.1" } = {}) => transport.listen(port, host),
    close: ({ graceMs = 10_000 } = {}) => (closing ??= close(graceMs)),
    conversations,
    redisUrl: embedded?.url ?? null,
    modelName: model,
    adopt: ({ owner = anonymous.subject, match = "*", onProgress = () => undefined } = {}) =>
      adoptAll(backend.primaries(), backend.store, owner, match, onProgress),
  };
}

function settingsOf(memory: MemoryOptions): MemorySettings {
  const counted = memory.strategy === "TOKEN_BUFFER" || memory.strategy === "SUMMARY_BUFFER";
  return {
    strategy: memory.strategy,
    maxTurns: memory.strategy === "WINDOW" ? memory.maxTurns : null,
    maxTokens: counted ? memory.maxTokens : null,
  };
}

async function embeddedOf({ redis }: GatewayOptions): Promise<EmbeddedRedis | null> {
  return typeof redis === "object" && "embedded" in redis ? await startEmbeddedRedis(redis.embedded) : null;
}

function sourceOf({ redis }: GatewayOptions, embedded: EmbeddedRedis | null): RedisSource {
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

/** A Redis that is away says so with every attempt to reach it: told once a while. */
function redisErrors(logger: Logger): (error: unknown) => void {
  let toldAt = 0;
  return (error) => {
    const now = Date.now();
    if (now - toldAt < 5000) return;
    toldAt = now;
    const code = error instanceof Error && "code" in error ? String(error.code) : undefined;
    logger.warn({ err: error, code }, "Redis cannot be asked right now; it is tried again until it is back.");
  };
}

export type { AdoptProgress, Conversations, Logger };
export { ParleyError } from "./conversation/errors.ts";
