import { Redis } from "ioredis";
import type { Stage } from "../benchmark.ts";
import { parleyIdle } from "../benchmarks/idle.ts";
import type { ParleyOrders } from "../parley.ts";
import { fit, type Costs, type Load } from "./model.ts";
import { pace, World } from "./trial.ts";

const appended = 2000;

type Memory = Pick<Costs, "subscriberMemory" | "feedMemory" | "messageMemory">;

async function measureMemory(stage: Stage): Promise<Memory> {
  const one = await parleyIdle(stage, "one");
  const own = await parleyIdle(stage, "own");
  const parley = await stage.start<ParleyOrders>("parley.ts", { pace });
  const redis = new Redis(stage.redisUrl);
  const used = async () => Number(/used_memory:(\d+)/.exec(await redis.info("memory"))?.[1]);
  const sessionIds = Array.from({ length: appended }, (_, i) => `memory-${i % 50}`);
  await parley.order("appends", { sessionIds, chars: 200 });
  const before = await used();
  await parley.order("appends", { sessionIds, chars: 200 });
  const after = await used();
  redis.disconnect();
  await parley.stop();
  return {
    subscriberMemory: one,
    feedMemory: Math.max(0, own - one),
    messageMemory: (after - before) / appended,
  };
}

/** What one gateway carries in a trial: mixed, and small enough for two cores that carry four of these, Redis and the clients. */
export const mixed: Omit<Load, "gateways"> = {
  sessions: 75,
  fanOut: 2,
  writesPerSecond: 30,
  replies: 3,
  pagesPerSecond: 15,
};

/** Each differs from the mixed load in what the model has to tell apart, so that a cost is that of work among other work. */
const varied: readonly Partial<Load>[] = [
  {},
  { fanOut: 0 },
  { fanOut: 1 },
  { fanOut: 10 },
  { writesPerSecond: 120 },
  { writesPerSecond: 120, fanOut: 0 },
  { writesPerSecond: 120, fanOut: 1 },
  { replies: 12 },
  { replies: 12, fanOut: 0 },
  { replies: 12, fanOut: 1 },
  { pagesPerSecond: 75 },
  // Nothing happens.
  { sessions: 1, fanOut: 0, writesPerSecond: 0, replies: 0, pagesPerSecond: 0 },
  { sessions: 600, fanOut: 1, writesPerSecond: 0, replies: 0, pagesPerSecond: 0 },
  { sessions: 60, fanOut: 40, writesPerSecond: 0, replies: 0, pagesPerSecond: 0 },
];

/** On one gateway. Forth and back, so that what else the machine does hits all alike. */
export async function measureCosts(stage: Stage, tell: (what: string) => void): Promise<Costs> {
  tell("memory");
  const memory = await measureMemory(stage);
  const world = await World.open(stage, 1);
  const trials = [];
  for (const difference of [...varied, ...varied.toReversed()]) {
    const load = { ...mixed, ...difference, gateways: 1 };
    const measured = await world.trial(load);
    tell(`the mixed load, but ${JSON.stringify(difference)}: ${JSON.stringify(measured)}`);
    trials.push({ load, measured });
  }
  await world.close();
  return { parts: fit(trials), ...memory };
}
