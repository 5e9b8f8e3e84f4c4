import type { CallbackManagerForLLMRun } from "@langchain/core/callbacks/manager";
import { BaseChatModel } from "@langchain/core/language_models/chat_models";
import { AIMessage, AIMessageChunk, type BaseMessage } from "@langchain/core/messages";
import { ChatGenerationChunk, type ChatResult } from "@langchain/core/outputs";
import { setTimeout as sleep } from "node:timers/promises";
import { machineMs } from "./orders.ts";

export interface Pace {
  readonly tokens: number;
  /** From the call to the first token. 0: at once. */
  readonly firstTokenMs: number;
  /** From one to the next. 0: all at once. */
  readonly tokenMs: number;
}

/** A model in the server's own process that streams for real, at a pace: all contenders get the same. */
export class PacedModel extends BaseChatModel {
  readonly #pace: Pace;
  /** When the last token of the last reply was given, of machineMs(). */
  endedAtMs = 0;

  constructor(pace: Pace) {
    super({});
    this.#pace = pace;
  }

  override _llmType(): string {
    return "paced";
  }

  /** createAgent asks for it, also without tools. */
  override bindTools(): this {
    return this;
  }

  override async _generate(): Promise<ChatResult> {
    const { tokens, firstTokenMs, tokenMs } = this.#pace;
    if (firstTokenMs + tokenMs > 0) await sleep(firstTokenMs + tokenMs * (tokens - 1));
    const text = replyText(tokens);
    const message = new AIMessage({ content: text, response_metadata: { finish_reason: "stop" } });
    return { generations: [{ text, message }] };
  }

  override async *_streamResponseChunks(
    _messages: BaseMessage[],
    options: this["ParsedCallOptions"],
    runManager?: CallbackManagerForLLMRun,
  ): AsyncGenerator<ChatGenerationChunk> {
    const { tokens, firstTokenMs, tokenMs } = this.#pace;
    const startedAt = machineMs();
    for (let i = 0; i < tokens; i++) {
      // Held against the start, so that timers that come late don't add up.
      const waitMs = startedAt + firstTokenMs + i * tokenMs - machineMs();
      if (waitMs > 0) await sleep(waitMs, undefined, options.signal === undefined ? {} : { signal: options.signal });
      const text = tokenText(i);
      const chunk = new ChatGenerationChunk({ text, message: new AIMessageChunk(text) });
      this.endedAtMs = machineMs();
      yield chunk;
      await runManager?.handleLLMNewToken(text, undefined, undefined, undefined, undefined, { chunk });
    }
    const generationInfo = { finish_reason: "stop" };
    const message = new AIMessageChunk({ content: "", response_metadata: generationInfo });
    yield new ChatGenerationChunk({ text: "", message, generationInfo });
  }
}

export function tokenText(i: number): string {
  return ` t${i}`;
}

export function replyText(tokens: number): string {
  return Array.from({ length: tokens }, (_, i) => tokenText(i)).join("");
}

/** What openai-server.ts is asked with: it takes any. */
export const openaiModel = "gpt-4o-mini";
export const openaiKey = "sk-none";
