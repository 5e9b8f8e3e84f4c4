import { GraphQLError } from "graphql";

import type { ErrorCode } from "../conversation/errors.ts";

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

const statusOfCode: Readonly<Record<ErrorCode, number>> = {
  BAD_USER_INPUT: 400,
  INVALID_CURSOR: 400,
  TOO_COMPLEX: 400,
  UNAUTHENTICATED: 401,
  FORBIDDEN: 403,
  NOT_FOUND: 404,
  NOT_WAITING: 409,
  SESSION_BUSY: 409,
  SESSION_EXISTS: 409,
  MESSAGE_ID_REUSED: 409,
  CURSOR_EXPIRED: 410,
  PAYLOAD_TOO_LARGE: 413,
  QUEUE_FULL: 429,
  RATE_LIMITED: 429,
  LIMIT_REACHED: 429,
  INTERNAL_SERVER_ERROR: 500,
  OVERLOADED: 503,
  STORE_UNAVAILABLE: 503,
};

/** Gives the error of what was not executed its status, where it has none. */
export function withStatus(error: GraphQLError): GraphQLError {
  const { extensions } = error;
  const status = (statusOfCode as Readonly<Record<string, number>>)[String(extensions["code"])] ?? 500; // or an unknown one
  extensions["http"] ??= { status, headers: status === 401 ? { "www-authenticate": "Bearer" } : {} };
  return error;
}

/**
 * An error of the request that the specification of GraphQL over HTTP knows: clients that take application/json alone get
 * it with 200.
 */
export function withRequestStatus(error: GraphQLError): GraphQLError {
  error.extensions["http"] = { spec: true, status: 400 };
  return error;
}
