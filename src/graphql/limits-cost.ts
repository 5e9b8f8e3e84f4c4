import {
  getNamedType,
  isCompositeType,
  isListType,
  isNonNullType,
  isUnionType,
  Kind,
  SchemaMetaFieldDef,
  TypeMetaFieldDef,
  valueFromASTUntyped,
} from "graphql";
import type {
  DocumentNode,
  FieldNode,
  FragmentDefinitionNode,
  FragmentSpreadNode,
  GraphQLField,
  GraphQLNamedType,
  GraphQLOutputType,
  GraphQLSchema,
  InlineFragmentNode,
  OperationDefinitionNode,
  SelectionSetNode,
  ValueNode,
} from "graphql";
import { isObject } from "../conversation/message/json.ts";
import { tooComplex } from "./limits.ts";

// The cost of an operation: how many objects and plain values its answer may come to hold, each item of a list counted
// with all that is asked of it. What the document alone tells is summed up once, in time proportional to its length (each fragment once,
// however often it is spread); per request only the page sizes that variables give are put in.

/** How long a field's list can be: `extensions.listSize` of the field in the schema. */
type ListSize =
  /** A connection: by its arguments `first` and `last`; `usual` where it has neither, never more than `most`. */
  | { readonly by: "page"; readonly usual: number; readonly most: number }
  /**
   * As long as the list that it is given: "ids", "input.messages". Of lists right below it, too. `free`: so many values of
   * each item count for nothing, once in an operation: who may send it may read it back, however much that is.
   */
  | { readonly by: "argument"; readonly argument: string; readonly most: number; readonly free?: number };

/** A field's `extensions`. */
export function listSize(size: ListSize): { readonly listSize: ListSize } {
  return { listSize: size };
}

/**
 * For lists that nothing is known of: a message's blocks and tool calls, the runs that wait. They have pages nowhere because
 * they are short: each is bounded where it is written, and more than a few are rare.
 */
const unknownListSize = 5;
/** A deferred part is an answer of its own. */
const deferredCost = 20;

/** The cost of a selection: c = own + list · n, n being the length of the lists that stand right in it. */
interface Cost {
  readonly own: number;
  readonly list: number;
  /** How much of `own` does not count. */
  readonly free: number;
}

/** As far as the document tells, and what hangs on variables. */
interface Block extends Cost {
  readonly fields: readonly Part[];
  readonly fragments: readonly Block[];
}

/** A field (its item, if it is a list) with what is below it. */
interface Part {
  readonly block: Block;
  /** `own`: counts once for the selection that it stands in; `list`: once for each of its items. */
  readonly counts: "own" | "list";
  /** How many items it has itself. */
  readonly items: Size;
  /** How many items the lists right below it have. */
  readonly below: Size;
  /** So many values of each of these are free. */
  readonly free: number;
}

type Variables = Readonly<Record<string, unknown>>;
/** Fixed, or to be asked of the variables. */
type Size = number | ((variables: Variables) => number);

/** What an operation costs, as far as the document tells. */
export type CostPlan = Block;

/** For a valid document. */
export function planCost(schema: GraphQLSchema, document: DocumentNode, operation: OperationDefinitionNode): CostPlan {
  return new Planner(schema, document, operation).root();
}

/** How many values it asks for, and how many of these are free. */
export function costOf(plan: CostPlan, variables: Variables): { readonly values: number; readonly free: number } {
  const { own, list, free } = sum(plan, variables, new Map());
  return { values: own + list * unknownListSize, free };
}

/** @throws {ParleyError} TOO_COMPLEX */
export function checkCost(plan: CostPlan, variables: Variables, maxCost: number): void {
  const { values, free } = costOf(plan, variables);
  const cost = values - free;
  if (cost <= maxCost) return;
  const asked = Number.isFinite(cost) ? `up to ${Math.ceil(cost)}` : "endlessly many";
  throw tooComplex(
    "queryCost",
    `The operation asks for ${asked} values; at most ${maxCost} are given. Ask for shorter pages, or for fewer fields.`,
  );
}

