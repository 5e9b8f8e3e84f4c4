import { arrayOrEmpty, isObject, objectOrEmpty, parseJson, stringOrNull, type JsonObject } from "./json.ts";
import { mediaOf } from "./media.ts";
import type { ContentBlock, ToolCall } from "./message.ts";

// Content blocks and tool calls, from and to what `data` holds of them.

/** LangChain 1.x stores a message that was made of `contentBlocks` without `content`. */
export function blocksIn(data: JsonObject): readonly unknown[] {
  const blocks = blocksOf(data["content"]);
  return blocks.length > 0 ? blocks : blocksOf(data["content_blocks"]);
}

export function contentIn(data: JsonObject): readonly ContentBlock[] {
  return blocksIn(data).map(blockOf);
}

export function contentOf(value: unknown): readonly ContentBlock[] {
  return blocksOf(value).map(blockOf);
}

function blocksOf(value: unknown): readonly unknown[] {
  if (value === null || value === undefined || value === "") return [];
  const blocks: readonly unknown[] = Array.isArray(value) ? value : [value];
  return blocks.filter((block) => block !== null);
}

export function blockOf(block: unknown): ContentBlock {
  if (typeof block === "string") return { kind: "text", text: block };
  if (!isObject(block)) return { kind: "other", type: "unknown", data: block };
  const type = stringOrNull(block["type"]) ?? "unknown";
  if (type === "text" && typeof block["text"] === "string") return { kind: "text", text: block["text"] };
  const media = mediaOf(block);
  if (media?.kind !== "image" || media.url === null) return { kind: "other", type, data: block };
  const details = isObject(block["image_url"]) ? block["image_url"] : block;
  return { kind: "image", url: media.url, detail: stringOrNull(details["detail"]) };
}

export function toolCallsOf(data: JsonObject): readonly ToolCall[] {
  const wellFormed = arrayOrEmpty(data["tool_calls"]).filter(isObject);
  const invalid = arrayOrEmpty(data["invalid_tool_calls"]).filter(isObject);
  if (wellFormed.length + invalid.length === 0) {
    const raw = arrayOrEmpty(objectOrEmpty(data["additional_kwargs"])["tool_calls"]).filter(isObject);
    return raw.length > 0 ? raw.map(openAiToolCall) : toolCallsAmong(contentIn(data));
  }
  return [
    ...wellFormed.map((call) => toolCall(call["id"], call["name"], call["args"] ?? {})),
    ...invalid.map((call) => toolCall(call["id"], call["name"], call["args"] ?? "")),
  ];
}

/** Blocks of LangChain 1.x and of Anthropic; LangChain repeats them in `tool_calls`, other writers may not. */
function toolCallsAmong(blocks: readonly ContentBlock[]): readonly ToolCall[] {
  return blocks.flatMap((block) => {
    const data = block.kind === "other" ? objectOrEmpty(block.data) : {};
    if (data["type"] === "tool_call") return [toolCall(data["id"], data["name"], data["args"] ?? {})];
    return data["type"] === "tool_use" ? [toolCall(data["id"], data["name"], data["input"] ?? {})] : [];
  });
}

function toolCall(callId: unknown, name: unknown, args: unknown): ToolCall {
  return { callId: stringOrNull(callId), name: stringOrNull(name) ?? "", args };
}

/** As the provider sent it, with the arguments as JSON text; older LangChain stored only this form. */
function openAiToolCall(call: JsonObject): ToolCall {
  const { name, arguments: args } = objectOrEmpty(call["function"]);
  const parsed = typeof args === "string" ? parseJson(args) : args;
  return toolCall(call["id"], name, parsed ?? args ?? {});
}
