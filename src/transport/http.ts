import { GraphQLError, NoSchemaIntrospectionCustomRule, OperationTypeNode, getOperationAST, validate } from "graphql";
import type { DocumentNode, ExecutionArgs, ExecutionResult, GraphQLSchema, ValidationRule } from "graphql";
import { useDeferStream } from "@graphql-yoga/plugin-defer-stream";
import { createYoga, isAsyncIterable } from "graphql-yoga";
import type { Plugin } from "graphql-yoga";

import type { Conversations } from "../conversation/api.ts";
import type { Telemetry } from "../conversation/telemetry.ts";
import { requireScope } from "../conversation/access.ts";
import type { Context } from "../graphql/context.ts";
import type { Exchange, Identity } from "./exchange.ts";
import { untilExpiry, watchExpiry } from "./expiry.ts";
import { graphiqlPage } from "./graphiql.ts";
import type { MaskError } from "./masking.ts";
import { multipartFraming, multipartHeaders } from "./multipart.ts";
import { acceptedTypes, chooseShape } from "./negotiation.ts";
import { refusal, refusalResponse } from "./refusals.ts";
import { parseGet, parsePost } from "./request-params.ts";
import { formatResult } from "./results.ts";
import { sseFraming, sseHeaders } from "./sse.ts";
import { once, streamBody } from "./streams.ts";
import { codeOfErrors, reportUnread, useTelemetry } from "./telemetry.ts";

export interface HttpOptions {
  readonly conversations: Conversations;
  readonly schema: GraphQLSchema;
  readonly path: string;
  readonly graphiql: boolean;
  readonly introspection: boolean;
  readonly keepAliveMs: number;
  readonly mask: MaskError;
  readonly telemetry: Telemetry;
}

/** One operation that came over a WebSocket, parsed and validated. */
export type PreparedOperation =
  | { readonly errors: readonly GraphQLError[] }
  | {
      readonly args: ExecutionArgs;
      readonly run: () => Promise<ExecutionResult | AsyncIterable<ExecutionResult>>;
    };

export interface OperationRequest {
  readonly query: string;
  readonly operationName?: string | null | undefined;
  readonly variables?: Record<string, unknown> | null | undefined;
}

/** The GraphQL server: Yoga, and what must hold alike over every transport (rules, masking, context). */
export interface Operations {
  /** Cheaper than the platform's own; the same interface. */
  headers(given: Readonly<Record<string, string | readonly string[] | undefined>>): Headers;
  /** Why nothing of this caller's is worth reading, or null. */
  refuse(exchange: Exchange): Promise<GraphQLError | null>;
  /** Answers a request on the endpoint whose body was read already. */
  respond(method: string, url: string, headers: Headers, body: string | null, exchange: Exchange): Promise<Response>;
  /** Never throws for what a client got wrong: a syntax error is an error of that operation only. */
  prepare(request: OperationRequest, exchange: Exchange): Promise<PreparedOperation>;
}

interface ServerContext extends Record<string, unknown> {
  readonly exchange: Exchange;
}

