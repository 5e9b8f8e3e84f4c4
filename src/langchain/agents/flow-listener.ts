import type { HandleLLMNewTokenCallbackFields, NewTokenIndices } from "@langchain/core/callbacks/base";
import type { Serialized } from "@langchain/core/load/serializable";
import { AIMessage, ToolMessage, type AIMessageFields, type BaseMessage } from "@langchain/core/messages";
import type { LLMResult } from "@langchain/core/outputs";
import type { ChainValues } from "@langchain/core/utils/types";

import { arrayOrEmpty, objectOrEmpty, type JsonObject } from "../../conversation/message/json.ts";
import type { TokenUsage } from "../../conversation/message/message.ts";
import type { Span, ToolOutcome } from "../../conversation/ports/telemetry.ts";
import { sumOf } from "../driver.ts";
import { endingFailure, ModelFailure, runError } from "../models/failure.ts";
import { replyData, type Generated } from "../reply-data.ts";
import { textOf } from "../text.ts";
import { AgentListener, isWithin, type AskedCall } from "./agent-listener.ts";
import { AgentSteps, messageOf, type StepsOptions } from "./agent-steps.ts";
import { answerOf, failedAnswer, type ToolAnswer } from "./answer.ts";
import type { AgentLimits } from "./limits.ts";
import type { BeginTool, FlowSpec } from "./spec.ts";

export interface FlowRun extends Pick<FlowSpec, "kind" | "runs">, Omit<StepsOptions, "isStrict" | "limits"> {
  readonly limits: AgentLimits;
  readonly beginTool: BeginTool;
  /** For the operator: what a tool threw, which nobody else is told. */
  readonly onToolFailure: (tool: string, error: unknown) => void;
}

/** A message that calls tools. Its step is opened when one of them begins, or has answered: it may be that none ever does. */
interface Made {
  readonly message: AIMessage;
  readonly generated: Generated;
  readonly calls: readonly AskedCall[];
  open: Promise<void> | null;
}

interface Asked {
  readonly made: Made;
  readonly call: AskedCall;
}

const brokenArguments = "The arguments are not valid JSON.";

/**
 * Hears all that a flow does. LangChain waits for it: a tool begins when its step is open, and a node's successor when
 * the answers that the node gave are stored.
 */
export class FlowListener extends AgentListener {
  override readonly raiseError = true;
  /** Ends the flow for this reason. */
  stop: (reason: unknown) => void = () => undefined;
  readonly #run: FlowRun;
  readonly #steps: AgentSteps;
  /** The whole flow, as LangChain names it, and the nodes of a graph that run. */
  #root: string | null = null;
  readonly #nodes = new Set<string>();
  /** Requests to models that go on; of these the one that is heard. */
  readonly #asking = new Set<string>();
  #heard: string | null = null;
  readonly #usages = new Map<string, TokenUsage | null>();
  /** What the models said, by the id that it has in the flow's state. */
  readonly #said = new Map<string, { readonly generated: Generated; readonly runId: string }>();
  /** By the id that a call has in the flow's state. */
  readonly #asked = new Map<string, Asked>();
  readonly #known = new WeakSet<BaseMessage>();
  readonly #begun = new Set<string>();
  readonly #running = new Map<string, Made>();
  readonly #watches = new Map<string, ReturnType<BeginTool>>();
  readonly #answered = new Set<string>();
  #opened: Made | null = null;

  constructor(beginCall: () => Span, run: FlowRun) {
    super(beginCall);
    this.#run = run;
    this.#steps = new AgentSteps({ ...run, isStrict: false }, this);
  }

  get isAsking(): boolean {
    return this.#asking.size > 0;
  }

