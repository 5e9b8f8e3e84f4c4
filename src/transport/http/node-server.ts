import { AsyncResource } from "node:async_hooks";
import { createServer, STATUS_CODES } from "node:http";
import type { IncomingMessage, Server, ServerResponse, IncomingHttpHeaders } from "node:http";
import type { Socket } from "node:net";
import type { Duplex } from "node:stream";
import { GraphQLError } from "graphql";
import type { Answer } from "./answers.ts";
import { endpointPath } from "../../operations/yoga-engine.ts";
import type { TransportParts } from "../parts.ts";
import type { OpenExchanges } from "../../operations/exchange.ts";
import { writeResponse } from "./node-http.ts";
import { machineNames, mayUpgrade } from "./origins.ts";
import { refusal } from "../../operations/refusals.ts";
import { requestIdOf, withRequestId } from "../request-ids.ts";
import { refusalAnswer } from "./plain-answer.ts";
import type { PlainAnswer } from "./plain-answer.ts";
import type { WebSocketEndpoint } from "../websocket/websocket.ts";
import type { RequestHeaders } from "../../operations/identity.ts";

interface NodeServerOptions {
  readonly answer: Answer;
  readonly exchanges: OpenExchanges;
  readonly webSockets: WebSocketEndpoint;
  /** Over this machine's own addresses answers only those who call it by them, or by a name of the origins. */
  readonly localOnly: boolean;
  /** By which names clients may call the gateway, besides addresses, this machine's own names and those of the origins; null: by any. */
  readonly allowedHosts: readonly string[] | null;
}

