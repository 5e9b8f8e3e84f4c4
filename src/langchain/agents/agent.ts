import { AIMessage, ToolMessage, type AIMessageFields, type BaseMessage } from "@langchain/core/messages";
import type { StructuredToolInterface } from "@langchain/core/tools";
import { createAgent, createMiddleware, MiddlewareError, ToolInvocationError } from "langchain";

import { objectOrEmpty, type JsonObject } from "../../conversation/message/json.ts";
import type { Steps } from "../../conversation/ports/model.ts";
import type { Adapter } from "../driver.ts";
import { sumOf } from "../driver.ts";
import type { Generated } from "../reply-data.ts";
import { replyData } from "../reply-data.ts";
import { ModelFailure, runError } from "../models/failure.ts";
import type { LoadedModel } from "../models/models.ts";
import { unheard } from "../models/watched.ts";
import { AgentListener, type AskedCall } from "./agent-listener.ts";
import { answerOf, failedAnswer, type ToolAnswer } from "./answer.ts";
import { Places } from "./places.ts";
import type { AgentLimits } from "./limits.ts";

export interface AgentRun {
  readonly model: LoadedModel;
  readonly tools: readonly StructuredToolInterface[];
  readonly limits: AgentLimits;
  readonly steps: Steps;
  /** For the operator: what a tool threw, which nobody else is told. */
  readonly onToolFailure: (tool: string, error: unknown) => void;
  readonly now: () => number;
}

/** An agent by LangChain's createAgent, one for each run. */
export function toolAgent(run: AgentRun): Adapter {
  return {
    listen: (beginCall) => new AgentListener(beginCall),
    async answer(messages, signal, listener) {
      if (!(listener instanceof AgentListener)) throw new TypeError("An agent has a listener of its own");
      const timed = limited(signal, run.limits.runTimeoutMs);
      try {
        await new Answering(run, timed.signal, listener).answer(messages);
      } catch (error) {
        const failure = timed.failure() ?? unwrapped(error);
        // Other tools may still work.
        timed.abort(failure);
        throw failure;
      } finally {
        timed.end();
      }
    },
  };
}

/** The model's requests and the tools between them, each behind the step that it belongs to. */
class Answering {
  readonly #run: AgentRun;
  readonly #signal: AbortSignal;
  readonly #listener: AgentListener;
  readonly #places: Places;
  readonly #names: ReadonlySet<string>;
  /** Of the open step. */
  #calls = new Map<string, AskedCall>();
  /** The messages of this run: LangChain gives them a name, which providers would be sent. */
  readonly #made: AIMessage[] = [];
  #modelCalls = 0;
  #toolCalls = 0;

  constructor(run: AgentRun, signal: AbortSignal, listener: AgentListener) {
    this.#run = run;
    this.#signal = signal;
    this.#listener = listener;
    this.#places = new Places(run.limits.parallelTools);
    this.#names = new Set(run.tools.map(({ name }) => name));
  }

