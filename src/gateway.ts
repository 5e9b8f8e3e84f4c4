import { idMatcher, signedInProblem, subjectProblem } from "./conversation/conversations/access.ts";
import { StoredConversations, type Conversations } from "./conversation/conversations/conversations.ts";
import { anonymous, type MemorySettings } from "./conversation/session.ts";
import { silentTelemetry } from "./conversation/ports/telemetry.ts";
import { titleDelayMs, Titles } from "./conversation/conversations/titles.ts";
import { Turns } from "./conversation/conversations/turns.ts";
import { redisSourceOf, settle, type GatewayOptions, type Settings } from "./options.ts";
import type { AuthOptions } from "./config/auth.ts";
import type { MemoryOptions } from "./config/table.ts";
import { schema } from "./graphql/schema.ts";
import { GivenAgents } from "./langchain/agents/given-agents.ts";
import { createReplies } from "./langchain/replies.ts";
import { createMetrics, type Figures } from "./telemetry/metrics.ts";
import { adoptAll, type AdoptProgress, type AdoptResult } from "./redis/admin/adopt.ts";
import { exportArchive, type ExportProgress } from "./redis/admin/archive.ts";
import { RedisBackend } from "./redis/store/backend.ts";
import { keyPrefixOf } from "./redis/client/connection.ts";
import { Importer, type ImportResult } from "./redis/admin/restore.ts";
import { deleteOwner, giveSessions } from "./redis/admin/session-records.ts";
import { startEmbeddedRedis, type EmbeddedRedis } from "./embedded-redis/embedded.ts";
import { authenticator, ownAuthenticator } from "./transport/auth/authenticate.ts";
import type { Authenticated, AuthenticateRequest, AuthRequest } from "./transport/auth/authenticate.ts";
import { silentLogger, type Logger } from "./operations/logger.ts";
import { checkedList, readPersistedList, type ListChecks } from "./operations/persisted-list.ts";
import { persistedOperations, type PersistedOperations } from "./operations/documents.ts";
import { requestLogger } from "./transport/request-ids.ts";
import { hostTraces } from "./telemetry/tracing/host.ts";
import { createTransport, type Transport } from "./transport/transport.ts";
import type { Tracing } from "./telemetry/tracing/open.ts";

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
  /** Gives histories that foreign code made records, so that they are listed. `owner`: needed with authentication. */
  adopt(options?: {
    readonly owner?: string;
    readonly match?: string;
    readonly onProgress?: (progress: AdoptProgress) => void;
  }): Promise<AdoptResult>;
  /**
   * An archive (NDJSON) of all sessions, of an owner's, or of one, piece by piece: rows byte for byte, with the session
   * records. Throws NOT_FOUND where the one session is not there.
   */
  exportSessions(options?: {
    readonly owner?: string;
    readonly sessionId?: string;
    readonly onProgress?: (progress: ExportProgress) => void;
  }): AsyncIterable<string>;
  /**
   * Puts the sessions of an archive back, each whole or not at all, for their owners or for `owner`. A session that is
   * there already stays as it is, unless `replace`. Imported again, an archive changes nothing.
   * @throws {ArchiveError} where the archive is damaged; what stood before is imported
   */
  importSessions(
    archive: AsyncIterable<Uint8Array>,
    options?: {
      readonly owner?: string;
      readonly replace?: boolean;
      readonly onProgress?: (progress: ImportResult) => void;
    },
  ): Promise<ImportResult>;
  /**
   * Makes sessions of one owner another's, as they are: those whose ids `match` ("*" stands for any text), by default all.
   * What `anonymous` has is what was there without authentication. Gives how many there were.
   */
  give(options: {
    readonly from: string;
    readonly to: string;
    readonly match?: string;
    readonly onProgress?: (given: number, share: number | null) => void;
  }): Promise<number>;
  /** Deletes all sessions of an owner, cancels their runs, and gives how many there were. */
  deleteOwner(
    owner: string,
    options?: { readonly onProgress?: (deleted: number, share: number | null) => void },
  ): Promise<number>;
}

