import {
  getArgumentValues,
  getDirectiveValues,
  getNullableType,
  getVariableValues,
  GraphQLBoolean,
  GraphQLID,
  GraphQLIncludeDirective,
  GraphQLSkipDirective,
  GraphQLString,
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
  GraphQLLeafType,
  GraphQLObjectType,
  GraphQLOutputType,
  GraphQLResolveInfo,
  GraphQLSchema,
  OperationDefinitionNode,
  SelectionNode,
  SelectionSetNode,
} from "graphql";

import type { Context } from "./context.ts";

// A query that comes again and again is compiled: what the executor finds out anew for each value of each answer (which
// fields, of which types, with which arguments) is found out once, and the answer is written as JSON text at once.
//
// Only the straight way is compiled. Whatever is unusual (an error, a null where none may be, a value of a form that is
// not foreseen here) ends in `null`, and the caller has the executor do it all again: a query may be executed twice, and
// errors keep the executor's own words.

/** Text of JSON, or a promise of it. */
type Text = string | Promise<string>;

/** Of one value, which may be null; of a promise, when it is there. Throws for what is unusual. */
type Write = (value: unknown, run: Run, path: Path | undefined) => Text;

type Path = GraphQLResolveInfo["path"];

/** One execution. */
interface Run {
  readonly context: Context;
  readonly variableValues: Readonly<Record<string, unknown>>;
}

interface Writer {
  readonly write: Write;
  /** Something in it has a resolver, which may ask where it is. */
  readonly resolves: boolean;
}

interface FieldPlan extends Writer {
  /** Its name in the answer. */
  readonly key: string;
  readonly parentName: string;
  readonly read: (source: unknown, run: Run, path: Path | undefined) => unknown;
}

/** Never seen outside: it says that the executor is to do it. */
const unusual = new Error("Not foreseen by the compiled query.");

function refuse(): never {
  throw unusual;
}

