import { ConversationChain } from "@langchain/classic/chains";
import { BufferMemory, BufferWindowMemory } from "@langchain/classic/memory";
import { BaseCallbackHandler } from "@langchain/core/callbacks/base";
import type { BaseChatModel } from "@langchain/core/language_models/chat_models";
import { RedisChatMessageHistory } from "@langchain/redis";
import { createClient } from "redis";

/** LangChain's own: a ConversationChain over RedisChatMessageHistory, on one connection. */
export async function historyChain(redisUrl: string, llm: BaseChatModel) {
  const client = createClient({ url: redisUrl });
  await client.connect();
  return {
    /** `windowTurns`: BufferWindowMemory's k; null: BufferMemory. */
    chain(sessionId: string, windowTurns: number | null): ConversationChain {
      const chatHistory = new RedisChatMessageHistory({ sessionId, client });
      const options = { returnMessages: true, chatHistory, memoryKey: "history" };
      const memory =
        windowTurns === null ? new BufferMemory(options) : new BufferWindowMemory({ ...options, k: windowTurns });
      return new ConversationChain({ llm, memory });
    },
  };
}

class TokenHandler extends BaseCallbackHandler {
  readonly name = "tokens";
  lc_prefer_streaming = true;
  readonly #onToken: (text: string) => void;

  constructor(onToken: (text: string) => void) {
    super();
    this.#onToken = onToken;
  }

  override handleLLMNewToken(text: string): void {
    this.#onToken(text);
  }
}

/** Makes the model stream. */
export function tokenHandler(onToken: (text: string) => void): BaseCallbackHandler {
  return new TokenHandler(onToken);
}