/** A server of node:http that brings requests to `answer` and upgrades to `webSockets`. It does not listen yet. */
export function createNodeServer(parts: TransportParts, options: NodeServerOptions): Server {
  const { guard, security, telemetry, logger, isDraining, limits, origins } = parts;
  const { answer, exchanges, webSockets, localOnly, allowedHosts } = options;
  const { maxBodyBytes, slowReaderMs } = limits;
  const isOurs = machineNames(origins.allowed, allowedHosts ?? []);

  const server = createServer({
    // TCP keep-alive finds SSE clients that went without a word.
    keepAlive: true,
    keepAliveInitialDelay: 30_000,
    headersTimeout: Math.min(limits.headersTimeoutMs, limits.requestTimeoutMs),
    requestTimeout: limits.requestTimeoutMs,
    keepAliveTimeout: limits.keepAliveTimeoutMs,
    connectionsCheckingInterval: Math.min(2000, limits.headersTimeoutMs),
    maxHeaderSize: limits.maxHeaderBytes,
    // Any other (h2c, which some clients offer with each first request) may be left alone: it is answered as if it were not
    // there. Older than Node 24.9 they are refused.
    shouldUpgradeCallback: ({ method, headers }) => method === "GET" && headers.upgrade?.toLowerCase() === "websocket",
  });
  server.maxConnections = limits.maxConnections;
  // Else, of several workers, one that is full hands a connection on to the next, and where all are full for ever.
  Object.assign(server, { dropMaxConnection: true });
  server.on("drop", () => guard.limited("connections"));
  /** Connected when the gateway was stopping: for probes. What runs goes on over the connections that there were. */
  const late = new WeakSet<Socket>();
  server.on("connection", (socket) => {
    if (isDraining()) late.add(socket);
  });
  const turns = new Turns();
  server.on("request", (request, response) => turns.take(request, response, () => void onRequest(request, response)));
  server.on("upgrade", onUpgrade);
  return server;

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
    const exchange = exchanges.open(headers);
    response.once("close", exchange.end);
    const write = (given: Response | PlainAnswer) => {
      given.headers.set("x-request-id", requestId);
      if (isDraining()) given.headers.set("connection", "close");
      return writeResponse(given, response, slowReaderMs, (bytes) => guard.hold(bytes));
    };
    const { method = "GET" } = request;
    const target = admitted(request);
    try {
      if (target instanceof GraphQLError) {
        telemetry.refused(String(target.extensions["code"]));
        const refused = refusalAnswer(target);
        // What else comes over a connection that two may read differently is nobody's guess.
        refused.headers.set("connection", "close");
        await write(refused);
        return;
      }
      const address = guard.address(headers, request.socket.remoteAddress ?? null);
      const pathname = target === endpointPath ? endpointPath : (/^[^?#]*/.exec(target)?.[0] ?? "");
      // The host is no part of any answer. A request target like "//x" or "*" must not become one.
      const url = `http://localhost${target.startsWith("/") ? target : "/"}`;
      const read = () => readIncoming(request, maxBodyBytes);
      const given = await answer({ method, url, pathname, headers, address, read }, exchange);
      // Of a body that was refused the rest is let through unread, else the connection would hang on it.
      request.resume();
      await write(given);
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
    if (late.has(request.socket) && target.split("?", 1)[0] === endpointPath) return stopping;
    return isRebound(request) ? foreignHost : target;
  }

  /** Where everyone who reaches this machine is let in, no page from elsewhere may be among them. */
  function isRebound({ socket, headers }: IncomingMessage): boolean {
    const checks = allowedHosts !== null || (localOnly && isLoopback(socket.localAddress ?? ""));
    return checks && !isOurs(headers.host ?? null);
  }

  function onUpgrade(request: IncomingMessage, socket: Duplex, head: Buffer): void {
    const headers = new IncomingHeaders(request.headers);
    const refuse = (status: number, more: Readonly<Record<string, string>> = {}) => {
      const lines = Object.entries({ connection: "close", "content-length": "0", ...more }).map(
        ([name, value]) => `${name}: ${value}\r\n`,
      );
      socket.end(`HTTP/1.1 ${status} ${STATUS_CODES[status] ?? ""}\r\n${lines.join("")}\r\n`);
      cutOff(socket);
    };
    socket.on("error", () => socket.destroy());
    const target = targetOf(request);
    if (target === null) refuse(400);
    else if (target.split("?", 1)[0] !== endpointPath) refuse(404);
    else if (isDraining()) refuse(503);
    else if (isRebound(request) || !mayUpgrade(headers, origins)) {
      telemetry.refused("FORBIDDEN");
      refuse(403);
    } else {
      const address = guard.address(headers, request.socket.remoteAddress ?? null);
      const tooMuch = guard.request(address);
      if (tooMuch !== null) {
        const { status = 429, headers: more = {} } = tooMuch.extensions.http ?? {};
        refuse(status, more);
        return;
      }
      const leave = guard.socketFrom(address);
      if (leave === null) {
        refuse(429);
        return;
      }
      socket.once("close", leave);
      webSockets.upgrade(request, headers, socket, head);
      // That handshake was none.
      if (socket.writableEnded) cutOff(socket);
    }
  }
}

const foreignHost = refusal(
  403,
  "FORBIDDEN",
  "This gateway does not answer under this name. List it in ALLOWED_HOSTS, or its page in ALLOWED_ORIGINS.",
);

const stopping = refusal(503, "OVERLOADED", "This gateway is stopping. Try again: another one answers.", {
  "retry-after": "1",
});

const severalHosts = refusal(400, "BAD_REQUEST", "A request names one host.");

/** How long a refusal may take to be written: answers that nobody reads may wait before it. */
const refusalMs = 1000;

/**
 * Node lets go of a socket that asks for an upgrade, with all its time limits: whoever keeps its own side open would
 * hold it for good, and the server's end with it.
 */
function cutOff(socket: Duplex): void {
  const timer = setTimeout(() => socket.destroy(), refusalMs).unref();
  socket.once("finish", () => socket.destroy());
  socket.once("close", () => clearTimeout(timer));
}

function isLoopback(address: string): boolean {
  return address === "::1" || /^(::ffff:)?127\./.test(address);
}

/**
 * One request of a connection after another. Node begins all that a client sends at once (pipelining), and keeps their
 * answers for a reader that may never read (P10): here a request waits until the network has taken the answers before its
 * own, and while one waits nothing more of its connection is read.
 */
class Turns {
  readonly #waiting = new WeakMap<Socket, number>();

  /** Calls `answer` when it is this request's turn: mostly at once. Of a connection that is gone it never is. */
  take(request: IncomingMessage, response: ServerResponse, answer: () => void): void {
    // Node gives a response its socket when those before it are written.
    if (response.socket !== null) {
      answer();
      return;
    }
    const { socket } = request;
    this.#hold(socket);
    // Told of within the request before, whose trace and id are not this one's.
    const begin = AsyncResource.bind(answer);
    response.once("socket", () => {
      this.#release(socket);
      begin();
    });
  }

  #hold(socket: Socket): void {
    const waiting = this.#waiting.get(socket);
    this.#waiting.set(socket, (waiting ?? 0) + 1);
    socket.pause();
    // Node resumes it behind each request that has come whole.
    if (waiting === undefined) socket.on("resume", () => this.#waiting.get(socket) !== 0 && socket.pause());
  }

  #release(socket: Socket): void {
    const waiting = (this.#waiting.get(socket) ?? 1) - 1;
    this.#waiting.set(socket, waiting);
    if (waiting === 0) socket.resume();
  }
}

// What is read of a request: headers and target of Node's, the body of Node's or the platform's.

/** The headers of a request as Node has them: by lower-case name, nothing is made of them that nobody asks for. */
class IncomingHeaders implements RequestHeaders {
  readonly given: IncomingHttpHeaders;

  constructor(given: IncomingHttpHeaders) {
    this.given = given;
  }

  get(name: string): string | null {
    const value: unknown = this.given[name] ?? this.given[name.toLowerCase()];
    if (typeof value === "string") return value;
    // "constructor" and the like are names of headers, too, but of no header that was sent.
    return Array.isArray(value) ? value.join(", ") : null;
  }
}

/**
 * The path and query of a request's target (RFC 9112, section 3.2): as it was sent, or what stands behind the host where a
 * client sends the whole URL, as to a proxy. null: the request names several hosts.
 */
function targetOf({ url = "/", headers, rawHeaders }: IncomingMessage): string | null {
  if (hasSeveralHosts(rawHeaders)) return null;
  if (url.startsWith("/")) return url;
  const [, authority, rest = ""] = /^https?:\/\/([^/?#]*)(.*)$/is.exec(url) ?? [];
  if (authority === undefined) return url;
  if (authority.toLowerCase() !== headers.host?.toLowerCase()) return null;
  return rest.startsWith("/") ? rest : `/${rest}`;
}

/** Node takes the first, whoever stands in front perhaps the last. */
function hasSeveralHosts(rawHeaders: readonly string[]): boolean {
  let hosts = 0;
  for (let i = 0; i < rawHeaders.length; i += 2) if (rawHeaders[i]?.toLowerCase() === "host") hosts += 1;
  return hosts > 1;
}

/**
 * Reads a request's body, never more than the limit. (Yoga's own limit sends each body through a stream pipeline, which
 * costs more than half of a small request's CPU.)
 * @returns null where the body is longer than `maxBytes`
 */
export async function readBody(
  chunks: AsyncIterable<Uint8Array> | null,
  contentLength: string | null,
  maxBytes: number,
): Promise<string | null> {
  if (isTooLong(contentLength, maxBytes)) return null;
  const parts: Uint8Array[] = [];
  let bytes = 0;
  for await (const chunk of chunks ?? []) {
    bytes += chunk.byteLength;
    if (bytes > maxBytes) return null;
    parts.push(chunk);
  }
  return Buffer.concat(parts, bytes).toString("utf8");
}

/**
 * The same from a socket, by events: an async iterator costs as much as the rest of a small request. What is left of a
 * body that is too long stays unread.
 */
function readIncoming(request: IncomingMessage, maxBytes: number): Promise<string | null> {
  if (isTooLong(request.headers["content-length"] ?? null, maxBytes)) return Promise.resolve(null);
  return new Promise((resolve, reject) => {
    const parts: Buffer[] = [];
    let bytes = 0;
    const settle = (act: () => void) => {
      request.off("data", onData).off("end", onEnd).off("error", onGone).off("close", onGone);
      act();
    };
    const onData = (chunk: Buffer) => {
      bytes += chunk.byteLength;
      if (bytes <= maxBytes) parts.push(chunk);
      else settle(() => resolve(null));
    };
    const onEnd = () => {
      const [only] = parts;
      const body = parts.length === 1 && only !== undefined ? only : Buffer.concat(parts, bytes);
      settle(() => resolve(body.toString("utf8")));
    };
    const onGone = (error: unknown) => settle(() => reject(error instanceof Error ? error : new Error("aborted")));
    request.on("data", onData).on("end", onEnd).on("error", onGone).on("close", onGone);
  });
}

/** Refused before a byte is read. A header that lies, or none, is caught by the count. */
function isTooLong(contentLength: string | null, maxBytes: number): boolean {
  return contentLength !== null && Number(contentLength) > maxBytes;
}
