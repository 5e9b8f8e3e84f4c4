import type { Row } from "../../conversation/message/message.ts";
import type { Client } from "../client/connection.ts";
import { guarded } from "../client/failure.ts";

/**
 * A row's very bytes: what was no UTF-8 has become replacement characters on its way, and is read again. `base`: of the
 * reading that showed the row. null: it no longer lies there.
 */
export async function exactRow(redis: Client, historyKey: string, base: number, row: Row): Promise<Buffer | null> {
  if (!row.raw.includes("\ufffd")) return Buffer.from(row.raw, "utf8");
  const bytes = await guarded(redis.lindexBuffer(historyKey, -(row.position - base + 1)));
  return bytes?.toString("utf8") === row.raw ? bytes : null;
}
