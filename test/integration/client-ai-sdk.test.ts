import { Chat } from "@ai-sdk/react";
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from "vitest";

import { createParleyClient } from "../../packages/client/src/client.ts";
import type { ChatMessage, ParleyClient } from "../../packages/client/src/client.ts";
import { createParleyTransport, toContent, toUIMessages } from "../../packages/client/src/kits/ai-sdk.ts";
import type { ParleyTransportOptions, ParleyUIMessage } from "../../packages/client/src/kits/ai-sdk.ts";
import { readMessages } from "../support/gateway/conversation.ts";
import { startServedModel, type ServedModel } from "../support/model/served-model.ts";

// parley-client/ai-sdk with the AI SDK's own Chat, which is what useChat shows.

let openai: ServedModel["openai"];
let gateway: ServedModel["gateway"];
let close: ServedModel["close"];

beforeAll(async () => {
  ({ openai, gateway, close } = await startServedModel());
});
afterAll(() => close());

const clients: ParleyClient[] = [];
beforeEach(() => {
  openai.releaseAll();
  openai.behave(null);
});
afterEach(() => {
  for (const client of clients.splice(0)) client.close();
});

function clientOf(fetchIt: typeof fetch = fetch): ParleyClient {
  const client = createParleyClient({ url: gateway.url, fetch: fetchIt });
  clients.push(client);
  return client;
}

/** A page that opens the chat. */
function open(id: string, options?: ParleyTransportOptions, client = clientOf(), messages: ParleyUIMessage[] = []) {
  return new Chat<ParleyUIMessage>({ id, transport: createParleyTransport(client, options), messages });
}

const lines = ({ messages }: Chat<ParleyUIMessage>) =>
  messages.map(({ role, parts }) => {
    const shown = parts.map((part) =>
      part.type === "reasoning" ? `(${part.text})` : part.type === "text" ? part.text : "",
    );
    return `${role}: ${shown.join("")}`;
  });
const shown = (chat: Chat<ParleyUIMessage>) => expect.poll(() => lines(chat));
const statusOf = (chat: Chat<ParleyUIMessage>) => expect.poll(() => chat.status);
const stored = async (id: string) =>
  (await readMessages(gateway.url, id)).map(({ role, text }) => `${role.toLowerCase()}: ${text}`);

test("a message is sent and its reply streams, reasoning before text, under the ids that are stored", async () => {
  openai.behave({ kind: "gated", reasoning: ["Hm, ", "Jim."], tokens: ["Hello", " Jim!"] });
  const chat = open("streams");
  const sent = chat.sendMessage({ text: "Hi! I'm Jim." });
  for (const reply of ["(Hm, )", "(Hm, Jim.)", "(Hm, Jim.)Hello", "(Hm, Jim.)Hello Jim!"]) {
    openai.release();
    await shown(chat).toEqual(["user: Hi! I'm Jim.", `assistant: ${reply}`]);
    expect(chat.status).toBe("streaming");
  }
  openai.releaseAll();
  await sent;
  expect(chat.status).toBe("ready");
  const [question, reply] = chat.messages;
  expect(reply?.metadata).toMatchObject({ status: "stored", finishReason: "STOP", error: null });
  const messages = await readMessages(gateway.url, "streams");
  expect(messages.map(({ id }) => id)).toEqual([expect.any(String), reply?.id]);
  expect(messages[0]).toMatchObject({ messageId: question?.id });
});

test("a page that is reloaded in mid-reply goes on with it, from the first character", async () => {
  openai.behave({ kind: "gated", reasoning: ["Hm."], tokens: ["one", " two"] });
  const first = open("reloaded");
  void first.sendMessage({ text: "Count." });
  openai.release();
  openai.release();
  await shown(first).toEqual(["user: Count.", "assistant: (Hm.)one"]);
  const seed = await clientOf().load("reloaded");
  const reload = () => {
    const client = clientOf();
    const history = toUIMessages(client.session("reloaded", seed).getSnapshot().messages);
    const chat = open("reloaded", {}, client, history);
    expect(lines(chat)).toEqual(["user: Count.", "assistant: (Hm.)one"]);
    return chat;
  };
  const second = reload();
  const resumed = second.resumeStream();
  await statusOf(second).toBe("streaming");
  openai.releaseAll();
  await resumed;
  // The reply has ended between the server's reading and the page's.
  const late = reload();
  await late.resumeStream();
  for (const chat of [first, second, late]) await shown(chat).toEqual(["user: Count.", "assistant: (Hm.)one two"]);
  expect([second.status, late.status]).toEqual(["ready", "ready"]);
  // With nothing to go on with, nothing happens.
  await second.resumeStream();
  expect(second.messages).toHaveLength(2);
});

