import { randomUUID } from "node:crypto";
import { FakeListChatModel } from "@langchain/core/utils/testing";
import { ConversationChain } from "@langchain/classic/chains";
import { BufferMemory, BufferWindowMemory } from "@langchain/classic/memory";
import { RedisChatMessageHistory } from "@langchain/redis";
import { createClient } from "redis";
import { anonymous } from "../src/conversation/session.ts";
import { createGateway } from "../src/gateway.ts";
import { compare, print } from "./measure.ts";

/** A whole turn, waiting for the reply, against LangChain's own ConversationChain over its own Redis history. */
export async function turns(url: string): Promise<void> {
  const model = () => new FakeListChatModel({ responses: ["A short reply."] });
  const client = createClient({ url });
  await client.connect();
  const gateway = await createGateway({ redis: url, model: "fake", customModels: { fake: model } });
  const windowed = await createGateway({
    redis: url,
    model: "fake",
    customModels: { fake: model },
    memory: { strategy: "WINDOW", maxTurns: 5 },
  });
  const llm = model();

  const chain = (sessionId: string, windowTurns: number | null) => {
    const chatHistory = new RedisChatMessageHistory({ sessionId, client });
    const memory =
      windowTurns === null
        ? new BufferMemory({ returnMessages: true, chatHistory, memoryKey: "history" })
        : new BufferWindowMemory({ returnMessages: true, chatHistory, memoryKey: "history", k: windowTurns });
    return new ConversationChain({ llm, memory });
  };
  const send = (parley: typeof gateway, sessionId: string) =>
    parley.conversations.sendMessage(
      anonymous,
      {
        sessionId,
        content: [{ kind: "text", text: "Hello" }],
        messageId: null,
        whenBusy: "QUEUE",
        replaceFrom: null,
        model: null,
      },
      { pages: [] },
      true,
      new AbortController().signal,
    );

  print(
    "a turn in an empty session",
    await compare(
      [
        {
          name: "ConversationChain + RedisChatMessageHistory",
          once: () => chain(randomUUID(), null).invoke({ input: "Hello" }),
        },
        { name: "Parley", once: () => send(gateway, randomUUID()) },
      ],
      200,
    ),
  );
  const row = (i: number) =>
    JSON.stringify({
      type: i % 2 ? "ai" : "human",
      data: { content: `message ${i}`, additional_kwargs: {}, response_metadata: {} },
    });
  for (const id of ["long-a", "long-b"]) {
    for (let i = 0; i < 10_000; i += 1000)
      await client.lPush(
        id,
        Array.from({ length: 1000 }, (_, k) => row(i + k)),
      );
  }
  print(
    "a turn in a session of 10,000 messages, window of 5 turns",
    await compare(
      [
        {
          name: "ConversationChain + BufferWindowMemory",
          once: () => chain("long-a", 5).invoke({ input: "Hello" }),
        },
        { name: "Parley, WINDOW", once: () => send(windowed, "long-b") },
      ],
      30,
    ),
  );
  await gateway.close({ graceMs: 0 });
  await windowed.close({ graceMs: 0 });
  await client.disconnect();
}
