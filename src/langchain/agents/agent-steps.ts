import { AIMessage, type AIMessageFields } from "@langchain/core/messages";
import { toJsonSchema } from "@langchain/core/utils/json_schema";

import { objectOrEmpty, type JsonObject } from "../../conversation/message/json.ts";
import type { Asks, Steps } from "../../conversation/ports/model.ts";
import { RunWaits, sumOf } from "../driver.ts";
import { ModelFailure, runError } from "../models/failure.ts";
import { unheard } from "../models/watched.ts";
import { isCutOff, replyData, writtenContent, type Generated } from "../reply-data.ts";
import type { AgentListener, AskedCall } from "./agent-listener.ts";
import { shownContent, type ToolAnswer } from "./answer.ts";
import type { AgentLimits } from "./limits.ts";
import type { PausedAgent } from "./paused-agent.ts";
import type { AgentTool } from "./spec.ts";

export interface StepsOptions {
  /** For a row whose provider names none. */
  readonly modelName: string;
  /** A message without a finish reason was cut off. */
  readonly isStrict: boolean;
  readonly limits: Pick<AgentLimits, "modelCalls" | "toolCalls" | "resultBytes">;
  readonly steps: Steps;
  readonly now: () => number;
}

/** The steps of one run, within its limits. */
export class AgentSteps {
  readonly #options: StepsOptions;
  readonly #listener: AgentListener;
  #modelCalls = 0;
  #toolCalls = 0;
  #elapsedMs = 0;
  readonly #startedAt = performance.now();

  /** `paused`: of a run that has waited. */
  constructor(options: StepsOptions, listener: AgentListener, paused: PausedAgent | null = null) {
    this.#options = options;
    this.#listener = listener;
    if (paused === null) return;
    this.#modelCalls = paused.modelCalls;
    this.#toolCalls = paused.toolCalls;
    this.#elapsedMs = paused.elapsedMs;
    listener.goOn(paused.callIds, paused.usage);
  }

  /** Before each request to a model. */
  beginModel(): void {
    this.#modelCalls += 1;
    if (this.#modelCalls > this.#options.limits.modelCalls) throw new ModelFailure(runError("TOOL_LIMIT"));
  }

  /** Behind this its tools may begin. `tools`: that may need an approval. @throws ClosedRun, RunWaits */
  async open(
    message: AIMessage,
    { generationInfo }: Generated,
    calls: readonly AskedCall[],
    tools: readonly AgentTool[] = [],
  ): Promise<void> {
    const { modelName, isStrict, limits, steps } = this.#options;
    const { data, usage, finishReason, hasEnd } = replyData(
      { message, generationInfo },
      this.#listener.text,
      modelName,
    );
    // What is cut off may be a call with half of its arguments, or half of the calls.
    if (finishReason === null ? isStrict || hasEnd : isCutOff(finishReason))
      throw new ModelFailure(runError("REPLY_CUT_OFF"));
    this.#toolCalls += calls.length;
    if (this.#toolCalls > limits.toolCalls) throw new ModelFailure(runError("TOOL_LIMIT"));
    this.#listener.call.tell({ usage, ...(finishReason === null ? {} : { finishReason }) });
    this.#listener.call.end("OK");
    this.#listener.earlierUsage = sumOf(this.#listener.earlierUsage, usage);
    const asked = calls.map((call) => ({ ...call, asks: asksOf(call, tools, limits.resultBytes) }));
    if (asked.some(({ asks }) => asks !== null)) {
      const state: PausedAgent = {
        modelCalls: this.#modelCalls,
        toolCalls: this.#toolCalls,
        elapsedMs: this.#elapsedMs + performance.now() - this.#startedAt,
        usage: this.#listener.earlierUsage,
        callIds: this.#listener.callIds,
        calls,
      };
      if (!(await unheard(() => steps.wait({ data, calls: asked, usage, state: { ...state } })))) throw new ClosedRun();
      throw new RunWaits();
    }
    if (!(await unheard(() => steps.open({ data, calls, usage })))) throw new ClosedRun();
    this.#listener.endMessage();
  }

  /** @throws ClosedRun */
  async answer(callId: string, name: string, answer: ToolAnswer): Promise<void> {
    const { steps, now } = this.#options;
    const data = { ...answer, tool_call_id: callId, name };
    const change = {
      status: answer.status === "error" ? ("FAILED" as const) : ("DONE" as const),
      finishedAt: now(),
      content: shownContent(answer),
    };
    if (!(await unheard(() => steps.answer({ callId, data, change })))) throw new ClosedRun();
  }
}

/** What somebody has to say about the call; null: nothing. One that cannot be carried out is answered without. */
function asksOf({ name, args }: AskedCall, tools: readonly AgentTool[], resultBytes: number): Asks | null {
  const called = tools.find(({ tool }) => tool.name === name);
  if (called === undefined || args === null) return null;
  if (called.isPages === true) return { for: "result", args, resultBytes };
  if (!called.needsApproval) return null;
  // Typed as any of the forms that there are.
  return { for: "approval", args, schema: toJsonSchema(called.tool.schema as Parameters<typeof toJsonSchema>[0]) };
}

/** The run was closed by somebody else. Its signal aborts too: nobody is told this. */
export class ClosedRun extends Error {}

/** What LangChain is given of the message, with an id of its own: providers repeat theirs. */
export function messageOf({ message, generationInfo }: Generated, calls: readonly AskedCall[], id: string): AIMessage {
  // Safe: a message is an object, and which kind of message a provider makes of its reply is not known here.
  const { content, additional_kwargs, response_metadata, usage_metadata } = message as unknown as JsonObject;
  const torn = calls
    .filter(({ args }) => args === null)
    .map(({ callId, argsText }) => [callId, argsText.slice(0, 4096)]);
  const fields = {
    id,
    content: writtenContent(content),
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
