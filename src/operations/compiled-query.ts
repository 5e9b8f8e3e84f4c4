import {
  getArgumentValues,
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
  ExecutionResult,
  FieldNode,
  FragmentDefinitionNode,
  GraphQLError,
  GraphQLField,
  GraphQLObjectType,
  GraphQLOutputType,
  GraphQLResolveInfo,
  GraphQLSchema,
  OperationDefinitionNode,
} from "graphql";
import { collectFields, collectSubfields } from "graphql/execution/collectFields.js";
import { completeLeaf, completeList, completeObject, completeWritten, nullText, Run } from "./completers.ts";
import type { Arguments, Complete, FieldPlan, Path } from "./completers.ts";
import type { Context } from "../graphql/context.ts";
import { uncountedResolver } from "../graphql/answer-budget.ts";
import { writtenPropertyOf } from "../graphql/reading/written.ts";
import { WrittenResult } from "./results.ts";

// A query that comes again and again is compiled: what the executor finds out anew for each value of each answer (which
// fields, of which types, with which arguments) is found out once. An answer is written as JSON text from the start: much of
// it lies ready in a row of the history, and no objects are made only to be written.

/** Beyond it, a document's plans could be many: one for each choice of what is skipped. */
const mostConditions = 4;
/** So many choices come again and again; the executor has the others. */
const mostPlans = 4;

/** Executes one event of a subscription; `event`: what the root field is resolved from. */
export type ExecuteEvent = (context: Context, event: object) => ExecutionResult | Promise<ExecutionResult>;

/**
 * A query of a valid document, or the events of a subscription. Mutations are the executor's; so are @defer and introspection.
 */
export class CompiledQuery {
  readonly #schema: GraphQLSchema;
  readonly #document: DocumentNode;
  readonly #operation: OperationDefinitionNode;
  readonly #mostFields: number;
  /** Variables that decide what is skipped: for each of their values a plan of its own. */
  readonly #conditions: readonly string[];
  readonly #plans = new Map<string, Complete | null>();

  /** `mostFields`: a plan with more is not made; fragments that are spread again and again make it longer than its document. */
  constructor(schema: GraphQLSchema, document: DocumentNode, operation: OperationDefinitionNode, mostFields: number) {
    this.#schema = schema;
    this.#document = document;
    this.#operation = operation;
    this.#mostFields = mostFields;
    this.#conditions = conditionsOf(document);
  }

  /** As graphql-js answers. null: no plan is made of this query. */
  run(
    context: Context,
    variables: Readonly<Record<string, unknown>>,
  ): ExecutionResult | Promise<ExecutionResult> | null {
    const { errors, coerced } = this.#coerced(variables);
    if (errors !== undefined) return { errors };
    const plan = this.#plan(coerced);
    return plan && carryOut(plan, new Run(context, coerced, undefined));
  }

  /** Of a subscription that has begun with these variables. null: no plan is made of it. */
  events(variables: Readonly<Record<string, unknown>>): ExecuteEvent | null {
    const { coerced } = this.#coerced(variables);
    const plan = coerced === undefined ? null : this.#plan(coerced);
    if (plan === null || coerced === undefined) return null;
    const args = new Map<readonly FieldNode[], Arguments>();
    return (context, event) => carryOut(plan, new Run(context, coerced, event, args));
  }

  #coerced(variables: Readonly<Record<string, unknown>>): ReturnType<typeof getVariableValues> {
    return getVariableValues(this.#schema, this.#operation.variableDefinitions ?? [], variables, { maxErrors: 50 });
  }

  #plan(variableValues: Readonly<Record<string, unknown>>): Complete | null {
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

  #compile(variableValues: Readonly<Record<string, unknown>>): Complete | null {
    const root = this.#schema.getRootType(this.#operation.operation);
    if (!root) return null;
    const compiler = new Compiler(this.#schema, this.#document, this.#operation, variableValues, this.#mostFields);
    try {
      return compiler.operation(root);
    } catch (error) {
      if (error === unusual) return null;
      throw error;
    }
  }
}

function carryOut(plan: Complete, run: Run): ExecutionResult | Promise<ExecutionResult> {
  const failed = (error: unknown) => {
    run.add(error as GraphQLError, undefined); // completers throw what they have located
    return resultOf(nullText, run);
  };
  try {
    const data = plan(run.rootValue, run, undefined);
    return data instanceof Promise ? data.then((settled) => resultOf(settled, run), failed) : resultOf(data, run);
  } catch (error) {
    return failed(error);
  }
}

