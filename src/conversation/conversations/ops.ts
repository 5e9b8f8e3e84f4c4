import { hash, randomUUID } from "node:crypto";
import type { Op } from "../ports/store.ts";

/** The op of a call: by the caller's key, else one that only guards against a command sent twice. */
export function keyedOp(what: string, idempotencyKey: string | null, content: unknown): Op {
  const fingerprint = hash("sha256", JSON.stringify(content)).slice(0, 32);
  return { id: idempotencyKey === null ? `i:${randomUUID()}` : `k:${what}:${idempotencyKey}`, fingerprint };
}
