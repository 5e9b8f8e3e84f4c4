import {
  BaseCallbackHandler,
  type HandleLLMNewTokenCallbackFields,
  type NewTokenIndices,
} from "@langchain/core/callbacks/base";
import type { BaseMessage } from "@langchain/core/messages";
import type { Generation, LLMResult } from "@langchain/core/outputs";

import type { TokenUsage } from "../conversation/message/message.ts";
import { objectOrEmpty } from "../conversation/message/json.ts";
import type { Piece } from "../conversation/ports/model.ts";
import { noSpan, type Span } from "../conversation/ports/telemetry.ts";
import type { Generated } from "./reply-data.ts";
import { reasoningOf, textOf } from "./text.ts";

/**
 * Hears the pieces as they leave the model, and the whole message at the end (a chain itself gives its text only).
 * It is awaited, because handlers that are not run in a queue behind the model, and it is synchronous, so that nothing waits.
 */
export class Listener extends BaseCallbackHandler {
  readonly name = "parley";
  /** Makes LangChain stream from the model, without `streaming: true` on the model itself. */
  readonly lc_prefer_streaming = true;
  override awaitHandlers = true;
  started = false;
  text = "";
  generated: Generated | null = null;
  /** What requests before the newest one have cost; null: nothing is known of any. */
  earlierUsage: TokenUsage | null = null;
  /** Whether its text has to be an object of a certain form, and is one; null: it may be any text. */
  isStructured: boolean | null = null;
  /** Also of empty text, as a sign of life. */
  onPiece: (piece: Piece) => void = () => undefined;
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
    const chunk = fields?.chunk;
    const message = completion === 0 && isChatGeneration(chunk) ? chunk.message : null;
    const reasoning = message === null ? "" : reasoningOf(message);
    if (reasoning !== "") this.onPiece({ kind: "reasoning", text: reasoning });
    // Beside both there are chunks of tool calls: signs of life, but no text.
    const text = completion > 0 ? "" : message === null ? token : textOf(message.content);
    this.say(text);
  }

  protected say(text: string): void {
    this.text += text;
    this.onPiece({ kind: "text", text });
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