/** Beyond it, a document's plans would be many: one for each choice of what is skipped. */
const mostConditions = 4;

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
  readonly #plans = new Map<string, Writer | null>();

  /** `mostFields`: a plan with more is not made; fragments that are spread again and again make it longer than its document. */
  constructor(schema: GraphQLSchema, document: DocumentNode, operation: OperationDefinitionNode, mostFields: number) {
    this.#schema = schema;
    this.#document = document;
    this.#operation = operation;
    this.#mostFields = mostFields;
    this.#conditions = conditionsOf(document);
  }

  /** The JSON of `data`, of an answer without errors. null: the executor has to answer. Never throws or rejects. */
  run(
    context: Context,
    variables: Readonly<Record<string, unknown>> | null | undefined,
  ): string | null | Promise<string | null> {
    try {
      const definitions = this.#operation.variableDefinitions ?? [];
      const variableValues =
        definitions.length === 0 ? noVariables : getVariableValues(this.#schema, definitions, variables ?? {}).coerced;
      if (variableValues === undefined) return null;
      const plan = this.#plan(variableValues);
      if (plan === null) return null;
      const text = plan.write(undefined, { context, variableValues }, undefined);
      return typeof text === "string" ? text : text.catch(() => null);
    } catch {
      return null;
    }
  }

  #plan(variableValues: Readonly<Record<string, unknown>>): Writer | null {
    if (this.#conditions.length > mostConditions) return null;
    const key = this.#conditions.map((name) => String(variableValues[name])).join();
    let plan = this.#plans.get(key);
    if (plan === undefined) {
      plan = this.#compile(variableValues);
      this.#plans.set(key, plan);
    }
    return plan;
  }

  #compile(variableValues: Readonly<Record<string, unknown>>): Writer | null {
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

  object(type: GraphQLObjectType, selections: readonly SelectionSetNode[]): Writer {
    const collected = new Map<string, FieldNode[]>();
    const opened = new Set<string>();
    for (const set of selections) this.#collect(type, set, collected, opened);
    const fields: FieldPlan[] = [];
    for (const [key, nodes] of collected) {
      if (--this.#fieldsLeft < 0) refuse();
      fields.push(this.#field(type, key, nodes));
    }
    return { write: writeObject(fields), resolves: fields.some(({ resolves }) => resolves) };
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
      const text = JSON.stringify(parentName);
      return { key, parentName, read: () => parentName, write: () => text, resolves: false };
    }
    const field = parentType.getFields()[node.name.value] ?? refuse(); // introspection
    const { write, resolves } = this.#output(field.type, parentType, nodes);
    if (field.resolve === undefined) return { key, parentName, read: readProperty(field), write, resolves };
    return { key, parentName, read: this.#resolver(field, parentType, nodes), write, resolves: true };
  }

  #resolver(
    field: GraphQLField<unknown, unknown>,
    parentType: GraphQLObjectType,
    nodes: readonly FieldNode[],
  ): FieldPlan["read"] {
    const { resolve = refuse, name, type } = field;
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

  #output(type: GraphQLOutputType, parentType: GraphQLObjectType, nodes: readonly FieldNode[]): Writer {
    const { write, resolves } = this.#present(getNullableType(type), parentType, nodes);
    if (isNonNullType(type)) {
      return { write: (value, run, path) => (value == null ? refuse() : write(value, run, path)), resolves };
    }
    return { write: (value, run, path) => (value == null ? "null" : write(value, run, path)), resolves };
  }

  /** Of a value that is neither null nor undefined. */
  #present(type: GraphQLOutputType, parentType: GraphQLObjectType, nodes: readonly FieldNode[]): Writer {
    if (isLeafType(type)) return { write: writeLeaf(type), resolves: false };
    if (isListType(type)) return writeList(this.#output(type.ofType, parentType, nodes));
    const selections = nodes.map(({ selectionSet }) => selectionSet ?? refuse());
    if (isObjectType(type)) return this.object(type, selections);
    return isAbstractType(type) ? this.#abstract(type, parentType, nodes, selections) : refuse();
  }

  #abstract(
    type: GraphQLAbstractType,
    parentType: GraphQLObjectType,
    nodes: readonly FieldNode[],
    selections: readonly SelectionSetNode[],
  ): Writer {
    const [node = refuse()] = nodes;
    const resolveType = type.resolveType ?? refuse();
    const infoOf = this.#infoOf(node.name.value, type, parentType, nodes);
    const writers = new Map<unknown, Writer>(
      this.#schema.getPossibleTypes(type).map((possible) => [possible.name, this.object(possible, selections)]),
    );
    const write: Write = (value, run, path) => {
      const { write: writeIt } = writers.get(resolveType(value, run.context, infoOf(run, path), type)) ?? refuse();
      return writeIt(value, run, path);
    };
    return { write, resolves: true };
  }
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

function isPromise(value: unknown): value is PromiseLike<unknown> {
  if (typeof value !== "object" || value === null || !("then" in value)) return false;
  const { then }: { readonly then: unknown } = value;
  return typeof then === "function";
}

/** Fields are begun in their order and waited for together, as the executor does. */
function writeObject(fields: readonly FieldPlan[]): Write {
  const plans = fields.map((field, i) => ({ ...field, label: `${i === 0 ? "{" : ","}${JSON.stringify(field.key)}:` }));
  if (plans.length === 0) return () => "{}";
  return (source, run, path) => {
    if (source instanceof Error) refuse();
    const parts = new Parts();
    for (const { label, key, parentName, resolves, read, write } of plans) {
      const at = resolves ? { prev: path, key, typename: parentName } : undefined;
      parts.add(label, read(source, run, at), write, run, at);
    }
    return parts.end("}");
  };
}

function writeList({ write, resolves }: Writer): Writer {
  return {
    write(value, run, path) {
      // Other iterables there may be are none of this schema's.
      const items: readonly unknown[] = Array.isArray(value) ? value : refuse();
      if (items.length === 0) return "[]";
      const parts = new Parts();
      for (const [i, item] of items.entries()) {
        const at = resolves ? { prev: path, key: i, typename: undefined } : undefined;
        parts.add(i === 0 ? "[" : ",", item, write, run, at);
      }
      return parts.end("]");
    },
    resolves,
  };
}

/** Text that comes together piece by piece, of which some may have to be waited for. */
class Parts {
  #text = "";
  #before: Text[] | null = null;

  add(label: string, value: unknown, write: Write, run: Run, path: Path | undefined): void {
    const written = isPromise(value)
      ? Promise.resolve(value).then((settled) => write(settled, run, path))
      : write(value, run, path);
    if (typeof written === "string") {
      this.#text += label + written;
      return;
    }
    // Something else may be thrown before this is waited for.
    written.catch(() => undefined);
    (this.#before ??= []).push(this.#text + label, written);
    this.#text = "";
  }

  end(closing: string): Text {
    const rest = this.#text + closing;
    return this.#before === null ? rest : join(this.#before, rest);
  }
}

async function join(parts: readonly Text[], rest: string): Promise<string> {
  let text = "";
  for (const part of parts) text += typeof part === "string" ? part : await part;
  return text + rest;
}

function writeLeaf(type: GraphQLLeafType): Write {
  const serialized = (value: unknown): string => {
    if (value instanceof Error) refuse();
    const plain: unknown = type.serialize(value);
    const text: string | undefined = plain == null ? undefined : JSON.stringify(plain);
    return text ?? refuse();
  };
  if (type === GraphQLString || type === GraphQLID) {
    return (value) => (typeof value === "string" ? JSON.stringify(value) : serialized(value));
  }
  if (type === GraphQLBoolean) return (value) => (typeof value === "boolean" ? String(value) : serialized(value));
  return serialized;
}
