import {
  GraphQLError,
  GraphQLIncludeDirective,
  GraphQLSkipDirective,
  Kind,
  NoSchemaIntrospectionCustomRule,
  OperationTypeNode,
  OverlappingFieldsCanBeMergedRule,
  SingleFieldSubscriptionsRule,
  getEnterLeaveForKind,
  getOperationAST,
  getVariableValues,
  validate,
} from "graphql";
import type {
  ASTVisitor,
  DirectiveNode,
  DocumentNode,
  ExecutionArgs,
  ExecutionResult,
  GraphQLSchema,
  OperationDefinitionNode,
  SelectionSetNode,
  Source,
  ValidationContext,
  ValidationRule,
} from "graphql";
import { isAsyncIterable } from "graphql-yoga";
import type { Plugin } from "graphql-yoga";

import { hasScope, requireScope } from "../../conversation/conversations/access.ts";
import type { Scope } from "../../conversation/conversations/access.ts";
import { ParleyError } from "../../conversation/errors.ts";
import type { ErrorCode } from "../../conversation/errors.ts";
import type { Viewer } from "../../conversation/session.ts";
import type { Telemetry } from "../../conversation/ports/telemetry.ts";
import type { Context } from "../../graphql/context.ts";
import { checkCost, costOf, planCost } from "../../graphql/limits-cost.ts";
import { parseBounded } from "../../graphql/limits.ts";
import type { QueryLimits } from "../../config/limits.ts";
import type { Identity } from "../identity.ts";
import type { MaskError } from "../masking.ts";

// What an operation must pass before it is executed, whichever transport it came by.

export interface CheckOptions {
  readonly queryLimits: QueryLimits;
  readonly mask: MaskError;
  readonly telemetry: Telemetry;
}

const statusOfCode: Readonly<Record<ErrorCode, number>> = {
  BAD_USER_INPUT: 400,
  INVALID_CURSOR: 400,
  TOO_COMPLEX: 400,
  UNAUTHENTICATED: 401,
  FORBIDDEN: 403,
  NOT_FOUND: 404,
  SESSION_BUSY: 409,
  SESSION_EXISTS: 409,
  MESSAGE_ID_REUSED: 409,
  CURSOR_EXPIRED: 410,
  PAYLOAD_TOO_LARGE: 413,
  QUEUE_FULL: 429,
  RATE_LIMITED: 429,
  LIMIT_REACHED: 429,
  INTERNAL_SERVER_ERROR: 500,
  OVERLOADED: 503,
  STORE_UNAVAILABLE: 503,
};

/** The status beside the error of what was not executed. */
export function withStatus(error: GraphQLError): GraphQLError {
  const { message, extensions, nodes = null, source, positions, path } = error;
  const status = (statusOfCode as Readonly<Record<string, number>>)[String(extensions["code"])] ?? 500; // or an unknown one
  const headers = status === 401 ? { "www-authenticate": "Bearer" } : {};
  const shown = { ...extensions, http: { status, headers } };
  return new GraphQLError(message, { nodes, source, positions, path, extensions: shown });
}

/** A subscription that something thrown has refused; what Yoga itself found wrong has a status of its own. */
export function refusedSubscription(result: ExecutionResult): ExecutionResult {
  const { errors = [] } = result;
  return {
    ...result,
    errors: errors.map((error) =>
      error.originalError && error.extensions.http === undefined ? withStatus(error) : error,
    ),
  };
}

/**
 * @throws {ParleyError} FORBIDDEN: the whole operation needs the scope, so nothing of it is executed; TOO_COMPLEX with
 * the variables that it came with
 */
export function checkOperation(
  operation: OperationDefinitionNode,
  { viewer }: Pick<Identity, "viewer">,
  { schema, document, variableValues }: ExecutionArgs,
  { queryLimits: { maxCost }, telemetry }: CheckOptions,
): void {
  requireScope(viewer, scopeOf(operation));
  counted(telemetry, () => checkCost(planCost(schema, document, operation), variableValues ?? {}, maxCost));
}

/** Whether checkOperation() lets it pass. Counts nothing: what is refused goes through there. */
export function mayExecute(
  operation: OperationDefinitionNode,
  viewer: Viewer,
  schema: GraphQLSchema,
  document: DocumentNode,
  variables: Readonly<Record<string, unknown>> | undefined,
  { queryLimits: { maxCost } }: CheckOptions,
): boolean {
  return (
    hasScope(viewer, scopeOf(operation)) && costOf(planCost(schema, document, operation), variables ?? {}) <= maxCost
  );
}

function scopeOf({ operation }: OperationDefinitionNode): Scope {
  return operation === OperationTypeNode.MUTATION ? "chat:write" : "chat:read";
}

/** What a limit refuses is counted under its name. */
function counted<Result>(telemetry: Telemetry, check: () => Result): Result {
  try {
    return check();
  } catch (error) {
    if (error instanceof ParleyError && error.details.limit !== undefined) telemetry.limited(error.details.limit);
    throw error;
  }
}

/** The parser's and all other limits of the document are met before it is validated, which costs more than reading it. */
export function useBoundedParser({ queryLimits, telemetry }: CheckOptions): Plugin {
  return {
    onParse({ setParseFn }) {
      setParseFn((source: string | Source) => {
        const text = typeof source === "string" ? source : source.body;
        return counted(telemetry, () => parseBounded(text, queryLimits));
      });
    },
  };
}

