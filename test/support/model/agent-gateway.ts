import { tool } from "@langchain/core/tools";
import { ChatOpenAI } from "@langchain/openai";
import { z } from "zod";

import { createGateway, type GatewayOptions } from "../../../src/gateway.ts";

/**
 * The agent "payer", whose tool asks the address for each call, and answers with what that says; "careful" has the same
 * tool, and somebody has to approve each call; "paged" is as careful, and takes tools of the page.
 */
export function payer(toolUrl: string): NonNullable<GatewayOptions["agents"]> {
  const pay = tool(
    async ({ to }, config) => {
      const url = `${toolUrl}?${new URLSearchParams({ to }).toString()}`;
      const { signal } = config as { readonly signal?: AbortSignal }; // typed as any
      const response = await fetch(url, signal === undefined ? {} : { signal });
      return await response.text();
    },
    { name: "pay", description: "Pays somebody.", schema: z.object({ to: z.string() }) },
  );
  const agent = { model: "openai:gpt-4o-mini", description: "Pays.", instructions: "Pay who is named.", tools: [pay] };
  const careful = { ...agent, approvals: ["pay"] };
  return { payer: agent, careful, paged: { ...careful, clientTools: true, limits: { resultBytes: 1000 } } };
}

/**
 * Beside these "slow", as careful, whose model asks the address before it is there ("the model of <process id>"): until then a
 * gateway that is to carry a run on claims none of its calls.
 */
export function slowPayer(toolUrl: string, baseURL: string): Pick<GatewayOptions, "agents" | "customModels"> {
  const agents = payer(toolUrl);
  const slow = async () => {
    await fetch(`${toolUrl}?${new URLSearchParams({ to: `the model of ${process.pid}` }).toString()}`);
    return new ChatOpenAI({ model: "gpt-4o-mini", apiKey: "sk-x", maxRetries: 0, configuration: { baseURL } });
  };
  return { agents: { ...agents, slow: { ...agents["careful"], model: "slow" } }, customModels: { slow } };
}

/** As a process of its own: what the test's gateways have, from AGENT_GATEWAY. Prints its address. */
if (process.env["AGENT_GATEWAY"] !== undefined) {
  type Given = GatewayOptions & { readonly toolUrl: string };
  const { toolUrl, ...options } = JSON.parse(process.env["AGENT_GATEWAY"]) as Given; // as the test has written it
  const gateway = await createGateway({ ...options, ...slowPayer(toolUrl, options.openai?.baseUrl ?? "") });
  console.log((await gateway.listen({ port: 0 })).url);
}
