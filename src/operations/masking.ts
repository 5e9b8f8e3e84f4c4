import { GraphQLError } from "graphql";

import { toGraphQLError } from "../graphql/errors.ts";
import type { Logger } from "./logger.ts";
import { SocketClosing } from "./live/socket-closing.ts";

export type MaskError = (error: unknown) => GraphQLError;

/** Nothing unexpected reaches a client; it goes to the log, whole, once. */
export function createMask(logger: Logger): MaskError {
  // Yoga masks what is masked already when it passes through several of its stages.
  const masked = new WeakSet<GraphQLError>();
  return (error) => {
    if (error instanceof GraphQLError && masked.has(error)) return error;
    const shown = withCode(toGraphQLError(error));
    masked.add(shown);
    if (shown.extensions["code"] === "INTERNAL_SERVER_ERROR" && !(shown.originalError instanceof SocketClosing)) {
      // The cause alone: a GraphQLError around it carries the document, and with it what a user wrote.
      logger.error({ err: shown.originalError ?? shown, path: shown.path }, "An operation failed unexpectedly.");
    }
    return shown;
  };
}

/** The executor gives no code where a variable or an argument has a value that its type cannot hold. */
function withCode(error: GraphQLError): GraphQLError {
  if (error.extensions["code"] !== undefined) return error;
  const { message, nodes = null, source, positions, path, extensions } = error;
  return new GraphQLError(message, {
    nodes,
    source,
    positions,
    path,
    extensions: { ...extensions, code: "BAD_USER_INPUT" },
  });
}
