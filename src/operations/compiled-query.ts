import {
  getArgumentValues,
  getDirectiveValues,
  getNullableType,
  getVariableValues,
  GraphQLIncludeDirective,
  GraphQLSkipDirective,
  isAbstractType,
  isLeafType,
  isListType,
  isNonNullType,
  isObjectType,
  Kind,
  TypeNameMetaFieldDef,
  visit,
} from "graphql";
import type {
  DocumentNode,
  FieldNode,
  FragmentDefinitionNode,
  GraphQLAbstractType,
  GraphQLField,
  GraphQLObjectType,
  GraphQLOutputType,
  GraphQLResolveInfo,
  GraphQLSchema,
  OperationDefinitionNode,
  SelectionNode,
  SelectionSetNode,
} from "graphql";

import { roomWith } from "../conversation/recurring.ts";
import type { Spent } from "../graphql/answer-budget.ts";
import { completeLeaf, completeList, completeObject, refuse, unusual } from "./completers.ts";
import type { Complete, Completer, FieldPlan, Path, Run } from "./completers.ts";
import type { Context } from "../graphql/context.ts";
import { uncountedResolver } from "../graphql/counted-fields.ts";
import type { SessionParent } from "../graphql/reading/readings.ts";
import { keepRendered, renderedBefore } from "../graphql/rendered.ts";

// A query that comes again and again is compiled: what the executor finds out anew for each value of each answer (which
// fields, of which types, with which arguments) is found out once. An answer is made of plain objects, each with its keys
// in one order, which is what JSON.stringify is fastest with (writing text piece by piece took half as long again).
//
// What a root field makes of a session that recurs (conversation/recurring.ts) is kept with it as text, where nothing else was read.
//
// Only the straight way is compiled. Whatever is unusual (an error, a null where none may be, a value of a form that is
// not foreseen here) ends in `null`, and the caller has the executor do it all again: a query may be executed twice, and
// errors keep the executor's own words.

/** Beyond it, a document's plans could be many: one for each choice of what is skipped. */
const mostConditions = 4;
/** So many choices come again and again; the executor has the others. */
const mostPlans = 4;

/**
 * A query of a valid document. Subscriptions and mutations are the executor's; so are @defer and introspection.
 */
export class CompiledQuery {
  readonly #schema: GraphQLSchema;
  readonly #document: DocumentNode;
  readonly #operation: OperationDefinitionNode;
  readonly #mostFields: number;
  /** Variables that decide what is skipped: for each of their values a plan of its own. */
  readonly #conditions: readonly string[];
  readonly #plans = new Map<string, Completer | null>();

  /** `mostFields`: a plan with more is not made; fragments that are spread again and again make it longer than its document. */
  constructor(schema: GraphQLSchema, document: DocumentNode, operation: OperationDefinitionNode, mostFields: number) {
    this.#schema = schema;
    this.#document = document;
    this.#operation = operation;
    this.#mostFields = mostFields;
    this.#conditions = conditionsOf(document);
  }

