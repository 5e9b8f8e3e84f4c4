import type { Server } from "node:http";
import type { GraphQLSchema } from "graphql";
import type { Conversations } from "../conversation/conversations/conversations.ts";
import type { Telemetry } from "../conversation/ports/telemetry.ts";
import type { Limits, QueryLimits } from "../config/limits.ts";
import { createAgUiAnswers } from "./http/ag-ui/endpoint.ts";
import { createAnswers } from "./http/answers.ts";
import { readBody, createNodeServer } from "./http/node-server.ts";
import { OpenExchanges } from "../operations/exchange.ts";
import type { Authenticate } from "../operations/identity.ts";
import { createConsolePage } from "./http/pages/console.ts";
import { graphiqlPage } from "./http/pages/graphiql.ts";
import type { Readiness } from "./http/pages/health.ts";
import { Operations } from "../operations/operation.ts";
import { createGuard } from "./guard/guard.ts";
import type { Logger } from "../operations/logger.ts";
import { createMask } from "../operations/masking.ts";
import type { MetricsSource } from "./http/pages/metrics-endpoint.ts";
import { identifyBy } from "./http/origins.ts";
import type { PersistedOperations } from "../operations/documents.ts";
import { requestIdOf, requestLogger, withRequestId } from "./request-ids.ts";
import { securityHeaders } from "./http/security-headers.ts";
import { isStream } from "./http/streams.ts";
import { PlainAnswer } from "./http/plain-answer.ts";
import type { TransportParts } from "./parts.ts";
import { createWebSocketEndpoint } from "./websocket/websocket.ts";

/** As they are configured. */
export interface TransportSettings extends Limits {
  readonly production: boolean;
  readonly graphiql: boolean;
  readonly console: boolean;
  readonly agUi: boolean;
  readonly introspection: boolean;
  readonly queryLimits: QueryLimits;
  /** Origins of pages that may use the endpoint from elsewhere, e.g. "https://chat.example". null: in development this machine's pages, else none. */
  readonly allowedOrigins: readonly string[] | null;
  readonly allowedHosts: readonly string[] | null;
  readonly hstsSeconds: number | null;
}

export interface TransportOptions {
  readonly settings: TransportSettings;
  readonly conversations: Conversations;
  readonly schema: GraphQLSchema;
  /** null: everyone is `anonymous`. */
  readonly authenticate: Authenticate | null;
  readonly logger: Logger;
  readonly ready: () => Promise<Readiness>;
  /** What GET /metrics answers with; null: there is no such page. */
  readonly metrics: MetricsSource | null;
  readonly telemetry: Telemetry;
  readonly persisted: PersistedOperations;
  /** Only who calls it by an address or a name of this machine is answered over this machine's own addresses. */
  readonly localOnly: boolean;
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
  const { settings, telemetry, ready, metrics, localOnly } = options;
  const { production, graphiql, introspection, queryLimits, maxAnswerBytes, maxBodyBytes } = settings;
  const logger = requestLogger(options.logger, telemetry);
  const mask = createMask(logger);
  const guard = createGuard(settings, telemetry);
  const operations = new Operations({
    ...{ schema: options.schema, conversations: options.conversations, persisted: options.persisted },
    ...{ introspection, queryLimits, maxAnswerBytes, mask, telemetry },
    graphiql: graphiql ? () => graphiqlPage.html() : null,
    compiled: options.compiled ?? true,
  });
  const origins = { allowed: settings.allowedOrigins, production };
  const identify = identifyBy(options.authenticate, origins);
  let draining = false;
  const parts: TransportParts = {
    ...{ operations, identify, mask, logger, telemetry, guard, origins, limits: settings },
    security: securityHeaders(settings.hstsSeconds),
    isDraining: () => draining,
  };
  const exchanges = new OpenExchanges(identify);
  const webSockets = createWebSocketEndpoint(parts);
  const answer = createAnswers(parts, {
    ...{ ready, metrics, graphiql },
    console: settings.console ? createConsolePage(graphiql) : null,
    agUi: settings.agUi ? createAgUiAnswers(parts, options.conversations) : null,
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
      const { allowedHosts } = settings;
      const created = createNodeServer(parts, { answer, exchanges, webSockets, localOnly, allowedHosts });
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
      // Callers that wait for a reply get it, as far as it goes, a moment later; then nothing keeps a connection open.
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
