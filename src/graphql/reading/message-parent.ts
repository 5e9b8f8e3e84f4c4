import { encodeCursor } from "../../conversation/message/cursor.ts";
import type { PlacedMessage } from "../../conversation/events.ts";
import { localMessageId, ownNote } from "../../conversation/message/ids.ts";
import { parseJson } from "../../conversation/message/json.ts";
import type {
  ContentBlock,
  FinishReason,
  MessageRole,
  TokenUsage,
  ToolCall,
} from "../../conversation/message/message.ts";
import { ReadMessage } from "../../conversation/message/read-message.ts";
import { messageGlobalId } from "./global-ids.ts";
import type { Readings } from "./readings.ts";

export function cursorOf({ historyKey, generation, row }: PlacedMessage): string {
  return encodeCursor(historyKey, { generation, position: row.position, mark: row.mark });
}

/**
 * What the type Message is resolved from: a row where it lies. Its fields are properties here, so that whoever executes
 * an operation reads them without calling a resolver; each is worked out when it is asked for, and the row is parsed when
 * the first asks that needs it. None throws.
 */
export class MessageParent {
  readonly __typename = "Message";
  readonly placed: PlacedMessage;
  readonly readings: Readings;
  #read: ReadMessage | null = null;

  constructor(placed: PlacedMessage, readings: Readings) {
    this.placed = placed;
    this.readings = readings;
  }

  get id(): string {
    const { sessionId, historyKey, row } = this.placed;
    return messageGlobalId(sessionId, localMessageId(historyKey, row, this.#message));
  }

  get messageId(): string | null {
    return this.#message.messageId;
  }

  get position(): number {
    return this.placed.row.position;
  }

  get cursor(): string {
    return cursorOf(this.placed);
  }

  /** null also where the note was copied here with its row: it speaks of another place (as localMessageId has it). */
  get runId(): string | null {
    return ownNote(this.placed.historyKey, this.placed.row, this.#message)?.runId ?? null;
  }

  get role(): MessageRole {
    return this.#message.role;
  }

  get text(): string {
    return this.#message.text;
  }

  get content(): readonly ContentBlock[] {
    return this.#message.content;
  }

  get toolCalls(): readonly ToolCall[] {
    return this.#message.toolCalls;
  }

  get toolCallId(): string | null {
    return this.#message.toolCallId;
  }

  get toolFailed(): boolean | null {
    return this.#message.toolFailed;
  }

  get name(): string | null {
    return this.#message.name;
  }

  get createdAt(): number | null {
    return this.#message.createdAt;
  }

  get finishReason(): FinishReason | null {
    return this.#message.finishReason;
  }

  get usage(): TokenUsage | null {
    return this.#message.usage;
  }

  get stored(): unknown {
    const value = parseJson(this.storedText);
    // JSON! has no null, and an answer's JSON has no infinity (a row of 1e999): of these the text is given.
    return value === null || value === undefined || value === Infinity || value === -Infinity ? this.storedText : value;
  }

  get storedText(): string {
    return this.placed.row.raw;
  }

  get #message(): ReadMessage {
    return (this.#read ??= new ReadMessage(this.placed.row.raw));
  }
}

/** Its cursor is worked out when it is asked for: the mark in it is a hash of the row. */
export class MessageEdge {
  readonly node: MessageParent;

  constructor(node: MessageParent) {
    this.node = node;
  }

  get cursor(): string {
    return this.node.cursor;
  }
}
