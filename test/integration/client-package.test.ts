import { execFileSync, spawnSync } from "node:child_process";
import { cpSync, mkdirSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import { basename, join } from "node:path";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";

import { build } from "vite";
import { beforeAll, expect, test } from "vitest";

import * as documents from "../../packages/client/src/documents.ts";
import { temporaryDirectory } from "../support/redis/server-process.ts";

// The package parley-client as who installs it has it.

const root = fileURLToPath(new URL("../../", import.meta.url));
const { version } = JSON.parse(readFileSync(join(root, "package.json"), "utf8")) as { version: string }; // ours

let app: string;
let installed: string;
beforeAll(async () => {
  const folder = await temporaryDirectory();
  // Packed from a copy: the build of `npm pack` would write into a dist/ that somebody uses.
  const source = join(folder, "source");
  for (const name of ["packages", "scripts", "package.json", "tsconfig.json"]) {
    cpSync(join(root, name), join(source, name), { recursive: true });
  }
  symlinkSync(join(root, "node_modules"), join(source, "node_modules"));
  execFileSync("npm", ["pack", "--pack-destination", folder, "--loglevel=error"], {
    cwd: join(source, "packages/client"),
    stdio: "pipe",
  });
  app = join(folder, "app");
  installed = join(app, "node_modules/parley-client");
  mkdirSync(installed, { recursive: true });
  execFileSync("tar", ["-xzf", join(folder, `parley-client-${version}.tgz`), "-C", installed, "--strip-components=1"]);
  mkdirSync(join(app, "node_modules/@types"));
  for (const scope of ["@ag-ui", "@ai-sdk", "@assistant-ui"]) mkdirSync(join(app, "node_modules", scope));
  for (const name of [
    "react",
    "@types/react",
    "@types/node",
    "ai",
    "@ai-sdk/react",
    "@assistant-ui/react",
    "@ag-ui/client",
  ]) {
    symlinkSync(join(root, "node_modules", name), join(app, "node_modules", name));
  }
  writeFileSync(join(app, "package.json"), JSON.stringify({ name: "app", private: true, type: "module" }));
});

const filesOf = (folder: string) =>
  readdirSync(folder, { recursive: true, encoding: "utf8", withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map(({ name }) => name);

test("it holds JavaScript, types and the list of its operations, depends on nothing, and has the server's version", () => {
  const manifest = JSON.parse(readFileSync(join(installed, "package.json"), "utf8")) as Record<string, unknown>; // ours
  expect(manifest).toMatchObject({ name: "parley-client", version, sideEffects: false });
  expect(manifest).not.toHaveProperty("dependencies");
  const others = filesOf(installed).filter((name) => !/\.(js|d\.ts)$/.test(name));
  expect(others.sort()).toEqual(["LICENSE", "README.md", "operations.json", "package.json"]);
  // React Server Components tell by it what runs in the page.
  for (const name of ["react", "kits/ai-sdk-react", "kits/assistant-ui"]) {
    expect(readFileSync(join(installed, `dist/${name}.js`), "utf8")).toMatch(/^"use client";/);
  }
  // It may be used in Server Components.
  expect(readFileSync(join(installed, "dist/kits/ai-sdk.js"), "utf8")).not.toMatch(/use client|from "react"/);
  const list = JSON.parse(readFileSync(join(installed, "dist/operations.json"), "utf8")) as Record<string, string>;
  expect(Object.values(list).sort()).toEqual(Object.values(documents).sort());
});

test("it is imported where there is no page, and nothing is asked for before somebody subscribes", () => {
  const program = `
    import { createParleyClient } from "parley-client";
    import operations from "parley-client/operations.json" with { type: "json" };
    delete globalThis.WebSocket;
    globalThis.fetch = () => { throw new Error("asked") };
    const client = createParleyClient({ url: "/graphql" });
    const first = client.session("a").getServerSnapshot();
    console.log(JSON.stringify([first.connection, first.messages, client.sessions().getSnapshot().sessions, Object.keys(operations).length]));
  `;
  const output = execFileSync(process.execPath, ["--input-type=module", "--eval", program], { cwd: app });
  expect(JSON.parse(output.toString())).toEqual(["idle", [], [], Object.keys(documents).length]);
});

/** @tsconfig/strictest, whose file has a skipLibCheck of its own. */
const { compilerOptions: strictest } = JSON.parse(
  readFileSync(join(root, "node_modules/@tsconfig/strictest/tsconfig.json"), "utf8"),
) as { compilerOptions: object };

test("a strict program compiles with its types, and so does what the docs show", () => {
  writeFileSync(
    join(app, "typed.ts"),
    `import { createParleyClient, ParleyError } from "parley-client";
import type { ChatMessage, SessionStore } from "parley-client";
import { ParleyProvider, useParleySelector, useParleySession } from "parley-client/react";

export const client = createParleyClient({ url: "/graphql", token: async () => null });
export const store: SessionStore = client.session("a");
export const text: string = store.getSnapshot().messages.map((message: ChatMessage) => message.text).join();
export const code: string = new ParleyError("NOT_FOUND", "x").code;
export const provider = ParleyProvider({ client });
export const useTitle = () => useParleySelector("a", ({ session }) => session?.title ?? "");
export const useSend = (): ((text: string) => Promise<{ readonly id: string }>) => useParleySession("a").send;
// @ts-expect-error a number is no content
void store.send(1);
// @ts-expect-error there is no such option: with types that were not found it would be none
createParleyClient({ url: "/graphql", noSuchOption: true });
`,
  );
  const shown = codeIn("docs/clients.md");
  expect(shown).toHaveLength(4);
  // With a page's types and Node's, as an app that renders on a server has them; it looks into the package's types as well.
  const compilerOptions = {
    ...{ ...strictest, jsx: "react-jsx", target: "es2022", lib: ["es2022", "dom"], types: ["node"] },
    ...{ module: "nodenext", moduleResolution: "nodenext", noEmit: true, skipLibCheck: false },
  };
  writeFileSync(join(app, "tsconfig.json"), JSON.stringify({ compilerOptions, files: ["typed.ts", ...shown] }));
  expect(compilerOutput()).toBe("");
});

test("what the docs show of the kits compiles with their types", () => {
  const files = ["ai-sdk", "assistant-ui", "ag-ui"].flatMap((kit) => codeIn(`docs/clients/${kit}.md`));
  expect(files).toHaveLength(5);
  const compilerOptions = {
    ...{ ...strictest, jsx: "react-jsx", target: "es2022", lib: ["es2022", "dom"], types: [] },
    // The kits' own types are not this package's to check.
    ...{ module: "nodenext", moduleResolution: "nodenext", noEmit: true, skipLibCheck: true },
  };
  writeFileSync(join(app, "tsconfig.json"), JSON.stringify({ compilerOptions, files }));
  expect(compilerOutput()).toBe("");
});

/** Writes the code of a page into files of the app, and gives their names. */
function codeIn(name: string): readonly string[] {
  const page = readFileSync(join(root, name), "utf8");
  return [...page.matchAll(/^```(tsx?)\n([\s\S]*?)^```$/gm)].map(([, kind = "", code = ""], index) => {
    const file = `${basename(name, ".md")}-${index}.${kind}`;
    writeFileSync(join(app, file), code);
    return file;
  });
}

function compilerOutput(): string {
  const { stdout } = spawnSync(process.execPath, [join(root, "node_modules/typescript/bin/tsc"), "-p", app]);
  return stdout.toString();
}

test.each([
  ["client.ts", 11_000],
  ["react.ts", 1_000],
  ["kits/ai-sdk.ts", 4_400],
  ["kits/ai-sdk-react.ts", 5_500],
  ["kits/assistant-ui.ts", 4_500],
  ["kits/ag-ui.ts", 1_500],
])("%s weighs little in a page", async (entry, most) => {
  const built = await build({
    configFile: false,
    logLevel: "silent",
    root,
    build: {
      write: false,
      minify: true,
      lib: { entry: join(root, "packages/client/src", entry), formats: ["iife"], name: "parley" },
      rolldownOptions: {
        external: ["react", "ai", "@ai-sdk/react", "@assistant-ui/react", "@ag-ui/client"],
        output: { globals: (id) => id.replace(/\W/g, "_") },
      },
    },
  });
  const [bundle] = [built].flat();
  const code = bundle !== undefined && "output" in bundle ? bundle.output[0].code : "";
  const weight = gzipSync(code, { level: 9 }).length;
  expect(weight).toBeGreaterThan(300);
  expect(weight).toBeLessThan(most);
});