/**
 * Sets a gateway up. Resolves without waiting for Redis: until it is there requests get STORE_UNAVAILABLE.
 * @throws {GatewayOptionsError} with every option that is wrong
 * @throws {PersistedOperationsError} with every mistake in the list of persisted operations
 */
export async function createGateway(options: GatewayOptions): Promise<Gateway> {
  return await compose(settle(options));
}

/** @internal The other processes that serve the same port. */
export interface Peers {
  /** How what this process has measured is had. */
  offer(figures: () => Promise<Figures>): void;
  /** What all have measured, in Prometheus' text format: /metrics, whichever of them is asked. */
  text(): Promise<string>;
  /** The replies of this process have ended. Resolves when those of all have: whoever follows one may be connected here. */
  settled(): Promise<void>;
}

/** @internal One of several processes that serve one port. */
export async function createWorker(options: GatewayOptions, peers: Peers): Promise<Gateway> {
  return await compose(settle(options), titleDelayMs, peers);
}

/** @internal Tests make titles without waiting for anybody. */
export async function compose(
  settings: Settings,
  delayMs = titleDelayMs,
  peers: Peers | null = null,
): Promise<Gateway> {
  const { auth, authenticates, introspection, queryLimits, memory, model, autoTitle, replyWaitMs } = settings;
  const { runLeaseMs: leaseMs, idle = false } = settings;
  // First: nothing is started yet that would have to be stopped if the list is wrong.
  const persisted = await persistedOf(settings, { schema, limits: queryLimits, introspection });
  const metrics = settings.metrics ? createMetrics() : null;
  if (metrics !== null) peers?.offer(() => metrics.figures());
  const measuring = metrics?.telemetry ?? silentTelemetry;
  const tracing = await tracingOf(settings);
  const telemetry = tracing?.follow(measuring) ?? measuring;
  const logger = requestLogger(settings.logger ?? silentLogger, telemetry);
  const memorySettings = memorySettingsOf(memory);
  const authenticate = settings.authenticate
    ? ownAuthenticator(settings.authenticate, logger)
    : await authenticator(auth, logger);
  const embedded = await embeddedOf(settings);
  const source = redisSourceOf(settings.redis, embedded);
  const historyKeyPrefix = keyPrefixOf(source) + settings.historyKeyPrefix;
  const onError = (error: unknown) => logger.warn({ err: error }, "Something failed beside a request.");

  const agents = new GivenAgents(settings.agents ?? {}, {
    connectTimeoutMs: settings.mcpConnectTimeoutMs,
    onWarning: (agent, message, err) => logger.warn(err === undefined ? { agent } : { agent, err }, message),
  });
  const replies = createReplies({
    defaultModel: model,
    models: settings.models,
    openai: { ...settings.openai, temperature: settings.modelTemperature, maxRetries: settings.modelMaxRetries },
    timeoutMs: settings.modelTimeoutMs,
    memoryDefaults: memory,
    telemetry,
    offlineWordDelayMs: settings.offlineWordDelayMs,
    onFailure: (failure) => logger.warn({ ...failure }, "A call of a model has failed."),
    ...(settings.customModels ? { custom: settings.customModels } : {}),
    agents: agents.specs,
    onToolFailure: (failure) => logger.warn({ ...failure }, "A tool of an agent has failed."),
  });
  const tellRedisError = redisErrors(logger);
  let leaving = false;
  const backend: RedisBackend = new RedisBackend({
    ...settings,
    source,
    commandTimeoutMs: settings.redisCommandTimeoutMs,
    listEvents: settings.listKeyspaceEvents,
    historyKeyPrefix,
    adopts: !authenticates,
    leaseMs,
    approvalTimeoutMs: settings.approvalTimeoutSeconds * 1000,
    maxMessages: settings.maxMessagesPerSession,
    memory: memorySettings,
    memoryRows: memory.maxMessages,
    quotas: {
      sendsPerMinute: settings.maxSendsPerMinute,
      runs: settings.maxRunsPerSubject,
      tokensPerDay: settings.maxTokensPerDay,
    },
    maxSessions: settings.maxSessionsPerOwner,
    telemetry,
    // What was still to be asked when the connections are closed on purpose is refused, and that is no fault of Redis'.
    onError: (error) => {
      if (!leaving) tellRedisError(error);
    },
    onAdvice(advice) {
      for (const line of advice) logger.warn({}, line);
    },
    onRefusal(refusal, err) {
      if (refusal === null) logger.info({}, "Redis takes writes again.");
      else logger.warn({ err }, refusal);
    },
    onTurnFree: (historyKey) => void turns.attend(historyKey, false).catch(onError),
    onStarted: (turn) => turns.start(turn),
    attend: (historyKey) => turns.attend(historyKey, true),
  });
  const titles = new Titles(backend.store, replies, {
    model,
    replyWaitMs,
    delayMs,
    quotas: backend.quotas,
    telemetry,
    onError,
    now: Date.now,
  });
  const turns: Turns = new Turns(backend.store, backend.feeds, replies, {
    leaseMs,
    systemPrompt: settings.systemPrompt,
    approvalTimeoutMs: settings.approvalTimeoutSeconds * 1000,
    partsBytes: settings.runPartsBytes,
    quotas: backend.quotas,
    telemetry,
    onFirstReply(turn) {
      // Also here: another gateway may have started the session.
      if (autoTitle) titles.afterFirstReply(turn);
    },
    onError,
    now: Date.now,
  });
  const conversations = new StoredConversations(backend.store, backend.feeds, replies, turns, titles, {
    ...settings,
    historyKeyPrefix,
    memory: memorySettings,
    quotas: backend.quotas,
    partsBytes: settings.runPartsBytes,
    telemetry,
    now: Date.now,
  });
  const transport: Transport = createTransport({
    settings,
    conversations,
    schema,
    authenticate,
    logger,
    telemetry,
    metrics: metrics && {
      text: () => (peers ?? metrics).text(),
      contentType: metrics.contentType,
      token: settings.metricsToken,
    },
    persisted,
    localOnly: !authenticates && !(auth.kind === "none" && auth.allowAnonymous === true),
    async ready() {
      const problem = await backend.problem();
      return problem === null
        ? { ok: true, warnings: [...(await backend.warnings()), ...agents.warnings()] }
        : { ok: false, reason: problem };
    },
  });
  metrics?.watch({
    runsGoing: () => turns.size,
    runsWaiting: () => turns.waiting,
    feeds: () => backend.feeds.size.feeds,
    subscribers: () => backend.feeds.size.subscriptions,
    sockets: () => transport.sockets,
  });
  const warm = async () => {
    const problem = await replies.warm();
    if (problem) logger.warn({ code: problem.code }, `The default model cannot be used: ${problem.message}`);
  };
  let warming: NodeJS.Timeout | undefined;
  if (!idle) {
    backend.start();
    agents.start();
    warming = setTimeout(() => void warm(), warmAfterMs).unref();
  }

  const owning = (owner: string): string => {
    const problem = authenticates ? signedInProblem(owner) : subjectProblem(owner);
    if (problem !== null) throw new TypeError(`The owner ${problem}`);
    return owner;
  };

  let closing: Promise<void> | null = null;
  const close = async (graceMs: number): Promise<void> => {
    clearTimeout(warming);
    transport.drain();
    backend.stopPolling();
    await turns.close(graceMs);
    titles.close();
    await agents.close();
    await peers?.settled();
    // Subscribers are still being sent the ends of these replies.
    await backend.feeds.settle(settleMs);
    await transport.close();
    leaving = true;
    await backend.close();
    await embedded?.stop();
    await tracing?.close();
  };
  return {
    fetch: (request) => transport.fetch(request),
    listen: ({ port = settings.port, host = settings.host } = {}) => transport.listen(port, host),
    close: ({ graceMs = settings.shutdownGraceMs } = {}) => (closing ??= close(graceMs)),
    conversations,
    redisUrl: embedded?.url ?? null,
    modelName: model,
    async adopt({ owner, match = "*", onProgress = () => undefined } = {}) {
      if (authenticates && owner === undefined) throw new TypeError("With authentication adopt() needs an owner");
      const whose = owning(owner ?? anonymous.subject);
      return await adoptAll(backend, whose, match, onProgress);
    },
    exportSessions: ({ owner, sessionId, onProgress = () => undefined } = {}) =>
      exportArchive(backend, { owner: owner ?? null, sessionId: sessionId ?? null }, onProgress),
    async importSessions(archive, { owner, replace = false, onProgress = () => undefined } = {}) {
      const given = { owner: owner === undefined ? null : owning(owner), replace };
      return await new Importer(backend, given, onProgress).import(archive);
    },
    async give({ from, to, match = "*", onProgress = () => undefined }) {
      const which = { from, to: owning(to), match: idMatcher(match) };
      return await giveSessions(backend, which, onProgress);
    },
    deleteOwner: (owner, { onProgress = () => undefined } = {}) => deleteOwner(backend, owner, onProgress),
  };
}

