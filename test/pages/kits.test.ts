import { writeFile } from "node:fs/promises";
import { join } from "node:path";

import { AssistantRuntimeProvider, ThreadPrimitive } from "@assistant-ui/react";
import type { AssistantRuntime } from "@assistant-ui/react";
import { createElement, StrictMode, useState } from "react";
import type { ReactNode } from "react";
import { afterAll, afterEach, beforeAll, expect, test } from "vitest";

import type { PageTool, ParleyClient } from "../../packages/client/src/client.ts";
import { useParleyChat } from "../../packages/client/src/kits/ai-sdk-react.ts";
import type { ParleyChatHelpers } from "../../packages/client/src/kits/ai-sdk-react.ts";
import { useParleyRuntime, useParleyThreadList } from "../../packages/client/src/kits/assistant-ui.ts";
import { elementFor, startReactPage } from "../support/gateway/react-page.ts";
import type { ReactPage } from "../support/gateway/react-page.ts";
import { temporaryDirectory } from "../support/redis/server-process.ts";

// The hooks for the AI SDK and for assistant-ui, with those packages.

let page: ReactPage;
beforeAll(async () => {
  const file = join(await temporaryDirectory(), "agents.json");
  await writeFile(file, JSON.stringify({ agents: { paged: { model: "openai:small", clientTools: true } } }));
  page = await startReactPage({ AGENTS_FILE: file, CLIENT_TOOLS: "on" });
});
afterEach(() => page.endTest());
afterAll(() => page.close());

async function add(client: ParleyClient, sessionId: string, count: number): Promise<void> {
  const messages = Array.from({ length: count }, (_, n) => ({ role: n % 2 ? "ASSISTANT" : "USER", text: `n${n}` }));
  await client.request("mutation ($input: AddMessagesInput!) { addMessages(input: $input) { session { id } } }", {
    input: { sessionId, messages },
  });
}

/** A tab with useParleyChat: its text, and what the newest render was given. */
function chatTab(sessionId: string, client = page.clientOf(), tools?: readonly PageTool[]) {
  let chat: ParleyChatHelpers | undefined;
  const Tab = (): ReactNode => {
    chat = useParleyChat(sessionId, { tools });
    return [`${chat.status}:`, ...chat.messages.map(({ role, parts }) => `[${role} ${parts.map(shownPart).join("")}]`)];
  };
  const text = page.show(createElement(StrictMode, null, elementFor(client, createElement(Tab))));
  return {
    text,
    chat: () => {
      if (chat === undefined) throw new Error("It was not rendered yet.");
      return chat;
    },
  };
}

const shownPart = (part: ParleyChatHelpers["messages"][number]["parts"][number]) =>
  part.type === "reasoning" ? `(${part.text})` : part.type === "text" ? part.text : part.type;

test("useParleyChat: a second tab follows, a reload goes on, stop is for all, and reasoning streams", async () => {
  page.openai.behave({ kind: "gated", reasoning: ["Hm."], tokens: ["one", " two"] });
  const tabs = [chatTab("chat"), chatTab("chat")] as const;
  for (const { chat } of tabs) await expect.poll(() => chat().connection).toBe("new");
  const sent = tabs[0].chat().sendMessage({ text: "Count." });
  for (const { text } of tabs) await expect.poll(text).toBe("submitted:[user Count.][assistant ]");
  page.openai.release();
  for (const { text } of tabs) await expect.poll(text).toBe("streaming:[user Count.][assistant (Hm.)]");
  page.openai.release();
  const reloaded = chatTab("chat");
  for (const { text } of [...tabs, reloaded]) {
    await expect.poll(text).toBe("streaming:[user Count.][assistant (Hm.)one]");
  }
  await reloaded.chat().stop();
  for (const { text } of [...tabs, reloaded])
    await expect.poll(text).toMatch(/^ready:\[user Count.\]\[assistant .*one\]$/);
  await sent;
});

test("useParleyChat: made anew, edited twice, sent while another is answered; older pages come", async () => {
  const client = page.clientOf();
  await add(client, "long", 60);
  const { text, chat } = chatTab("long");
  await expect.poll(() => chat().messages.length).toBe(50);
  await chat().loadOlder();
  await expect.poll(() => [chat().messages.length, chat().hasOlder]).toEqual([60, false]);
  page.openai.behave({ kind: "reply", text: "Another." });
  await chat().regenerate();
  await expect.poll(text).toMatch(/^ready:.*\[user n58\]\[assistant Another\.\]$/);
  page.openai.behave(null);
  for (const name of ["Ada", "Eve"]) {
    await chat().sendMessage({ text: `Hi! I'm ${name}.`, messageId: chat().messages[0]?.id ?? "" });
    await expect.poll(text).toBe(`ready:[user Hi! I'm ${name}.][assistant Hello ${name}!]`);
  }
  page.openai.behave({ kind: "gated", tokens: ["one", " two"] });
  await chat().sendMessage({ text: "Count." });
  page.openai.release();
  await chat().sendMessage({ text: "Again." });
  await expect.poll(text).toMatch(/^streaming:.*\[user Count\.\]\[assistant one\]\[user Again\.\]$/);
  expect(chat().queued).toHaveLength(1);
  page.openai.behave(null);
  page.openai.releaseAll();
  await expect.poll(text).toMatch(/^ready:.*\[user Count\.\]\[assistant one two\]\[user Again\.\]\[assistant .+\]$/);
});

