import type { Server } from "node:http";
import type { GraphQLSchema } from "graphql";
import type { Conversations } from "../conversation/conversations/conversations.ts";
import { silentTelemetry } from "../conversation/ports/telemetry.ts";
import type { Telemetry } from "../conversation/ports/telemetry.ts";
import type { Limits, QueryLimits } from "../config/limits.ts";
import { createAnswers } from "./http/answers.ts";
import { readBody, createNodeServer } from "./http/node-server.ts";
import { OpenExchanges } from "../operations/exchange.ts";
import type { Authenticate } from "../operations/identity.ts";
import { graphiqlPage } from "./http/pages/graphiql.ts";
import type { Readiness } from "./http/pages/health.ts";
import { createOperationAnswers } from "./http/http.ts";
import { Operations } from "../operations/operation.ts";
import { createGuard } from "./guard/guard.ts";
import type { Logger } from "../operations/logger.ts";
import { createMask } from "../operations/masking.ts";
import type { MetricsSource } from "./http/pages/metrics-endpoint.ts";
import { identifyBy } from "./http/origins.ts";
import { persistedOperations } from "../operations/documents.ts";
import type { PersistedOperations } from "../operations/documents.ts";
import { requestIdOf, requestLogger, withRequestId } from "./request-ids.ts";
import { securityHeaders } from "./http/security-headers.ts";
import { isStream } from "./http/streams.ts";
import { PlainAnswer } from "./http/plain-answer.ts";
import { createWebSocketEndpoint } from "./websocket/websocket.ts";

export interface TransportOptions {
  readonly conversations: Conversations;
  readonly schema: GraphQLSchema;
  /** null (default): everyone is `anonymous`. */
  readonly authenticate?: Authenticate | null;
  readonly logger: Logger;
  readonly ready: () => Promise<Readiness>;
  /** What GET /metrics answers with; null (default): there is no such page. */
  readonly metrics?: MetricsSource | null;
  readonly telemetry?: Telemetry;
  readonly production: boolean;
  readonly graphiql: boolean;
  /** Default: not in production. */
  readonly introspection?: boolean;
  /** Origins of pages that may use the endpoint from elsewhere, e.g. "https://chat.example". null: in development this machine's pages, else none. */
  readonly allowedOrigins?: readonly string[] | null;
  /** Default "/graphql". */
  readonly path?: string;
  /** What one operation may ask for. */
  readonly queryLimits: QueryLimits;
  /** Default: those that clients register. */
  readonly persisted?: PersistedOperations;
  /** For how long browsers are told to come by https alone. Default null: they are not told. */
  readonly hstsSeconds?: number | null;
  /** What clients may ask of this process. */
  readonly limits: Limits;
  /** Over this machine's own addresses answers only those who call it by them, or by a name of `allowedOrigins`. Default false. */
  readonly localOnly?: boolean;
  /** By which names clients may call the gateway, besides addresses, this machine's own and those of `allowedOrigins`. Default null: by any. */
  readonly allowedHosts?: readonly string[] | null;
  /** @internal false: each query is executed by graphql-js. Tests hold both ways against each other. */
  readonly compiled?: boolean;
}

export interface Transport {
  /** HTTP without a socket: queries, mutations, SSE, health. */
  fetch(request: Request): Promise<Response>;
  /** Rejects where the port cannot be had (EADDRINUSE, EACCES). Port 0 picks one. */
  listen(port: number, host: string): Promise<{ readonly url: string; readonly port: number }>;
  /** Open WebSockets. */
  readonly sockets: number;
  /** /readyz answers 503 and nobody new gets in; what runs goes on, and probes are answered. */
  drain(): void;
  /** Ends what runs: WebSockets with 1001, SSE without `complete` (so that clients reconnect), then the HTTP server. */
  close(): Promise<void>;
}

/** Sockets get so long to answer a close, requests to end. */
const closeGraceMs = 1000;

