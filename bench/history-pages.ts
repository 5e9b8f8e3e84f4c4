import { Redis } from "ioredis";
import { createGateway } from "../src/gateway.ts";
import { anonymous } from "../src/conversation/session.ts";
import { compare, print } from "./measure.ts";

/** P9: a page, an append cost the same in a session of 100 messages and of 100,000. Baseline: the same at 100. */
export async function historyPages(url: string): Promise<void> {
  const redis = new Redis(url);
  const gateway = await createGateway({ redis: url });
  const { conversations } = gateway;
  const sizes = [100, 100_000];
  for (const size of sizes) {
    const row = (i: number) =>
      JSON.stringify({
        type: i % 2 ? "ai" : "human",
        data: { content: `message ${i} `.repeat(10), additional_kwargs: {}, response_metadata: {} },
      });
    for (let i = 0; i < size; i += 1000) {
      await redis.lpush(`s${size}`, ...Array.from({ length: Math.min(1000, size - i) }, (_, k) => row(i + k)));
    }
    await conversations.readSession(anonymous, `s${size}`, { pages: [] });
  }
  const at = (what: string, once: (id: string) => Promise<unknown>) =>
    sizes.map((size) => ({
      name: `${what}, ${size.toLocaleString("en")} messages`,
      once: () => once(`s${size}`),
    }));
  const page = (first: number | null, last: number | null) => ({ first, after: null, last, before: null });
  const read = (id: string, pages: readonly ReturnType<typeof page>[]) =>
    conversations.readSession(anonymous, id, { pages });
  print(
    "newest page of 50",
    await compare(
      at("last: 50", (id) => read(id, [page(null, 50)])),
      400,
    ),
  );
  print(
    "oldest page of 50",
    await compare(
      at("first: 50", (id) => read(id, [page(50, null)])),
      400,
    ),
  );
  const text = { kind: "text", text: "x" } as const;
  const message = {
    role: "USER",
    content: [text],
    name: null,
    messageId: null,
    toolCallId: null,
    toolFailed: null,
    toolCalls: [],
  } as const;
  print(
    "addMessages, one",
    await compare(
      at("append", (sessionId) =>
        conversations.addMessages(anonymous, { sessionId, messages: [message], idempotencyKey: null }, { pages: [] }),
      ),
      400,
    ),
  );
  await gateway.close({ graceMs: 0 });
  redis.disconnect();
}