test("useParleyChat: what fails is told by error and rejects nothing; it is dismissed, or tried again", async () => {
  page.openai.behave({ kind: "errorFrame", code: "server_error" });
  const { text, chat } = chatTab("failed");
  await expect.poll(text).toBe("ready:");
  await chat().sendMessage({ text: "Hi! I'm Jim." });
  await expect.poll(text).toMatch(/^error:\[user Hi! I'm Jim\.\]\[assistant .*\]$/);
  expect(chat().error?.message).not.toBe("");
  chat().clearError();
  await expect.poll(() => [chat().status, chat().error]).toEqual(["ready", undefined]);
  page.openai.behave(null);
  await chat().regenerate();
  await expect.poll(text).toBe("ready:[user Hi! I'm Jim.][assistant Hello Jim!]");
  await chat().sendMessage({ text: "x", messageId: "nothing" });
  await expect
    .poll(() => [chat().status, chat().error?.message])
    .toEqual(["error", "That message is not in the chat any more."]);
  await chat().addToolOutput({ tool: "x", toolCallId: "x", output: "x" });
  await expect.poll(() => [chat().status, chat().error?.message]).toEqual(["error", "No run waits for this call now."]);
});

/** A tool of the page's. */
const tool: PageTool = { name: "show", description: "Shows it.", parameters: { type: "object" } };
const asks = (...ids: readonly string[]) =>
  page.openai.next(
    {
      ...{ kind: "reply", text: "Hm.", finishReason: "tool_calls" },
      toolCalls: ids.map((id) => ({ id, name: "show", arguments: "{}" })),
    },
    { kind: "reply", text: "Done." },
  );

test("useParleyChat: the user answers calls of the page's tool in either tab, by addToolOutput and its old name", async () => {
  const tabs = [chatTab("asked", page.clientOf(), [tool]), chatTab("asked", page.clientOf(), [tool])] as const;
  for (const { chat } of tabs) await expect.poll(() => chat().connection).toBe("new");
  asks("c1", "c2");
  await tabs[0].chat().sendMessage({ text: "Go." }, { body: { model: "agent:paged" } });
  for (const { text } of tabs)
    await expect.poll(text).toMatch(/^ready:\[user Go\.\]\[assistant Hm\.(dynamic-tool){2}\]$/);
  await tabs[1].chat().addToolOutput({ tool: "show", toolCallId: "c1", output: { ok: true } });
  const states = (at: 0 | 1) => {
    const parts = tabs[at].chat().messages.at(-1)?.parts ?? [];
    return parts.flatMap((part) => (part.type === "dynamic-tool" ? [[part.state, part.output ?? part.errorText]] : []));
  };
  for (const at of [0, 1] as const) {
    await expect
      .poll(() => states(at))
      .toEqual([
        ["output-available", '{"ok":true}'],
        ["input-available", undefined],
      ]);
  }
  // eslint-disable-next-line @typescript-eslint/no-deprecated -- it is there as long as the AI SDK has it
  await tabs[0].chat().addToolResult({ tool: "show", toolCallId: "c2", state: "output-error", errorText: "No." });
  for (const at of [0, 1] as const) {
    await expect.poll(tabs[at].text).toMatch(/^ready:.*Done\.\]$/);
    expect(states(at)).toEqual([
      ["output-available", '{"ok":true}'],
      ["output-error", "No."],
    ]);
  }
});

test("useParleyChat: the tab that sent carries the call out by itself, with the newest render's function, and is busy meanwhile", async () => {
  let end: ((what: string) => void) | null = null as ((what: string) => void) | null; // set by the tool, unseen by TypeScript
  const run = () => new Promise<string>((done) => (end = done));
  const tabs = [
    chatTab("carried", page.clientOf(), [{ ...tool, run }]),
    chatTab("carried", page.clientOf(), [{ ...tool, run }]),
  ] as const;
  for (const { chat } of tabs) await expect.poll(() => chat().connection).toBe("new");
  asks("c1");
  await tabs[0].chat().sendMessage({ text: "Go." }, { body: { model: "agent:paged" } });
  await expect.poll(tabs[0].text).toBe("streaming:[user Go.][assistant Hm.dynamic-tool]");
  await expect.poll(tabs[1].text).toBe("ready:[user Go.][assistant Hm.dynamic-tool]");
  await expect.poll(() => end).not.toBeNull();
  end?.("Shown.");
  for (const { text } of tabs) await expect.poll(text).toMatch(/^ready:.*Done\.\]$/);
});

