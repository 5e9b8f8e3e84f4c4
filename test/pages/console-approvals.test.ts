import { tool } from "@langchain/core/tools";
import type { Page } from "playwright-core";
import { beforeAll, beforeEach, expect } from "vitest";
import { z } from "zod";

import { buildConsole } from "../../scripts/build-console.ts";
import { browserTest } from "../support/browser/browser-test.ts";
import { messages, openConsole, say, seriousFindings, shown } from "../support/browser/console-page.ts";
import { startGateway } from "../support/gateway/gateway.ts";
import { execute } from "../support/gateway/graphql-client.ts";
import { startOpenAI } from "../support/model/openai-server.ts";

// Calls of tools that wait for a decision, in the console: in a real Chromium, against the real gateway, whose agent is the
// offline model with a tool that needs approvals.

/** What the tool was called with. */
const noted: string[] = [];
beforeEach(() => void noted.splice(0));

const note = tool(
  ({ what }) => {
    noted.push(what);
    return `${noted.length} noted`;
  },
  { name: "note", description: "Notes something.", schema: z.object({ what: z.string() }) },
);

const test = browserTest
  .extend("openai", { scope: "file" }, async ({}, { onCleanup }) => {
    const openai = await startOpenAI();
    onCleanup(() => openai.close());
    return openai;
  })
  .extend("gateway", { scope: "file" }, async ({ redis, openai }, { onCleanup }) => {
    const careful = { tools: [note], approvals: ["note"], clientTools: true };
    const gateway = await startGateway({
      ...{ redis: redis.url, model: "agent:careful", autoTitle: false, clientTools: true },
      openai: { apiKey: "sk-x", baseUrl: openai.baseUrl },
      agents: { careful: { model: "offline", ...careful }, wordy: { model: "openai:small", ...careful } },
      authenticate: ({ headers }) => ({
        subject: "ada",
        scopes: headers.get("authorization") === "Bearer reading" ? ["chat:read"] : ["chat:read", "chat:write"],
      }),
    });
    onCleanup(() => gateway.close());
    return gateway;
  });

beforeAll(buildConsole);

const card = (page: Page) => page.getByRole("region", { name: "note waits for a decision" });
const given = async (page: Page) =>
  JSON.parse((await card(page).getByRole("group", { name: "Arguments of note" }).textContent()) ?? "") as unknown;
const button = (page: Page, name: string) => card(page).getByRole("button", { name, exact: true });
const answer = (text: string) => `The tool note answers: ${text}`;

test("a call that waits is there after a reload and in each tab, is approved in one of them, and begins once", async ({
  gateway,
  visitor,
}) => {
  const page = await openConsole(visitor, gateway.url, "ada:approved");
  const [other, elsewhere] = [
    await openConsole(visitor, gateway.url, "ada:approved"),
    await openConsole(visitor, gateway.url, "ada:elsewhere"),
  ];
  await say(page, 'Use note with {"what": "bread"}');
  const sidebar = elsewhere.getByRole("navigation", { name: "Sessions" });
  await sidebar.getByRole("link", { name: "ada:approved" }).getByText("to decide").waitFor();
  await page.reload();
  for (const tab of [page, other]) expect(await given(tab)).toEqual({ what: "bread" });
  await page.getByText(/^until \w/).waitFor();
  await page.getByRole("tab", { name: "Inspect" }).click();
  await page.locator(".inspector").getByText("WAITING").waitFor();
  await page.locator(".inspector").getByText("waits until").waitFor();
  for (const colorScheme of ["light", "dark"] as const) {
    await page.emulateMedia({ colorScheme, reducedMotion: "reduce" });
    expect([colorScheme, await seriousFindings(page)]).toEqual([colorScheme, []]);
  }
  expect(noted).toEqual([]);
  await button(other, "Approve").click();
  for (const tab of [page, other]) await expect.poll(async () => (await shown(tab)).at(-1)).toBe(answer("1 noted"));
  for (const tab of [page, other]) expect(await card(tab).count()).toBe(0);
  expect(noted).toEqual(["bread"]);
  await sidebar.getByRole("link", { name: "ada:approved" }).getByText("to decide").waitFor({ state: "detached" });
  // Who has decided writes on.
  const focused = () => other.evaluate("document.activeElement.getAttribute('aria-label')");
  await expect.poll(focused).toBe("Message");
});

test("the caret at the end of a text goes while the call behind it waits", async ({ gateway, openai, visitor }) => {
  const page = await openConsole(visitor, gateway.url, "ada:caret");
  const caret = () =>
    page.evaluate("getComputedStyle(document.querySelector('.streaming .markdown > p'), '::after').content");
  const call = { id: "call-1", name: "note", arguments: ['{"what":"bread"}'] };
  openai.behave({ kind: "gated", tokens: ["Let me see."], toolCalls: [call] });
  await page.getByRole("combobox", { name: "Model" }).selectOption("agent:wordy");
  await say(page, "Note bread.");
  openai.release();
  await page.getByText("Let me see.").waitFor();
  await expect.poll(caret).toBe('""');
  openai.releaseAll();
  await card(page).waitFor();
  await expect.poll(caret).toBe("none");
});

