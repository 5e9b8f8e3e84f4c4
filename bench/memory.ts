import { Redis } from "ioredis";
import { anonymous } from "../src/conversation/session.ts";
import { createGateway } from "../src/gateway.ts";

const sessions = 500;
const messages = 100;

/** What sessions and messages take in Redis' memory, with all that Parley keeps beside LangChain's own list. */
export async function memory(url: string): Promise<void> {
  const redis = new Redis(url);
  const gateway = await createGateway({ redis: url });
  const used = async () => Number(/used_memory:(\d+)/.exec(await redis.info("memory"))?.[1]);
  const add = (sessionId: string, text: string) => {
    const content = [{ kind: "text", text } as const];
    const message = {
      role: "USER",
      content,
      name: null,
      messageId: null,
      toolCallId: null,
      toolFailed: null,
      toolCalls: [],
    } as const;
    return gateway.conversations.addMessages(
      anonymous,
      { sessionId, messages: [message], idempotencyKey: null },
      { pages: [] },
    );
  };
  // The scripts are loaded first: they are not a session's.
  await add("warm", "x");
  const empty = await used();
  for (let i = 0; i < sessions; i++) await add(`s${i}`, "x");
  const one = await used();
  const bare = new Redis(url, { db: 1 });
  const row = (await redis.lindex("s0", 0)) ?? "";
  for (let i = 0; i < messages * 100; i++) await add(`s${i % 100}`, "x");
  const many = await used();
  for (let i = 0; i < messages * 100; i++) await bare.lpush(`s${i % 100}`, row);
  const alone = await used();
  const lines = [
    ["a session with one message", (one - empty) / sessions],
    [`a message more (a row of ${row.length} bytes), its op for 25 hours included`, (many - one) / (messages * 100)],
    ["the same row in a list of LangChain's alone", (alone - many) / (messages * 100)],
  ] as const;
  process.stdout.write("\nbytes of Redis' memory\n");
  for (const [what, bytes] of lines)
    process.stdout.write(`  ${what.padEnd(76)}${Math.round(bytes).toLocaleString("en").padStart(8)}\n`);
  await gateway.close({ graceMs: 0 });
  redis.disconnect();
  bare.disconnect();
}