  async answer(messages: readonly BaseMessage[]): Promise<void> {
    // The state of a graph takes two messages of one id for one.
    for (const [i, message] of messages.entries()) message.id = `given-${i}`;
    const middleware = createMiddleware({
      name: "Parley",
      wrapModelCall: async (request, handler) => {
        this.#begin();
        await handler(request);
        return await this.#message();
      },
      wrapToolCall: async (request, handler) => {
        const { id: callId = "", name } = request.toolCall;
        const answer = await this.#places.within(() =>
          this.#answerTo(callId, name, async (signal) => {
            const tool = request.tool as unknown as StructuredToolInterface; // one of those that the agent was made with
            return await handler({ ...request, tool: bounded(tool, signal, this.#listener, callId) });
          }),
        );
        return new ToolMessage({ ...answer, id: `answer-${callId}`, tool_call_id: callId, name });
      },
    });
    const agent = createAgent({ model: this.#run.model.chat, tools: [...this.#run.tools], middleware: [middleware] });
    // Requests are counted here: LangGraph's own measure counts each step of the graph.
    const options = { signal: this.#signal, callbacks: [this.#listener], recursionLimit: 10_000 };
    await agent.invoke({ messages: [...messages] }, options);
  }

  #begin(): void {
    this.#modelCalls += 1;
    if (this.#modelCalls > this.#run.limits.modelCalls) throw new ModelFailure(runError("TOOL_LIMIT"));
    for (const message of this.#made) delete message.name;
  }

  /** The message that the model has made; where it calls tools, the step is open behind this. */
  async #message(): Promise<AIMessage> {
    const { generated } = this.#listener;
    if (generated === null) throw new ModelFailure(runError("REPLY_CUT_OFF"));
    const calls = this.#listener.calls();
    const message = messageOf(generated, calls, `made-${this.#modelCalls}`);
    this.#made.push(message);
    if (calls.length > 0) await this.#open(message, generated, calls);
    return message;
  }

  async #open(message: AIMessage, { generationInfo }: Generated, calls: readonly AskedCall[]): Promise<void> {
    const { model, limits, steps } = this.#run;
    const { data, usage, finishReason } = replyData({ message, generationInfo }, this.#listener.text, model.modelName);
    // What is cut off may be a call with half of its arguments, or half of the calls.
    const isCutOff = finishReason === null ? model.speaksOpenAI : cutOff.has(finishReason.toLowerCase());
    if (isCutOff) throw new ModelFailure(runError("REPLY_CUT_OFF"));
    this.#toolCalls += calls.length;
    if (this.#toolCalls > limits.toolCalls) throw new ModelFailure(runError("TOOL_LIMIT"));
    this.#listener.call.tell({ usage, ...(finishReason === null ? {} : { finishReason }) });
    this.#listener.call.end("OK");
    this.#listener.earlierUsage = sumOf(this.#listener.earlierUsage, usage);
    if (!(await unheard(() => steps.open({ data, calls, usage })))) throw new ClosedRun();
    this.#calls = new Map(calls.map((call) => [call.callId, call]));
  }

  /** Carries a call out, once, and keeps what came of it. */
  async #answerTo(callId: string, name: string, call: (signal: AbortSignal) => Promise<unknown>): Promise<ToolAnswer> {
    const { steps, now } = this.#run;
    this.#signal.throwIfAborted();
    const startedAt = now();
    const answer = await unheard(() => this.#carryOut(callId, name, startedAt, call));
    this.#signal.throwIfAborted();
    const data = { ...answer, tool_call_id: callId, name };
    const change = {
      status: answer.status === "error" ? ("FAILED" as const) : ("DONE" as const),
      finishedAt: now(),
      content: answer.content,
    };
    if (!(await unheard(() => steps.answer({ callId, data, change })))) throw new ClosedRun();
    return answer;
  }

  async #carryOut(
    callId: string,
    name: string,
    startedAt: number,
    call: (signal: AbortSignal) => Promise<unknown>,
  ): Promise<ToolAnswer> {
    if (this.#calls.get(callId)?.args == null) return failedAnswer("The arguments are not valid JSON.");
    if (!this.#names.has(name)) return failedAnswer(`There is no tool "${name}".`);
    this.#listener.onPiece({ kind: "change", callId, change: { status: "RUNNING", startedAt } });
    const { limits, onToolFailure } = this.#run;
    const tooLong = new Error("The tool took too long.");
    const timed = limited(this.#signal, limits.toolTimeoutMs, tooLong);
    try {
      const given = await Promise.race([call(timed.signal), aborted(timed.signal)]);
      return answerOf(given, callId, limits.resultBytes);
    } catch (error) {
      // The run is over: there is nobody to tell.
      this.#signal.throwIfAborted();
      if (timed.failure() !== null) return failedAnswer(tooLong.message);
      const cause = unwrapped(error);
      if (ToolInvocationError.isInstance(cause)) return failedAnswer("The arguments do not fit the tool's schema.");
      onToolFailure(name, cause);
      return failedAnswer("The tool failed.");
    } finally {
      timed.end();
    }
  }
}

/** The run was closed by somebody else. Its signal aborts too: nobody is told this. */
class ClosedRun extends Error {}

const cutOff = new Set(["length", "max_tokens", "model_context_window_exceeded"]);

/** What LangChain is given of the message, with an id of its own: providers repeat theirs. */
function messageOf({ message, generationInfo }: Generated, calls: readonly AskedCall[], id: string): AIMessage {
  // Safe: a message is an object, and which kind of message a provider makes of its reply is not known here.
  const { content, additional_kwargs, response_metadata, usage_metadata } = message as unknown as JsonObject;
  const torn = calls
    .filter(({ args }) => args === null)
    .map(({ callId, argsText }) => [callId, argsText.slice(0, 4096)]);
  const fields = {
    id,
    content,
    // A call whose arguments are none has its answer like any other, which needs a call to answer.
    tool_calls: calls.map(({ callId, name, args }) => ({ id: callId, name, args: args ?? {}, type: "tool_call" })),
    // Its calls as the provider told them, which `tool_calls` has.
    additional_kwargs: { ...objectOrEmpty(additional_kwargs), tool_calls: undefined },
    response_metadata: {
      ...generationInfo,
      ...objectOrEmpty(response_metadata),
      ...(torn.length === 0 ? {} : { broken_arguments: Object.fromEntries(torn) as JsonObject }),
    },
    ...(usage_metadata === undefined ? {} : { usage_metadata }),
  };
  return new AIMessage(fields as unknown as AIMessageFields);
}

/** The tool with a signal that ends with its time, and with a writer that tells what it writes as data of its call. */
function bounded(
  tool: StructuredToolInterface,
  signal: AbortSignal,
  listener: AgentListener,
  callId: string,
): StructuredToolInterface {
  const writer = (data: unknown): void => listener.tellData(callId, "custom", data);
  // ToolNode asks for these two alone.
  const { name } = tool;
  const invoke: StructuredToolInterface["invoke"] = (input, config) =>
    tool.invoke(input, Object.assign({}, config, { signal, writer }));
  return { name, invoke } as unknown as StructuredToolInterface;
}

interface Limited {
  readonly signal: AbortSignal;
  /** null: its time is not over. */
  readonly failure: () => unknown;
  readonly abort: (reason: unknown) => void;
  readonly end: () => void;
}

/** A signal that also aborts after a time. A controller of its own: libraries leave listeners behind on a signal that lives longer. */
function limited(
  outer: AbortSignal,
  ms: number | null,
  reason: Error = new ModelFailure(runError("RUN_TIMEOUT")),
): Limited {
  const controller = new AbortController();
  let failure: unknown = null;
  const abort = (): void => controller.abort(outer.reason);
  if (outer.aborted) abort();
  outer.addEventListener("abort", abort, { once: true });
  const late = (): void => {
    failure = reason;
    controller.abort(reason);
  };
  const timer = ms === null ? undefined : setTimeout(late, ms);
  return {
    signal: controller.signal,
    failure: () => failure,
    abort: (because) => controller.abort(because),
    end() {
      clearTimeout(timer);
      outer.removeEventListener("abort", abort);
    },
  };
}

function aborted(signal: AbortSignal): Promise<never> {
  return new Promise((_, reject) => {
    const abort = (): void => reject(signal.reason instanceof Error ? signal.reason : new Error("Aborted"));
    if (signal.aborted) abort();
    signal.addEventListener("abort", abort, { once: true });
  });
}

/** LangChain wraps what is thrown within a middleware. */
function unwrapped(error: unknown): unknown {
  let inner = error;
  while (MiddlewareError.isInstance(inner) && inner.cause !== undefined) inner = inner.cause;
  return inner;
}
