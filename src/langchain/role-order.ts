import { AIMessage, HumanMessage, SystemMessage, type BaseMessage } from "@langchain/core/messages";

import { textOfMessage } from "./text.ts";

/**
 * The messages of a request as chat templates and providers with strict ones take them (vLLM's Qwen, Gemma and Mistral,
 * Anthropic, Google): one system message, first; behind it the user begins; nobody speaks twice in a row. Nothing of what
 * was said is lost, and what is stored stays as it is.
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

/** null: they stay two messages. */
function joinedOf(first: BaseMessage, second: BaseMessage): BaseMessage | null {
  const isUser = HumanMessage.isInstance(first) && HumanMessage.isInstance(second);
  // Calls of tools and their answers belong together one by one.
  if (!isUser && !(isPlainReply(first) && isPlainReply(second))) return null;
  const sameName = first.name === second.name;
  const name = sameName && first.name !== undefined ? { name: first.name } : {};
  const content = joinedContent(contentOf(first, !sameName), contentOf(second, !sameName));
  return isUser ? new HumanMessage({ content, ...name }) : new AIMessage({ content, ...name });
}

function isPlainReply(message: BaseMessage): boolean {
  return AIMessage.isInstance(message) && (message.tool_calls ?? []).length === 0;
}

function contentOf({ content, name }: BaseMessage, withName: boolean): BaseMessage["content"] {
  if (!withName || name === undefined) return content;
  return typeof content === "string" ? `${name}: ${content}` : [{ type: "text", text: `${name}:` }, ...content];
}

function joinedContent(first: BaseMessage["content"], second: BaseMessage["content"]): BaseMessage["content"] {
  if (typeof first === "string" && typeof second === "string") return `${first}\n\n${second}`;
  const blocks = (content: BaseMessage["content"]) =>
    typeof content === "string" ? [{ type: "text" as const, text: content }] : content;
  return [...blocks(first), ...blocks(second)];
}
