import { BREAK, getOperationAST, visit } from "graphql";
import type { DocumentNode, GraphQLError, GraphQLSchema, OperationDefinitionNode, OperationTypeNode } from "graphql";
import { LRUCache } from "lru-cache";

import { planCost } from "../../graphql/limits-cost.ts";
import type { CostPlan } from "../../graphql/limits-cost.ts";
import { CompiledQuery } from "../compiled-query.ts";
import { describeOperation } from "../telemetry.ts";
import type { OperationDescription } from "../telemetry.ts";

/** A document that was parsed and validated, whatever came of that. */
export class PreparedDocument {
  readonly document: DocumentNode;
  /** Of its validation; none: it can be executed. */
  readonly errors: readonly GraphQLError[];
  readonly #length: number;
  readonly #deferred: boolean;
  readonly #operations = new Map<string | null, KnownOperation>();

  constructor(text: string, document: DocumentNode, errors: readonly GraphQLError[]) {
    this.document = document;
    this.errors = errors;
    this.#length = text.length;
    this.#deferred = isDeferred(document);
  }

  /** The operation of this name; null: the only one. Gives null where there is none. */
  operation(name: string | null): KnownOperation | null {
    const known = this.#operations.get(name);
    if (known !== undefined) return known;
    const node = getOperationAST(this.document, name);
    if (!node) return null;
    const operation = new KnownOperation(this.document, node, this.#deferred, this.#length);
    this.#operations.set(name, operation);
    return operation;
  }
}

/** A plan takes some 200 bytes for each of its fields: in proportion to its text, it is counted with that. */
const charactersPerField = 4;

/** How many operations there were. */
let operations = 0;

/** An operation of a document, with all that follows from the two alone: each is made when it is first asked for. */
export class KnownOperation {
  /** No other has it. */
  readonly number = operations++;
  readonly document: DocumentNode;
  readonly node: OperationDefinitionNode;
  /** Its document has @defer in it, so it may be answered in several parts. */
  readonly deferred: boolean;
  readonly description: OperationDescription;
  readonly #mostFields: number;
  #cost: CostPlan | null = null;
  #compiled: CompiledQuery | null = null;
  #undeferred: DocumentNode | null = null;

  constructor(document: DocumentNode, node: OperationDefinitionNode, deferred: boolean, length: number) {
    this.document = document;
    this.node = node;
    this.deferred = deferred;
    this.description = describeOperation(node);
    this.#mostFields = Math.ceil(length / charactersPerField);
  }

  cost(schema: GraphQLSchema): CostPlan {
    return (this.#cost ??= planCost(schema, this.document, this.node));
  }

  compiled(schema: GraphQLSchema): CompiledQuery {
    return (this.#compiled ??= new CompiledQuery(schema, this.document, this.node, this.#mostFields));
  }

  get type(): OperationTypeNode {
    return this.node.operation;
  }

  /** For clients that take one result alone: a server may answer what is deferred with the rest. */
  get undeferred(): DocumentNode {
    return (this.#undeferred ??= this.deferred ? undeferred(this.document) : this.document);
  }
}

/**
 * The documents that came lately, by their text, so that each is parsed and validated once for all transports. What has
 * a syntax error is not kept: no client sends that again and again.
 */
export class Documents {
  readonly #byText: LRUCache<string, PreparedDocument>;
  readonly #parse: (text: string) => DocumentNode;
  readonly #validate: (document: DocumentNode) => readonly GraphQLError[];

  /** `maxBytes`: of memory, as estimated. What would take more than an eighth of it alone is not kept. */
  constructor(
    maxBytes: number,
    parse: (text: string) => DocumentNode,
    validate: (document: DocumentNode) => readonly GraphQLError[],
  ) {
    this.#parse = parse;
    this.#validate = validate;
    this.#byText = new LRUCache({
      maxSize: maxBytes,
      maxEntrySize: maxBytes / 8,
      sizeCalculation: (_prepared, text) => bytesOf(text),
    });
  }

  /** @throws what is wrong with its syntax, or with its size */
  read(text: string): PreparedDocument {
    const known = this.#byText.get(text);
    if (known !== undefined) return known;
    const document = this.#parse(text);
    const prepared = new PreparedDocument(text, document, this.#validate(document));
    this.#byText.set(text, prepared);
    return prepared;
  }
}

/** Nodes, tokens and their places, measured with the documents of clients, and up to four plans of a query (compiled-query.ts). */
const bytesPerCharacter = 256;

function bytesOf(text: string): number {
  return 1024 + text.length * bytesPerCharacter;
}

function isDeferred(document: DocumentNode): boolean {
  let found = false;
  visit(document, {
    Directive({ name }) {
      found = name.value === "defer";
      return found ? BREAK : undefined;
    },
  });
  return found;
}

function undeferred(document: DocumentNode): DocumentNode {
  return visit(document, { Directive: ({ name }) => (name.value === "defer" ? null : undefined) });
}