  override handleChainStart(chain: Serialized, inputs: ChainValues, runId: string, parentRunId?: string): void {
    super.handleChainStart(chain, inputs, runId, parentRunId);
    this.#root ??= runId;
    if (parentRunId === this.#root) this.#nodes.add(runId);
  }

  override async handleChainEnd(outputs: unknown, runId: string): Promise<void> {
    if (this.#run.kind === "graph" && this.#nodes.delete(runId)) await this.#take(messagesIn(outputs));
  }

  override handleChatModelStart(
    llm?: Serialized,
    messages?: BaseMessage[][],
    runId = "",
    parentRunId?: string,
    extra?: Record<string, unknown>,
    tags?: string[],
    metadata?: Record<string, unknown>,
  ): void {
    try {
      this.#steps.beginModel();
    } catch (error) {
      this.stop(error);
      throw error;
    }
    this.#asking.add(runId);
    // What two say at a time is no text.
    if (this.#heard !== null) return;
    this.call.end("OK");
    super.handleChatModelStart(llm, messages, runId, parentRunId, extra, tags, metadata);
    if (this.isOwn(runId)) this.#heard = runId;
  }

  override handleLLMNewToken(
    token: string,
    indices: NewTokenIndices,
    runId: string,
    parentRunId?: string,
    tags?: string[],
    fields?: HandleLLMNewTokenCallbackFields,
  ): void {
    super.handleLLMNewToken(token, indices, runId, parentRunId, tags, fields);
    // Also one that nobody hears is alive.
    if (runId !== this.#heard) this.onPiece({ kind: "text", text: "" });
  }

  override handleLLMError(_error: unknown, runId: string): void {
    this.#asking.delete(runId);
    if (runId === this.#heard) this.#heard = null;
  }

  override handleLLMEnd(output: LLMResult, runId = ""): void {
    this.#asking.delete(runId);
    this.onPiece({ kind: "text", text: "" });
    const message = objectOrEmpty(output.generations[0]?.[0])["message"];
    if (!AIMessage.isInstance(message)) return;
    this.#usages.set(runId, usageOf({ message, generationInfo: {} }));
    // The very message that the flow gets. Providers repeat ids, and a graph's state takes two messages of one id for one.
    const id = `made-${this.#usages.size}`;
    Object.assign(message, { id });
    if (runId !== this.#heard) return;
    this.#heard = null;
    super.handleLLMEnd(output, runId);
    const { generated } = this;
    if (generated === null) return;
    this.#said.set(id, { generated, runId });
    const calls = this.calls();
    if (calls.length > 0) {
      const made: Made = { message: messageOf(generated, calls, id), generated, calls, open: null };
      Object.assign(message, { tool_calls: made.message.tool_calls, invalid_tool_calls: [] });
      for (const call of calls) this.#asked.set(call.callId, { made, call });
    }
    this.#known.add(message);
  }

  override async handleToolStart(
    tool: Serialized,
    input: string,
    runId: string,
    parentRunId?: string,
    tags?: string[],
    metadata?: Record<string, unknown>,
    name?: string,
    callId?: string,
  ): Promise<void> {
    const asked = callId === undefined || isWithin(metadata ?? {}) ? undefined : this.#asked.get(callId);
    void super.handleToolStart(tool, input, runId, parentRunId, tags, metadata, name, asked?.call.callId);
    if (asked === undefined) return;
    const { made, call } = asked;
    if (this.#begun.has(call.callId)) throw new Error("A call of a tool is begun once.");
    this.#begun.add(call.callId);
    this.#running.set(call.callId, made);
    await this.#stored(() => this.#open(made));
    if (call.args === null) {
      this.#running.delete(call.callId);
      throw new Error(brokenArguments);
    }
    this.#watches.set(call.callId, this.#run.beginTool(name ?? call.name));
    this.onPiece({
      ...{ kind: "change", callId: call.callId },
      change: { status: "RUNNING", startedAt: this.#run.now() },
    });
  }

  override async handleToolEnd(output: unknown, runId: string): Promise<void> {
    const callId = this.callIdOf(runId);
    if (callId === undefined) return;
    const answer = answerOf(output, callId, this.#run.limits.resultBytes);
    this.#ended(callId, answer.status === "error" ? "FAILED" : "OK");
    await this.#keep(callId, answer);
  }

  override async handleToolError(error: unknown, runId: string): Promise<void> {
    const callId = this.callIdOf(runId);
    if (callId === undefined) return;
    this.#ended(callId, "FAILED");
    this.#run.onToolFailure(this.#nameOf(callId), error);
    const ending = endingFailure(error);
    if (ending !== null) await this.#stored(() => Promise.reject(ending));
    await this.#keep(callId, failedAnswer("The tool failed."));
  }

  #ended(callId: string, outcome: ToolOutcome): void {
    this.#running.delete(callId);
    this.#watches.get(callId)?.end(outcome);
    this.#watches.delete(callId);
  }

  /** Whatever becomes of them, nobody waits for these tools any more. */
  endTools(): void {
    for (const callId of [...this.#watches.keys()]) this.#ended(callId, "CANCELLED");
  }

  /** The flow has ended, with this reply. */
  end(reply: BaseMessage): void {
    const text = textOf(reply.content);
    // Many nodes make a message of their own of what the model said.
    const newest = [...this.#said.values()].at(-1);
    const said =
      this.#said.get(reply.id ?? "") ?? (text !== "" && this.text.endsWith(text) ? newest : undefined) ?? null;
    // Safe: a message is an object. Without what its model has cost, which is counted where it was heard.
    const { content, additional_kwargs, response_metadata } = reply as unknown as JsonObject;
    const bare = new AIMessage({ content, additional_kwargs, response_metadata } as unknown as AIMessageFields);
    this.adopt(said?.generated ?? { message: bare, generationInfo: {} });
    if (said === null) this.#sayWhole(text);
    const others = [...this.#usages].filter(([runId]) => runId !== said?.runId);
    this.earlierUsage = others.reduce<TokenUsage | null>((sum, [, usage]) => sumOf(sum, usage), null);
  }

  #sayWhole(text: string): void {
    if (this.text === "") this.onPiece({ kind: "message" });
    else this.leaveGap();
    this.say(text);
  }

  /** The messages that a node has given: answers that no tool was heard to give, and steps of a graph within. */
  async #take(messages: readonly unknown[]): Promise<void> {
    for (const message of messages) {
      if (AIMessage.isInstance(message)) this.#adoptCalls(message);
      if (!ToolMessage.isInstance(message)) continue;
      const asked = this.#asked.get(message.tool_call_id);
      if (asked === undefined || this.#answered.has(asked.call.callId)) continue;
      const { callId, name, args } = asked.call;
      await this.#stored(() => this.#open(asked.made));
      if (message.status === "error" && args !== null)
        this.#run.onToolFailure(name, new Error(textOf(message.content)));
      const answer =
        args === null
          ? failedAnswer(brokenArguments)
          : message.status === "error"
            ? failedAnswer("The tool failed.")
            : answerOf(message, message.tool_call_id, this.#run.limits.resultBytes);
      await this.#keep(callId, answer);
    }
  }

  #adoptCalls(message: AIMessage): void {
    const ids = (message.tool_calls ?? []).map(({ id }) => id ?? "");
    // A graph within gives all that it had, also what it was given.
    const isKnown = this.#known.has(message) || ids.some((id) => this.#asked.has(id));
    this.#known.add(message);
    if (isKnown || ids.length === 0) return;
    const generated = { message, generationInfo: {} };
    this.adopt(generated);
    const calls = this.calls();
    const made: Made = { message: messageOf(generated, calls, "within"), generated, calls, open: null };
    for (const [i, call] of calls.entries()) this.#asked.set(ids[i] ?? call.callId, { made, call });
  }

  /** Its step is open behind this, once. */
  #open(made: Made): Promise<void> {
    return (made.open ??= this.#openNow(made));
  }

  async #openNow(made: Made): Promise<void> {
    if ([...this.#running.values()].some((one) => one !== made)) {
      const message = "Two messages of the graph call tools at the same time, which a history cannot hold.";
      throw new ModelFailure(runError("OTHER", { message, retryable: false }));
    }
    // The flow has gone on without them.
    for (const { callId } of this.#opened?.calls ?? [])
      await this.#keepNow(callId, failedAnswer("The call was not carried out."));
    await this.#steps.open(made.message, made.generated, made.calls);
    this.#opened = made;
  }

  async #keep(callId: string, answer: ToolAnswer): Promise<void> {
    await this.#stored(() => this.#keepNow(callId, answer));
  }

  async #keepNow(callId: string, answer: ToolAnswer): Promise<void> {
    if (this.#answered.has(callId)) return;
    this.#answered.add(callId);
    await this.#steps.answer(callId, this.#nameOf(callId), answer);
  }

  #nameOf(callId: string): string {
    return [...this.#asked.values()].find(({ call }) => call.callId === callId)?.call.name ?? "";
  }

  /** Where it cannot be stored the flow ends: whoever waits for it never goes on. */
  async #stored(store: () => Promise<void>): Promise<void> {
    try {
      await store();
    } catch (error) {
      this.stop(error);
      await new Promise(() => undefined);
    }
  }
}

function usageOf(generated: Generated): TokenUsage | null {
  return replyData(generated, "", "").usage;
}

/** Of what a node gives: an update, a command of LangGraph's with one, or several of them. */
function messagesIn(outputs: unknown): readonly unknown[] {
  const given = Array.isArray(outputs) ? outputs : [outputs];
  return given.flatMap((one) => {
    if (AIMessage.isInstance(one) || ToolMessage.isInstance(one)) return [one];
    const { messages, update } = objectOrEmpty(one);
    const found = messages ?? objectOrEmpty(update)["messages"];
    return AIMessage.isInstance(found) || ToolMessage.isInstance(found) ? [found] : arrayOrEmpty(found);
  });
}
