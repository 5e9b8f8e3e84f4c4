import type { BenchmarkResult, Comparison, Metric } from "./benchmark.ts";
import type { Machine } from "./machine.ts";

/** What `--json` writes. */
export interface BenchReport {
  readonly machine: Machine;
  readonly commit: string | null;
  readonly takenAt: string;
  readonly results: readonly BenchmarkResult[];
}

interface MetricForm {
  readonly heading: string;
  readonly show: (value: number) => string;
}

const number = (digits: number, unit: string) => (value: number) =>
  `${value.toLocaleString("en", { minimumFractionDigits: digits, maximumFractionDigits: digits })}${unit}`;

export const metrics: Readonly<Record<Metric, MetricForm>> = {
  cpuUs: { heading: "CPU/op", show: number(1, " µs") },
  redisUs: { heading: "Redis CPU/op", show: number(1, " µs") },
  clientUs: { heading: "the client", show: number(1, " µs") },
  idleUs: { heading: "idle, a session and second", show: number(1, " µs") },
  redisIdleUs: { heading: "Redis, idle", show: number(1, " µs") },
  cpuMs: { heading: "CPU", show: number(0, " ms") },
  perSecond: { heading: "per second", show: number(0, "") },
  p50Ms: { heading: "p50", show: number(2, " ms") },
  p99Ms: { heading: "p99", show: number(2, " ms") },
  lastMs: { heading: "last", show: number(1, " ms") },
  readyMs: { heading: "ready", show: number(0, " ms") },
  answerMs: { heading: "first answer", show: number(0, " ms") },
  rssBytes: { heading: "RSS each", show: (value) => `${(value / 1024).toFixed(1)} KB` },
  heapBytes: { heading: "heap each", show: (value) => `${(value / 1024).toFixed(1)} KB` },
  redisBytes: { heading: "in Redis", show: number(0, " bytes") },
};

export function valueText({ form, metric, value }: Comparison): string {
  return form === "ratio" ? `${value.toFixed(value < 0.1 ? 3 : 2)} ×` : metrics[metric].show(value);
}

export function goalText({ form, metric, goal }: Comparison): string {
  if (goal === null) return "";
  return form === "ratio" ? `${Number(goal.toFixed(3))} ×` : metrics[metric].show(goal);
}

export function isMet({ value, goal }: Comparison): boolean | null {
  return goal === null ? null : value <= goal;
}

function table(rows: readonly (readonly string[])[]): string {
  const widths = (rows[0] ?? []).map((_, column) => Math.max(...rows.map((row) => row[column]?.length ?? 0)));
  const line = (row: readonly string[]) =>
    row.map((cell, i) => (i === 0 ? cell.padEnd(widths[i] ?? 0) : cell.padStart(widths[i] ?? 0))).join("  ");
  return rows.map((row) => `  ${line(row)}\n`).join("");
}

export function resultText({ name, title, contenders, comparisons }: BenchmarkResult): string {
  // Safe: they are the keys of figures.
  const shown = [...new Set(contenders.flatMap(({ figures }) => Object.keys(figures) as Metric[]))];
  const figures = [
    ["", ...shown.map((metric) => metrics[metric].heading)],
    ...contenders.map((contender) => [
      contender.name,
      ...shown.map((metric) => {
        const value = contender.figures[metric];
        return value === undefined ? "" : metrics[metric].show(value);
      }),
    ]),
  ];
  const ratios = comparisons.map((comparison) => {
    const met = isMet(comparison);
    const verdict = met === null ? "" : met ? "met" : "NOT MET";
    const goal = goalText(comparison);
    return [comparison.what, valueText(comparison), goal === "" ? "" : `goal ${goal}`, verdict];
  });
  const notes = contenders.filter(({ note }) => note !== "").map((one) => `  ${one.name}: ${one.note}\n`);
  return `\n${name}: ${title}\n${table(figures)}\n${table(ratios)}${notes.length > 0 ? `\n${notes.join("")}` : ""}`;
}

/** What is different from an earlier run, of what both have. */
export function differencesText(now: BenchReport, then: BenchReport): string {
  const rows = now.results.flatMap((result) => {
    const before = then.results.find(({ name }) => name === result.name);
    return result.comparisons.flatMap((comparison): readonly (readonly string[])[] => {
      const old = before?.comparisons.find(({ what }) => what === comparison.what);
      if (old === undefined) return [];
      const parleyOf = ({ metric, parley }: Comparison) => metrics[metric].show(parley);
      const change = `${comparison.value > old.value ? "+" : ""}${((comparison.value / old.value - 1) * 100).toFixed(0)} %`;
      return [
        [
          `${result.name}: ${comparison.what}`,
          parleyOf(old),
          parleyOf(comparison),
          valueText(old),
          valueText(comparison),
          change,
        ],
      ];
    });
  });
  const heading = ["", `Parley at ${then.commit ?? "?"}`, "now", "compared then", "now", "change"];
  return `\nagainst ${then.commit ?? "an earlier run"} of ${then.takenAt}\n${table([heading, ...rows])}`;
}
