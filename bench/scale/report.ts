import { markdownTable, withPart } from "../markdown.ts";
import { needsOf, predict, type Capacity, type Costs, type Load, type Part, type Rates } from "./model.ts";
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

const titles: Readonly<Record<Part, string>> = {
  gateway: "a gateway, each second",
  feed: "a followed session, each second and gateway",
  subscriber: "an idle subscriber, each second",
  write: "a message in (addMessages over HTTP)",
  receipt: "its arrival at a gateway that has subscribers",
  delivery: "its delivery, for each subscriber",
  reply: "a reply being made (50 tokens/s, 5 s), each second",
  replyReceipt: "the same at a gateway that has readers",
  replyDelivery: "the same, for each reader",
  page: "a page of 50",
};

const groups: Readonly<Record<string, readonly Part[]>> = {
  "idle subscribers": ["gateway", "feed", "subscriber"],
  "messages in": ["write"],
  "messages out": ["receipt", "delivery"],
  "replies made": ["reply"],
  "replies out": ["replyReceipt", "replyDelivery"],
  pages: ["page"],
};

function costRows({ costs }: ScaleReport): readonly (readonly string[])[] {
  return [
    ["", "gateway, µs", "Redis, µs", "bytes to clients", "bytes from Redis"],
    // Safe: they are the titles' keys.
    ...(Object.keys(titles) as Part[]).map((part) => {
      const { gateway, redis, clientBytes, redisBytes } = costs.parts[part];
      return [titles[part], micros(gateway), micros(redis), whole(clientBytes), whole(redisBytes)];
    }),
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

function needRows(parts: Readonly<Record<string, Rates>>, rates: Rates): readonly (readonly string[])[] {
  const share = (part: number, of: number) => `${((part / of) * 100).toFixed(0)} %`;
  return [
    ["", "gateways, cores", "of all", "Redis, cores", "of all", "to clients", "from Redis"],
    ...Object.entries(parts).map(([name, { gateway, redis, clientBytes, redisBytes }]) => [
      name,
      (gateway / 1e6).toFixed(1),
      share(gateway, rates.gateway),
      (redis / 1e6).toFixed(1),
      share(redis, rates.redis),
      gigabits(clientBytes),
      gigabits(redisBytes),
    ]),
    [
      "**in all**",
      (rates.gateway / 1e6).toFixed(1),
      "",
      (rates.redis / 1e6).toFixed(1),
      "",
      gigabits(rates.clientBytes),
      gigabits(rates.redisBytes),
    ],
  ];
}

/** The part that weighs most in a resource. */
function heaviest(parts: Readonly<Record<string, Rates>>, of: "gateway" | "redis"): string {
  const [first] = Object.entries(parts).toSorted(([, a], [, b]) => b[of] - a[of]);
  return first?.[0] ?? "nothing";
}

/** The chapter's figures: what was measured, how well the model holds, what the target needs. */
export function chapter(report: ScaleReport): string {
  const { machine, takenAt, costs, trials } = report;
  const needs = needsOf(costs, target, capacity);
  const { cpu, memory, sockets } = needs.gateways;
  const gateways = Math.max(cpu, memory, sockets);
  const parts = Object.fromEntries(Object.entries(groups).map(([name, of]) => [name, predict(costs, needs.load, of)]));
  const [load] = trials.map((trial) => trial.load);
  const reason = gateways === cpu ? "CPU" : gateways === memory ? "memory" : "sockets";
  const perDay = (needs.redisBytesPerDay / 1e12).toFixed(1);
  return [
    `Measured on ${machine}, ${takenAt.slice(0, 10)}, by \`npm run bench:scale\`.`,
    "**What things cost**, µs of CPU and bytes, fitted to mixed loads on one gateway:",
    markdownTable(costRows(report)),
    `A subscriber takes ${kilobytes(costs.subscriberMemory)} of a gateway's memory, a followed session ${kilobytes(costs.feedMemory)} more, ` +
      `a message of 200 characters ${whole(costs.messageMemory)} bytes of Redis'.`,
    load === undefined
      ? ""
      : `**Model / measured** with ${whole(load.sessions * load.fanOut)} subscribers of ${load.sessions} sessions, ${load.writesPerSecond} messages/s, ` +
        `${load.replies} running replies and ${load.pagesPerSecond} pages/s for each gateway; each subscriber got all that was its, once and in order:`,
    markdownTable(trialRows(report)),
    `**What ${whole(target.sessions * target.fanOut)} subscribers of ${whole(target.sessions)} sessions, ${whole(target.writesPerSecond)} messages/s, ` +
      `${whole(target.replies)} running replies and ${whole(target.pagesPerSecond)} pages/s need** (cores of this machine):`,
    markdownTable(needRows(parts, needs.rates)),
    `At ${capacity.busy * 100} % busy that is **${whole(gateways)} gateway processes**, one a core (by CPU ${whole(cpu)}, by memory at 2 GiB each ${whole(memory)}, ` +
      `by sockets at ${whole(capacity.gatewaySockets)} each ${whole(sockets)}: ${reason} decides), and **${whole(needs.shards)} primaries of a Redis Cluster**. ` +
      `Of gateways' CPU most goes into ${heaviest(parts, "gateway")}, of Redis' into ${heaviest(parts, "redis")}. ` +
      `Redis takes in ${perDay} TB a day where nothing expires.`,
  ]
    .filter((part) => part !== "")
    .join("\n\n");
}

/** `part`: "now", or "before" for the commit that it is compared with. */
export async function withChapter(text: string, report: ScaleReport, part: string): Promise<string> {
  return await withPart(text, `scale ${part}`, chapter(report), new URL("../SCALE.md", import.meta.url));
}
