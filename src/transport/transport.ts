import { createServer } from "node:http";
import type { IncomingMessage, Server, ServerResponse } from "node:http";
import type { Duplex } from "node:stream";

import { GraphQLError } from "graphql";
import type { GraphQLSchema } from "graphql";

import type { Conversations } from "../conversation/api.ts";
import { silentTelemetry } from "../conversation/telemetry.ts";
import type { Telemetry } from "../conversation/telemetry.ts";
import { defaultQueryLimits } from "../graphql/limits.ts";
import type { QueryLimits } from "../graphql/limits.ts";
import { anonymous } from "../conversation/session.ts";
import { readBody, readIncoming } from "./body.ts";
import { createExchange, exchangeOf } from "./exchange.ts";
import type { Authenticate, Exchange, RequestHeaders } from "./exchange.ts";
import { healthz, readyz } from "./health.ts";
import type { Readiness } from "./health.ts";
import { createOperations } from "./http.ts";
import type { PlatformHeaders } from "./http.ts";
import { IncomingHeaders } from "./incoming-headers.ts";
import { createGuard, tooManySockets } from "./limits/guard.ts";
import { defaultTransportLimits } from "./limits/settings.ts";
import type { TransportLimits } from "./limits/settings.ts";
import type { Logger } from "./logger.ts";
import { createMask } from "./masking.ts";
import { metricsPage } from "./metrics-endpoint.ts";
import type { MetricsSource } from "./metrics-endpoint.ts";
import { writeResponse } from "./node-http.ts";
import { acceptedBy } from "./negotiation.ts";
import { corsHeaders, isKnownPage, machineNames, mayUpgrade, preflight } from "./origins.ts";
import { persistedOperations } from "./persisted.ts";
import type { PersistedOperations } from "./persisted.ts";
import { payloadTooLarge, refusal, refusalResponse } from "./refusals.ts";
import { targetOf } from "./request-target.ts";
import { requestIdOf, requestLogger, withRequestId } from "./request-ids.ts";
import { securityHeaders } from "./security-headers.ts";
import { isStream } from "./streams.ts";
import { PlainAnswer } from "./thin.ts";
import { createWebSocketEndpoint } from "./websocket.ts";

export interface TransportOptions {
  readonly conversations: Conversations;
  readonly schema: GraphQLSchema;
  /** Default: everyone is `anonymous`. */
  readonly authenticate?: Authenticate;
  readonly logger: Logger;
  readonly ready: () => Promise<Readiness>;
  /** What GET /metrics answers with; null (default): there is no such page. */
  readonly metrics?: MetricsSource | null;
  readonly telemetry?: Telemetry;
  readonly production: boolean;
  readonly graphiql: boolean;
  /** Default: not in production. */
  readonly introspection?: boolean;
  /** Origins of pages that may use the endpoint from elsewhere, e.g. "https://chat.example". null: no CORS headers. */
  readonly allowedOrigins?: readonly string[] | null;
  /** Default "/graphql". */
  readonly path?: string;
  /** Of an HTTP body and of a WebSocket message. Default 1 MiB. */
  readonly maxBodyBytes?: number;
  /** Pings and SSE comments. Default 12 s; a WebSocket that leaves a ping unanswered until the next is cut off. */
  readonly keepAliveMs?: number;
  /** How long bytes may wait unread before their reader is cut off. Default 30 s. */
  readonly slowReaderMs?: number;
  /** How long a WebSocket may take to say connection_init. Default 3 s. */
  readonly initTimeoutMs?: number;
  /** What one operation may ask for; what is left out has its default. */
  readonly queryLimits?: Partial<QueryLimits>;
  /** Default: those that clients register. */
  readonly persisted?: PersistedOperations;
  /** For how long browsers are told to come by https alone. Default null: they are not told. */
  readonly hstsSeconds?: number | null;
  /** What clients may ask of this process; what is left out has its default. */
  readonly limits?: Partial<TransportLimits>;
  /** Over this machine's own addresses answers only those who call it by them, or by a name of `allowedOrigins`. Default false. */
  readonly localOnly?: boolean;
  /** @internal false: each request goes the whole way through Yoga. Tests hold both ways against each other. */
  readonly thin?: boolean;
}

export interface Transport {
  /** HTTP without a socket: queries, mutations, SSE, health. */
  fetch(request: Request): Promise<Response>;
  /** Rejects where the port cannot be had (EADDRINUSE, EACCES). Port 0 picks one. */
  listen(port: number, host: string): Promise<{ readonly url: string; readonly port: number }>;
  /** Open WebSockets. */
  readonly sockets: number;
  /** The operation of this signal waits for a reply that others make: it takes nobody's place until the returned function is called. */
  waiting(signal: AbortSignal): () => void;
  /** /readyz answers 503 and nobody new gets in; what runs goes on. */
  drain(): void;
  /** Ends what runs: WebSockets with 1001, SSE without `complete` (so that clients reconnect), then the HTTP server. */
  close(): Promise<void>;
}

