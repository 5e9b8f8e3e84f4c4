import { readFileSync } from "node:fs";
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

// `parley` on npm is somebody else's program.
test("README.md installs and imports the package by its own name", () => {
  const manifest = JSON.parse(readFileSync(new URL("../../package.json", import.meta.url), "utf8")) as { name: string };
  expect(manifest.name).toBe("parley-gateway");
  expect(readme).toContain('from "parley-gateway"');
  expect(readme).not.toMatch(/(from "|npm (i|install) (-\S+ )*|npx )parley(?!-gateway)\b/);
});

test("README.md names the two commands as they work", () => {
  const { scripts } = JSON.parse(readFileSync(new URL("../../package.json", import.meta.url), "utf8")) as {
    scripts: Record<string, string>;
  };
  expect(readme).toContain("npm ci && npm start");
  expect(readme).toContain("npm ci && npm test");
  expect(scripts).toMatchObject({ start: expect.any(String) as string, test: expect.any(String) as string });
});
