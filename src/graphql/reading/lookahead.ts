import {
  getArgumentValues,
  getDirectiveValues,
  getNamedType,
  GraphQLIncludeDirective,
  GraphQLSkipDirective,
  isAbstractType,
  isCompositeType,
  isObjectType,
  isUnionType,
  Kind,
  OperationTypeNode,
  valueFromASTUntyped,
} from "graphql";
import type {
  FieldNode,
  GraphQLCompositeType,
  GraphQLField,
  GraphQLResolveInfo,
  SelectionNode,
  SelectionSetNode,
} from "graphql";

import type { PageRequest } from "../../conversation/session.ts";
import { parseGlobalId } from "./global-ids.ts";
import { messagePage, samePage } from "./paging.ts";

// One reading answers a whole operation (its fields must agree), so who reads has to know beforehand which pages of
// the history are asked for further down, behind aliases, fragments, variables and directives.

interface Selected {
  readonly parent: GraphQLCompositeType;
  readonly field: GraphQLField<unknown, unknown>;
  readonly node: FieldNode;
  /** Inside an active @defer. */
  readonly deferred: boolean;
}

/** The pages of a session's messages that are asked for below this field, each once, in no particular order. */
export function pagesBelow(info: GraphQLResolveInfo): readonly PageRequest[] {
  const pages = new Pages(info);
  for (const node of info.fieldNodes) pages.collect(node.selectionSet, namedTypeOf(info));
  return pages.found;
}

/** The same, or null where no field below this one leads to a session: nothing of it has to be read. */
export function pagesOfSessionBelow(info: GraphQLResolveInfo): readonly PageRequest[] | null {
  const pages = new Pages(info);
  for (const node of info.fieldNodes) pages.collect(node.selectionSet, namedTypeOf(info));
  return pages.leadToSession ? pages.found : null;
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
    const type = getNamedType(field.type);
    if (!isCompositeType(type) || !leadsTo(sessionId, field.name, argumentsOf(info, field, node))) continue;
    pages.collect(node.selectionSet, type);
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
  return info.fieldNodes
    .filter((node) => node.selectionSet !== undefined)
    .some((node) =>
      fieldsOf(info, node.selectionSet, namedTypeOf(info)).some(
        ({ field, deferred }) => !deferred && field.name === name,
      ),
    );
}

function namedTypeOf(info: GraphQLResolveInfo): GraphQLCompositeType {
  const type = getNamedType(info.returnType);
  if (!isCompositeType(type)) throw new TypeError(`${info.fieldName} has no selection to look into.`);
  return type;
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

  collect(selections: SelectionSetNode | undefined, type: GraphQLCompositeType): void {
    if (selections === undefined) return;
    const entered = this.#entered.get(selections) ?? new Set();
    if (entered.has(type)) return;
    this.#entered.set(selections, entered.add(type));
    for (const selected of fieldsOf(this.#info, selections, type)) this.#enter(selected);
  }

  #enter({ parent, field, node }: Selected): void {
    if (parent.name === "Session") {
      // Another session: it has a reading of its own.
      if (field.name === "forkedFrom") return;
      if (field.name === "messages") this.#add(argumentsOf(this.#info, field, node));
    }
    const type = getNamedType(field.type);
    // What is behind an abstract type may be a session.
    if (type.name === "Session" || isAbstractType(type)) this.leadToSession = true;
    if (isCompositeType(type)) this.collect(node.selectionSet, type);
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

/** The fields of a selection on `type`, fragments opened, skipped ones left out. */
function fieldsOf(
  info: GraphQLResolveInfo,
  selections: SelectionSetNode | undefined,
  type: GraphQLCompositeType,
): readonly Selected[] {
  const fields: Selected[] = [];
  const opened = new Set<string>();

  const visit = (set: SelectionSetNode, parent: GraphQLCompositeType, deferred: boolean): void => {
    for (const selection of set.selections) {
      if (!isIncluded(info, selection)) continue;
      if (selection.kind === Kind.FIELD) {
        const field = isUnionType(parent) ? undefined : parent.getFields()[selection.name.value];
        if (field !== undefined) fields.push({ parent, field, node: selection, deferred });
        continue;
      }
      const inDefer = deferred || isDeferred(info, selection);
      if (selection.kind === Kind.FRAGMENT_SPREAD) {
        const key = `${selection.name.value} ${inDefer}`;
        if (opened.has(key)) continue;
        opened.add(key);
      }
      const fragment = selection.kind === Kind.INLINE_FRAGMENT ? selection : info.fragments[selection.name.value];
      const condition = fragment?.typeCondition && info.schema.getType(fragment.typeCondition.name.value);
      const inner = isCompositeType(condition) ? condition : parent;
      // An object is never of another object type: such a fragment brings nothing here.
      if (fragment === undefined || (isObjectType(parent) && isObjectType(inner) && inner !== parent)) continue;
      visit(fragment.selectionSet, inner, inDefer);
    }
  };

  if (selections !== undefined) visit(selections, type, false);
  return fields;
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
