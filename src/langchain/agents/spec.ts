import type { BaseChatModel } from "@langchain/core/language_models/chat_models";
import type { RunnableInterface } from "@langchain/core/runnables";
import type { StructuredToolInterface } from "@langchain/core/tools";

import type { Span, ToolOutcome } from "../../conversation/ports/telemetry.ts";
import type { AgentLimits } from "./limits.ts";
import type { ResponseSchema } from "./agent-options.ts";

/** An agent of the operator's, as a turn uses it: where it came from (a file, a program) makes no difference. */
export type AgentSpec = ToolAgentSpec | FlowSpec;

interface Named {
  readonly name: string;
  /** The operator's words for it. */
  readonly description: string | null;
  /** Of a session that has none of its own. Taken literally: braces are no template. */
  readonly instructions: string | null;
  readonly limits: AgentLimits;
}

/** A program's own flow: a compiled LangGraph graph with a messages channel, or any Runnable from messages to a message or a text. */
export interface FlowSpec extends Named {
  readonly kind: "graph" | "runnable";
  readonly runs: RunnableInterface;
}

/** A model with tools, by createAgent. */
export interface ToolAgentSpec extends Named {
  readonly kind: "agent";
  /** "provider:name", "offline" or the name of a custom model; or a model of the program that uses Parley as a library. */
  readonly model: string | BaseChatModel;
  /** The schema of the object that its reply is to be, zod or JSON Schema; null: its reply is a text. */
  readonly responseFormat: ResponseSchema | null;
  /**
   * The tools of one run. It is asked at each run, as MCP servers come and go; where it throws, the run fails with
   * MODEL_UNAVAILABLE before any tool has begun. `userToken`: of the user that tools may act as; null: there is none.
   */
  readonly tools: (signal: AbortSignal, userToken: string | null) => Promise<readonly AgentTool[]>;
  /** Whether it takes tools of the page's. */
  readonly takesPageTools?: boolean;
}

export interface AgentTool {
  readonly tool: StructuredToolInterface;
  /** No call of it begins before somebody has approved it. */
  readonly needsApproval: boolean;
  /** It is the page's, which carries calls of it out. */
  readonly isPages?: true;
}

/** What is configured does not fit what the servers have: the agent must not answer with other tools than were meant. */
export class ToolChoiceError extends Error {
  override readonly name = "ToolChoiceError";
}

const mostNames = 20;

/** The tools that there are, for whoever has named one that there is not. */
export function thereAre(names: readonly string[]): string {
  if (names.length === 0) return "There are no tools.";
  return `There are ${names.slice(0, mostNames).join(", ")}${names.length > mostNames ? ", …" : "."}`;
}

/** A call of a tool begins: what is called when it has ended, and what it does inside it. */
export type BeginTool = (tool: string) => Pick<Span, "inside"> & { readonly end: (outcome: ToolOutcome) => void };
