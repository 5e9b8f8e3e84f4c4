import type { IncomingMessage } from "node:http";
import type { Duplex } from "node:stream";
import { GraphQLError } from "graphql";
import type { ExecutionArgs } from "graphql";
import { CloseCode, GRAPHQL_TRANSPORT_WS_PROTOCOL, makeServer } from "graphql-ws";
import { WebSocketServer } from "ws";
import { CredentialsExpired } from "../../conversation/conversations/access.ts";
import { ParleyError } from "../../conversation/errors.ts";
import type { Span } from "../../conversation/ports/telemetry.ts";
import { EndingOperations } from "./ending-operations.ts";
import { Exchange } from "../../operations/exchange.ts";
import type { Identity, RequestHeaders } from "../../operations/identity.ts";
import { watchExpiry } from "../../operations/expiry.ts";
import type { Expiry } from "../../operations/expiry.ts";
import type { OperationResult } from "../../operations/results.ts";
import { KeepAlive } from "./keep-alive.ts";
import { requestIdOf, withRequestId } from "../request-ids.ts";
import { nextMessage } from "../../operations/live/outcome.ts";
import type { Outcome } from "../../operations/live/outcome.ts";
import { formatError, formatResult } from "../../operations/results.ts";
import type { Sink, Writer } from "../../operations/live/results.ts";
import { endpointPath } from "../../operations/yoga-engine.ts";
import type { TransportParts } from "../parts.ts";
import { ClientSocket, Wire } from "./socket.ts";

export interface WebSocketEndpoint {
  /** How many sockets are open. */
  readonly size: number;
  upgrade(request: IncomingMessage, headers: RequestHeaders, socket: Duplex, head: Buffer): void;
  /** Closes all sockets with 1001 and waits for them, at most `graceMs`; what is left is cut off. */
  close(graceMs: number): Promise<void>;
}

/** What graphql-ws carries along for each connection. */
class Connection {
  readonly wire: Wire;
  readonly operations = new Map<string, RunningOperation>();
  /** What its operations are linked to; each is a piece of work of its own, however long the socket is open. */
  readonly handshake: Span;
  /** Of the upgrade, until it is known whose it is. */
  headers: RequestHeaders | null;
  identity: Identity | null = null;
  /** Of the identity, once there is one. */
  expiry: Expiry | null = null;
  /** Gives the subject's place among its sockets back. */
  leave: (() => void) | null = null;
  closed = false;
  /** Made when the first operation is completed by the client: subscriptions mostly stay until the socket goes. */
  #ending: EndingOperations | null = null;

  constructor(wire: Wire, headers: RequestHeaders, handshake: Span) {
    this.wire = wire;
    this.headers = headers;
    this.handshake = handshake;
  }

  /** A timer may be late: asked right before something is delivered. */
  get isOver(): boolean {
    return this.expiry?.passed() === true;
  }

  /** Nothing goes out behind it: the socket takes nothing more once it is closing. */
  expire(): void {
    this.wire.close(CloseCode.Forbidden, "Forbidden");
    this.endOperations();
  }

  endOperations(): void {
    for (const operation of this.operations.values()) end(operation);
  }

  /** `handle` hands the message to graphql-ws; settles when all that follows from it is done. */
  take(message: object, handle: () => Promise<void>): Promise<void> {
    if (!("type" in message) || !("id" in message) || typeof message.id !== "string") return handle();
    if (message.type === "subscribe") return this.#begin(message.id, handle);
    return message.type === "complete" ? this.#complete(message.id, handle) : handle();
  }

  #begin(id: string, handle: () => Promise<void>): Promise<void> {
    const begin = () => {
      if (this.closed) return settled;
      const done = handle();
      const operation = this.operations.get(id);
      if (operation !== undefined) operation.done = done;
      return done;
    };
    if (this.#ending === null) return begin();
    const ended = Promise.withResolvers<undefined>();
    switch (this.#ending.follow(id, () => ended.resolve(undefined))) {
      case "free":
        return begin();
      case "waits":
        return ended.promise.then(begin);
      case "taken":
        this.wire.close(CloseCode.SubscriberAlreadyExists, `Subscriber for ${id} already exists`);
        return settled;
    }
  }

  /**
   * Aborts what a client completes before graphql-ws sees the message: it returns a subscription's iterator, but it tells
   * nobody of a query that runs, or of a subscription that is still being made.
   */
  #complete(id: string, handle: () => Promise<void>): Promise<void> {
    if (this.#ending?.drop(id) === true) return Promise.resolve();
    const operation = this.operations.get(id);
    if (operation !== undefined) {
      this.operations.delete(id);
      end(operation);
      (this.#ending ??= new EndingOperations()).add(id, operation.done);
    }
    return handle();
  }
}

/** Results of one operation, on their way to its client. */
class OperationSink implements Sink {
  readonly #connection: Connection;
  readonly #wire: Wire;
  readonly #opening: string;

