import { execute, getVariableValues, GraphQLError, OperationTypeNode, subscribe } from "graphql";
import type { DocumentNode, ExecutionArgs, ExecutionResult, GraphQLSchema } from "graphql";
import { isObject } from "../conversation/message/json.ts";
import { requireScope } from "../conversation/conversations/access.ts";
import type { Conversations } from "../conversation/conversations/conversations.ts";
import { ParleyError } from "../conversation/errors.ts";
import type { Telemetry, Span } from "../conversation/ports/telemetry.ts";
import type { Viewer } from "../conversation/session.ts";
import { AnswerBudget } from "../graphql/answer-budget.ts";
import type { Context, Resume } from "../graphql/context.ts";
import { checkCost } from "../graphql/limits-cost.ts";
import { parseBounded } from "../graphql/limits.ts";
import type { QueryLimits } from "../config/limits.ts";
import type { KnownSession, Readings } from "../graphql/reading/readings.ts";
import type { ExecuteEvent } from "./compiled-query.ts";
import { Documents, type OperationDescription } from "./documents.ts";
import type { KnownOperation, DocumentReference, PersistedOperations } from "./documents.ts";
import type { Exchange } from "./exchange.ts";
import { KeptAnswers } from "./kept-answers.ts";
import { Broadcasts } from "./live/broadcasts.ts";
import { Outcome } from "./live/outcome.ts";
import type { Sink } from "./live/results.ts";
import type { MaskError } from "./masking.ts";
import { badRequest, refusal, withRequestStatus, withStatus } from "./refusals.ts";
import { formatResult, isSeveral, WrittenResult } from "./results.ts";
import type { OperationResult } from "./results.ts";
import { createYogaEngine } from "./yoga-engine.ts";
import { toGraphQLError } from "../graphql/errors.ts";

// The one way of an operation, whichever transport brought it:
//
//     request ─(resolve)─▶ text ─(parse, validate: kept)─▶ document ─(name, caller, cost)─▶ PreparedOperation ─(run)─▶ result
//        └────────────────────┴───────────────────────────────┴─────────▶ Refused: nothing was executed
//
// A transport reads the request and writes the result; all between is here.

interface OperationsOptions {
  readonly schema: GraphQLSchema;
  readonly conversations: Conversations;
  readonly introspection: boolean;
  /** Renders the page for people; null: there is none. */
  readonly graphiql: (() => Promise<string>) | null;
  readonly mask: MaskError;
  readonly telemetry: Telemetry;
  readonly queryLimits: QueryLimits;
  /** Of one answer. */
  readonly maxAnswerBytes: number;
  readonly persisted: PersistedOperations;
  /** @internal false: each query is executed by graphql-js. Tests hold both ways against each other. */
  readonly compiled: boolean;
}

/** As it came: nothing of it is checked yet. Parameters of other names are ignored. */
export interface OperationRequest extends DocumentReference {
  readonly operationName?: unknown;
  readonly variables?: unknown;
}

export interface Refused {
  readonly errors: readonly GraphQLError[];
}

/** Memory for documents that came lately. */
const documentBytes = 64 * 1024 * 1024;

/** All operations of a gateway. */
export class Operations {
  readonly options: OperationsOptions;
  readonly broadcasts: Broadcasts;
  readonly kept = new KeptAnswers();
  readonly yoga;
  readonly #documents: Documents;

  constructor(options: OperationsOptions) {
    this.options = options;
    this.broadcasts = new Broadcasts(options.mask);
    this.yoga = createYogaEngine(options);
    this.#documents = new Documents(documentBytes, (text) => this.#parse(text), this.yoga.validate);
  }

  /** Why nothing of this caller's is worth reading, or null. */
  async refuse(exchange: Exchange): Promise<GraphQLError | null> {
    try {
      await exchange.identity();
      return null;
    } catch (error) {
      return withStatus(this.options.mask(error));
    }
  }

  /** Never throws for what a client got wrong. `readOnly`: it came in a way by which nothing may be changed. */
  async prepare(request: OperationRequest, exchange: Exchange, readOnly = false): Promise<PreparedOperation | Refused> {
    const { persisted, mask } = this.options;
    try {
      const text = persisted.resolve(request);
      const { operationName, variables } = checkedParameters(request);
      const document = this.#documents.read(text);
      const operation = document.operation(operationName);
      if (operation === null) throw noSuchOperation();
      if (readOnly && operation.type === OperationTypeNode.MUTATION) throw changesByGet();
      if (document.errors.length > 0) return this.refused(document.errors);
      const { viewer } = await exchange.identity();
      this.#check(operation, viewer, variables);
      return new PreparedOperation(this, operation, operationName, variables, viewer, exchange);
    } catch (error) {
      return this.refused([withStatus(mask(error))]);
    }
  }