function isSettled({ fields, fragments }: Block): boolean {
  return fields.length === 0 && fragments.length === 0;
}

/** Each block once, however often it is spread. Calls itself as deep as documents are nested: limits.ts bounds that. */
function sum(block: Block, variables: Variables, known: Map<Block, Cost>): Cost {
  if (isSettled(block)) return block;
  const before = known.get(block);
  if (before !== undefined) return before;
  let { own, list, free } = block;
  for (const part of block.fields) {
    const cost = costOfPart(part, sum(part.block, variables, known), variables);
    if (part.counts === "own") own += cost;
    else list += cost;
    // Of several the largest alone: the same variable may be given to each.
    if (part.free > 0) free = Math.max(free, Math.min(cost, part.free * valueOf(part.below, variables)));
  }
  for (const fragment of block.fragments) {
    const cost = sum(fragment, variables, known);
    own += cost.own;
    list += cost.list;
    free = Math.max(free, cost.free);
  }
  const cost: Cost = { own, list, free };
  known.set(block, cost);
  return cost;
}

function costOfPart({ items, below }: Part, { own, list }: Omit<Cost, "free">, variables: Variables): number {
  return valueOf(items, variables) * (1 + own + list * valueOf(below, variables));
}

function valueOf(size: Size, variables: Variables): number {
  return typeof size === "number" ? size : size(variables);
}

const noVariables: Variables = {};

class Planner {
  readonly #schema: GraphQLSchema;
  readonly #operation: OperationDefinitionNode;
  readonly #fragments = new Map<string, FragmentDefinitionNode>();
  readonly #spreads = new Map<string, Block>();

  constructor(schema: GraphQLSchema, document: DocumentNode, operation: OperationDefinitionNode) {
    this.#schema = schema;
    this.#operation = operation;
    for (const definition of document.definitions) {
      if (definition.kind === Kind.FRAGMENT_DEFINITION) this.#fragments.set(definition.name.value, definition);
    }
  }

  root(): Block {
    return this.#block(this.#operation.selectionSet, this.#schema.getRootType(this.#operation.operation) ?? null);
  }

