import axe from "axe-core";
import type { Page } from "playwright-core";

import type { Visitor } from "./browser-test.ts";

// The console as a test drives it.

/** The console with this session. */
export async function openConsole(visitor: Visitor, endpoint: string, sessionId: string): Promise<Page> {
  return visitor.open(new URL(`/console?session=${encodeURIComponent(sessionId)}`, endpoint).href);
}

export const composer = (page: Page) => page.getByRole("textbox", { name: "Message", exact: true });
export const messages = (page: Page) => page.getByRole("article");
/** What each message says, as it is shown. */
export const shown = (page: Page) => page.locator("article .body").allTextContents();

export async function say(page: Page, text: string): Promise<void> {
  await composer(page).fill(text);
  await composer(page).press("Enter");
}

/** What axe-core finds that is serious. */
export async function seriousFindings(page: Page): Promise<readonly string[]> {
  await page.evaluate(axe.source);
  return page.evaluate<string[]>(`axe.run().then(({ violations }) => violations
    .filter(({ impact }) => impact === "serious" || impact === "critical")
    .map(({ id, nodes }) => id + ": " + nodes.map(({ target, any }) => target + " " + (any[0]?.message ?? "")).join("; ")))`);
}
