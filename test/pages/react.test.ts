import { Window } from "happy-dom";
import { createElement, memo, StrictMode, useState } from "react";
import type { ReactNode } from "react";
import { renderToString } from "react-dom/server";
import { afterAll, afterEach, beforeAll, expect, test, vi } from "vitest";

import { createParleyClient } from "../../packages/client/src/client.ts";
import type { ChatMessage, ParleyClient, RawEvent, SessionSeed } from "../../packages/client/src/client.ts";
import {
  ParleyProvider,
  useParleyClient,
  useParleySelector,
  useParleySession,
  useParleySessions,
} from "../../packages/client/src/react.ts";
import type { ParleySession, ParleySessionOptions } from "../../packages/client/src/react.ts";
import { spawnGateway } from "../support/gateway/gateway.ts";
import type { GatewayProcess } from "../support/gateway/gateway.ts";
import { startOpenAI } from "../support/model/openai-server.ts";
import type { OpenAIServer } from "../support/model/openai-server.ts";
import { startRedis } from "../support/redis/redis-server.ts";
import type { TestRedis } from "../support/redis/redis-server.ts";

// parley-client/react with real React, in a page that happy-dom makes. The gateway is a process of its own: some of what it
// uses takes a process with a window for a browser.

let openai: OpenAIServer;
let redis: TestRedis;
let gateway: GatewayProcess;
let page: Window;
let dom: typeof import("react-dom/client");

beforeAll(async () => {
  [openai, redis] = await Promise.all([startOpenAI(), startRedis({ appendonly: false })]);
  gateway = await spawnGateway({
    ...{ REDIS_URL: redis.url, MODEL: "openai:small" },
    ...{ OPENAI_API_KEY: "sk-test", OPENAI_BASE_URL: openai.baseUrl },
  });
  page = new Window({ url: "http://localhost/" });
  vi.stubGlobal("window", page);
  vi.stubGlobal("document", page.document);
  // It looks for them when it is loaded.
  dom = await import("react-dom/client");
});
afterAll(async () => {
  await page.happyDOM.close();
  await gateway.stop();
  await Promise.all([redis.stop(), openai.close()]);
});

const closing: (() => void)[] = [];
afterEach(() => {
  for (const close of closing.splice(0)) close();
  openai.releaseAll();
  openai.behave(null);
});

function clientOf(frames: RawEvent[] = []): ParleyClient {
  const client = createParleyClient({ url: gateway.url, onEvent: (event) => frames.push(event) });
  closing.push(() => client.close());
  return client;
}

function elementFor(client: ParleyClient, ...children: readonly ReactNode[]): ReactNode {
  return createElement(ParleyProvider, { client }, ...children);
}

/** Shows it in the page; what is returned gives its text. */
function show(element: ReactNode): () => string {
  const container = page.document.createElement("div");
  const root = dom.createRoot(container as unknown as Element); // a page's element, with another name for its type
  root.render(element);
  closing.unshift(() => root.unmount());
  return () => container.textContent;
}

const renders = new Map<string, number>();
const count = (id: string) => renders.set(id, (renders.get(id) ?? 0) + 1);

const Message = memo(({ message }: { readonly message: ChatMessage }) => {
  count(message.id);
  return `[${message.role} ${message.status}: ${message.text}]`;
});

/** The session as the newest render had it. */
let chat: ParleySession;
const sessions = new Set<ParleySession["send"]>();
function Chat({ sessionId, ...options }: ParleySessionOptions & { readonly sessionId: string }): ReactNode {
  chat = useParleySession(sessionId, options);
  sessions.add(chat.send);
  return chat.messages.map((message) => createElement(Message, { key: message.id, message }));
}

async function add(client: ParleyClient, sessionId: string, ...texts: readonly string[]): Promise<void> {
  const messages = texts.map((text, index) => ({ role: index % 2 === 0 ? "USER" : "ASSISTANT", text }));
  await client.request("mutation ($input: AddMessagesInput!) { addMessages(input: $input) { session { id } } }", {
    input: { sessionId, messages },
  });
}

test("a message's component renders only when its message changes; the actions stay the same functions", async () => {
  const client = clientOf();
  await add(client, "counted", "a", "b");
  sessions.clear();
  const text = show(elementFor(client, createElement(Chat, { sessionId: "counted" })));
  await expect.poll(text).toBe("[USER stored: a][ASSISTANT stored: b]");
  const [first, second] = chat.messages;
  expect([renders.get(first?.id ?? ""), renders.get(second?.id ?? "")]).toEqual([1, 1]);

  openai.behave({ kind: "gated", tokens: ["one", " two", " three"] });
  const { replyId } = await chat.send("Count.");
  await expect.poll(text).toContain("[USER stored: Count.][ASSISTANT streaming: ]");
  for (const so of ["one", "one two", "one two three"]) {
    openai.release();
    await expect.poll(text).toContain(`[ASSISTANT streaming: ${so}]`);
  }
  openai.releaseAll();
  await expect.poll(text).toContain("[USER stored: Count.][ASSISTANT stored: one two three]");
  expect([renders.get(first?.id ?? ""), renders.get(second?.id ?? "")]).toEqual([1, 1]);
  // It begins empty, grows three times, and is stored.
  expect(renders.get(replyId)).toBe(5);
  expect(sessions.size).toBe(1);
});

