import { Kind, visit } from "graphql";
import type { DocumentNode, OperationDefinitionNode } from "graphql";

import type { Viewer } from "../../conversation/session.ts";

interface Plan {
  /** Of the operation: no other has it. */
  readonly number: number;
  /** The variables that count; null: its events are each subscriber's own. */
  readonly names: readonly string[] | null;
}

/** What tells the executions of subscriptions' events apart; the same key, the same results. */
export class ShareKeys {
  readonly #plans = new WeakMap<OperationDefinitionNode, Plan>();
  #operations = 0;

  /** `operation`: of the document. null: its events are each subscriber's own. */
  of(
    document: DocumentNode,
    operation: OperationDefinitionNode,
    variables: Readonly<Record<string, unknown>> | null | undefined,
    viewer: Viewer,
  ): string | null {
    let plan = this.#plans.get(operation);
    if (plan === undefined) {
      plan = { number: this.#operations++, names: telling(document, operation) };
      this.#plans.set(operation, plan);
    }
    const { number, names } = plan;
    if (names === null) return null;
    // Whatever a viewer is made of: one that may see less or more shares nothing.
    return canonical([number, viewer, names.map((name) => given(variables, name))]);
  }
}

/**
 * The variables that an event's result may depend on: all but one that is nothing but the root field's `after`, which says
 * where a stream begins. null: results come in parts (@defer), which have an order of their own.
 */
function telling(document: DocumentNode, operation: OperationDefinitionNode): readonly string[] | null {
  const uses = new Map<string, number>();
  const inParts: string[] = [];
  visit(document, {
    Variable({ name }, _key, parent) {
      const declares = parent !== undefined && "kind" in parent && parent.kind === Kind.VARIABLE_DEFINITION;
      if (!declares) uses.set(name.value, (uses.get(name.value) ?? 0) + 1);
    },
    Directive({ name }) {
      if (name.value === "defer" || name.value === "stream") inParts.push(name.value);
    },
  });
  if (inParts.length > 0) return null;
  const starts = new Set(operation.selectionSet.selections.map(startVariable));
  return (operation.variableDefinitions ?? [])
    .map(({ variable }) => variable.name.value)
    .filter((name) => !(starts.has(name) && uses.get(name) === 1));
}

function startVariable(root: OperationDefinitionNode["selectionSet"]["selections"][number]): string | null {
  if (root.kind !== Kind.FIELD) return null;
  const after = root.arguments?.find(({ name }) => name.value === "after");
  return after?.value.kind === Kind.VARIABLE ? after.value.name.value : null;
}

/** A variable that is null is not one that is left out: where it has a default, only the latter gets it. */
function given(variables: Readonly<Record<string, unknown>> | null | undefined, name: string): readonly unknown[] {
  return variables && Object.hasOwn(variables, name) ? [name, variables[name]] : [name];
}

/** JSON in which an object's keys stand in order. */
function canonical(value: unknown): string {
  return JSON.stringify(value, (_key, part: unknown) =>
    typeof part === "object" && part !== null && !Array.isArray(part)
      ? Object.fromEntries(Object.entries(part).sort(([a], [b]) => (a < b ? -1 : 1)))
      : part,
  );
}
