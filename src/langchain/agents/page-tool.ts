import { tool } from "@langchain/core/tools";

import type { PageTool } from "../../conversation/ports/model.ts";
import type { AgentTool } from "./spec.ts";

/** A tool of the page's as the model is told it. Its calls wait for the page: none is carried out here. */
export function pageTool({ name, description, parameters }: PageTool): AgentTool {
  const answer = (): never => {
    throw new Error("The page carries it out");
  };
  return { tool: tool(answer, { name, description, schema: parameters }), needsApproval: false, isPages: true };
}
