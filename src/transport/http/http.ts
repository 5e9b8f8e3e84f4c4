import { GraphQLError, OperationTypeNode, getOperationAST } from "graphql";
import type { DocumentNode, ExecutionArgs, ExecutionResult, GraphQLSchema } from "graphql";
import { useDeferStream } from "@graphql-yoga/plugin-defer-stream";
import { createYoga, isAsyncIterable, processRegularResult } from "graphql-yoga";
import type { Plugin, YogaInitialContext } from "graphql-yoga";

import type { Conversations } from "../../conversation/conversations/api.ts";
import type { Telemetry } from "../../conversation/ports/telemetry.ts";
import { AnswerBudget } from "../../graphql/answer-budget.ts";
import type { Context } from "../../graphql/context.ts";
import type { QueryLimits } from "../../config/limits.ts";
import { runDirectly } from "../../operations/direct.ts";
import { Documents, undeferred, useDocuments } from "../../operations/documents/documents.ts";
import type { Exchange } from "../../operations/exchange.ts";
import type { Identity, RequestHeaders } from "../../operations/identity.ts";
import { untilExpiry, watchExpiry } from "../websocket/expiry.ts";
import { Fanout } from "../../operations/live/fanout.ts";
import { graphiqlPage } from "./pages/graphiql.ts";
import type { MaskError } from "../../operations/masking.ts";
import { multipartFraming, multipartHeaders, subscriptionFraming, subscriptionHeaders } from "./multipart.ts";
import { acceptedBy, chooseShape } from "./negotiation.ts";
import { allowedMethods } from "./origins.ts";
import type { DocumentReference, PersistedOperations } from "../../operations/documents/persisted.ts";
import {
  checkOperation,
  maskUnread,
  refusedSubscription,
  useBoundedParser,
  useChecks,
  useRules,
  useVariableErrors,
  withStatus,
} from "../../operations/documents/query-checks.ts";
import { refusal, refusalResponse } from "../../operations/refusals.ts";
import { parseGet, parsePost } from "./request-params.ts";
import { formatResult } from "../../operations/results.ts";
import type { Sink } from "../../operations/live/shared-results.ts";
import { sseFraming, sseHeaders } from "./sse.ts";
import { once, streamBody } from "./streams.ts";
import { codeOfErrors, reportOperations, reportUnread } from "../../operations/telemetry.ts";
import { createThinPath } from "./thin.ts";
import type { PlainAnswer } from "./thin.ts";

export interface HttpOptions {
  readonly conversations: Conversations;
  readonly schema: GraphQLSchema;
  readonly path: string;
  readonly graphiql: boolean;
  readonly introspection: boolean;
  readonly keepAliveMs: number;
  readonly mask: MaskError;
  readonly telemetry: Telemetry;
  readonly queryLimits: QueryLimits;
  /** Of one answer. */
  readonly maxAnswerBytes: number;
  readonly persisted: PersistedOperations;
  /** Whether requests may take the thin path (thin.ts). */
  readonly thin: boolean;
}

/** One operation that came over a WebSocket, parsed and validated. */
export type PreparedOperation =
  | { readonly errors: readonly GraphQLError[] }
  | {
      readonly args: ExecutionArgs;
      /** Results that others share go into the sink; what is given back then waits for their end. */
      readonly run: (sink: Sink) => Promise<ExecutionResult | AsyncIterable<ExecutionResult>>;
    };

/** As Node has them, or the platform. */
export type PlatformHeaders = Headers | Readonly<Record<string, string | readonly string[] | undefined>>;

export interface OperationRequest extends DocumentReference {
  readonly operationName?: string | null | undefined;
  readonly variables?: Record<string, unknown> | null | undefined;
}

/** The GraphQL server: Yoga, and what must hold alike over every transport (rules, masking, context). */
export interface Operations {
  /** Why nothing of this caller's is worth reading, or null. */
  refuse(exchange: Exchange): Promise<GraphQLError | null>;
  /** Answers a request on the endpoint whose body was read already. */
  respond(
    method: string,
    url: string,
    headers: PlatformHeaders,
    body: string | null,
    exchange: Exchange,
  ): Promise<Response>;
  /** The same for a POST, with less around it; null: only respond() can. */
  answer(headers: RequestHeaders, body: string, exchange: Exchange): Promise<PlainAnswer | null>;
  /** Never throws for what a client got wrong: a syntax error is an error of that operation only. */
  prepare(request: OperationRequest, exchange: Exchange): Promise<PreparedOperation>;
}

