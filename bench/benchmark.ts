import { startRedis } from "../test/support/redis/redis-server.ts";
import type { Orders } from "./orders.ts";
import { startProcess, type BenchProcess } from "./processes.ts";
import { median } from "./statistics.ts";

/**
 * What is measured, each in the unit that its name ends with. `cpuUs` is the server's CPU an operation, `redisUs` that of
 * Redis, `clientUs` that of the client; `idleUs` and `redisIdleUs` are what a session takes in a second in which nothing happens.
 */
export type Metric =
  | "cpuUs"
  | "redisUs"
  | "clientUs"
  | "idleUs"
  | "redisIdleUs"
  | "cpuMs"
  | "perSecond"
  | "p50Ms"
  | "p99Ms"
  | "lastMs"
  | "readyMs"
  | "answerMs"
  | "rssBytes"
  | "heapBytes"
  | "redisBytes";

/** Of one measured window, or the medians of several. */
export type Figures = Readonly<Partial<Record<Metric, number>>>;

/** A program that does the work; `note` tells what it does less, or else, than Parley. */
export interface Contender {
  readonly name: string;
  readonly note: string;
  readonly window: () => Promise<Figures>;
  /** What goes ahead of the first window; left out: a window whose figures are not kept. */
  readonly warmUp?: () => Promise<unknown>;
}

export interface ContenderResult {
  readonly name: string;
  readonly note: string;
  readonly figures: Figures;
}

/** Parley against one baseline in one figure. */
export interface Comparison {
  /** Of its benchmark's: what it is compared by with other runs. */
  readonly what: string;
  readonly metric: Metric;
  readonly parley: number;
  readonly baseline: { readonly name: string; readonly value: number } | null;
  /** parley / baseline, parley - baseline, or parley alone. */
  readonly form: "ratio" | "difference" | "value";
  readonly value: number;
  /** Not to be exceeded; null: there is no goal. */
  readonly goal: number | null;
}

export interface BenchmarkResult {
  readonly name: string;
  readonly title: string;
  readonly contenders: readonly ContenderResult[];
  readonly comparisons: readonly Comparison[];
}

export interface Benchmark {
  readonly name: string;
  readonly title: string;
  readonly run: (stage: Stage) => Promise<Omit<BenchmarkResult, "name" | "title">>;
}

/** A redis-server and the processes of one benchmark. */
export class Stage {
  readonly redisUrl: string;
  readonly #stopRedis: () => Promise<void>;
  readonly #parley: string;
  readonly #processes: BenchProcess[] = [];

  private constructor(redisUrl: string, stopRedis: () => Promise<void>, parley: string) {
    this.redisUrl = redisUrl;
    this.#stopRedis = stopRedis;
    this.#parley = parley;
  }

  /** `parley`: URL of the parley.ts of another checkout, which is measured in place of this one's. */
  static async open(parley = "parley.ts"): Promise<Stage> {
    const redis = await startRedis();
    return new Stage(redis.url, () => redis.stop(), parley);
  }

  /** `file` from the benchmarks' folder; the program is told where Redis is. */
  async start<Given extends Orders>(file: string, settings: object = {}): Promise<BenchProcess<Given>> {
    const program = file === "parley.ts" ? this.#parley : file;
    const started = await startProcess<Given>(program, { redisUrl: this.redisUrl, ...settings });
    this.#processes.push(started);
    return started;
  }

  async close(): Promise<void> {
    await Promise.all(this.#processes.map((one) => one.stop()));
    await this.#stopRedis();
  }
}

/** Servers run for long: what is measured is what V8 makes of the code when it has run for a while, alike for all. */
export async function warm(windows: number, window: () => Promise<unknown>): Promise<void> {
  for (let i = 0; i < windows; i++) await window();
}

/**
 * Forth and back in each round (ABBA), so that what else the machine does, and what grows as time goes by, hits all
 * alike. Each warms up first. Gives the median of each figure.
 */
export async function inRounds(contenders: readonly Contender[], rounds: number): Promise<readonly ContenderResult[]> {
  const windows = new Map(contenders.map((contender) => [contender, [] as Figures[]]));
  for (const { warmUp, window } of contenders) await (warmUp ?? window)();
  for (let round = 0; round < rounds; round++) {
    for (const contender of [...contenders, ...contenders.toReversed()])
      windows.get(contender)?.push(await contender.window());
  }
  return contenders.map((contender) => ({
    name: contender.name,
    note: contender.note,
    figures: mediansOf(windows.get(contender) ?? []),
  }));
}

function mediansOf(windows: readonly Figures[]): Figures {
  // Safe: they are the keys of figures.
  const metrics = Object.keys(windows[0] ?? {}) as Metric[];
  return Object.fromEntries(metrics.map((metric) => [metric, median(windows.map((one) => one[metric] ?? Number.NaN))]));
}

/** `of` and `to`: names of contenders. */
export function compare(
  results: readonly ContenderResult[],
  spec: {
    readonly what: string;
    readonly of: string;
    readonly to: string | null;
    readonly metric: Metric;
    readonly form: Comparison["form"];
    readonly goal: number | null;
  },
): Comparison {
  const { what, of, to, metric, form, goal } = spec;
  const figure = (name: string) => results.find((result) => result.name === name)?.figures[metric] ?? Number.NaN;
  const parley = figure(of);
  const baseline = to === null ? null : { name: to, value: figure(to) };
  const other = baseline?.value ?? Number.NaN;
  const value = form === "ratio" ? parley / other : form === "difference" ? parley - other : parley;
  return { what, metric, parley, baseline, form, value, goal };
}
