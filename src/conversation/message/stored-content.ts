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

export function storedContent(blocks: readonly ContentBlock[]): unknown {
  const [first] = blocks;
  if (first === undefined) return "";
  if (blocks.length === 1 && first.kind === "text") return first.text;
  return blocks.map((block) => {
    if (block.kind === "text") return { type: "text", text: block.text };
    if (block.kind === "other") return block.data;
    const detail = block.detail === null ? {} : { detail: block.detail };
    return { type: "image_url", image_url: { url: block.url, ...detail } };
  });
}

export function replyContent(content: unknown): unknown {
  if (typeof content === "string") return content;
  if (isObject(content)) return [content];
  return Array.isArray(content) ? content.filter((block) => typeof block === "string" || isObject(block)) : "";
}

/** Python wants every key of a call, and arguments that are an object; a call that has none goes with the invalid ones. */
export function storedToolCalls(calls: readonly unknown[], invalid: readonly unknown[]): JsonObject {
  const isCall = (call: JsonObject): boolean => typeof call["name"] === "string" && isObject(call["args"]);
  const given = calls.filter(isObject);
  const wellFormed = given.filter(isCall);
  const broken = [...given.filter((call) => !isCall(call)), ...invalid.filter(isObject)];
  return {
    tool_calls: wellFormed.map((call) => ({ ...call, id: stringOrNull(call["id"]), type: "tool_call" })),
    invalid_tool_calls: broken.map((call) => ({
      ...call,
      name: stringOrNull(call["name"]),
      args: typeof call["args"] === "string" ? call["args"] : JSON.stringify(call["args"] ?? null),
      id: stringOrNull(call["id"]),
      error: stringOrNull(call["error"]) ?? "The arguments are not a JSON object.",
      type: "invalid_tool_call",
    })),
  };
}
