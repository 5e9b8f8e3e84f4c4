import { test } from "vitest";
import type { GatewayOptions } from "../../../src/gateway.ts";
import { startOpenAI } from "../model/openai-server.ts";
import { startTopology } from "../redis/project-topology.ts";
import { startGateway, type TestGateway } from "./gateway.ts";

/**
 * What a file's tests are called with. They share one gateway (`url`) and, where they ask for it, a second one (`other`, `there`), on
 * servers of the project's topology; `start` starts another. The model is a server that speaks OpenAI's wire format, which holds
 * nothing back, and answers as usual, when a test begins.
 */
export function chatTest(options: Partial<GatewayOptions> = {}) {
  return test
    .extend("redis", { scope: "file" }, async ({}, { onCleanup }) => {
      const topology = await startTopology();
      onCleanup(() => topology.stop());
      return topology;
    })
    .extend("openai", { scope: "file" }, async ({}, { onCleanup }) => {
      const openai = await startOpenAI();
      onCleanup(() => openai.close());
      return openai;
    })
    .extend("start", { scope: "file" }, ({ redis, openai }) => (more: Partial<GatewayOptions> = {}) => {
      const provider = { apiKey: "sk-x", baseUrl: openai.baseUrl, ...options.openai };
      return startGateway({ redis: redis.redis, model: "openai:gpt-4o-mini", ...options, ...more, openai: provider });
    })
    .extend("gateway", { scope: "file" }, startOne)
    .extend("other", { scope: "file" }, startOne)
    .extend("url", { scope: "file" }, ({ gateway }) => gateway.url)
    .extend("there", { scope: "file" }, ({ other }) => other.url)
    .extend("rested", { auto: true }, ({ openai }) => {
      openai.releaseAll();
      openai.behave(null);
    });
}

async function startOne(
  { start }: { readonly start: () => Promise<TestGateway> },
  { onCleanup }: { readonly onCleanup: (end: () => Promise<void>) => void },
): Promise<TestGateway> {
  const gateway = await start();
  onCleanup(() => gateway.close());
  return gateway;
}
