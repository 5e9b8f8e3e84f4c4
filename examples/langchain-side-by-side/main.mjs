// One conversation, two programs: Parley answers the first message, LangChain the second, and each sees what the other wrote.
import { ConversationChain } from "@langchain/classic/chains";
import { BufferMemory } from "@langchain/classic/memory";
import { FakeListChatModel } from "@langchain/core/utils/testing";
import { ChatOpenAI } from "@langchain/openai";
import { RedisChatMessageHistory } from "@langchain/redis";
import { createParleyClient } from "parley-client";

const { PARLEY_URL = "http://localhost:4000", REDIS_URL, OPENAI_API_KEY } = process.env;
if (REDIS_URL === undefined) throw new Error("Set REDIS_URL to the URL of Redis that the gateway's npm start prints.");
const sessionId = "jim";

const client = createParleyClient({ url: `${PARLEY_URL}/graphql` });
const chat = client.session(sessionId);
const shown = new Set();
chat.subscribe(() => {
  for (const { id, role, status, text } of chat.getSnapshot().messages) {
    if (status === "stored" && !shown.has(id)) console.log(`Parley shows:   ${role}: ${text}`);
    if (status === "stored") shown.add(id);
  }
});
const run = await chat.send("Hi! I'm Jim.");
await chat.settled(run.id);

const chatHistory = new RedisChatMessageHistory({ sessionId, config: { url: REDIS_URL } });
const memory = new BufferMemory({ returnMessages: true, chatHistory, memoryKey: "history" });
const llm = OPENAI_API_KEY
  ? new ChatOpenAI({ model: "gpt-4o-mini" })
  : new FakeListChatModel({ responses: ["LangChain's answer: your name is Jim."] });
const chain = new ConversationChain({ llm, memory });
await chain.invoke({ input: "What is my name?" });

const history = await chatHistory.getMessages();
// Parley hears of what LangChain wrote by itself.
while (shown.size < history.length) await new Promise((resolve) => setTimeout(resolve, 50));
console.log("\nLangChain reads:");
for (const { type, text } of history) console.log(`  ${type}: ${text}`);
process.exit(); // the history keeps its connection open
