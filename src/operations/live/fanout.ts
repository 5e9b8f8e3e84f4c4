import { execute } from "graphql";
import type { ExecutionArgs, ExecutionResult, OperationDefinitionNode } from "graphql";

import { beginEvent } from "../../graphql/context.ts";
import type { Context } from "../../graphql/context.ts";
import { liveSource } from "../../graphql/reading/live.ts";
import type { LiveSource } from "../../graphql/reading/live.ts";
import type { MaskError } from "../masking.ts";
import { Outcome } from "./outcome.ts";
import { ShareKeys } from "./share-key.ts";
import { SharedResults } from "./shared-results.ts";
import type { EventExecution } from "./shared-results.ts";

/**
 * Subscriptions with the same operation, variables and viewer share one execution and one serialisation of each event.
 * Where each subscriber stands stays its own: it takes its events from its own source, and who is in step is given the
 * same event object as all others, by which what was made of it is found again.
 */
export class Fanout {
  readonly #mask: MaskError;
  readonly #keys = new ShareKeys();
  /** Held by their subscribers alone: whichever way these go, nothing is left of an operation that has none. */
  readonly #operations = new WeakMap<OperationDefinitionNode, Map<string, WeakRef<SharedOperation>>>();
  readonly #gone = new FinalizationRegistry<() => void>((forget) => forget());
  readonly #outcomes = new WeakMap<ExecutionResult, Outcome>();

  constructor(mask: MaskError) {
    this.#mask = mask;
  }

  /** The JSON of a shared result; undefined: of no shared one. */
  jsonOf(result: unknown): string | undefined {
    return typeof result === "object" && result !== null ? this.#outcomes.get(result)?.json : undefined;
  }

  /** The results of an operation that has subscribed, in place of the executor's own stream; null: they are not shared. */
  share(args: ExecutionArgs, operation: OperationDefinitionNode): SharedResults | null {
    const context = args.contextValue as Context; // of all operations
    const source = liveSource(context);
    if (source === null) return null;
    const key = this.#keys.of(args.document, operation, args.variableValues, context.viewer);
    if (key === null) return null;
    // The executor's stream was not pulled: its source is taken from here.
    return new SharedResults(this.#join(operation, key, args), source, context.resume);
  }

  #join(operation: OperationDefinitionNode, key: string, args: ExecutionArgs): SharedOperation {
    const ofOperation = this.#operations.get(operation) ?? new Map<string, WeakRef<SharedOperation>>();
    this.#operations.set(operation, ofOperation);
    const known = ofOperation.get(key)?.deref();
    if (known !== undefined) return known;
    const shared = new SharedOperation(operation, args, (result) => this.#outcomeOf(result));
    const reference = new WeakRef(shared);
    ofOperation.set(key, reference);
    this.#gone.register(shared, () => {
      if (ofOperation.get(key) === reference) ofOperation.delete(key);
    });
    return shared;
  }

  #outcomeOf(result: ExecutionResult): Outcome {
    const outcome = new Outcome(result, this.#mask);
    this.#outcomes.set(result, outcome);
    return outcome;
  }
}

/** One operation of one viewer, for all its subscribers. */
class SharedOperation implements EventExecution {
  readonly operation: OperationDefinitionNode;
  readonly #context: Context;
  readonly #args: ExecutionArgs;
  readonly #outcomeOf: (result: ExecutionResult) => Outcome;
  /** Gone with the event, which its source holds for as long as others may be told of it. */
  readonly #outcomes = new WeakMap<object, Outcome | Promise<Outcome>>();

  constructor(
    operation: OperationDefinitionNode,
    args: ExecutionArgs,
    outcomeOf: (result: ExecutionResult) => Outcome,
  ) {
    this.operation = operation;
    this.#outcomeOf = outcomeOf;
    const { conversations, viewer, answer } = args.contextValue as Context; // as above
    // No subscriber's own: it outlives the first one.
    const contextValue: Context = {
      conversations,
      viewer,
      signal: new AbortController().signal,
      whileWaiting: (work) => work(),
      resume: { lastEventId: null, cursor: null },
      ...(answer === undefined ? {} : { answer }),
    };
    const { schema, document, operationName, variableValues } = args;
    this.#context = contextValue;
    this.#args = { schema, document, operationName, variableValues };
  }

  outcome(event: object, source: LiveSource): Outcome | Promise<Outcome> {
    const known = this.#outcomes.get(event);
    if (known !== undefined) return known;
    // Of several events that are executed at a time each counts for itself.
    const contextValue = { ...this.#context };
    beginEvent(contextValue);
    const result = execute({ ...this.#args, contextValue, rootValue: source.parentOf(event) });
    let outcome: Outcome | Promise<Outcome>;
    if (result instanceof Promise) {
      outcome = result.then((settled) => {
        const ready = this.#outcomeOf(settled);
        this.#outcomes.set(event, ready);
        return ready;
      });
    } else outcome = this.#outcomeOf(result);
    this.#outcomes.set(event, outcome);
    return outcome;
  }
}