/** A tab with assistant-ui's own components: its text, and the runtime of the newest render. */
function threadTab(first: string, client = page.clientOf(), tools?: readonly PageTool[]) {
  let runtime: AssistantRuntime | undefined;
  const Tab = (): ReactNode => {
    const [sessionId, setSessionId] = useState(first);
    const adapters = { threadList: useParleyThreadList(sessionId, setSessionId) };
    runtime = useParleyRuntime({ sessionId, adapters, tools });
    // assistant-ui's own component for a text shows it letter by letter.
    const messages = createElement(ThreadPrimitive.Messages, {
      children: ({ message }) => `[${message.role}]`,
    });
    return createElement(AssistantRuntimeProvider, { runtime }, messages);
  };
  const text = page.show(createElement(StrictMode, null, elementFor(client, createElement(Tab))));
  const now = () => {
    if (runtime === undefined) throw new Error("It was not rendered yet.");
    return runtime;
  };
  const lines = () =>
    now()
      .thread.getState()
      .messages.map(({ role, content, status }) => {
        const parts = content.map((part) =>
          part.type === "reasoning" ? `(${part.text})` : part.type === "text" ? part.text : part.type,
        );
        return `${role}${status === undefined ? "" : ` ${status.type}`}: ${parts.join("")}`;
      });
  return { text, now, lines };
}

const textOf = (content: string) => ({ role: "user" as const, content: [{ type: "text" as const, text: content }] });

test("assistant-ui: a reply streams in each tab, reasoning too; what is sent meanwhile is queued; stop keeps the text", async () => {
  page.openai.behave({ kind: "gated", reasoning: ["Hm."], tokens: ["one", " two"] });
  const tabs = [threadTab("thread"), threadTab("thread")] as const;
  const [tab, other] = tabs;
  for (const { text } of tabs) await expect.poll(text).toBe("");
  await expect.poll(() => tab.now().thread.getState().isLoading).toBe(false);
  tab.now().thread.append(textOf("Count."));
  page.openai.release();
  page.openai.release();
  for (const { lines } of tabs) await expect.poll(lines).toEqual(["user: Count.", "assistant running: (Hm.)one"]);
  for (const { text } of tabs) await expect.poll(text).toBe("[user][assistant]");
  expect(tab.now().thread.getState().isRunning).toBe(true);
  const queue = ({ now }: typeof tab) =>
    now()
      .thread.composer.getState()
      .queue.flatMap(({ parts }) => parts.map((part) => (part.type === "text" ? part.text : part.type)));
  other.now().thread.append(textOf("And on."));
  for (const one of tabs) await expect.poll(() => queue(one)).toEqual(["And on."]);
  other.now().thread.append(textOf("Never."));
  for (const one of tabs) await expect.poll(() => queue(one)).toEqual(["And on.", "Never."]);
  const [, never] = other.now().thread.composer.getState().queue;
  other.now().thread.composer.removeQueueItem(never?.id ?? "");
  for (const one of tabs) await expect.poll(() => queue(one)).toEqual(["And on."]);
  page.openai.behave({ kind: "reply", text: "three" });
  other.now().thread.cancelRun();
  for (const { lines } of tabs) {
    await expect
      .poll(lines)
      .toEqual([...["user: Count.", "assistant incomplete: one"], ...["user: And on.", "assistant complete: three"]]);
  }
});

test("assistant-ui: made anew, edited twice, a failure says why; older pages come", async () => {
  const client = page.clientOf();
  await add(client, "pages", 60);
  const { now, lines } = threadTab("pages");
  const messages = () => now().thread.getState().messages;
  await expect.poll(() => messages().length).toBe(50);
  const runtime = now().thread;
  await runtime.loadEarlier();
  await expect.poll(() => messages().length).toBe(60);
  page.openai.behave({ kind: "reply", text: "Another." });
  runtime.getMessageById(messages().at(-1)?.id ?? "").reload();
  await expect.poll(lines).toContain("assistant complete: Another.");
  expect(messages()).toHaveLength(60);
  page.openai.behave(null);
  for (const name of ["Ada", "Eve"]) {
    const composer = now().thread.getMessageById(messages()[0]?.id ?? "").composer;
    composer.beginEdit();
    composer.setText(`Hi! I'm ${name}.`);
    composer.send();
    await expect.poll(lines).toEqual([`user: Hi! I'm ${name}.`, `assistant complete: Hello ${name}!`]);
  }
  page.openai.behave({ kind: "errorFrame", code: "server_error" });
  now().thread.append(textOf("Count."));
  await expect.poll(() => messages().at(-1)?.status).toMatchObject({ type: "incomplete", reason: "error" });
});

