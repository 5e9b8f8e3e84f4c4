import type { Client } from "graphql-ws";
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from "vitest";

import { fillSession, startChatGateway } from "../clients/chat-gateway.ts";
import type { ChatGateway } from "../clients/chat-gateway.ts";
import { applyEvent, connect, emptyChat, followChat, freshChat, sessionEvents } from "../clients/graphql-ws.ts";
import type { ChatState } from "../clients/graphql-ws.ts";
import { startOpenAI } from "../support/model/openai-server.ts";
import type { OpenAIServer } from "../support/model/openai-server.ts";
import { waitUntil } from "../support/redis/redis-command.ts";
import { startProxy } from "../support/redis/tcp-proxy.ts";
import type { TcpProxy } from "../support/redis/tcp-proxy.ts";

type Event = Parameters<typeof applyEvent>[1];

let openai: OpenAIServer;
let chat: ChatGateway;
let proxy: TcpProxy;
let client: Client;

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
  const retryWait = () => new Promise<void>((resolve) => setTimeout(resolve, 20));
  client = connect(`http://127.0.0.1:${proxy.port}/graphql`, { retryWait });
});

afterEach(async () => {
  await client.dispose();
  await proxy.close();
});

const fail = (error: unknown) => {
  throw error;
};
const namesOf = (events: readonly Event[]) => events.map(({ __typename }) => __typename);
const count = (events: readonly Event[], name: Event["__typename"]) =>
  namesOf(events).filter((one) => one === name).length;

async function stored(sessionId: string): Promise<unknown> {
  const data = await chat.ask(
    `query ($sessionId: String!) { session(sessionId: $sessionId) {
      messages(last: 200) { nodes { id position cursor role text } } } }`,
    { sessionId },
  );
  return (data as { session: { messages: { nodes: unknown } } }).session.messages.nodes; // what was asked for
}

test("reconnecting with the first `after` brings everything again, and the chat stays as it is stored", async () => {
  await fillSession(chat, "again", 3);
  const events: Event[] = [];
  let state: ChatState = emptyChat;
  const stop = client.subscribe<{ sessionEvents: Event }>(
    { query: sessionEvents, variables: { sessionId: "again", after: "" } },
    {
      next({ data }) {
        if (!data) return;
        events.push(data.sessionEvents);
        state = applyEvent(state, data.sessionEvents);
      },
      error: fail,
      complete: () => undefined,
    },
  );
  await waitUntil("the history", () => Promise.resolve(state.messages.length === 3));

  for (const round of [1, 2]) {
    proxy.refuse(true);
    await fillSession(chat, "again", 2);
    proxy.refuse(false);
    await waitUntil(`what came meanwhile, round ${round}`, () =>
      Promise.resolve(state.messages.length === 3 + 2 * round),
    );
  }
  expect(state.messages).toEqual(await stored("again"));
  // It did come again: 3, then 5, then 7.
  expect(count(events, "StreamOpened")).toBe(3);
  expect(count(events, "MessageAdded")).toBe(3 + 5 + 7);

  const twice = [...events, ...events].reduce(applyEvent, emptyChat);
  expect(twice).toEqual(state);
  stop();
});

test("resuming from the newest cursor brings each message once, also in the middle of a reply", async () => {
  openai.behave({ kind: "gated", tokens: ["Hello", " Jim", "."] });
  await fillSession(chat, "resume", 2);
  const events: Event[] = [];
  let state: ChatState = emptyChat;
  const stop = followChat(
    client,
    "resume",
    emptyChat,
    (next, event) => {
      state = next;
      events.push(event);
    },
    fail,
  );
  await waitUntil("the history", () => Promise.resolve(state.messages.length === 2));

  await chat.ask(`mutation { sendMessage(input: { sessionId: "resume", text: "Hi! I'm Jim." }) { run { id } } }`);
  openai.release();
  await waitUntil("the first word", () => Promise.resolve(state.draft?.text === "Hello"));
  proxy.refuse(true);
  openai.release();
  proxy.refuse(false);
  await waitUntil("the second word", () => Promise.resolve(state.draft?.text === "Hello Jim"));
  openai.releaseAll();
  await waitUntil("the reply", () => Promise.resolve(state.messages.length === 4 && state.draft === null));

  expect(state.messages.at(-1)?.text).toBe("Hello Jim.");
  expect(state.messages).toEqual(await stored("resume"));
  expect(count(events, "StreamOpened")).toBe(2);
  expect(count(events, "MessageAdded")).toBe(4);
  stop();
});

