import { nothing, total, type Costs, type Rates } from "./model.ts";
import { Redis } from "ioredis";
import type { Stage } from "../benchmark.ts";
import { parleyIdle } from "../benchmarks/idle.ts";
import type { ParleyOrders } from "../parley.ts";
import { pace, World, type Measured } from "./trial.ts";

/** Of a session that is followed by many: enough that a delivery stands out from what else a message costs. */
const many = 40;
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

/** The difference of two loads, for each of `times`; never below zero, which noise alone could make it. */
function each(times: number, more: Rates, less: Rates = nothing): Rates {
  const rest = total([
    [1 / times, more],
    [-1 / times, less],
  ]);
  const positive = (value: number) => Math.max(0, value);
  return {
    gateway: positive(rest.gateway),
    redis: positive(rest.redis),
    clientBytes: positive(rest.clientBytes),
    redisBytes: positive(rest.redisBytes),
  };
}

/**
 * What spread subscribers (one a session) and gathered ones (forty a session) cost tells a share for each session from
 * one for each subscriber: spread = session + subscriber, gathered = session + 40 subscribers.
 */
function split(spread: Rates, gathered: Rates): { readonly session: Rates; readonly subscriber: Rates } {
  const subscriber = each(many - 1, gathered, spread);
  return { subscriber, session: each(1, spread, subscriber) };
}

/** One load at a time, on one gateway. */
export async function measureCosts(stage: Stage, tell: (what: string) => void): Promise<Costs> {
  tell("memory");
  const memory = await measureMemory(stage);
  const world = await World.open(stage, 1);
  const idle = { sessions: 1, fanOut: 0, writesPerSecond: 0, replies: 0, pagesPerSecond: 0 };
  const run = async (what: string, load: Partial<typeof idle>): Promise<Measured> => {
    tell(what);
    return await world.trial({ ...idle, ...load });
  };
  // Of everything, so that no load is measured with what V8 had not compiled yet when the one before it was.
  await run("warming up", { sessions: 100, fanOut: many, writesPerSecond: 200, replies: 20, pagesPerSecond: 200 });
  const nobody = await run("nothing", {});
  const writes = await run("messages, nobody there", { sessions: 100, writesPerSecond: 100 });
  const write = each(100, writes, nobody);
  const pages = await run("pages", { sessions: 20, pagesPerSecond: 100 });

  const spreadIdle = await run("600 sessions followed by one", { sessions: 600, fanOut: 1 });
  const gatheredIdle = await run("60 sessions followed by forty", { sessions: 60, fanOut: many });
  const idling = split(each(600, spreadIdle, nobody), each(60, gatheredIdle, nobody));

  const spread = await run("messages to one each", { sessions: 100, fanOut: 1, writesPerSecond: 100 });
  const gathered = await run("messages to forty each", { sessions: 100, fanOut: many, writesPerSecond: 100 });
  const without = (measured: Measured, fanOut: number) =>
    each(
      100,
      measured,
      total([
        [1, writes],
        [100, idling.session],
        [100 * fanOut, idling.subscriber],
      ]),
    );
  const delivered = split(without(spread, 1), without(gathered, many));

  const alone = await run("replies, nobody there", { replies: 20 });
  const reply = each(20, alone, nobody);
  const read = await run("replies to one each", { replies: 20, fanOut: 1 });
  const shared = await run("replies to forty each", { replies: 20, fanOut: many });
  const text = split(each(20, read, alone), each(20, shared, alone));
  await world.close();

  return {
    feed: idling.session,
    subscriber: idling.subscriber,
    write,
    receipt: delivered.session,
    delivery: delivered.subscriber,
    reply,
    replyReceipt: text.session,
    replyDelivery: text.subscriber,
    page: each(100, pages, nobody),
    ...memory,
  };
}
