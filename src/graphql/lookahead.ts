import {
  getArgumentValues,
  getDirectiveValues,
  getNamedType,
  GraphQLIncludeDirective,
  GraphQLSkipDirective,
  isCompositeType,
  isObjectType,
  isUnionType,
  Kind,
  valueFromASTUntyped,
} from "graphql";
import type {
  FieldNode,
  FragmentDefinitionNode,
  GraphQLCompositeType,
  GraphQLField,
  GraphQLResolveInfo,
  SelectionNode,
  SelectionSetNode,
} from "graphql";

import type { PageRequest } from "../conversation/session.ts";
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
export function pagesBelow(info: GraphQLResolveInfo, type = namedTypeOf(info)): readonly PageRequest[] {
  const pages = new Pages(info);
  for (const node of info.fieldNodes) pages.collect(node.selectionSet, type);
  return pages.found;
}

/** The same below all fields of the query's root that `concerns` picks by name and arguments. */
export function pagesOfQuery(
  info: GraphQLResolveInfo,
  concerns: (name: string, args: Readonly<Record<string, unknown>>) => boolean,
): readonly PageRequest[] {
  const pages = new Pages(info);
  for (const { field, node } of fieldsOf(info, info.operation.selectionSet, info.parentType)) {
    const args = argumentsOf(info, field, node);
    const type = getNamedType(field.type);
    if (args !== null && concerns(field.name, args) && isCompositeType(type)) pages.collect(node.selectionSet, type);
  }
  return pages.found;
}

/** Whether the field `name` of what this field returns is selected and belongs to the first answer, not to a deferred one. */
export function selectsAtOnce(info: GraphQLResolveInfo, name: string): boolean {
  return info.fieldNodes
    .filter((node) => node.selectionSet !== undefined)
    .some((node) =>
      fieldsOf(info, node.selectionSet, namedTypeOf(info)).some(({ field, deferred }) => !deferred && field.name === name),
    );
}

function namedTypeOf(info: GraphQLResolveInfo): GraphQLCompositeType {
  const type = getNamedType(info.returnType);
  if (!isCompositeType(type)) throw new TypeError(`${info.fieldName} has no selection to look into.`);
  return type;
}

class Pages {
  readonly found: PageRequest[] = [];
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
      let fragment: { readonly typeCondition?: FragmentDefinitionNode["typeCondition"] | undefined; readonly selectionSet: SelectionSetNode } | undefined;
      if (selection.kind === Kind.FRAGMENT_SPREAD) {
        const key = `${selection.name.value} ${inDefer}`;
        if (opened.has(key)) continue;
        opened.add(key);
        fragment = info.fragments[selection.name.value];
      } else {
        fragment = selection;
      }
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
  return defer !== undefined && (condition === undefined || valueFromASTUntyped(condition.value, variableValues) !== false);
}
