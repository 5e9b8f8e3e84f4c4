import { AIMessage, ToolMessage, type BaseMessage } from "@langchain/core/messages";

import type { MemoryStrategy } from "../../conversation/session.ts";
import { messageOfRow } from "../history/rows.ts";
import { textOfMessage } from "../text.ts";

export interface SelectLimits {
  readonly strategy: MemoryStrategy;
  /** WINDOW. */
  readonly maxTurns: number;
  /** TOKEN_BUFFER, SUMMARY_BUFFER: for rows alone, what the summary takes is taken off already. */
  readonly maxTokens: number;
}

/**
 * What of the history the model gets to see, oldest first. `rows` are the stored rows, oldest first, and are read from
 * the newest on, only as far as needed.
 *
 * BUFFER: all. WINDOW: the last maxTurns turns; a turn is a USER message and all up to the next one. TOKEN_BUFFER and
 * SUMMARY_BUFFER: the newest that fit maxTokens; one that does not fit ends it, so that no message is missing between
 * two that are there. Tool calls and their answers are sent together or not at all.
 *
 * `countTokens(message, limit)` is asked by the last two only.
 */
export function selectRows(
  rows: readonly string[],
  limits: SelectLimits,
  countTokens: (message: BaseMessage, limit: number) => number,
): BaseMessage[] {
  const { strategy, maxTurns, maxTokens } = limits;
  const byTokens = strategy === "TOKEN_BUFFER" || strategy === "SUMMARY_BUFFER";
  if (strategy === "WINDOW" && maxTurns < 1) return [];
  const newestFirst: BaseMessage[] = [];
  let turns = 0;
  let tokens = 0;
  for (let index = rows.length - 1; index >= 0; index -= 1) {
    const row = messageOfRow(rows[index] ?? "");
    if (row === null) continue;
    if (byTokens) {
      tokens += countTokens(row.message, maxTokens - tokens);
      if (tokens > maxTokens) break;
    }
    newestFirst.push(row.message);
    if (row.role === "USER") turns += 1;
    if (strategy === "WINDOW" && turns === maxTurns) break;
  }
  return pairToolCalls(newestFirst.reverse());
}

/**
 * Providers refuse a request in which a tool call is not followed by all its answers, or an answer has no call. A reply
 * whose calls lack answers keeps its text alone; an answer without its call goes.
 */
export function pairToolCalls(messages: readonly BaseMessage[]): BaseMessage[] {
  const paired: BaseMessage[] = [];
  let index = 0;
  while (index < messages.length) {
    const message = messages[index];
    index += 1;
    if (message === undefined || ToolMessage.isInstance(message)) continue;
    const calls = AIMessage.isInstance(message) ? (message.tool_calls ?? []) : [];
    if (calls.length === 0) {
      paired.push(message);
      continue;
    }
    const answers = new Map<string, ToolMessage>();
    for (let next = messages[index]; ToolMessage.isInstance(next); next = messages[index]) {
      if (!answers.has(next.tool_call_id)) answers.set(next.tool_call_id, next);
      index += 1;
    }
    const found = calls.flatMap(({ id }) => (id === undefined ? [] : (answers.get(id) ?? [])));
    const text = textOfMessage(message);
    if (found.length === calls.length) paired.push(message, ...found);
    else if (text !== "")
      paired.push(new AIMessage({ content: text, ...(message.name === undefined ? {} : { name: message.name }) }));
  }
  return paired;
}
