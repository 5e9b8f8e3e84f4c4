import { once } from "node:events";

import { buildSchema, isObjectType } from "graphql";
import type { GraphQLFieldResolver, GraphQLSchema } from "graphql";
import { WebSocket } from "ws";

import type { QueryLimits } from "../../../src/config/limits.ts";
import type { Conversations } from "../../../src/conversation/conversations/conversations.ts";
import { ParleyError } from "../../../src/conversation/errors.ts";
import type { ErrorCode } from "../../../src/conversation/errors.ts";
import type { Context } from "../../../src/graphql/context.ts";
import type { Logger } from "../../../src/operations/logger.ts";
import { silentTelemetry } from "../../../src/conversation/ports/telemetry.ts";
import { persistedOperations } from "../../../src/operations/documents.ts";
import { settle } from "../../../src/options.ts";
import { createTransport } from "../../../src/transport/transport.ts";
import type { Transport, TransportOptions, TransportSettings } from "../../../src/transport/transport.ts";
import { PushSource } from "../store/push-source.ts";

export interface Tick {
  readonly text: string;
  readonly cursor?: string;
}

/** What the resolvers of the schema below were given and saw. */
export interface Probe {
  readonly source: PushSource<Tick>;
  lastEventId: string | null | undefined;
  /** The field `waiting` was asked for. */
  readonly waiting: Promise<void>;
  /** Its operation's signal has aborted. */
  readonly aborted: Promise<void>;
  /** What the subscription `missing` is refused with. Default NOT_FOUND. */
  readonly refuseWith: (code: ErrorCode) => void;
  /** Lets `deferred` answer. */
  readonly release: () => void;
  readonly logged: { readonly fields: object; readonly message: string }[];
}

export interface TestServer {
  readonly transport: Transport;
  readonly url: string;
  readonly endpoint: string;
  readonly probe: Probe;
}

const typeDefs = `
  type Query {
    hello(name: String = "world"): String!
    refused: String
    broken: String
    "Answers when its operation is aborted."
    waiting: String
    parts: Parts!
  }
  type Parts { now: String! deferred: String brokenLater: String }
  type Mutation { increment: Int! }
  type Subscription { ticks(fail: Boolean): Tick! missing: String }
  type Tick { text: String! }
`;

type Resolve = GraphQLFieldResolver<unknown, Context, Record<string, unknown>>;

/** As createGateway has them where nothing is given. */
export const defaultSettings = settle({ redis: "redis://127.0.0.1:1" });

type TestOptions = Partial<Omit<TransportOptions, "settings"> & Omit<TransportSettings, "queryLimits">> & {
  readonly queryLimits?: Partial<QueryLimits>;
};

