import { createHash } from "node:crypto";
import { badInput } from "./errors.ts";
import { uuidv7 } from "./message/ids.ts";

const maxBytes = 512;
// Control characters of ASCII and Latin-1, and the two line separators: what would break a log line or a protocol.
// eslint-disable-next-line no-control-regex -- these are what is looked for
const control = /[\u0000-\u001f\u007f-\u009f\u2028\u2029]/u;

/** What is wrong with a session id whose history key this is, or null. The gateway's own keys begin with "parley:". */
export function historyKeyProblem(historyKey: string): string | null {
  if (historyKey === "") return "must not be empty";
  if (Buffer.byteLength(historyKey) > maxBytes) return `must have at most ${maxBytes} bytes`;
  if (!historyKey.isWellFormed()) return "must be well-formed Unicode";
  if (control.test(historyKey)) return "must not hold control characters";
  if (historyKey.startsWith("parley:")) return 'must not begin with "parley:"';
  return null;
}

export function checkSessionId(field: string, prefix: string, sessionId: string): void {
  const problem = sessionId === "" ? "must not be empty" : historyKeyProblem(prefix + sessionId);
  if (problem) throw badInput(field, `${field} ${problem}.`);
}

/** With an idempotency key the same each time. */
export function madeUuid(owner: string, what: string, idempotencyKey: string | null, now: number): string {
  if (idempotencyKey === null) return uuidv7(now);
  const hex = createHash("sha256")
    .update(JSON.stringify([owner, what, idempotencyKey]))
    .digest("hex");
  // A UUIDv8 (RFC 9562): bits of the maker's own.
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-8${hex.slice(13, 16)}-8${hex.slice(17, 20)}-${hex.slice(20, 32)}`;
}