  /**
   * `data` of an answer without errors, fit for JSON; a root field's value may be Rendered. null: the executor has to answer.
   * Never throws or rejects: `onFailure` is called with why, where something was thrown.
   */
  run(
    context: Context,
    variables: Readonly<Record<string, unknown>> | null | undefined,
    onFailure: (error: unknown) => void = () => undefined,
  ): object | null | Promise<object | null> {
    try {
      const definitions = this.#operation.variableDefinitions ?? [];
      const variableValues =
        definitions.length === 0 ? noVariables : getVariableValues(this.#schema, definitions, variables ?? {}).coerced;
      const plan = variableValues === undefined ? null : this.#plan(variableValues);
      if (variableValues === undefined || plan === null) return null;
      const data = plan.complete(undefined, { context, variableValues }, undefined) as object | Promise<object>; // of a type
      if (!(data instanceof Promise)) return data;
      return data.catch((error: unknown) => {
        onFailure(error);
        return null;
      });
    } catch (error) {
      onFailure(error);
      return null;
    }
  }

  #plan(variableValues: Readonly<Record<string, unknown>>): Completer | null {
    if (this.#conditions.length > mostConditions) return null;
    const key = this.#conditions.map((name) => String(variableValues[name])).join();
    let plan = this.#plans.get(key);
    if (plan === undefined) {
      if (this.#plans.size === mostPlans) return null;
      plan = this.#compile(variableValues);
      this.#plans.set(key, plan);
    }
    return plan;
  }

  #compile(variableValues: Readonly<Record<string, unknown>>): Completer | null {
    const root = this.#schema.getQueryType();
    if (!root) return null;
    const compiler = new Compiler(this.#schema, this.#document, this.#operation, variableValues, this.#mostFields);
    try {
      return compiler.object(root, [this.#operation.selectionSet]);
    } catch (error) {
      if (error === unusual) return null;
      throw error;
    }
  }
}

const noVariables: Readonly<Record<string, unknown>> = Object.freeze({});

function conditionsOf(document: DocumentNode): readonly string[] {
  const names = new Set<string>();
  visit(document, {
    Directive({ name: { value: directive }, arguments: given = [] }) {
      if (directive !== GraphQLSkipDirective.name && directive !== GraphQLIncludeDirective.name) return;
      for (const { value } of given) if (value.kind === Kind.VARIABLE) names.add(value.name.value);
    },
  });
  return [...names];
}

class Compiler {
  readonly #schema: GraphQLSchema;
  readonly #operation: OperationDefinitionNode;
  /** Of what decides what is skipped; all others differ from run to run. */
  readonly #variableValues: Readonly<Record<string, unknown>>;
  readonly #fragments: Record<string, FragmentDefinitionNode> = Object.create(null) as Record<
    string,
    FragmentDefinitionNode
  >; // as graphql's own
  #fieldsLeft: number;

  constructor(
    schema: GraphQLSchema,
    document: DocumentNode,
    operation: OperationDefinitionNode,
    variableValues: Readonly<Record<string, unknown>>,
    mostFields: number,
  ) {
    this.#schema = schema;
    this.#operation = operation;
    this.#variableValues = variableValues;
    this.#fieldsLeft = mostFields;
    for (const definition of document.definitions)
      if (definition.kind === Kind.FRAGMENT_DEFINITION) this.#fragments[definition.name.value] = definition;
  }

  object(type: GraphQLObjectType, selections: readonly SelectionSetNode[]): Completer {
    const collected = new Map<string, FieldNode[]>();
    const opened = new Set<string>();
    for (const set of selections) this.#collect(type, set, collected, opened);
    const fields: FieldPlan[] = [];
    for (const [key, nodes] of collected) {
      // An alias may be called so; a plain object's key may not.
      if (--this.#fieldsLeft < 0 || key === "__proto__") refuse();
      fields.push(this.#field(type, key, nodes));
    }
    return { complete: completeObject(fields), resolves: fields.some(({ resolves }) => resolves) };
  }

  /** As the specification's CollectFields has it: a key stands where it is met first. */
  #collect(
    type: GraphQLObjectType,
    { selections }: SelectionSetNode,
    fields: Map<string, FieldNode[]>,
    opened: Set<string>,
  ): void {
    for (const selection of selections) {
      if (!this.#isIncluded(selection)) continue;
      if (selection.kind === Kind.FIELD) {
        const key = (selection.alias ?? selection.name).value;
        const nodes = fields.get(key);
        if (nodes === undefined) fields.set(key, [selection]);
        else nodes.push(selection);
        continue;
      }
      if (selection.kind === Kind.FRAGMENT_SPREAD) {
        if (opened.has(selection.name.value)) continue;
        opened.add(selection.name.value);
      }
      const fragment =
        selection.kind === Kind.INLINE_FRAGMENT ? selection : (this.#fragments[selection.name.value] ?? refuse());
      if (this.#matches(type, fragment.typeCondition?.name.value)) {
        this.#collect(type, fragment.selectionSet, fields, opened);
      }
    }
  }

  #isIncluded(node: SelectionNode): boolean {
    if (node.directives === undefined || node.directives.length === 0) return true;
    return (
      getDirectiveValues(GraphQLSkipDirective, node, this.#variableValues)?.["if"] !== true &&
      getDirectiveValues(GraphQLIncludeDirective, node, this.#variableValues)?.["if"] !== false
    );
  }

  #matches(type: GraphQLObjectType, condition: string | undefined): boolean {
    if (condition === undefined || condition === type.name) return true;
    const conditional = this.#schema.getType(condition);
    return isAbstractType(conditional) && this.#schema.isSubType(conditional, type);
  }

  #field(parentType: GraphQLObjectType, key: string, nodes: readonly FieldNode[]): FieldPlan {
    const parentName = parentType.name;
    const [node = refuse()] = nodes;
    if (node.name.value === TypeNameMetaFieldDef.name) {
      return { key, parentName, read: () => parentName, complete: () => parentName, resolves: false };
    }
    const field = parentType.getFields()[node.name.value] ?? refuse(); // introspection
    const output = this.#output(field.type, parentType, nodes);
    const { resolves } = output;
    const isRoot = parentType === this.#schema.getQueryType();
    const complete =
      isRoot && getNullableType(field.type).toString() === "Session" ? rendering(output.complete) : output.complete;
    if (uncountedResolver(field) === undefined)
      return { key, parentName, read: readProperty(field), complete, resolves };
    return { key, parentName, read: this.#resolver(field, parentType, nodes), complete, resolves: true };
  }

  #resolver(
    field: GraphQLField<unknown, unknown>,
    parentType: GraphQLObjectType,
    nodes: readonly FieldNode[],
  ): FieldPlan["read"] {
    const { name, type } = field;
    const resolve = uncountedResolver(field) ?? refuse();
    const [node = refuse()] = nodes;
    const argumentsOf = argumentReader(field, node);
    const infoOf = this.#infoOf(name, type, parentType, nodes);
    return (source, run, path) => resolve(source, argumentsOf(run), run.context, infoOf(run, path));
  }

  /** What the executor tells a resolver of where it is. */
  #infoOf(
    fieldName: string,
    returnType: GraphQLOutputType,
    parentType: GraphQLObjectType,
    fieldNodes: readonly FieldNode[],
  ): (run: Run, path: Path | undefined) => GraphQLResolveInfo {
    const schema = this.#schema;
    const fragments = this.#fragments;
    const operation = this.#operation;
    const rootValue = undefined;
    return ({ variableValues }, path = rootPath) => ({
      ...{ fieldName, fieldNodes, returnType, parentType, path },
      ...{ schema, fragments, rootValue, operation, variableValues },
    });
  }

  #output(type: GraphQLOutputType, parentType: GraphQLObjectType, nodes: readonly FieldNode[]): Completer {
    const { complete, resolves } = this.#present(getNullableType(type), parentType, nodes);
    if (isNonNullType(type)) {
      return { complete: (value, run, path) => (value == null ? refuse() : complete(value, run, path)), resolves };
    }
    return { complete: (value, run, path) => (value == null ? null : complete(value, run, path)), resolves };
  }

  /** Of a value that is neither null nor undefined. */
  #present(type: GraphQLOutputType, parentType: GraphQLObjectType, nodes: readonly FieldNode[]): Completer {
    if (isLeafType(type)) return { complete: completeLeaf(type), resolves: false };
    if (isListType(type)) return completeList(this.#output(type.ofType, parentType, nodes));
    const selections = nodes.map(({ selectionSet }) => selectionSet ?? refuse());
    if (isObjectType(type)) return this.object(type, selections);
    return isAbstractType(type) ? this.#abstract(type, parentType, nodes, selections) : refuse();
  }

  #abstract(
    type: GraphQLAbstractType,
    parentType: GraphQLObjectType,
    nodes: readonly FieldNode[],
    selections: readonly SelectionSetNode[],
  ): Completer {
    const [node = refuse()] = nodes;
    const resolveType = type.resolveType ?? refuse();
    const infoOf = this.#infoOf(node.name.value, type, parentType, nodes);
    const possible = new Map<unknown, Completer>(
      this.#schema.getPossibleTypes(type).map((one) => [one.name, this.object(one, selections)]),
    );
    const complete: Complete = (value, run, path) => {
      const completer = possible.get(resolveType(value, run.context, infoOf(run, path), type)) ?? refuse();
      return completer.complete(value, run, path);
    };
    return { complete, resolves: true };
  }
}

/**
 * Of a session that recurs, what was made of it before. It is made of the session alone where its reading was the only one
 * of the operation: resolvers know nothing but their parent, their arguments and what they read.
 */
function rendering(complete: Complete): Complete {
  return (value, run, path) => {
    if (value == null || value instanceof Error) return complete(value, run, path);
    const { session } = value as SessionParent; // of the type Session
    if (roomWith(session) === 0) return complete(value, run, path);
    const variables = JSON.stringify(run.variableValues);
    const { context } = run;
    const before = renderedBefore(session, complete, variables);
    if (before !== null) {
      context.answer?.again(before.spent);
      return before;
    }
    const spent = context.answer?.spent ?? nothing;
    const keep = (whole: unknown) =>
      context.asked === 1
        ? keepRendered(session, complete, variables, whole, since(spent, context.answer?.spent ?? nothing))
        : whole;
    const completed = complete(value, run, path);
    return completed instanceof Promise ? completed.then(keep) : keep(completed);
  };
}

const nothing: Spent = { read: 0, made: 0 };

/** At least what this part cost: others may have been made meanwhile, and then the executor counts in the end. */
function since(before: Spent, now: Spent): Spent {
  return { read: now.read - before.read, made: now.made - before.made };
}

/** Where nobody asks. */
const rootPath: Path = { prev: undefined, key: "", typename: undefined };

/** As graphql's default resolver, for properties that are no functions. */
function readProperty({ name, args }: GraphQLField<unknown, unknown>): FieldPlan["read"] {
  if (args.length > 0) refuse();
  return (source) => {
    const value = (source as Readonly<Record<string, unknown>>)[name]; // an object: what its type is resolved from
    return typeof value === "function" ? refuse() : value;
  };
}

function argumentReader(field: GraphQLField<unknown, unknown>, node: FieldNode): (run: Run) => Record<string, unknown> {
  const variables: string[] = [];
  visit(node, {
    Variable: ({ name }) => void variables.push(name.value),
    // Of the field's arguments alone.
    SelectionSet: () => false,
  });
  if (variables.length > 0) return ({ variableValues }) => getArgumentValues(field, node, variableValues);
  try {
    const values = getArgumentValues(field, node);
    return () => values;
  } catch {
    return refuse();
  }
}
