import { BufferMemory } from "@langchain/classic/memory";
import { BaseChatMessageHistory } from "@langchain/core/chat_history";
import { SystemMessage, type BaseMessage } from "@langchain/core/messages";

/** The history below the message of one turn. It is read once and never written: the store has the user's message already, and appends the reply itself. */
class TurnHistory extends BaseChatMessageHistory {
  override lc_namespace = ["parley", "history"];
  readonly #messages: readonly BaseMessage[];

  constructor(messages: readonly BaseMessage[]) {
    super();
    this.#messages = messages;
  }

  override getMessages(): Promise<BaseMessage[]> {
    return Promise.resolve([...this.#messages]);
  }

  override addMessage(): Promise<void> {
    return Promise.resolve();
  }

  override addUserMessage(): Promise<void> {
    return Promise.resolve();
  }

  override addAIMessage(): Promise<void> {
    return Promise.resolve();
  }

  override clear(): Promise<void> {
    return Promise.resolve();
  }
}

/** LangChain's BufferMemory over the turn's rows, which were selected by the session's strategy before. */
export function turnMemory(messages: readonly BaseMessage[]): BufferMemory {
  return new BufferMemory({
    chatHistory: new TurnHistory(messages),
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