/** Requests that wait for the gateway to start are answered before LangChain is imported. A turn that comes earlier imports it at once. */
const warmAfterMs = 200;

/** How long the delivery of the last events to subscribers may take. */
const settleMs = 1000;

/** What sessions without settings of their own remember: only what their strategy counts by. */
function memorySettingsOf({ strategy, maxTurns, maxTokens }: MemoryOptions): MemorySettings {
  const counts = strategy === "TOKEN_BUFFER" || strategy === "SUMMARY_BUFFER";
  return { strategy, maxTurns: strategy === "WINDOW" ? maxTurns : null, maxTokens: counts ? maxTokens : null };
}

async function embeddedOf({ redis }: Settings): Promise<EmbeddedRedis | null> {
  return typeof redis === "object" && "embedded" in redis ? await startEmbeddedRedis(redis.embedded) : null;
}

async function persistedOf(
  { persistedOperations: { mode, file, documents = {} }, idle = false }: Settings,
  checks: ListChecks,
): Promise<PersistedOperations> {
  if (idle) return persistedOperations("off", new Map());
  const listed = file === null ? [] : [...(await readPersistedList(file, checks))];
  return persistedOperations(mode, new Map([...listed, ...checkedList(documents, checks)]));
}

/** OpenTelemetry is loaded only where there is something to trace to. */
async function tracingOf({ tracing, idle = false, logger = silentLogger }: Settings): Promise<Tracing | null> {
  if (idle || tracing === null || (tracing === undefined && !hostTraces())) return null;
  const { openTracing } = await import("./telemetry/tracing/open.ts");
  return await openTracing(tracing ?? null, () =>
    logger.warn({}, "Traces cannot be delivered to the collector. They are dropped until it takes them."),
  );
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

export type {
  AdoptProgress,
  AdoptResult,
  AuthenticateRequest,
  Authenticated,
  AuthOptions,
  AuthRequest,
  Conversations,
  Logger,
};
export type { ExportProgress, GatewayOptions, ImportResult, MemoryOptions };
export type { ClusterSource, EmbeddedSource, UrlSource } from "./options.ts";
export { ArchiveError } from "./conversation/message/archive.ts";
export { GatewayOptionsError } from "./options.ts";
export { ParleyError } from "./conversation/errors.ts";
export { PersistedOperationsError } from "./operations/persisted-list.ts";
