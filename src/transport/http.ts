import { GraphQLError, NoSchemaIntrospectionCustomRule, OperationTypeNode, getOperationAST, validate } from "graphql";
import type { DocumentNode, ExecutionArgs, ExecutionResult, GraphQLSchema, ValidationRule } from "graphql";
import { useDeferStream } from "@graphql-yoga/plugin-defer-stream";
import { createYoga, isAsyncIterable } from "graphql-yoga";
import type { Plugin } from "graphql-yoga";

import type { Conversations } from "../conversation/api.ts";
import type { Viewer } from "../conversation/session.ts";
import type { Context } from "../graphql/context.ts";
import type { Exchange } from "./exchange.ts";
import { graphiqlPage } from "./graphiql.ts";
import type { MaskError } from "./masking.ts";
import { multipartFraming, multipartHeaders } from "./multipart.ts";
import { acceptedTypes, chooseShape } from "./negotiation.ts";
import { refusal, refusalResponse } from "./refusals.ts";
import { parseGet, parsePost } from "./request-params.ts";
import { formatResult } from "./results.ts";
import { sseFraming, sseHeaders } from "./sse.ts";
import { once, streamBody } from "./streams.ts";

export interface HttpOptions {
  readonly conversations: Conversations;
  readonly schema: GraphQLSchema;
  readonly path: string;
  readonly graphiql: boolean;
  readonly introspection: boolean;
  readonly keepAliveMs: number;
  readonly mask: MaskError;
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
  /** Answers a request on the endpoint whose body was read already. */
  respond(method: string, url: string, headers: Headers, body: string | null, exchange: Exchange): Promise<Response>;
  /** Never throws for what a client got wrong: a syntax error is an error of that operation only. */
  prepare(request: OperationRequest, exchange: Exchange): Promise<PreparedOperation>;
}

interface ServerContext extends Record<string, unknown> {
  readonly exchange: Exchange;
}

export function createOperations(options: HttpOptions): Operations {
  const { conversations, mask } = options;
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
      viewer: await identify(exchange, mask),
      signal: exchange.signal,
      resume: exchange.resume,
    }),
    plugins: [
      useDeferStream(),
      useStrictRequests(),
      useStreams(options),
      ...(options.introspection ? [] : [useHiddenSchema()]),
    ],
  });

  return {
    headers: (given) => new yoga.fetchAPI.Headers(given as Record<string, string>), // it joins arrays itself
    async respond(method, url, headers, body, exchange) {
      const request = new yoga.fetchAPI.Request(url, { method, headers, body });
      return await yoga.handleRequest(request, { exchange });
    },
    async prepare({ query, operationName, variables }, exchange) {
      const enveloped = yoga.getEnveloped({ exchange });
      const schema = enveloped.schema as GraphQLSchema; // Envelop types it as any
      let document: DocumentNode;
      try {
        document = enveloped.parse(query) as DocumentNode; // as above
      } catch (error) {
        return { errors: [error instanceof GraphQLError ? withCode(error, "GRAPHQL_PARSE_FAILED") : mask(error)] };
      }
      const invalid = enveloped.validate(schema, document) as readonly GraphQLError[]; // as above
      if (invalid.length > 0) return { errors: invalid.map((error) => withCode(error, "GRAPHQL_VALIDATION_FAILED")) };
      const operation = getOperationAST(document, operationName);
      if (!operation) {
        return { errors: [withCode(new GraphQLError(whichOperation), "OPERATION_RESOLUTION_FAILURE")] };
      }
      let contextValue: unknown;
      try {
        contextValue = await enveloped.contextFactory();
      } catch (error) {
        return { errors: [mask(error)] };
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
async function identify(exchange: Exchange, mask: MaskError): Promise<Viewer> {
  try {
    return await exchange.viewer();
  } catch (error) {
    const { message, extensions } = mask(error);
    const status = statusOfCode[String(extensions["code"])] ?? 500;
    throw new GraphQLError(message, { extensions: { ...extensions, http: { status } } });
  }
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
      const body = streamBody(results ?? once(result), framing, exchange.signal, exchange.end);
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
