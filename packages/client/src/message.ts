import type { BlockRow, MessageRow, PartRow, RunRow } from "./documents.ts";
import type { Approval, RunError } from "./run.ts";

export type Role = "USER" | "ASSISTANT" | "SYSTEM" | "TOOL" | "FUNCTION" | "OTHER";

/** A part of a message's content. */
export type Block =
  | { readonly type: "text"; readonly text: string; readonly citations?: readonly Citation[] }
  | { readonly type: "image"; readonly url: string; readonly detail: string | null }
  /** What the model thought on the way to its reply. */
  | { readonly type: "reasoning"; readonly text: string }
  | { readonly type: "file"; readonly url: string; readonly mimeType: string | null; readonly fileName: string | null }
  | { readonly type: "audio"; readonly url: string; readonly mimeType: string | null }
  /** A tool that the model's provider has called by itself. */
  | {
      readonly type: "server-tool";
      readonly callId: string;
      readonly name: string;
      readonly args: unknown;
      readonly result: unknown;
    }
  /** Any other block of LangChain's as it is. */
  | { readonly type: "other"; readonly data: Readonly<Record<string, unknown>> };

/** Where a passage of a text comes from. `start` and `end`: of the passage in its block, as the provider counts. */
export interface Citation {
  readonly url: string | null;
  readonly title: string | null;
  readonly quote: string | null;
  readonly start: number | null;
  readonly end: number | null;
}

/** A block that a user's message may hold. */
export type SentBlock = Exclude<Block, { readonly type: "reasoning" | "server-tool" }>;

/** What can be sent. */
export type Content = string | readonly SentBlock[];

/** As of the gateway's ToolPart.status. A gateway of a later version may have more of them. */
export type ToolStatus =
  | "WRITING"
  | "NEEDS_APPROVAL"
  | "NEEDS_RESULT"
  | "RUNNING"
  | "DONE"
  | "FAILED"
  | "REJECTED"
  | "CANCELLED"
  | (string & {});

/** A call of a tool by the model. */
export interface ToolCall {
  readonly callId: string | null;
  readonly name: string;
  /** null while the model writes them. */
  readonly args: unknown;
  /** As JSON; a piece of it while the model writes them. */
  readonly argsText: string;
  /** null: it lies in the history without an answer. What was rejected is FAILED once it lies there. */
  readonly status: ToolStatus | null;
  /** What `respond` may decide on it now: APPROVE, EDIT, REJECT; of a page's tool BEGIN or RESULT, which `runTool` does. */
  readonly allowed: readonly string[];
  /** Text of what it has answered, also where it failed; null until then. */
  readonly result: string | null;
}

/** What a tool tells while it works, such as how far it is. */
export interface ToolData {
  readonly callId: string;
  /** The tool's own name for it. */
  readonly name: string;
  readonly data: unknown;
}

/** A message as a screen shows it. The object stays the same one for as long as nothing of it changes. */
export interface ChatMessage {
  /** The same from the optimistic message, or the first streamed character, to the stored one: a key for lists. */
  readonly id: string;
  readonly messageId: string | null;
  readonly role: Role;
  /**
   * sending: not acknowledged yet · queued: waits for its turn · stored · streaming: the reply being made · failed: it could
   * not be sent, or it is a reply that failed, with its text as far as it came; see `error`.
   */
  readonly status: "sending" | "queued" | "stored" | "streaming" | "failed";
  readonly content: readonly Block[];
  readonly text: string;
  readonly name: string | null;
  readonly createdAt: string | null;
  readonly finishReason: MessageRow["finishReason"];
  readonly toolCalls: readonly ToolCall[];
  /** What its tools tell, in order, while the run goes on: the history does not hold it. */
  readonly data: readonly ToolData[];
  readonly toolCallId: string | null;
  readonly toolFailed: boolean | null;
  /** Of what is stored; null until then. */
  readonly position: number | null;
  readonly error: RunError | null;
}

/** One that lies in the history, with what the client needs to speak of it. */
export interface StoredMessage extends ChatMessage {
  readonly position: number;
  readonly cursor: string;
}

