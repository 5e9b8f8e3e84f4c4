import type { BaseChatModel } from "@langchain/core/language_models/chat_models";
import type { StructuredToolInterface } from "@langchain/core/tools";

import type { AgentLimits } from "./limits.ts";

/** An agent of the operator's, as a turn uses it: where it came from (a file, a program) makes no difference. */
export interface AgentSpec {
  readonly kind: "agent";
  readonly name: string;
  readonly description: string | null;
  /** "provider:name", "offline" or the name of a custom model; or a model of the program that uses Parley as a library. */
  readonly model: string | BaseChatModel;
  /** Of a session that has none of its own. Taken literally: braces are no template. */
  readonly instructions: string | null;
  /**
   * The tools of one run. It is asked at each run, as MCP servers come and go; where it throws, the run fails with
   * MODEL_UNAVAILABLE before any tool has begun.
   */
  readonly tools: (signal: AbortSignal) => Promise<readonly AgentTool[]>;
  readonly limits: AgentLimits;
}

export interface AgentTool {
  readonly tool: StructuredToolInterface;
  /** No call of it begins before somebody has approved it. */
  readonly needsApproval: boolean;
}
