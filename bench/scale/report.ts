import { markdownTable, withPart } from "../markdown.ts";
import { needsOf, type Capacity, type Costs, type Load, type Needs, type Rates } from "./model.ts";
import type { Measured } from "./trial.ts";

export interface Trial {
  readonly load: Load;
  readonly predicted: Rates;
  readonly measured: Measured;
}

/** What `--json` writes. */
export interface ScaleReport {
  readonly machine: string;
  readonly takenAt: string;
  readonly costs: Costs;
  readonly trials: readonly Trial[];
}

/** A million subscribers of whom two follow each session, and each of whom opens a page in 100 s. */
export const target: Omit<Load, "gateways"> = {
  sessions: 500_000,
  fanOut: 2,
  writesPerSecond: 100_000,
  replies: 10_000,
  pagesPerSecond: 10_000,
};

const capacity: Capacity = { busy: 0.6, gatewayMemoryBytes: 2 * 2 ** 30, gatewaySockets: 50_000 };

const whole = (value: number) => Math.round(value).toLocaleString("en");
const micros = (value: number) => (value < 10 ? value.toFixed(1) : whole(value));
const kilobytes = (value: number) => `${(value / 1024).toFixed(1)} KB`;
const gigabits = (bytes: number) => `${((bytes * 8) / 1e9).toFixed(1)} Gbit/s`;

function costRows({ costs }: ScaleReport): readonly (readonly string[])[] {
  const row = (what: string, { gateway, redis, clientBytes, redisBytes }: Rates) => [
    what,
    micros(gateway),
    micros(redis),
    whole(clientBytes),
    whole(redisBytes),
  ];
  return [
    ["", "gateway, µs", "Redis, µs", "bytes to clients", "bytes from Redis"],
    row("a followed session, each second and gateway", costs.feed),
    row("an idle subscriber, each second", costs.subscriber),
    row("a message in (addMessages over HTTP)", costs.write),
    row("its arrival at a gateway that has subscribers", costs.receipt),
    row("its delivery, for each subscriber", costs.delivery),
    row("a reply being made (50 tokens/s, 5 s), each second", costs.reply),
    row("the same at a gateway that has readers", costs.replyReceipt),
    row("the same, for each reader", costs.replyDelivery),
    row("a page of 50", costs.page),
  ];
}

function trialRows({ trials }: ScaleReport): readonly (readonly string[])[] {
  const compared = (show: (value: number) => string, predicted: number, measured: number) =>
    `${show(predicted)} / ${show(measured)} (${measured >= predicted ? "+" : ""}${((measured / predicted - 1) * 100).toFixed(0)} %)`;
  const milliseconds = (value: number) => `${(value / 1000).toFixed(0)} ms`;
  return [
    [
      "gateways",
      "gateways' CPU a second",
      "Redis' CPU a second",
      "to clients a second",
      "from Redis a second",
      "busiest gateway",
      "delivery, p99",
    ],
    ...trials.map(({ load, predicted, measured }) => [
      String(load.gateways),
      compared(milliseconds, predicted.gateway, measured.gateway),
      compared(milliseconds, predicted.redis, measured.redis),
      compared(kilobytes, predicted.clientBytes, measured.clientBytes),
      compared(kilobytes, predicted.redisBytes, measured.redisBytes),
      `${measured.busiest.toFixed(2)} × the mean`,
      `${measured.p99Ms.toFixed(0)} ms`,
    ]),
  ];
}

function needRows(needs: Needs): readonly (readonly string[])[] {
  const { gateway, redis } = needs.rates;
  const share = (part: number, of: number) => `${((part / of) * 100).toFixed(0)} %`;
  return [
    ["", "gateways, cores", "of all", "Redis, cores", "of all", "to clients", "from Redis"],
    ...Object.entries(needs.parts).map(([name, rates]) => [
      name,
      (rates.gateway / 1e6).toFixed(1),
      share(rates.gateway, gateway),
      (rates.redis / 1e6).toFixed(1),
      share(rates.redis, redis),
      gigabits(rates.clientBytes),
      gigabits(rates.redisBytes),
    ]),
    [
      "**in all**",
      (gateway / 1e6).toFixed(1),
      "",
      (redis / 1e6).toFixed(1),
      "",
      gigabits(needs.rates.clientBytes),
      gigabits(needs.rates.redisBytes),
    ],
  ];
}

/** The part that weighs most in a resource. */
function heaviest({ parts }: Needs, of: "gateway" | "redis"): string {
  const [first] = Object.entries(parts).toSorted(([, a], [, b]) => b[of] - a[of]);
  return first?.[0] ?? "nothing";
}

/** The chapter's figures: what was measured, how well the model holds, what the target needs. */
export function chapter(report: ScaleReport): string {
  const { machine, takenAt, costs, trials } = report;
  const needs = needsOf(costs, target, capacity);
  const { cpu, memory, sockets } = needs.gateways;
  const gateways = Math.max(cpu, memory, sockets);
  const [load] = trials.map((trial) => trial.load);
  const reason = gateways === cpu ? "CPU" : gateways === memory ? "memory" : "sockets";
  const busiestPart = heaviest(needs, "redis");
  const perDay = (needs.redisBytesPerDay / 1e12).toFixed(1);
  return [
    `Measured on ${machine}, ${takenAt.slice(0, 10)}, by \`npm run bench:scale\`.`,
    "**What things cost**, µs of CPU and bytes, one load at a time on one gateway:",
    markdownTable(costRows(report)),
    `A subscriber takes ${kilobytes(costs.subscriberMemory)} of a gateway's memory, a followed session ${kilobytes(costs.feedMemory)} more, ` +
      `a message of 200 characters ${whole(costs.messageMemory)} bytes of Redis'.`,
    load === undefined
      ? ""
      : `**Model / measured** at ${whole(load.sessions * load.fanOut)} subscribers of ${load.sessions} sessions, ${load.writesPerSecond} messages/s, ` +
        `${load.replies} running replies and ${load.pagesPerSecond} pages/s at once; each subscriber got all that was its, once and in order:`,
    markdownTable(trialRows(report)),
    `**What ${whole(target.sessions * target.fanOut)} subscribers of ${whole(target.sessions)} sessions, ${whole(target.writesPerSecond)} messages/s, ` +
      `${whole(target.replies)} running replies and ${whole(target.pagesPerSecond)} pages/s need** (cores of this machine):`,
    markdownTable(needRows(needs)),
    `At ${capacity.busy * 100} % busy that is **${whole(gateways)} gateway processes**, one a core (by CPU ${whole(cpu)}, by memory at 2 GiB each ${whole(memory)}, ` +
      `by sockets at ${whole(capacity.gatewaySockets)} each ${whole(sockets)}: ${reason} decides), and **${whole(needs.shards)} primaries of a Redis Cluster**. ` +
      `Of gateways' CPU most goes into ${heaviest(needs, "gateway")}, of Redis' into ${busiestPart}. ` +
      `Redis takes in ${perDay} TB a day where nothing expires.`,
  ]
    .filter((part) => part !== "")
    .join("\n\n");
}

export async function withChapter(text: string, report: ScaleReport): Promise<string> {
  return await withPart(text, "scale", chapter(report), new URL("../SCALE.md", import.meta.url));
}
