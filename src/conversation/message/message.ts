/** What a stored message says, by the gateway or by any other writer. Decoding is in stored-message.ts, and never throws. */

export type MessageRole = "USER" | "ASSISTANT" | "SYSTEM" | "TOOL" | "FUNCTION" | "OTHER";
export type FinishReason = "STOP" | "LENGTH" | "TOOL_CALLS" | "CONTENT_FILTER" | "CANCELLED" | "OTHER";

export type ContentBlock =
  | { readonly kind: "text"; readonly text: string }
  | { readonly kind: "image"; readonly url: string; readonly detail: string | null }
  /** LangChain's block as it is: `data` holds the whole block, `type` its type. */
  | { readonly kind: "other"; readonly type: string; readonly data: unknown };

export interface ToolCall {
  readonly callId: string | null;
  readonly name: string;
  readonly args: unknown;
}

export interface TokenUsage {
  readonly inputTokens: number;
  readonly outputTokens: number;
  readonly totalTokens: number;
}

export interface MessageContent {
  /** LangChain's data.id. */
  readonly messageId: string | null;
  readonly role: MessageRole;
  /** All text blocks joined. */
  readonly text: string;
  readonly content: readonly ContentBlock[];
  readonly toolCalls: readonly ToolCall[];
  readonly toolCallId: string | null;
  readonly toolFailed: boolean | null;
  readonly name: string | null;
  /** Milliseconds since the epoch. */
  readonly createdAt: number | null;
  readonly finishReason: FinishReason | null;
  readonly usage: TokenUsage | null;
  /** What the gateway noted in the row about itself; null in foreign rows. */
  readonly origin: MessageOrigin | null;
}

/**
 * The gateway's own note in a row, at data.response_metadata.parley (LangChain keeps unknown metadata). It is trusted
 * only where `session` and `position` fit the place the row lies at: foreign code may copy rows.
 */
export interface MessageOrigin {
  /** sessionTag() of the history key it was written for. */
  readonly session: string;
  readonly position: number;
  /** The run that wrote it or that it started. */
  readonly runId: string | null;
  /** The position expected when the id was given out; part of the id of messages the gateway named. Null: the caller chose the id. */
  readonly hint: number | null;
}

/** One element of the list and its place. `mark` is a 64-bit hash of `raw` (16 hex digits of its SHA-1). */
export interface Row {
  readonly position: number;
  readonly mark: string;
  readonly raw: string;
}

/** What a caller hands in to be stored (addMessages, sendMessage). */
export interface NewMessage {
  readonly role: "USER" | "ASSISTANT" | "SYSTEM" | "TOOL";
  readonly content: readonly ContentBlock[];
  readonly name: string | null;
  /** The caller's own id; null: the gateway makes a UUIDv7. */
  readonly messageId: string | null;
  readonly toolCallId: string | null;
  readonly toolFailed: boolean | null;
  readonly toolCalls: readonly ToolCall[];
  /** Of a USER message: what the page knows besides. It is for the model that answers the message, and no part of the conversation. */
  readonly context?: readonly ContextEntry[];
}

export interface ContextEntry {
  readonly description: string;
  readonly value: string;
}
