import {
  AIMessage,
  mapStoredMessagesToChatMessages,
  ToolMessage,
  type BaseMessage,
  type StoredMessage,
} from "@langchain/core/messages";
import type { StructuredToolInterface } from "@langchain/core/tools";
import {
  createAgent,
  createMiddleware,
  MiddlewareError,
  providerStrategy,
  StructuredOutputParsingError,
  ToolInvocationError,
} from "langchain";

import type { ResumedReply, Steps } from "../../conversation/ports/model.ts";
import type { ToolOutcome } from "../../conversation/ports/telemetry.ts";
import type { Adapter } from "../driver.ts";
import { endingFailure, ModelFailure, runError } from "../models/failure.ts";
import type { LoadedModel } from "../models/models.ts";
import { unheard } from "../models/watched.ts";
import { AgentListener, type AskedCall } from "./agent-listener.ts";
import { AgentSteps, ClosedRun, messageOf } from "./agent-steps.ts";
import { answerOf, failedAnswer, type ToolAnswer } from "./answer.ts";
import { aborted, limited } from "./limited.ts";
import type { ResponseSchema } from "./agent-options.ts";
import type { AgentLimits } from "./limits.ts";
import { pausedAgentOf, type PausedAgent } from "./paused-agent.ts";
import { thereAre, type AgentTool, type BeginTool } from "./spec.ts";
import { Places } from "./places.ts";

export interface AgentRun {
  readonly model: LoadedModel;
  readonly tools: readonly AgentTool[];
  readonly limits: AgentLimits;
  /** null: its reply is a text. */
  readonly responseFormat: ResponseSchema | null;
  readonly steps: Steps;
  /** null: the run begins. */
  readonly resumed: ResumedReply | null;
  readonly beginTool: BeginTool;
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
      const paused = run.resumed && pausedAgentOf(run.resumed.state);
      const { runTimeoutMs } = run.limits;
      // The time that it has waited for somebody counts for nothing.
      const timed = limited(
        signal,
        runTimeoutMs === null ? null : Math.max(1, runTimeoutMs - (paused?.elapsedMs ?? 0)),
      );
      try {
        await new Answering(run, timed.signal, listener, paused).answer(messages);
      } catch (error) {
        const failure = timed.failure() ?? unwrapped(error);
        // Other tools may still work.
        timed.stop(failure);
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
  readonly #steps: AgentSteps;
  readonly #places: Places;
  readonly #names: ReadonlySet<string>;
  readonly #format: ReturnType<typeof providerStrategy> | null;
  /** Of the open step. */
  #calls = new Map<string, AskedCall>();
  /** The messages of this run: LangChain gives them a name, which providers would be sent. */
  readonly #made: AIMessage[] = [];

  constructor(run: AgentRun, signal: AbortSignal, listener: AgentListener, paused: PausedAgent | null) {
    this.#run = run;
    this.#signal = signal;
    this.#listener = listener;
    this.#steps = new AgentSteps(
      { ...run, modelName: run.model.modelName, isStrict: run.model.speaksOpenAI },
      listener,
      paused,
    );
    this.#places = new Places(run.limits.parallelTools);
    this.#names = new Set(run.tools.map(({ tool }) => tool.name));
    // Never by a tool of LangChain's own that the model must call: that makes a call and an answer in the history that there
    // were not, and a reply that is not live. Safe: one of the forms of a schema (formatProblems).
    this.#format = run.responseFormat === null ? null : providerStrategy(run.responseFormat as never);
    if (paused !== null) this.#calls = new Map(paused.calls.map((call) => [call.callId, call]));
  }

