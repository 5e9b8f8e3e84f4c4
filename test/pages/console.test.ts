import type { Page } from "playwright-core";
import { beforeAll, describe, expect } from "vitest";

import { buildConsole } from "../../scripts/build-console.ts";
import { browserTest } from "../support/browser/browser-test.ts";
import { composer, messages, openConsole, say, seriousFindings, shown } from "../support/browser/console-page.ts";
import { startGateway } from "../support/gateway/gateway.ts";
import { execute } from "../support/gateway/graphql-client.ts";
import { startOpenAI } from "../support/model/openai-server.ts";
import { command } from "../support/redis/redis-command.ts";

// The console in a real Chromium, against the real gateway. Each test fails as well where a page breaks its policy, throws or
// writes an error to its console: see browserTest.

/** By what they show. */
const people: Readonly<Record<string, { readonly subject: string; readonly scopes: readonly string[] }>> = {
  "Bearer all-of-it": { subject: "ada", scopes: ["chat:read", "chat:write"] },
  "Bearer reading": { subject: "ada", scopes: ["chat:read"] },
};

const test = browserTest
  .extend("openai", { scope: "file" }, async ({}, { onCleanup }) => {
    const openai = await startOpenAI();
    onCleanup(() => openai.close());
    return openai;
  })
  .extend("start", { scope: "file" }, ({ redis, openai }) => (more: object = {}) => {
    const provider = { apiKey: "sk-x", baseUrl: openai.baseUrl };
    return startGateway({ redis: redis.url, model: "openai:small", openai: provider, ...more });
  })
  .extend("gateway", { scope: "file" }, async ({ start }, { onCleanup }) => {
    const gateway = await start();
    onCleanup(() => gateway.close());
    return gateway;
  })
  .extend("guarded", { scope: "file" }, async ({ start }, { onCleanup }) => {
    const gateway = await start({
      authenticate: ({ headers }: { headers: Headers }) => people[headers.get("authorization") ?? ""] ?? null,
    });
    onCleanup(() => gateway.close());
    return gateway;
  })
  .extend("rested", { auto: true }, ({ openai }, { onCleanup }) => {
    onCleanup(() => {
      openai.releaseAll();
      openai.behave(null);
    });
  });

beforeAll(buildConsole);

const badge = (page: Page) => page.locator(".chat-header").getByRole("status");
const event = (page: Page, name: string) => page.locator(".event", { has: page.getByText(name, { exact: true }) });

async function historyOf(endpoint: string, sessionId: string): Promise<readonly string[]> {
  const { session } = await execute<{ session: { messages: { nodes: { text: string }[] } } }>(
    endpoint,
    `{ session(sessionId: "${sessionId}") { messages(last: 50) { nodes { text } } } }`,
  );
  return session.messages.nodes.map(({ text }) => text);
}

async function add(endpoint: string, sessionId: string, texts: readonly string[]): Promise<void> {
  const list = texts.map((text, index) => ({ role: index % 2 === 0 ? "USER" : "ASSISTANT", text }));
  const mutation = "mutation ($input: AddMessagesInput!) { addMessages(input: $input) { session { id } } }";
  await execute(endpoint, mutation, { input: { sessionId, messages: list } });
}

test("Enter sends, Shift+Enter breaks the line; the tape has each event, and Inspect the bytes in Redis", async ({
  gateway,
  redis,
  visitor,
}) => {
  const page = await openConsole(visitor, gateway.url, "sent");
  await composer(page).fill("Hi! I'm Jim.");
  await composer(page).press("Shift+Enter");
  await composer(page).pressSequentially("Really.");
  expect(await composer(page).inputValue()).toBe("Hi! I'm Jim.\nReally.");
  await composer(page).press("Enter");
  await expect.poll(() => shown(page)).toEqual(["Hi! I'm Jim.\nReally.", "Hello Jim!"]);
  expect(await composer(page).inputValue()).toBe("");
  for (const name of ["StreamWaiting", "StreamOpened", "RunChanged", "MessageAdded"]) {
    await event(page, name).first().waitFor();
  }
  await messages(page).last().getByRole("button", { name: "Inspect" }).click();
  const stored = page.getByRole("group", { name: "The message as it is stored" });
  const [row = ""] = await command<string[]>(redis, "LRANGE", "sent", "0", "0");
  await expect.poll(async () => JSON.parse((await stored.textContent()) ?? "") as unknown).toEqual(JSON.parse(row));
});

