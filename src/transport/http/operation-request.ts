import type { RequestHeaders } from "../../operations/identity.ts";
import type { OperationRequest } from "../../operations/operation.ts";
import { badRequest, refusal } from "../../operations/refusals.ts";
import type { Accepted } from "./negotiation.ts";
import { allowedMethods } from "./origins.ts";

/** A request on the endpoint, whose body was read already. */
export interface OperationCall {
  readonly method: string;
  readonly url: string;
  readonly headers: RequestHeaders;
  readonly body: string | null;
}

export const notAcceptable = refusal(
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
export function operationRequest(call: OperationCall, { json, sse, multipart }: Accepted): OperationRequest {
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

function isJson(contentType: string | null): boolean {
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

function parseJson(text: string, what: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    // Without the parser's own message: it quotes the body.
    throw badRequest(`${what} is no valid JSON.`);
  }
}
