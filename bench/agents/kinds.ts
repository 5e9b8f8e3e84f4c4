import { END, MessagesAnnotation, START, StateGraph } from "@langchain/langgraph";

import type { AgentOptions } from "../../src/langchain/agents/agent-options.ts";
import { ChattyModel, note } from "./chatty-model.ts";
import { CallingModel, weather } from "./calling-model.ts";
import { PacedModel, type Pace } from "../model.ts";

/** What may answer besides a ConversationChain. */
export type Kind = "agent" | "agent with a tool" | "graph" | "runnable";

export const kinds: readonly Kind[] = ["agent", "agent with a tool", "graph", "runnable"];

/** As a program makes them: the same for Parley and for LangChain alone. */
export function partsOf(pace: Pace) {
  const model = new PacedModel(pace);
  const graph = new StateGraph(MessagesAnnotation)
    .addNode("answer", async ({ messages }, config) => ({ messages: [await model.invoke(messages, config)] }))
    .addEdge(START, "answer")
    .addEdge("answer", END)
    .compile();
  return { model, calling: new CallingModel(pace), weather, graph };
}

/** As `agents` of createGateway() takes them. */
export function agentsOf(pace: Pace): Readonly<Record<string, AgentOptions>> {
  const { model, calling, graph } = partsOf(pace);
  return {
    agent: { model, tools: [] },
    "agent-with-a-tool": { model: calling, tools: [weather] },
    graph: { graph },
    runnable: { runnable: model },
    chatty: { model: new ChattyModel(), tools: [note] },
  };
}

export function agentName(kind: Kind): string {
  return `agent:${kind.replaceAll(" ", "-")}`;
}
