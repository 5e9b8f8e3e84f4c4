import { chromium } from "playwright-core";
import type { Browser, BrowserContext, Page } from "playwright-core";
import { inject, test } from "vitest";

import { startRedis } from "../redis/redis-server.ts";
import type {} from "./unpack-chromium.ts";

/** A visitor: a browser's context, whose tabs share storage and nothing else. */
export interface Visitor {
  readonly context: BrowserContext;
  open(url: string): Promise<Page>;
  /** A problem of this kind is what the test is about. */
  expectProblem(kind: RegExp): void;
}

/** A machine that is busy with other tests keeps within it. */
const slowMs = 120_000;

/** Run in each page, ahead of its own scripts. As text: tests are compiled without a page's types. */
const reportViolations = `document.addEventListener("securitypolicyviolation", ({ violatedDirective, blockedURI }) =>
  reportProblem(violatedDirective + " forbids " + blockedURI))`;

/**
 * Tests with a real Chromium, one for the whole file, and a Redis, where it is asked for. `visitor` is new for each test, which
 * fails where one of its pages throws, writes an error to its console or breaks its Content-Security-Policy.
 */
export const browserTest = test
  .extend("redis", { scope: "file" }, async ({}, { onCleanup }) => {
    const redis = await startRedis({ appendonly: false });
    onCleanup(() => redis.stop());
    return redis;
  })
  .extend("browser", { scope: "file" }, async ({}, { onCleanup }): Promise<Browser> => {
    const { executablePath, env } = inject("chromium");
    const browser = await chromium.launch({
      executablePath,
      env,
      timeout: slowMs,
      // A container's root may not use the sandbox, and its /dev/shm is small.
      args: ["--no-sandbox", "--no-zygote", "--disable-gpu", "--disable-dev-shm-usage"],
    });
    onCleanup(() => browser.close());
    return browser;
  })
  .extend("visitor", async ({ browser }, { onCleanup }): Promise<Visitor> => {
    const problems: string[] = [];
    const expected: RegExp[] = [];
    const context = await browser.newContext({ viewport: { width: 1440, height: 900 } });
    context.setDefaultTimeout(slowMs);
    await context.exposeFunction("reportProblem", (problem: string) => void problems.push(problem));
    await context.addInitScript({ content: reportViolations });
    context.on("weberror", (error) => problems.push(String(error.error())));
    context.on("console", (message) => {
      if (message.type() === "error") problems.push(message.text());
    });
    onCleanup(async () => {
      await context.close();
      const others = problems.filter((problem) => !expected.some((kind) => kind.test(problem)));
      if (others.length > 0) throw new Error(`A page had problems:\n${others.join("\n")}`);
    });
    return {
      context,
      async open(url) {
        const page = await context.newPage();
        await page.goto(url);
        return page;
      },
      expectProblem: (kind) => void expected.push(kind),
    };
  });
