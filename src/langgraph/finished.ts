import { createHash } from "node:crypto";
import { AIMessage, BaseMessage, mapChatMessagesToStoredMessages, ToolMessage } from "@langchain/core/messages";
import { isMessageId, sessionTag } from "../conversation/message/ids.ts";
import { templateOfStored, type RowTemplate } from "../conversation/message/stored-message.ts";

interface FinishedMessage {
  readonly id: string;
  readonly message: BaseMessage;
}

/**
 * The messages of a thread that may stand in its history: all but a last reply whose tools have not all answered, and what
 * came of it so far. Where the conversation went on without these answers, it is left out for good: a history never holds
 * a call without its answer or an answer without its call, since providers refuse it.
 */
export function finishedMessages(historyKey: string, messages: readonly unknown[]): readonly FinishedMessage[] {
  const all = messages.filter((message) => BaseMessage.isInstance(message));
  const answered = new Set(all.flatMap((message) => (ToolMessage.isInstance(message) ? [message.tool_call_id] : [])));
  const called = new Set<string>();
  return all.flatMap((message, index) => {
    // The last asks for messages to be taken out of the state.
    if (ToolMessage.isInstance(message) ? !called.has(message.tool_call_id) : message.type === "remove") return [];
    const calls = AIMessage.isInstance(message) ? (message.tool_calls ?? []).map(({ id = "" }) => id) : [];
    if (!calls.every((id) => answered.has(id))) return [];
    for (const id of calls) called.add(id);
    return [{ id: idOf(historyKey, message, index), message }];
  });
}

/** The row that LangChain JS and Python read. */
export function rowOf(historyKey: string, { id, message }: FinishedMessage, now: number): RowTemplate {
  const [stored] = mapChatMessagesToStoredMessages([message]);
  if (stored === undefined) throw new TypeError("LangChain stores no message as nothing");
  const { type } = stored;
  const kept = Object.entries(stored.data).filter(([key]) => !leftovers.has(key));
  // createAgent calls each reply so, and a provider would be sent it.
  const data = Object.fromEntries(
    kept.filter(([key, value]) => !(type === "ai" && key === "name" && value === "model")),
  );
  return templateOfStored(type, data, id, { session: sessionTag(historyKey), runId: null, hint: 0, createdAt: now });
}

/** What only means something while a message streams. */
const leftovers = new Set(["tool_call_chunks", "metadata"]);

/** One that is no name in a row, or is missing, is replaced by one that is the same each time. */
function idOf(historyKey: string, message: BaseMessage, index: number): string {
  if (message.id !== undefined && isMessageId(message.id)) return message.id;
  const what = message.id ?? [index, message.type, message.content];
  return createHash("sha256")
    .update(JSON.stringify([historyKey, what]))
    .digest("hex")
    .slice(0, 32);
}
