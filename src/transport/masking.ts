import type { GraphQLError } from "graphql";

import { toGraphQLError } from "../graphql/errors.ts";
import type { Logger } from "./logger.ts";

export type MaskError = (error: unknown) => GraphQLError;

/** Nothing unexpected reaches a client; it goes to the log, whole, once. */
export function createMask(logger: Logger): MaskError {
  // Yoga masks what is masked already when it passes through several of its stages.
  const masked = new WeakSet<GraphQLError>();
  return (error) => {
    const shown = toGraphQLError(error);
    if (masked.has(shown)) return shown;
    masked.add(shown);
    if (shown.extensions["code"] === "INTERNAL_SERVER_ERROR") {
      // The cause alone: a GraphQLError around it carries the document, and with it what a user wrote.
      logger.error({ err: shown.originalError ?? shown, path: shown.path }, "An operation failed unexpectedly.");
    }
    return shown;
  };
}
