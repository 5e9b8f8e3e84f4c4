import { readdirSync, readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { GatheredMetrics } from "../../src/telemetry/gathered-metrics.ts";
import { createMetrics } from "../../src/telemetry/metrics.ts";

const folder = new URL("../../ops/", import.meta.url);
const textOf = (file: string) => readFileSync(new URL(file, folder), "utf8");

/** All that a query may name: histograms are there under three names. */
const existing = new Set(
  [...createMetrics().names(), ...new GatheredMetrics(() => 0).names()].flatMap(({ name, type }) =>
    type === "histogram" ? ["_bucket", "_sum", "_count"].map((end) => name + end) : [name],
  ),
);

function namesIn(text: string): readonly string[] {
  return [...text.matchAll(/\b(?:parley|nodejs|process)_[a-z0-9_]+/g)].map(([name]) => name);
}

test.each(readdirSync(folder))("ops/%s names metrics that exist", (file) => {
  const names = namesIn(textOf(file));
  expect(names.length).toBeGreaterThan(5);
  expect(names.filter((name) => !existing.has(name))).toEqual([]);
});

test("the dashboard shows every metric of Parley's own", () => {
  const shown = new Set(namesIn(textOf("grafana-dashboard.json")));
  const own = [...existing].filter((name) => /^parley_/.test(name) && !/_(?:sum|count)$/.test(name));
  expect(own.filter((name) => !shown.has(name))).toEqual([]);
});

test("the dashboard is one that Grafana takes: panels with queries, apart from each other", () => {
  const { panels, uid } = JSON.parse(textOf("grafana-dashboard.json")) as {
    uid: string;
    panels: readonly { id: number; gridPos: { x: number; y: number }; targets: readonly { expr: string }[] }[];
  };
  expect(uid).toBe("parley");
  expect(new Set(panels.map(({ id }) => id)).size).toBe(panels.length);
  expect(new Set(panels.map(({ gridPos: { x, y } }) => `${x},${y}`)).size).toBe(panels.length);
  for (const { targets } of panels) {
    expect(targets.length).toBeGreaterThan(0);
    for (const { expr } of targets) expect([...expr.matchAll(/\(/g)].length).toBe([...expr.matchAll(/\)/g)].length);
  }
});
