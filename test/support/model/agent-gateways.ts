import type { Cluster, Redis } from "ioredis";

import type { GatewayOptions } from "../../../src/gateway.ts";
import { startGateway, type TestGateway } from "../gateway/gateway.ts";
import { startTopology } from "../redis/project-topology.ts";
import type { TestTopology } from "../redis/topologies.ts";
import { startOpenAI, type OpenAIServer } from "./openai-server.ts";
import { startTools, type Tools } from "./paid-tools.ts";

/** Two gateways on one Redis of the project's topology, with agents whose tool pays. */
export interface AgentGateways {
  readonly redis: TestTopology;
  readonly raw: Redis | Cluster;
  readonly openai: OpenAIServer;
  readonly tools: Tools;
  readonly here: TestGateway;
  readonly there: TestGateway;
  /** What both have beside their agents: for another one, also in a process of its own. */
  readonly options: GatewayOptions;
  readonly close: () => Promise<void>;
}

/** `own`: options that JSON can hold. `agentsOf`: the agents, whose tools and models are where these servers are. */
export async function startAgentGateways(
  own: Partial<GatewayOptions>,
  agentsOf: (tools: Tools, openai: OpenAIServer) => Partial<GatewayOptions>,
): Promise<AgentGateways> {
  const [redis, openai, tools] = await Promise.all([startTopology(), startOpenAI(), startTools()]);
  const options: GatewayOptions = {
    ...{ redis: redis.redis, model: "openai:gpt-4o-mini", openai: { apiKey: "sk-x", baseUrl: openai.baseUrl } },
    ...{ modelMaxRetries: 0, autoTitle: false, ...own },
  };
  const given = { ...options, ...agentsOf(tools, openai) };
  const [here, there] = await Promise.all([startGateway(given), startGateway(given)]);
  return {
    ...{ redis, raw: redis.raw(), openai, tools, here, there, options },
    async close() {
      tools.close();
      await Promise.all([here.close(), there.close()]);
      await openai.close();
      await redis.stop();
    },
  };
}