export function createOperations(options: HttpOptions): Operations {
  const { conversations, mask, telemetry } = options;
  const yoga = createYoga<ServerContext, Context>({
    schema: options.schema,
    graphqlEndpoint: options.path,
    graphiql: options.graphiql,
    renderGraphiQL: graphiqlPage,
    landingPage: false,
    // Health has its own routes; Yoga matches this one against the end of the URL, which never holds a space.
    healthCheckEndpoint: " ",
    cors: false,
    multipart: false,
    batching: false,
    maxRequestBodySize: false,
    maskedErrors: { maskError: mask },
    // The mask logs what is unexpected. Yoga would log refusals too, with the document in them.
    logging: { debug() {}, info() {}, warn() {}, error() {} },
    context: async ({ exchange }) => ({
      conversations,
      viewer: (await identify(exchange, mask)).viewer,
      signal: exchange.signal,
      resume: exchange.resume,
    }),
    plugins: [
      useDeferStream(),
      useStrictRequests(),
      useScopes(options),
      useTelemetry(telemetry),
      useStreams(options),
      ...(options.introspection ? [] : [useHiddenSchema()]),
    ],
  });

  return {
    headers: (given) => new yoga.fetchAPI.Headers(given as Record<string, string>), // it joins arrays itself
    async refuse(exchange) {
      try {
        await identify(exchange, mask);
        return null;
      } catch (error) {
        return error instanceof GraphQLError ? error : mask(error);
      }
    },
    async respond(method, url, headers, body, exchange) {
      const request = new yoga.fetchAPI.Request(url, { method, headers, body });
      return await yoga.handleRequest(request, { exchange });
    },
    async prepare({ query, operationName, variables }, exchange) {
      const refused = (errors: readonly GraphQLError[]) => {
        reportUnread(telemetry, codeOfErrors(errors));
        return { errors };
      };
      const enveloped = yoga.getEnveloped({ exchange });
      const schema = enveloped.schema as GraphQLSchema; // Envelop types it as any
      let document: DocumentNode;
      try {
        document = enveloped.parse(query) as DocumentNode; // as above
      } catch (error) {
        return refused([error instanceof GraphQLError ? withCode(error, "GRAPHQL_PARSE_FAILED") : mask(error)]);
      }
      const invalid = enveloped.validate(schema, document) as readonly GraphQLError[]; // as above
      if (invalid.length > 0) return refused(invalid.map((error) => withCode(error, "GRAPHQL_VALIDATION_FAILED")));
      const operation = getOperationAST(document, operationName);
      if (!operation) {
        return refused([withCode(new GraphQLError(whichOperation), "OPERATION_RESOLUTION_FAILURE")]);
      }
      let contextValue: unknown;
      try {
        requireScopeFor(operation.operation, await exchange.identity());
        contextValue = await enveloped.contextFactory();
      } catch (error) {
        return refused([mask(error)]);
      }
      const args: ExecutionArgs = { schema, document, contextValue, operationName, variableValues: variables };
      const execute = operation.operation === OperationTypeNode.SUBSCRIPTION ? enveloped.subscribe : enveloped.execute;
      // Envelop types results as any; both give what graphql-js gives.
      const run = async () => (await execute(args)) as ExecutionResult | AsyncIterable<ExecutionResult>;
      return { args, run };
    },
  };
}

const whichOperation = "Could not determine what operation to execute: give an operationName that the document holds.";

const statusOfCode: Readonly<Record<string, number>> = {
  UNAUTHENTICATED: 401,
  FORBIDDEN: 403,
  RATE_LIMITED: 429,
  STORE_UNAVAILABLE: 503,
};

/** Who cannot be identified gets a status beside the error: nothing was executed. */
async function identify(exchange: Exchange, mask: MaskError): Promise<Identity> {
  try {
    return await exchange.identity();
  } catch (error) {
    throw withStatus(mask(error));
  }
}

function withStatus({ message, extensions }: GraphQLError): GraphQLError {
  const status = statusOfCode[String(extensions["code"])] ?? 500;
  const headers = status === 401 ? { "www-authenticate": "Bearer" } : {};
  return new GraphQLError(message, { extensions: { ...extensions, http: { status, headers } } });
}

/** @throws {ParleyError} FORBIDDEN: the whole operation needs the scope, so nothing of it is executed */
function requireScopeFor(operation: OperationTypeNode, { viewer }: Pick<Identity, "viewer">): void {
  requireScope(viewer, operation === OperationTypeNode.MUTATION ? "chat:write" : "chat:read");
}

/** Over HTTP; prepare() asks before it gets here, so that a WebSocket gets an error instead of a result. */
function useScopes({ mask }: HttpOptions): Plugin<Context> {
  const refusalOf = ({ document, operationName, contextValue }: ExecutionArgs): ExecutionResult | null => {
    const operation = getOperationAST(document, operationName);
    try {
      // Made by our context factory.
      if (operation) requireScopeFor(operation.operation, contextValue as Context);
      return null;
    } catch (error) {
      return { errors: [withStatus(mask(error))] };
    }
  };
  return {
    onExecute({ args, setResultAndStopExecution }) {
      const refused = refusalOf(args);
      if (refused !== null) setResultAndStopExecution(refused);
    },
    onSubscribe({ args, setResultAndStopExecution }) {
      const refused = refusalOf(args);
      if (refused !== null) setResultAndStopExecution(refused);
    },
  };
}

