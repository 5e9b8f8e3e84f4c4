import { hash } from "node:crypto";

import { timeOfUuidv7 } from "./ids.ts";
import {
  arrayOrEmpty,
  isObject,
  jsonEntries,
  objectOrEmpty,
  parseJson,
  stringOrNull,
  type JsonObject,
} from "./json.ts";
import type {
  ContentBlock,
  FinishReason,
  MessageContent,
  MessageOrigin,
  MessageRole,
  NewMessage,
  TokenUsage,
} from "./message.ts";
import { contentOf, replyContent, storedContent, storedToolCalls, toolCallsOf } from "./stored-content.ts";

// LangChain's stored form, both ways: rows of any writer are read, whatever they hold, and rows are written so that
// LangChain JS and Python read them.

// ---------------------------------------------------------------- reading

const noMessage: MessageContent = {
  messageId: null,
  role: "OTHER",
  text: "",
  content: [],
  toolCalls: [],
  toolCallId: null,
  toolFailed: null,
  name: null,
  createdAt: null,
  finishReason: null,
  usage: null,
  origin: null,
};

/** Never throws. A row that is no message at all has role OTHER and no content. */
export function decodeStoredMessage(raw: string): MessageContent {
  const row = parseJson(raw);
  if (!isObject(row) || typeof row["type"] !== "string") return noMessage;
  const data = dataOf(row);
  if (data === null) return noMessage;
  const role = roleOf(row["type"], data);
  const content = contentOf(data["content"]);
  const metadata = objectOrEmpty(data["response_metadata"]);
  const messageId = stringOrNull(data["id"]);
  return {
    messageId,
    role,
    text: content.map((block) => (block.kind === "text" ? block.text : "")).join(""),
    content,
    toolCalls: toolCallsOf(data),
    toolCallId: role === "TOOL" ? stringOrNull(data["tool_call_id"]) : null,
    toolFailed: role === "TOOL" ? failureOf(data["status"]) : null,
    name: stringOrNull(data["name"]) ?? (role === "OTHER" ? stringOrNull(data["role"]) : null),
    createdAt: createdAtOf(messageId, metadata),
    finishReason: role === "ASSISTANT" ? finishReasonOf(metadata) : null,
    usage: usageOf(data, metadata),
    origin: originOf(metadata["parley"]),
  };
}

/** null: no message. Before it had `data`, LangChain stored {"type","text"}, and JS still reads that. */
function dataOf(row: JsonObject): JsonObject | null {
  if (isObject(row["data"])) return row["data"];
  return typeof row["text"] === "string" ? { content: row["text"], role: row["role"], name: row["name"] } : null;
}

const roles: ReadonlyMap<string, MessageRole> = new Map([
  ["human", "USER"],
  ["HumanMessageChunk", "USER"],
  ["ai", "ASSISTANT"],
  ["AIMessageChunk", "ASSISTANT"],
  ["system", "SYSTEM"],
  ["SystemMessageChunk", "SYSTEM"],
  ["developer", "SYSTEM"],
  ["tool", "TOOL"],
  ["ToolMessageChunk", "TOOL"],
  ["function", "FUNCTION"],
  ["FunctionMessageChunk", "FUNCTION"],
]);
/** The same type is `chat` in Python and `generic` in JS; its role is free text. */
const freeTypes: ReadonlySet<string> = new Set(["chat", "generic", "ChatMessageChunk", "GenericMessageChunk"]);
const freeRoles: ReadonlyMap<unknown, MessageRole> = new Map<unknown, MessageRole>([
  ["user", "USER"],
  ["human", "USER"],
  ["assistant", "ASSISTANT"],
  ["ai", "ASSISTANT"],
  ["system", "SYSTEM"],
  ["developer", "SYSTEM"],
]);

function roleOf(type: string, data: JsonObject): MessageRole {
  return (freeTypes.has(type) ? freeRoles.get(data["role"]) : roles.get(type)) ?? "OTHER";
}

function failureOf(status: unknown): boolean | null {
  return status === "error" ? true : status === "success" ? false : null;
}

