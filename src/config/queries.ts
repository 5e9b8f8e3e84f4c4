import { z } from "zod";

import { integer, variable } from "./values.ts";
import type { Definition } from "./values.ts";

/** What one operation may ask for. */
export interface QueryLimitsConfig {
  readonly maxTokens: number;
  readonly maxDepth: number;
  readonly maxAliases: number;
  readonly maxDirectives: number;
  readonly maxRootFields: number;
  readonly maxDeferred: number;
  readonly maxCost: number;
}

/** Which operations may be sent. */
export interface PersistedOperationsConfig {
  readonly mode: "auto" | "off" | "only";
  /** null: none but those that clients register. */
  readonly file: string | null;
}

export const queryDefinitions = {
  MAX_QUERY_TOKENS: variable(
    integer(100, 1_000_000),
    "3000",
    "Of a GraphQL document: words, numbers, texts, brackets.",
  ),
  MAX_QUERY_DEPTH: variable(integer(1, 200), "20", "Fields within fields, through fragments. Introspection has 15."),
  MAX_QUERY_ALIASES: variable(integer(0, 100_000), "30", "Of a document."),
  MAX_QUERY_DIRECTIVES: variable(integer(0, 100_000), "50", "Of a document."),
  MAX_QUERY_ROOT_FIELDS: variable(integer(1, 100_000), "20", "Fields at the top of an operation, through fragments."),
  MAX_QUERY_DEFERS: variable(integer(0, 1000), "10", "Uses of @defer in a document."),
  MAX_QUERY_COST: variable(
    integer(1, 1_000_000_000),
    "50000",
    "Objects and values that an answer may come to hold, page sizes multiplied. More is TOO_COMPLEX, as is what exceeds the six before.",
  ),
  PERSISTED_OPERATIONS: variable(
    z.enum(["auto", "off", "only"], "must be auto, off or only"),
    "auto",
    "`auto`: clients may register operations and send their hashes; `only`: nothing but PERSISTED_OPERATIONS_FILE is answered; `off`.",
  ),
  PERSISTED_OPERATIONS_FILE: variable(
    z.string(),
    null,
    "JSON of documents by id (relay-compiler, graphql-codegen) or Apollo's persisted query manifest, checked at start.",
  ),
  HSTS_SECONDS: variable(
    integer(0, 100 * 365 * 86_400),
    null,
    "Behind TLS: for how long browsers come by https alone (Strict-Transport-Security).",
  ),
} as const;

type Name = keyof typeof queryDefinitions;

/** How loadConfig reads the variables, and hears what is wrong with them. */
export interface QueryVariables {
  /** null: left out, or wrong (which is told already). */
  readonly given: <Value>(name: Name, definition: Definition<Value>) => Value | null;
  readonly required: <Value>(name: Name, definition: Definition<Value>) => Value;
  readonly problem: (variable: string, message: string) => void;
}

export interface QueryConfig {
  readonly queryLimits: QueryLimitsConfig;
  readonly persistedOperations: PersistedOperationsConfig;
  readonly hstsSeconds: number | null;
}

export function queryConfig({ given, required, problem }: QueryVariables): QueryConfig {
  const d = queryDefinitions;
  const mode = required("PERSISTED_OPERATIONS", d.PERSISTED_OPERATIONS);
  const file = given("PERSISTED_OPERATIONS_FILE", d.PERSISTED_OPERATIONS_FILE);
  if (mode === "only" && file === null) {
    problem("PERSISTED_OPERATIONS_FILE", "is needed with PERSISTED_OPERATIONS=only: nothing would be answered");
  }
  if (mode === "off" && file !== null) {
    problem("PERSISTED_OPERATIONS_FILE", "cannot stand beside PERSISTED_OPERATIONS=off");
  }
  return {
    queryLimits: {
      maxTokens: required("MAX_QUERY_TOKENS", d.MAX_QUERY_TOKENS),
      maxDepth: required("MAX_QUERY_DEPTH", d.MAX_QUERY_DEPTH),
      maxAliases: required("MAX_QUERY_ALIASES", d.MAX_QUERY_ALIASES),
      maxDirectives: required("MAX_QUERY_DIRECTIVES", d.MAX_QUERY_DIRECTIVES),
      maxRootFields: required("MAX_QUERY_ROOT_FIELDS", d.MAX_QUERY_ROOT_FIELDS),
      maxDeferred: required("MAX_QUERY_DEFERS", d.MAX_QUERY_DEFERS),
      maxCost: required("MAX_QUERY_COST", d.MAX_QUERY_COST),
    },
    persistedOperations: { mode, file },
    hstsSeconds: given("HSTS_SECONDS", d.HSTS_SECONDS),
  };
}
