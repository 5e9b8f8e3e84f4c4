import { encodeCursor } from "../../conversation/message/cursor.ts";
import type { PlacedMessage } from "../../conversation/events.ts";
import { localMessageId, ownNote } from "../../conversation/message/ids.ts";
import { parseJson } from "../../conversation/message/json.ts";
import { ReadMessage } from "../../conversation/message/read-message.ts";
import { messageGlobalId } from "./global-ids.ts";
import type { Readings } from "./readings.ts";

function cursorOf({ historyKey, generation, row }: PlacedMessage): string {
  return encodeCursor(historyKey, { generation, position: row.position, mark: row.mark });
}

/**
 * What the type Message is resolved from: a row where it lies. Its fields are properties, so that whoever executes an
 * operation reads them without calling a resolver; each is worked out when it is asked for. None throws.
 */
export class MessageParent extends ReadMessage {
  readonly __typename = "Message";
  readonly placed: PlacedMessage;
  readonly readings: Readings;

  constructor(placed: PlacedMessage, readings: Readings) {
    super(placed.row.raw);
    this.placed = placed;
    this.readings = readings;
  }

  get id(): string {
    const { sessionId, historyKey, row } = this.placed;
    return messageGlobalId(sessionId, localMessageId(historyKey, row, this));
  }

  get writtenId(): string {
    return `"${this.id}"`;
  }

  get position(): number {
    return this.placed.row.position;
  }

  get cursor(): string {
    return cursorOf(this.placed);
  }

  get writtenCursor(): string {
    return `"${this.cursor}"`;
  }

  /** null also where the note was copied here with its row: it speaks of another place (as localMessageId has it). */
  get runId(): string | null {
    return ownNote(this.placed.historyKey, this.placed.row, this)?.runId ?? null;
  }

  get stored(): unknown {
    const value = parseJson(this.storedText);
    // JSON! has no null, and an answer's JSON has no infinity (a row of 1e999): of these the text is given.
    return value === null || value === undefined || value === Infinity || value === -Infinity ? this.storedText : value;
  }

  get storedText(): string {
    return this.placed.row.raw;
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
