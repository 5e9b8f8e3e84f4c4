import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { fileURLToPath } from "node:url";

import type { Page } from "playwright-core";
import { build } from "vite";
import { describe, expect } from "vitest";

import { browserTest } from "../support/browser/browser-test.ts";
import { startGateway } from "../support/gateway/gateway.ts";
import { execute } from "../support/gateway/graphql-client.ts";
import { payer } from "../support/model/agent-gateway.ts";
import { startOpenAI } from "../support/model/openai-server.ts";
import { pays, startTools } from "../support/model/paid-tools.ts";
import { command } from "../support/redis/redis-command.ts";

// The AI SDK's hook and assistant-ui's components in a real Chromium, in a page that Vite has built, over an agent whose calls
// wait for approvals. Neither kit has a way to approve with other arguments: ChatAddToolApproveResponseFunction takes
// { id, approved, reason, options }, and RespondToToolApprovalOptions { approvalId, approved, optionId, text, answers, reason }.
// The pages do that by parley-client itself.

/** The page of test/support/browser/kit-page.ts, in one file. */
async function kitPage(): Promise<string> {
  const entry = fileURLToPath(new URL("../support/browser/kit-page.ts", import.meta.url));
  const built = await build({
    ...{ configFile: false, logLevel: "error", root: fileURLToPath(new URL("../..", import.meta.url)) },
    define: { "process.env.NODE_ENV": '"production"' },
    build: { write: false, target: "es2023", lib: { entry, formats: ["iife"], name: "page" } },
  });
  const [bundle] = [built].flat();
  const code = bundle !== undefined && "output" in bundle ? bundle.output[0].code : "";
  // In HTML a script ends at the first "</script", also within a string.
  const script = code.replaceAll("</script", "<\\/script");
  return `<!doctype html><link rel="icon" href="data:,"><div id="root"></div><script>${script}</script>`;
}

const test = browserTest
  .extend("openai", { scope: "file" }, async ({}, { onCleanup }) => {
    const openai = await startOpenAI();
    onCleanup(() => openai.close());
    return openai;
  })
  .extend("tools", { scope: "file" }, async ({}, { onCleanup }) => {
    const tools = await startTools();
    onCleanup(() => tools.close());
    return tools;
  })
  .extend("gateway", { scope: "file" }, async ({ redis, openai, tools }, { onCleanup }) => {
    const gateway = await startGateway({
      ...{ redis: redis.url, model: "agent:careful", agents: payer(tools.url) },
      openai: { apiKey: "sk-x", baseUrl: openai.baseUrl },
      clientTools: true,
    });
    onCleanup(() => gateway.close());
    return gateway;
  })
  .extend("pages", { scope: "file" }, async ({ gateway }, { onCleanup }) => {
    const html = await kitPage();
    const server = createServer((_request, response) => {
      response.writeHead(200, { "content-type": "text/html; charset=utf-8" }).end(html);
    });
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    onCleanup(() => {
      server.closeAllConnections();
      server.close();
    });
    const { port } = server.address() as AddressInfo; // it listens to a port
    return (kit: string, session: string, model = "agent:careful") =>
      `http://127.0.0.1:${port}/?${new URLSearchParams({ kit, session, model, url: gateway.url }).toString()}`;
  })
  .extend("rested", { auto: true }, ({ openai }, { onCleanup }) => {
    onCleanup(() => {
      openai.releaseAll();
      openai.behave(null);
    });
  });

/** All that the chat says, without its buttons. */
const shown = (page: Page) =>
  page.locator("output").evaluate((output) => {
    const copy = output.cloneNode(true) as unknown as {
      querySelectorAll(name: string): { remove(): void }[];
      textContent: string;
    };
    for (const button of copy.querySelectorAll("button")) button.remove();
    return copy.textContent.replaceAll(/\s+/g, " ").trim();
  });
const click = (page: Page, name: string) => page.getByRole("button", { name, exact: true }).click();

async function say(page: Page, text: string, how = "Send"): Promise<void> {
  await page.getByRole("textbox", { name: "Message" }).fill(text);
  await click(page, how);
}

