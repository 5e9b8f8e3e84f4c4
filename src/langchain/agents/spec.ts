import type { BaseChatModel } from "@langchain/core/language_models/chat_models";
import type { StructuredToolInterface } from "@langchain/core/tools";

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

/** What one run may take. */
export interface AgentLimits {
  /** Requests to the model. */
  readonly modelCalls: number;
  readonly toolCalls: number;
  /** Of one call of a tool. */
  readonly toolTimeoutMs: number;
  /** Of the whole run; null: as long as it takes. */
  readonly runTimeoutMs: number | null;
  /** Calls of tools that go on at a time. */
  readonly parallelTools: number;
  /** Of the result of one call, in UTF-8; what is above it is cut off. */
  readonly resultBytes: number;
}

export const defaultAgentLimits: AgentLimits = {
  modelCalls: 25,
  toolCalls: 50,
  toolTimeoutMs: 60_000,
  runTimeoutMs: 900_000,
  parallelTools: 8,
  resultBytes: 65_536,
};