test.each([
  ["leaves the stream, and the reply goes on", {}, "assistant: one two"],
  ["stops the reply for everybody, with cancelOnAbort", { cancelOnAbort: true }, "assistant: one"],
] as const)("stop() %s", async (name, options, reply) => {
  openai.behave({ kind: "gated", tokens: ["one", " two"] });
  const id = `stopped-${name.length}`;
  const chat = open(id, options);
  const sent = chat.sendMessage({ text: "Count." });
  openai.release();
  await shown(chat).toEqual(["user: Count.", "assistant: one"]);
  await chat.stop();
  await sent;
  expect(chat.status).toBe("ready");
  if ("cancelOnAbort" in options) await expect.poll(() => stored(id)).toEqual(["user: Count.", reply]);
  openai.releaseAll();
  await expect.poll(() => stored(id)).toEqual(["user: Count.", reply]);
});

test("a reply is made anew, and a message is edited twice: the history is the gateway's", async () => {
  const chat = open("edited");
  await chat.sendMessage({ text: "Hi! I'm Jim." });
  await chat.sendMessage({ text: "What's my name?" });
  openai.behave({ kind: "reply", text: "Another." });
  await chat.regenerate();
  await shown(chat).toEqual([
    ...["user: Hi! I'm Jim.", "assistant: Hello Jim!"],
    ...["user: What's my name?", "assistant: Another."],
  ]);
  expect(await stored("edited")).toEqual(lines(chat));
  openai.behave(null);
  const messageId = chat.messages[0]?.id ?? "";
  for (const name of ["Ada", "Eve"]) {
    await chat.sendMessage({ text: `Hi! I'm ${name}.`, messageId });
    expect(lines(chat)).toEqual([`user: Hi! I'm ${name}.`, `assistant: Hello ${name}!`]);
    expect(await stored("edited")).toEqual(lines(chat));
  }
});

test("a reply that fails says why, and regenerate() makes it anew; so it is with a message that did not get through", async () => {
  let isDown = false;
  const refusal = { message: "Later.", extensions: { code: "STORE_UNAVAILABLE", retryAfterSeconds: 0 } };
  const client = clientOf((input, init) =>
    isDown ? Promise.resolve(Response.json({ errors: [refusal] }, { status: 503 })) : fetch(input, init),
  );
  const chat = open("failed", {}, client);
  openai.behave({ kind: "errorFrame", code: "server_error" });
  await chat.sendMessage({ text: "Hi! I'm Jim." });
  expect([chat.status, chat.messages.length]).toEqual(["error", 2]);
  expect(chat.error?.message).not.toBe("");
  openai.behave(null);
  await chat.regenerate();
  expect([chat.status, ...lines(chat)]).toEqual(["ready", "user: Hi! I'm Jim.", "assistant: Hello Jim!"]);

  isDown = true;
  await chat.sendMessage({ text: "What's my name?" });
  expect([chat.status, chat.error?.message]).toEqual(["error", "Later."]);
  isDown = false;
  await chat.regenerate();
  expect([chat.status, lines(chat).at(-1)]).toEqual(["ready", "assistant: Your name is Jim."]);
  expect(await stored("failed")).toEqual(lines(chat));
});