/** What is known of a request before its body is read. */
interface Incoming {
  readonly method: string;
  /** Absolute. */
  readonly url: string;
  /** As it was sent: who closes paths at a proxy closes them for "/x/../metrics" too, which is no path of ours. */
  readonly pathname: string;
  readonly headers: RequestHeaders;
  /** The same, as whoever brought them has them. */
  readonly given: PlatformHeaders;
  /** By what its client is counted; null: by nothing. */
  readonly address: string | null;
  /** Whether the URL is the endpoint's and holds no more than that. */
  readonly bare: boolean;
  /** Reads the body; null: it is too long. */
  readonly read: () => Promise<string | null>;
}

/** Sockets get so long to answer a close, requests to end. */
const closeGraceMs = 1000;

export function createTransport(options: TransportOptions): Transport {
  const { production, graphiql, ready, metrics = null, telemetry = silentTelemetry } = options;
  const logger = requestLogger(options.logger, telemetry);
  const {
    authenticate = () => ({ viewer: anonymous, expiresAt: null }),
    introspection = !production,
    allowedOrigins = null,
    path = "/graphql",
    maxBodyBytes = 1024 * 1024,
    keepAliveMs = 12_000,
    slowReaderMs = 30_000,
    initTimeoutMs = 3000,
    persisted = persistedOperations("auto", new Map()),
    localOnly = false,
    thin = true,
  } = options;
  const queryLimits = { ...defaultQueryLimits, ...options.queryLimits };
  const security = securityHeaders(options.hstsSeconds ?? null);
  const mask = createMask(logger);
  const limits = { ...defaultTransportLimits, ...options.limits };
  const guard = createGuard(limits, telemetry);
  const operations = createOperations({
    ...options,
    path,
    introspection,
    keepAliveMs,
    mask,
    telemetry,
    queryLimits,
    persisted,
    thin,
  });
  const origins = { allowed: allowedOrigins, production };
  const isOurs = machineNames(allowedOrigins);
  const identify = (headers: RequestHeaders, connectionParams: Readonly<Record<string, unknown>> | null) =>
    authenticate({ headers, connectionParams, fromKnownPage: isKnownPage(headers, origins) });
  const webSockets = createWebSocketEndpoint({
    operations,
    identify,
    mask,
    logger,
    telemetry,
    guard,
    messagesPerSecond: limits.messagesPerSecond,
    path,
    maxMessageBytes: maxBodyBytes,
    keepAliveMs,
    slowReaderMs,
    initTimeoutMs,
  });
  const exchanges = new Set<Exchange>();
  let draining = false;
  let server: { readonly http: Server; readonly closed: Promise<unknown> } | null = null;

  async function respond(incoming: Incoming, exchange: Exchange): Promise<Response | PlainAnswer> {
    const answer = await route(incoming, exchange);
    const added = security.add(answer.headers, incoming.headers.get("host"));
    if (added !== null) await added;
    return answer;
  }

  async function route(incoming: Incoming, exchange: Exchange): Promise<Response | PlainAnswer> {
    const { method, headers, pathname } = incoming;
    if (pathname === "/healthz") return healthz();
    if (pathname === "/readyz") return await readyz(draining, ready);
    if (pathname === "/metrics" && metrics !== null) return await metricsPage(method, headers, metrics);
    if (pathname === "/" && graphiql) return new Response(null, { status: 302, headers: { location: path } });
    if (pathname !== path) return new Response("Not found\n", { status: 404 });
    const answer = preflight(method, headers, allowedOrigins) ?? (await operateFollowed(incoming, exchange));
    if (allowedOrigins === null) return answer;
    for (const [name, value] of Object.entries(corsHeaders(headers, allowedOrigins))) answer.headers.set(name, value);
    return answer;
  }

  /** Until there is an answer; a stream's is there when it is open. */
  async function operateFollowed(incoming: Incoming, exchange: Exchange): Promise<Response | PlainAnswer> {
    const { method, headers } = incoming;
    const span = telemetry.begin({ kind: "request", method, path, headers });
    let status = 500;
    try {
      const answer = await span.inside(() => operate(incoming, exchange));
      ({ status } = answer);
      return answer;
    } finally {
      span.tell({ status });
      span.end(status >= 500 ? String(status) : "OK");
    }
  }

  async function operate(incoming: Incoming, exchange: Exchange): Promise<Response | PlainAnswer> {
    const { method, headers } = incoming;
    const { types, streams } = acceptedBy(headers);
    const modern = "application/graphql-response+json";
    const refuse = (error: GraphQLError) =>
      refusalResponse(error, types.includes(modern) ? modern : "application/json");
    // Too much, and who may not in, is told so before anything is read. A GET without an operation may be GraphiQL's page.
    const tooMuch = guard.request(incoming.address);
    if (tooMuch !== null) return refuse(tooMuch);
    const asks = method === "POST" || incoming.url.includes("?");
    const refused = asks ? await operations.refuse(exchange) : null;
    if (refused !== null) {
      telemetry.refused(String(refused.extensions["code"]));
      return refuse(refused);
    }
    if (asks && streams && !(await takesPlace(incoming, exchange))) {
      return refuse(tooManySockets());
    }
    return await execute(incoming, exchange, refuse);
  }

  /** What may become a stream counts as one until its exchange ends. */
  async function takesPlace({ address }: Incoming, exchange: Exchange): Promise<boolean> {
    const { viewer } = await exchange.identity();
    for (const leave of [guard.socketFrom(address), guard.socketOf(viewer)]) {
      if (leave === null) return false;
      exchange.onEnd(leave);
    }
    return true;
  }

  async function execute(
    incoming: Incoming,
    exchange: Exchange,
    refuse: (error: GraphQLError) => Response,
  ): Promise<Response | PlainAnswer> {
    const { method, url, headers, given, bare } = incoming;
    let text: string | null = null;
    if (method === "POST") {
      // What is small on the wire may be endless when it is unpacked.
      if ((headers.get("content-encoding") ?? "identity") !== "identity") {
        telemetry.refused("UNSUPPORTED_MEDIA_TYPE");
        return refuse(refusal(415, "UNSUPPORTED_MEDIA_TYPE", "Request bodies are taken as they are, not compressed."));
      }
      text = await incoming.read();
      if (text === null) {
        telemetry.refused("PAYLOAD_TOO_LARGE");
        return refusalResponse(payloadTooLarge(maxBodyBytes));
      }
    }
    const place = guard.operation();
    if (place instanceof GraphQLError) return refuse(place);
    exchange.place = place;
    try {
      const answer = bare && text !== null ? await operations.answer(headers, text, exchange) : null;
      return answer ?? (await operations.respond(method, url, given, text, exchange));
    } finally {
      place.leave();
    }
  }

  function openExchange(headers: RequestHeaders): Exchange {
    const exchange = createExchange(() => identify(headers, null), headers.get("last-event-id"));
    exchanges.add(exchange);
    exchange.onEnd(() => exchanges.delete(exchange));
    return exchange;
  }

  function onRequest(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const headers = new IncomingHeaders(request.headers);
    const requestId = requestIdOf(headers);
    return withRequestId(requestId, () => answerRequest(request, headers, requestId, response));
  }

  async function answerRequest(
    request: IncomingMessage,
    headers: IncomingHeaders,
    requestId: string,
    response: ServerResponse,
  ): Promise<void> {
    const exchange = openExchange(headers);
    response.once("close", exchange.end);
    const write = (answer: Response | PlainAnswer) => {
      answer.headers.set("x-request-id", requestId);
      if (draining) answer.headers.set("connection", "close");
      return writeResponse(answer, response, slowReaderMs);
    };
    const { method = "GET" } = request;
    const target = admitted(request);
    try {
      if (target instanceof GraphQLError) {
        telemetry.refused(String(target.extensions["code"]));
        const answer = refusalResponse(target);
        // What else comes over a connection that two may read differently is nobody's guess.
        answer.headers.set("connection", "close");
        await write(answer);
        return;
      }
      const address = guard.address(headers, request.socket.remoteAddress ?? null);
      const bare = target === path;
      const pathname = bare ? path : (/^[^?#]*/.exec(target)?.[0] ?? "");
      // The host is no part of any answer. A request target like "//x" or "*" must not become one.
      const url = `http://localhost${target.startsWith("/") ? target : "/"}`;
      const read = () => readIncoming(request, maxBodyBytes);
      const { given } = headers;
      const answer = await respond({ method, url, pathname, headers, given, address, bare, read }, exchange);
      // Of a body that was refused the rest is let through unread, else the connection would hang on it.
      request.resume();
      await write(answer);
    } catch (error) {
      if (response.destroyed) return;
      logger.error({ err: error }, "A request failed unexpectedly.");
      if (response.headersSent) response.destroy();
      else response.writeHead(500, { ...security.plain, "x-request-id": requestId }).end();
    }
  }

  /** The path and query that it asks for, or why nothing of it is answered. */
  function admitted(request: IncomingMessage): string | GraphQLError {
    const target = targetOf(request);
    if (target === null) return severalHosts;
    return isRebound(request) ? foreignHost : target;
  }

  /** Where everyone who reaches this machine is let in, no page from elsewhere may be among them. */
  function isRebound({ socket, headers }: IncomingMessage): boolean {
    if (!localOnly || !isLoopback(socket.localAddress ?? "")) return false;
    return !isOurs(headers.host ?? null);
  }

  function onUpgrade(request: IncomingMessage, socket: Duplex, head: Buffer): void {
    const headers = new IncomingHeaders(request.headers);
    const refuse = (status: string) =>
      socket.end(`HTTP/1.1 ${status}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n`);
    socket.on("error", () => socket.destroy());
    const target = targetOf(request);
    if (target === null) refuse("400 Bad Request");
    else if (target.split("?", 1)[0] !== path) refuse("404 Not Found");
    else if (draining) refuse("503 Service Unavailable");
    else if (isRebound(request) || !mayUpgrade(headers, origins)) {
      telemetry.refused("FORBIDDEN");
      refuse("403 Forbidden");
    } else {
      const leave = guard.socketFrom(guard.address(headers, request.socket.remoteAddress ?? null));
      if (leave === null) {
        refuse("429 Too Many Requests");
        return;
      }
      socket.once("close", leave);
      webSockets.upgrade(request, headers, socket, head);
    }
  }

  return {
    get sockets() {
      return webSockets.size;
    },

    waiting: (signal) => exchangeOf(signal)?.place?.wait() ?? (() => undefined),

    async fetch(request) {
      const requestId = requestIdOf(request.headers);
      const exchange = openExchange(request.headers);
      const { method, url, headers, body, signal } = request;
      signal.addEventListener("abort", exchange.end, { once: true });
      if (signal.aborted) exchange.end();
      let streams = false;
      try {
        const { pathname, search } = new URL(url);
        const bare = pathname === path && search === "";
        const read = () => readBody(body, headers.get("content-length"), maxBodyBytes);
        const address = guard.address(headers, null);
        const incoming = { method, url, pathname, headers, given: headers, address, bare, read };
        const answer = await withRequestId(requestId, () => respond(incoming, exchange));
        const response = answer instanceof PlainAnswer ? answer.toResponse() : answer;
        response.headers.set("x-request-id", requestId);
        streams = isStream(response);
        return response;
      } finally {
        if (!streams) exchange.end();
      }
    },

    async listen(port, host) {
      const created = createServer({
        // TCP keep-alive finds SSE clients that went without a word.
        keepAlive: true,
        keepAliveInitialDelay: 30_000,
        headersTimeout: Math.min(limits.headersTimeoutMs, limits.requestTimeoutMs),
        requestTimeout: limits.requestTimeoutMs,
        keepAliveTimeout: limits.keepAliveTimeoutMs,
        connectionsCheckingInterval: Math.min(2000, limits.headersTimeoutMs),
        maxHeaderSize: limits.headerBytes,
        // Any other (h2c, which some clients offer with each first request) may be left alone: it is answered as if it were not
        // there. Older than Node 24.9 they are refused.
        shouldUpgradeCallback: ({ method, headers }) =>
          method === "GET" && headers.upgrade?.toLowerCase() === "websocket",
      });
      created.maxConnections = limits.connections;
      created.on("drop", () => guard.limited("connections"));
      created.on("request", (request, response) => void onRequest(request, response));
      created.on("upgrade", onUpgrade);
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
      server?.http.close();
    },

    async close() {
      if (!draining) server?.http.close();
      draining = true;
      guard.close();
      for (const exchange of exchanges) exchange.end();
      // Who waits for a reply has it, as far as it goes, a moment later; then nothing keeps a connection open.
      const timer = setTimeout(() => server?.http.closeAllConnections(), closeGraceMs);
      server?.http.closeIdleConnections();
      await Promise.all([webSockets.close(closeGraceMs), server?.closed]);
      clearTimeout(timer);
    },
  };
}

const foreignHost = refusal(
  403,
  "FORBIDDEN",
  "Without authentication this gateway answers only under this machine's own names. Set AUTH, list the name in ALLOWED_ORIGINS, or set ALLOW_ANONYMOUS=1.",
);

const severalHosts = refusal(400, "BAD_REQUEST", "A request names one host.");

function isLoopback(address: string): boolean {
  return address === "::1" || /^(::ffff:)?127\./.test(address);
}

/** An address to click on: a wildcard is none. */
function shownHost(host: string): string {
  if (host === "0.0.0.0" || host === "::" || host === "") return "localhost";
  return host.includes(":") ? `[${host}]` : host;
}
