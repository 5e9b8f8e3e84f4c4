import { BREAK, visit } from "graphql";
import type { DocumentNode, GraphQLError, Source } from "graphql";
import type { Plugin } from "graphql-yoga";
import { LRUCache } from "lru-cache";

/** A document that was parsed and validated, whatever came of that. */
export interface PreparedDocument {
  /** The same object for the same text, for as long as it is kept. */
  readonly document: DocumentNode;
  /** Of its validation; none: it can be executed. */
  readonly errors: readonly GraphQLError[];
  /** It may be answered in several parts. */
  readonly deferred: boolean;
}

/**
 * The documents that came lately, by their text, so that each is parsed and validated once for all transports. What has
 * a syntax error is not kept: no client sends that again and again.
 */
export class Documents {
  readonly #byText: LRUCache<string, PreparedDocument>;
  readonly #prepared = new WeakMap<DocumentNode, PreparedDocument>();

  /** `maxBytes`: of memory, as estimated. What would take more than an eighth of it alone is not kept. */
  constructor(maxBytes: number) {
    this.#byText = new LRUCache({
      maxSize: maxBytes,
      maxEntrySize: maxBytes / 8,
      sizeCalculation: (_prepared, text) => bytesOf(text),
    });
  }

  find(text: string): PreparedDocument | undefined {
    return this.#byText.get(text);
  }

  of(document: DocumentNode): PreparedDocument | undefined {
    return this.#prepared.get(document);
  }

  keep(text: string, document: DocumentNode, errors: readonly GraphQLError[]): void {
    const prepared = { document, errors, deferred: isDeferred(document) };
    this.#byText.set(text, prepared);
    this.#prepared.set(document, prepared);
  }
}

/** Nodes, tokens and their places, measured with the documents of clients, and up to four plans of a query (direct.ts). */
const bytesPerCharacter = 256;

function bytesOf(text: string): number {
  return 1024 + text.length * bytesPerCharacter;
}

function isDeferred(document: DocumentNode): boolean {
  let found = false;
  visit(document, {
    Directive({ name }) {
      found = name.value === "defer" || name.value === "stream";
      return found ? BREAK : undefined;
    },
  });
  return found;
}

/** For who takes one result alone: a server may answer what is deferred with the rest. */
export function undeferred(document: DocumentNode): DocumentNode {
  return visit(document, { Directive: ({ name }) => (name.value === "defer" ? null : undefined) });
}

/**
 * Yoga parses and validates only what is not kept yet. All that the other plugins add to validation is kept with the
 * document, so it must follow from the document alone.
 */
export function useDocuments(documents: Documents): Plugin {
  const texts = new WeakMap<DocumentNode, string>();
  return {
    onParse({ params, setParsedDocument }) {
      const source = params.source as string | Source; // typed as any
      const text = typeof source === "string" ? source : source.body;
      const known = documents.find(text);
      if (known !== undefined) {
        setParsedDocument(known.document);
        return undefined;
      }
      return ({ result }) => {
        if (result !== null && !(result instanceof Error)) texts.set(result as DocumentNode, text); // typed as any
      };
    },
    onValidate({ params: { documentAST }, setResult }) {
      const document = documentAST as DocumentNode; // typed as any
      const known = documents.of(document);
      if (known !== undefined) {
        setResult([...known.errors]);
        return undefined;
      }
      return ({ result }) => {
        const text = texts.get(document);
        if (text !== undefined) documents.keep(text, document, result as readonly GraphQLError[]); // typed as any
      };
    },
  };
}