const blank = {
  ...{ messageId: null, name: null, createdAt: null, finishReason: null, toolCalls: [], toolCallId: null },
  ...{ data: [], toolFailed: null, position: null, error: null },
} as const;

export function storedMessage({ content: rows, toolCalls, ...row }: MessageRow): StoredMessage {
  const content = blocksOf(rows);
  return {
    ...{ ...row, content, text: textOf(content), toolCalls: toolCalls.map((call) => callOf(call)) },
    ...{ data: [], status: "stored", error: null },
  };
}

const answered = new WeakMap<ChatMessage, { readonly by: readonly unknown[]; readonly message: StoredMessage }>();

/** Stored messages, each call of a tool with its answer, the message behind it or until that is there a part of the run, and with what it tells. */
export function withAnswers(stored: readonly StoredMessage[], run: RunRow | null): readonly StoredMessage[] {
  return stored.map((message, at) => {
    const { toolCalls } = message;
    if (toolCalls.length === 0) return message;
    // Ids of calls are those of their message: some models begin anew with each.
    let end = at + 1;
    while (stored[end]?.role === "TOOL") end++;
    const answers = stored.slice(at + 1, end);
    const by = toolCalls.map(
      ({ callId }) =>
        answers.find(({ toolCallId }) => toolCallId === callId) ??
        run?.parts.find((part) => part.messageId === message.id && part.callId === callId && !isData(part)),
    );
    const data = dataOf(run, message.id);
    const rows = [...by, ...data];
    const before = answered.get(message);
    if (before?.by.length === rows.length && before.by.every((one, index) => one === rows[index]))
      return before.message;
    const one = { ...message, data, toolCalls: toolCalls.map((call, index) => callOf(call, by[index])) };
    answered.set(message, { by: rows, message: one });
    return one;
  });
}

function callOf({ callId, name, args }: MessageRow["toolCalls"][number], by?: ChatMessage | PartRow): ToolCall {
  const call = { callId, name, args, argsText: JSON.stringify(args), allowed: [] };
  if (by === undefined) return { ...call, status: null, result: null };
  if ("__typename" in by) return { ...call, status: by.status ?? null, result: resultOf(by) };
  return { ...call, status: by.toolFailed === true ? "FAILED" : "DONE", result: by.text };
}

function resultOf({ status, result = [] }: PartRow): string | null {
  return status === "DONE" || status === "FAILED" || status === "REJECTED"
    ? result.map(({ text = "" }) => text).join("")
    : null;
}

function isData({ __typename }: PartRow): boolean {
  return __typename === "DataPart";
}

const dataOfPart = oncePerRow(({ callId = "", name = "", data }: PartRow): ToolData => ({ callId, name, data }));

function dataOf(run: RunRow | null, id: string): readonly ToolData[] {
  return run?.parts.filter((part) => isData(part) && part.messageId === id).map(dataOfPart) ?? [];
}

function callsOf({ parts }: RunRow, id: string, approvals: readonly Approval[]): readonly ToolCall[] {
  const calls = parts.flatMap((part): readonly ToolCall[] => {
    const { messageId, callId, name = "", args = null, text = "", status = null, allowed = [] } = part;
    if (messageId !== id || callId === undefined || isData(part)) return [];
    const argsText = args === null ? text : JSON.stringify(args);
    return [{ callId, name, args, argsText, status, allowed, result: resultOf(part) }];
  });
  // The parts of a run are kept up to a size; what is to be decided is told in any case.
  const others = approvals.filter(({ callId }) => !parts.some((part) => part.callId === callId));
  return [...calls, ...others.map((one) => ({ ...one, result: null, argsText: JSON.stringify(one.args) }))];
}

/** The user's message, from the moment in which it is sent. */
export function sentMessage(sessionId: string, messageId: string, content: readonly Block[]): ChatMessage {
  return {
    ...blank,
    ...{ id: idOf(sessionId, messageId), messageId, role: "USER", status: "sending" },
    ...{ content, text: textOf(content), createdAt: new Date().toISOString() },
  };
}

