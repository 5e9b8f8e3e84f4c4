import { GraphQLError, Kind, getOperationAST } from "graphql";
import type { ExecutionArgs, ExecutionResult, OperationDefinitionNode } from "graphql";
import { isAsyncIterable } from "graphql-yoga";
import type { Plugin } from "graphql-yoga";

import { noSpan, type OperationType, type Telemetry } from "../conversation/ports/telemetry.ts";
import { toGraphQLError } from "../graphql/errors.ts";
import type { Exchange, OperationInProgress } from "./exchange.ts";

interface ServerContext extends Record<string, unknown> {
  readonly exchange: Exchange;
}

export interface OperationReports {
  readonly plugin: Plugin<object, ServerContext>;
  /** Of an operation that is executed beside Yoga; where Yoga executes it after all, that goes on with the same report. */
  readonly begin: (operation: OperationDefinitionNode, exchange: Exchange) => OperationInProgress;
  /** What was refused before it could be executed is reported from its result. */
  readonly settled: (result: unknown, exchange: Exchange) => void;
}

/** Reports operations over every transport. */
export function reportOperations(telemetry: Telemetry): OperationReports {
  function begin(operation: OperationDefinitionNode | null, exchange: Exchange | undefined): OperationInProgress {
    if (exchange?.report) return exchange.report;
    const startedAt = performance.now();
    const { type, field, name } = describeOperation(operation);
    const span = telemetry.begin({ kind: "operation", type, field, name });
    const end = (result: unknown) => {
      // The first of several results says how it went so far; what comes later is no new operation.
      const code = isAsyncIterable(result) ? "OK" : codeOfResult(result);
      telemetry.operation({ type, field, code, seconds: (performance.now() - startedAt) / 1000 });
      span.end(code);
    };
    const begun = { span, end };
    if (exchange !== undefined) exchange.report = begun;
    return begun;
  }
  function beginOf({ document, operationName, contextValue }: ExecutionArgs): OperationInProgress {
    const { exchange } = contextValue as Partial<ServerContext>; // undefined for who calls Yoga otherwise
    return begin(getOperationAST(document, operationName) ?? null, exchange);
  }
  function settled(result: unknown, exchange: Exchange): void {
    if (isAsyncIterable(result) || exchange.report !== null) return;
    const code = codeOfResult(result);
    if (code !== "OK") reportUnread(telemetry, code);
  }
  const plugin: Plugin<object, ServerContext> = {
    onExecute({ args, executeFn, setExecuteFn }) {
      const { span, end } = beginOf(args);
      if (span !== noSpan) setExecuteFn((given) => span.inside(() => executeFn(given) as unknown)); // any to Envelop
      return { onExecuteDone: ({ result }) => end(result) };
    },
    onSubscribe({ args, subscribeFn, setSubscribeFn }) {
      const { span, end } = beginOf(args);
      if (span !== noSpan) setSubscribeFn((given) => span.inside(() => subscribeFn(given) as unknown)); // as above
      return { onSubscribeResult: ({ result }) => end(result) };
    },
    onResultProcess: ({ result, serverContext: { exchange } }) => settled(result, exchange),
  };
  return { plugin, begin, settled };
}

/** An operation that has a wrong form, or whose sender is nobody. */
export function reportUnread(telemetry: Telemetry, code: string): void {
  telemetry.operation({ type: "unknown", field: "", code, seconds: 0 });
}

/** "OK", or the code that a client gets for the first error. */
export function codeOfErrors(errors: readonly unknown[] | undefined): string {
  const [first] = errors ?? [];
  if (first === undefined) return "OK";
  const error = first instanceof GraphQLError ? toGraphQLError(first) : null;
  const code = error?.extensions["code"];
  // As masking has it: the executor gives no code where a variable has a value that its type cannot hold.
  return typeof code === "string" ? code : "BAD_USER_INPUT";
}

function codeOfResult(result: unknown): string {
  const results: unknown[] = Array.isArray(result) ? result : [result];
  const errors = results.flatMap((one) => (one as Partial<ExecutionResult> | null)?.errors ?? []); // what Yoga gives
  return codeOfErrors(errors);
}

interface Description {
  readonly type: OperationType;
  readonly field: string;
  readonly name: string | null;
}

const descriptions = new WeakMap<OperationDefinitionNode, Description>();
const unknownOperation: Description = { type: "unknown", field: "", name: null };

function describeOperation(operation: OperationDefinitionNode | null): Description {
  if (operation === null) return unknownOperation;
  const known = descriptions.get(operation);
  if (known !== undefined) return known;
  const { selections } = operation.selectionSet;
  // Validation was passed: a field's name is the schema's. What stands in fragments is not looked for.
  const fields = new Set(selections.map((one) => (one.kind === Kind.FIELD ? one.name.value : "several")));
  const [first = ""] = fields;
  const field = fields.size > 1 ? "several" : first;
  const description = { type: operation.operation, field, name: operation.name?.value ?? null };
  descriptions.set(operation, description);
  return description;
}