interface ServerContext extends Record<string, unknown> {
  readonly exchange: Exchange;
}

export function createOperations(options: HttpOptions): Operations {
  const { conversations, mask, telemetry } = options;
  const documents = new Documents(documentBytes);
  const fanout = new Fanout(mask);
  const reports = reportOperations(telemetry);
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
    // In its place: useDocuments.
    parserAndValidationCache: false,
    maskedErrors: { maskError: maskUnread(mask) },
    // The mask logs what is unexpected. Yoga would log refusals too, with the document in them.
    logging: { debug() {}, info() {}, warn() {}, error() {} },
    context: async ({ exchange }) => ({
      conversations,
      viewer: (await identify(exchange, mask)).viewer,
      signal: exchange.signal,
      resume: exchange.resume,
      answer: new AnswerBudget(options.maxAnswerBytes, () => telemetry.limited("answerBytes")),
    }),
    plugins: [
      useDeferStream(),
      useStrictRequests(options),
      useBoundedParser(options),
      useChecks(options),
      fanout.plugin,
      useStreams(options, fanout, documents),
      useRules(options),
      useVariableErrors(options),
      useDocuments(documents),
      // Behind all that puts an executor of its own in place: what that does belongs to the operation's span.
      reports.plugin,
    ],
  });
  const answerThinly = createThinPath({
    documents,
    persisted: options.persisted,
    direct: runDirectly(options, reports),
    executor: (exchange, params) => yoga.getEnveloped({ exchange, params }),
    mask,
    onResult: reports.settled,
  });

  return {
    async refuse(exchange) {
      try {
        await identify(exchange, mask);
        return null;
      } catch (error) {
        return error instanceof GraphQLError ? error : mask(error);
      }
    },
    async respond(method, url, headers, body, exchange) {
      const request = new yoga.fetchAPI.Request(url, { method, headers: headers as HeadersInit, body }); // joins lists
      return await yoga.handleRequest(request, { exchange });
    },
    answer: options.thin ? answerThinly : () => Promise.resolve(null),
    async prepare(request, exchange) {
      const { operationName, variables } = request;
      const refused = (errors: readonly GraphQLError[]) => {
        reportUnread(telemetry, codeOfErrors(errors));
        return { errors };
      };
      const enveloped = yoga.getEnveloped({ exchange });
      const schema = enveloped.schema as GraphQLSchema; // Envelop types it as any
      let document: DocumentNode;
      try {
        document = enveloped.parse(options.persisted.resolve(request)) as DocumentNode; // as above
      } catch (error) {
        return refused([error instanceof GraphQLError ? withCode(error, "GRAPHQL_PARSE_FAILED") : mask(error)]);
      }
      const invalid = enveloped.validate(schema, document) as readonly GraphQLError[]; // as above
      if (invalid.length > 0) return refused(invalid.map((error) => withCode(error, "GRAPHQL_VALIDATION_FAILED")));
      const operation = getOperationAST(document, operationName);
      if (!operation) {
        return refused([withCode(new GraphQLError(whichOperation), "OPERATION_RESOLUTION_FAILURE")]);
      }
      let args: ExecutionArgs;
      try {
        const contextValue: unknown = await enveloped.contextFactory();
        args = { schema, document, contextValue, operationName, variableValues: variables };
        checkOperation(operation, await exchange.identity(), args, options);
      } catch (error) {
        return refused([mask(error)]);
      }
      const execute = operation.operation === OperationTypeNode.SUBSCRIPTION ? enveloped.subscribe : enveloped.execute;
      const run = async (sink: Sink) => {
        const result = (await execute(args)) as ExecutionResult | AsyncIterable<ExecutionResult>; // any to Envelop
        const shared = fanout.resultsOf(exchange);
        shared?.deliverTo(sink);
        return shared ?? result;
      };
      return { args, run };
    },
  };
}

/** Memory for documents that came lately. */
const documentBytes = 64 * 1024 * 1024;

const whichOperation = "Could not determine what operation to execute: give an operationName that the document holds.";

/** Who cannot be identified gets a status beside the error: nothing was executed. */
async function identify(exchange: Exchange, mask: MaskError): Promise<Identity> {
  try {
    return await exchange.identity();
  } catch (error) {
    throw withStatus(mask(error));
  }
}

/** Yoga gives codes to what came over HTTP; errors are cached with their document, so these are copies. */
function withCode(error: GraphQLError, code: string): GraphQLError {
  const { message, nodes = null, source, positions, path, originalError } = error;
  const extensions = { code: error.extensions["code"] ?? code };
  return new GraphQLError(message, { nodes, source, positions, path, originalError, extensions });
}

