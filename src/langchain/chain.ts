import { ConversationChain } from "@langchain/classic/chains";
import type { BaseChatModel } from "@langchain/core/language_models/chat_models";
import type { BaseMessage } from "@langchain/core/messages";
import { ChatPromptTemplate, MessagesPlaceholder } from "@langchain/core/prompts";

import type { Adapter } from "./driver.ts";
import { turnMemory } from "./history/memory.ts";
import { Listener } from "./listener.ts";

/** A ConversationChain of its own for each turn. */
export function conversationChain(llm: BaseChatModel): Adapter {
  return {
    listen: (beginCall) => new Listener(beginCall),
    answer: (messages, signal, listener) => answerBy(llm, messages, signal, listener),
  };
}

async function answerBy(
  llm: BaseChatModel,
  messages: readonly BaseMessage[],
  signal: AbortSignal,
  listener: Listener,
): Promise<void> {
  // Placeholders for messages only: text in them is never a template, whatever braces it has.
  const prompt = ChatPromptTemplate.fromMessages([
    new MessagesPlaceholder("history"),
    new MessagesPlaceholder("input"),
  ]);
  const memory = turnMemory(messages.slice(0, -1));
  const chain = new ConversationChain({ llm, prompt, memory, outputKey: "response" });
  // The signal is in the input because ConversationChain ignores the one of its config.
  await chain.invoke({ input: messages.slice(-1), signal }, { callbacks: [listener] });
}