/** What it shows live, and after a reload. */
async function expectShown(pages: readonly Page[], text: string): Promise<void> {
  for (const page of pages) await expect.poll(() => shown(page)).toBe(text);
  const [page] = pages;
  await page?.reload();
  if (page !== undefined) await expect.poll(() => shown(page)).toBe(text);
}

// assistant-ui's ToolCallMessagePart does not tell whether its argsText is whole.
describe.each([
  ["useParleyChat", "writing"],
  ["assistant-ui", "working"],
])("%s", (kit, writing) => {
  test("reasoning and arguments stream into both tabs; the call is approved with other arguments, the next one rejected", async ({
    visitor,
    openai,
    tools,
    pages,
  }) => {
    const url = pages(kit, `calls-${kit}`);
    const tabs = [await visitor.open(url), await visitor.open(url)] as const;
    const call = { id: "call-Eve", name: "pay", arguments: ['{"to":', '"Eve"}'] };
    openai.next({ kind: "gated", reasoning: ["Hm."], tokens: ["Wait."], toolCalls: [call] });
    await say(tabs[0], "Pay Eve.");
    openai.release(3);
    await expectShown(tabs, `> Pay Eve.(Hm.)Wait. [${writing} {"to":]`);
    openai.release(2);
    await expectShown(tabs, '> Pay Eve.(Hm.)Wait. [asked {"to":"Eve"}]');
    openai.next({ kind: "reply", text: "It is paid." });
    await click(tabs[1], "Change");
    const first = '> Pay Eve.(Hm.)Wait. [done {"to":"Ada"} Paid Ada.] It is paid.';
    await expectShown(tabs, first);
    openai.next(pays("Bob"));
    await say(tabs[0], "Pay Bob.");
    await expect.poll(() => shown(tabs[1])).toBe(`${first}> Pay Bob.Let me see. [asked {"to":"Bob"}]`);
    openai.next({ kind: "reply", text: "Well." });
    await click(tabs[1], "Reject");
    const second = '> Pay Bob.Let me see. [failed {"to":"Bob"} The call was rejected: No.] Well.';
    await expectShown(tabs, `${first}${second}`);
    expect([tools.effects.includes("Ada"), tools.effects.includes("Bob")]).toEqual([true, false]);
  });

  test("a call is approved, one that fails says why, and a reply that waits is stopped", async ({
    visitor,
    openai,
    tools,
    pages,
  }) => {
    const tab = await visitor.open(pages(kit, `ends-${kit}`));
    openai.next(pays("Ann"));
    await say(tab, "Pay Ann.");
    await expectShown([tab], '> Pay Ann.Let me see. [asked {"to":"Ann"}]');
    const unknown = { id: "call-2", name: "no", arguments: "{}" };
    openai.next(
      { kind: "reply", text: "", finishReason: "tool_calls", toolCalls: [unknown] },
      { kind: "reply", text: "Paid." },
    );
    await click(tab, "Approve");
    const text = '> Pay Ann.Let me see. [done {"to":"Ann"} Paid Ann.] [failed {}';
    await expect.poll(() => shown(tab)).toMatch(/\] Paid\.$/);
    expect(await shown(tab)).toContain(text);
    const before = await shown(tab);
    openai.next(pays("Zoe"));
    await say(tab, "Pay Zoe.");
    await expect.poll(() => shown(tab)).toBe(`${before}> Pay Zoe.Let me see. [asked {"to":"Zoe"}]`);
    await click(tab, "Stop");
    await expectShown([tab], `${before}> Pay Zoe.Let me see.`);
    expect(tools.effects).not.toContain("Zoe");
  });

  test("a reply goes on after a reload, is stopped, made anew, and its message is edited twice; sources are links", async ({
    visitor,
    openai,
    redis,
    pages,
  }) => {
    const session = `turns-${kit}`;
    const url = pages(kit, session);
    const tabs = [await visitor.open(url), await visitor.open(url)] as const;
    openai.behave({ kind: "gated", tokens: ["one", " two"] });
    await say(tabs[0], "Count.");
    openai.release();
    await expectShown(tabs, "> Count.one");
    const { aborted } = openai;
    await click(tabs[1], "Stop");
    await openai.waitForAbort(aborted + 1);
    await expectShown(tabs, "> Count.one");
    openai.behave({ kind: "reply", text: "Another." });
    await click(tabs[0], "Again");
    await expectShown(tabs, "> Count.Another.");
    for (const name of ["Ada", "Eve"]) {
      openai.behave({ kind: "reply", text: `Hello ${name}!` });
      await say(tabs[1], `Hi! I'm ${name}.`, "Edit");
      await expectShown(tabs, `> Hi! I'm ${name}.Hello ${name}!`);
    }
    const annotations = [{ type: "citation", url: "https://example.org/", title: "Example" }];
    const content = [{ type: "text", text: "As they say: ", annotations }];
    const row = { type: "ai", data: { content, tool_calls: [], invalid_tool_calls: [], response_metadata: {} } };
    await command(redis, "LPUSH", session, JSON.stringify(row));
    await expectShown(tabs, "> Hi! I'm Eve.Hello Eve!As they say: Example");
    expect(await tabs[0].getByRole("link", { name: "Example" }).getAttribute("href")).toBe("https://example.org/");
  });

  test("of two tabs the one that sent carries the page's tool out, once, while the other is ready and follows; once it is loaded again, both offer the call to the user, as with a tool that has no function", async ({
    visitor,
    openai,
    pages,
  }) => {
    const url = pages(kit, `paged-${kit}`, "agent:paged");
    const tabs = [await visitor.open(url), await visitor.open(url)] as const;
    /** What each tab's show_map has shown. */
    const maps = () => Promise.all(tabs.map((tab) => tab.title()));
    const expectBusy = async (...busy: readonly number[]) => {
      for (const [at, tab] of tabs.entries()) await expect.poll(() => tab.locator("progress").count()).toBe(busy[at]);
    };
    const expectEnd = async (text: string, places: readonly string[], results: readonly string[]) => {
      for (const tab of tabs) await expect.poll(() => shown(tab)).toBe(text);
      const messages = openai.requests.at(-1)?.body["messages"] as readonly { role: string; content: unknown }[];
      const told = messages.filter(({ role }) => role === "tool").map(({ content }) => content);
      expect([await maps(), told]).toEqual([places, results]);
      await expectShown(tabs, text);
    };
    const calls = (name: string, id: string, place: string) =>
      openai.next(
        { kind: "gated", tokens: ["Hm."], toolCalls: [{ id, name, arguments: ['{"place":', `"${place}"}`] }] },
        { kind: "reply", text: "There." },
      );

    calls("show_map", "map-Rome", "Rome");
    openai.release(4);
    await say(tabs[0], "Rome?");
    const rome = '> Rome?Hm. [working {"place":"Rome"}]';
    await expect.poll(maps).toEqual(["Rome", ""]);
    for (const tab of tabs) await expect.poll(() => shown(tab)).toBe(rome);
    await expectBusy(1, 0);
    await expectShown([tabs[1]], rome);
    await expectBusy(1, 0);
    await click(tabs[0], "Finish");
    const first = '> Rome?Hm. [done {"place":"Rome"} It is shown.] There.';
    await expectEnd(first, ["Rome", ""], ["It is shown."]);

    calls("show_map", "map-Oslo", "Oslo");
    openai.release(2);
    await say(tabs[0], "Oslo?");
    await expectShown(tabs, `${first}> Oslo?Hm. [${writing} {"place":]`);
    openai.release(2);
    for (const tab of tabs) await expect.poll(() => shown(tab)).toBe(`${first}> Oslo?Hm. [working {"place":"Oslo"}]`);
    await expectBusy(0, 0);
    await click(tabs[1], "Answer");
    const second = `${first}> Oslo?Hm. [done {"place":"Oslo"} By hand.] There.`;
    await expectEnd(second, ["", ""], ["It is shown.", "By hand."]);

    calls("ask_user", "ask-Bonn", "Bonn");
    openai.release(4);
    await say(tabs[0], "Bonn?");
    await expectShown(tabs, `${second}> Bonn?Hm. [working {"place":"Bonn"}]`);
    await expectBusy(0, 0);
    await click(tabs[1], "Answer");
    const third = `${second}> Bonn?Hm. [done {"place":"Bonn"} By hand.] There.`;
    await expectEnd(third, ["", ""], ["It is shown.", "By hand.", "By hand."]);
  });
});

