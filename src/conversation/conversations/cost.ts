import { estimatedTokens } from "../ports/quotas.ts";
import type { ReplyOutcome, Step } from "../ports/model.ts";
import type { StartedTurn } from "../ports/store.ts";
import { decodeStoredMessage } from "../message/stored-message.ts";

/**
 * The tokens that a reply has cost, a stopped one too. Where the provider has not said, they are estimated by the length
 * of what was read and written; what failed before its first text was answered by no model.
 */
export function costOf(turn: StartedTurn, outcome: ReplyOutcome, text: string): number {
  if (outcome.kind === "completed" && outcome.usage) return outcome.usage.totalTokens;
  if (outcome.kind === "failed" && text === "") return 0;
  const written = outcome.kind === "completed" ? outcome.text : text;
  const remembered = Math.min(tokensIn(turn.rows), turn.memory.maxTokens ?? Infinity);
  return remembered + tokensIn([turn.inputRow]) + estimatedTokens(written.length);
}

/** The same of one request of several that a run makes, which was answered by calls of tools. */
export function stepCost(turn: StartedTurn, { usage, data }: Step): number {
  if (usage !== null) return usage.totalTokens;
  return tokensIn(turn.rows) + tokensIn([turn.inputRow, JSON.stringify({ type: "ai", data })]);
}

/** As estimated, of stored rows. */
export function tokensIn(rows: readonly string[]): number {
  return estimatedTokens(rows.reduce((sum, row) => sum + decodeStoredMessage(row).text.length, 0));
}