/** What refuses a document is thrown out of Yoga's parsing, and becomes an answer here. */
export function maskUnread(mask: MaskError): MaskError {
  return (error) => {
    const refused = error instanceof ParleyError && error.code === "TOO_COMPLEX";
    return refused ? withStatus(mask(error)) : mask(error);
  };
}

/** Over HTTP; prepare() asks before it gets here, so that a WebSocket gets an error instead of a result. */
export function useChecks(options: CheckOptions): Plugin<Context> {
  const refusalOf = (args: ExecutionArgs): ExecutionResult | null => {
    const operation = getOperationAST(args.document, args.operationName);
    try {
      // Made by our context factory.
      if (operation) checkOperation(operation, args.contextValue as Context, args, options);
      return null;
    } catch (error) {
      return { errors: [withStatus(options.mask(error))] };
    }
  };
  return {
    onExecute({ args, setResultAndStopExecution }) {
      const refused = refusalOf(args);
      if (refused !== null) setResultAndStopExecution(refused);
    },
    onSubscribe({ args, setResultAndStopExecution }) {
      const refused = refusalOf(args);
      if (refused !== null) setResultAndStopExecution(refused);
    },
  };
}

/**
 * Yoga's plugin for @defer brings @stream along, which our schema does not have, and an older rule about fields that
 * cannot be merged beside graphql's own: that one takes seconds for a document of 3,000 fields, where graphql's gives up.
 * graphql's rule for the one field of a subscription throws where a variable decides whether it is there.
 */
export function useRules({ introspection }: { readonly introspection: boolean }): Plugin {
  return {
    onValidate({ addValidationRule, setValidationFn }) {
      addValidationRule(NoStreamRule);
      if (!introspection) addValidationRule(NoSchemaIntrospectionCustomRule);
      setValidationFn((schema: GraphQLSchema, document: DocumentNode, rules: readonly ValidationRule[] = []) =>
        validate(schema, document, [SubscriptionFieldRule, ...rules.filter(isWanted)], {
          hideSuggestions: !introspection,
        }),
      );
    },
  };
}

function isWanted(rule: ValidationRule): boolean {
  if (rule === SingleFieldSubscriptionsRule) return false;
  return rule === OverlappingFieldsCanBeMergedRule || rule.name !== OverlappingFieldsCanBeMergedRule.name;
}

/** A subscription has one field, and it is there whatever the variables are (the specification's 5.2.4.1). */
function SubscriptionFieldRule(context: ValidationContext): ASTVisitor {
  const { enter: findOne } = getEnterLeaveForKind(SingleFieldSubscriptionsRule(context), Kind.OPERATION_DEFINITION);
  return {
    OperationDefinition(node, ...where) {
      if (node.operation !== OperationTypeNode.SUBSCRIPTION) return;
      const condition = conditionIn(node.selectionSet, context, new Set());
      if (condition === null) findOne?.(node, ...where);
      else {
        const message = `The one field of a subscription must not depend on @${condition.name.value}.`;
        context.reportError(new GraphQLError(message, { nodes: condition }));
      }
    },
  };
}

const conditions: readonly string[] = [GraphQLSkipDirective.name, GraphQLIncludeDirective.name];

/** What may leave a field out of this selection set. `opened`: fragments that were looked through. */
function conditionIn(
  { selections }: SelectionSetNode,
  context: ValidationContext,
  opened: Set<string>,
): DirectiveNode | null {
  for (const selection of selections) {
    const own = selection.directives?.find(({ name }) => conditions.includes(name.value));
    if (own !== undefined) return own;
    let within: SelectionSetNode | undefined;
    if (selection.kind === Kind.INLINE_FRAGMENT) within = selection.selectionSet;
    else if (selection.kind === Kind.FRAGMENT_SPREAD && !opened.has(selection.name.value)) {
      opened.add(selection.name.value);
      within = context.getFragment(selection.name.value)?.selectionSet;
    }
    const found = within === undefined ? null : conditionIn(within, context, opened);
    if (found !== null) return found;
  }
  return null;
}

function NoStreamRule(context: ValidationContext): ASTVisitor {
  return {
    Directive(node) {
      if (node.name.value === "stream") {
        context.reportError(new GraphQLError('Unknown directive "@stream".', { nodes: node }));
      }
    },
  };
}

/**
 * What is wrong with variables has the status that other errors of a request have: 400, or 200 where the client takes plain
 * JSON alone. With introspection off it has no "Did you mean", which would tell the schema name by name. The executor has no
 * way to be told either, so what it found wrong is found once more.
 */
export function useVariableErrors({ introspection }: { readonly introspection: boolean }): Plugin {
  const wrongVariables = ({ schema, document, operationName, variableValues }: ExecutionArgs, result: unknown) => {
    if (isAsyncIterable(result) || (result as ExecutionResult).data !== undefined) return null; // else one result
    const definitions = getOperationAST(document, operationName)?.variableDefinitions ?? [];
    const { errors } = getVariableValues(schema, definitions, variableValues ?? {}, {
      maxErrors: 50,
      hideSuggestions: !introspection,
    });
    for (const { extensions } of errors ?? []) extensions["http"] = { spec: true, status: 400 };
    return errors === undefined ? null : { errors };
  };
  return {
    onExecute: ({ args }) => ({
      onExecuteDone({ result, setResult }) {
        const shown = wrongVariables(args, result);
        if (shown !== null) setResult(shown);
      },
    }),
    onSubscribe: ({ args }) => ({
      onSubscribeResult({ result, setResult }) {
        const shown = wrongVariables(args, result);
        if (shown !== null) setResult(shown);
      },
    }),
  };
}
