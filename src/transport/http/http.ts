import type { ExecutionResult } from "graphql";
import type { Exchange } from "../../operations/exchange.ts";
import { untilExpiry, watchExpiry } from "../../operations/expiry.ts";
import type { MaskError } from "../../operations/masking.ts";
import type { RequestHeaders } from "../../operations/identity.ts";
import type { OperationRequest, PreparedOperation, Refused } from "../../operations/operation.ts";
import { badRequest, refusal, withStatus } from "../../operations/refusals.ts";
import { isSeveral } from "../../operations/results.ts";
import type { OperationResult } from "../../operations/results.ts";
import type { ServedRequest } from "../../operations/yoga-engine.ts";
import { multipartFraming, multipartHeaders, subscriptionFraming, subscriptionHeaders } from "./multipart.ts";
import { allowedMethods } from "./origins.ts";
import type { TransportParts } from "../parts.ts";
import { PlainAnswer } from "./plain-answer.ts";
import { sseFraming, sseHeaders } from "./sse.ts";
import { once, streamBody } from "./streams.ts";

/** A request on the endpoint, whose body was read already. */
export interface OperationCall {
  readonly method: string;
  readonly url: string;
  readonly headers: RequestHeaders;
  readonly body: string | null;
}

export type AnswerOperation = (call: OperationCall, exchange: Exchange) => Promise<PlainAnswer | Response>;

/** Plain JSON by POST goes straight through; all else (GET, streams, GraphiQL's page) Yoga serves, by the same steps. */
export function createOperationAnswers(parts: TransportParts): AnswerOperation {
  return async (call, exchange) => {
    const request = new HttpOperation(parts, call, exchange);
    if (call.method === "GET" || request.accepted.streams) return await parts.operations.yoga.serve(request);
    await request.prepare();
    return request.answer(await request.run());
  };
}

/** Reads an operation from a request, and writes what comes of it: one result, or a stream of several. */
class HttpOperation implements ServedRequest {
  readonly method: string;
  readonly url: string;
  readonly accept: string | null;
  readonly accepted: Accepted;
  readonly #parts: TransportParts;
  readonly #call: OperationCall;
  readonly #exchange: Exchange;
  #prepared: PreparedOperation | Refused = { errors: [] };

  constructor(parts: TransportParts, call: OperationCall, exchange: Exchange) {
    this.method = call.method;
    this.url = call.url;
    this.accept = call.headers.get("accept");
    this.accepted = acceptedBy(call.headers);
    this.#parts = parts;
    this.#call = call;
    this.#exchange = exchange;
  }

