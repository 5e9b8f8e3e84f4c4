import { readFileSync, writeFileSync } from "node:fs";
import { pathToFileURL } from "node:url";
import { parseArgs } from "node:util";
import { Stage } from "./benchmark.ts";
import { machineLine, thisMachine } from "./machine.ts";
import { measureCosts, mixed } from "./scale/costs.ts";
import { predict } from "./scale/model.ts";
import { chapter, withChapter, type ScaleReport, type Trial } from "./scale/report.ts";
import { World } from "./scale/trial.ts";

const usage = `node bench/scale.ts [--json FILE] [--write]
  Measures what a subscriber, a message, a page and a reply cost among others on one gateway; then holds what a linear model
  of these says of a mixed load for each gateway against what the load takes on one, two and four gateways.
  --json FILE  writes the figures there
  --of FOLDER  measures the gateway of another checkout, in which npm ci was run, by the means of this one
  --from FILE  takes them from there instead of measuring
  --write PART puts the figures into bench/SCALE.md: "now" or "before"
`;

const { values } = parseArgs({
  options: {
    json: { type: "string" },
    of: { type: "string" },
    from: { type: "string" },
    write: { type: "string" },
    help: { type: "boolean" },
  },
});
if (values.help === true) {
  process.stdout.write(usage);
  process.exit();
}
// Connections that are closed leave nothing that would keep the process until the processes have stopped.
const alive = setInterval(() => undefined, 1000);

async function measure(): Promise<ScaleReport> {
  const tell = (what: string) => void process.stderr.write(`  ${what}\n`);
  const stage = await Stage.open(values.of && pathToFileURL(`${values.of}/bench/parley.ts`).href);
  try {
    const machine = machineLine(await thisMachine(stage.redisUrl));
    const costs = await measureCosts(stage, tell);
    const trials: Trial[] = [];
    for (const gateways of [1, 2, 4]) {
      tell(`the mixed load on ${gateways}`);
      const world = await World.open(stage, gateways);
      const load = {
        gateways,
        sessions: mixed.sessions * gateways,
        fanOut: mixed.fanOut,
        writesPerSecond: mixed.writesPerSecond * gateways,
        replies: mixed.replies * gateways,
        pagesPerSecond: mixed.pagesPerSecond * gateways,
      };
      trials.push({ load, predicted: predict(costs, load), measured: await world.trial(load) });
      await world.close();
    }
    return { machine, takenAt: new Date().toISOString(), costs, trials };
  } finally {
    await stage.close();
  }
}

// Safe: --json wrote it.
const report =
  values.from === undefined ? await measure() : (JSON.parse(readFileSync(values.from, "utf8")) as ScaleReport);
if (values.json !== undefined) writeFileSync(values.json, `${JSON.stringify(report, null, 2)}\n`);
process.stdout.write(`${chapter(report)}\n`);
if (values.write !== undefined) {
  const file = new URL("SCALE.md", import.meta.url);
  writeFileSync(file, await withChapter(readFileSync(file, "utf8"), report, values.write));
}
clearInterval(alive);
process.exit();
