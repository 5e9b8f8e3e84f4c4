import { GraphQLError } from "graphql";

import { ParleyError } from "../conversation/errors.ts";
import { splitLocal } from "../conversation/message/ids.ts";
import { runGlobalId } from "./reading/global-ids.ts";

/**
 * What a client gets to see of whatever was thrown. A refusal keeps its code and details; a GraphQLError that has no
 * other cause (syntax, validation, coercion of variables) stays as it is; anything else becomes INTERNAL_SERVER_ERROR
 * without detail, its cause in `originalError` for the log. Path and locations stay.
 */
export function toGraphQLError(error: unknown): GraphQLError {
  const cause = causeOf(error);
  if (cause instanceof GraphQLError) return error instanceof GraphQLError ? error : cause;
  const place =
    error instanceof GraphQLError
      ? {
          nodes: error.nodes ?? null,
          source: error.source ?? null,
          positions: error.positions ?? null,
          path: error.path ?? null,
        }
      : {};
  const originalError = cause instanceof Error ? cause : new Error("Something was thrown that is no Error.", { cause });
  return cause instanceof ParleyError
    ? new GraphQLError(cause.message, { ...place, originalError, extensions: extensionsOf(cause) })
    : new GraphQLError("Something went wrong on our side.", {
        ...place,
        originalError,
        extensions: { code: "INTERNAL_SERVER_ERROR" },
      });
}

/** GraphQLErrors wrap what a resolver throws, and each other. */
function causeOf(error: unknown): unknown {
  let cause = error;
  while (cause instanceof GraphQLError && cause.originalError !== undefined) cause = cause.originalError;
  return cause;
}

function extensionsOf({ code, details }: ParleyError): Record<string, unknown> {
  const { runId, ...rest } = details;
  // The domain names a run as "<sessionId>:<runId>"; clients know it by its global id.
  const run = runId === undefined ? null : splitLocal(runId);
  return { code, ...rest, ...(run === null ? {} : { runId: runGlobalId(run.sessionId, run.local) }) };
}
