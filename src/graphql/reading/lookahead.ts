import {
  getArgumentValues,
  getDirectiveValues,
  getNamedType,
  GraphQLIncludeDirective,
  GraphQLSkipDirective,
  isAbstractType,
  isCompositeType,
  Kind,
  OperationTypeNode,
  valueFromASTUntyped,
} from "graphql";
import type {
  FieldNode,
  GraphQLCompositeType,
  GraphQLField,
  GraphQLObjectType,
  GraphQLOutputType,
  GraphQLResolveInfo,
  SelectionNode,
  SelectionSetNode,
} from "graphql";
// As the executor does; graphql has no other name for it.
import { collectFields } from "graphql/execution/collectFields.js";

import type { PageRequest } from "../../conversation/session.ts";
import { parseGlobalId } from "./global-ids.ts";
import { messagePage, samePage } from "./paging.ts";

// One reading answers a whole operation (its fields must agree), so who reads has to know beforehand which pages of
// the history are asked for further down, behind aliases, fragments, variables and directives.

/** The pages of a session's messages that are asked for below this field, each once, in no particular order. */
export function pagesBelow(info: GraphQLResolveInfo): readonly PageRequest[] {
  return below(info).found;
}

/** The same, or null where no field below this one leads to a session: nothing of it has to be read. */
export function pagesOfSessionBelow(info: GraphQLResolveInfo): readonly PageRequest[] | null {
  const { found, leadToSession } = below(info);
  return leadToSession ? found : null;
}

function below(info: GraphQLResolveInfo): Pages {
  const pages = new Pages(info);
  for (const node of info.fieldNodes) pages.collect(node.selectionSet, info.returnType);
  return pages;
}

/**
 * The same for a session on the way of this field: in a query, whatever any of its root fields asks of that session,
 * for the first to read it reads for all of them.
 */
export function pagesOf(info: GraphQLResolveInfo, sessionId: string): readonly PageRequest[] {
  const query = info.schema.getQueryType();
  if (info.operation.operation !== OperationTypeNode.QUERY || !query) return pagesBelow(info);
  const pages = new Pages(info);
  for (const { field, node } of fieldsOf(info, info.operation.selectionSet, query)) {
    if (!leadsTo(sessionId, field.name, argumentsOf(info, field, node))) continue;
    pages.collect(node.selectionSet, field.type);
  }
  return pages.found;
}

function leadsTo(sessionId: string, name: string, args: Readonly<Record<string, unknown>> | null): boolean {
  if (name === "session") return args?.["sessionId"] === sessionId;
  const ids: unknown = name === "node" ? [args?.["id"]] : name === "nodes" ? args?.["ids"] : [];
  return Array.isArray(ids) && ids.some((id) => typeof id === "string" && parseGlobalId(id)?.sessionId === sessionId);
}

/** Whether the field `name` of what this field returns is selected and belongs to the first answer, not to a deferred one. */
export function selectsAtOnce(info: GraphQLResolveInfo, name: string): boolean {
  const opened = new Set<string>();
  const selects = ({ selections }: SelectionSetNode): boolean =>
    selections.some((selection) => {
      if (!isIncluded(info, selection)) return false;
      if (selection.kind === Kind.FIELD) return selection.name.value === name;
      if (isDeferred(info, selection)) return false;
      if (selection.kind === Kind.INLINE_FRAGMENT) return selects(selection.selectionSet);
      const fragment = opened.has(selection.name.value) ? undefined : info.fragments[selection.name.value];
      opened.add(selection.name.value);
      return fragment !== undefined && selects(fragment.selectionSet);
    });
  return info.fieldNodes.some(({ selectionSet }) => selectionSet !== undefined && selects(selectionSet));
}

class Pages {
  readonly found: PageRequest[] = [];
  leadToSession = false;
  readonly #info: GraphQLResolveInfo;
  /** A selection is entered once for each type: fragments that spread others over and over would cost exponentially. */
  readonly #entered = new Map<SelectionSetNode, Set<GraphQLCompositeType>>();

  constructor(info: GraphQLResolveInfo) {
    this.#info = info;
  }

  collect(selections: SelectionSetNode | undefined, output: GraphQLOutputType): void {
    const type = getNamedType(output);
    if (selections === undefined || !isCompositeType(type)) return;
    // Most of a document selects values, behind which there is nothing.
    if (selections.selections.every(isValue)) return;
    const entered = this.#entered.get(selections) ?? new Set();
    if (entered.has(type)) return;
    this.#entered.set(selections, entered.add(type));
    const possible = isAbstractType(type) ? this.#info.schema.getPossibleTypes(type) : [type];
    for (const one of possible) {
      for (const { field, node } of fieldsOf(this.#info, selections, one)) this.#enter(one, field, node);
    }
  }

  #enter(parent: GraphQLObjectType, field: GraphQLField<unknown, unknown>, node: FieldNode): void {
    if (parent.name === "Session") {
      // Another session: it has a reading of its own.
      if (field.name === "forkedFrom") return;
      if (field.name === "messages") this.#add(argumentsOf(this.#info, field, node));
    }
    const type = getNamedType(field.type);
    // What is behind an abstract type may be a session.
    if (type.name === "Session" || isAbstractType(type)) this.leadToSession = true;
    this.collect(node.selectionSet, type);
  }

  #add(args: Readonly<Record<string, unknown>> | null): void {
    if (args === null) return;
    try {
      const page = messagePage(args);
      if (!this.found.some((other) => samePage(other, page))) this.found.push(page);
    } catch {
      // Arguments that are refused are the error of that field alone: its resolver finds them wrong again.
    }
  }
}

function isValue(selection: SelectionNode): boolean {
  return selection.kind === Kind.FIELD && selection.selectionSet === undefined;
}

/** null where they are refused: executing the field says why. */
function argumentsOf(
  info: GraphQLResolveInfo,
  field: GraphQLField<unknown, unknown>,
  node: FieldNode,
): Readonly<Record<string, unknown>> | null {
  try {
    return getArgumentValues(field, node, info.variableValues);
  } catch {
    return null;
  }
}

interface Selected {
  readonly field: GraphQLField<unknown, unknown>;
  readonly node: FieldNode;
}

/** The fields of a selection on `type`, also those inside of @defer. */
function fieldsOf(
  { schema, fragments, variableValues }: GraphQLResolveInfo,
  selections: SelectionSetNode,
  type: GraphQLObjectType,
): readonly Selected[] {
  const nodes = [...collectFields(schema, fragments, variableValues, type, selections).values()].flat();
  const fields = type.getFields();
  return nodes.flatMap((node) => {
    const field = fields[node.name.value]; // undefined: __typename, or the introspection's
    return field === undefined ? [] : [{ field, node }];
  });
}

function isIncluded({ variableValues }: GraphQLResolveInfo, node: SelectionNode): boolean {
  if (node.directives === undefined || node.directives.length === 0) return true;
  return (
    getDirectiveValues(GraphQLSkipDirective, node, variableValues)?.["if"] !== true &&
    getDirectiveValues(GraphQLIncludeDirective, node, variableValues)?.["if"] !== false
  );
}

/** graphql 16 has no @defer of its own: the executor that answers it brings the directive. */
function isDeferred({ variableValues }: GraphQLResolveInfo, node: SelectionNode): boolean {
  const defer = node.directives?.find((directive) => directive.name.value === "defer");
  const condition = defer?.arguments?.find((argument) => argument.name.value === "if");
  return (
    defer !== undefined && (condition === undefined || valueFromASTUntyped(condition.value, variableValues) !== false)
  );
}
