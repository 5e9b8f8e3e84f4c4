import { GraphQLError } from "graphql";
import type { ExecutionResult, FormattedExecutionResult, GraphQLFormattedError } from "graphql";

import type { MaskError } from "./masking.ts";

/** One result, or several that come one after the other. */
export type OperationResult = ExecutionResult | AsyncIterable<ExecutionResult>;

export function isSeveral(result: OperationResult): result is AsyncIterable<ExecutionResult> {
  return Symbol.asyncIterator in result;
}

/** A result without errors that is written already. */
export class WrittenResult implements ExecutionResult {
  readonly #json: string;

  constructor(json: string) {
    this.#json = json;
  }

  /** As it goes over the wire. */
  get json(): string {
    return this.#json;
  }

  get data(): NonNullable<ExecutionResult["data"]> | null {
    return (JSON.parse(this.json) as Required<ExecutionResult>).data; // as it was written
  }
}

/** Errors as clients see them: without `extensions.http`, which is for the status of an HTTP answer. */
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

/** A result as it goes over the wire. */
export function formatResult(result: WireResult, mask: MaskError): FormattedExecutionResult {
  const { data, errors, incremental, extensions, ...rest } = result;
  const shown = withoutHttp(extensions ?? {});
  const format = (error: unknown) => formatError(mask(error));
  const formatPart = (part: IncrementalPart) =>
    part.errors === undefined ? part : { ...part, errors: part.errors.map(format) };
  return {
    ...(errors === undefined ? {} : { errors: errors.map(format) }),
    ...(data === undefined ? {} : { data }),
    ...rest,
    ...(incremental === undefined ? {} : { incremental: incremental.map(formatPart) }),
    ...(Object.keys(shown).length === 0 ? {} : { extensions: shown }),
  };
}
