import { AIMessage, HumanMessage, ToolMessage, type BaseMessage } from "@langchain/core/messages";

import { byWord, isObject, objectOrEmpty, stringOrNull, type JsonObject } from "../../conversation/message/json.ts";
import { mediaOf, type MediaKind } from "../../conversation/message/media.ts";
import { textOfMessage } from "../text.ts";

// What of images, sounds, videos and files a model gets. Rows hold them in the forms of their writers; a model that
// does not take one of them would refuse the whole request, and so each later turn of the session.

/** The block as a model takes it; null: it does not. */
export type TakesBlock = (block: JsonObject) => JsonObject | null;

/** The form is LangChain's class's affair. */
export const asItIs: TakesBlock = (block) => block;
const nothing: TakesBlock = () => null;

/** OpenAI's chat format, which ChatOpenAI throws over where it does not know how to put something in it. */
export const inOpenAIsFormat: TakesBlock = (block) => {
  const text = plainText(block);
  if (text !== null) return { type: "text", text };
  const media = mediaOf(block);
  if (media === null) return block;
  const { kind, url, fileId, fileName } = media;
  switch (kind) {
    case "image":
      if (url === null) return null;
      return block["type"] === "image_url" && isObject(block["image_url"])
        ? block
        : { type: "image_url", image_url: { url } };
    case "audio": {
      // Servers near OpenAI's format have formats of their own.
      if (isObject(block["input_audio"]) || isObject(block["audio_url"])) return block;
      const [, subtype = "", data = ""] = /^data:audio\/([\w.-]+)[^,]*;base64,(.+)$/s.exec(url ?? "") ?? [];
      const format = audioFormats.get(subtype.toLowerCase());
      return format === undefined ? null : { type: "input_audio", input_audio: { data, format } };
    }
    case "video":
      return isObject(block["video_url"]) ? block : null;
    case "file":
      if (url?.startsWith("data:") === true) {
        return { type: "file", file: { file_data: url, filename: fileName ?? "file" } };
      }
      return url === null && fileId !== null ? { type: "file", file: { file_id: fileId } } : null;
  }
};

const audioFormats = byWord([
  ["wav", ["wav", "x-wav", "wave", "vnd.wave"]],
  ["mp3", ["mp3", "mpeg"]],
]);

/** A document whose text stands in the block. */
function plainText(block: JsonObject): string | null {
  const source = objectOrEmpty(block["source"]);
  if (source["type"] === "text") return stringOrNull(source["data"]);
  return block["type"] === "text-plain" || block["source_type"] === "text" ? stringOrNull(block["text"]) : null;
}

type Block = Exclude<BaseMessage["content"], string>[number];
/** What a note counts. */
type LeftOut = MediaKind | "block";

export interface Fitted {
  readonly messages: readonly BaseMessage[];
  readonly leftOut: readonly LeftOut[];
}

/** The messages with what the model takes; one of which nothing is left goes. */
export function fitted(messages: readonly BaseMessage[], takes: TakesBlock): Fitted {
  const leftOut: LeftOut[] = [];
  const fitting = messages.flatMap((message) => {
    if (typeof message.content === "string") return [message];
    // No provider takes a reply's images back, and few those of a tool's answer.
    const taken = HumanMessage.isInstance(message) ? takes : nothing;
    const blocks: Block[] = [];
    for (const block of message.content) {
      const fit = block.type === "text" ? block : taken(block);
      // Safe: LangChain asks of a block that it has a type, as each here has.
      if (fit !== null) blocks.push(fit as Block);
      else leftOut.push(mediaOf(block)?.kind ?? "block");
    }
    const fit = withContent(message, blocks);
    // Says whose row it is (role-order.ts).
    if (fit !== null) fit.response_metadata = message.response_metadata;
    return fit ?? [];
  });
  return { messages: fitting, leftOut };
}

/** null: nothing is left of it. */
function withContent(message: BaseMessage, blocks: Block[]): BaseMessage | null {
  // Whose it is stays known (role-order.ts).
  const { name, response_metadata } = message;
  const named = name === undefined ? {} : { name };
  if (ToolMessage.isInstance(message)) {
    const { tool_call_id, status } = message;
    const content = textOfMessage(new HumanMessage({ content: blocks })) || "The answer cannot be shown here.";
    return new ToolMessage({ content, tool_call_id, ...(status === undefined ? {} : { status }) });
  }
  if (AIMessage.isInstance(message)) {
    const content = textOfMessage(new HumanMessage({ content: blocks }));
    const { tool_calls = [] } = message;
    return content === "" && tool_calls.length === 0
      ? null
      : new AIMessage({ content, tool_calls, response_metadata, ...named });
  }
  if (!HumanMessage.isInstance(message)) return message;
  const [first] = blocks;
  if (first === undefined) return null;
  const isText = blocks.length === 1 && first.type === "text" && typeof first["text"] === "string";
  return new HumanMessage({ content: isText ? String(first["text"]) : blocks, response_metadata, ...named });
}

/** Text alone: for a provider that refused the rest, and for summaries. */
export function withoutMedia(messages: readonly BaseMessage[]): Fitted {
  return fitted(messages, nothing);
}

/** "2 images and a file". */
export function counted(leftOut: readonly LeftOut[]): string {
  const counts = Map.groupBy(leftOut, (kind) => kind);
  const parts = [...counts].map(([kind, { length }]) => {
    const noun = kind === "block" ? "block of another kind" : kind === "audio" ? "sound" : kind;
    const article = /^[aeiou]/.test(noun) ? "an" : "a";
    return length === 1 ? `${article} ${noun}` : `${length} ${noun.replace(/^\w+/, "$&s")}`;
  });
  return [parts.slice(0, -1).join(", "), ...parts.slice(-1)].filter((part) => part !== "").join(" and ");
}