describe("a reply that is being made", () => {
  test("goes on over a reload", async ({ gateway, openai, visitor }) => {
    openai.behave({ kind: "gated", tokens: ["one", " two", " three"] });
    const before = openai.requests.length;
    const page = await openConsole(visitor, gateway.url, "reloaded");
    await say(page, "Count.");
    openai.release();
    await expect.poll(() => shown(page)).toEqual(["Count.", "one"]);
    await page.reload();
    await expect.poll(() => shown(page)).toEqual(["Count.", "one"]);
    openai.releaseAll();
    await expect.poll(() => shown(page)).toEqual(["Count.", "one two three"]);
    expect(await historyOf(gateway.url, "reloaded")).toEqual(["Count.", "one two three"]);
    expect(openai.requests.length - before).toBe(1);
  });

  test("goes on over a cut, and nothing of it is lost or shown twice", async ({ gateway, openai, visitor }) => {
    openai.behave({ kind: "gated", tokens: ["one", " two", " three"] });
    const page = await openConsole(visitor, gateway.url, "cut");
    await say(page, "Count.");
    openai.release();
    await expect.poll(() => shown(page)).toEqual(["Count.", "one"]);
    await page.getByRole("checkbox", { name: "stay cut" }).check();
    await expect.poll(() => badge(page).textContent()).toBe("offline, trying again");
    openai.release();
    await page.getByRole("checkbox", { name: "stay cut" }).uncheck();
    await expect.poll(() => badge(page).textContent()).toBe("live");
    await expect.poll(() => shown(page)).toEqual(["Count.", "one two"]);
    await page.getByRole("button", { name: "Cut my connection" }).click();
    openai.releaseAll();
    await expect.poll(() => shown(page)).toEqual(["Count.", "one two three"]);
    await expect.poll(() => badge(page).textContent()).toBe("live");
    await page.getByRole("button", { name: "Chat", exact: true }).click();
    // More often where it was tried again meanwhile.
    await expect.poll(() => event(page, "Connection lost").count()).toBeGreaterThan(1);
  });

  test("is seen in a second tab, which writes as well", async ({ gateway, openai, visitor }) => {
    openai.behave({ kind: "gated", tokens: ["one", " two"] });
    const first = await openConsole(visitor, gateway.url, "tabs");
    const opening = visitor.context.waitForEvent("page");
    await first.getByRole("button", { name: "Second tab" }).click();
    const second = await opening;
    await expect.poll(() => badge(second).textContent()).toBe("new");
    await say(first, "Count.");
    openai.release();
    await expect.poll(() => shown(second)).toEqual(["Count.", "one"]);
    await say(second, "Again.");
    await expect.poll(() => shown(first)).toEqual(["Count.", "one", "Again."]);
    await first.getByText("waits for its turn").waitFor();
    openai.releaseAll();
    for (const page of [first, second]) {
      await expect.poll(() => shown(page)).toEqual(["Count.", "one two", "Again.", "one two"]);
    }
  });

  test("is stopped, down to the provider, and keeps the text that it had", async ({ gateway, openai, visitor }) => {
    openai.behave({ kind: "gated", tokens: ["one", " two"] });
    const aborted = openai.aborted;
    const page = await openConsole(visitor, gateway.url, "stopped");
    await say(page, "Count.");
    openai.release();
    await expect.poll(() => shown(page)).toEqual(["Count.", "one"]);
    await page.getByRole("button", { name: "Stop" }).click();
    await messages(page).last().getByText("stopped").waitFor();
    expect(await historyOf(gateway.url, "stopped")).toEqual(["Count.", "one"]);
    await openai.waitForAbort(aborted + 1);
  });

  test("shows what the model thinks, folded", async ({ gateway, openai, visitor }) => {
    openai.behave({ kind: "reply", reasoning: ["Is it", " so?"], text: "It is." });
    const page = await openConsole(visitor, gateway.url, "thought");
    await say(page, "Is it?");
    await page.getByText("It is.", { exact: true }).waitFor();
    const thought = messages(page).last().getByText("Is it so?");
    expect(await thought.isVisible()).toBe(false);
    await messages(page).last().getByText("Reasoning").click();
    await thought.waitFor();
  });
});

test("a reply that failed says why, and is tried again; what waits is taken out of the queue", async ({
  gateway,
  openai,
  visitor,
}) => {
  const page = await openConsole(visitor, gateway.url, "failed");
  openai.next("context_length");
  await say(page, "Too long.");
  await messages(page).last().getByText("failed: CONTEXT_TOO_LONG").waitFor();
  openai.behave({ kind: "gated", tokens: ["one"] });
  await messages(page).last().getByRole("button", { name: "Try again" }).click();
  await page.getByRole("button", { name: "Stop" }).waitFor();
  await say(page, "Not this.");
  await page.getByText("waits for its turn").waitFor();
  await page.getByRole("button", { name: "Drop" }).click();
  await messages(page).nth(2).waitFor({ state: "detached" });
  openai.releaseAll();
  await expect.poll(() => shown(page)).toEqual(["Too long.", "one"]);
  await page.getByRole("button", { name: "Stop" }).waitFor({ state: "detached" });
  expect(await historyOf(gateway.url, "failed")).toEqual(["Too long.", "one"]);
});

