import { decodeGlobalId, encodeGlobalId, joinLocal, splitLocal } from "../../conversation/message/ids.ts";

type NodeId =
  | { readonly type: "Session"; readonly sessionId: string }
  | { readonly type: "Message" | "Run"; readonly sessionId: string; readonly local: string };

/** Global ids are base64("Type:local") of UTF-8, so that a client can compute the id of a message it named itself. */
export function sessionGlobalId(sessionId: string): string {
  return encodeGlobalId(`Session:${sessionId}`);
}

/** `local` as in LocalId of ids.ts: ASCII. */
export function messageGlobalId(sessionId: string, local: string): string {
  if (sessionId !== newest.sessionId) newest = { sessionId, isAscii: isAscii(sessionId) };
  const text = `Message:${joinLocal(sessionId, local)}`;
  return newest.isAscii ? btoa(text) : encodeGlobalId(text);
}

/** The session of the newest message id: all of a page's are of one. */
let newest = { sessionId: "", isAscii: true };

export function runGlobalId(sessionId: string, runId: string): string {
  return encodeGlobalId(`Run:${joinLocal(sessionId, runId)}`);
}

/** null: not an id that this gateway gives out. */
export function parseGlobalId(id: string): NodeId | null {
  const [, type, rest = ""] = /^(Session|Message|Run):(.+)$/s.exec(decodeGlobalId(id) ?? "") ?? [];
  if (type === "Session") return { type, sessionId: rest };
  if (type !== "Message" && type !== "Run") return null;
  const parts = splitLocal(rest);
  return parts === null || parts.sessionId === "" ? null : { type, ...parts };
}

function isAscii(text: string): boolean {
  return Buffer.byteLength(text) === text.length;
}
