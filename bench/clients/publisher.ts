import { Redis } from "ioredis";
import { setTimeout as sleep } from "node:timers/promises";
import { anonymous } from "../../src/conversation/session.ts";
import { createGateway } from "../../src/gateway.ts";
import type { BaselineMessage } from "../baselines/history.ts";
import { machineMs, settings, takeOrders } from "../orders.ts";
import { newMessage } from "../sessions.ts";

// Writes what subscribers get, in a process of its own: what the servers are measured at is delivery alone.

const { redisUrl } = settings<{ readonly redisUrl: string }>();
const redis = new Redis(redisUrl);
const gateway = await createGateway({ redis: redisUrl, production: true });

/** Says its number and when it was written, and is as long as a sentence or two. */
function text(seq: number): string {
  return `#${seq} ${machineMs().toFixed(3)} ${"and so it goes on. ".repeat(12)}`.slice(0, 200);
}

const writers = {
  parley: (sessionId: string, seq: number) =>
    gateway.conversations.addMessages(
      anonymous,
      { sessionId, messages: [newMessage(text(seq))], idempotencyKey: null },
      { pages: [] },
    ),
  /** As an application does that keeps LangChain's list: the message is stored, then published. */
  redis: async (sessionId: string, seq: number) => {
    const message: BaselineMessage = {
      id: Buffer.from(`Message:${sessionId}:${seq}`).toString("base64"),
      position: seq,
      role: "USER",
      text: text(seq),
      createdAt: new Date().toISOString(),
      cursor: Buffer.from(`1.0123abcd.1790000000000.${seq}.0123456789abcdef`).toString("base64url"),
    };
    const row = { type: "human", data: { content: message.text, additional_kwargs: {}, response_metadata: {} } };
    await redis.lpush(`list:${sessionId}`, JSON.stringify(row));
    await redis.publish(`message:${sessionId}`, JSON.stringify(message));
  },
};

export const orders = {
  /** Messages number `from` to `from + count - 1`, at a steady pace. */
  async publish(order: {
    readonly how: keyof typeof writers;
    readonly sessionId: string;
    readonly from: number;
    readonly count: number;
    readonly perSecond: number;
  }): Promise<void> {
    const { how, sessionId, from, count, perSecond } = order;
    const startedAt = machineMs();
    for (let i = 0; i < count; i++) {
      const waitMs = startedAt + (i * 1000) / perSecond - machineMs();
      if (waitMs > 0) await sleep(waitMs);
      await writers[how](sessionId, from + i);
    }
  },
};

export type Publisher = typeof orders;

takeOrders(orders);
