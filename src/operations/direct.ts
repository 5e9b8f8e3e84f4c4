import { execute, getVariableValues, OperationTypeNode } from "graphql";
import type { DocumentNode, ExecutionResult, GraphQLSchema, OperationDefinitionNode } from "graphql";

import type { Conversations } from "../conversation/conversations/api.ts";
import { isStoreUnavailable, type ParleyError } from "../conversation/errors.ts";
import type { Viewer } from "../conversation/session.ts";
import { AnswerBudget } from "../graphql/answer-budget.ts";
import { CompiledQuery } from "./compiled-query.ts";
import type { Context, Resume } from "../graphql/context.ts";
import type { Readings } from "../graphql/reading/readings.ts";
import type { Exchange } from "./exchange.ts";
import { maskUnread, mayExecute } from "./documents/query-checks.ts";
import type { CheckOptions } from "./documents/query-checks.ts";
import type { OperationReports } from "./telemetry.ts";

export interface DirectOptions extends CheckOptions {
  readonly schema: GraphQLSchema;
  readonly conversations: Conversations;
  readonly maxAnswerBytes: number;
}

/** An operation of a document that was found valid; `length`: of its text. */
export interface KnownOperation {
  readonly document: DocumentNode;
  readonly operation: OperationDefinitionNode;
  readonly length: number;
}

/** A result as clients get it, errors masked; null: it has to go through Yoga, and nothing was done or told of it yet. */
export type RunDirectly = (
  known: KnownOperation,
  variables: Readonly<Record<string, unknown>> | undefined,
  exchange: Exchange,
) => Promise<ExecutionResult | null>;

/** A plan takes some 200 bytes for each of its fields: in proportion to its text, it is counted with that (documents.ts). */
const charactersPerField = 4;

/**
 * Queries by plans that are made of them once, mutations by graphql-js itself: without what Yoga's plugins put around each
 * execution, which costs more than most of them. Both pass the checks that all operations pass, and are reported as all are.
 */
export function runDirectly(options: DirectOptions, reports: OperationReports): RunDirectly {
  const { schema, conversations } = options;
  const mask = maskUnread(options.mask);
  const queries = new WeakMap<OperationDefinitionNode, CompiledQuery>();
  const exceeded = () => options.telemetry.limited("answerBytes");
  const queryOf = ({ document, operation, length }: KnownOperation): CompiledQuery => {
    const known = queries.get(operation);
    if (known !== undefined) return known;
    const made = new CompiledQuery(schema, document, operation, Math.ceil(length / charactersPerField));
    queries.set(operation, made);
    return made;
  };

  return async (known, variables, exchange) => {
    const { document, operation } = known;
    // Who is refused is refused by Yoga's way, which says and counts why.
    const viewer = await exchange.identity().then(
      (identity) => identity.viewer,
      () => null,
    );
    if (viewer === null || !mayExecute(operation, viewer, schema, document, variables, options)) return null;
    const isQuery = operation.operation === OperationTypeNode.QUERY;
    // Of a query that is too large Yoga's way says so, and counts it.
    const answer = new AnswerBudget(options.maxAnswerBytes, isQuery ? nothing : exceeded);
    const context = new DirectContext(conversations, viewer, exchange, answer);
    if (isQuery) {
      const query = queryOf(known);
      const { span, end } = reports.begin(operation, exchange);
      let failure: unknown = null;
      const data = await span.inside(() => query.run(context, variables, (error) => (failure = error)));
      if (data !== null) {
        end(noErrors);
        return { data: data as Record<string, unknown> }; // of a root type
      }
      if (!isStoreUnavailable(failure)) return null;
      // Executed again it would wait for the store as long once more: what was read is taken, and the rest has failed.
      const again = new DirectContext(refusing(conversations, failure), viewer, exchange, context.answer.anew());
      if (context.readings !== undefined) again.readings = context.readings;
      return await executed(known, variables, again, exchange);
    }
    return await executed(known, variables, context, exchange);
  };

  async function executed(
    { document, operation }: KnownOperation,
    variables: Readonly<Record<string, unknown>> | undefined,
    contextValue: Context,
    exchange: Exchange,
  ): Promise<ExecutionResult | null> {
    // The words for a variable that its type cannot hold are Yoga's; behind it, nothing may be executed twice.
    const given = variables ?? {};
    if (getVariableValues(schema, operation.variableDefinitions ?? [], given).errors !== undefined) return null;
    const { span, end } = reports.begin(operation, exchange);
    const operationName = operation.name?.value;
    const args = { schema, document, contextValue, variableValues: given, operationName };
    const result = await span.inside(() => execute(args));
    end(result);
    return result.errors === undefined ? result : { ...result, errors: result.errors.map(mask) };
  }
}

/** All that a query asks of them, while the store cannot be asked. */
function refusing({ models, defaults }: Conversations, failure: ParleyError): Conversations {
  const refuse = () => Promise.reject(failure);
  const reads = { readSession: refuse, listSessions: refuse, readMessage: refuse, readRun: refuse };
  return { models, defaults, ...reads } as unknown as Conversations; // a query asks for nothing else
}

const noErrors = {};
const nothing = () => undefined;

/** A signal is made where a resolver asks for it: few do. */
class DirectContext implements Context {
  asked = 0;
  readonly viewer: Viewer;
  readonly resume: Resume;
  readonly answer: AnswerBudget;
  readings?: Readings;
  readonly #conversations: Conversations;
  readonly #exchange: Exchange;

  constructor(conversations: Conversations, viewer: Viewer, exchange: Exchange, answer: AnswerBudget) {
    this.#conversations = conversations;
    this.viewer = viewer;
    this.resume = exchange.resume;
    this.answer = answer;
    this.#exchange = exchange;
  }

  get conversations(): Conversations {
    this.asked += 1;
    return this.#conversations;
  }

  get signal(): AbortSignal {
    return this.#exchange.signal;
  }
}
