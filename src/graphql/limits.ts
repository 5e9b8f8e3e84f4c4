import { Kind, Lexer, parse, Source, TokenKind } from "graphql";
import type {
  DirectiveNode,
  DocumentNode,
  FragmentDefinitionNode,
  SelectionNode,
  SelectionSetNode,
  Token,
} from "graphql";
import type { QueryLimits } from "../config/limits.ts";
import { ParleyError } from "../conversation/errors.ts";
import type { LimitName } from "../conversation/limit-names.ts";

// What an operation may ask for, told before it is validated (which costs more than reading it) and executed. All of
// this file depends on the document alone, takes time in proportion to its length, and holds for every transport;
// limits-cost.ts counts what the variables have a say in.
//
// Why not a library: graphql-armor's limits and graphql-query-complexity are rules of validation, beside the costly ones
// and on top of a parser that has met no bound yet. The first counts page sizes only where they stand in the document,
// not in variables; the second goes through a fragment each time it is spread, which a fragment bomb makes take forever.

/**
 * Brackets in brackets, and fragments in fragments. Parser, rules and executor call themselves for each, so it keeps
 * them off the end of the stack. Above what JSON may be nested (200 levels) within an operation.
 */
const maxNesting = 300;
const maxComments = 1000;
/** Errors name what they are about, up to a hundred of them: a name of half a megabyte would come back a hundred times. */
const maxNameChars = 500;

export function tooComplex(limit: LimitName, message: string): ParleyError {
  return new ParleyError("TOO_COMPLEX", message, { limit });
}

/** Counts while the parser reads: nothing behind the limit is looked at. */
class BoundedLexer extends Lexer {
  readonly #maxTokens: number;
  #tokens = 0;
  #nesting = 0;

  constructor(source: Source, maxTokens: number) {
    super(source);
    this.#maxTokens = maxTokens;
  }

  override advance(): Token {
    const token = super.advance();
    if (token.kind !== TokenKind.EOF) this.#tokens += 1;
    if (this.#tokens > this.#maxTokens) {
      throw tooComplex("queryTokens", `The document is too long: more than ${this.#maxTokens} tokens.`);
    }
    switch (token.kind) {
      case TokenKind.NAME:
        if (token.end - token.start > maxNameChars) {
          throw tooComplex("queryTokens", `The document has a name of more than ${maxNameChars} characters.`);
        }
        break;
      case TokenKind.BRACE_L:
      case TokenKind.BRACKET_L:
      case TokenKind.PAREN_L:
        this.#nesting += 1;
        if (this.#nesting > maxNesting) throw nestsTooDeeply();
        break;
      case TokenKind.BRACE_R:
      case TokenKind.BRACKET_R:
      case TokenKind.PAREN_R:
        this.#nesting -= 1;
    }
    return token;
  }
}

function nestsTooDeeply(): ParleyError {
  return tooComplex("queryNesting", `The document is nested more than ${maxNesting} levels deep.`);
}

/**
 * @throws {GraphQLError} for what is no GraphQL
 * @throws {ParleyError} TOO_COMPLEX
 */
export function parseBounded(query: string, limits: QueryLimits): DocumentNode {
  const source = new Source(query);
  const document = parse(source, { lexer: new BoundedLexer(source, limits.maxTokens), maxComments });
  checkDocument(document, limits);
  return document;
}

/**
 * For a document within bounds of tokens and nesting (else the stack is none).
 * @throws {ParleyError} TOO_COMPLEX
 */
function checkDocument(document: DocumentNode, limits: QueryLimits): void {
  const meter = new Meter(document);
  let depth = 0;
  let rootFields = 0;
  for (const definition of document.definitions) {
    if (definition.kind === Kind.OPERATION_DEFINITION) {
      const measured = meter.operation(definition.selectionSet, definition.directives);
      depth = Math.max(depth, measured.depth);
      rootFields = Math.max(rootFields, measured.fields);
      for (const variable of definition.variableDefinitions ?? []) meter.countDirectives(variable.directives);
    } else if (definition.kind === Kind.FRAGMENT_DEFINITION) meter.fragment(definition.name.value, 0);
  }
  const { aliases, directives, deferred } = meter;
  for (const [limit, what, count, most] of [
    ["queryDepth", "levels of fields", depth, limits.maxDepth],
    ["queryRootFields", "fields at its top", rootFields, limits.maxRootFields],
    ["queryAliases", "aliases", aliases, limits.maxAliases],
    ["queryDirectives", "directives", directives, limits.maxDirectives],
    ["queryDefers", "uses of @defer", deferred, limits.maxDeferred],
  ] as const) {
    if (count > most) {
      const has = Number.isFinite(count) ? String(count) : "endlessly many";
      throw tooComplex(
        limit,
        `The operation has ${has} ${what}; at most ${most} are answered. Ask for less at a time.`,
      );
    }
  }
}

/** Of a selection, its fragments included. */
interface Measured {
  /** Fields within fields. */
  readonly depth: number;
  /** Selections within selections. */
  readonly height: number;
  /** At its own level. */
  readonly fields: number;
}

const nothing: Measured = { depth: 0, height: 0, fields: 0 };

class Meter {
  aliases = 0;
  directives = 0;
  deferred = 0;
  readonly #fragments = new Map<string, FragmentDefinitionNode>();
  /** Each is measured once, however often it is spread; while that goes on it counts for nothing: a circle has no end. */
  readonly #measured = new Map<string, Measured>();

  constructor(document: DocumentNode) {
    for (const definition of document.definitions) {
      // Of two with the same name one is measured; that there are two is for validation to say.
      if (definition.kind === Kind.FRAGMENT_DEFINITION) this.#fragments.set(definition.name.value, definition);
    }
  }

  operation(selections: SelectionSetNode, directives: readonly DirectiveNode[] | undefined): Measured {
    this.countDirectives(directives);
    return this.#selections(selections, 0);
  }

  fragment(name: string, nesting: number): Measured {
    const known = this.#measured.get(name);
    if (known !== undefined) {
      if (nesting + known.height > maxNesting) throw nestsTooDeeply();
      return known;
    }
    const fragment = this.#fragments.get(name);
    if (fragment === undefined) return nothing;
    this.#measured.set(name, nothing);
    this.countDirectives(fragment.directives);
    const measured = this.#selections(fragment.selectionSet, nesting);
    this.#measured.set(name, measured);
    return measured;
  }

  countDirectives(directives: readonly DirectiveNode[] | undefined): void {
    for (const { name } of directives ?? []) {
      this.directives += 1;
      if (name.value === "defer") this.deferred += 1;
    }
  }

  /** Calls itself at most `maxNesting` times. */
  #selections({ selections }: SelectionSetNode, nesting: number): Measured {
    if (nesting >= maxNesting) throw nestsTooDeeply();
    let depth = 0;
    let height = 0;
    let fields = 0;
    for (const selection of selections) {
      this.countDirectives(selection.directives);
      const inner = this.#inner(selection, nesting + 1);
      height = Math.max(height, inner.height);
      if (selection.kind === Kind.FIELD) {
        if (selection.alias !== undefined) this.aliases += 1;
        fields += 1;
        depth = Math.max(depth, inner.depth + 1);
      } else {
        fields += inner.fields;
        depth = Math.max(depth, inner.depth);
      }
    }
    return { depth, height: height + 1, fields };
  }

  #inner(selection: SelectionNode, nesting: number): Measured {
    if (selection.kind === Kind.FRAGMENT_SPREAD) return this.fragment(selection.name.value, nesting);
    return selection.selectionSet === undefined ? nothing : this.#selections(selection.selectionSet, nesting);
  }
}