  async prepare(): Promise<void> {
    const { operations, mask } = this.#parts;
    let request: OperationRequest;
    try {
      request = operationRequest(this.#call, this.accepted);
    } catch (error) {
      this.#prepared = operations.refused([mask(error)]);
      return;
    }
    this.#prepared = await operations.prepare(request, this.#exchange, this.method === "GET");
    if (this.#isSubscription && this.accepted.subscription === null) {
      this.#prepared = operations.refused([notAcceptable]);
    }
  }

  async run(): Promise<OperationResult> {
    const { sse, multipart } = this.accepted;
    return "errors" in this.#prepared ? this.#prepared : await this.#prepared.run(sse || multipart);
  }

  answer(result: OperationResult): PlainAnswer | Response {
    const { accepted } = this;
    const isSubscription = this.#isSubscription;
    const several = isSeveral(result);
    const shape = chooseShape(accepted, several, isSubscription);
    if (!several && (shape === "single" || shape === null)) {
      // Of a subscription one result alone is a refusal.
      if (isSubscription) result.errors?.forEach(withStatus);
      const mediaType = accepted.json ?? "application/json";
      const status = statusOf(result, mediaType === "application/json");
      return new PlainAnswer(status, mediaType, this.#parts.operations.json(result), headersOf(result));
    }
    return this.#stream(result, shape);
  }

  respond(result: OperationResult): Response {
    const answer = this.answer(result);
    return answer instanceof PlainAnswer ? answer.toResponse() : answer;
  }

  #stream(result: OperationResult, shape: Shape): Response {
    const { operations, mask, telemetry, limits } = this.#parts;
    const { accepted } = this;
    const exchange = this.#exchange;
    const several = isSeveral(result);
    const stringify = (one: unknown) => operations.json(one as ExecutionResult); // of an operation
    // Parts of a deferred result have a form of their own, whatever else their client takes.
    const asEvents = accepted.subscription === shape && (!several || this.#isSubscription);
    const { resume } = exchange;
    const [headers, framing] =
      shape === sseType
        ? [sseHeaders, sseFraming(resume, stringify, limits.keepAliveMs)]
        : asEvents
          ? [subscriptionHeaders(resume), subscriptionFraming(resume, stringify, limits.keepAliveMs)]
          : [multipartHeaders, multipartFraming(stringify)];
    const streamEnded = telemetry.streamOpened();
    const expiry = watchExpiry(exchange, exchange.end);
    const results = several ? failingAsResult(result[Symbol.asyncIterator](), mask) : once(result);
    const body = streamBody(untilExpiry(results, expiry), framing, exchange.signal, () => {
      expiry.stop();
      streamEnded();
      exchange.end();
    });
    return new Response(body, { status: several ? 200 : statusOf(result, true), headers });
  }

  get #isSubscription(): boolean {
    return !("errors" in this.#prepared) && this.#prepared.isSubscription;
  }
}

const notAcceptable = refusal(
  406,
  "BAD_REQUEST",
  "Accept application/graphql-response+json or application/json for one result, text/event-stream or multipart/mixed;subscriptionSpec=1.0 for a subscription.",
);

/**
 * Queries and subscriptions by GET, everything by POST. Only application/json: a browser sends it across origins after a
 * preflight alone, so no page elsewhere can run a mutation with a user's cookies. For the same reason forms, multipart and
 * text/plain are refused.
 * @throws {GraphQLError} with the status to answer in extensions.http
 */
function operationRequest(call: OperationCall, { json, sse, multipart }: Accepted): OperationRequest {
  // Before anything is executed: a mutation that cannot be answered must not have been done.
  if (json === null && !sse && !multipart) throw notAcceptable;
  if (call.method === "GET") return requestOfUrl(call.url);
  if (call.method !== "POST") {
    throw refusal(405, "BAD_REQUEST", "Use POST, or GET for a query or a subscription.", { allow: allowedMethods });
  }
  if (!isJson(call.headers.get("content-type"))) {
    throw refusal(415, "UNSUPPORTED_MEDIA_TYPE", "Send the operation as a POST with content-type application/json.");
  }
  return requestOfBody(call.body ?? "");
}

export function isJson(contentType: string | null): boolean {
  if (contentType === "application/json") return true;
  return contentType?.split(";", 1)[0]?.trim().toLowerCase() === "application/json";
}

function requestOfBody(text: string): OperationRequest {
  const body = parseJson(text, "The request body");
  if (Array.isArray(body)) throw badRequest("Batching is not supported: send one operation a request.");
  if (typeof body === "object" && body !== null) return body;
  throw badRequest("The request body must be a JSON object with a `query`.");
}

function requestOfUrl(url: string): OperationRequest {
  const search = url.indexOf("?");
  const given = new URLSearchParams(search < 0 ? "" : url.slice(search));
  const text = (name: string) => given.get(name);
  const json = (name: string) => {
    const text = given.get(name);
    return text === null || text === "" ? null : parseJson(text, `The parameter ${name}`);
  };
  return {
    query: text("query"),
    documentId: text("documentId"),
    doc_id: text("doc_id"),
    id: text("id"),
    operationName: text("operationName"),
    variables: json("variables"),
    extensions: json("extensions"),
  };
}

export function parseJson(text: string, what: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    // Without the parser's own message: it quotes the body.
    throw badRequest(`${what} is no valid JSON.`);
  }
}

/** Results of which one that fails is the last one. */
function failingAsResult(
  results: AsyncIterator<ExecutionResult, unknown>,
  mask: MaskError,
): AsyncIterator<ExecutionResult, unknown> {
  let failed = false;
  return {
    async next() {
      if (failed) return { done: true, value: undefined };
      try {
        return await results.next();
      } catch (error) {
        failed = true;
        return { done: false, value: { errors: [mask(error)] } };
      }
    },
    return: async () => (await results.return?.()) ?? { done: true, value: undefined },
  };
}

/**
 * The highest status that an error asks for. `lenient`: an operation that is only badly formed is answered with 200, as the
 * specification of GraphQL over HTTP has it for application/json.
 */
function statusOf({ errors = [] }: ExecutionResult, lenient: boolean): number {
  const statuses = errors.map(({ extensions: { http } }) =>
    lenient && http?.spec === true ? 200 : (http?.status ?? 200),
  );
  return Math.max(200, ...statuses);
}

function headersOf({ errors = [] }: ExecutionResult): Record<string, string> {
  return Object.assign({}, ...errors.map(({ extensions: { http } }) => http?.headers)) as Record<string, string>; // as refusals have them
}

// Accept, as RFC 9110 (12.5.1) and GraphQL over HTTP have it.

/** What an Accept header lets the answer be. */
interface Accepted {
  /** The media type of a single JSON result; null: no JSON. */
  readonly json: string | null;
  readonly sse: boolean;
  readonly multipart: boolean;
  /** How a subscription is streamed: null, not at all. */
  readonly subscription: typeof sseType | typeof multipartType | null;
  /** It names a type of several results: the answer may become a stream. */
  readonly streams: boolean;
}

/** Clients send few different ones, and each in all of its requests. */
const known = new Map<string | null, Accepted>();
const mostKnown = 100;
const longestKnown = 256;

export function acceptedBy(headers: { get(name: string): string | null }): Accepted {
  const accept = headers.get("accept");
  const before = known.get(accept);
  if (before !== undefined) return before;
  const accepted = negotiate(accept);
  if (known.size < mostKnown && (accept?.length ?? 0) <= longestKnown) known.set(accept, accepted);
  return accepted;
}

interface MediaRange {
  readonly type: string;
  /** How much it is wanted: 0 (not at all) to 1. */
  readonly weight: number;
  /** Whether it is Apollo's media type for the events of a subscription: only who names it can read them. */
  readonly forSubscriptions: boolean;
}

const anything: readonly MediaRange[] = [{ type: "*/*", weight: 1, forSubscriptions: false }];

/** The first is sent to clients that accept either. */
const jsonTypes = ["application/json", "application/graphql-response+json"] as const;
const sseType = "text/event-stream";
const multipartType = "multipart/mixed";

function negotiate(accept: string | null): Accepted {
  const ranges = accept === null || accept.trim() === "" ? anything : rangesOf(accept);
  const names = (type: string) => ranges.some((range) => range.type === type && range.weight > 0);
  const takes = (type: string) => weightOf(type, ranges).weight > 0;
  // The most wanted one; of those that are wanted alike, the one that the header has first.
  const [json = null] = jsonTypes
    .map((type) => ({ type, ...weightOf(type, ranges) }))
    .filter(({ weight }) => weight > 0)
    .sort((one, other) => other.weight - one.weight || one.at - other.at);
  return {
    json: json && json.type,
    sse: takes(sseType),
    multipart: takes(multipartType),
    subscription: forSubscription(ranges),
    streams: names(sseType) || names(multipartType),
  };
}

/** The most wanted one; of those that are wanted alike, the one that the header has first. */
function forSubscription(ranges: readonly MediaRange[]): Accepted["subscription"] {
  const sse = weightOf(sseType, ranges);
  const at = ranges.findIndex(({ forSubscriptions }) => forSubscriptions);
  const weight = ranges[at]?.weight ?? 0;
  if (weight > sse.weight || (weight > 0 && weight === sse.weight && at < sse.at)) return multipartType;
  return sse.weight > 0 ? sseType : null;
}

/** What stands between commas or semicolons that are not within quotes. */
const entries = /(?:[^,"]|"[^"]*"?)+/g;
const parts = /(?:[^;"]|"[^"]*"?)+/g;

/** Results are UTF-8: who wants the type in another charset does not want it. */
function rangesOf(accept: string): readonly MediaRange[] {
  return (accept.toLowerCase().match(entries) ?? []).flatMap((entry) => {
    const [type = "", ...parameters] = (entry.match(parts) ?? []).map((part) => part.trim());
    const valueOf = (name: string) => parameters.find((one) => one.startsWith(`${name}=`))?.slice(name.length + 1);
    const charset = valueOf("charset") ?? "utf-8";
    if (charset !== "utf-8" && charset !== '"utf-8"') return [];
    const weight = Number(valueOf("q") ?? 1);
    const spec = valueOf("subscriptionspec");
    const forSubscriptions = type === multipartType && (spec === "1.0" || spec === '"1.0"');
    return [{ type, weight: weight >= 0 ? weight : 0, forSubscriptions }];
  });
}

/** By the range that fits it most closely; `at`: which of them that is. */
function weightOf(type: string, ranges: readonly MediaRange[]): { readonly weight: number; readonly at: number } {
  for (const range of [type, type.replace(/\/.*/, "/*"), "*/*"]) {
    const at = ranges.findIndex((one) => one.type === range);
    if (at >= 0) return { weight: ranges[at]?.weight ?? 0, at };
  }
  return { weight: 0, at: -1 };
}

/** "single": one JSON result. null: nothing that was asked for can be given. */
type Shape = "single" | typeof sseType | typeof multipartType | null;

/**
 * A subscription streams as its client wants it; a deferred result as multipart, or SSE where only that is accepted; and
 * one result comes as JSON unless the client takes streams alone (graphql-sse runs queries so, too).
 */
function chooseShape(accepted: Accepted, several: boolean, subscription: boolean): Shape {
  const { json, sse, multipart } = accepted;
  if (several && subscription) return accepted.subscription;
  if (several) return multipart ? multipartType : sse ? sseType : null;
  if (json !== null) return "single";
  return sse ? sseType : multipart ? multipartType : null;
}