  /** Calls itself as deep as documents are nested, like sum(). */
  #block({ selections }: SelectionSetNode, type: GraphQLNamedType | null): Block {
    let own = 0;
    let list = 0;
    const fields: Part[] = [];
    const fragments: Block[] = [];
    for (const selection of selections) {
      if (selection.kind === Kind.FIELD) {
        const part = this.#field(selection, type);
        if (part === null) own += 1;
        else if (!isFixed(part)) fields.push(part);
        else if (part.counts === "own") own += costOfPart(part, part.block, noVariables);
        else list += costOfPart(part, part.block, noVariables);
        continue;
      }
      if (selection.directives?.some(({ name }) => name.value === "defer") === true) own += deferredCost;
      const inner = selection.kind === Kind.FRAGMENT_SPREAD ? this.#spread(selection) : this.#inline(selection, type);
      if (isSettled(inner)) {
        own += inner.own;
        list += inner.list;
      } else fragments.push(inner);
    }
    return { own, list, free: 0, fields, fragments };
  }

  #spread({ name: { value: name } }: FragmentSpreadNode): Block {
    const known = this.#spreads.get(name);
    if (known !== undefined) return known;
    const fragment = this.#fragments.get(name);
    if (fragment === undefined) return { own: 0, list: 0, free: 0, fields: [], fragments: [] };
    const block = this.#inline(fragment, null);
    this.#spreads.set(name, block);
    return block;
  }

  #inline(fragment: InlineFragmentNode | FragmentDefinitionNode, type: GraphQLNamedType | null): Block {
    const { typeCondition, selectionSet } = fragment;
    return this.#block(selectionSet, typeCondition ? (this.#schema.getType(typeCondition.name.value) ?? null) : type);
  }

  /** null for a value that is no object, nor a list of such. */
  #field(node: FieldNode, parent: GraphQLNamedType | null): Part | null {
    if (node.selectionSet === undefined) return null;
    const field = this.#definition(node, parent);
    const named = field ? getNamedType(field.type) : null;
    const block = this.#block(node.selectionSet, named);
    const isList = field !== null && holdsList(field.type);
    const size = field === null ? null : this.#sizeOf(field, node);
    if (!isList) return { block, counts: "own", items: 1, below: size ?? unknownListSize, free: freeOf(field) };
    if (size === null) return { block, counts: "list", items: 1, below: unknownListSize, free: 0 };
    return { block, counts: "own", items: size, below: unknownListSize, free: 0 };
  }

  #definition(node: FieldNode, parent: GraphQLNamedType | null): GraphQLField<unknown, unknown> | null {
    const name = node.name.value;
    if (parent === this.#schema.getQueryType()) {
      if (name === SchemaMetaFieldDef.name) return SchemaMetaFieldDef;
      if (name === TypeMetaFieldDef.name) return TypeMetaFieldDef;
    }
    if (parent === null || !isCompositeType(parent) || isUnionType(parent)) return null;
    return parent.getFields()[name] ?? null;
  }

  /** null: nothing is known of it. */
  #sizeOf(field: GraphQLField<unknown, unknown>, node: FieldNode): Size | null {
    const size = sizeExtension(field);
    if (size === undefined) return null;
    const limit = (count: number) => Math.min(Math.max(count, 0), size.most);
    const given = (name: string) => node.arguments?.find((argument) => argument.name.value === name)?.value;
    if (size.by === "argument") {
      const [name = "", ...path] = size.argument.split(".");
      return this.#read(given(name), path, (value) => limit(Array.isArray(value) ? value.length : 1));
    }
    const first = this.#read(given("first"), [], countOf);
    const last = this.#read(given("last"), [], countOf);
    // Both are refused by the field itself.
    const page = (variables: Variables) => {
      const count = Math.max(valueOf(first, variables), valueOf(last, variables));
      return limit(count < 0 ? size.usual : count);
    };
    return typeof first === "number" && typeof last === "number" ? page(noVariables) : page;
  }

  /** What `count` makes of an argument's value, or of what lies at `path` in it: now, if no variable has a say in it. */
  #read(node: ValueNode | undefined, path: readonly string[], count: (value: unknown) => number): Size {
    if (node === undefined) return count(undefined);
    if (node.kind === Kind.VARIABLE) {
      const name = node.name.value;
      const definition = this.#operation.variableDefinitions?.find(({ variable }) => variable.name.value === name);
      const fallback = definition?.defaultValue && valueFromASTUntyped(definition.defaultValue);
      return (variables) => {
        let value: unknown = Object.hasOwn(variables, name) ? variables[name] : fallback;
        for (const key of path) value = isObject(value) ? value[key] : undefined;
        return count(value);
      };
    }
    const [key, ...rest] = path;
    if (key !== undefined && node.kind === Kind.OBJECT) {
      return this.#read(node.fields.find(({ name }) => name.value === key)?.value, rest, count);
    }
    if (node.kind === Kind.LIST) return count(node.values);
    if (node.kind === Kind.INT) return count(Number(node.value));
    return count(undefined);
  }
}

function sizeExtension(field: GraphQLField<unknown, unknown>): ListSize | undefined {
  // Set nowhere but in this folder, where it is typed.
  return field.extensions["listSize"] as ListSize | undefined;
}

function freeOf(field: GraphQLField<unknown, unknown> | null): number {
  const size = field === null ? undefined : sizeExtension(field);
  return size?.by === "argument" ? (size.free ?? 0) : 0;
}

/** No variable has a say in it. */
function isFixed({ block, items, below, free }: Part): boolean {
  return isSettled(block) && typeof items === "number" && typeof below === "number" && free === 0;
}

/** -1: none is given. What is no number is refused before it is a page's size. */
function countOf(value: unknown): number {
  return typeof value === "number" ? Math.max(value, 0) : -1;
}

function holdsList(type: GraphQLOutputType): boolean {
  return isListType(isNonNullType(type) ? type.ofType : type);
}
