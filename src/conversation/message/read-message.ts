import { briefRow, type BriefRow } from "./brief-row.ts";
import { createdAtOf } from "./ids.ts";
import { byWord, isObject, objectOrEmpty, parseJson, stringOrNull, type JsonObject } from "./json.ts";
import type {
  ContentBlock,
  FinishReason,
  MessageContent,
  MessageOrigin,
  MessageRole,
  TokenUsage,
  ToolCall,
} from "./message.ts";
import { contentIn, toolCallsOf } from "./stored-content.ts";
import { typedContent, type TypedBlock } from "./typed-content.ts";

/**
 * What a row of any writer says, whatever it holds. Each is worked out when it is asked for: a page of a history is mostly
 * asked for a few of these, for which its JSON need not be parsed (brief-row.ts). Nothing throws. A row that
 * is no message at all has role OTHER and no content.
 */
export class ReadMessage implements MessageContent {
  readonly #raw: string;
  #briefed: Brief | null = null;
  #parsed: ParsedRow | null = null;

  constructor(raw: string) {
    this.#raw = raw;
  }

  get role(): MessageRole {
    return this.#brief.role;
  }

  get messageId(): string | null {
    return this.#brief.messageId;
  }

  get text(): string {
    const { writtenText } = this.#brief;
    if (writtenText !== null) {
      return writtenText.includes("\\") ? String(JSON.parse(writtenText)) : writtenText.slice(1, -1);
    }
    const content = this.#data["content"];
    if (typeof content === "string" && content !== "") return content;
    return this.content.map((block) => (block.kind === "text" ? block.text : "")).join("");
  }

  /** The same as JSON. */
  get writtenText(): string {
    return this.#brief.writtenText ?? JSON.stringify(this.text);
  }

  get content(): readonly ContentBlock[] {
    return contentIn(this.#data);
  }

  /** The same as clients are shown it. */
  get blocks(): readonly TypedBlock[] {
    return typedContent(this.#data);
  }

  get toolCalls(): readonly ToolCall[] {
    return toolCallsOf(this.#data);
  }

  get toolCallId(): string | null {
    return this.role === "TOOL" ? stringOrNull(this.#data["tool_call_id"]) : null;
  }

  get toolFailed(): boolean | null {
    return this.role === "TOOL" ? failureOf(this.#data["status"]) : null;
  }

  get name(): string | null {
    return stringOrNull(this.#data["name"]) ?? (this.role === "OTHER" ? stringOrNull(this.#data["role"]) : null);
  }

  get createdAt(): number | null {
    return createdAtOf(this.messageId, this.#brief.metadata);
  }

  get finishReason(): FinishReason | null {
    return this.role === "ASSISTANT" ? finishReasonOf(this.#metadata) : null;
  }

  get usage(): TokenUsage | null {
    return usageOf(this.#data, this.#metadata);
  }

  get origin(): MessageOrigin | null {
    return originOf(this.#brief.metadata["parley"]);
  }

  get #metadata(): JsonObject {
    return objectOrEmpty(this.#data["response_metadata"]);
  }

  get #data(): JsonObject {
    return this.#row.data;
  }

  get #brief(): Brief {
    return (this.#briefed ??= this.#briefOf(this.#parsed === null ? briefRow(this.#raw) : null));
  }

  #briefOf(row: BriefRow | null): Brief {
    if (row !== null) return { ...row, role: roles.get(row.type) ?? "OTHER", messageId: row.id };
    return {
      role: this.#row.role,
      messageId: stringOrNull(this.#data["id"]),
      writtenText: null,
      metadata: this.#metadata,
    };
  }

  get #row(): ParsedRow {
    return (this.#parsed ??= parsedRow(this.#raw));
  }
}

interface Brief extends Pick<BriefRow, "writtenText" | "metadata"> {
  readonly role: MessageRole;
  readonly messageId: string | null;
}

interface ParsedRow {
  readonly role: MessageRole;
  readonly data: JsonObject;
}

const noMessage: ParsedRow = { role: "OTHER", data: {} };

function parsedRow(raw: string): ParsedRow {
  const row = parseJson(raw);
  if (!isObject(row)) return noMessage;
  const { type } = row;
  const data = typeof type === "string" ? dataOf(row) : null;
  return typeof type !== "string" || data === null ? noMessage : { role: roleOf(type, data), data };
}

/** null: no message. Before it had `data`, LangChain stored {"type","text"}, and JS still reads that. */
function dataOf(row: JsonObject): JsonObject | null {
  if (isObject(row["data"])) return row["data"];
  return typeof row["text"] === "string" ? { content: row["text"], role: row["role"], name: row["name"] } : null;
}

const roles = byWord<MessageRole>([
  ["USER", ["human", "HumanMessageChunk"]],
  ["ASSISTANT", ["ai", "AIMessageChunk"]],
  ["SYSTEM", ["system", "SystemMessageChunk", "developer"]],
  ["TOOL", ["tool", "ToolMessageChunk"]],
  ["FUNCTION", ["function", "FunctionMessageChunk"]],
]);
/** The same type is `chat` in Python and `generic` in JS; its role is free text. */
const freeTypes: ReadonlySet<string> = new Set(["chat", "generic", "ChatMessageChunk", "GenericMessageChunk"]);
const freeRoles: ReadonlyMap<unknown, MessageRole> = byWord<MessageRole>([
  ["USER", ["user", "human"]],
  ["ASSISTANT", ["assistant", "ai"]],
  ["SYSTEM", ["system", "developer"]],
]);

function roleOf(type: string, data: JsonObject): MessageRole {
  return (freeTypes.has(type) ? freeRoles.get(data["role"]) : roles.get(type)) ?? "OTHER";
}

function failureOf(status: unknown): boolean | null {
  return status === "error" ? true : status === "success" ? false : null;
}

const finishReasons = byWord<FinishReason>([
  ["STOP", ["stop", "eos", "eos_token", "end_turn", "stop_sequence"]],
  ["LENGTH", ["length", "max_tokens", "model_length", "model_context_window_exceeded"]],
  ["TOOL_CALLS", ["tool_calls", "tool_use", "function_call"]],
  ["CONTENT_FILTER", ["content_filter", "safety", "sensitive", "refusal"]],
  ["CANCELLED", ["cancelled"]],
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

export function isPosition(value: unknown): value is number {
  return Number.isSafeInteger(value) && Number(value) >= 0;
}
