import { randomUUID } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";

import type { CallbackManagerForLLMRun } from "@langchain/core/callbacks/manager";
import {
  BaseChatModel,
  type BaseChatModelCallOptions,
  type BindToolsInput,
} from "@langchain/core/language_models/chat_models";
import { AIMessage, AIMessageChunk, type BaseMessage, type UsageMetadata } from "@langchain/core/messages";
import type { Runnable } from "@langchain/core/runnables";
import { ChatGenerationChunk, type ChatResult } from "@langchain/core/outputs";

import type { BaseLanguageModelInput } from "@langchain/core/language_models/base";

import { summaryIntroduction } from "../history/memory.ts";
import { offlineAnswers, offlineCall, offlineTools, type OfflineCall, type OfflineTool } from "./offline-calls.ts";
import { offlineReply, type Line } from "./offline-text.ts";
import { textOfMessage } from "../text.ts";

interface OfflineOptions extends BaseChatModelCallOptions {
  readonly offlineTools?: readonly OfflineTool[];
}

/**
 * A LangChain chat model that needs neither key nor network. It says what it is, streams word by word, remembers a name, and
 * calls a tool when it is told to.
 */
export class OfflineModel extends BaseChatModel<OfflineOptions> {
  readonly #wordDelayMs: number;

  constructor({ wordDelayMs }: { readonly wordDelayMs: number }) {
    super({});
    this.#wordDelayMs = wordDelayMs;
  }

  override _llmType(): string {
    return "offline";
  }

  override bindTools(
    tools: BindToolsInput[],
    options: Partial<OfflineOptions> = {},
  ): Runnable<BaseLanguageModelInput, AIMessageChunk, OfflineOptions> {
    return this.withConfig({ ...options, offlineTools: offlineTools(tools) });
  }

  override _generate(messages: BaseMessage[], options: this["ParsedCallOptions"]): Promise<ChatResult> {
    const { text, calls } = replyTo(messages, options);
    const message = Object.assign(
      new AIMessage({ content: text, tool_calls: calls, response_metadata: endingOf(calls) }),
      {
        usage_metadata: usageOf(messages, text),
      },
    );
    return Promise.resolve({ generations: [{ text, message }] });
  }

  override async *_streamResponseChunks(
    messages: BaseMessage[],
    options: this["ParsedCallOptions"],
    runManager?: CallbackManagerForLLMRun,
  ): AsyncGenerator<ChatGenerationChunk> {
    const { text, calls } = replyTo(messages, options);
    for (const word of text.match(/\s*\S+/g) ?? []) {
      await sleep(this.#wordDelayMs, undefined, options.signal === undefined ? {} : { signal: options.signal });
      const chunk = new ChatGenerationChunk({ text: word, message: new AIMessageChunk(word) });
      yield chunk;
      await runManager?.handleLLMNewToken(word, undefined, undefined, undefined, undefined, { chunk });
    }
    for (const [index, { id, name, args }] of calls.entries()) {
      const pieces = [{ id, name, args: JSON.stringify(args), index, type: "tool_call_chunk" as const }];
      const message = new AIMessageChunk({ content: "", tool_call_chunks: pieces });
      const chunk = new ChatGenerationChunk({ text: "", message });
      yield chunk;
      await runManager?.handleLLMNewToken("", undefined, undefined, undefined, undefined, { chunk });
    }
    const ending = endingOf(calls);
    const message = Object.assign(new AIMessageChunk({ content: "", response_metadata: ending }), {
      usage_metadata: usageOf(messages, text),
    });
    yield new ChatGenerationChunk({ text: "", message, generationInfo: ending });
  }
}

interface OfflineReply {
  readonly text: string;
  readonly calls: (OfflineCall & { readonly id: string })[];
}

function endingOf({ length }: OfflineReply["calls"]): Record<string, unknown> {
  return { finish_reason: length > 0 ? "tool_calls" : "stop", model_name: "offline" };
}

function replyTo(messages: readonly BaseMessage[], { offlineTools: tools = [] }: OfflineOptions): OfflineReply {
  const answers = offlineAnswers(messages);
  if (answers !== null) return { text: answers, calls: [] };
  const input = messages.at(-1);
  const said = input === undefined ? "" : textOfMessage(input);
  const call = tools.length > 0 ? offlineCall(tools, said) : null;
  if (call !== null) return { text: "", calls: [{ ...call, id: `call_${randomUUID()}` }] };
  return { text: offlineReply(linesOf(messages.slice(0, -1)), said), calls: [] };
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
