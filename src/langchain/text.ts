import type { BaseMessage } from "@langchain/core/messages";

import { contentOf } from "../conversation/message/stored-content.ts";

/** All text blocks joined, of a message's content in any of LangChain's forms. */
export function textOf(content: unknown): string {
  return contentOf(content)
    .map((block) => (block.kind === "text" ? block.text : ""))
    .join("");
}

export function textOfMessage(message: BaseMessage): string {
  return typeof message.content === "string" ? message.content : textOf(message.content);
}

/** At most `maxChars` UTF-16 units, "…" included where something was cut off; never half a surrogate pair. */
export function clip(text: string, maxChars: number): string {
  if (text.length <= maxChars) return text;
  if (maxChars < 1) return "";
  const kept = text.slice(0, maxChars - 1);
  return `${kept.replace(/[\uD800-\uDBFF]$/, "")}…`;
}
