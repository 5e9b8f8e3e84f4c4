import { readFileSync, writeFileSync } from "node:fs";
import { variables } from "../src/config/load.ts";

/** The table of all variables, as docs/configuration.md has it between its two markers. */
export function configurationTable(): string {
  const rows = variables.map(({ variable, option, shownDefault, description }) => {
    const shown = shownDefault === "" ? '""' : (shownDefault ?? "");
    // A pipe would end the cell.
    const cells = [`\`${variable}\``, option === null ? "" : `\`${option}\``, shown, description];
    return `| ${cells.map((cell) => cell.replaceAll("|", "\\|")).join(" | ")} |`;
  });
  return ["| variable | option | default | meaning |", "| --- | --- | --- | --- |", ...rows].join("\n");
}

const between = /(<!-- configuration: begin -->\n)[^]*(<!-- configuration: end -->)/;

/** The page's text with the table of today. */
export function withConfigurationTable(page: string): string {
  return page.replace(between, (_whole, begin: string, end: string) => `${begin}\n${configurationTable()}\n\n${end}`);
}

if (import.meta.main) {
  const file = new URL("../docs/configuration.md", import.meta.url);
  writeFileSync(file, withConfigurationTable(readFileSync(file, "utf8")));
}
