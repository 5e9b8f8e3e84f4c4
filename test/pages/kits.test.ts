import { createElement, StrictMode } from "react";
import type { ReactNode } from "react";
import { afterAll, afterEach, beforeAll, expect, test } from "vitest";

import type { ParleyClient } from "../../packages/client/src/client.ts";
import { useParleyChat } from "../../packages/client/src/kits/ai-sdk-react.ts";
import type { ParleyChatHelpers } from "../../packages/client/src/kits/ai-sdk-react.ts";
import { elementFor, startReactPage } from "../support/gateway/react-page.ts";
import type { ReactPage } from "../support/gateway/react-page.ts";

// The hooks for the AI SDK and for assistant-ui, with those packages.

let page: ReactPage;
beforeAll(async () => {
  page = await startReactPage();
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
function chatTab(sessionId: string, client = page.clientOf()) {
  let chat: ParleyChatHelpers | undefined;
  const Tab = (): ReactNode => {
    chat = useParleyChat(sessionId);
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
  const refused = Promise.resolve(chat().addToolOutput({ tool: "x", toolCallId: "x", output: "x" }));
  await expect(refused).rejects.toThrow("A reply of Parley's takes no tool outputs or approvals.");
});
