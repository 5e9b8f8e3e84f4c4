import type { Redis } from "ioredis";
import { timeOfUuidv7 } from "../../src/conversation/message/ids.ts";

/** What the baselines' schemas show of a message: what the benchmarks' queries select. */
export interface BaselineMessage {
  readonly id: string;
  readonly position: number;
  readonly role: "USER" | "ASSISTANT" | "OTHER";
  readonly text: string;
  readonly createdAt: string | null;
  readonly cursor: string;
}

export const viewer = "anonymous";

/** null: there is no such session, or it is another's. */
export async function readPage(redis: Redis, sessionId: string, last: number): Promise<BaselinePage | null> {
  const answers = await redis
    .pipeline()
    .get(`owner:${sessionId}`)
    .llen(sessionId)
    .lrange(sessionId, 0, last - 1)
    .exec();
  const [[, owner] = [], [, length] = [], [, rows] = []] = answers ?? [];
  if (owner !== viewer) return null;
  const total = length as number; // Safe: LLEN's answer.
  const newestFirst = rows as readonly string[]; // Safe: LRANGE's answer.
  const start = total - newestFirst.length;
  const messages = newestFirst.toReversed().map((row, i) => messageOf(sessionId, start + i, row));
  return { messages, hasPreviousPage: start > 0 };
}

export interface BaselinePage {
  /** Oldest first. */
  readonly messages: readonly BaselineMessage[];
  readonly hasPreviousPage: boolean;
}

export function cursorAt(position: number): string {
  return Buffer.from(String(position)).toString("base64url");
}

function messageOf(sessionId: string, position: number, row: string): BaselineMessage {
  // Safe: the benchmark wrote the rows itself.
  const { type, data } = JSON.parse(row) as { type: string; data: { content: string; id: string } };
  const time = timeOfUuidv7(data.id);
  return {
    id: Buffer.from(`Message:${sessionId}:${data.id}`).toString("base64"),
    position,
    role: type === "human" ? "USER" : type === "ai" ? "ASSISTANT" : "OTHER",
    text: data.content,
    createdAt: time === null ? null : new Date(time).toISOString(),
    cursor: cursorAt(position),
  };
}
