import type { PersistedOperations } from "../../operations/documents/persisted.ts";
import { badRequest, refusal } from "../../operations/refusals.ts";

/** The parameters of one GraphQL request over HTTP, checked once. Parameters of other names are ignored. */
export interface RequestParams {
  query: string;
  operationName?: string;
  variables?: Record<string, unknown>;
  extensions?: Record<string, unknown>;
}

/**
 * Only application/json: a browser sends it across origins after a preflight alone, so no page elsewhere can run a
 * mutation with a user's cookies. For the same reason forms, multipart and text/plain are refused.
 * @throws {GraphQLError} with the status to answer in extensions.http
 */
export async function parsePost(request: Request, persisted: PersistedOperations): Promise<RequestParams> {
  if (!isJson(request.headers.get("content-type"))) {
    throw refusal(415, "UNSUPPORTED_MEDIA_TYPE", "Send the operation as a POST with content-type application/json.");
  }
  return paramsOfBody(await request.text(), persisted);
}

export function isJson(contentType: string | null): boolean {
  if (contentType === "application/json") return true;
  return contentType?.split(";", 1)[0]?.trim().toLowerCase() === "application/json";
}

/** @throws {GraphQLError} with the status to answer in extensions.http */
export function paramsOfBody(text: string, persisted: PersistedOperations): RequestParams {
  const body = parseJson(text, "The request body");
  if (Array.isArray(body)) throw badRequest("Batching is not supported: send one operation a request.");
  if (!isRecord(body)) throw badRequest("The request body must be a JSON object with a `query`.");
  return check(body, persisted);
}

/** @throws {GraphQLError} with the status to answer in extensions.http */
export function parseGet(request: Request, persisted: PersistedOperations): RequestParams {
  const search = request.url.indexOf("?");
  const given = new URLSearchParams(search < 0 ? "" : request.url.slice(search));
  const json = (name: string) => {
    const text = given.get(name);
    return text === null || text === "" ? null : parseJson(text, `The parameter ${name}`);
  };
  const text = (name: string) => given.get(name);
  return check(
    {
      query: text("query"),
      documentId: text("documentId"),
      doc_id: text("doc_id"),
      id: text("id"),
      operationName: text("operationName"),
      variables: json("variables"),
      extensions: json("extensions"),
    },
    persisted,
  );
}

function check(given: Readonly<Record<string, unknown>>, persisted: PersistedOperations): RequestParams {
  const { operationName, variables, extensions } = given;
  const params: RequestParams = { query: persisted.resolve(given) };
  if (operationName !== undefined && operationName !== null && operationName !== "") {
    if (typeof operationName !== "string") throw badRequest("`operationName` must be a string.");
    params.operationName = operationName;
  }
  if (variables !== undefined && variables !== null) {
    if (!isRecord(variables)) throw badRequest("`variables` must be an object.");
    params.variables = variables;
  }
  if (extensions !== undefined && extensions !== null) {
    if (!isRecord(extensions)) throw badRequest("`extensions` must be an object.");
    params.extensions = extensions;
  }
  return params;
}

function parseJson(text: string, what: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    // Without the parser's own message: it quotes the body.
    throw badRequest(`${what} is no valid JSON.`);
  }
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