/** Takes the place of all parsers that Yoga brings: application/json by POST, queries by GET, nothing else. */
function useStrictRequests({ persisted }: HttpOptions): Plugin {
  return {
    onRequestParse({ request, setRequestParser }) {
      // Before anything is executed: a mutation that cannot be answered must not have been done.
      const { json, sse, multipart } = acceptedBy(request.headers);
      if (json === null && !sse && !multipart) throw notAcceptable;
      if (request.method === "GET") setRequestParser((given) => parseGet(given, persisted));
      else if (request.method === "POST") setRequestParser((given) => parsePost(given, persisted));
      else {
        throw refusal(405, "BAD_REQUEST", "Use POST, or GET for a query or a subscription.", { allow: allowedMethods });
      }
    },
  };
}

/** Streams of our own: with ids, without anything read ahead, ended at once when the client goes or the gateway stops. */
function useStreams(options: HttpOptions, fanout: Fanout, documents: Documents): Plugin<object, ServerContext> {
  const subscriptions = new WeakSet<Exchange>();
  // Envelop types it as any; of what came over a WebSocket it has no request.
  const contextOf = ({ contextValue }: Pick<ExecutionArgs, "contextValue">) =>
    contextValue as ServerContext & Partial<YogaInitialContext>;
  const stringify = (result: unknown) =>
    fanout.jsonOf(result) ?? JSON.stringify(formatResult(result as ExecutionResult, options.mask)); // Yoga's
  return {
    onExecute({ args, executeFn, setExecuteFn }) {
      const { request } = contextOf(args);
      if (request === undefined || documents.of(args.document as DocumentNode)?.deferred === false) return; // any, too
      const { sse, multipart } = acceptedBy(request.headers);
      if (sse || multipart) return;
      setExecuteFn((given: ExecutionArgs): unknown => executeFn({ ...given, document: undeferred(given.document) }));
    },
    onSubscribe({ args, setResultAndStopExecution }) {
      const { request, exchange } = contextOf(args);
      if (request === undefined) return;
      subscriptions.add(exchange);
      if (acceptedBy(request.headers).subscription === null) setResultAndStopExecution({ errors: [notAcceptable] });
    },
    onResultProcess(event) {
      const { request, result, serverContext } = event;
      const { exchange } = serverContext;
      const results = isAsyncIterable(result) ? result[Symbol.asyncIterator]() : null;
      const accepted = acceptedBy(request.headers);
      const shape = chooseShape(accepted, results !== null, subscriptions.has(exchange));
      if (shape === "single") {
        // Of a subscription one result alone is a refusal.
        if (subscriptions.has(exchange)) event.setResult(refusedSubscription(result as ExecutionResult));
        event.setResultProcessor(processRegularResult, accepted.json ?? "application/json");
        return;
      }
      if (shape === null) {
        event.setResultProcessor(() => refusalResponse(notAcceptable), "application/json");
        return;
      }
      const { resume } = exchange;
      // Parts of a deferred result have a form of their own, whatever else their client takes.
      const asEvents = accepted.subscription === shape && (results === null || subscriptions.has(exchange));
      const [headers, framing] =
        shape === "text/event-stream"
          ? [sseHeaders, sseFraming(resume, stringify, options.keepAliveMs)]
          : asEvents
            ? [subscriptionHeaders(resume), subscriptionFraming(resume, stringify, options.keepAliveMs)]
            : [multipartHeaders, multipartFraming(stringify)];
      const streamEnded = options.telemetry.streamOpened();
      const expiry = watchExpiry(exchange, exchange.end);
      const body = streamBody(untilExpiry(results ?? once(result), expiry), framing, exchange.signal, () => {
        expiry.stop();
        streamEnded();
        exchange.end();
      });
      event.setResultProcessor(() => new Response(body, { status: statusOf(result), headers }), shape);
    },
  };
}

const notAcceptable = refusal(
  406,
  "BAD_REQUEST",
  "Accept application/graphql-response+json or application/json for one result, text/event-stream or multipart/mixed;subscriptionSpec=1.0 for a subscription.",
);

/** Where one result is streamed, a status that says more than the errors in it (401, 405, 415, …). */
function statusOf(result: unknown): number {
  const errors = (result as Partial<ExecutionResult>).errors ?? []; // a stream of results has none
  const statuses = errors.map(({ extensions: { http } }) => (http?.spec === true ? 200 : (http?.status ?? 200)));
  return Math.max(200, ...statuses);
}
