import { ConversationChain } from "@langchain/classic/chains";
import {
  BaseCallbackHandler,
  type HandleLLMNewTokenCallbackFields,
  type NewTokenIndices,
} from "@langchain/core/callbacks/base";
import { SystemMessage, type BaseMessage } from "@langchain/core/messages";
import type { Generation, LLMResult } from "@langchain/core/outputs";
import { ChatPromptTemplate, MessagesPlaceholder } from "@langchain/core/prompts";

import { objectOrEmpty, type JsonObject } from "../conversation/message/json.ts";
import type { ReplyOutcome } from "../conversation/ports/replies.ts";
import { noSpan, type Facts, type Span } from "../conversation/ports/telemetry.ts";
import { failureOf, runError } from "./models/failure.ts";
import { asItIs, counted, fitted, inOpenAIsFormat, withoutMedia } from "./history/media.ts";
import { turnMemory } from "./history/memory.ts";
import type { LoadedModel } from "./models/models.ts";
import { replyData, withUsage, type Generated } from "./reply-data.ts";
import { inStrictOrder, markOwn } from "./history/role-order.ts";
import { symptomsOf } from "./models/symptoms.ts";
import { textOf } from "./text.ts";
import { estimatedUsage } from "./models/usage-estimate.ts";
import { watched } from "./models/watched.ts";

export interface Turn {
  readonly model: LoadedModel;
  /** System prompt, taken literally. */
  readonly instructions: string | null;
  /** What the model sees below the input, oldest first. */
  readonly history: readonly BaseMessage[];
  readonly input: BaseMessage;
  readonly signal: AbortSignal;
  readonly onText: (text: string) => void;
  /** The longest time without a sign of life of the model: before its first piece, and between two. */
  readonly idleMs: number;
  /** What it failed with, as it was thrown. */
  readonly onFailure: (error: unknown) => void;
  /** When the chain calls the model. */
  readonly beginCall: () => Span;
}

/** One turn, with what the model takes of the history; what is left out is noted. */
export async function runTurn(turn: Turn): Promise<ReplyOutcome> {
  const takes = turn.model.speaksOpenAI ? inOpenAIsFormat : asItIs;
  const { messages, leftOut } = fitted(turn.history, takes);
  const notes =
    leftOut.length === 0 ? [] : [`Left out of what the model saw, as it does not take it: ${counted(leftOut)}.`];
  const asked = fitted([turn.input], takes);
  const [input] = asked.messages;
  // The user wants it looked at: an answer without it would be none.
  if (asked.leftOut.length > 0 || input === undefined) {
    const message = `The model does not take ${counted(asked.leftOut)} in this form. Leave it out, or choose another model.`;
    return noted({ kind: "failed", error: runError("OTHER", { message, retryable: false }) }, notes);
  }

  let pieces = 0;
  const onText = (text: string): void => {
    pieces += 1;
    turn.onText(text);
  };
  const thrown: unknown[] = [];
  const onFailure = (error: unknown): void => {
    thrown.push(error);
    turn.onFailure(error);
  };
  const outcome = await attempt({ ...turn, history: messages, input, onText, onFailure });
  const bare = withoutMedia(messages);
  if (pieces > 0 || bare.leftOut.length === 0 || !isRefusal(outcome, thrown[0])) return noted(outcome, notes);
  // It may be the model that takes none, or an address that leads nowhere any more: the session is to go on all the same.
  const again = await attempt({ ...turn, history: bare.messages, input });
  if (again.kind === "failed") return noted(outcome, notes);
  const refused = `Left out of what the model saw, as its provider refused the request with it: ${counted(bare.leftOut)}.`;
  return noted(again, [...notes, refused]);
}

function noted(outcome: ReplyOutcome, notes: readonly string[]): ReplyOutcome {
  return outcome.kind === "cancelled" || notes.length === 0 ? outcome : { ...outcome, notes };
}

/** The request itself was not accepted, as far as can be told. */
function isRefusal(outcome: ReplyOutcome, thrown: unknown): boolean {
  if (outcome.kind !== "failed") return false;
  const { code, retryable } = outcome.error;
  if (code === "OTHER") return true;
  // llama.cpp and Ollama say it by 500: "image input is not supported".
  return code === "MODEL_UNAVAILABLE" && (!retryable || mediaWords.test(symptomsOf(thrown).text));
}

const mediaWords = /\b(?:images?|audio|videos?|files?|vision|multi-?modal|mmproj)\b/i;

/** Through a ConversationChain of its own. */
async function attempt(turn: Turn): Promise<ReplyOutcome> {
  const listener = new ReplyListener(turn.beginCall);
  const outcome = await carryOut(turn, listener);
  listener.call.end(outcome.kind === "failed" ? outcome.error.code : "OK");
  return outcome;
}