  async answer(given: readonly BaseMessage[]): Promise<void> {
    const { resumed, steps, model, tools } = this.#run;
    const messages = [...given, ...madeMessages(resumed)];
    // The state of a graph takes two messages of one id for one.
    for (const [i, message] of messages.entries()) message.id = `given-${i}`;
    // From here on its calls may have taken effect.
    if (resumed !== null && !(await unheard(() => steps.claim()))) throw new ClosedRun();
    const middleware = createMiddleware({
      name: "Parley",
      ...(resumed === null
        ? {}
        : { beforeAgent: { canJumpTo: ["tools"], hook: () => ({ jumpTo: "tools" as const }) } }),
      wrapModelCall: async (request, handler) => {
        this.#begin();
        await unparsed(async () => await handler(request));
        return await this.#message();
      },
      wrapToolCall: async (request, handler) => {
        const { id: callId = "", name } = request.toolCall;
        const decided = resumed?.answers.get(callId);
        if (decided !== undefined) return new ToolMessage({ content: "", ...decided, tool_call_id: callId, name });
        const answer = await this.#places.within(() =>
          this.#answerTo(callId, name, async (signal) => {
            const tool = request.tool as unknown as StructuredToolInterface; // one of those that the agent was made with
            return await handler({ ...request, tool: bounded(tool, signal, this.#listener, callId) });
          }),
        );
        return new ToolMessage({ ...answer, id: `answer-${callId}`, tool_call_id: callId, name });
      },
    });
    const agent = createAgent({
      ...{ model: model.chat, tools: tools.map(({ tool }) => tool), middleware: [middleware] },
      ...(this.#format === null ? {} : { responseFormat: this.#format }),
    });
    // Requests are counted here: LangGraph's own measure counts each step of the graph.
    const options = { signal: this.#signal, callbacks: [this.#listener], recursionLimit: 10_000 };
    await agent.invoke({ messages: [...messages] }, options);
  }

  #begin(): void {
    this.#steps.beginModel();
    for (const message of this.#made) delete message.name;
  }

  /** The message that the model has made; where it calls tools, the step is open behind this. */
  async #message(): Promise<AIMessage> {
    const { generated } = this.#listener;
    if (generated === null) throw new ModelFailure(runError("REPLY_CUT_OFF"));
    const calls = this.#listener.calls();
    const message = messageOf(generated, calls, `made-${this.#made.length}`);
    this.#made.push(message);
    if (calls.length > 0) {
      await this.#steps.open(message, generated, calls, this.#run.tools);
      this.#calls = new Map(calls.map((call) => [call.callId, call]));
    } else if (this.#format !== null) {
      this.#listener.isStructured = this.#format.parse(new AIMessage(this.#listener.text)) !== undefined;
    }
    return message;
  }

  /** Carries a call out, once, and keeps what came of it. */
  async #answerTo(callId: string, name: string, call: (signal: AbortSignal) => Promise<unknown>): Promise<ToolAnswer> {
    const { now } = this.#run;
    this.#signal.throwIfAborted();
    const startedAt = now();
    const answer = await unheard(() => this.#carryOut(callId, name, startedAt, call));
    this.#signal.throwIfAborted();
    await this.#steps.answer(callId, name, answer);
    return answer;
  }

  async #carryOut(
    callId: string,
    name: string,
    startedAt: number,
    call: (signal: AbortSignal) => Promise<unknown>,
  ): Promise<ToolAnswer> {
    if (this.#calls.get(callId)?.args == null) return failedAnswer("The arguments are not valid JSON.");
    if (!this.#names.has(name)) return failedAnswer(`There is no tool "${name}". ${thereAre([...this.#names])}`);
    this.#listener.onPiece({ kind: "change", callId, change: { status: "RUNNING", startedAt } });
    const { limits, beginTool, onToolFailure } = this.#run;
    const tooLong = new Error("The tool took too long.");
    const timed = limited(this.#signal, limits.toolTimeoutMs, tooLong);
    const watch = beginTool(name);
    let outcome: ToolOutcome = "CANCELLED";
    try {
      const given = await watch.inside(() => Promise.race([call(timed.signal), aborted(timed.signal)]));
      const answer = answerOf(given, callId, limits.resultBytes);
      outcome = answer.status === "error" ? "FAILED" : "OK";
      return answer;
    } catch (error) {
      // The run is over: there is nobody to tell.
      this.#signal.throwIfAborted();
      outcome = timed.failure() === null ? "FAILED" : "TIMEOUT";
      if (outcome === "TIMEOUT") return failedAnswer(tooLong.message);
      const cause = unwrapped(error);
      if (ToolInvocationError.isInstance(cause)) return failedAnswer("The arguments do not fit the tool's schema.");
      onToolFailure(name, cause);
      const ending = endingFailure(cause);
      if (ending !== null) throw ending;
      return failedAnswer("The tool failed.");
    } finally {
      watch.end(outcome);
      timed.end();
    }
  }
}

/** LangChain looks for the object in the first block of the reply's text alone, and throws where it is not there. */
async function unparsed(call: () => Promise<unknown>): Promise<void> {
  try {
    await call();
  } catch (error) {
    if (!(error instanceof StructuredOutputParsingError)) throw error;
  }
}

/** The run's own messages, as they were before it waited. */
function madeMessages(resumed: ResumedReply | null): readonly BaseMessage[] {
  // Safe: rows that this gateway, or another one, has written.
  return mapStoredMessagesToChatMessages((resumed?.rows ?? []).map((row) => JSON.parse(row) as StoredMessage));
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

/** LangChain wraps what is thrown within a middleware. */
function unwrapped(error: unknown): unknown {
  let inner = error;
  while (MiddlewareError.isInstance(inner) && inner.cause !== undefined) inner = inner.cause;
  return inner;
}