test("a message is edited twice, and a reply is made anew", async ({ gateway, visitor }) => {
  const page = await openConsole(visitor, gateway.url, "edited");
  await say(page, "I am Ada.");
  await expect.poll(() => shown(page)).toEqual(["I am Ada.", "Hello Ada!"]);
  for (const name of ["Bob", "Eve"]) {
    await messages(page).first().hover();
    await messages(page).first().getByRole("button", { name: "Edit" }).click();
    await page.getByRole("textbox", { name: "Edit the message" }).fill(`I am ${name}.`);
    await page.getByRole("button", { name: "Save and send" }).click();
    await expect.poll(() => shown(page)).toEqual([`I am ${name}.`, `Hello ${name}!`]);
  }
  const [, reply] = await messages(page).all();
  const time = await reply?.locator("time").getAttribute("title");
  await messages(page).last().getByRole("button", { name: "Regenerate" }).click();
  await expect.poll(() => messages(page).last().locator("time").getAttribute("title")).not.toBe(time);
  await expect.poll(() => shown(page)).toEqual(["I am Eve.", "Hello Eve!"]);
  expect(await historyOf(gateway.url, "edited")).toEqual(["I am Eve.", "Hello Eve!"]);
});

test("a chat is forked at a message, and as a whole; the one that it came from stays as it is", async ({
  gateway,
  visitor,
}) => {
  const texts = ["a", "b", "c", "d"];
  await add(gateway.url, "forked", texts);
  const page = await openConsole(visitor, gateway.url, "forked");
  const sessionId = () => new URL(page.url()).searchParams.get("session") ?? "";
  await expect.poll(() => shown(page)).toEqual(texts);
  await messages(page).nth(1).hover();
  await messages(page).nth(1).getByRole("button", { name: "Fork here" }).click();
  await expect.poll(() => shown(page)).toEqual(["a", "b"]);
  const part = sessionId();
  await say(page, "Hi! I'm Jim.");
  await expect.poll(() => shown(page)).toEqual(["a", "b", "Hi! I'm Jim.", "Hello Jim!"]);
  await page.goBack();
  await expect.poll(() => shown(page)).toEqual(texts);
  expect(sessionId()).toBe("forked");
  await page.getByRole("button", { name: "More about this session" }).click();
  await page.getByRole("button", { name: "Fork the whole chat" }).click();
  await expect.poll(sessionId).not.toBe("forked");
  await expect.poll(() => shown(page)).toEqual(texts);
  const whole = sessionId();
  await page.reload();
  await expect.poll(() => shown(page)).toEqual(texts);
  const list = page.getByRole("navigation", { name: "Sessions" });
  for (const id of ["forked", part, whole]) await list.getByRole("link", { name: id }).waitFor();
  expect(await historyOf(gateway.url, "forked")).toEqual(texts);
  expect(await historyOf(gateway.url, part)).toEqual(["a", "b", "Hi! I'm Jim.", "Hello Jim!"]);
  expect(await historyOf(gateway.url, whole)).toEqual(texts);
});

test("Markdown becomes elements; HTML, pictures and links that do more than lead somewhere stay text", async ({
  gateway,
  visitor,
}) => {
  const text = [
    "## Title",
    "A **bold** `word` &amp; [a link](https://example.com/a?b=c).",
    "- [x] done",
    "<script>document.title = 'gone'</script> <b>not bold</b>",
    "![a picture](https://example.com/x.png) [run](javascript:alert(1)) [data](data:text/html,x)",
    "| a | b |\n| --- | --- |\n| 1 | 2 |",
    "```js\nconst a = '<img src=x>';\n```",
  ].join("\n\n");
  await add(gateway.url, "markdown", ["Show me.", text]);
  const page = await openConsole(visitor, gateway.url, "markdown");
  const body = page.locator(".markdown");
  await body.getByRole("heading", { name: "Title" }).waitFor();
  expect(await body.locator("strong").allTextContents()).toEqual(["bold"]);
  expect(await body.locator(":not(pre) > code").allTextContents()).toEqual(["word"]);
  expect(await body.locator("pre").allTextContents()).toEqual(["const a = '<img src=x>';"]);
  expect(await body.locator("td").allTextContents()).toEqual(["1", "2"]);
  expect(await body.getByRole("checkbox").isChecked()).toBe(true);
  expect(await body.locator("img, script, b, iframe").count()).toBe(0);
  const links = await Promise.all(
    (await body.locator("a").all()).map(async (link) => [
      await link.getAttribute("href"),
      await link.getAttribute("rel"),
    ]),
  );
  expect(links).toEqual([
    ["https://example.com/a?b=c", "noopener noreferrer"],
    ["https://example.com/x.png", "noopener noreferrer"],
  ]);
  expect(await body.textContent()).toContain("A bold word & a link.");
  expect(await body.textContent()).toContain("<b>not bold</b>");
  expect(await page.title()).toBe("Parley console");
});

