import { readFileSync, writeFileSync } from "node:fs";
import { pathToFileURL } from "node:url";
import { machineLine } from "./machine.ts";
import { markdownTable, withPart } from "./markdown.ts";
import { goalText, isMet, metrics, valueText, type BenchReport } from "./report.ts";

const file = new URL("../docs/performance.md", import.meta.url);

/** All that has a goal: what was measured of Parley and of the baseline, and what one is to the other. */
export function benchmarkTable({ machine, commit, takenAt, results }: BenchReport): string {
  const rows = results.flatMap(({ title, comparisons }) =>
    comparisons
      .filter(({ goal }) => goal !== null)
      .map((comparison, i) => {
        const { what, metric, parley, baseline } = comparison;
        return [
          i === 0 ? title : "",
          what,
          metrics[metric].show(parley),
          baseline === null ? "" : metrics[metric].show(baseline.value),
          comparison.form === "value" ? "" : valueText(comparison),
          `${goalText(comparison)}${isMet(comparison) === true ? "" : ", not met"}`,
        ];
      }),
  );
  const head = ["benchmark", "what", "Parley", "baseline", "", "goal"];
  const of = commit === null ? "" : ` Commit ${commit}.`;
  return `${machineLine(machine)}, ${takenAt.slice(0, 10)}.${of}\n\n${markdownTable([head, ...rows])}`;
}

/** The page's text with this report's table. */
export async function withBenchmarkTable(page: string, report: BenchReport): Promise<string> {
  return await withPart(page, "benchmarks", benchmarkTable(report), file);
}

export async function writePerformancePage(report: BenchReport): Promise<void> {
  writeFileSync(file, await withBenchmarkTable(readFileSync(file, "utf8"), report));
}

// node bench/performance-page.ts FILE: from results that `npm run bench -- --json FILE` wrote.
const [, , from] = process.argv;
if (import.meta.main && from !== undefined) {
  const text = readFileSync(pathToFileURL(from), "utf8");
  await writePerformancePage(JSON.parse(text) as BenchReport); // Safe: --json wrote it.
}
