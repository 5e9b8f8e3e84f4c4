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