test("sessions are searched by title and put into the archive, live", async ({ gateway, visitor }) => {
  const page = await openConsole(visitor, gateway.url, "one");
  await execute(
    gateway.url,
    `mutation { a: createSession(input: { sessionId: "one", title: "Plans for Rome" }) { session { id } }
      b: createSession(input: { sessionId: "two", title: "Notes on Oslo" }) { session { id } } }`,
  );
  const list = page.getByRole("navigation", { name: "Sessions" });
  const link = (name: string) => list.getByRole("link", { name });
  await link("Notes on Oslo").waitFor();
  await page.getByRole("searchbox", { name: "Search by title" }).fill("rome");
  await link("Notes on Oslo").waitFor({ state: "detached" });
  await link("Plans for Rome").waitFor();
  await page.getByRole("searchbox", { name: "Search by title" }).fill("");
  await add(gateway.url, "two", ["a", "b"]);
  await link("Notes on Oslo").getByText("2 unread").waitFor();
  await link("Notes on Oslo").click();
  await expect.poll(() => shown(page)).toEqual(["a", "b"]);
  expect(new URL(page.url()).searchParams.get("session")).toBe("two");
  await page.getByRole("button", { name: "More about this session" }).click();
  await page.getByRole("button", { name: "Archive", exact: true }).click();
  await link("Notes on Oslo").waitFor({ state: "detached" });
  await list.getByRole("button", { name: "Archived" }).click();
  await link("Notes on Oslo").waitFor();
});

test("a long history keeps its place while older messages come, and few elements", async ({ gateway, visitor }) => {
  const texts = Array.from(
    { length: 600 },
    (_, index) => `Number ${index}. ${"It goes on. ".repeat((index * 7) % 11)}`,
  );
  await add(gateway.url, "long", texts);
  const older = Promise.withResolvers<undefined>();
  await visitor.context.route("**/graphql", async (route) => {
    if (route.request().postData()?.includes("ParleyOlder") === true) await older.promise;
    // The page may be gone by then.
    await route.continue().catch(() => undefined);
  });
  const page = await openConsole(visitor, gateway.url, "long");
  await page.getByText("Number 599.").waitFor();
  const view = page.getByRole("region", { name: "Messages" });
  const scrollTo = (top: number) => page.evaluate(`document.querySelector(".chat .scroller").scrollTop = ${top}`);
  const scrollHeight = () => page.evaluate<number>(`document.querySelector(".chat .scroller").scrollHeight`);
  /** The first row in view, and where it is, once two frames in a row agree. */
  const first = () =>
    page.evaluate<{ text: string; top: number }>(`new Promise((resolve) => {
      let before = "";
      const look = () => {
        const { top } = document.querySelector(".chat .scroller").getBoundingClientRect();
        const row = [...document.querySelectorAll("article")].find((one) => one.getBoundingClientRect().bottom > top + 1);
        const found = { text: row?.querySelector(".body").textContent, top: row?.getBoundingClientRect().top };
        if (JSON.stringify(found) === before) return resolve(found);
        before = JSON.stringify(found);
        requestAnimationFrame(look);
      };
      look();
    })`);
  // More than once, if need be: a view that is still being filled goes to its end.
  await expect
    .poll(async () => {
      await scrollTo(300);
      return (await first()).text;
    })
    .toMatch(/^Number 55\d/);
  const [before, height] = [await first(), await scrollHeight()];
  older.resolve(undefined);
  await expect.poll(scrollHeight).toBeGreaterThan(height + 1000);
  const after = await first();
  expect(after.text).toBe(before.text);
  expect(Math.abs(after.top - before.top)).toBeLessThan(2);
  let most = 0;
  await expect
    .poll(async () => {
      await scrollTo(0);
      most = Math.max(most, await view.locator("*").count());
      return (await first()).text;
    })
    .toBe(texts[0]);
  expect(most).toBeLessThan(300);
  await page.getByRole("button", { name: "Newest" }).click();
  await page.getByText("Number 599.").waitFor();
});

