import type { ExecutionArgs, OperationDefinitionNode } from "graphql";

import type { Context } from "../../graphql/context.ts";
import type { ExecuteEvent } from "../compiled-query.ts";
import type { MaskError } from "../masking.ts";
import { Broadcast } from "./broadcast.ts";
import { Results } from "./results.ts";
import { ShareKeys } from "./share-key.ts";

/** Subscriptions with the same operation, variables and viewer are one broadcast. */
export class Broadcasts {
  readonly #mask: MaskError;
  readonly #keys = new ShareKeys();
  readonly #broadcasts = new Map<string, Broadcast>();

  constructor(mask: MaskError) {
    this.#mask = mask;
  }

  /**
   * The results of an operation that has subscribed, in place of the executor's own stream; null: they are not shared.
   * `executing`: makes what executes its events.
   */
  share(
    args: ExecutionArgs & { readonly contextValue: Context },
    operation: OperationDefinitionNode,
    executing: () => ExecuteEvent,
  ): Results | null {
    const { contextValue } = args;
    const { live, resume, viewer, signal } = contextValue;
    if (live === undefined) return null;
    const key = this.#keys.of(args.document, operation, args.variableValues, viewer);
    if (key === null) {
      onAbort(signal, () => live.events.return?.());
      return null;
    }
    const results = new Results(resume);
    const known = this.#broadcasts.get(key);
    const broadcast =
      known ??
      new Broadcast(
        operation,
        contextValue,
        executing(),
        (event) => live.parentOf(event),
        this.#mask,
        () => this.#broadcasts.delete(key),
      );
    this.#broadcasts.set(key, broadcast);
    // The executor's stream was not pulled: its source is taken from here.
    broadcast.join(results, live.events);
    onAbort(signal, () => results.return());
    return results;
  }
}

/** What it ends has nobody to tell where ending fails. */
function onAbort(signal: AbortSignal, end: () => Promise<unknown> | undefined): void {
  const ended = () => void end()?.catch(() => undefined);
  if (signal.aborted) ended();
  else signal.addEventListener("abort", ended, { once: true });
}
