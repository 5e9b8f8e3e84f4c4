import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from "vitest";

import { createParleyClient } from "../../packages/client/src/client.ts";
import { fillSession, startChatGateway } from "../clients/chat-gateway.ts";
import type { ChatGateway } from "../clients/chat-gateway.ts";
import { connect, followMessages } from "../clients/graphql-ws.ts";
import { startOpenAI } from "../support/model/openai-server.ts";
import type { OpenAIServer } from "../support/model/openai-server.ts";
import { startProxy } from "../support/redis/tcp-proxy.ts";
import type { TcpProxy } from "../support/redis/tcp-proxy.ts";

// The protocol graphql-transport-ws by its own client, and by parley-client. What parley-client does besides is in
// test/integration/client.test.ts.

let openai: OpenAIServer;
let chat: ChatGateway;
let proxy: TcpProxy;

beforeAll(async () => {
  openai = await startOpenAI();
  chat = await startChatGateway({ model: "openai:small", openai: { apiKey: "sk-test", baseUrl: openai.baseUrl } });
});
afterAll(async () => {
  await chat.close();
  await openai.close();
});
beforeEach(async () => {
  proxy = await startProxy(chat.port);
});
afterEach(() => proxy.close());

const retryWait = () => new Promise<void>((resolve) => setTimeout(resolve, 20));
const endpoint = () => `http://127.0.0.1:${proxy.port}/graphql`;

test("graphql-ws resumes from the newest cursor: each message comes once", async () => {
  const client = connect(endpoint(), { retryWait });
  const texts: string[] = [];
  await fillSession(chat, "resume", 2);
  const stop = followMessages(client, "resume", (text) => texts.push(text));
  await expect.poll(() => texts).toEqual(["text 0", "text 1"]);
  for (let round = 0; round < 2; round += 1) {
    const before = [...texts];
    proxy.refuse(true);
    await fillSession(chat, "resume", 2);
    proxy.refuse(false);
    await expect.poll(() => texts).toEqual([...before, "text 0", "text 1"]);
  }
  stop();
  await client.dispose();
});

test("a link that went dead without a word is noticed by its pongs, and left for a new one", async () => {
  const codes: unknown[] = [];
  const client = connect(endpoint(), { retryWait, keepAlive: 100 });
  client.on("closed", (event) => codes.push((event as { code: number }).code)); // a CloseEvent
  await fillSession(chat, "dead", 1);
  const texts: string[] = [];
  const stop = followMessages(client, "dead", (text) => texts.push(text));
  await expect.poll(() => texts).toHaveLength(1);
  proxy.blackhole(true);
  await fillSession(chat, "dead", 1);
  await expect.poll(() => codes[0]).toBe(4499);
  proxy.blackhole(false);
  await expect.poll(() => texts).toHaveLength(2);
  stop();
  await client.dispose();
});

test("parley-client resumes in mid-reply, and has the whole turn", async () => {
  openai.behave({ kind: "gated", tokens: ["Hello", " Jim", "."] });
  const client = createParleyClient({ url: endpoint() });
  const session = client.session("parley");
  session.subscribe(() => undefined);
  const texts = expect.poll(() => session.getSnapshot().messages.map(({ status, text }) => `${status} ${text}`));
  await session.send("Hi! I'm Jim.");
  openai.release();
  await texts.toEqual(["stored Hi! I'm Jim.", "streaming Hello"]);
  proxy.refuse(true);
  openai.release();
  proxy.refuse(false);
  await texts.toEqual(["stored Hi! I'm Jim.", "streaming Hello Jim"]);
  openai.releaseAll();
  await texts.toEqual(["stored Hi! I'm Jim.", "stored Hello Jim."]);
  client.close();
});
