import { hash } from "node:crypto";
import { BREAK, getOperationAST, visit, GraphQLError, Kind } from "graphql";
import type { DocumentNode, GraphQLSchema, OperationDefinitionNode, OperationTypeNode } from "graphql";
import { LRUCache } from "lru-cache";
import { isObject } from "../conversation/message/json.ts";
import { planCost } from "../graphql/limits-cost.ts";
import type { CostPlan } from "../graphql/limits-cost.ts";
import { CompiledQuery } from "./compiled-query.ts";
import { refusal } from "./refusals.ts";
import type { OperationType } from "../conversation/ports/telemetry.ts";

/** A document that was parsed and validated, whatever came of that. */
class PreparedDocument {
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

/** What an operation is reported as. */
export interface OperationDescription {
  readonly type: OperationType;
  readonly field: string;
  readonly name: string | null;
}

/** Of a valid document. */
function describeOperation({ operation, name, selectionSet }: OperationDefinitionNode): OperationDescription {
  // A field's name is the schema's. What stands in fragments is not looked for.
  const fields = new Set(selectionSet.selections.map((one) => (one.kind === Kind.FIELD ? one.name.value : "several")));
  const [first = ""] = fields;
  return { type: operation, field: fields.size > 1 ? "several" : first, name: name?.value ?? null };
}

// Operations by a name instead of their text. Three ways of clients to say so are understood, over every transport:
// Apollo's automatic persisted queries (extensions.persistedQuery), the GraphQL over HTTP draft's `documentId`, and `id`
// or `doc_id` as Relay apps send them.

/** auto: what clients register, and the list if there is one. only: the list, and nothing else. off: texts alone. */
type PersistedMode = "auto" | "off" | "only";

/** What of a request says which document is meant. Nothing of it is checked yet. */
export interface DocumentReference {
  readonly query?: unknown;
  readonly extensions?: unknown;
  readonly documentId?: unknown;
  readonly doc_id?: unknown;
  readonly id?: unknown;
}

export interface PersistedOperations {
  /**
   * The document's text, for what may be sent as text too.
   * @throws {GraphQLError} with the status to answer in extensions.http
   */
  resolve(reference: DocumentReference): string;
}

/** `maxBytes`: of texts that clients register; the one that was used longest ago goes first. */
export function persistedOperations(
  mode: PersistedMode,
  listed: ReadonlyMap<string, string>,
  maxBytes = 8 * 1024 * 1024,
): PersistedOperations {
  if (mode === "only") return allowList(listed);
  const registered = new LRUCache<string, string>({
    maxSize: maxBytes,
    maxEntrySize: maxBytes / 8,
    sizeCalculation: (text) => 200 + 2 * text.length,
  });
  const texts = mode === "off" ? null : registered;
  return {
    resolve(reference) {
      const text = textOf(reference);
      const sha256 = hashOf(reference);
      if (sha256 === null) {
        if (text !== null) return text;
        const id = idOf(reference);
        if (id === null) throw noQuery();
        if (texts === null) throw notSupported();
        return listed.get(id) ?? texts.get(id) ?? fail(unknownDocument());
      }
      if (texts === null) return text ?? fail(notSupported());
      if (text === null) return listed.get(sha256) ?? texts.get(sha256) ?? fail(notFound());
      // Compared at each registration: who sends another's hash with a text of their own must not come to be that other.
      if (!texts.has(sha256) || texts.get(sha256) !== text) {
        if (sha256Of(text) !== sha256) throw refusal(400, "BAD_REQUEST", "provided sha does not match query");
        texts.set(sha256, text);
      }
      return text;
    },
  };
}

/** By its id, or by its very text; a text beside an id that is listed (WebSocket clients send both) is not looked at. */
function allowList(listed: ReadonlyMap<string, string>): PersistedOperations {
  const texts = new Set(listed.values());
  return {
    resolve(reference) {
      const id = hashOf(reference) ?? idOf(reference);
      const known = id === null ? undefined : listed.get(id);
      if (known !== undefined) return known;
      const text = textOf(reference);
      if (text === null && id === null) throw noQuery();
      return text !== null && texts.has(text) ? text : fail(notListed());
    },
  };
}

function textOf({ query }: DocumentReference): string | null {
  if (query === undefined || query === null || query === "") return null;
  if (typeof query !== "string") throw noQuery();
  return query;
}

/** Of Apollo's protocol; null: the request does not speak it. */
function hashOf({ extensions }: DocumentReference): string | null {
  const persisted = isObject(extensions) ? extensions["persistedQuery"] : undefined;
  if (persisted === undefined || persisted === null) return null;
  const sha256 = isObject(persisted) && persisted["version"] === 1 ? persisted["sha256Hash"] : undefined;
  if (typeof sha256 === "string") return sha256;
  throw refusal(400, "BAD_REQUEST", "Unsupported persisted query version: give version 1 and a sha256Hash.");
}

/** The draft writes hashes as "sha256:…". */
function idOf({ documentId, doc_id, id }: DocumentReference): string | null {
  const given = [documentId, doc_id, id].find((one) => typeof one === "string" && one !== "");
  return typeof given === "string" ? given.replace(/^sha256:/, "") : null;
}

export function sha256Of(text: string): string {
  return hash("sha256", text, "hex");
}

function fail(error: GraphQLError): never {
  throw error;
}

function noQuery(): GraphQLError {
  return refusal(400, "BAD_REQUEST", "`query` must be a string: the GraphQL document.");
}

/** Clients know these two by message or by code, and send the text then. */
function notFound(): GraphQLError {
  return forgiven("PERSISTED_QUERY_NOT_FOUND", "PersistedQueryNotFound");
}

function notSupported(): GraphQLError {
  return forgiven("PERSISTED_QUERY_NOT_SUPPORTED", "PersistedQueryNotSupported");
}

/** As for a syntax error: 200 for clients that accept application/json, as Apollo's expect it. */
function forgiven(code: string, message: string): GraphQLError {
  return new GraphQLError(message, { extensions: { code, http: { spec: true, status: 400 } } });
}

function unknownDocument(): GraphQLError {
  return refusal(400, "PERSISTED_QUERY_NOT_FOUND", "There is no document of this id here: send its text.");
}

function notListed(): GraphQLError {
  return refusal(
    400,
    "PERSISTED_QUERY_NOT_FOUND",
    "This operation is not on the list of this gateway, and no other is answered.",
  );
}