  /** What is refused with these errors, by the transport or here, is reported. */
  refused(errors: readonly GraphQLError[]): Refused {
    reportUnread(this.options.telemetry, errors);
    return { errors };
  }

  /** A result as it goes over the wire. */
  json(result: ExecutionResult): string {
    if (result instanceof Outcome || result instanceof WrittenResult) return result.json;
    return JSON.stringify(formatResult(result, this.options.mask));
  }

  /** The parser's and all other limits of the document are met before it is validated, which costs more than reading it. */
  #parse(text: string): DocumentNode {
    try {
      return this.#counted(() => parseBounded(text, this.options.queryLimits));
    } catch (error) {
      if (!(error instanceof GraphQLError)) throw error;
      error.extensions["code"] = "GRAPHQL_PARSE_FAILED";
      throw withRequestStatus(error);
    }
  }

  /**
   * @throws {ParleyError} FORBIDDEN: the whole operation needs the scope, so nothing of it is executed; TOO_COMPLEX with
   * the variables that it came with
   */
  #check(operation: KnownOperation, viewer: Viewer, variables: Variables | undefined): void {
    const { schema, queryLimits } = this.options;
    requireScope(viewer, operation.type === OperationTypeNode.MUTATION ? "chat:write" : "chat:read");
    this.#counted(() => checkCost(operation.cost(schema), variables ?? {}, queryLimits.maxCost));
  }

  /** What a limit refuses is counted under its name. */
  #counted<Result>(check: () => Result): Result {
    try {
      return check();
    } catch (error) {
      if (error instanceof ParleyError && error.details.limit !== undefined) {
        this.options.telemetry.limited(error.details.limit);
      }
      throw error;
    }
  }
}

type Variables = Readonly<Record<string, unknown>>;

/** An operation that may be executed. */
export class PreparedOperation {
  readonly operation: KnownOperation;
  readonly operationName: string | null;
  readonly #operations: Operations;
  readonly #variables: Variables | undefined;
  readonly #viewer: Viewer;
  readonly #exchange: Exchange;

  constructor(
    operations: Operations,
    operation: KnownOperation,
    operationName: string | null,
    variables: Variables | undefined,
    viewer: Viewer,
    exchange: Exchange,
  ) {
    this.operation = operation;
    this.operationName = operationName;
    this.#operations = operations;
    this.#variables = variables;
    this.#viewer = viewer;
    this.#exchange = exchange;
  }

  get isSubscription(): boolean {
    return this.operation.type === OperationTypeNode.SUBSCRIPTION;
  }

  /**
   * Never rejects. Errors of one result are masked; those of several are by whoever writes them. `inParts`: what is deferred
   * may come later. `sink`: where events go that several subscribers share; what is given back then waits for their end.
   */
  async run(inParts: boolean, sink: Sink | null = null): Promise<OperationResult> {
    const { mask, telemetry } = this.#operations.options;
    const { span, end } = reportOperation(telemetry, this.operation.description);
    let result: OperationResult;
    try {
      result = await span.inside(() => (this.isSubscription ? this.#subscribe(sink) : this.#execute(inParts)));
    } catch (error) {
      result = { errors: [withStatus(mask(error))] };
    }
    if (isSeveral(result)) {
      end({});
      return result;
    }
    end(result);
    if (result.errors === undefined) return result;
    return { ...result, errors: this.#wrongVariables(result) ?? result.errors.map(mask) };
  }

  async #execute(inParts: boolean): Promise<OperationResult> {
    const { operation } = this;
    const { compiled, schema } = this.#operations.options;
    const { deferred, undeferred, type } = operation;
    const args = this.#args();
    if (deferred && inParts) return this.#operations.yoga.execute(args);
    const byExecutor = () => execute({ ...args, document: undeferred });
    if (!compiled || deferred || type !== OperationTypeNode.QUERY) return byExecutor();
    return this.#operations.kept.answer(operation, this.#variables, args.contextValue, () => {
      return operation.compiled(schema).run(args.contextValue, this.#variables ?? {}) ?? byExecutor();
    });
  }

  async #subscribe(sink: Sink | null): Promise<OperationResult> {
    const { broadcasts, yoga } = this.#operations;
    const args = this.#args();
    const results = await (this.operation.deferred ? yoga.execute(args) : subscribe(args));
    const executing = () => this.#executingEvents(args);
    const shared = isSeveral(results) ? broadcasts.share(args, this.operation.node, executing) : null;
    if (sink !== null) shared?.deliverTo(sink);
    return shared ?? results;
  }