export async function startTransport(options: TestOptions = {}): Promise<TestServer & AsyncDisposable> {
  const waiting = Promise.withResolvers<undefined>();
  const aborted = Promise.withResolvers<undefined>();
  const released = Promise.withResolvers<undefined>();
  const probe: Probe = {
    source: new PushSource(),
    lastEventId: undefined,
    waiting: waiting.promise,
    aborted: aborted.promise,
    refuseWith: (code) => (refusal = code),
    release: () => released.resolve(undefined),
    logged: [],
  };
  let increments = 0;
  let refusal: ErrorCode = "NOT_FOUND";
  const resolvers: Record<string, Record<string, { resolve?: Resolve; subscribe?: Resolve }>> = {
    Query: {
      hello: { resolve: (_root, args) => `Hello ${String(args["name"])}` },
      refused: {
        resolve() {
          throw new ParleyError("SESSION_BUSY", "Another reply is being made.");
        },
      },
      broken: {
        resolve() {
          throw new Error("secret detail");
        },
      },
      waiting: {
        async resolve(_root, _args, { signal }) {
          waiting.resolve(undefined);
          if (!signal.aborted) await once(signal, "abort");
          aborted.resolve(undefined);
          return "as far as it went";
        },
      },
      parts: { resolve: () => ({}) },
    },
    Parts: {
      now: { resolve: () => "now" },
      deferred: { resolve: () => released.promise.then(() => "later") },
      brokenLater: { resolve: () => released.promise.then(() => Promise.reject(new Error("secret detail"))) },
    },
    Mutation: { increment: { resolve: () => (increments += 1) } },
    Subscription: {
      ticks: {
        subscribe(_root, _args, { resume }) {
          probe.lastEventId = resume.lastEventId;
          const { source } = probe;
          return {
            [Symbol.asyncIterator]() {
              return this;
            },
            return: () => source.return(),
            async next() {
              const result = await source.next();
              if (result.done !== true && result.value.cursor !== undefined) resume.cursor = result.value.cursor;
              return result;
            },
          };
        },
        resolve: (tick) => tick,
      },
      missing: {
        subscribe() {
          throw new ParleyError(refusal, "There is no such session.");
        },
      },
    },
  };
  const log = (fields: object, message: string) => void probe.logged.push({ fields, message });
  const logger: Logger = { debug() {}, info() {}, warn: log, error: log };
  const { production = false, introspection = !production } = options;
  const transport = createTransport({
    conversations: {} as Conversations, // no resolver of this schema asks them
    schema: schemaOf(resolvers),
    authenticate: null,
    logger,
    ready: () => Promise.resolve({ ok: true }),
    metrics: null,
    telemetry: silentTelemetry,
    persisted: persistedOperations("auto", new Map()),
    localOnly: false,
    ...options,
    settings: {
      ...defaultSettings,
      graphiql: true,
      console: false,
      ...options,
      ...{ production, introspection, queryLimits: { ...defaultSettings.queryLimits, ...options.queryLimits } },
    },
  });
  const { url } = await transport.listen(0, "127.0.0.1");
  return { transport, url, endpoint: `${url}/graphql`, probe, [Symbol.asyncDispose]: () => transport.close() };
}

function schemaOf(
  resolvers: Record<string, Record<string, { resolve?: Resolve; subscribe?: Resolve }>>,
): GraphQLSchema {
  const schema = buildSchema(typeDefs);
  for (const type of Object.values(schema.getTypeMap())) {
    if (!isObjectType(type)) continue;
    for (const field of Object.values(type.getFields())) Object.assign(field, resolvers[type.name]?.[field.name] ?? {});
  }
  return schema;
}

export function post(url: string, query: string, headers: Record<string, string> = {}): Promise<Response> {
  return fetch(url, {
    method: "POST",
    headers: { "content-type": "application/json", ...headers },
    body: JSON.stringify({ query }),
  });
}

/** A WebSocket below any client library, to see messages and close codes as they are. */
export interface RawSocket {
  readonly socket: WebSocket;
  send(message: unknown): void;
  /** The next message that was not taken yet. */
  receive(): Promise<Record<string, unknown>>;
  readonly closed: Promise<{ readonly code: number; readonly reason: string }>;
}

export async function openRaw(
  endpoint: string,
  protocols: string[] = ["graphql-transport-ws"],
  headers: Record<string, string> = {},
): Promise<RawSocket> {
  const socket = new WebSocket(endpoint.replace("http", "ws"), protocols, { headers });
  const received: Record<string, unknown>[] = [];
  const waiting: ((message: Record<string, unknown>) => void)[] = [];
  socket.on("message", (data: Buffer) => {
    const message = JSON.parse(data.toString("utf8")) as Record<string, unknown>; // the protocol sends objects alone
    const taker = waiting.shift();
    if (taker === undefined) received.push(message);
    else taker(message);
  });
  const closed = new Promise<{ code: number; reason: string }>((resolve) => {
    socket.once("close", (code, reason) => resolve({ code, reason: reason.toString("utf8") }));
  });
  await once(socket, "open");
  return {
    socket,
    closed,
    send: (message) => socket.send(typeof message === "string" ? message : JSON.stringify(message)),
    receive() {
      const message = received.shift();
      return message === undefined ? new Promise((resolve) => waiting.push(resolve)) : Promise.resolve(message);
    },
  };
}

/** Past connection_init. */
export async function openAcknowledged(endpoint: string): Promise<RawSocket> {
  const raw = await openRaw(endpoint);
  raw.send({ type: "connection_init" });
  const { type } = await raw.receive();
  if (type !== "connection_ack") throw new Error(`Expected connection_ack, got ${String(type)}`);
  return raw;
}
