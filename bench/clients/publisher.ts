import { Redis } from "ioredis";
import { setTimeout as sleep } from "node:timers/promises";
import { anonymous } from "../../src/conversation/session.ts";
import { createGateway } from "../../src/gateway.ts";
import type { BaselineMessage } from "../baselines/history.ts";
import { PacedModel, tokenText, type Pace } from "../model.ts";
import { machineMs, settings, takeOrders } from "../orders.ts";
import { newMessage } from "../sessions.ts";

// Writes what subscribers get, in a process of its own: what the servers are measured at is delivery alone.

/** `pace`: of the replies that it makes; left out: it makes none. */
const { redisUrl, pace } = settings<{ readonly redisUrl: string; readonly pace?: Pace }>();
const redis = new Redis(redisUrl);
const gateway = await createGateway({
  redis: redisUrl,
  production: true,
  // As for the servers that are measured (parley.ts).
  autoTitle: false,
  ...(pace ? { model: "paced", customModels: { paced: new PacedModel(pace) } } : {}),
});

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
  /** As RedisChatMessageHistory of LangChain does. */
  langchain: async (sessionId: string, seq: number) => {
    const row = { type: "human", data: { content: text(seq), additional_kwargs: {}, response_metadata: {} } };
    await redis.lpush(sessionId, JSON.stringify(row));
  },
};

export type Writer = keyof typeof writers;

export const orders = {
  /** Messages number `from` to `from + count - 1` of each session, the sessions taken in turn, at a steady pace in all. */
  async publish(order: {
    readonly how: Writer;
    readonly sessionIds: readonly string[];
    readonly from: number;
    readonly count: number;
    readonly perSecond: number;
  }): Promise<void> {
    const { how, sessionIds, from, count, perSecond } = order;
    const startedAt = machineMs();
    for (let i = 0; i < count * sessionIds.length; i++) {
      const waitMs = startedAt + (i * 1000) / perSecond - machineMs();
      if (waitMs > 0) await sleep(waitMs);
      await writers[how](sessionIds[i % sessionIds.length] ?? "", from + Math.floor(i / sessionIds.length));
    }
  },

  /** A reply to each session at once, made by Parley. */
  async replies({ sessionIds }: { readonly sessionIds: readonly string[] }): Promise<void> {
    const reply = (sessionId: string) =>
      gateway.conversations.sendMessage(
        { viewer: anonymous, signal: new AbortController().signal, whileWaiting: (work) => work() },
        {
          ...{ sessionId, newSession: null, content: [{ kind: "text" as const, text: "Hello" }], messageId: null },
          ...{ idempotencyKey: null, whenBusy: "QUEUE" as const, replaceFrom: null, model: null },
        },
        null,
        true,
      );
    await Promise.all(sessionIds.map(reply));
  },

  /**
   * A reply to each session at once, one event a token, as createRedisEventTarget of a Yoga server that makes the
   * replies publishes them.
   */
  async stream(order: {
    readonly sessionIds: readonly string[];
    readonly tokens: number;
    readonly tokenMs: number;
  }): Promise<void> {
    const { sessionIds, tokens, tokenMs } = order;
    const startedAt = machineMs();
    let offset = 0;
    for (let i = 0; i < tokens; i++) {
      const waitMs = startedAt + i * tokenMs - machineMs();
      if (waitMs > 0) await sleep(waitMs);
      const text = tokenText(i);
      const publish = (sessionId: string) =>
        redis.publish(`token:${sessionId}`, JSON.stringify({ replyId: `reply-${sessionId}`, offset, text }));
      await Promise.all(sessionIds.map(publish));
      offset += text.length;
    }
  },
};

export type Publisher = typeof orders;

takeOrders(orders);
