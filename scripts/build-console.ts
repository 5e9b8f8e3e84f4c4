/** `npm run build:console`, and part of `prepare` and `npm run build`: packages/console becomes one HTML file, dist/console/console.html. */
import { mkdirSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { dirname } from "node:path";
import { fileURLToPath } from "node:url";

import { build } from "vite";

const root = fileURLToPath(new URL("../packages/console/", import.meta.url));
const file = fileURLToPath(new URL("../dist/console/console.html", import.meta.url));

/** The whole page: its script and its style within it, nothing beside it. */
export async function consolePage(): Promise<string> {
  const built = await build({
    root,
    configFile: false,
    logLevel: "error",
    // The same page whatever NODE_ENV is: in a test it would be one for debugging.
    oxc: { jsx: { runtime: "automatic", importSource: "preact", development: false } },
    plugins: [{ name: "used-alone", transform: usedAlone }],
    build: {
      write: false,
      target: "es2023",
      cssTarget: ["chrome123", "firefox120", "safari17.5"],
      cssCodeSplit: false,
      modulePreload: false,
      // One script without modules: the policy of the page allows it by its hash.
      rolldownOptions: {
        treeshake: { manualPureFunctions: [pureRule] },
        input: `${root}src/main.tsx`,
        output: { format: "iife" },
      },
    },
  });
  if (!("output" in built)) throw new Error("Vite gave no single output.");
  let page = readFileSync(`${root}page.html`, "utf8").replaceAll(/\n\s*/g, " ");
  for (const part of built.output) {
    // A function, for "$" would mean something else in a text.
    if (part.type === "chunk")
      page = page.replace("<script></script>", () => `<script>${inline(withoutUnused(part.code))}</script>`);
    else page = page.replace("<style></style>", () => `<style>${String(part.source).replace(/\n.*$/s, "")}</style>`);
  }
  return page;
}

/** What the page never calls, and no bundler can know that: it is told here. 6 kB of the page. */
function usedAlone(code: string, id: string): string | null {
  // The console's connection is a WebSocket.
  if (id.endsWith("/client/src/sse.ts")) return "export const createSseLink = null;";
  // It has no tools of its own: what other pages' ask for is decided by hand.
  if (id.endsWith("/client/src/page-tools.ts")) return "export class PageTools { look() {} sent() {} }";
  if (!id.endsWith("/marked.esm.js")) return null;
  // Of marked its lexer is used. What writes HTML hangs on one object, which is made when the module is loaded.
  const [, lexer] = /export\{.*\b(\w+) as Lexer\b/.exec(code) ?? [];
  const instance = code.lastIndexOf(";var ", code.lastIndexOf(".setOptions=function("));
  // The rules of each dialect hang on two tables. They are made by one function, behind which is its first call.
  const [, rule] = /function (\w+)\(\w+,\w+=""\)\{.*?\.caret,/.exec(code) ?? [];
  const tables = code.search(/\{normal:\w+,gfm:\w+,/);
  if (lexer === undefined || instance === -1 || rule === undefined || tables === -1)
    throw new Error("This version of marked is built otherwise: see usedAlone.");
  const rules = code.slice(0, tables).replaceAll(new RegExp(`(?<=[=:])${rule}\\(`, "g"), `${pureRule}(`);
  const parser = code
    .slice(tables, instance)
    .replaceAll(/(\{normal:\w+,gfm:\w+)(,\w+:\w+)+\}/g, "$1}")
    .replaceAll(/\bthis\.options\.(\w+)/g, (read, name: string) => markedOptions[name] ?? read);
  return withShortNames(`const ${pureRule} = ${rule};${rules}${parser};const lexer = ${lexer}.lex; export { lexer };`);
}

/** Marked's rules are used by name in marked alone. */
function withShortNames(code: string): string {
  const names = [...new Set([...code.matchAll(/\.other\.(\w{6,})/g)].map(([, name]) => name ?? ""))];
  return code.replaceAll(/\b\w{6,}\b/g, (word) => (names.includes(word) ? `r${names.indexOf(word)}` : word));
}

/** What makes a rule of marked's changes nothing else: a rule that nobody uses goes. */
const pureRule = "ruleOfMarked";
/** As they are unless somebody sets them: the bundler leaves out what they would do otherwise. */
const markedOptions: Readonly<Record<string, string>> = {
  ...{ pedantic: "false", breaks: "false", silent: "false", gfm: "true", extensions: "null", hooks: "null" },
};

/** Without those of marked's rules that are named nowhere else: no bundler takes a property out of an object. */
function withoutUnused(code: string): string {
  return code.replaceAll(/\b(\w+):\/(?:\\.|\[(?:\\.|[^\]\\])*\]|[^/\\[\n])+\/\w*,/g, (rule, name: string) =>
    code.split(new RegExp(`\\b${name}\\b`)).length === 2 ? "" : rule,
  );
}

/** In HTML a script ends at the first "</script", also within a string. */
function inline(code: string): string {
  return code.trim().replaceAll("</script", "<\\/script");
}

/** Renamed into its place: a gateway that starts meanwhile finds the old one or the new one, whole. */
export async function buildConsole(): Promise<void> {
  const page = await consolePage();
  mkdirSync(dirname(file), { recursive: true });
  const unfinished = `${file}.${process.pid}`;
  writeFileSync(unfinished, page);
  renameSync(unfinished, file);
}

if (process.argv[1] === fileURLToPath(import.meta.url)) await buildConsole();
