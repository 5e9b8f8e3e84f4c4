import { BaseListChatMessageHistory } from "@langchain/core/chat_history";
import {
  mapChatMessagesToStoredMessages,
  mapStoredMessagesToChatMessages,
  type BaseMessage,
  type StoredMessage,
} from "@langchain/core/messages";
import type { Cluster, Redis } from "ioredis";

/**
 * As LangChain's community class (@langchain/community/stores/message/ioredis) keeps a history over an ioredis client:
 * this is all that it sends to Redis. That package itself brings 80 MB of others.
 */
export class IoRedisHistory extends BaseListChatMessageHistory {
  lc_namespace = ["langchain", "stores", "message", "ioredis"];
  readonly #client: Redis | Cluster;
  readonly #sessionId: string;
  readonly #sessionTTL: number | undefined;

  constructor(client: Redis | Cluster, sessionId: string, sessionTTL?: number) {
    super();
    this.#client = client;
    this.#sessionId = sessionId;
    this.#sessionTTL = sessionTTL;
  }

  async getMessages(): Promise<BaseMessage[]> {
    const rows = (await this.#client.lrange(this.#sessionId, 0, -1)).reverse();
    return mapStoredMessagesToChatMessages(rows.map((row) => JSON.parse(row) as StoredMessage)); // as LangChain reads
  }

  async addMessage(message: BaseMessage): Promise<void> {
    await this.#client.lpush(this.#sessionId, JSON.stringify(mapChatMessagesToStoredMessages([message])[0]));
    if (this.#sessionTTL) await this.#client.expire(this.#sessionId, this.#sessionTTL);
  }

  override async clear(): Promise<void> {
    await this.#client.del(this.#sessionId);
  }
}
