import { GraphQLError } from "graphql";
import type { ExecutionResult, FormattedExecutionResult, GraphQLFormattedError } from "graphql";

import type { MaskError } from "./masking.ts";

/** Errors as clients see them: without `extensions.http`, by which Yoga and its executor pass a status to the response. */
export function formatError(error: GraphQLError | GraphQLFormattedError): GraphQLFormattedError {
  const formatted = error instanceof GraphQLError ? error.toJSON() : error;
  if (formatted.extensions?.["http"] === undefined) return formatted;
  const { http: _status, ...extensions } = formatted.extensions;
  return { ...formatted, extensions };
}

/** A later part of a deferred result; graphql-js 16 has no type for it. */
interface IncrementalPart {
  readonly errors?: readonly unknown[];
}

/**
 * A result as it goes over the wire. The errors of a result are masked when they come here, but those in its deferred
 * parts are not: Envelop's masking does not look into them.
 */
export function formatResult(
  result: ExecutionResult & { readonly incremental?: readonly IncrementalPart[] },
  mask: MaskError,
): FormattedExecutionResult {
  const { errors, incremental, extensions, ...rest } = result;
  const { http: _status, ...shown } = extensions ?? {};
  const formatPart = (part: IncrementalPart) =>
    part.errors === undefined ? part : { ...part, errors: part.errors.map((error) => formatError(mask(error))) };
  return {
    ...(errors === undefined ? {} : { errors: errors.map(formatError) }),
    ...rest,
    ...(incremental === undefined ? {} : { incremental: incremental.map(formatPart) }),
    ...(Object.keys(shown).length === 0 ? {} : { extensions: shown }),
  };
}
