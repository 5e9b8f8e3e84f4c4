import type { BaseMessage } from "@langchain/core/messages";
import type { JsonObject } from "../conversation/message/json.ts";
import { contentOf } from "../conversation/message/stored-content.ts";

/** All text blocks joined, of a message's content in any of LangChain's forms. */
export function textOf(content: unknown): string {
  return contentOf(content)
    .map((block) => (block.kind === "text" ? block.text : ""))
    .join("");
}

/** What a model has thought, of a message or a piece of one, in the forms of LangChain's providers. */
export function reasoningOf({ content, additional_kwargs }: BaseMessage): string {
  const beside = additional_kwargs["reasoning_content"];
  if (typeof beside === "string" && beside !== "") return beside;
  if (typeof content === "string") return "";
  const texts = content.map((block: JsonObject) => {
    const thought = block["type"] === "reasoning" ? block["reasoning"] : block["thinking"];
    return typeof thought === "string" ? thought : "";
  });
  return texts.join("");
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
