import { GraphQLError } from "graphql";
import type { ExecutionResult, FormattedExecutionResult, GraphQLFormattedError } from "graphql";

import type { MaskError } from "./masking.ts";

/** Errors as clients see them: without `extensions.http`, by which Yoga and its executor pass a status to the response. */
export function formatError(error: GraphQLError | GraphQLFormattedError): GraphQLFormattedError {
  const formatted = error instanceof GraphQLError ? error.toJSON() : error;
  if (formatted.extensions?.["http"] === undefined) return formatted;
  const { extensions, ...rest } = formatted;
  return { ...rest, extensions: withoutHttp(extensions) };
}

function withoutHttp(extensions: Readonly<Record<string, unknown>>): Record<string, unknown> {
  return Object.fromEntries(Object.entries(extensions).filter(([name]) => name !== "http"));
}

/** A later part of a deferred result; graphql-js 16 has no type for it. */
interface IncrementalPart {
  readonly errors?: readonly unknown[];
}

interface WireResult {
  readonly data?: ExecutionResult["data"] | undefined;
  readonly errors?: ExecutionResult["errors"] | undefined;
  readonly extensions?: ExecutionResult["extensions"] | undefined;
  readonly incremental?: readonly IncrementalPart[] | undefined;
}

/**
 * A result as it goes over the wire. The errors of a result are masked when they come here, but those in its deferred
 * parts are not: Envelop's masking does not look into them.
 */
export function formatResult(result: WireResult, mask: MaskError): FormattedExecutionResult {
  const { data, errors, incremental, extensions, ...rest } = result;
  const shown = withoutHttp(extensions ?? {});
  const formatPart = (part: IncrementalPart) =>
    part.errors === undefined ? part : { ...part, errors: part.errors.map((error) => formatError(mask(error))) };
  return {
    ...(errors === undefined ? {} : { errors: errors.map(formatError) }),
    ...(data === undefined ? {} : { data }),
    ...rest,
    ...(incremental === undefined ? {} : { incremental: incremental.map(formatPart) }),
    ...(Object.keys(shown).length === 0 ? {} : { extensions: shown }),
  };
}