test("a chat that does not exist yet: cut off while it waits, it has all of the first turn", async () => {
  const events: Event[] = [];
  let state: ChatState = emptyChat;
  const onChat = (next: ChatState, event: Event) => {
    state = next;
    events.push(event);
  };
  const stop = followChat(client, "new", emptyChat, onChat, fail);
  await waitUntil("it waits", () => Promise.resolve(namesOf(events).join() === "StreamWaiting"));
  proxy.refuse(true);
  await chat.ask(
    `mutation { addMessages(input: { sessionId: "new", messages: [{ role: USER, text: "first" }] }) { session { id } } }`,
  );
  proxy.refuse(false);
  await waitUntil("the first message", () => Promise.resolve(state.messages.length === 1));
  expect(state.messages).toEqual(await stored("new"));
  expect(namesOf(events)).toEqual(["StreamWaiting", "StreamOpened", "MessageAdded"]);
  stop();
});

test("a history that was cleared while the client was away is shown as it is now", async () => {
  await fillSession(chat, "reset", 5);
  const events: Event[] = [];
  let state: ChatState = emptyChat;
  const stop = followChat(
    client,
    "reset",
    emptyChat,
    (next, event) => {
      state = next;
      events.push(event);
    },
    fail,
  );
  await waitUntil("the history", () => Promise.resolve(state.messages.length === 5));
  proxy.refuse(true);
  await chat.ask(`mutation { clearHistory(input: { sessionId: "reset" }) { session { id } } }`);
  await fillSession(chat, "reset", 1);
  proxy.refuse(false);
  await waitUntil("the new history", () => Promise.resolve(state.messages.length === 1));
  expect(state.messages).toEqual(await stored("reset"));
  expect(namesOf(events)).toContain("HistoryReset");

  await chat.ask(`mutation { deleteSession(input: { sessionId: "reset" }) { deletedId } }`);
  await waitUntil("the end", () => Promise.resolve(state.removed));
  stop();
});

test("the newest page comes with StreamOpened, once, and what comes later behind it", async () => {
  await fillSession(chat, "fresh", 60);
  const events: Event[] = [];
  let state: ChatState = freshChat;
  const take = (next: ChatState, event: Event) => {
    state = next;
    events.push(event);
  };
  const stop = followChat(client, "fresh", freshChat, take, fail);
  await waitUntil("the page", () => Promise.resolve(state.messages.length === 50));
  proxy.refuse(true);
  await fillSession(chat, "fresh", 2);
  proxy.refuse(false);
  await waitUntil("what came meanwhile", () => Promise.resolve(state.messages.length === 52));
  expect(state.messages.map(({ position }) => position)).toEqual(Array.from({ length: 52 }, (_, index) => index + 10));
  expect(namesOf(events)).toEqual(["StreamOpened", "StreamOpened", "MessageAdded", "MessageAdded"]);
  stop();
});

test("a link that went dead without a word is noticed by its pongs, and left for a new one", async () => {
  const codes: unknown[] = [];
  const retryWait = () => new Promise<void>((resolve) => setTimeout(resolve, 20));
  const careful = connect(`http://127.0.0.1:${proxy.port}/graphql`, { retryWait, keepAlive: 100 });
  careful.on("closed", (event) => codes.push((event as { code: number }).code)); // a CloseEvent
  await fillSession(chat, "dead", 1);
  let state: ChatState = freshChat;
  const stop = followChat(careful, "dead", freshChat, (next) => (state = next), fail);
  await waitUntil("the page", () => Promise.resolve(state.messages.length === 1));
  proxy.blackhole(true);
  await fillSession(chat, "dead", 1);
  await waitUntil("the link is left", () => Promise.resolve(codes.length > 0));
  proxy.blackhole(false);
  await waitUntil("what came meanwhile", () => Promise.resolve(state.messages.length === 2));
  expect(codes[0]).toBe(4499);
  stop();
  await careful.dispose();
});