test("each operation is listed with its text, variables and time, and opens in GraphiQL", async ({
  gateway,
  visitor,
}) => {
  const page = await openConsole(visitor, gateway.url, "operations");
  await say(page, "Hi! I'm Jim.");
  await expect.poll(() => shown(page)).toEqual(["Hi! I'm Jim.", "Hello Jim!"]);
  await page.getByRole("tab", { name: /^Operations/ }).click();
  await event(page, "ParleySend").click();
  await event(page, "ParleySend")
    .getByText(/^\d+(\.\d+)? m?s$/)
    .waitFor();
  const detail = page.getByRole("region", { name: "Operation ParleySend" });
  const text = (await detail.getByRole("group", { name: "The operation's text" }).textContent()) ?? "";
  expect(text).toContain("mutation ParleySend($input:SendMessageInput!) {\n  sendMessage(input:$input) {\n    run {");
  const address = new URL(
    (await detail.getByRole("link", { name: "GraphiQL" }).getAttribute("href")) ?? "",
    gateway.url,
  );
  expect(address.pathname).toBe("/graphql");
  expect(address.searchParams.get("query")).toBe(text);
  const variables = JSON.parse(address.searchParams.get("variables") ?? "") as { input: object };
  expect(variables.input).toMatchObject({ sessionId: "operations", content: [{ text: "Hi! I'm Jim." }] });
});

describe("with authentication", () => {
  test("it asks for a token; a new chat gets an id of the owner's, and a reader cannot write", async ({
    guarded: gateway,
    visitor,
  }) => {
    visitor.expectProblem(/status of 401/);
    const signIn = async (page: Page, token: string) => {
      await page.getByLabel("Token or key").fill(token);
      await page.getByRole("button", { name: "Sign in" }).click();
    };
    const page = await visitor.open(new URL("/console", gateway.url).href);
    await page.getByText("asks for a token").waitFor();
    await signIn(page, "wrong");
    await page.getByText("These credentials are not valid").waitFor();
    await signIn(page, "all-of-it");
    await say(page, "Hi! I'm Ada.");
    await expect.poll(() => shown(page)).toEqual(["Hi! I'm Ada.", "Hello Ada!"]);
    expect(new URL(page.url()).searchParams.get("session")).toMatch(/^ada:/);

    await page.getByRole("button", { name: "Sign out" }).click();
    await signIn(page, "reading");
    await expect.poll(() => shown(page)).toEqual(["Hi! I'm Ada.", "Hello Ada!"]);
    await page.getByText("lacks the scope chat:write").waitFor();
    expect(await composer(page).count()).toBe(0);
    await messages(page).last().hover();
    expect(await messages(page).last().getByRole("button").allTextContents()).toEqual(["Inspect"]);
  });
});

describe.each(["light", "dark"] as const)("in %s colours", (colorScheme) => {
  test("axe-core finds nothing serious, and no width has a horizontal scroll bar", async ({
    gateway,
    openai,
    visitor,
  }) => {
    openai.behave({ kind: "gated", tokens: ["one", " `two`"] });
    await add(gateway.url, `axe-${colorScheme}`, [
      "Hi.",
      "## Title\n\n- a\n\n```js\nlet averylongnameofavariable = 'and a long text that does not fit';\n```\n\n| a | b |\n| - | - |\n| 1 | 2 |",
    ]);
    const page = await openConsole(visitor, gateway.url, `axe-${colorScheme}`);
    await page.emulateMedia({ colorScheme, reducedMotion: "reduce" });
    await page.locator(".markdown").first().waitFor();
    await say(page, "Count.");
    await say(page, "And wait.");
    openai.release();
    await page.getByText("waits for its turn").waitFor();
    for (const name of ["Events", "Operations", "Inspect"]) {
      await page.getByRole("tab", { name: new RegExp(`^${name}`) }).click();
      expect([name, await seriousFindings(page)]).toEqual([name, []]);
    }
    await page.getByRole("button", { name: "More about this session" }).click();
    await page.getByRole("button", { name: "Settings" }).click();
    await page.getByLabel("Instructions to the model").waitFor();
    expect(await seriousFindings(page)).toEqual([]);
    await page.keyboard.press("Escape");
    for (const width of [360, 768, 1440]) {
      await page.setViewportSize({ width, height: 800 });
      expect(await page.evaluate("document.documentElement.scrollWidth")).toBe(width);
    }
  });
});
