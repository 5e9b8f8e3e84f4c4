import { ParleyError } from "../errors.ts";
import { decodeGlobalId, parseLocalId, sessionTag, splitLocal, type LocalId } from "./ids.ts";

/** A place in a history: at a row (its position and mark), or before the first: position -1, mark "". */
export interface Cursor {
  readonly generation: number;
  readonly position: number;
  readonly mark: string;
}

/**
 * No history has this generation. The start cursor that names it is given to a subscriber that waits for a session: it leads to the
 * beginning of whatever session somebody starts.
 */
export const noGeneration = 0;

/** Where a reader goes on: behind the row of this mark ("" before the first), which is at `position` - 1. */
export interface Kept {
  readonly position: number;
  readonly mark: string;
}

/** A message's place as a caller names it: by its cursor, or by its id. */
export type Anchor = Cursor | LocalId;

/** Of an id: nothing tells where its message lies, or it is no longer there. */
export function unknownMessage(): ParleyError {
  return new ParleyError(
    "CURSOR_EXPIRED",
    "No message of this id was found: it is gone, or older than the newest 2,000 and its place is forgotten. Send the message's cursor.",
  );
}

/** A cursor that was one of this session, and does not hold. */
export class ExpiredCursor extends ParleyError {
  /** Its row was cut for sure: below this all is as its holder had it. null: nothing is known to be. */
  readonly kept: Kept | null;
  /** It must hold: Redis, or foreign code, has lost its row, and the session may not know that yet. */
  readonly lost: boolean;

  constructor(kept: Kept | null = null, lost = false) {
    super(
      "CURSOR_EXPIRED",
      "The history behind this cursor was cleared, rewound or lost. Read the session's messages anew and go on from its cursor.",
    );
    this.kept = kept;
    this.lost = lost;
  }
}

/** Opaque to clients. The leading number is the version of the form. */
export function encodeCursor(historyKey: string, cursor: Cursor): string {
  const { generation, position, mark } = cursor;
  if (historyKey !== head.historyKey || generation !== head.generation) {
    head = { historyKey, generation, text: `1.${sessionTag(historyKey)}.${generation}.` };
  }
  // Digits, dots and letters up to f alone: of these, base64 and base64url differ in the padding only.
  const base64 = btoa(`${head.text}${position}.${mark}`);
  return base64.endsWith("==") ? base64.slice(0, -2) : base64.endsWith("=") ? base64.slice(0, -1) : base64;
}

/** What the newest cursor begins with: all of a page's begin alike. */
let head = { historyKey: "", generation: Number.NaN, text: "" };

/** The longest cursor there can be has 80 characters; what is longer is not even decoded. */
const maxLength = 96;
const pattern = /^1\.[0-9a-f]{8}\.(0|[1-9]\d{0,15})\.(?:(-1)\.|(0|[1-9]\d{0,15})\.([0-9a-f]{16}))$/;

/** null: not a cursor of this session (INVALID_CURSOR). Whether it still holds is found out where the list is read. */
export function parseCursor(historyKey: string, text: string): Cursor | null {
  if (text.length > maxLength) return null;
  const match = pattern.exec(Buffer.from(text, "base64url").toString("latin1"));
  if (match === null) return null;
  const [, generation, start, position, mark = ""] = match;
  const cursor = { generation: Number(generation), position: Number(start ?? position), mark };
  // base64url decodes leniently (padding, stray characters, spare bits): only our own spelling is a cursor, and only
  // that of this session. This also refuses numbers too large to be exact.
  return encodeCursor(historyKey, cursor) === text ? cursor : null;
}

/** The longest Message.id there can be: of a session id of 512 bytes and a message id of 128. */
const maxIdLength = 1024;

/** null: neither a cursor nor a Message.id of this session (INVALID_CURSOR). */
export function parseAnchor(sessionId: string, historyKey: string, text: string): Anchor | null {
  const cursor = parseCursor(historyKey, text);
  if (cursor !== null || text.length > maxIdLength) return cursor;
  const [, rest = ""] = /^Message:(.+)$/s.exec(decodeGlobalId(text) ?? "") ?? [];
  const parts = splitLocal(rest);
  return parts?.sessionId === sessionId ? parseLocalId(parts.local) : null;
}

export function invalidCursor(): ParleyError {
  return new ParleyError(
    "INVALID_CURSOR",
    "This is neither a cursor of this session nor the id of a message of it. Use one that it gave out, unchanged.",
  );
}
