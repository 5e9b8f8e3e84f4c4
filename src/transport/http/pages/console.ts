import { readFile } from "node:fs/promises";

import { endpointPath } from "../../../operations/yoga-engine.ts";
import { hashesOf, Page } from "./page.ts";

/** The same place for the sources and for what is built of them. */
const built = new URL("../../../../dist/console/console.html", import.meta.url);

export const consolePath = "/console";

/** packages/console, built into one file: a chat, and what goes over the wire meanwhile. It writes no HTML from text. */
export function createConsolePage(graphiql: boolean, file: URL = built): Page {
  const known = `data-endpoint="${endpointPath}" data-graphiql="${graphiql ? "on" : "off"}"`;
  return new Page(
    async () => (await readFile(file, "utf8")).replace('<html lang="en"', `$& ${known}`),
    (html) => [
      `style-src ${hashesOf(html, "style")}`,
      "img-src data:",
      "require-trusted-types-for 'script'",
      "trusted-types 'none'",
    ],
  );
}

export async function answerConsole(page: Page, method: string): Promise<Response> {
  if (method !== "GET") return new Response("Method not allowed\n", { status: 405, headers: { allow: "GET, HEAD" } });
  try {
    return new Response(await page.html(), { headers: { "content-type": "text/html; charset=utf-8" } });
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ENOENT") throw error; // of readFile
    // `npm ci --ignore-scripts`, or an installation without what builds it.
    return new Response("The console is not built yet. In the checkout, run: npm run build:console\n", { status: 503 });
  }
}
