import { drills } from "./drills.ts";
import type { Count } from "./load.ts";

// npm run drill [words of a drill's name]: runs them one after the other, and prints what they came to.

const wanted = process.argv.slice(2).join(" ").toLowerCase();
const chosen = drills.filter(({ name }) => name.toLowerCase().includes(wanted));
if (chosen.length === 0)
  throw new Error(`No drill is called so. There are:\n${drills.map(({ name }) => name).join("\n")}`);

const heads = [
  ...[
    "drill",
    "acknowledged",
    "lost",
    "duplicated",
    "out of order",
    "told / silent",
    "longest stall",
    "behind Redis",
    "delivery",
  ],
];
console.log(`| ${heads.join(" | ")} |\n|${" --- |".repeat(heads.length)}`);
let failed = false;
// Servers that are being stopped keep nothing alive that would keep this process until they have.
const alive = setInterval(() => undefined, 1000);
for (const { name, loses, run } of chosen) {
  const count = await run();
  const { acknowledged, lost, silent, duplicated, outOfOrder, longestStallMs, afterRedisMs, longestDelayMs } = count;
  const told = `${lost - silent} / ${silent}`;
  const cells = [
    name,
    acknowledged,
    lost,
    duplicated,
    outOfOrder,
    told,
    `${longestStallMs} ms`,
    `${afterRedisMs} ms`,
    `${longestDelayMs} ms`,
  ];
  console.log(`| ${cells.join(" | ")} |`);
  const problems = problemsOf(count, loses);
  for (const problem of problems) console.error(`  ${problem}`);
  failed ||= problems.length > 0;
}
clearInterval(alive);
process.exit(failed ? 1 : 0);

function problemsOf(count: Count, loses: boolean): readonly string[] {
  const problems = [...count.wrong];
  if (count.silent > 0) problems.push(`${count.silent} were lost and nobody was told`);
  if (count.lost > 0 && !loses) problems.push(`${count.lost} were lost`);
  if (count.duplicated > 0) problems.push(`${count.duplicated} came twice`);
  if (count.outOfOrder > 0) problems.push(`${count.outOfOrder} came out of order`);
  return problems;
}
