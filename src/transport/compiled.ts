import { OperationTypeNode } from "graphql";
import type { DocumentNode, GraphQLSchema, OperationDefinitionNode } from "graphql";

import type { Conversations } from "../conversation/api.ts";
import type { Viewer } from "../conversation/session.ts";
import { CompiledQuery } from "../graphql/compiled-query.ts";
import type { Context, Resume } from "../graphql/context.ts";
import type { Readings } from "../graphql/readings.ts";
import type { Exchange } from "./exchange.ts";
import { mayExecute } from "./query-checks.ts";
import type { CheckOptions } from "./query-checks.ts";
import type { OperationReports } from "./telemetry.ts";

export interface CompiledOptions extends CheckOptions {
  readonly schema: GraphQLSchema;
  readonly conversations: Conversations;
}

/** An operation of a document that was found valid; `length`: of its text. */
export interface KnownOperation {
  readonly document: DocumentNode;
  readonly operation: OperationDefinitionNode;
  readonly length: number;
}

/** `data` of an answer without errors, fit for JSON; null: only the executor can answer, and nothing was told of it yet. */
export type RunCompiled = (
  known: KnownOperation,
  variables: Readonly<Record<string, unknown>> | undefined,
  exchange: Exchange,
) => Promise<object | null>;

/** A plan takes some 200 bytes for each of its fields: in proportion to its text, it is counted with that (documents.ts). */
const charactersPerField = 4;

/**
 * Queries, by plans that are made of them once. They pass the checks that all operations pass, and are reported as all are.
 */
export function runCompiled(options: CompiledOptions, reports: OperationReports): RunCompiled {
  const { schema, conversations } = options;
  const queries = new WeakMap<OperationDefinitionNode, CompiledQuery>();
  const queryOf = ({ document, operation, length }: KnownOperation): CompiledQuery => {
    const known = queries.get(operation);
    if (known !== undefined) return known;
    const made = new CompiledQuery(schema, document, operation, Math.ceil(length / charactersPerField));
    queries.set(operation, made);
    return made;
  };

  return async (known, variables, exchange) => {
    const { document, operation } = known;
    if (operation.operation !== OperationTypeNode.QUERY) return null;
    // Who is refused is refused by the executor's way, which says and counts why.
    const viewer = await exchange.identity().then(
      (identity) => identity.viewer,
      () => null,
    );
    if (viewer === null || !mayExecute(operation, viewer, schema, document, variables, options)) return null;
    const context = new QueryContext(conversations, viewer, exchange);
    const query = queryOf(known);
    const { span, end } = reports.begin(operation, exchange);
    const data = await span.inside(() => query.run(context, variables));
    if (data !== null) end(noErrors);
    return data;
  };
}

const noErrors = {};

/** A signal is made where a resolver asks for it, which queries' resolvers don't. */
class QueryContext implements Context {
  readonly conversations: Conversations;
  readonly viewer: Viewer;
  readonly resume: Resume;
  readings?: Readings;
  readonly #exchange: Exchange;

  constructor(conversations: Conversations, viewer: Viewer, exchange: Exchange) {
    this.conversations = conversations;
    this.viewer = viewer;
    this.resume = exchange.resume;
    this.#exchange = exchange;
  }

  get signal(): AbortSignal {
    return this.#exchange.signal;
  }
}
