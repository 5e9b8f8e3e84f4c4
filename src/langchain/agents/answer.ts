import { ToolMessage, type MessageContent } from "@langchain/core/messages";

import { arrayOrEmpty, isObject, objectOrEmpty, parseJson, type JsonObject } from "../../conversation/message/json.ts";
import { textOf } from "../text.ts";

/** What a tool answered, as its row and the model get it. */
export interface ToolAnswer {
  readonly content: MessageContent;
  readonly status: "success" | "error";
  readonly artifact?: unknown;
}

export function failedAnswer(content: string): ToolAnswer {
  return { content, status: "error" };
}

/** `given`: a tool's message, or a command of LangGraph's that brings one. */
export function answerOf(given: unknown, callId: string, mostBytes: number): ToolAnswer {
  const messages = [given, ...arrayOrEmpty(objectOrEmpty(objectOrEmpty(given)["update"])["messages"])];
  const message = messages.find((one) => ToolMessage.isInstance(one) && one.tool_call_id === callId);
  // A command may bring none: the call has its answer all the same.
  if (!ToolMessage.isInstance(message)) return { content: "Done.", status: "success" };
  // Typed as what a caller gives, which may be nothing.
  const artifact: unknown = message.artifact;
  const kept = artifact === undefined || artifact === null ? null : jsonWithin(artifact, mostBytes);
  return {
    content: within(message.content, mostBytes),
    status: message.status === "error" ? "error" : "success",
    ...(kept === null ? {} : { artifact: kept }),
  };
}

/** What pages are shown of it: beside what the model gets, the images, sounds and files that an MCP server has sent with it. */
export function shownContent({ content, artifact }: ToolAnswer): unknown {
  const media = arrayOrEmpty(objectOrEmpty(artifact)["content"]).filter(isObject).flatMap(mediaBlock);
  if (media.length === 0) return content;
  return [...(typeof content === "string" ? [{ type: "text", text: content }] : content), ...media];
}

/** Of a block of MCP's. A resource's text is in the answer's own text. */
function mediaBlock(block: JsonObject): readonly JsonObject[] {
  const { type, mimeType, uri, name } = block;
  if (type === "image" || type === "audio") return [{ type, mimeType, data: block["data"] }];
  if (type === "resource_link") return [{ type: "file", mimeType, url: uri, metadata: { name } }];
  const resource = objectOrEmpty(block["resource"]);
  if (type !== "resource" || resource["blob"] === undefined) return [];
  const { blob: data, mimeType: mime_type = "application/octet-stream" } = resource;
  return [{ type: "file", data, mime_type, metadata: { name: resource["uri"] } }];
}

const mark = "… (cut off: it was too long)";

/** The content, or as much of its text as may be. */
export function within(content: MessageContent, mostBytes: number): MessageContent {
  if (typeof content !== "string") {
    const kept = jsonWithin(content, mostBytes);
    // Safe: what JSON has kept of a content is one.
    if (kept !== null) return kept as MessageContent;
  }
  const bytes = Buffer.from(typeof content === "string" ? content : textOf(content), "utf8");
  if (bytes.length <= mostBytes && typeof content === "string") return content;
  // Half a character at the end is left out.
  const text = new TextDecoder().decode(bytes.subarray(0, mostBytes), { stream: true });
  return text + mark;
}

/** null: it is no JSON, or too long. */
function jsonWithin(value: unknown, mostBytes: number): unknown {
  try {
    const json: unknown = JSON.stringify(value); // typed as a text, which it is not always
    return typeof json === "string" && Buffer.byteLength(json) <= mostBytes ? parseJson(json) : null;
  } catch {
    return null;
  }
}
