import { BufferMemory } from "@langchain/classic/memory";
import { InMemoryChatMessageHistory } from "@langchain/core/chat_history";
import { SystemMessage, type BaseMessage } from "@langchain/core/messages";

/**
 * LangChain's BufferMemory over the turn's rows, which were selected by the session's strategy before. It is read once and
 * thrown away with what the chain adds to it: the store has the user's message already, and appends the reply itself.
 */
export function turnMemory(messages: readonly BaseMessage[]): BufferMemory {
  return new BufferMemory({
    chatHistory: new InMemoryChatMessageHistory([...messages]),
    returnMessages: true,
    memoryKey: "history",
    inputKey: "input",
    outputKey: "response",
  });
}

/** The offline model knows a summary by these words. */
export const summaryIntroduction = "Summary of the conversation so far:\n";

export function summaryMessage(summary: string): SystemMessage {
  return new SystemMessage(summaryIntroduction + summary);
}