function resultOf(data: string, { errors }: Run): ExecutionResult {
  const written = new WrittenResult(`{"data":${data}}`);
  return errors.length === 0 ? written : { errors, data: written.data };
}

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

  operation(type: GraphQLObjectType): Complete {
    const { selectionSet } = this.#operation;
    return this.#object(type, collectFields(this.#schema, this.#fragments, this.#variableValues, type, selectionSet));
  }

  #object(type: GraphQLObjectType, selected: ReadonlyMap<string, readonly FieldNode[]>): Complete {
    const fields: FieldPlan[] = [];
    for (const [key, nodes] of selected) {
      // An alias may be called so; a plain object's key may not.
      if (--this.#fieldsLeft < 0 || key === "__proto__") refuse();
      fields.push(this.#field(type, key, nodes));
    }
    return completeObject(fields);
  }

  #field(parentType: GraphQLObjectType, key: string, nodes: readonly FieldNode[]): FieldPlan {
    const parentName = parentType.name;
    const [node = refuse()] = nodes;
    if (node.name.value === TypeNameMetaFieldDef.name) {
      const written = JSON.stringify(parentName);
      return {
        key,
        parentName,
        read: () => parentName,
        complete: () => written,
        isNonNull: true,
        nodes,
        plainKey: key,
      };
    }
    const field = parentType.getFields()[node.name.value] ?? refuse(); // introspection
    const complete = this.#output(field, parentType, nodes);
    const isResolved = uncountedResolver(field) !== undefined;
    const read = isResolved ? this.#resolver(field, parentType, nodes) : readProperty(field);
    const plainKey = isResolved || !isLeafType(getNullableType(field.type)) ? null : key;
    return { key, parentName, read, complete, isNonNull: isNonNullType(field.type), nodes, plainKey };
  }

  #resolver(
    field: GraphQLField<unknown, unknown>,
    parentType: GraphQLObjectType,
    nodes: readonly FieldNode[],
  ): FieldPlan["read"] {
    const resolve = uncountedResolver(field) ?? refuse();
    const [node = refuse()] = nodes;
    const infoOf = this.#infoOf(field, parentType, nodes);
    return (source, run, path) => {
      let args = noArguments;
      try {
        if (field.args.length > 0) {
          args = run.args?.get(nodes) ?? getArgumentValues(field, node, run.variableValues);
          run.args?.set(nodes, args);
        }
      } catch (error) {
        return error;
      }
      try {
        return resolve(source, args, run.context, infoOf(run, path));
      } catch (error) {
        return Promise.reject(error instanceof Error ? error : new Error(String(error)));
      }
    };
  }

  /** What the executor tells a resolver of where it is. */
  #infoOf(
    { name: fieldName, type: returnType }: GraphQLField<unknown, unknown>,
    parentType: GraphQLObjectType,
    fieldNodes: readonly FieldNode[],
  ): (run: Run, path: Path | undefined) => GraphQLResolveInfo {
    const schema = this.#schema;
    const fragments = this.#fragments;
    const operation = this.#operation;
    // One literal: spreading parts into it takes several times as long, for each field of each answer.
    return ({ variableValues, rootValue }, path = rootPath) => ({
      fieldName,
      fieldNodes,
      returnType,
      parentType,
      path,
      schema,
      fragments,
      rootValue,
      operation,
      variableValues,
    });
  }

  #output(
    field: GraphQLField<unknown, unknown>,
    parentType: GraphQLObjectType,
    nodes: readonly FieldNode[],
    type = field.type,
  ): Complete {
    const complete = this.#present(getNullableType(type), field, parentType, nodes);
    const isNonNull = isNonNullType(type);
    return (value, run, path) => {
      if (value instanceof Error) throw value;
      if (value !== null && value !== undefined) return complete(value, run, path);
      if (!isNonNull) return nullText;
      throw new Error(`Cannot return null for non-nullable field ${parentType.name}.${field.name}.`);
    };
  }

  /** Of a value that is neither null nor undefined. */
  #present(
    type: GraphQLOutputType,
    field: GraphQLField<unknown, unknown>,
    parentType: GraphQLObjectType,
    nodes: readonly FieldNode[],
  ): Complete {
    if (isLeafType(type)) return writtenPropertyOf(field) === null ? completeLeaf(type) : completeWritten;
    if (isListType(type)) {
      const complete = this.#output(field, parentType, nodes, type.ofType);
      return completeList({ complete, isNonNull: isNonNullType(type.ofType), nodes, plainKey: null });
    }
    const objectOf = (one: GraphQLObjectType) =>
      this.#object(one, collectSubfields(this.#schema, this.#fragments, this.#variableValues, one, nodes));
    if (isObjectType(type)) return objectOf(type);
    if (!isAbstractType(type)) return refuse();
    const resolveType = type.resolveType ?? refuse();
    const infoOf = this.#infoOf(field, parentType, nodes);
    const possible = new Map<unknown, Complete>(
      this.#schema.getPossibleTypes(type).map((one) => [one.name, objectOf(one)]),
    );
    return (value, run, path) => {
      const complete = possible.get(resolveType(value, run.context, infoOf(run, path), type));
      if (complete === undefined) throw new TypeError(`A value of type ${type.name} has none of its types.`);
      return complete(value, run, path);
    };
  }
}

const noArguments: Arguments = Object.freeze({});

/** Never seen outside: it says that no plan is made. */
const unusual = new Error("Not foreseen by the compiled query.");

function refuse(): never {
  throw unusual;
}

/** Where nobody asks. */
const rootPath: Path = { prev: undefined, key: "", typename: undefined };

/** As graphql's default resolver, of properties that are no functions. */
function readProperty(field: GraphQLField<unknown, unknown>): FieldPlan["read"] {
  if (field.args.length > 0) refuse();
  const name = writtenPropertyOf(field) ?? field.name;
  return (source) => (source as Readonly<Record<string, unknown>>)[name]; // an object: what its type is resolved from
}