/** The last millisecond of the year 9999: beyond it, ISO 8601 needs a sign that clients don't expect. */
const maxTime = 253_402_300_799_999;
const isoPattern = /^(\d{4}-\d\d-\d\d)[T ](\d\d:\d\d(?::\d\d(?:\.\d+)?)?)(Z|[+-]\d\d:\d\d)?$/;

function createdAtOf(messageId: string | null, metadata: JsonObject): number | null {
  const times = [timeOf(metadata["created_at"]), messageId === null ? null : timeOfUuidv7(messageId)];
  return times.find((time) => time !== null && time >= 0 && time <= maxTime) ?? null;
}

/** ISO text (UTC where it names no zone), or a number of seconds or milliseconds. */
function timeOf(value: unknown): number | null {
  if (typeof value === "string") {
    const [, date = "", time = "", zone = "Z"] = isoPattern.exec(value) ?? [];
    const parsed = Date.parse(`${date}T${time}${zone}`);
    return Number.isNaN(parsed) ? null : parsed;
  }
  if (typeof value !== "number") return null;
  // In seconds 1e11 is the year 5138, in milliseconds 1973.
  return Math.floor(value < 1e11 ? value * 1000 : value);
}

const finishReasons: ReadonlyMap<string, FinishReason> = new Map([
  ["stop", "STOP"],
  ["end_turn", "STOP"],
  ["stop_sequence", "STOP"],
  ["length", "LENGTH"],
  ["max_tokens", "LENGTH"],
  ["tool_calls", "TOOL_CALLS"],
  ["tool_use", "TOOL_CALLS"],
  ["function_call", "TOOL_CALLS"],
  ["content_filter", "CONTENT_FILTER"],
  ["safety", "CONTENT_FILTER"],
  ["refusal", "CONTENT_FILTER"],
  ["cancelled", "CANCELLED"],
]);

function finishReasonOf(metadata: JsonObject): FinishReason | null {
  const reason =
    stringOrNull(metadata["finish_reason"]) ??
    stringOrNull(metadata["stop_reason"]) ??
    stringOrNull(metadata["finishReason"]);
  return reason === null ? null : (finishReasons.get(reason.toLowerCase()) ?? "OTHER");
}

function usageOf(data: JsonObject, metadata: JsonObject): TokenUsage | null {
  return (
    usageFrom(data["usage_metadata"], "input_tokens", "output_tokens", "total_tokens") ??
    usageFrom(metadata["tokenUsage"], "promptTokens", "completionTokens", "totalTokens") ??
    usageFrom(metadata["usage"], "prompt_tokens", "completion_tokens", "total_tokens") ??
    usageFrom(metadata["token_usage"], "prompt_tokens", "completion_tokens", "total_tokens")
  );
}

function usageFrom(value: unknown, input: string, output: string, total: string): TokenUsage | null {
  if (!isObject(value)) return null;
  const inputTokens = countOf(value[input]);
  const outputTokens = countOf(value[output]);
  const totalTokens = countOf(value[total]);
  if (inputTokens === null || outputTokens === null || totalTokens === null) return null;
  return { inputTokens, outputTokens, totalTokens };
}

/** GraphQL's Int ends at 2^31-1, and one number beyond it would fail the whole field. */
function countOf(value: unknown): number | null {
  if (typeof value !== "number" || !Number.isFinite(value) || value < 0) return null;
  return Math.min(Math.floor(value), 2 ** 31 - 1);
}

function originOf(note: unknown): MessageOrigin | null {
  if (!isObject(note)) return null;
  const { session, position, run, hint } = note;
  if (typeof session !== "string" || !isPosition(position)) return null;
  if (typeof run !== "string" && run !== null) return null;
  if (!isPosition(hint) && hint !== null) return null;
  return { session, position, runId: run, hint };
}

function isPosition(value: unknown): value is number {
  return Number.isSafeInteger(value) && Number(value) >= 0;
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

/** @throws RangeError where JSON is nested deeper than the stack holds (thousands of levels); who accepts JSON bounds that. */
export function templateOfMessage(message: NewMessage, messageId: string, note: RowNote): RowTemplate {
  const data = {
    content: storedContent(message.content),
    id: messageId,
    ...(message.name === null ? {} : { name: message.name }),
  };
  switch (message.role) {
    case "USER":
      return templateOf("human", data, {}, messageId, note);
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