async function carryOut(turn: Turn, listener: ReplyListener): Promise<ReplyOutcome> {
  const messages = messagesOf(turn);
  const end = await watched(turn.signal, turn.idleMs, async (signal, touch) => {
    listener.onPiece = (text) => {
      // A model that ignores its signal goes on to talk after the turn has ended.
      if (signal.aborted) return;
      touch();
      if (text !== "") turn.onText(text);
    };
    // The signal is in the input because ConversationChain ignores the one of its config.
    const input = { input: messages.slice(-1), signal };
    await chainOf(turn.model, messages.slice(0, -1)).invoke(input, { callbacks: [listener] });
  });

  switch (end.kind) {
    case "cancelled":
      return { kind: "cancelled" };
    case "timedOut":
      return { kind: "failed", error: runError("MODEL_TIMEOUT") };
    case "threw":
      turn.onFailure(end.error);
      return { kind: "failed", error: failureOf(end.error, listener.started) };
    case "done":
      return completed(turn.model, messages, listener);
  }
}

async function completed(
  model: LoadedModel,
  messages: readonly BaseMessage[],
  listener: ReplyListener,
): Promise<ReplyOutcome> {
  const { generated } = listener;
  if (generated === null) return { kind: "failed", error: runError("REPLY_CUT_OFF") };
  const reply = replyData(generated, listener.text, model.modelName);
  const { text, finishReason } = reply;
  const { data, usage } =
    reply.usage === null && model.speaksOpenAI ? withUsage(reply, await estimatedUsage(messages, text)) : reply;
  listener.call.tell({ usage, ...named(data), ...(finishReason === null ? {} : { finishReason }) });
  // LangChain takes a stream that just ends for a whole reply.
  if (finishReason === null && model.speaksOpenAI) return { kind: "failed", error: runError("REPLY_CUT_OFF") };
  const empty = text === "" ? failureOfNothing.get(finishReason?.toLowerCase() ?? "") : undefined;
  if (empty !== undefined) return { kind: "failed", error: runError(empty) };
  return { kind: "completed", data, text, usage };
}

/** A reply that ended for one of these before it had any text. */
const failureOfNothing = new Map([
  ...["content_filter", "safety", "sensitive"].map((reason) => [reason, "CONTENT_REFUSED"] as const),
  ["model_context_window_exceeded", "CONTEXT_TOO_LONG"] as const,
]);

/** The model that the provider says it was. */
function named(data: JsonObject): Facts {
  const { model_name: name } = objectOrEmpty(data["response_metadata"]);
  return typeof name === "string" ? { responseModel: name } : {};
}

/** All that the model sees, the system prompt first. */
function messagesOf({ model, instructions, history, input }: Turn): readonly BaseMessage[] {
  const system = instructions === null || instructions === "" ? [] : [new SystemMessage(instructions)];
  const messages = [...system, ...history, markOwn(input)];
  return model.strictOrder ? inStrictOrder(messages) : messages;
}

function chainOf(model: LoadedModel, history: readonly BaseMessage[]): ConversationChain {
  // Placeholders for messages only: text in them is never a template, whatever braces it has.
  const prompt = ChatPromptTemplate.fromMessages([
    new MessagesPlaceholder("history"),
    new MessagesPlaceholder("input"),
  ]);
  return new ConversationChain({ llm: model.chat, prompt, memory: turnMemory(history), outputKey: "response" });
}

/**
 * Hears the tokens as they leave the model, and the whole message at the end (the chain itself gives its text only).
 * It is awaited, because handlers that are not run in a queue behind the model, and it is synchronous, so that nothing waits.
 */
class ReplyListener extends BaseCallbackHandler {
  readonly name = "parley";
  /** Makes LangChain stream from the model, without `streaming: true` on the model itself. */
  readonly lc_prefer_streaming = true;
  override awaitHandlers = true;
  started = false;
  text = "";
  generated: Generated | null = null;
  onPiece: (text: string) => void = () => undefined;
  call: Span = noSpan;
  readonly #beginCall: () => Span;

  constructor(beginCall: () => Span) {
    super();
    this.#beginCall = beginCall;
  }

  override handleChatModelStart(): void {
    this.call = this.#beginCall();
  }

  override handleLLMNewToken(
    token: string,
    { completion }: NewTokenIndices,
    _runId: string,
    _parentRunId?: string,
    _tags?: string[],
    fields?: HandleLLMNewTokenCallbackFields,
  ): void {
    this.started = true;
    // Beside text there are chunks of tool calls and reasoning: signs of life, but no text.
    const chunk = fields?.chunk;
    const text = completion > 0 ? "" : isChatGeneration(chunk) ? textOf(chunk.message.content) : token;
    this.text += text;
    this.onPiece(text);
  }

  override handleLLMEnd(output: LLMResult): void {
    const generation = output.generations[0]?.[0];
    if (!isChatGeneration(generation)) return;
    this.generated = { message: generation.message, generationInfo: objectOrEmpty(generation.generationInfo) };
  }
}

function isChatGeneration(
  generation: Generation | undefined,
): generation is Generation & { readonly message: BaseMessage } {
  return generation !== undefined && "message" in generation;
}
