import { joinLocal, splitLocal } from "../conversation/ids.ts";

export type NodeId =
  | { readonly type: "Session"; readonly sessionId: string }
  | { readonly type: "Message" | "Run"; readonly sessionId: string; readonly local: string };

/** Global ids are base64("Type:local") of UTF-8, so that a client can compute the id of a message it named itself. */
export function sessionGlobalId(sessionId: string): string {
  return encode(`Session:${sessionId}`);
}

/** `local` as in LocalId of ids.ts: ASCII. */
export function messageGlobalId(sessionId: string, local: string): string {
  if (sessionId !== newest.sessionId) newest = { sessionId, isAscii: isAscii(sessionId) };
  const text = `Message:${joinLocal(sessionId, local)}`;
  return newest.isAscii ? btoa(text) : encode(text);
}

/** The session of the newest message id: all of a page's are of one. */
let newest = { sessionId: "", isAscii: true };

export function runGlobalId(sessionId: string, runId: string): string {
  return encode(`Run:${joinLocal(sessionId, runId)}`);
}

/** null: not an id that this gateway gives out. */
export function parseGlobalId(id: string): NodeId | null {
  const text = Buffer.from(id, "base64").toString("utf8");
  // Buffer decodes leniently: only our own spelling is an id, else one node would have many.
  if (encode(text) !== id) return null;
  const [, type, rest = ""] = /^(Session|Message|Run):(.+)$/s.exec(text) ?? [];
  if (type === "Session") return { type, sessionId: rest };
  if (type !== "Message" && type !== "Run") return null;
  const parts = splitLocal(rest);
  return parts === null || parts.sessionId === "" ? null : { type, ...parts };
}

function encode(text: string): string {
  // What is ASCII is the same in UTF-8, and btoa() takes a third of the time.
  return isAscii(text) ? btoa(text) : Buffer.from(text, "utf8").toString("base64");
}

function isAscii(text: string): boolean {
  return Buffer.byteLength(text) === text.length;
}
