import { useDeferStream } from "@graphql-yoga/plugin-defer-stream";
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
  validate,
} from "graphql";
import type {
  ASTVisitor,
  DirectiveNode,
  DocumentNode,
  ExecutionArgs,
  GraphQLSchema,
  SelectionSetNode,
  ValidationContext,
  ValidationRule,
} from "graphql";
import { createYoga } from "graphql-yoga";
import type { Plugin } from "graphql-yoga";
import type { OperationResult } from "./results.ts";

/** One request as Yoga's server takes it through its steps: reads it, executes what it asks for, writes the result. */
export interface ServedRequest {
  readonly method: string;
  /** Absolute. */
  readonly url: string;
  readonly accept: string | null;
  /** Comes first. Never throws: what is refused is for run() to give. */
  prepare(): Promise<void>;
  run(): Promise<OperationResult>;
  respond(result: OperationResult): Response;
}

/** Where operations are answered, over HTTP and WebSocket. */
export const endpointPath = "/graphql";

/**
 * Yoga: the server of what is no plain JSON by POST, and what graphql-js 16 does not know (@defer in the schema, its rules,
 * an executor that answers in parts).
 */
export interface YogaEngine {
  readonly validate: (document: DocumentNode) => readonly GraphQLError[];
  /** Of a query or a mutation, or of a subscription. */
  readonly execute: (args: ExecutionArgs) => Promise<OperationResult>;
  /** Also GraphiQL's page. */
  readonly serve: (request: ServedRequest) => Promise<Response>;
}

interface YogaOptions {
  readonly schema: GraphQLSchema;
  readonly introspection: boolean;
  /** Renders the page; null: there is none. */
  readonly graphiql: (() => Promise<string>) | null;
}

interface ServerContext {
  readonly served: ServedRequest;
}

export function createYogaEngine({ schema, introspection, graphiql }: YogaOptions): YogaEngine {
  const yoga = createYoga<ServerContext>({
    schema,
    graphqlEndpoint: endpointPath,
    graphiql: graphiql !== null,
    ...(graphiql === null ? {} : { renderGraphiQL: graphiql }),
    plugins: [useDeferStream(), useRules(introspection), useOperations()],
    // These have routes and headers of their own, outside of it. The path never holds a space.
    landingPage: false,
    healthCheckEndpoint: " ",
    cors: false,
    // Of these the operation takes care, whoever executes it.
    maxRequestBodySize: false,
    maskedErrors: false,
    parserAndValidationCache: false,
    logging: false,
  });
  const engine = yoga.getEnveloped({});
  return {
    // Envelop types all of it as any. The schema is ours, with the directives.
    validate: (document) => engine.validate(engine.schema as GraphQLSchema, document) as readonly GraphQLError[],
    // One executor takes all types of operations.
    execute: async (args) => (await engine.execute(args)) as OperationResult,
    async serve(served) {
      const { method, url, accept } = served;
      const headers = accept === null ? {} : { accept };
      return await yoga.handleRequest(new yoga.fetchAPI.Request(url, { method, headers }), { served });
    },
  };
}

/** Hands parsing, validation and execution to the one way of all operations, and takes its results as they are written. */
function useOperations(): Plugin<object, ServerContext> {
  return {
    onRequestParse({ serverContext: { served }, setRequestParser }) {
      setRequestParser(async () => {
        await served.prepare();
        return { query: "" }; // it is in what was prepared
      });
    },
    onParams({ context: { served }, setParamsHandler }) {
      setParamsHandler(() => served.run());
    },
    onResultProcess(event) {
      const { served } = event.serverContext;
      event.setResultProcessor((result) => served.respond(result as OperationResult), "*/*"); // run()'s
    },
  };
}

/**
 * Yoga's plugin for @defer brings @stream along, which our schema does not have, and an older rule about fields that
 * cannot be merged beside graphql's own: that one takes seconds for a document of 3,000 fields, where graphql's gives up.
 * graphql's rule for the one field of a subscription throws where a variable decides whether it is there.
 */
function useRules(introspection: boolean): Plugin {
  return {
    onValidate({ addValidationRule, setValidationFn }) {
      addValidationRule(NoStreamRule);
      if (!introspection) addValidationRule(NoSchemaIntrospectionCustomRule);
      setValidationFn((validated: GraphQLSchema, document: DocumentNode, rules: readonly ValidationRule[] = []) =>
        validate(validated, document, [SubscriptionFieldRule, ...rules.filter(isWanted)], {
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
