import { hash, randomFillSync, randomUUID } from "node:crypto";
import type { MessageContent, MessageOrigin, Row } from "./message.ts";
import type { JsonObject } from "./json.ts";

/** `asked` is the caller's clock at the last id, `used` the time in that id: ahead of it when a millisecond's counter ran over. */
let last = { asked: -1, used: -1, counter: 0 };

const counterLimit = 0x1000;
const timeLimit = 2 ** 48;

/** Drawn many at a time: each call for random bytes costs more than the rest of an id. */
const pool = Buffer.alloc(4096);
let drawn = pool.length;

function pooledBytes(n: number): Uint8Array {
  if (drawn + n > pool.length) {
    randomFillSync(pool);
    drawn = 0;
  }
  drawn += n;
  return pool.subarray(drawn - n, drawn);
}

/**
 * A UUIDv4 in one piece: crypto's randomUUID() gives V8 a rope of twenty, all of which stay in memory with the id, as a
 * socket keeps it for its log lines.
 */
export function flatUuid(): string {
  return Buffer.from(randomUUID(), "latin1").toString("latin1");
}

/**
 * A UUIDv7 of `nowMs` (milliseconds since the epoch). Ids of one process and one millisecond ascend: rand_a is a counter
 * with a random start (RFC 9562, section 6.2, method 1). When it runs over, the id takes the next millisecond.
 */
