import type { BaseMessage } from "@langchain/core/messages";

import {
  arrayOrEmpty,
  isObject,
  jsonEntries,
  objectOrEmpty,
  parseJson,
  stringOrNull,
  type JsonObject,
} from "../conversation/message/json.ts";
import type { TokenUsage } from "../conversation/message/message.ts";
import { textOf } from "./text.ts";

export interface ReplyData {
  /** `data` of LangChain's stored form, without an id. */
  readonly data: Readonly<Record<string, unknown>>;
  readonly text: string;
  readonly usage: TokenUsage | null;
  /** In the provider's own word; null where it gave none. */
  readonly finishReason: string | null;
  /** Its provider tells each reply's end, whatever way it was asked. */
  readonly hasEnd: boolean;
}

/** A whole message as it came from a model, and what LangChain keeps beside it (`generationInfo`, where a stream's finish reason is). */
export interface Generated {
  readonly message: BaseMessage;
  readonly generationInfo: JsonObject;
}

/**
 * Built key by key instead of by toDict(): a streamed message is a chunk there, with keys that LangChain Python refuses
 * (usage details that are null) or that only mean something while it streams.
 */
export function replyData(generated: Generated, streamed: string, modelName: string): ReplyData {
  // Safe: a message is an object, and which kind of message a provider makes of its reply is not known here.
  const message = generated.message as unknown as JsonObject;
  const metadata = { ...generated.generationInfo, ...objectOrEmpty(message["response_metadata"]) };
  const kwargs = objectOrEmpty(message["additional_kwargs"]);
  const finishReason = finishReasonOf(metadata, kwargs);
  const usage = usageOf(message["usage_metadata"]);
  const content = contentThatBegins(writtenContent(message["content"]), streamed);
  // `usage` repeats usage_metadata, and wrongly where a server sends it with every chunk, since chunks add up; `prompt`
  // and `completion` are indices within the request.
  const dropped = new Set(["usage", "prompt", "completion"]);
  const kept: JsonObject = Object.fromEntries(Object.entries(metadata).filter(([key]) => !dropped.has(key)));
  const data = jsonEntries({
    content,
    tool_calls: arrayOrEmpty(message["tool_calls"]),
    // Of a tool that Anthropic calls itself LangChain makes a broken call without id and name.
    invalid_tool_calls: arrayOrEmpty(message["invalid_tool_calls"]).filter(
      (one) => isObject(one) && (stringOrNull(one["id"]) ?? stringOrNull(one["name"])) !== null,
    ),
    ...(usage === null ? {} : { usage_metadata: usage }),
    additional_kwargs: kwargs,
    response_metadata: {
      ...kept,
      model_name:
        stringOrNull(kept["model_name"]) ?? stringOrNull(kept["model"]) ?? stringOrNull(kwargs["model"]) ?? modelName,
      ...(finishReason === null ? {} : { finish_reason: finishReason }),
    },
  });
  return {
    data,
    text: textOf(content),
    usage:
      usage === null
        ? null
        : { inputTokens: usage.input_tokens, outputTokens: usage.output_tokens, totalTokens: usage.total_tokens },
    finishReason,
    hasEnd: metadata["model_provider"] === "anthropic",
  };
}

/** With a usage that was counted here: the provider's was lost. The row says so. */
export function withUsage(reply: ReplyData, usage: TokenUsage): ReplyData {
  const { inputTokens: input_tokens, outputTokens: output_tokens, totalTokens: total_tokens } = usage;
  const response_metadata = { ...objectOrEmpty(reply.data["response_metadata"]), usage_estimated: true };
  return {
    ...reply,
    usage,
    data: { ...reply.data, usage_metadata: { input_tokens, output_tokens, total_tokens }, response_metadata },
  };
}

/**
 * A message's content as it is written and sent back: without the calls of tools, which it has beside (there they may have other
 * ids and arguments), and without what its pieces were told apart by. A text alone is one.
 */
