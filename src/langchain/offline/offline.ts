import { setTimeout as sleep } from "node:timers/promises";

import type { CallbackManagerForLLMRun } from "@langchain/core/callbacks/manager";
import { BaseChatModel } from "@langchain/core/language_models/chat_models";
import { AIMessage, AIMessageChunk, type BaseMessage, type UsageMetadata } from "@langchain/core/messages";
import { ChatGenerationChunk, type ChatResult } from "@langchain/core/outputs";

import { summaryIntroduction } from "../history/memory.ts";
import { offlineReply, type Line } from "./offline-text.ts";
import { textOfMessage } from "../text.ts";

/** A LangChain chat model that needs neither key nor network. It says what it is, streams word by word, and remembers a name. */
export class OfflineModel extends BaseChatModel {
  readonly #wordDelayMs: number;

  constructor({ wordDelayMs }: { readonly wordDelayMs: number }) {
    super({});
    this.#wordDelayMs = wordDelayMs;
  }

  override _llmType(): string {
    return "offline";
  }

  override _generate(messages: BaseMessage[]): Promise<ChatResult> {
    const text = replyTo(messages);
    const message = Object.assign(new AIMessage({ content: text, response_metadata: ending }), {
      usage_metadata: usageOf(messages, text),
    });
    return Promise.resolve({ generations: [{ text, message }] });
  }

  override async *_streamResponseChunks(
    messages: BaseMessage[],
    options: this["ParsedCallOptions"],
    runManager?: CallbackManagerForLLMRun,
  ): AsyncGenerator<ChatGenerationChunk> {
    const text = replyTo(messages);
    for (const word of text.match(/\s*\S+/g) ?? []) {
      await sleep(this.#wordDelayMs, undefined, options.signal === undefined ? {} : { signal: options.signal });
      const chunk = new ChatGenerationChunk({ text: word, message: new AIMessageChunk(word) });
      yield chunk;
      await runManager?.handleLLMNewToken(word, undefined, undefined, undefined, undefined, { chunk });
    }
    const message = Object.assign(new AIMessageChunk({ content: "", response_metadata: ending }), {
      usage_metadata: usageOf(messages, text),
    });
    yield new ChatGenerationChunk({ text: "", message, generationInfo: ending });
  }
}

const ending: Record<string, unknown> = { finish_reason: "stop", model_name: "offline" };

function replyTo(messages: readonly BaseMessage[]): string {
  const input = messages.at(-1);
  return offlineReply(linesOf(messages.slice(0, -1)), input === undefined ? "" : textOfMessage(input));
}

/** Instructions are left out: "You are …" is nothing that the user told. */
export function linesOf(messages: readonly BaseMessage[]): Line[] {
  return messages.flatMap((message): Line[] => {
    const text = textOfMessage(message);
    if (message.type === "human") return [{ who: "user", text }];
    if (message.type === "ai") return [{ who: "assistant", text }];
    return text.startsWith(summaryIntroduction) ? [{ who: "summary", text }] : [];
  });
}

/** A word is a token here. Set after construction, because the constructor's type has no usage under strict settings. */
function usageOf(messages: readonly BaseMessage[], reply: string): UsageMetadata {
  const input_tokens = messages.reduce((sum, message) => sum + wordsOf(textOfMessage(message)), 0);
  const output_tokens = wordsOf(reply);
  return { input_tokens, output_tokens, total_tokens: input_tokens + output_tokens };
}

function wordsOf(text: string): number {
  return text.match(/\S+/g)?.length ?? 0;
}