export function uuidv7(nowMs: number, random: (n: number) => Uint8Array = pooledBytes): string {
  const now = Math.min(Math.max(Math.floor(nowMs), 0), timeLimit - 1);
  const noise = Buffer.from(random(10));
  let { used, counter } = last;
  if (now >= last.asked && now <= last.used) {
    counter += 1;
    if (counter === counterLimit) {
      used += 1;
      counter = 0;
    }
  } else {
    used = now;
    // Half of the counter is left free, so that a burst seldom runs into the next millisecond.
    counter = noise.readUInt16BE(0) & 0x7ff;
  }
  last = { asked: now, used, counter };

  const bytes = Buffer.alloc(16);
  bytes.writeUIntBE(used % timeLimit, 0, 6);
  bytes.writeUInt16BE(0x7000 | counter, 6);
  noise.copy(bytes, 8, 2, 10);
  bytes.writeUInt8((bytes.readUInt8(8) & 0x3f) | 0x80, 8);
  const hex = bytes.toString("hex");
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-${hex.slice(12, 16)}-${hex.slice(16, 20)}-${hex.slice(20)}`;
}

const uuidv7Pattern = /^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/i;

/** Milliseconds since the epoch; null where `id` is no UUIDv7. */
export function timeOfUuidv7(id: string): number | null {
  return uuidv7Pattern.test(id) ? Number.parseInt(id.slice(0, 8) + id.slice(9, 13), 16) : null;
}

/** The last millisecond of the year 9999: beyond it, ISO 8601 needs a sign that clients don't expect. */
const maxTime = 253_402_300_799_999;

const isoPattern = /^(\d{4}-\d\d-\d\d)[T ](\d\d:\d\d(?::\d\d(?:\.\d+)?)?)(Z|[+-]\d\d:\d\d)?$/;

/** When a message was made: as its metadata says, else as its id does. Milliseconds since the epoch. */
export function createdAtOf(messageId: string | null, metadata: JsonObject): number | null {
  const stored = shownTime(timeOf(metadata["created_at"]));
  return stored ?? (messageId === null ? null : shownTime(timeOfUuidv7(messageId)));
}

function shownTime(time: number | null): number | null {
  return time !== null && time >= 0 && time <= maxTime ? time : null;
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

/** What Row.mark holds, of a row as it is decoded; in Lua: mark() of lib/base.lua. */
export function markOf(raw: string): string {
  return hash("sha1", raw).slice(0, 16);
}

/** What a row's note and a cursor know their session by. It tells copies apart and guards nothing. */
export function sessionTag(historyKey: string): string {
  let tag = tags.get(historyKey);
  if (tag === undefined) {
    if (tags.size === mostTags) tags.clear();
    tag = hash("sha1", historyKey).slice(0, 8);
    tags.set(historyKey, tag);
  }
  return tag;
}

/** All rows and cursors of a session ask for its tag, page by page and event by event. */
const tags = new Map<string, string>();
const mostTags = 4096;

const messageIdPattern = /^[A-Za-z0-9._-]{1,128}$/;

/** Whether a caller may choose `text` as a messageId. */
export function isMessageId(text: string): boolean {
  return messageIdPattern.test(text);
}

/**
 * The local part of a Message.id, i.e. what follows "<sessionId>:". It never holds a colon.
 *
 *     <messageId>                      chosen: the caller gave the id and can compute Message.id beforehand
 *     ~<hint base36>~<messageId>       named: the gateway made the id; hint is the position it expected then
 *     ~@<position base36>~<mark>       place: foreign rows, and copies whose note does not fit where they lie
 */
export type LocalId =
  | { readonly kind: "chosen"; readonly messageId: string }
  | { readonly kind: "named"; readonly hint: number; readonly messageId: string }
  | { readonly kind: "place"; readonly position: number; readonly mark: string };

export function namedLocalId(hint: number, messageId: string): string {
  return `~${hint.toString(36)}~${messageId}`;
}

export function placeLocalId(position: number, mark: string): string {
  return `~@${position.toString(36)}~${mark}`;
}

const localIdPattern = /^~(@?)(0|[1-9a-z][0-9a-z]{0,10})~(.+)$/;
const markPattern = /^[0-9a-f]{16}$/;

/** null: none of the three forms, or not written the one way that it can be written. */
export function parseLocalId(local: string): LocalId | null {
  if (isMessageId(local)) return { kind: "chosen", messageId: local };
  const [, at, digits = "", rest = ""] = localIdPattern.exec(local) ?? [];
  if (at === undefined) return null;
  const position = Number.parseInt(digits, 36);
  if (!Number.isSafeInteger(position)) return null;
  if (at === "@") return markPattern.test(rest) ? { kind: "place", position, mark: rest } : null;
  return isMessageId(rest) ? { kind: "named", hint: position, messageId: rest } : null;
}

/** The gateway's own note in a row; null where there is none, or the row is a copy: it counts only where it was written. */
export function ownNote(historyKey: string, row: Row, { origin }: MessageContent): MessageOrigin | null {
  return origin !== null && origin.session === sessionTag(historyKey) && origin.position === row.position
    ? origin
    : null;
}

/** The local part of a stored message's id. */
export function localMessageId(historyKey: string, row: Row, content: MessageContent): string {
  const { messageId } = content;
  const note = ownNote(historyKey, row, content);
  if (note === null || messageId === null || !isMessageId(messageId)) return placeLocalId(row.position, row.mark);
  return note.hint === null ? messageId : namedLocalId(note.hint, messageId);
}

/** An id within a session, for what global ids carry. */
export function joinLocal(sessionId: string, local: string): string {
  return `${sessionId}:${local}`;
}

/** Global ids are base64 of UTF-8. What is ASCII is the same in UTF-8, and btoa() takes a third of the time. */
export function encodeGlobalId(text: string): string {
  return Buffer.byteLength(text) === text.length ? btoa(text) : Buffer.from(text, "utf8").toString("base64");
}

/** null: Buffer decodes leniently, but only our own spelling is an id, else one node would have many. */
export function decodeGlobalId(id: string): string | null {
  const text = Buffer.from(id, "base64").toString("utf8");
  return encodeGlobalId(text) === id ? text : null;
}

/** Splits at the last colon: a sessionId may hold colons, a local part never does. null: no colon, or nothing behind it. */
export function splitLocal(text: string): { readonly sessionId: string; readonly local: string } | null {
  const colon = text.lastIndexOf(":");
  if (colon < 0 || colon === text.length - 1) return null;
  return { sessionId: text.slice(0, colon), local: text.slice(colon + 1) };
}
