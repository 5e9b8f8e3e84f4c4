import { badRequest, refusal } from "./refusals.ts";

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
export async function parsePost(request: Request): Promise<RequestParams> {
  const mediaType = (request.headers.get("content-type") ?? "").split(";", 1)[0]?.trim().toLowerCase();
  if (mediaType !== "application/json") {
    throw refusal(415, "UNSUPPORTED_MEDIA_TYPE", "Send the operation as a POST with content-type application/json.");
  }
  const body = parseJson(await request.text(), "The request body");
  if (Array.isArray(body)) throw badRequest("Batching is not supported: send one operation a request.");
  if (!isRecord(body)) throw badRequest("The request body must be a JSON object with a `query`.");
  return check(body);
}

/** @throws {GraphQLError} with the status to answer in extensions.http */
export function parseGet(request: Request): RequestParams {
  const search = request.url.indexOf("?");
  const given = new URLSearchParams(search < 0 ? "" : request.url.slice(search));
  const json = (name: string) => {
    const text = given.get(name);
    return text === null || text === "" ? null : parseJson(text, `The parameter ${name}`);
  };
  return check({
    query: given.get("query"),
    operationName: given.get("operationName"),
    variables: json("variables"),
    extensions: json("extensions"),
  });
}

function check(given: Readonly<Record<string, unknown>>): RequestParams {
  const { query, operationName, variables, extensions } = given;
  if (typeof query !== "string" || query === "") throw badRequest("`query` must be a string: the GraphQL document.");
  const params: RequestParams = { query };
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