/** What a run brings of the message that it answers, which is not in the history yet. Made once a row: it stays the same object. */
export const inputMessage = oncePerRow((run: RunRow): ChatMessage => {
  const content = blocksOf(run.input);
  const status = run.status === "QUEUED" ? "queued" : "sending";
  return {
    ...blank,
    ...{ id: run.userMessageId ?? run.id, role: "USER", status, content, text: textOf(content) },
    createdAt: run.queuedAt,
  };
});

/**
 * What a run that goes on, or has failed, makes: its reply; of an agent all of its messages, of which those whose calls are
 * answered are stored. What goes wrong is told by the last one.
 */
export const replyMessages = oncePerRow((run: RunRow): readonly ChatMessage[] => {
  const { replyId, parts, error, approvals } = run;
  const ids = new Set(parts.flatMap(({ messageId = [] }) => messageId));
  if (parts.length === 0 || error !== null) ids.add(replyId);
  const status = error === null ? "streaming" : "failed";
  // One whose calls are at work, and the next one: what is before them is stored, though it may not be loaded.
  const newest = [...ids].slice(-2);
  return newest.map((id, at) => {
    const content = partsOf(run, id);
    const isLast = at === newest.length - 1;
    return {
      ...{ ...blank, id, role: "ASSISTANT", status, content, text: textOf(content), error: isLast ? error : null },
      toolCalls: callsOf(run, id, isLast ? approvals : []),
      data: dataOf(run, id),
    };
  });
});

function oncePerRow<Row extends object, T>(make: (row: Row) => T): (row: Row) => T {
  const made = new WeakMap<Row, T>();
  return (row) => {
    const one = made.get(row) ?? make(row);
    made.set(row, one);
    return one;
  };
}

/** The Message.id that a message will have whose messageId the client chose. btoa alone takes Latin-1 only. */
function idOf(sessionId: string, messageId: string): string {
  return btoa(String.fromCharCode(...new TextEncoder().encode(`Message:${sessionId}:${messageId}`)));
}

/** The text and the reasoning of a message that a run makes. */
function partsOf({ parts }: RunRow, id: string): readonly Block[] {
  return parts.flatMap(({ __typename, messageId, text = "" }): readonly Block[] => {
    if (messageId !== id || text === "" || __typename === "ToolPart") return [];
    return [{ type: __typename === "ReasoningPart" ? "reasoning" : "text", text }];
  });
}

const blockTypes: Readonly<Record<string, Block["type"]>> = {
  ...{ TextBlock: "text", ImageBlock: "image", ReasoningBlock: "reasoning", FileBlock: "file" },
  ...{ AudioBlock: "audio", ServerToolBlock: "server-tool", OtherBlock: "other" },
};

/** A kind of block that this version does not know is left out. */
function blocksOf(rows: readonly BlockRow[]): readonly Block[] {
  return rows.flatMap(({ __typename, ...row }) => {
    const type = blockTypes[__typename];
    // The document selects all fields of each type.
    return type === undefined ? [] : [{ type, ...row } as Block];
  });
}

export function contentOf(content: Content): readonly SentBlock[] {
  return typeof content === "string" ? [{ type: "text", text: content }] : content;
}

function textOf(blocks: readonly Block[]): string {
  return blocks.map((block) => (block.type === "text" ? block.text : "")).join("");
}

/** A block as ContentBlockInput. */
export function inputOf(block: SentBlock): object {
  if (block.type === "text") return { text: block.text };
  if (block.type === "other") return { other: block.data };
  if (block.type === "image") {
    return { image: { url: block.url, ...(block.detail === null ? {} : { detail: block.detail }) } };
  }
  const [, inlineType, data] = /^data:([^;,]*)[^,]*;base64,(.*)$/s.exec(block.url) ?? [];
  const filename = block.type === "file" ? block.fileName : null;
  return {
    // In LangChain's own form of such a block.
    other: {
      ...{ type: block.type, mimeType: block.mimeType ?? inlineType },
      ...(data === undefined ? { url: block.url } : { data }),
      ...(filename === null ? {} : { metadata: { filename } }),
    },
  };
}