test("the arguments are edited as JSON, which the gateway checks: what it refuses can be made otherwise", async ({
  gateway,
  visitor,
}) => {
  const page = await openConsole(visitor, gateway.url, "ada:edited");
  await say(page, 'Use note with {"what": "bread"}');
  await button(page, "Edit").click();
  const field = card(page).getByRole("textbox", { name: "Arguments of note" });
  expect(JSON.parse(await field.inputValue())).toEqual({ what: "bread" });
  for (const broken of ["{", '["milk"]', ""]) {
    await field.fill(broken);
    expect([broken, await button(page, "Approve with these").isDisabled()]).toEqual([broken, true]);
  }
  await field.fill('{"what": 5}');
  await button(page, "Approve with these").click();
  await page.getByRole("alert").getByText(/what/).waitFor();
  expect(await field.inputValue()).toBe('{"what": 5}');
  for (const width of [360, 768, 1440]) {
    await page.setViewportSize({ width, height: 800 });
    expect(await page.evaluate("document.documentElement.scrollWidth")).toBe(width);
  }
  await field.fill('{"what": "milk"}');
  await field.press("Control+Enter");
  await expect.poll(async () => (await shown(page)).at(-1)).toBe(answer("1 noted"));
  expect(noted).toEqual(["milk"]);
});

test("with the keyboard a call is rejected with a reason, which the model is told; a reader decides nothing", async ({
  gateway,
  visitor,
}) => {
  const page = await openConsole(visitor, gateway.url, "ada:rejected");
  await say(page, 'Use note with {"what": "bread"}');
  await card(page).waitFor();
  await messages(page).last().focus();
  for (let i = 0; i < 5; i++) await page.keyboard.press("Tab");
  await page.keyboard.press("Enter");
  const focused = () => page.evaluate("document.activeElement.getAttribute('aria-label')");
  await expect.poll(focused).toBe("Why not");
  await page.keyboard.type("Not today.");
  expect(await card(page).getByRole("textbox").inputValue()).toBe("Not today.");
  await page.keyboard.press("Escape");
  await card(page).getByRole("textbox").waitFor({ state: "detached" });
  await expect.poll(() => page.evaluate("document.activeElement.tagName")).toBe("ARTICLE");

  const reader = await openConsole(visitor, gateway.url, "ada:rejected");
  await reader.evaluate("sessionStorage.setItem('parley-token', 'reading')");
  await reader.reload();
  expect(await given(reader)).toEqual({ what: "bread" });
  expect(await card(reader).getByRole("button").count()).toBe(0);

  await button(page, "Reject and say why").press("Enter");
  await expect.poll(focused).toBe("Why not");
  await page.keyboard.type("Not today.");
  await page.keyboard.press("Enter");
  for (const tab of [page, reader]) {
    await expect.poll(async () => (await shown(tab)).at(-1)).toBe(answer("The call was rejected: Not today."));
    await messages(tab).nth(-2).getByText("failed", { exact: true }).waitFor();
  }
  expect(noted).toEqual([]);
});

test("a call that a page would have to carry out is answered by hand, once, as done or failed", async ({
  gateway,
  visitor,
}) => {
  const page = await openConsole(visitor, gateway.url, "ada:map");
  const other = await openConsole(visitor, gateway.url, "ada:map");
  const waiting = (tab: Page) => tab.getByRole("region", { name: "show_map waits for a result" });
  const ask = async (text: string, place: string) => {
    const tools = [{ name: "show_map", description: "Shows a place.", parameters: { type: "object" } }];
    await execute(gateway.url, "mutation ($input: SendMessageInput!) { sendMessage(input: $input) { run { id } } }", {
      input: { sessionId: "ada:map", text: `Use show_map with {"place": "${place}"}`, tools },
    });
    await waiting(page).getByRole("button", { name: "Answer it" }).click();
    await waiting(page).getByRole("textbox", { name: "Result of show_map" }).fill(text);
  };
  const last = (tab: Page) => expect.poll(async () => (await shown(tab)).at(-1));

  await ask("It is shown.", "Rome");
  for (const tab of [page, other]) {
    await expect.poll(() => tab.locator(".badge.waiting").textContent()).toBe("waits for a result");
    await tab.getByText("show_map waits for a result.", { exact: true }).waitFor({ state: "attached" });
  }
  await waiting(page).getByRole("button", { name: "Give the result" }).click();
  for (const tab of [page, other]) await last(tab).toBe("The tool show_map answers: It is shown.");

  await ask("There is no such place.", "Atlantis");
  await waiting(page).getByRole("checkbox", { name: "It failed" }).check();
  // Begun in one tab, it may be answered in the other as well: whose answer comes first counts.
  await waiting(other).getByRole("button", { name: "Answer it" }).waitFor();
  expect(await seriousFindings(page)).toEqual([]);
  await waiting(page).getByRole("button", { name: "Give the result" }).click();
  for (const tab of [page, other]) {
    await last(tab).toBe("The tool show_map answers: There is no such place.");
    await messages(tab).nth(-2).getByText("failed", { exact: true }).waitFor();
  }
});
