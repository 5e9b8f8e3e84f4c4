import { hash } from "node:crypto";
import {
  arrayOrEmpty,
  isObject,
  jsonEntries,
  objectOrEmpty,
  parseJson,
  type JsonObject,
  stringOrNull,
} from "./json.ts";
import type { ContentBlock, MessageContent, NewMessage } from "./message.ts";
import { isPosition, ReadMessage } from "./read-message.ts";
import { createdAtOf } from "./ids.ts";

// LangChain's stored form, both ways: rows of any writer are read, whatever they hold, and rows are written so that
// LangChain JS and Python read them.

// ---------------------------------------------------------------- reading

/** Never throws. A row that is no message at all has role OTHER and no content. */
export function decodeStoredMessage(raw: string): MessageContent {
  const read = new ReadMessage(raw);
  const { content } = read; // first: it has the row parsed, which then serves all the others
  return {
    messageId: read.messageId,
    role: read.role,
    text: read.text,
    content,
    toolCalls: read.toolCalls,
    toolCallId: read.toolCallId,
    toolFailed: read.toolFailed,
    name: read.name,
    createdAt: read.createdAt,
    finishReason: read.finishReason,
    usage: read.usage,
    origin: read.origin,
  };
}

// ---------------------------------------------------------------- writing

/** head + position + tail is the row: only the script that appends knows the position. */
export interface RowTemplate {
  readonly head: string;
  readonly tail: string;
}

/** head + text so far as escaped fragments + middle + position + tail is the row of a cancelled reply. */
export interface PartialTemplate {
  readonly head: string;
  readonly middle: string;
  readonly tail: string;
}

export interface RowNote {
  /** sessionTag() of the history key. */
  readonly session: string;
  readonly runId: string | null;
  /** The position expected when the gateway gave the id out; null: the caller chose the id. */
  readonly hint: number | null;
  /** Milliseconds since the epoch. */
  readonly createdAt: number;
}

export function fillTemplate(template: RowTemplate, position: number): string {
  return `${template.head}${position}${template.tail}`;
}

/** The same of a message's row, whose hint is the position too where the gateway made the id: as fill() of lib/session.lua. */
export function fillMessage({ head, tail }: RowTemplate, position: number): string {
  return fillTemplate(
    { head: head.replace(/"hint":0,"position":$/, `"hint":${position},"position":`), tail },
    position,
  );
}

/** In `additional_kwargs` of a human row: NewMessage.context. */
const contextKey = "parley_context";

/** What was sent along with a message that is to be answered. */
export function contextOfRow(raw: string): readonly unknown[] {
  if (!raw.includes(contextKey)) return [];
  const data = objectOrEmpty(objectOrEmpty(parseJson(raw))["data"]);
  return arrayOrEmpty(objectOrEmpty(data["additional_kwargs"])[contextKey]);
}

/** @throws RangeError where JSON is nested deeper than the stack holds (thousands of levels); the input checks bound that. */
export function templateOfMessage(message: NewMessage, messageId: string, note: RowNote): RowTemplate {
  const data = {
    content: storedContent(message.content),
    id: messageId,
    ...(message.name === null ? {} : { name: message.name }),
  };
  switch (message.role) {
    case "USER": {
      const { context = [] } = message;
      const beside = context.length === 0 ? {} : { additional_kwargs: { [contextKey]: context } };
      return templateOf("human", { ...data, ...beside }, {}, messageId, note);
    }
    case "SYSTEM":
      return templateOf("system", data, {}, messageId, note);
    case "ASSISTANT": {
      const calls = message.toolCalls.map(({ callId, name, args }) => ({ name, args, id: callId }));
      return templateOf("ai", { ...data, ...storedToolCalls(calls, []) }, {}, messageId, note);
    }
    case "TOOL": {
      const status = message.toolFailed === null ? {} : { status: message.toolFailed ? "error" : "success" };
      // LangChain JS refuses to read any row of a history where one tool row has no tool_call_id.
      const tool = { ...data, tool_call_id: message.toolCallId ?? "", ...status };
      return templateOf("tool", tool, {}, messageId, note);
    }
  }
}

/** `data` as LangChain made it; what is no JSON in it, or would make another language's LangChain refuse the history, is left out. */
export function templateOfReply(data: JsonObject, messageId: string, note: RowNote): RowTemplate {
  const { content, tool_calls, invalid_tool_calls, usage_metadata, response_metadata, ...rest } = jsonOf(data);
  const stored = {
    // Python refuses a `type` inside data that differs from the row's, and chunks carry one.
    ...without(rest, "type"),
    content: replyContent(content),
    id: messageId,
    ...storedToolCalls(arrayOrEmpty(tool_calls), arrayOrEmpty(invalid_tool_calls)),
    ...(isWholeUsage(usage_metadata) ? { usage_metadata } : {}),
    additional_kwargs: objectOrEmpty(rest["additional_kwargs"]),
  };
  return templateOf("ai", stored, objectOrEmpty(response_metadata), messageId, note);
}