export function createTransport(options: TransportOptions): Transport {
  const { production, graphiql, ready, limits, metrics = null, telemetry = silentTelemetry } = options;
  const { maxBodyBytes, keepAliveMs } = limits;
  const logger = requestLogger(options.logger, telemetry);
  const {
    authenticate = null,
    introspection = !production,
    allowedOrigins = null,
    path = "/graphql",
    persisted = persistedOperations("auto", new Map()),
    localOnly = false,
    allowedHosts = null,
    compiled = true,
  } = options;
  const security = securityHeaders(options.hstsSeconds ?? null);
  const mask = createMask(logger);
  const guard = createGuard(limits, telemetry);
  const operations = new Operations({
    schema: options.schema,
    conversations: options.conversations,
    introspection,
    path,
    graphiql: graphiql ? graphiqlPage : null,
    mask,
    telemetry,
    queryLimits: options.queryLimits,
    maxAnswerBytes: limits.maxAnswerBytes,
    persisted,
    compiled,
  });
  const origins = { allowed: allowedOrigins, production };
  const identify = identifyBy(authenticate, origins);
  const exchanges = new OpenExchanges(identify);
  const webSockets = createWebSocketEndpoint({
    operations,
    identify,
    mask,
    logger,
    telemetry,
    guard,
    messagesPerSecond: limits.maxMessagesPerSecond,
    path,
    maxMessageBytes: maxBodyBytes,
    keepAliveMs,
    slowReaderMs: limits.slowReaderMs,
    initTimeoutMs: limits.initTimeoutMs,
  });
  let draining = false;
  const isDraining = () => draining;
  const answer = createAnswers({
    operations,
    answerOperation: createOperationAnswers({ operations, mask, telemetry, keepAliveMs }),
    guard,
    security,
    telemetry,
    ready,
    isDraining,
    metrics,
    graphiql,
    origins,
    path,
    maxBodyBytes,
  });
  let server: { readonly http: Server; readonly closed: Promise<unknown> } | null = null;

  return {
    get sockets() {
      return webSockets.size;
    },

    async fetch(request) {
      const requestId = requestIdOf(request.headers);
      const exchange = exchanges.open(request.headers);
      const { method, url, headers, body, signal } = request;
      signal.addEventListener("abort", exchange.end, { once: true });
      if (signal.aborted) exchange.end();
      let streams = false;
      try {
        const { pathname } = new URL(url);
        const read = () => readBody(body, headers.get("content-length"), maxBodyBytes);
        const address = guard.address(headers, null);
        const incoming = { method, url, pathname, headers, address, read };
        const given = await withRequestId(requestId, () => answer(incoming, exchange));
        const response = given instanceof PlainAnswer ? given.toResponse() : given;
        response.headers.set("x-request-id", requestId);
        if (method === "HEAD") return new Response(null, response);
        streams = isStream(response);
        return response;
      } finally {
        if (!streams) exchange.end();
      }
    },

    async listen(port, host) {
      const created = createNodeServer({
        answer,
        exchanges,
        webSockets,
        guard,
        security,
        telemetry,
        logger,
        isDraining,
        limits,
        origins,
        localOnly,
        allowedHosts,
        path,
      });
      await new Promise<void>((resolve, reject) => {
        created.once("error", reject);
        created.listen(port, host, () => {
          created.off("error", reject);
          resolve();
        });
      });
      server = { http: created, closed: new Promise((resolve) => created.once("close", resolve)) };
      const address = created.address();
      if (address === null || typeof address === "string") throw new Error("The HTTP server has no port.");
      return { url: `http://${shownHost(host)}:${address.port}`, port: address.port };
    },

    drain() {
      draining = true;
      // Whoever keeps connections for later (load balancers do) opens them elsewhere.
      server?.http.closeIdleConnections();
    },

    async close() {
      draining = true;
      server?.http.close();
      guard.close();
      exchanges.endAll();
      // Who waits for a reply has it, as far as it goes, a moment later; then nothing keeps a connection open.
      const timer = setTimeout(() => server?.http.closeAllConnections(), closeGraceMs);
      server?.http.closeIdleConnections();
      await Promise.all([webSockets.close(closeGraceMs), server?.closed]);
      clearTimeout(timer);
    },
  };
}

/** An address to click on: a wildcard is none. */
function shownHost(host: string): string {
  if (host === "0.0.0.0" || host === "::" || host === "") return "localhost";
  return host.includes(":") ? `[${host}]` : host;
}
