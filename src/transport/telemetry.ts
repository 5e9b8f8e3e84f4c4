import { GraphQLError, Kind, getOperationAST } from "graphql";
import type { DocumentNode, ExecutionResult } from "graphql";
import { isAsyncIterable } from "graphql-yoga";
import type { Plugin } from "graphql-yoga";

import { noSpan, type OperationType, type Telemetry } from "../conversation/telemetry.ts";
import { toGraphQLError } from "../graphql/errors.ts";
import type { Exchange } from "./exchange.ts";

interface ServerContext extends Record<string, unknown> {
  readonly exchange: Exchange;
}

export interface OperationReports {
  readonly plugin: Plugin<object, ServerContext>;
  /** What was refused before it could be executed is reported from its result. */
  readonly settled: (result: unknown, exchange: Exchange) => void;
}

/** Reports operations over every transport. */
export function reportOperations(telemetry: Telemetry): OperationReports {
  const reported = new WeakSet<Exchange>();
  function begin(args: {
    readonly document: DocumentNode;
    readonly operationName?: string | null | undefined;
    readonly contextValue?: unknown;
  }) {
    const { exchange } = args.contextValue as Partial<ServerContext>; // undefined for who calls Yoga otherwise
    if (exchange !== undefined) reported.add(exchange);
    const startedAt = performance.now();
    const { name, ...what } = describeOperation(args.document, args.operationName);
    const span = telemetry.begin({ kind: "operation", ...what, name });
    const end = (result: unknown) => {
      // The first of several results says how it went so far; what comes later is no new operation.
      const code = isAsyncIterable(result) ? "OK" : codeOfResult(result);
      telemetry.operation({ ...what, code, seconds: (performance.now() - startedAt) / 1000 });
      span.end(code);
    };
    return { span, end };
  }
  function settled(result: unknown, exchange: Exchange): void {
    if (isAsyncIterable(result) || reported.has(exchange)) return;
    const code = codeOfResult(result);
    if (code !== "OK") reportUnread(telemetry, code);
  }
  const plugin: Plugin<object, ServerContext> = {
    onExecute({ args, executeFn, setExecuteFn }) {
      const { span, end } = begin(args);
      if (span !== noSpan) setExecuteFn((given) => span.inside(() => executeFn(given) as unknown)); // any to Envelop
      return { onExecuteDone: ({ result }) => end(result) };
    },
    onSubscribe({ args, subscribeFn, setSubscribeFn }) {
      const { span, end } = begin(args);
      if (span !== noSpan) setSubscribeFn((given) => span.inside(() => subscribeFn(given) as unknown)); // as above
      return { onSubscribeResult: ({ result }) => end(result) };
    },
    onResultProcess: ({ result, serverContext: { exchange } }) => settled(result, exchange),
  };
  return { plugin, settled };
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

function describeOperation(
  document: DocumentNode,
  operationName: string | null | undefined,
): { readonly type: OperationType; readonly field: string; readonly name: string | null } {
  const operation = getOperationAST(document, operationName);
  if (!operation) return { type: "unknown", field: "", name: null };
  const { selections } = operation.selectionSet;
  // Validation was passed: a field's name is the schema's. What stands in fragments is not looked for.
  const fields = new Set(selections.map((one) => (one.kind === Kind.FIELD ? one.name.value : "several")));
  const [field = ""] = fields;
  return { type: operation.operation, field: fields.size > 1 ? "several" : field, name: operation.name?.value ?? null };
}