test("useChat with the transport alone: a reply goes on after a reload, is stopped, made anew, and its message is edited twice", async ({
  visitor,
  openai,
  pages,
}) => {
  const tab = await visitor.open(pages("useChat", "transport"));
  openai.behave({ kind: "gated", tokens: ["one", " two", " three"] });
  await say(tab, "Count.");
  openai.release();
  await expectShown([tab], "> Count.one");
  openai.release();
  await expect.poll(() => shown(tab)).toBe("> Count.one two");
  const { aborted } = openai;
  await click(tab, "Stop");
  await openai.waitForAbort(aborted + 1);
  await expectShown([tab], "> Count.one two");
  openai.behave({ kind: "reply", text: "Another." });
  await click(tab, "Again");
  await expectShown([tab], "> Count.Another.");
  for (const name of ["Ada", "Eve"]) {
    openai.behave({ kind: "reply", text: `Hello ${name}!` });
    await say(tab, `Hi! I'm ${name}.`, "Edit");
    await expect.poll(() => shown(tab)).toBe(`> Hi! I'm ${name}.Hello ${name}!`);
  }
  await expectShown([tab], "> Hi! I'm Eve.Hello Eve!");
});

test("assistant-ui's threads: older pages, a new one, renamed, opened in the other tab, its queue, deleted", async ({
  visitor,
  openai,
  gateway,
  pages,
}) => {
  const messages = Array.from({ length: 60 }, (_, n) => ({ role: n % 2 === 0 ? "USER" : "ASSISTANT", text: `n${n}` }));
  const fill = `mutation ($session: CreateSessionInput!, $messages: AddMessagesInput!) {
    createSession(input: $session) { session { id } }
    addMessages(input: $messages) { session { id } }
  }`;
  const sessionId = "threads";
  await execute(gateway.url, fill, { session: { sessionId, title: "Long" }, messages: { sessionId, messages } });
  const url = pages("threads", sessionId);
  const [tab, other] = [await visitor.open(url), await visitor.open(url)];
  const count = () => tab.locator("output [data-message-id]").count();
  await expect.poll(count).toBe(50);
  await click(tab, "Older");
  await expect.poll(count).toBe(60);
  expect(await shown(tab)).toMatch(/^> n0n1> n2/);

  await click(tab, "New");
  await expect.poll(() => shown(tab)).toBe("");
  openai.behave({ kind: "reply", text: "Hello Jim!" });
  await say(tab, "Hi! I'm Jim.");
  const first = "> Hi! I'm Jim.Hello Jim!";
  await expect.poll(() => shown(tab)).toBe(first);
  await tab.locator("[data-active]").waitFor();
  await say(tab, "Greetings", "Rename");
  await click(other, "Greetings");
  await expect.poll(() => shown(other)).toBe(first);

  openai.behave({ kind: "gated", tokens: ["one"] });
  await say(tab, "Count.");
  openai.release();
  for (const page of [tab, other]) await expect.poll(() => shown(page)).toBe(`${first}> Count.one`);
  const queue = (page: Page) => page.locator("aside p").allTextContents();
  for (const text of ["Again.", "Never."]) {
    await say(other, text);
    await expect.poll(async () => (await queue(tab)).at(-1)).toBe(`${text}Remove`);
  }
  await tab.locator("aside p").last().getByRole("button", { name: "Remove" }).click();
  for (const page of [tab, other]) await expect.poll(() => queue(page)).toEqual(["Again.Remove"]);
  openai.releaseAll();
  for (const page of [tab, other]) await expect.poll(() => shown(page)).toBe(`${first}> Count.one> Again.one`);

  const named = (page: Page, name: string) => page.getByRole("button", { name, exact: true });
  await click(tab, "Long");
  await expect.poll(() => shown(tab)).toMatch(/n59$/);
  const item = tab.locator("div", { has: named(tab, "Greetings") }).last();
  await item.getByRole("button", { name: "Delete" }).click();
  for (const page of [tab, other]) await expect.poll(() => named(page, "Greetings").count()).toBe(0);
  await expect.poll(() => shown(tab)).toMatch(/n59$/);
});