/** What a tool answered. `data`: of LangChain's stored tool message, without an id. */
export function templateOfAnswer(data: JsonObject, messageId: string, note: RowNote): RowTemplate {
  return templateOfStored("tool", data, messageId, note);
}

/** A message of any type; `type` and `data` are those of LangChain's stored form. */
export function templateOfStored(type: string, data: JsonObject, messageId: string, note: RowNote): RowTemplate {
  if (type === "ai") return templateOfReply(data, messageId, note);
  const { content = "", response_metadata, ...rest } = jsonOf(data);
  const stored = { ...without(rest, "type"), content, id: messageId };
  return templateOf(type, stored, objectOrEmpty(response_metadata), messageId, note);
}

export function templateOfPartial(messageId: string, note: RowNote): PartialTemplate {
  const data = { content: "", id: messageId, tool_calls: [], invalid_tool_calls: [] };
  const row = templateOf("ai", data, { finish_reason: "cancelled" }, messageId, note);
  const head = `{"type":"ai","data":{"content":"`;
  return { head, middle: row.head.slice(head.length), tail: row.tail };
}

function templateOf(
  type: string,
  data: JsonObject,
  metadata: JsonObject,
  messageId: string,
  note: RowNote,
): RowTemplate {
  const { content, additional_kwargs = {}, ...rest } = data;
  const kept = without(metadata, "parley");
  const { session, runId: run, hint, createdAt } = note;
  // Readers take an id that is a UUIDv7 at its word; any other needs the time beside it, also a v7 made long before.
  const told = createdAtOf(messageId, kept);
  const created =
    told !== null && Math.abs(told - createdAt) <= 1000 ? {} : { created_at: new Date(createdAt).toISOString() };
  const row = JSON.stringify({
    type,
    data: {
      content,
      ...rest,
      additional_kwargs,
      response_metadata: { ...kept, ...created, parley: { session, run, hint } },
    },
  });
  // The note is last in everything that it is in, so that its end is the row's end.
  const end = "}}}}";
  return { head: `${row.slice(0, -end.length)},"position":`, tail: end };
}

function without(object: JsonObject, key: string): JsonObject {
  return Object.fromEntries(Object.entries(object).filter(([name]) => name !== key));
}

function isWholeUsage(value: unknown): boolean {
  if (!isObject(value)) return false;
  return [value["input_tokens"], value["output_tokens"], value["total_tokens"]].every(isPosition);
}

/**
 * What JSON keeps of `data`. A model's message may carry what is no JSON (a provider's raw response that refers to
 * itself, a BigInt): that entry goes, since a reply that cannot be stored would be lost.
 */
function jsonOf(data: JsonObject): Record<string, unknown> {
  const metadata = objectOrEmpty(data["response_metadata"]);
  return { ...jsonEntries(data), response_metadata: jsonEntries(metadata) };
}

// ---------------------------------------------------------------- fragments and fingerprints

/** Text as it stands between the quotes of a JSON string. Fragments of a text cut anywhere, a surrogate pair too, join to the whole. */
export function escapeFragment(text: string): string {
  return JSON.stringify(text).slice(1, -1);
}

/** The text of joined fragments. Never throws: of what is no such text, the escapes that are whole are read, the rest stays. */
export function joinFragments(escaped: string): string {
  const text = parseJson(`"${escaped}"`);
  if (typeof text === "string") return text;
  const whole = /\\(?:u[0-9a-fA-F]{4}|["\\/bfnrt])/g;
  return escaped.replace(whole, (escape) => String(JSON.parse(`"${escape}"`)));
}

/**
 * Tells another content under the same messageId: 128 bits of SHA-256 over all but the id, whatever the order of keys.
 * Content blocks alone count as a USER message of them.
 */
export function contentFingerprint(message: NewMessage | readonly ContentBlock[]): string {
  const whole: Omit<NewMessage, "messageId"> = isMessage(message)
    ? message
    : { role: "USER", content: message, name: null, toolCallId: null, toolFailed: null, toolCalls: [] };
  const { role, content, name, toolCallId, toolFailed, toolCalls } = whole;
  const text = JSON.stringify({ role, content, name, toolCallId, toolFailed, toolCalls }, inKeyOrder);
  return hash("sha256", text).slice(0, 32);
}

function isMessage(message: NewMessage | readonly ContentBlock[]): message is NewMessage {
  return !Array.isArray(message);
}

function inKeyOrder(_key: string, value: unknown): unknown {
  if (!isObject(value)) return value;
  return Object.fromEntries(Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1)));
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

function replyContent(content: unknown): unknown {
  if (typeof content === "string") return content;
  if (isObject(content)) return [content];
  return Array.isArray(content) ? content.filter((block) => typeof block === "string" || isObject(block)) : "";
}

/** Python wants every key of a call, and arguments that are an object; a call that has none goes with the invalid ones. */
function storedToolCalls(calls: readonly unknown[], invalid: readonly unknown[]): JsonObject {
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
