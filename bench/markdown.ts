import { format, resolveConfig } from "prettier";

/** The first row is the heading. */
export function markdownTable(rows: readonly (readonly string[])[]): string {
  const line = (row: readonly string[]) => `| ${row.map((cell) => cell.replaceAll("|", "\\|")).join(" | ")} |`;
  const [heading = [], ...body] = rows;
  return [line(heading), line(heading.map(() => "---")), ...body.map(line)].join("\n");
}

/** `text` with what stands between the two markers of this name replaced, in the form that prettier gives it. */
export async function withPart(text: string, name: string, part: string, file: URL): Promise<string> {
  const between = new RegExp(`(<!-- ${name}: begin -->\n)[^]*(<!-- ${name}: end -->)`);
  if (!between.test(text)) throw new Error(`There are no markers for ${name}`);
  const replaced = text.replace(between, (_whole, begin: string, end: string) => `${begin}\n${part}\n\n${end}`);
  return await format(replaced, { ...(await resolveConfig(file)), parser: "markdown" });
}