test("while another page's reply is being made a message waits for its turn, and body says otherwise", async () => {
  openai.behave({ kind: "gated", tokens: ["one", " two"] });
  const first = open("busy");
  const other = open("busy");
  void first.sendMessage({ text: "Count." });
  openai.release();
  await shown(first).toEqual(["user: Count.", "assistant: one"]);
  const sent = other.sendMessage({ text: "Me too." });
  await expect.poll(() => clients[1]?.session("busy").getSnapshot().queued.length).toBe(1);
  expect(other.status).toBe("submitted");
  await other.sendMessage({ text: "Or not." }, { body: { whenBusy: "REJECT" } });
  expect(other.error).toMatchObject({ code: "SESSION_BUSY" });
  openai.releaseAll();
  await sent;
  await expect.poll(() => stored("busy")).toHaveLength(4);
});

test("a chat that nobody may read says so", async () => {
  const chat = open("bad\u0000id");
  await chat.resumeStream();
  await statusOf(chat).toBe("error");
});

test("each block has its part, tools their results, and what a user's message holds comes back", () => {
  const blank = { messageId: null, name: null, createdAt: null, toolFailed: null, position: 0, error: null, data: [] };
  const called = { name: "look", args: {}, argsText: "{}", status: null, allowed: [], result: null };
  const citation = { title: "Example", quote: null, start: null, end: null };
  const reply: ChatMessage = {
    ...blank,
    ...({ id: "reply", role: "ASSISTANT", status: "stored", finishReason: "STOP", toolCallId: null } as const),
    text: "Yes.",
    toolCalls: [
      { ...called, callId: "a", args: { q: 1 }, argsText: '{"q":1}', status: "DONE", result: "found" },
      { ...called, callId: "b", status: "FAILED", result: "broken" },
      { ...called, callId: "c" },
    ],
    content: [
      { type: "reasoning", text: "Hm." },
      {
        ...{ type: "text", text: "Yes." },
        citations: [
          { url: "https://example.org", ...citation },
          { url: "https://example.org", ...citation },
          { url: null, ...citation },
        ],
      },
      { type: "image", url: "data:image/png;base64,AA==", detail: null },
      { type: "file", url: "https://example.org/a.pdf", mimeType: "application/pdf", fileName: "a.pdf" },
      { type: "audio", url: "https://example.org/a", mimeType: null },
      { type: "server-tool", callId: "s", name: "search", args: { q: 2 }, result: ["found"] },
      { type: "server-tool", callId: "t", name: "search", args: {}, result: null },
      { type: "other", data: { type: "video" } },
    ],
  };
  const answer = { ...blank, role: "TOOL", status: "stored", finishReason: null, toolCalls: [], content: [] } as const;
  const messages: readonly ChatMessage[] = [reply, { ...answer, id: "1", toolCallId: "a", text: "found" }];
  const [uiMessage, ...more] = toUIMessages(messages);
  expect(more).toEqual([]);
  const call = { type: "dynamic-tool", toolName: "look" };
  const search = { type: "dynamic-tool", toolName: "search", providerExecuted: true };
  expect(uiMessage?.parts).toEqual([
    { type: "reasoning", text: "Hm.", state: "done" },
    { type: "text", text: "Yes.", state: "done" },
    { type: "source-url", sourceId: "https://example.org", url: "https://example.org", title: "Example" },
    { type: "file", mediaType: "image/png", url: "data:image/png;base64,AA==" },
    { type: "file", mediaType: "application/pdf", url: "https://example.org/a.pdf", filename: "a.pdf" },
    { type: "file", mediaType: "audio", url: "https://example.org/a" },
    { ...search, toolCallId: "s", input: { q: 2 }, state: "output-available", output: ["found"] },
    { ...search, toolCallId: "t", input: {}, state: "input-available" },
    { type: "data-block", data: { type: "video" } },
    { ...call, toolCallId: "a", input: { q: 1 }, state: "output-available", output: "found" },
    { ...call, toolCallId: "b", input: {}, state: "output-error", errorText: "broken" },
    { ...call, toolCallId: "c", input: {}, state: "input-available" },
  ]);
  // The same object, so that a component in memo renders only when something changes.
  expect(toUIMessages(messages)[0]).toBe(uiMessage);
  expect(toContent(uiMessage ?? { parts: [] })).toEqual([
    { type: "text", text: "Yes." },
    ...reply.content.slice(2, 5),
    { type: "other", data: { type: "video" } },
  ]);
});