  constructor(connection: Connection, id: string) {
    this.#connection = connection;
    this.#wire = connection.wire;
    this.#opening = nextMessage(id);
  }

  write(outcome: Outcome, writer: Writer): ReturnType<Sink["write"]> {
    if (this.#connection.isOver) return "closed";
    return this.#wire.write(outcome.frame(this.#opening), writer);
  }
}

/** `message` tells an operation from a later one that a client gave the same id. */
interface RunningOperation {
  readonly message: object;
  readonly exchange: Exchange;
  readonly span: Span;
  /** Settles when graphql-ws is through with it. */
  done: Promise<void>;
}

/** Of what is not under way yet. */
const settled = Promise.resolve();

/** An id comes back in each message and in close reasons, which hold 123 bytes. */
const maxOperationIdLength = 128;

export function createWebSocketEndpoint(parts: TransportParts): WebSocketEndpoint {
  const { mask, logger, telemetry, guard, limits } = parts;
  const server = new WebSocketServer({
    noServer: true,
    WebSocket: ClientSocket,
    maxPayload: limits.maxBodyBytes,
    perMessageDeflate: false,
    clientTracking: true,
    // An unknown protocol is accepted to be closed with 4406, which tells a client more than a failed handshake.
    handleProtocols: (offered) =>
      offered.has(GRAPHQL_TRANSPORT_WS_PROTOCOL) ? GRAPHQL_TRANSPORT_WS_PROTOCOL : ([...offered][0] ?? false),
  });
  const protocol = createProtocol(parts);
  const wireOptions = {
    keepAlive: new KeepAlive(limits.keepAliveMs),
    slowReaderMs: limits.slowReaderMs,
    messagesPerSecond: limits.maxMessagesPerSecond,
    onPaced: () => guard.limited("messagesPerSocket"),
    onFailure: (err: unknown) => logger.error({ err }, "A WebSocket failed."),
  };

  function opened(socket: ClientSocket, stream: Duplex, headers: RequestHeaders): void {
    const wire = new Wire(socket, stream, wireOptions);
    const requestId = requestIdOf(headers);
    const handshake = telemetry.begin({ kind: "request", method: "GET", path: endpointPath, headers });
    handshake.tell({ status: 101 });
    handshake.end("OK");
    start(wire, new Connection(wire, headers, handshake), socket.protocol, requestId);
  }

  /** Apart from opened(): the closures here live as long as the socket, and hold no more than they need. */
  function start(wire: Wire, connection: Connection, subprotocol: string, requestId: string): void {
    const closed = protocol.opened(
      {
        protocol: subprotocol,
        send: (data) =>
          connection.isOver ? Promise.reject(new Error("The client's identity has expired.")) : wire.send(data),
        close: (code, reason) => wire.close(code, reason),
        onMessage: (handle) => {
          wire.onMessage = (data) => {
            const message = parsed(data);
            if (message !== null && isServers(message)) {
              wire.close(CloseCode.BadRequest, "Invalid message received");
              return Promise.resolve();
            }
            // graphql-ws takes a message that was parsed as well, whatever its types say: of one that opens a subscription it
            // would keep the text until that is over.
            const given = (message ?? data) as string;
            const take = () => withRequestId(requestId, () => handle(given));
            return message === null ? take() : connection.take(message, take);
          };
        },
      },
      connection,
    );
    wire.onClose = (code, reason) => {
      connection.closed = true;
      connection.expiry?.stop();
      connection.leave?.();
      connection.endOperations();
      closed(code, reason).catch((err: unknown) => logger.error({ err: mask(err) }, "A source did not end."));
    };
  }

  return {
    get size() {
      return server.clients.size;
    },
    upgrade(request, headers, socket, head) {
      server.handleUpgrade(request, socket, head, (webSocket) => opened(webSocket, socket, headers));
    },
    async close(graceMs) {
      const open = [...server.clients];
      const allClosed = Promise.all(open.map((socket) => new Promise((resolve) => socket.once("close", resolve))));
      for (const socket of open) socket.close(1001, "Going away");
      const timer = setTimeout(() => {
        for (const socket of open) socket.terminate();
      }, graceMs);
      await allClosed;
      clearTimeout(timer);
      server.close();
    },
  };
}

/** The protocol over any socket: graphql-ws, with execution, rules and masking shared with HTTP. */
function createProtocol({ operations, identify, mask, logger, telemetry, guard, limits }: TransportParts) {
  const { schema } = operations.options;
  const run = (args: ExecutionArgs) => {
    const startable = args as StartableArgs; // what onSubscribe() gives
    const { start } = startable;
    if (start === null) throw new Error("graphql-ws runs an operation twice.");
    startable.start = null;
    return start();
  };

  return makeServer<Record<string, unknown>, Connection>({
    connectionInitWaitTimeout: limits.initTimeoutMs,
    async onConnect({ extra: connection, connectionParams = {} }) {
      try {
        const { headers } = connection;
        if (headers === null) throw new Error("graphql-ws identified a connection twice.");
        const identity = await identify(headers, connectionParams);
        connection.headers = null;
        if (connection.closed) return true;
        const leave = guard.socketOf(identity.viewer);
        if (leave === null) {
          // "Try again later": clients do, and wait longer each time.
          connection.wire.close(1013, "Too many sockets");
          return false;
        }
        connection.leave = leave;
        connection.identity = identity;
        connection.expiry = watchExpiry(identity, () => connection.expire());
        return true;
      } catch (error) {
        if (error instanceof ParleyError) telemetry.refused(error.code);
        if (error instanceof ParleyError && error.code !== "STORE_UNAVAILABLE") {
          // Clients come again after 4403, with a new token perhaps, and give up at 4401.
          connection.wire.close(
            error instanceof CredentialsExpired ? CloseCode.Forbidden : CloseCode.Unauthorized,
            "Forbidden",
          );
          return false;
        }
        // graphql-ws closes with 4500 when something is thrown.
        logger.error({ err: error }, "A WebSocket client could not be identified.");
        throw mask(error);
      }
    },
    async onSubscribe({ extra: connection }, id, message) {
      const { identity } = connection;
      if (identity === null) throw new Error("graphql-ws let an operation in before connection_init.");
      if (id.length > maxOperationIdLength) {
        connection.wire.close(CloseCode.BadRequest, "Operation id too long");
        return [new GraphQLError("Operation id too long")];
      }
      const tooMany = guard.subscription(connection.operations.size);
      if (tooMany !== null) return [tooMany];
      const exchange = new Exchange(identity, null);
      const place = guard.operation();
      if (place instanceof GraphQLError) return [place];
      // One that is completed before it is run is never answered: its end gives the place back.
      exchange.place = place;
      // Before it is prepared: a client may complete it meanwhile.
      const given = message.extensions?.["traceparent"];
      const span = telemetry.begin({ kind: "message", path: endpointPath, within: connection.handshake, given });
      connection.operations.set(id, { message, exchange, span, done: settled });
      const prepared = await span.inside(() => operations.prepare({ ...message }, exchange));
      if ("errors" in prepared) {
        endOperation(connection, id, message);
        return [...prepared.errors];
      }
      forgetText(message);
      const sink = new OperationSink(connection, id);
      const { document } = prepared.operation;
      const start = () => follow(span, () => prepared.run(true, sink)).finally(() => place.leave());
      return { schema, document, operationName: prepared.operationName, start } satisfies StartableArgs;
    },
    execute: run,
    subscribe: run,
    onNext: (_context, _id, _message, _args, result) => formatResult(result, mask),
    onError: (_context, _id, _message, errors) => errors.map((error) => formatError(mask(error))),
    onComplete: ({ extra: connection }, id, message) => endOperation(connection, id, message),
  });
}

/** What graphql-ws keeps of an operation while it goes on; what starts it need not live as long. */
interface StartableArgs extends ExecutionArgs {
  start: (() => Promise<OperationResult>) | null;
}

/** Until there is a result, or a stream is open. */
async function follow<Result>(span: Span, run: () => Promise<Result>): Promise<Result> {
  let code = "INTERNAL_SERVER_ERROR";
  try {
    const result = await span.inside(run);
    code = "OK";
    return result;
  } finally {
    span.end(code);
  }
}

function end({ exchange, span }: RunningOperation): void {
  exchange.end();
  // Where it came to no result.
  span.end("OK");
}

function endOperation({ operations }: Connection, id: string, message: object): void {
  const operation = operations.get(id);
  if (operation?.message !== message) return;
  operations.delete(id);
  end(operation);
}

/** graphql-ws keeps the message for as long as its subscription goes on; the document is kept once for all (documents.ts). */
function forgetText(message: { query: string }): void {
  message.query = "";
}

/** null: no object, or no JSON. graphql-ws closes with 4400 for it. */
function parsed(data: string): object | null {
  try {
    const message: unknown = JSON.parse(data);
    return typeof message === "object" ? message : null;
  } catch {
    return null;
  }
}

/** A message that only servers send is well-formed to graphql-ws, which throws at it as at a failure of its own. */
function isServers(message: object): boolean {
  const type = "type" in message ? message.type : null;
  return type === "next" || type === "error" || type === "connection_ack";
}
