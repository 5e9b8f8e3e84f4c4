import { createElement, memo, StrictMode, useState } from "react";
import type { ReactNode } from "react";
import { renderToString } from "react-dom/server";
import { afterAll, afterEach, beforeAll, expect, test } from "vitest";

import type { ChatMessage, ParleyClient, RawEvent, SessionSeed } from "../../packages/client/src/client.ts";
import {
  useParleyClient,
  useParleySelector,
  useParleySession,
  useParleySessions,
} from "../../packages/client/src/react.ts";
import type { ParleySession, ParleySessionOptions } from "../../packages/client/src/react.ts";
import { elementFor, startReactPage } from "../support/gateway/react-page.ts";
import type { ReactPage } from "../support/gateway/react-page.ts";

// parley-client/react with real React.

let page: ReactPage;
beforeAll(async () => {
  page = await startReactPage();
});
afterEach(() => page.endTest());
afterAll(() => page.close());

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
  const client = page.clientOf();
  await add(client, "counted", "a", "b");
  sessions.clear();
  const text = page.show(elementFor(client, createElement(Chat, { sessionId: "counted" })));
  await expect.poll(text).toBe("[USER stored: a][ASSISTANT stored: b]");
  const [first, second] = chat.messages;
  expect([renders.get(first?.id ?? ""), renders.get(second?.id ?? "")]).toEqual([1, 1]);

  page.openai.behave({ kind: "gated", tokens: ["one", " two", " three"] });
  const { replyId } = await chat.send("Count.");
  await expect.poll(text).toContain("[USER stored: Count.][ASSISTANT streaming: ]");
  for (const so of ["one", "one two", "one two three"]) {
    page.openai.release();
    await expect.poll(text).toContain(`[ASSISTANT streaming: ${so}]`);
  }
  page.openai.releaseAll();
  await expect.poll(text).toContain("[USER stored: Count.][ASSISTANT stored: one two three]");
  expect([renders.get(first?.id ?? ""), renders.get(second?.id ?? "")]).toEqual([1, 1]);
  // It begins empty, grows three times, and is stored.
  expect(renders.get(replyId)).toBe(5);
  expect(sessions.size).toBe(1);
});

test("in StrictMode there is one stream, and a message is sent once", async () => {
  const frames: RawEvent[] = [];
  const client = page.clientOf(frames);
  const text = page.show(
    createElement(StrictMode, null, elementFor(client, createElement(Chat, { sessionId: "strict" }))),
  );
  await expect.poll(() => chat.connection).toBe("new");
  await chat.send("Hi! I'm Jim.");
  await expect.poll(text).toBe("[USER stored: Hi! I'm Jim.][ASSISTANT stored: Hello Jim!]");
  expect(frames.filter(({ text: frame }) => frame.includes("StreamWaiting"))).toHaveLength(1);
  expect(frames.filter(({ kind }) => kind === "open")).toHaveLength(1);
});

test("what a server has rendered is taken over as it is, and goes on live", async () => {
  const server = page.clientOf();
  await add(server, "rendered", "a", "b");
  const seed = JSON.parse(JSON.stringify(await server.load("rendered"))) as SessionSeed;
  const element = (client: ParleyClient) => elementFor(client, createElement(Chat, { sessionId: "rendered", seed }));
  const html = renderToString(element(server));
  expect(html).toContain("[USER stored: a]");
  expect(html).toContain("[ASSISTANT stored: b]");

  const errors: unknown[] = [];
  const text = page.show(element(page.clientOf()), html, { onRecoverableError: (error) => errors.push(error) });
  await add(server, "rendered", "c");
  await expect.poll(text).toBe("[USER stored: a][ASSISTANT stored: b][USER stored: c]");
  expect(errors).toEqual([]);
});

test("a selector's component renders only when what it selects is another value", async () => {
  const client = page.clientOf();
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
  const text = page.show(elementFor(client, createElement(Count), createElement(Both)));
  await expect.poll(text).toBe("1;1 unread");
  const before = renders.get("length");
  await client.session("selected").update({ title: "renamed" });
  await client.session("selected").markRead();
  await expect.poll(text).toBe("1;0 unread");
  expect(renders.get("length")).toBe(before);
});

test("markRead waits until the page is visible; autoTitle asks once, from the page that sent the message", async () => {
  const makePage = (visibilityState: string) =>
    Object.defineProperty(page.window.document, "visibilityState", { configurable: true, value: visibilityState });
  makePage("hidden");
  const client = page.clientOf();
  await add(client, "seen", "a");
  page.show(elementFor(client, createElement(Chat, { sessionId: "seen", markRead: true, autoTitle: true })));
  await expect.poll(() => chat.unread).toBe(1);
  const { requests } = page.openai;
  await chat.send("Hi! I'm Jim.");
  await expect.poll(() => chat.session?.title).not.toBeNull();
  expect(chat.unread).toBe(1);
  expect(requests.filter(({ body }) => body["stream"] !== true)).toHaveLength(1);
  makePage("visible");
  page.window.document.dispatchEvent(new page.window.Event("visibilitychange"));
  await expect.poll(() => chat.unread).toBe(0);
});

test("another session takes the place of the first one, and the list of sessions is live", async () => {
  const client = page.clientOf();
  const metadata = { of: "react" };
  await client.create({ sessionId: "one", title: "One", metadata });
  let choose: (id: string) => void = () => undefined;
  const App = () => {
    const [sessionId, setSessionId] = useState("one");
    choose = setSessionId;
    const { sessions: list } = useParleySessions({ metadata });
    return [list.map(({ title }) => `${title ?? ""};`), createElement(Chat, { key: "chat", sessionId })];
  };
  const text = page.show(elementFor(client, createElement(App)));
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
