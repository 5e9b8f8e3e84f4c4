import type { GatewayOptions } from "../../../src/gateway.ts";
import { startGateway, type TestGateway } from "../gateway/gateway.ts";
import { startRedis, type TestRedis } from "../redis/redis-server.ts";
import { startOpenAI, type OpenAIServer } from "./openai-server.ts";

/** A gateway on a Redis of its own, whose model the local server of OpenAI's format is. */
export interface ServedModel {
  readonly openai: OpenAIServer;
  readonly redis: TestRedis;
  readonly gateway: TestGateway;
  readonly close: () => Promise<void>;
}

export async function startServedModel(own: Partial<GatewayOptions> = {}): Promise<ServedModel> {
  const [openai, redis] = await Promise.all([startOpenAI(), startRedis({ appendonly: false })]);
  const gateway = await startGateway({
    ...{ redis: redis.url, model: "openai:small", openai: { apiKey: "sk-test", baseUrl: openai.baseUrl } },
    ...own,
  });
  return {
    ...{ openai, redis, gateway },
    async close() {
      await gateway.close();
      await Promise.all([redis.stop(), openai.close()]);
    },
  };
}
