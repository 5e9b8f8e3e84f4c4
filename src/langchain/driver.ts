import { SystemMessage, type BaseMessage } from "@langchain/core/messages";

import { objectOrEmpty, type JsonObject } from "../conversation/message/json.ts";
import type { TokenUsage } from "../conversation/message/message.ts";
import type { Piece, ReplyOutcome } from "../conversation/ports/model.ts";
import type { Facts, Span } from "../conversation/ports/telemetry.ts";
import type { RunError } from "../conversation/run.ts";
import { failureOf, runError } from "./models/failure.ts";
import { asItIs, counted, fitted, inOpenAIsFormat, withoutMedia } from "./history/media.ts";
import type { LoadedModel } from "./models/models.ts";
import type { Listener } from "./listener.ts";
import { isCutOff, replyData, withUsage } from "./reply-data.ts";
import { inStrictOrder, markOwn } from "./history/role-order.ts";
import { symptomsOf } from "./models/symptoms.ts";
import { estimatedUsage } from "./models/usage-estimate.ts";
import { watched } from "./models/watched.ts";

/** What answers, as the driver calls it. */
export interface Adapter {
  /** What hears its models, of one attempt. `beginCall`: when a model is asked. */
  readonly listen: (beginCall: () => Span) => Listener;
  /** Whatever it does with the messages (the last one is the input): its models report to the listener, and it ends with its signal. */
  readonly answer: (messages: readonly BaseMessage[], signal: AbortSignal, listener: Listener) => Promise<void>;
}

/** Thrown by what answers: the run waits for somebody, and nothing of it goes on here. */
export class RunWaits extends Error {}

export interface Turn {
  readonly answers: Adapter;
  readonly model: LoadedModel;
  /** System prompt, taken literally. */
  readonly instructions: string | null;
  /** What the model sees below the input, oldest first. */
  readonly history: readonly BaseMessage[];
  readonly input: BaseMessage;
  readonly signal: AbortSignal;
  readonly emit: (piece: Piece) => void;
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
  const emit = (piece: Piece): void => {
    if (piece.kind !== "message") pieces += 1;
    turn.emit(piece);
  };
  const thrown: unknown[] = [];
  const onFailure = (error: unknown): void => {
    thrown.push(error);
    turn.onFailure(error);
  };
  const outcome = await attempt({ ...turn, history: messages, input, emit, onFailure });
  const bare = withoutMedia(messages);
  if (pieces > 0 || bare.leftOut.length === 0 || !isRefusal(outcome, thrown[0])) return noted(outcome, notes);
  // It may be the model that takes none, or an address that leads nowhere any more: the session is to go on all the same.
  const again = await attempt({ ...turn, history: bare.messages, input });
  if (again.kind === "failed") return noted(outcome, notes);
  const refused = `Left out of what the model saw, as its provider refused the request with it: ${counted(bare.leftOut)}.`;
  return noted(again, [...notes, refused]);
}

function noted(outcome: ReplyOutcome, notes: readonly string[]): ReplyOutcome {
  return outcome.kind === "cancelled" || outcome.kind === "waiting" || notes.length === 0
    ? outcome
    : { ...outcome, notes };
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

async function attempt(turn: Turn): Promise<ReplyOutcome> {
  const listener = turn.answers.listen(turn.beginCall);
  const outcome = await carryOut(turn, listener);
  listener.call.end(outcome.kind === "failed" ? outcome.error.code : "OK");
  return outcome;
}

async function carryOut(turn: Turn, listener: Listener): Promise<ReplyOutcome> {
  const messages = messagesOf(turn);
  const end = await watched(turn.signal, turn.idleMs, async (signal, touch) => {
    listener.onPiece = (piece) => {
      // A model that ignores its signal goes on to talk after the turn has ended.
      if (signal.aborted) return;
      touch();
      if (!("text" in piece) || piece.text !== "") turn.emit(piece);
    };
    await turn.answers.answer(messages, signal, listener);
  });

  switch (end.kind) {
    case "cancelled":
      return { kind: "cancelled" };
    case "timedOut":
      return { kind: "failed", error: runError("MODEL_TIMEOUT") };
    case "threw":
      if (end.error instanceof RunWaits) return { kind: "waiting" };
      turn.onFailure(end.error);
      return { kind: "failed", error: failureOf(end.error, listener.started) };
    case "done":
      return completed(turn.model, messages, listener);
  }
}

async function completed(
  model: LoadedModel,
  messages: readonly BaseMessage[],
  listener: Listener,
): Promise<ReplyOutcome> {
  const { generated } = listener;
  if (generated === null) return { kind: "failed", error: runError("REPLY_CUT_OFF") };
  const reply = replyData(generated, listener.text, model.modelName);
  const { text, finishReason } = reply;
  const { data, usage } =
    reply.usage === null && model.speaksOpenAI ? withUsage(reply, await estimatedUsage(messages, text)) : reply;
  listener.call.tell({ usage, ...named(data), ...(finishReason === null ? {} : { finishReason }) });
  // LangChain takes a stream that just ends for a whole reply.
  if (finishReason === null && (model.speaksOpenAI || reply.hasEnd))
    return { kind: "failed", error: runError("REPLY_CUT_OFF") };
  const empty = text === "" ? failureOfNothing.get(finishReason?.toLowerCase() ?? "") : undefined;
  if (empty !== undefined) return { kind: "failed", error: runError(empty) };
  const { isStructured } = listener;
  if (isStructured === false) return { kind: "failed", error: formless(finishReason?.toLowerCase() ?? "") };
  const spent = sumOf(listener.earlierUsage, usage);
  return { kind: "completed", data, text, usage: spent, ...(isStructured === null ? {} : { isStructured }) };
}

/** What both have cost, as far as it is known. */
export function sumOf(one: TokenUsage | null, other: TokenUsage | null): TokenUsage | null {
  if (one === null || other === null) return one ?? other;
  return {
    inputTokens: one.inputTokens + other.inputTokens,
    outputTokens: one.outputTokens + other.outputTokens,
    totalTokens: one.totalTokens + other.totalTokens,
  };
}

/** Why a reply has not the form that it was to have. */
function formless(finishReason: string): RunError {
  if (isCutOff(finishReason)) return runError("REPLY_CUT_OFF");
  if (refusals.includes(finishReason)) return runError("CONTENT_REFUSED");
  return runError("OTHER", { message: "The reply does not have the form that the agent was to give." });
}

const refusals = ["content_filter", "safety", "sensitive"];

/** A reply that ended for one of these before it had any text. */
const failureOfNothing = new Map([
  ...refusals.map((reason) => [reason, "CONTENT_REFUSED"] as const),
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