test("in StrictMode there is one stream, and a message is sent once", async () => {
  const frames: RawEvent[] = [];
  const client = clientOf(frames);
  const text = show(createElement(StrictMode, null, elementFor(client, createElement(Chat, { sessionId: "strict" }))));
  await expect.poll(() => chat.connection).toBe("new");
  await chat.send("Hi! I'm Jim.");
  await expect.poll(text).toBe("[USER stored: Hi! I'm Jim.][ASSISTANT stored: Hello Jim!]");
  expect(frames.filter(({ text: frame }) => frame.includes("StreamWaiting"))).toHaveLength(1);
  expect(frames.filter(({ kind }) => kind === "open")).toHaveLength(1);
});

test("what a server has rendered is taken over as it is, and goes on live", async () => {
  const server = clientOf();
  await add(server, "rendered", "a", "b");
  const seed = JSON.parse(JSON.stringify(await server.load("rendered"))) as SessionSeed;
  const element = (client: ParleyClient) => elementFor(client, createElement(Chat, { sessionId: "rendered", seed }));
  const html = renderToString(element(server));
  expect(html).toContain("[USER stored: a]");
  expect(html).toContain("[ASSISTANT stored: b]");

  const container = page.document.createElement("div");
  container.innerHTML = html;
  const errors: unknown[] = [];
  const browser = clientOf();
  // A page's element, with another name for its type.
  const root = dom.hydrateRoot(container as unknown as Element, element(browser), {
    onRecoverableError: (error) => errors.push(error),
  });
  closing.unshift(() => root.unmount());
  await add(server, "rendered", "c");
  await expect.poll(() => container.textContent).toBe("[USER stored: a][ASSISTANT stored: b][USER stored: c]");
  expect(errors).toEqual([]);
});

test("a selector's component renders only when what it selects is another value", async () => {
  const client = clientOf();
  await add(client, "selected", "a");
  renders.clear();
  const Count = () => {
    count("length");
    return `${useParleySelector("selected", ({ messages }) => messages.length)};`;
  };
  // A new object at each call is no endless loop.
  const Both = () => {
    const { unread } = useParleySelector("selected", ({ session, unread: many }) => ({ session, unread: many }));
    return `${unread} unread`;
  };
  const text = show(elementFor(client, createElement(Count), createElement(Both)));
  await expect.poll(text).toBe("1;1 unread");
  const before = renders.get("length");
  await client.session("selected").update({ title: "renamed" });
  await client.session("selected").markRead();
  await expect.poll(text).toBe("1;0 unread");
  expect(renders.get("length")).toBe(before);
});

test("markRead waits until the page is visible; autoTitle asks once, from the page that sent the message", async () => {
  const makePage = (visibilityState: string) =>
    Object.defineProperty(page.document, "visibilityState", { configurable: true, value: visibilityState });
  makePage("hidden");
  const client = clientOf();
  await add(client, "seen", "a");
  show(elementFor(client, createElement(Chat, { sessionId: "seen", markRead: true, autoTitle: true })));
  await expect.poll(() => chat.unread).toBe(1);
  const { requests } = openai;
  await chat.send("Hi! I'm Jim.");
  await expect.poll(() => chat.session?.title).not.toBeNull();
  expect(chat.unread).toBe(1);
  expect(requests.filter(({ body }) => body["stream"] !== true)).toHaveLength(1);
  makePage("visible");
  page.document.dispatchEvent(new page.Event("visibilitychange"));
  await expect.poll(() => chat.unread).toBe(0);
});

test("another session takes the place of the first one, and the list of sessions is live", async () => {
  const client = clientOf();
  const metadata = { of: "react" };
  await client.create({ sessionId: "one", title: "One", metadata });
  let choose: (id: string) => void = () => undefined;
  const App = () => {
    const [sessionId, setSessionId] = useState("one");
    choose = setSessionId;
    const { sessions: list } = useParleySessions({ metadata });
    return [list.map(({ title }) => `${title ?? ""};`), createElement(Chat, { key: "chat", sessionId })];
  };
  const text = show(elementFor(client, createElement(App)));
  await expect.poll(text).toBe("One;");
  await client.create({ sessionId: "two", title: "Two", metadata });
  await add(client, "two", "in two");
  choose("two");
  await expect.poll(text).toBe("Two;One;[USER stored: in two]");
});

test("a hook without a provider says what is missing", () => {
  const Lost = () => {
    useParleyClient();
    return null;
  };
  expect(() => renderToString(createElement(Lost))).toThrow("There is no <ParleyProvider> above this component.");
});