/** Yoga gives codes to what came over HTTP; errors are cached with their document, so these are copies. */
function withCode(error: GraphQLError, code: string): GraphQLError {
  const { message, nodes = null, source, positions, path, originalError } = error;
  return new GraphQLError(message, { nodes, source, positions, path, originalError, extensions: { code } });
}

/** Takes the place of all parsers that Yoga brings: application/json by POST, queries by GET, nothing else. */
function useStrictRequests(): Plugin {
  return {
    onRequestParse({ request, setRequestParser }) {
      if (request.method === "GET") setRequestParser(parseGet);
      else if (request.method === "POST") setRequestParser(parsePost);
      else {
        throw refusal(405, "BAD_REQUEST", "Use POST, or GET for a query or a subscription.", { allow: "GET, POST" });
      }
    },
  };
}

/** Streams of our own: with ids, without anything read ahead, ended at once when the client goes or the gateway stops. */
function useStreams(options: HttpOptions): Plugin<object, ServerContext> {
  const subscriptions = new WeakSet<Exchange>();
  const stringify = (result: unknown) => JSON.stringify(formatResult(result as ExecutionResult, options.mask)); // Yoga's
  return {
    onSubscribe({ args }) {
      const { exchange } = args.contextValue as Partial<ServerContext>; // undefined for who calls Yoga otherwise
      if (exchange !== undefined) subscriptions.add(exchange);
    },
    onResultProcess(event) {
      const { request, result, serverContext } = event;
      const { exchange } = serverContext;
      const results = isAsyncIterable(result) ? result[Symbol.asyncIterator]() : null;
      const shape = chooseShape(acceptedTypes(request.headers), results !== null, subscriptions.has(exchange));
      if (shape === "single") return;
      if (shape === null) {
        results?.return?.().catch(() => undefined);
        event.setResultProcessor(() => refusalResponse(notAcceptable), "application/json");
        return;
      }
      const sse = shape === "text/event-stream";
      const framing = sse ? sseFraming(exchange.resume, stringify, options.keepAliveMs) : multipartFraming(stringify);
      const streamEnded = options.telemetry.streamOpened();
      const expiry = watchExpiry(exchange.expiresAt, exchange.end);
      const body = streamBody(untilExpiry(results ?? once(result), expiry), framing, exchange.signal, () => {
        expiry.stop();
        streamEnded();
        exchange.end();
      });
      const init = { status: statusOf(result), headers: sse ? sseHeaders : multipartHeaders };
      event.setResultProcessor(() => new Response(body, init), shape);
    },
  };
}

const notAcceptable = refusal(
  406,
  "BAD_REQUEST",
  "This operation gives several results: accept text/event-stream, or multipart/mixed for @defer.",
);

/** Where one result is streamed, a status that says more than the errors in it (401, 405, 415, …). */
function statusOf(result: unknown): number {
  const errors = (result as Partial<ExecutionResult>).errors ?? []; // a stream of results has none
  const statuses = errors.map(({ extensions: { http } }) => (http?.spec === true ? 200 : (http?.status ?? 200)));
  return Math.max(200, ...statuses);
}

/** No introspection, and no "Did you mean" in errors, which would tell the schema name by name. */
function useHiddenSchema(): Plugin {
  return {
    onValidate({ addValidationRule, setValidationFn }) {
      addValidationRule(NoSchemaIntrospectionCustomRule);
      setValidationFn((schema: GraphQLSchema, document: DocumentNode, rules?: readonly ValidationRule[]) =>
        validate(schema, document, rules, { hideSuggestions: true }),
      );
    },
  };
}
