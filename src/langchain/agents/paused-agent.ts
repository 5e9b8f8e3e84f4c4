import type { JsonObject } from "../../conversation/message/json.ts";
import type { TokenUsage } from "../../conversation/message/message.ts";
import type { AskedCall } from "./agent-listener.ts";

/** What an agent knows of its run while that waits for somebody. */
export interface PausedAgent {
  readonly modelCalls: number;
  readonly toolCalls: number;
  /** Without the time that it has waited. */
  readonly elapsedMs: number;
  readonly usage: TokenUsage | null;
  /** All that its run has used. */
  readonly callIds: readonly string[];
  /** Of the step that waits. */
  readonly calls: readonly AskedCall[];
}

export function pausedAgentOf(state: JsonObject): PausedAgent {
  return state as unknown as PausedAgent; // as the agent left it
}