export function writtenContent(content: unknown): unknown {
  if (!Array.isArray(content)) return content;
  const given: readonly unknown[] = content; // Array.isArray gives any[]
  const blocks = given
    .filter((block) => !isObject(block) || !callTypes.has(block["type"]))
    .map((block) => (isObject(block) ? writtenBlock(block, given) : block));
  const isText = (block: unknown) =>
    isObject(block) && typeof block["text"] === "string" && Object.keys(block).sort().join() === "text,type";
  return blocks.every(isText) ? textOf(blocks) : blocks;
}

function writtenBlock({ index, ...block }: JsonObject, all: readonly unknown[]): JsonObject {
  if (block["type"] !== "server_tool_use" || block["input"] !== "") return block;
  // Anthropic's own tools are called as others are, but nothing else has their arguments.
  const pieces = all.filter(isObject).filter((one) => one["index"] === index && one["type"] === "input_json_delta");
  const args = pieces.map(({ input }) => stringOrNull(input) ?? "").join("");
  return { ...block, input: parseJson(args) ?? {} };
}

const callTypes = new Set<unknown>(["tool_use", "tool_call", "input_json_delta"]);

/** Readers have the streamed text already, so where the whole message has another one, the streamed one is stored. */
function contentThatBegins(content: unknown, streamed: string): unknown {
  const whole = typeof content === "string" || Array.isArray(content) ? content : "";
  if (textOf(whole).startsWith(streamed)) return whole;
  const others = arrayOrEmpty(whole).filter((block) => isObject(block) && block["type"] !== "text");
  return others.length === 0 ? streamed : [...others, { type: "text", text: streamed }];
}

/** Whether a reply was ended by how long it may be, not by the model. */
export function isCutOff(finishReason: string): boolean {
  return lengthReasons.has(finishReason.toLowerCase());
}

const lengthReasons = new Set(["length", "max_tokens", "model_context_window_exceeded"]);

/** Each provider has its own place for it; stored-message.ts knows their words. */
function finishReasonOf(metadata: JsonObject, kwargs: JsonObject): string | null {
  const named =
    stringOrNull(metadata["finish_reason"]) ??
    stringOrNull(metadata["stop_reason"]) ??
    stringOrNull(metadata["finishReason"]) ??
    stringOrNull(metadata["stopReason"]) ??
    stringOrNull(metadata["done_reason"]) ??
    stringOrNull(kwargs["stop_reason"]);
  if (named !== null) return named;
  // OpenAI's Responses API.
  if (metadata["status"] === "completed") return "stop";
  if (metadata["status"] !== "incomplete") return null;
  return objectOrEmpty(metadata["incomplete_details"])["reason"] === "content_filter" ? "content_filter" : "length";
}

interface StoredUsage {
  readonly input_tokens: number;
  readonly output_tokens: number;
  readonly total_tokens: number;
}

/** Whole or absent, and details only where they are counts: LangChain Python refuses anything else. */
function usageOf(value: unknown): StoredUsage | null {
  if (!isObject(value)) return null;
  const { input_tokens, output_tokens, total_tokens } = value;
  if (!isCount(input_tokens) || !isCount(output_tokens) || !isCount(total_tokens)) return null;
  // LangChain writes zeros where the Responses API has told none.
  if (total_tokens === 0) return null;
  return {
    input_tokens,
    output_tokens,
    total_tokens,
    ...detailsOf(value, "input_token_details"),
    ...detailsOf(value, "output_token_details"),
  };
}

function detailsOf(usage: JsonObject, key: string): JsonObject {
  const counts = Object.entries(objectOrEmpty(usage[key])).filter(([, value]) => isCount(value));
  return counts.length === 0 ? {} : { [key]: Object.fromEntries(counts) };
}

function isCount(value: unknown): value is number {
  return Number.isSafeInteger(value) && Number(value) >= 0;
}