  /** It outlives the subscriber that it is made for, and holds nothing of it but the operation and its variables. */
  #executingEvents({ schema, document, operationName, variableValues }: ExecutionArgs): ExecuteEvent {
    const compiled = this.#operations.options.compiled ? this.operation.compiled(schema) : null;
    return (
      compiled?.events(variableValues ?? {}) ??
      ((contextValue, rootValue) =>
        execute({ schema, document, operationName, variableValues, contextValue, rootValue }))
    );
  }

  #args(): ExecutionArgs & { readonly contextValue: Context } {
    const { schema, conversations, maxAnswerBytes, telemetry } = this.#operations.options;
    const answer = new AnswerBudget(maxAnswerBytes, () => telemetry.limited("answerBytes"));
    const contextValue = new OperationContext(conversations, this.#viewer, this.#exchange, answer);
    const { operationName, operation } = this;
    return { schema, document: operation.document, contextValue, variableValues: this.#variables, operationName };
  }

  /**
   * With introspection off there is no "Did you mean", which would tell the schema name by name. The executor has no way to
   * be told so, nor of a status, so what it found wrong is found once more.
   */
  #wrongVariables({ data }: ExecutionResult): readonly GraphQLError[] | null {
    if (data !== undefined) return null;
    const { schema, introspection } = this.#operations.options;
    const definitions = this.operation.node.variableDefinitions ?? [];
    const options = { maxErrors: 50, hideSuggestions: !introspection };
    const { errors } = getVariableValues(schema, definitions, this.#variables ?? {}, options);
    return errors?.map((error) => withRequestStatus(this.#operations.options.mask(error))) ?? null;
  }
}

/** A signal is made where a resolver asks for it: few do. */
class OperationContext implements Context {
  asked = 0;
  readonly viewer: Viewer;
  readonly resume: Resume;
  readonly answer: AnswerBudget;
  readings?: Readings;
  known?: KnownSession;
  readonly #conversations: Conversations;
  readonly #exchange: Exchange;

  constructor(conversations: Conversations, viewer: Viewer, exchange: Exchange, answer: AnswerBudget) {
    this.#conversations = conversations;
    this.viewer = viewer;
    this.resume = exchange.resume;
    this.answer = answer;
    this.#exchange = exchange;
  }

  get conversations(): Conversations {
    this.asked += 1;
    return this.#conversations;
  }

  get signal(): AbortSignal {
    return this.#exchange.signal;
  }

  get userToken(): string | null {
    return this.#exchange.userToken;
  }

  whileWaiting<Result>(work: () => Promise<Result>): Promise<Result> {
    return this.#exchange.whileWaiting(work);
  }
}

interface CheckedParameters {
  readonly operationName: string | null;
  readonly variables: Variables | undefined;
}

/** @throws {GraphQLError} with the status to answer in extensions.http */
function checkedParameters({ operationName, variables, extensions }: OperationRequest): CheckedParameters {
  const name = isAbsent(operationName) || operationName === "" ? null : operationName;
  if (name !== null && typeof name !== "string") throw badRequest("`operationName` must be a string.");
  if (!isAbsent(variables) && !isObject(variables)) throw badRequest("`variables` must be an object.");
  if (!isAbsent(extensions) && !isObject(extensions)) throw badRequest("`extensions` must be an object.");
  return { operationName: name, variables: isAbsent(variables) ? undefined : variables };
}

function isAbsent(value: unknown): value is undefined | null {
  return value === undefined || value === null;
}

function noSuchOperation(): GraphQLError {
  const message = "Could not determine what operation to execute: give an operationName that the document holds.";
  return refusal(400, "OPERATION_RESOLUTION_FAILURE", message);
}

function changesByGet(): GraphQLError {
  const message = "Can only perform a mutation operation from a POST request.";
  return refusal(405, "BAD_REQUEST", message, { allow: "POST" });
}

interface OperationInProgress {
  readonly span: Span;
  /** Of several results with none: what comes later is no new operation. */
  readonly end: (result: Partial<ExecutionResult>) => void;
}

/** An operation begins to be executed, over whichever transport it came. */
function reportOperation(telemetry: Telemetry, { type, field, name }: OperationDescription): OperationInProgress {
  const startedAt = performance.now();
  const span = telemetry.begin({ kind: "operation", type, field, name });
  return {
    span,
    end({ errors }) {
      const code = codeOfErrors(errors);
      telemetry.operation({ type, field, code, seconds: (performance.now() - startedAt) / 1000 });
      span.end(code);
    },
  };
}

/** An operation that was refused before it was executed. */
function reportUnread(telemetry: Telemetry, errors: readonly unknown[]): void {
  telemetry.operation({ type: "unknown", field: "", code: codeOfErrors(errors), seconds: 0 });
}

/** "OK", or the code that a client gets for the first error. */
function codeOfErrors(errors: readonly unknown[] | undefined): string {
  const [first] = errors ?? [];
  if (first === undefined) return "OK";
  const error = first instanceof GraphQLError ? toGraphQLError(first) : null;
  const code = error?.extensions["code"];
  // As masking has it: the executor gives no code where a variable has a value that its type cannot hold.
  return typeof code === "string" ? code : "BAD_USER_INPUT";
}