test("assistant-ui: a call of the page's tool waits for addToolResult, in either tab; a tool with a function is carried out", async () => {
  /** Tools are there once the component is. */
  const tabOf = async (id: string, one: PageTool) => {
    const client = page.clientOf();
    const tab = threadTab(id, client, [one]);
    await expect.poll(() => client.session(id).getSnapshot().connection).toBe("new");
    return tab;
  };
  const tabs = [await tabOf("asked-thread", tool), await tabOf("asked-thread", tool)] as const;
  const custom = { model: "agent:paged" };
  asks("c1", "c2");
  tabs[0].now().thread.append({ ...textOf("Go."), runConfig: { custom } });
  const waiting = ["user: Go.", "assistant requires-action: Hm.tool-calltool-call"];
  for (const { lines, now } of tabs) {
    await expect.poll(lines).toEqual(waiting);
    expect(now().thread.getState().isRunning).toBe(false);
  }
  const part = (at: 0 | 1, callId: string) => {
    const message = tabs[at].now().thread.getMessageById(tabs[at].now().thread.getState().messages[1]?.id ?? "");
    return message.getMessagePartByToolCallId(callId);
  };
  part(1, "c1").addToolResult({ ok: true });
  const results = (at: 0 | 1) => {
    const [, message] = tabs[at].now().thread.getState().messages;
    const content = message?.role === "assistant" ? message.content : [];
    return content.flatMap((one) => (one.type === "tool-call" ? [[one.result, one.isError]] : []));
  };
  await expect
    .poll(() => results(0))
    .toEqual([
      ['{"ok":true}', false],
      [undefined, undefined],
    ]);
  part(0, "c2").addToolResult("Shown.");
  for (const { lines } of tabs) await expect.poll(() => lines().at(-1)).toBe("assistant complete: Done.");
  let carried = 0;
  const other = await tabOf("carried-thread", { ...tool, run: () => (carried += 1) });
  asks("c1");
  other.now().thread.append({ ...textOf("Go."), runConfig: { custom } });
  await expect.poll(() => other.lines().at(-1)).toBe("assistant complete: Done.");
  expect(carried).toBe(1);
});

test("assistant-ui: the list of threads is live: new, renamed, archived and deleted ones", async () => {
  const client = page.clientOf();
  const elsewhere = page.clientOf();
  await elsewhere.create({ sessionId: "first", title: "First", metadata: { color: "red" } });
  await add(elsewhere, "first", 1);
  const { now, lines } = threadTab("first", client);
  const state = () => now().threads.getState();
  const titles = (ids: readonly string[]) => ids.map((id) => state().threadItems[id]?.title);
  await expect.poll(() => titles(state().threadIds)).toContain("First");
  await expect.poll(lines).toEqual(["user: n0"]);
  const item = () => state().threadItems["first"];
  expect(item()?.custom).toMatchObject({ color: "red", running: false, unread: 1 });
  await elsewhere.session("first").update({ title: "Renamed" });
  await expect.poll(() => item()?.title).toBe("Renamed");
  await now().threads.getItemById("first").rename("Here");
  await expect.poll(() => item()?.title).toBe("Here");

  await now().threads.switchToNewThread();
  await expect.poll(lines).toEqual([]);
  now().thread.append(textOf("Hi! I'm Jim."));
  await expect.poll(lines).toEqual(["user: Hi! I'm Jim.", "assistant complete: Hello Jim!"]);
  const { mainThreadId } = state();
  await expect.poll(() => state().threadIds).toContain(mainThreadId);

  await now().threads.getItemById("first").archive();
  await expect.poll(() => [state().threadIds.includes("first"), state().archivedThreadIds]).toEqual([false, ["first"]]);
  await now().threads.getItemById("first").unarchive();
  await expect.poll(() => state().threadIds).toContain("first");
  await now().threads.switchToThread("first");
  await expect.poll(lines).toEqual(["user: n0"]);
  await now().threads.getItemById("first").delete();
  await expect.poll(() => state().threadIds.includes("first")).toBe(false);
  await expect.poll(lines).toEqual([]);
  expect(await elsewhere.load("first")).toMatchObject({ session: null });
});
