import { Redis } from "ioredis";
import { anonymous } from "../src/conversation/session.ts";
import type { NewMessage } from "../src/conversation/message/message.ts";
import { createGateway } from "../src/gateway.ts";

export function newMessage(text: string, role: NewMessage["role"] = "USER"): NewMessage {
  return {
    role,
    content: [{ kind: "text", text }],
    name: null,
    messageId: null,
    toolCallId: null,
    toolFailed: null,
    toolCalls: [],
  };
}

/** 200 characters, all of which a JSON string has to be looked through for: quotes, a line break and é among them. */
export function sentence(sessionId: string, i: number): string {
  return `${sessionId}, message ${i}: "quoted"\nand a café; ${"so it goes on and on, ".repeat(9)}`.slice(0, 200);
}

export const roleOf = (i: number) => (i % 2 === 0 ? "USER" : "ASSISTANT");

/** Sessions as the gateway writes them, which the baselines read too; each has the owner that they check. */
export async function fillSessions(redisUrl: string, sessionIds: readonly string[], messages: number): Promise<void> {
  const gateway = await createGateway({ redis: redisUrl, idle: true });
  const redis = new Redis(redisUrl);
  for (const sessionId of sessionIds) {
    for (let from = 0; from < messages; from += 1000) {
      const few = Array.from({ length: Math.min(1000, messages - from) }, (_, k) =>
        newMessage(sentence(sessionId, from + k), roleOf(from + k)),
      );
      const input = { sessionId, messages: few, idempotencyKey: null };
      await gateway.conversations.addMessages(anonymous, input, { pages: [] });
    }
    await redis.set(`owner:${sessionId}`, "anonymous");
  }
  redis.disconnect();
  await gateway.close({ graceMs: 0 });
}
