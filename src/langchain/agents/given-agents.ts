import type { BaseChatModel } from "@langchain/core/language_models/chat_models";
import type { StructuredToolInterface } from "@langchain/core/tools";

import type { AgentOptions } from "./agent-options.ts";
import { defaultAgentLimits, type AgentLimits } from "./limits.ts";
import type { AgentSpec } from "./spec.ts";

/** The agents that a program gave. */
export function agentSpecs(agents: Readonly<Record<string, AgentOptions>>): readonly AgentSpec[] {
  return Object.entries(agents).map(([name, { model, description, instructions, tools = [], limits = {} }]) => {
    // Safe: a chat model and tools by their methods, as agentProblems() has seen.
    const own = tools as unknown as readonly StructuredToolInterface[];
    return {
      kind: "agent",
      name,
      description: description ?? null,
      model: typeof model === "string" ? model : (model as unknown as BaseChatModel),
      instructions: instructions ?? null,
      tools: () => Promise.resolve(own.map((tool) => ({ tool, needsApproval: false }))),
      limits: { ...defaultAgentLimits, ...withoutUndefined(limits) },
    };
  });
}

function withoutUndefined(limits: NonNullable<AgentOptions["limits"]>): Partial<AgentLimits> {
  return Object.fromEntries(Object.entries(limits).filter(([, value]) => value !== undefined));
}
