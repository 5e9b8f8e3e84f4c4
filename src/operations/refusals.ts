import { GraphQLError } from "graphql";

/** A request that is refused before there is an operation: wrong method, media type, size or form. */
export function refusal(
  status: number,
  code: string,
  message: string,
  headers: Readonly<Record<string, string>> = {},
): GraphQLError {
  return new GraphQLError(message, { extensions: { code, http: { status, headers: { ...headers } } } });
}

export function badRequest(message: string): GraphQLError {
  return refusal(400, "BAD_REQUEST", message);
}

export function payloadTooLarge(maxBytes: number): GraphQLError {
  return refusal(413, "PAYLOAD_TOO_LARGE", `The request body is longer than the ${maxBytes} bytes that are taken.`, {
    // What is left of the body is not worth reading, so the connection cannot be used again.
    connection: "close",
  });
}

/** The refusal as a whole response, for what never reaches the GraphQL server. */
export function refusalResponse(error: GraphQLError, mediaType = "application/json"): Response {
  const { http, ...extensions } = error.extensions;
  return Response.json(
    { errors: [{ message: error.message, extensions }] },
    { status: http?.status ?? 400, headers: { "content-type": `${mediaType}; charset=utf-8`, ...http?.headers } },
  );
}
