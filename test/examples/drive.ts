import type { Browser, Page } from "playwright-core";

import type { Run } from "./packed-gateway.ts";

const question = "Hi! I'm Jim.";
const begin = "Hello Jim!";
const end = "ask me what your name is.";

/**
 * What somebody who tries a chat does: sends a message, sees the reply grow, loads the page again in its midst, sees it go on
 * to its end, and finds all of it in the history. Throws where one of them does not happen.
 * `image`: where a screenshot goes.
 */
export async function chat(browser: Browser, url: string, image: string | null): Promise<void> {
  const context = await browser.newContext({ viewport: { width: 760, height: 480 } });
  context.setDefaultTimeout(180_000);
  const problems: string[] = [];
  context.on("weberror", (error) => problems.push(String(error.error())));
  try {
    const page = await context.newPage();
    await page.goto(url);
    await send(page, question);
    await seen(page, begin, "The reply did not come");
    if (await has(page, end)) throw new Error("The reply was whole at once: it did not come word by word.");
    await page.reload();
    await seen(page, question, "After a reload in mid-reply the message was gone");
    await seen(page, end, "After a reload in mid-reply the reply did not go on");
    await page.reload();
    await seen(page, end, "After a reload the history was not there");
    const text = await shown(page);
    for (const once of [question, begin, end]) {
      const times = text.split(once).length - 1;
      // A list of threads may name one by its first message.
      if (once === question ? times < 1 : times !== 1) throw new Error(`"${once}" is shown ${times} times:\n${text}`);
    }
    if (problems.length > 0) throw new Error(`The page had problems:\n${problems.join("\n")}`);
    if (image !== null) await page.screenshot({ path: image });
  } finally {
    await context.close();
  }
}

/** Sends a message and clicks `button` once its reply has begun: the reply ends at the gateway, and stays as far as it was. */
export async function stop(
  browser: Browser,
  url: string,
  button: string,
  newestRun: () => Promise<Run | null>,
): Promise<void> {
  const context = await browser.newContext({ viewport: { width: 760, height: 480 } });
  context.setDefaultTimeout(180_000);
  try {
    const page = await context.newPage();
    await page.goto(url);
    await seen(page, end, "The history was not there");
    await send(page, "Tell me more about yourself.");
    const until = Date.now() + 90_000;
    const run = async (holds: (run: Run) => boolean): Promise<Run> => {
      const found = await newestRun();
      if (found !== null && holds(found)) return found;
      if (Date.now() > until) throw new Error(`The reply does not get there: ${JSON.stringify(found)}`);
      await new Promise((resolve) => setTimeout(resolve, 100));
      return run(holds);
    };
    await run(({ status, text }) => status === "RUNNING" && text !== "");
    await page.locator(button).last().click();
    const { status, text } = await run((ended) => ended.status !== "RUNNING");
    if (status !== "CANCELLED") throw new Error(`The reply was not stopped, but is ${status}: "${text}"`);
    await page.reload();
    await seen(page, text.trim(), "After a reload the text of the stopped reply was not there");
  } finally {
    await context.close();
  }
}

/** A page that a server has rendered takes no messages before its scripts have run. */
async function send(page: Page, text: string): Promise<void> {
  const box = page.getByRole("textbox").last();
  for (let tries = 0; tries < 40; tries++) {
    await box.fill(text);
    await box.press("Enter");
    for (const until = Date.now() + 5_000; Date.now() < until;) {
      if (await has(page, text)) return;
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
  }
  throw new Error(`The message does not appear:\n${await shown(page)}`);
}

const shown = (page: Page) => page.locator("body").innerText();

const has = async (page: Page, text: string) => (await shown(page)).includes(text);

async function seen(page: Page, text: string, problem: string): Promise<void> {
  const until = Date.now() + 90_000;
  while (!(await has(page, text))) {
    if (Date.now() > until) throw new Error(`${problem} ("${text}" is not in the page):\n${await shown(page)}`);
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}
