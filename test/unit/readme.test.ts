import { existsSync, readFileSync, readdirSync } from "node:fs";
import { buildSchema, parse, validate } from "graphql";
import { expect, test } from "vitest";
import { withConfigurationTable } from "../../scripts/configuration-table.ts";

const readme = readFileSync(new URL("../../README.md", import.meta.url), "utf8");

test("the table in docs/configuration.md is that of the configuration (npm run schema writes it)", () => {
  const page = readFileSync(new URL("../../docs/configuration.md", import.meta.url), "utf8");
  // prettier pads the cells; what they say must be the same.
  const cells = (text: string) => text.replace(/ +/g, " ").replace(/-+/g, "-");
  expect(page).toContain("| `PORT` ");
  expect(cells(page)).toBe(cells(withConfigurationTable(page)));
});

test("README.md names the two commands as they work", () => {
  const { scripts } = JSON.parse(readFileSync(new URL("../../package.json", import.meta.url), "utf8")) as {
    scripts: Record<string, string>;
  };
  expect(readme).toContain("npm ci && npm start");
  expect(readme).toContain("npm ci && npm test");
  expect(scripts).toMatchObject({ start: expect.any(String) as string, test: expect.any(String) as string });
});

const root = new URL("../../", import.meta.url);
const pages = [
  "README.md",
  "SECURITY.md",
  "CONTRIBUTING.md",
  ...readdirSync(new URL("docs/", root), { recursive: true, encoding: "utf8" })
    .filter((name) => name.endsWith(".md"))
    .map((name) => `docs/${name}`),
];
const textOf = (page: string) => readFileSync(new URL(page, root), "utf8");

/** A heading's anchor as GitHub makes it. */
function anchors(text: string): string[] {
  const headings = [...text.matchAll(/^#+ (.+)$/gm)].map(([, heading = ""]) => heading);
  return headings.map((heading) =>
    heading
      .toLowerCase()
      .replace(/[^\p{L}\p{N} _-]/gu, "")
      .replaceAll(" ", "-"),
  );
}

// `parley` on npm is somebody else's program.
test.each(pages)("%s installs and imports the package by its own name", (page) => {
  const { name } = JSON.parse(textOf("package.json")) as { name: string }; // our own
  expect(name).toBe("parley-gateway");
  expect(readme).toContain('from "parley-gateway"');
  expect(textOf(page)).not.toMatch(/(from "|npm (i|install) (-\S+ )*|npx )parley(?!-gateway|-client)\b/);
});

test.each(pages)("each link of %s leads to a file, and to a heading of it", (page) => {
  const links = [...textOf(page).matchAll(/\]\((?!https?:)([^)#]*)(?:#([^)]+))?\)/g)];
  const broken = links.filter(([, path = "", anchor]) => {
    const target = path === "" ? new URL(page, root) : new URL(path, new URL(page, root));
    return !existsSync(target) || (anchor !== undefined && !anchors(readFileSync(target, "utf8")).includes(anchor));
  });
  expect(broken.map(([link]) => link)).toEqual([]);
});

test("README.md links each page of docs/", () => {
  const missing = pages.filter((page) => page.startsWith("docs/") && !readme.includes(`](${page})`));
  expect(missing).toEqual([]);
});

test.each(pages)("each file of src/ that %s names is there", (page) => {
  const named = [...textOf(page).matchAll(/`(src\/[\w./-]+)`/g)].map(([, path = ""]) => path);
  expect(named.filter((path) => !existsSync(new URL(path, root)))).toEqual([]);
});

const fences = (page: string, language: string) =>
  [...textOf(page).matchAll(new RegExp(`^\`{3}${language}\\n([\\s\\S]*?)^\`{3}$`, "gm"))].map(([, code = ""]) => code);

test.each(["docs/live.md", "docs/agents.md"])("the operations on %s fit the schema", (page) => {
  const documents = fences(page, "graphql");
  expect(documents.length).toBeGreaterThan(0);
  const schema = buildSchema(textOf("schema.graphql"));
  expect(documents.flatMap((document) => validate(schema, parse(document)))).toEqual([]);
});

test("the code on docs/live.md is that of the clients that the tests run", () => {
  const lines = (code: string) => code.split("\n").map((line) => line.trim());
  const quoted = fences("docs/live.md", "ts").flatMap((code) => {
    const [, file, body = ""] = /^\/\/ (test\/\S+)\n([\s\S]*)$/.exec(code) ?? [];
    return file === undefined ? [] : [{ file, body }];
  });
  expect(quoted.length).toBeGreaterThan(5);
  for (const { file, body } of quoted) expect(lines(textOf(file)).join("\n")).toContain(lines(body.trim()).join("\n"));
});
