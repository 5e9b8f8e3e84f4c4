import { Kind, OperationTypeNode, getOperationAST } from "graphql";
import type { DocumentNode, ExecutionArgs, ExecutionResult, OperationDefinitionNode, SelectionSetNode } from "graphql";
import { compileQuery, isCompiledQuery } from "graphql-jit";
import type { Plugin } from "graphql-yoga";
import { LRUCache } from "lru-cache";

import type { Documents } from "./documents.ts";

/** "never": it is not to be compiled. A number: how often it came so far. */
type State = Compiled | number | "never";
type Compiled = (root: unknown, context: unknown, variables: ExecutionArgs["variableValues"]) => unknown;

/** Many documents come once or twice, from GraphiQL or a script; compiling one costs as much as executing it thirty times. */
const compiledAtUse = 3;
const maxCompiled = 256;

/**
 * Queries that come again and again are carried out by code made for them (graphql-jit). What that answers counts only
 * where nothing went wrong: anything else is left to the executor, from the start, so that errors, their paths and places,
 * and what is null for them are the executor's own. A query changes nothing, and what was read for it is not read again.
 */
export function useCompiled(documents: Documents): Plugin {
  const states = new LRUCache<OperationDefinitionNode, State>({ max: maxCompiled });

  function compiledOf({ schema, document, operationName }: ExecutionArgs): Compiled | null {
    const operation = getOperationAST(document, operationName);
    if (operation?.operation !== OperationTypeNode.QUERY || documents.of(document) === undefined) return null;
    let state = states.get(operation) ?? 0;
    if (typeof state === "number") {
      state += 1;
      if (state === compiledAtUse) state = isSafe(document, operation) ? compile(schema, document, operation) : "never";
      states.set(operation, state);
    }
    return typeof state === "function" ? state : null;
  }

  return {
    onExecute({ args, executeFn, setExecuteFn }) {
      const compiled = compiledOf(args);
      if (compiled === null) return;
      const execute = executeFn as (args: ExecutionArgs) => unknown; // typed as any
      setExecuteFn(async (given: ExecutionArgs) => {
        try {
          const result = (await compiled(given.rootValue, given.contextValue, given.variableValues)) as ExecutionResult;
          if (result.errors === undefined) return result;
        } catch {
          // The executor says what went wrong.
        }
        return await execute(given);
      });
    },
  };
}

function compile(
  schema: ExecutionArgs["schema"],
  document: DocumentNode,
  operation: OperationDefinitionNode,
): Compiled | "never" {
  const compiled = compileQuery(schema, document, operation.name?.value);
  return isCompiledQuery(compiled) ? (compiled.query as Compiled) : "never";
}

const maxFields = 300;

/**
 * Whether the code is known to do what the executor does, and stays small. It knows nothing of @defer; it makes names out
 * of the names in the answer, so that `a_b` may be taken for `b` in `a`, and `__proto__` for what it is in JavaScript.
 */
function isSafe(document: DocumentNode, operation: OperationDefinitionNode): boolean {
  const fragments = new Map<string, SelectionSetNode>();
  for (const definition of document.definitions) {
    if (definition.kind === Kind.FRAGMENT_DEFINITION) fragments.set(definition.name.value, definition.selectionSet);
  }
  let fields = 0;
  const visit = ({ selections }: SelectionSetNode): boolean =>
    selections.every((selection) => {
      fields += 1;
      if (fields > maxFields || (selection.directives ?? []).length > 0) return false;
      if (selection.kind === Kind.FIELD) {
        const name = (selection.alias ?? selection.name).value;
        if (name.includes("_") && (name !== "__typename" || selection.name.value !== name)) return false;
        return selection.selectionSet === undefined || visit(selection.selectionSet);
      }
      const inner =
        selection.kind === Kind.INLINE_FRAGMENT ? selection.selectionSet : fragments.get(selection.name.value);
      return inner !== undefined && visit(inner);
    });
  return visit(operation.selectionSet);
}
