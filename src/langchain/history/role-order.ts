import {
  AIMessage,
  HumanMessage,
  SystemMessage,
  type BaseMessage,
  type MessageContent,
} from "@langchain/core/messages";

import { joinedTurns } from "./joined-turns.ts";
import { textOfMessage } from "../text.ts";

/**
 * The messages of a request as chat templates and providers with strict ones take them (vLLM's Qwen, Gemma and Mistral,
 * Anthropic, Google): one system message, first; behind it the user begins; nobody speaks twice in a row, such as after a
 * reply that failed. Nothing of what was said is lost, and what is stored stays as it is.
 *
 * What other programs wrote stands as it does when they send it themselves; a server that refuses that gets it joined as
 * well (wire/request.ts).
 */
export function inStrictOrder(messages: readonly BaseMessage[]): BaseMessage[] {
  const system = messages.filter((message) => SystemMessage.isInstance(message)).map(textOfMessage);
  const ordered: BaseMessage[] = system.length === 0 ? [] : [new SystemMessage(system.join("\n\n"))];
  let previous: BaseMessage | null = null;
  for (const message of messages) {
    if (SystemMessage.isInstance(message)) continue;
    if (previous === null && !HumanMessage.isInstance(message)) ordered.push(new HumanMessage(beginning));
    const joined: BaseMessage | null = previous === null ? null : joinedOf(previous, message);
    if (joined === null) ordered.push(message);
    else ordered[ordered.length - 1] = joined;
    previous = joined ?? message;
  }
  return ordered;
}

/** For a history that begins with the model's own words: a greeting, or the first that fits into its memory. */
const beginning = "…";

/** `message` is of a row that Parley wrote. */
export function markOwn(message: BaseMessage): BaseMessage {
  // No provider is sent a message's metadata.
  message.response_metadata = { parley: true };
  return message;
}

function isOwn({ response_metadata: metadata }: BaseMessage): boolean {
  return "parley" in metadata;
}

/** null: they stay two messages. */
function joinedOf(first: BaseMessage, second: BaseMessage): BaseMessage | null {
  if (!isOwn(first) || !isOwn(second)) return null;
  const isUser = HumanMessage.isInstance(first) && HumanMessage.isInstance(second);
  // Calls of tools and their answers belong together one by one.
  if (!isUser && !(isPlainReply(first) && isPlainReply(second))) return null;
  const { content, name } = joinedTurns(first, second);
  // Safe: the blocks are those of LangChain's messages, and text.
  const said = { content: content as MessageContent, ...(name === undefined ? {} : { name }) };
  return markOwn(isUser ? new HumanMessage(said) : new AIMessage(said));
}

function isPlainReply(message: BaseMessage): boolean {
  return AIMessage.isInstance(message) && (message.tool_calls ?? []).length === 0;
}
