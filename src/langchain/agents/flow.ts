import { AIMessage, type BaseMessage } from "@langchain/core/messages";
import type { RunnableInterface } from "@langchain/core/runnables";

import { arrayOrEmpty, objectOrEmpty } from "../../conversation/message/json.ts";
import type { Adapter } from "../driver.ts";
import { ModelFailure, runError } from "../models/failure.ts";
import { unheard } from "../models/watched.ts";
import { FlowListener, type FlowRun } from "./flow-listener.ts";
import { aborted, limited } from "./limited.ts";

/** A graph or a Runnable of the program's own, which asks its models and runs its tools itself. */
export function flowAgent(run: FlowRun): Adapter {
  return {
    listen: (beginCall) => new FlowListener(beginCall, run),
    async answer(messages, signal, listener) {
      if (!(listener instanceof FlowListener)) throw new TypeError("A flow has a listener of its own");
      const timed = limited(signal, run.limits.runTimeoutMs);
      listener.stop = timed.stop;
      try {
        // Only a model's silence says something: what else a flow does is known to itself.
        const reply = await unheard(
          () => Promise.race([replyOf(run, messages, timed.signal, listener), aborted(timed.signal)]),
          () => listener.isAsking,
        );
        const failure = timed.failure();
        if (failure !== null) throw failure as Error; // one of ours
        listener.end(reply);
      } catch (error) {
        const failure = timed.failure() ?? error;
        // What goes on beside it, as tools may.
        timed.stop(failure);
        throw failure;
      } finally {
        listener.endTools();
        timed.end();
      }
    },
  };
}

async function replyOf(
  { kind, runs }: FlowRun,
  messages: readonly BaseMessage[],
  signal: AbortSignal,
  listener: FlowListener,
): Promise<BaseMessage> {
  // The state of a graph takes two messages of one id for one.
  for (const [i, message] of messages.entries()) message.id = `given-${i}`;
  // Requests are counted here: LangGraph's own measure counts each step of the graph.
  const options = { signal, callbacks: [listener], recursionLimit: 10_000 };
  const runnable = runs as RunnableInterface<unknown, unknown>; // what it gives is looked at
  const ended = await runnable.invoke(kind === "runnable" ? [...messages] : { messages: [...messages] }, options);
  // Of a graph within that has a checkpointer of its own: its interrupt() ends all as if nothing were the matter.
  if (arrayOrEmpty(objectOrEmpty(ended)["__interrupt__"]).length > 0) throw new ModelFailure(runError("CANNOT_WAIT"));
  const given = kind === "runnable" ? ended : arrayOrEmpty(objectOrEmpty(ended)["messages"]).at(-1);
  if (typeof given === "string") return new AIMessage(given);
  if (!AIMessage.isInstance(given) || given.id?.startsWith("given-") === true)
    throw refused(`The ${kind} ended without a reply of its model.`);
  if ((given.tool_calls ?? []).length > 0) throw refused(`The ${kind} ended with calls of tools that have no answer.`);
  return given;
}

function refused(message: string): ModelFailure {
  return new ModelFailure(runError("OTHER", { message, retryable: false }));
}
