import { GraphQLError, Kind } from "graphql";
import type { ExecutionResult, OperationDefinitionNode } from "graphql";

import type { OperationType, Span, Telemetry } from "../conversation/ports/telemetry.ts";
import { toGraphQLError } from "../graphql/errors.ts";

/** What an operation is reported as. */
export interface OperationDescription {
  readonly type: OperationType;
  readonly field: string;
  readonly name: string | null;
}

/** Of a valid document. */
export function describeOperation({ operation, name, selectionSet }: OperationDefinitionNode): OperationDescription {
  // A field's name is the schema's. What stands in fragments is not looked for.
  const fields = new Set(selectionSet.selections.map((one) => (one.kind === Kind.FIELD ? one.name.value : "several")));
  const [first = ""] = fields;
  return { type: operation, field: fields.size > 1 ? "several" : first, name: name?.value ?? null };
}

export interface OperationInProgress {
  readonly span: Span;
  /** Of several results with none: what comes later is no new operation. */
  readonly end: (result: Partial<ExecutionResult>) => void;
}

/** An operation begins to be executed, over whichever transport it came. */
export function reportOperation(
  telemetry: Telemetry,
  { type, field, name }: OperationDescription,
): OperationInProgress {
  const startedAt = performance.now();
  const span = telemetry.begin({ kind: "operation", type, field, name });
  return {
    span,
    end({ errors }) {
      const code = codeOfErrors(errors);
      telemetry.operation({ type, field, code, seconds: (performance.now() - startedAt) / 1000 });
      span.end(code);
    },
  };
}

/** An operation that was refused before it was executed. */
export function reportUnread(telemetry: Telemetry, errors: readonly unknown[]): void {
  telemetry.operation({ type: "unknown", field: "", code: codeOfErrors(errors), seconds: 0 });
}

/** "OK", or the code that a client gets for the first error. */
function codeOfErrors(errors: readonly unknown[] | undefined): string {
  const [first] = errors ?? [];
  if (first === undefined) return "OK";
  const error = first instanceof GraphQLError ? toGraphQLError(first) : null;
  const code = error?.extensions["code"];
  // As masking has it: the executor gives no code where a variable has a value that its type cannot hold.
  return typeof code === "string" ? code : "BAD_USER_INPUT";
}
