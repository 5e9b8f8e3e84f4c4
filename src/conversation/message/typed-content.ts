import { arrayOrEmpty, isObject, objectOrEmpty, stringOrNull, type JsonObject } from "./json.ts";
import { mediaOf } from "./media.ts";
import type { ContentBlock } from "./message.ts";
import { blockOf, blocksIn } from "./stored-content.ts";

/** Where a passage of a text comes from. Start and end: of the passage in its block, as the provider counts. */
export interface Citation {
  readonly url: string | null;
  readonly title: string | null;
  readonly quote: string | null;
  readonly start: number | null;
  readonly end: number | null;
}

/** A block of a message as clients are shown it: what LangChain's writers and the providers have many forms for has one. */
export type TypedBlock =
  | { readonly kind: "text"; readonly text: string; readonly citations: readonly Citation[] }
  | { readonly kind: "reasoning"; readonly text: string }
  | { readonly kind: "file"; readonly url: string; readonly mimeType: string | null; readonly fileName: string | null }
  | { readonly kind: "audio"; readonly url: string; readonly mimeType: string | null }
  | ServerToolBlock
  | Exclude<ContentBlock, { readonly kind: "text" }>;

/** A tool that the provider has called by itself. */
export interface ServerToolBlock {
  readonly kind: "serverTool";
  readonly callId: string;
  readonly name: string;
  readonly args: unknown;
  readonly result: unknown;
}

/** `data`: of a stored message. What its tool calls show is not shown here again. */
export function typedContent(data: JsonObject): readonly TypedBlock[] {
  const raw = blocksIn(data);
  const results = new Map(raw.flatMap((block) => (isObject(block) ? serverToolResultOf(block) : [])));
  const calls = new Set(raw.flatMap((block) => (isObject(block) ? (serverToolOf(block, results)?.callId ?? []) : [])));
  const typed: TypedBlock[] = [];
  for (const block of raw) {
    if (!isObject(block)) typed.push(typedBlockOf(blockOf(block), {}));
    else if (isCitationsAlone(block)) addCitations(typed, citationsOf(block));
    else if (isToolCall(block) || serverToolResultOf(block).some(([callId]) => calls.has(callId))) continue;
    else typed.push(serverToolOf(block, results) ?? typedBlockOf(blockOf(block), block));
  }
  const beside = reasoningBeside(objectOrEmpty(data["additional_kwargs"]));
  const isRepeated = beside === "" || typed.some(({ kind }) => kind === "reasoning");
  return isRepeated ? typed : [{ kind: "reasoning", text: beside }, ...typed];
}

function typedBlockOf(block: ContentBlock, data: JsonObject): TypedBlock {
  if (block.kind === "text") return { ...block, citations: citationsOf(data) };
  if (block.kind === "image") return block;
  const text = reasoningIn(data);
  if (text !== "") return { kind: "reasoning", text };
  const media = mediaOf(data);
  if (media === null || media.url === null) return block;
  const { kind, url, mimeType, fileName } = media;
  if (kind === "audio") return { kind, url, mimeType };
  return kind === "file" ? { kind, url, mimeType, fileName } : block;
}

/** Of LangChain, of Anthropic, and of the Responses API, which has it in parts. */
function reasoningIn(block: JsonObject): string {
  if (block["type"] === "thinking") return stringOrNull(block["thinking"]) ?? "";
  return block["type"] === "reasoning" ? (stringOrNull(block["reasoning"]) ?? summaryOf(block)) : "";
}

/** Many providers' classes keep it beside the content. */
function reasoningBeside(kwargs: JsonObject): string {
  return stringOrNull(kwargs["reasoning_content"]) ?? summaryOf(objectOrEmpty(kwargs["reasoning"]));
}

function summaryOf(reasoning: JsonObject): string {
  const parts = arrayOrEmpty(reasoning["summary"]).filter(isObject);
  return parts.map((part) => stringOrNull(part["text"]) ?? "").join("");
}

/** LangChain keeps the arguments that Anthropic streams beside the call. */
function isToolCall({ type }: JsonObject): boolean {
  return type === "tool_call" || type === "tool_use" || type === "input_json_delta";
}

function serverToolOf(block: JsonObject, results: ReadonlyMap<string, unknown>): ServerToolBlock | null {
  if (block["type"] !== "server_tool_call" && block["type"] !== "server_tool_use") return null;
  const callId = stringOrNull(block["id"]);
  const name = stringOrNull(block["name"]);
  if (callId === null || name === null) return null;
  const args = block["args"] ?? block["input"] ?? null;
  return { kind: "serverTool", callId, name, args, result: results.get(callId) ?? null };
}

/** LangChain JS and Python, and Anthropic, which has one for each of its tools (web_search_tool_result). */
function serverToolResultOf(block: JsonObject): readonly (readonly [callId: string, result: unknown])[] {
  const type = stringOrNull(block["type"]) ?? "";
  if (!/^server_tool(?:_call)?_result$|^\w+_tool_result$/.test(type)) return [];
  const callId = stringOrNull(block["toolCallId"]) ?? stringOrNull(block["tool_call_id"] ?? block["tool_use_id"]);
  return callId === null ? [] : [[callId, block["output"] ?? block["content"] ?? null]];
}

/** Anthropic streams the sources of a text in blocks of their own behind it. */
function isCitationsAlone(block: JsonObject): boolean {
  return block["type"] === "text" && block["text"] === undefined && Array.isArray(block["citations"]);
}

function addCitations(typed: TypedBlock[], citations: readonly Citation[]): void {
  const at = typed.findLastIndex(({ kind }) => kind === "text");
  const text = typed[at];
  if (text?.kind === "text") typed[at] = { ...text, citations: [...text.citations, ...citations] };
}

function citationsOf(block: JsonObject): readonly Citation[] {
  return [...arrayOrEmpty(block["annotations"]), ...arrayOrEmpty(block["citations"])].filter(isObject).map((one) => ({
    url: stringOrNull(one["url"]),
    title: stringOrNull(one["title"]) ?? stringOrNull(one["document_title"]),
    quote: stringOrNull(one["citedText"]) ?? stringOrNull(one["cited_text"]),
    start: offsetOf(one["startIndex"] ?? one["start_index"]),
    end: offsetOf(one["endIndex"] ?? one["end_index"]),
  }));
}

/** GraphQL's Int ends at 2^31-1. */
function offsetOf(value: unknown): number | null {
  return Number.isInteger(value) && Number(value) >= 0 && Number(value) < 2 ** 31 ? Number(value) : null;
}
