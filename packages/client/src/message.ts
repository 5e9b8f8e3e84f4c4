import type { BlockRow, MessageRow, RunRow } from "./documents.ts";
import type { RunError } from "./run.ts";

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
  readonly toolCalls: MessageRow["toolCalls"];
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
  ...{ toolFailed: null, position: null, error: null },
} as const;

export function storedMessage({ content: rows, ...row }: MessageRow): StoredMessage {
  const content = blocksOf(rows);
  return { ...row, content, text: textOf(content), status: "stored", error: null };
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

/** The reply of a run that goes on, or that has failed. */
export const replyMessage = oncePerRow((run: RunRow): ChatMessage => {
  const { replyId: id, text, error } = run;
  const content = partsOf(run);
  return { ...blank, id, role: "ASSISTANT", status: error === null ? "streaming" : "failed", content, text, error };
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

/** The text and the reasoning of the message that a run is making. */
function partsOf({ replyId, text, parts }: RunRow): readonly Block[] {
  const mine = parts.filter(({ messageId }) => messageId === replyId);
  const texts = mine.filter(({ start }) => start !== undefined);
  // A text ends where the next one begins: between them the model has thought.
  return mine.flatMap((part): readonly Block[] => {
    if (part.__typename === "ReasoningPart") return [{ type: "reasoning", text: part.text ?? "" }];
    const piece = text.slice(part.start, texts[texts.indexOf(part) + 1]?.start);
    return part.start === undefined || piece === "" ? [] : [{ type: "text", text: piece }];
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
