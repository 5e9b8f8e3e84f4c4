import { readFileSync, writeFileSync } from "node:fs";
import { parseArgs } from "node:util";
import { Stage, type Benchmark, type BenchmarkResult } from "./benchmark.ts";
import { agentBenchmark } from "./benchmarks/agent.ts";
import { chatsOf1000, chatsOf300, chatsOfReplies } from "./benchmarks/chats.ts";
import { delivery } from "./benchmarks/delivery.ts";
import { firstToken } from "./benchmarks/first-token.ts";
import { flat } from "./benchmarks/flat.ts";
import { idle } from "./benchmarks/idle.ts";
import { memory } from "./benchmarks/memory.ts";
import { pages } from "./benchmarks/pages.ts";
import { start } from "./benchmarks/start.ts";
import { tokens } from "./benchmarks/tokens.ts";
import { turns } from "./benchmarks/turns.ts";
import { typename } from "./benchmarks/typename.ts";
import { workersBenchmark } from "./benchmarks/workers.ts";
import { commit, machineLine, thisMachine, type Machine } from "./machine.ts";
import { writePerformancePage } from "./performance-page.ts";
import { differencesText, resultText, type BenchReport } from "./report.ts";

const benchmarks: readonly Benchmark[] = [
  chatsOf300,
  chatsOf1000,
  chatsOfReplies,
  pages,
  typename,
  workersBenchmark,
  delivery,
  tokens,
  firstToken,
  turns,
  agentBenchmark,
  flat,
  idle,
  memory,
  start,
];

const usage = `npm run bench [-- NAME …] [--json FILE] [--compare FILE] [--page]
  NAME            ${benchmarks.map(({ name }) => name).join(", ")}; all, if left out
  --json FILE     writes the results there
  --compare FILE  tells what is different from results that --json wrote
  --page          puts the table of results into docs/performance.md
`;

async function measured(wanted: readonly Benchmark[]): Promise<BenchReport> {
  const results: BenchmarkResult[] = [];
  let machine: Machine | null = null;
  for (const { name, title, run } of wanted) {
    const stage = await Stage.open();
    try {
      if (machine === null) {
        machine = await thisMachine(stage.redisUrl);
        process.stdout.write(`${machineLine(machine)}\n`);
      }
      const result = { name, title, ...(await run(stage)) };
      results.push(result);
      process.stdout.write(resultText(result));
    } finally {
      await stage.close();
    }
  }
  if (machine === null) throw new Error("There is nothing to measure");
  return { machine, commit: commit(), takenAt: new Date().toISOString(), results };
}

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    json: { type: "string" },
    compare: { type: "string" },
    page: { type: "boolean" },
    help: { type: "boolean" },
  },
});
const unknown = positionals.filter((name) => !benchmarks.some((benchmark) => benchmark.name === name));
const part = values.page === true && positionals.length > 0;
if (part) process.stderr.write("docs/performance.md has the results of all of them: --page goes with no NAME.\n");
if (values.help === true || unknown.length > 0 || part) {
  process.stdout.write(usage);
  process.exit(values.help === true ? 0 : 2);
}
// Connections that are closed leave nothing that would keep the process until the processes have stopped.
const alive = setInterval(() => undefined, 1000);
const wanted = benchmarks.filter(({ name }) => positionals.length === 0 || positionals.includes(name));
const report = await measured(wanted);
if (values.json !== undefined) writeFileSync(values.json, `${JSON.stringify(report, null, 2)}\n`);
if (values.compare !== undefined) {
  // Safe: --json wrote it.
  const then = JSON.parse(readFileSync(values.compare, "utf8")) as BenchReport;
  process.stdout.write(differencesText(report, then));
}
if (values.page === true) await writePerformancePage(report);
clearInterval(alive);
process.exit();
