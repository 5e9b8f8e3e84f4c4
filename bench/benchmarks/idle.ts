import { setTimeout as sleep } from "node:timers/promises";
import { compare, type Benchmark, type ContenderResult, type Stage } from "../benchmark.ts";
import type { Publisher } from "../clients/publisher.ts";
import type { Readers } from "../clients/readers.ts";
import type { Usage } from "../orders.ts";
import type { BenchProcess } from "../processes.ts";
import { eventSubscription, messageSubscription } from "../queries.ts";
import { fillSessions } from "../sessions.ts";
import { median } from "../statistics.ts";

const subscribers = 8000;
/** Opened and closed ahead, so that what every server needs once is not counted. */
const warmUp = 300;

interface Idle {
  readonly name: string;
  readonly note: string;
  readonly process: BenchProcess;
  readonly query: string;
  readonly sessionIds: readonly string[];
  /** Where nothing tells that a subscription has begun, a message does. */
  readonly publisher: BenchProcess<Publisher> | null;
}

/** With all garbage collected, several times: what the collector frees, the allocator gives back later. */
async function settled(process: BenchProcess): Promise<Usage> {
  const readings: Usage[] = [];
  for (let i = 0; i < 5; i++) {
    await process.collectGarbage();
    await sleep(100);
    readings.push(await process.usage());
  }
  const last = readings.slice(-3);
  return {
    cpuUs: 0,
    rssBytes: median(last.map(({ rssBytes }) => rssBytes)),
    heapBytes: median(last.map(({ heapBytes }) => heapBytes)),
  };
}

async function openAll(readers: BenchProcess<Readers>, idle: Idle, count: number, from: number): Promise<void> {
  const { process, query, sessionIds, publisher } = idle;
  const variables = sessionIds.map((sessionId) => ({ sessionId }));
  await readers.order("open", { url: `${process.url}/graphql`, count, query, variables });
  for (let tries = 0; (await readers.order("answered", undefined)) < count; tries++) {
    if (tries > 500) throw new Error(`${idle.name}: some subscriptions do not begin`);
    const first = sessionIds.slice(0, 1);
    await publisher?.order("publish", { how: "redis", sessionIds: first, from: from + tries, count: 1, perSecond: 20 });
    await sleep(20);
  }
}

async function idleResult(stage: Stage, idle: Idle): Promise<ContenderResult> {
  const readers = await stage.start<Readers>("clients/readers.ts");
  await openAll(readers, idle, warmUp, 1);
  await readers.order("close", undefined);
  const before = await settled(idle.process);
  await openAll(readers, idle, subscribers, 100_000);
  const after = await settled(idle.process);
  await Promise.all([readers.stop(), idle.process.stop()]);
  return {
    name: idle.name,
    note: idle.note,
    figures: {
      rssBytes: (after.rssBytes - before.rssBytes) / subscribers,
      heapBytes: (after.heapBytes - before.heapBytes) / subscribers,
    },
  };
}

const spread = "Parley, a session each";
const pace = { tokens: 1, firstTokenMs: 0, tokenMs: 0 };

/** Each is started when its turn comes. */
function idleServers(stage: Stage, publisher: BenchProcess<Publisher> | null) {
  const one = { query: messageSubscription, sessionIds: ["idle"] };
  const parley = async (name: string, note: string, sessionIds: readonly string[]): Promise<Idle> => {
    await fillSessions(stage.redisUrl, sessionIds, 1);
    return {
      ...{ name, note, sessionIds, publisher: null, query: eventSubscription },
      process: await stage.start("parley.ts", { pace }),
    };
  };
  return {
    one: () => parley("Parley", "all follow one session", ["idle"]),
    own: () =>
      parley(
        spread,
        "each follows a session of its own, which has a feed and a channel of Redis",
        Array.from({ length: subscribers }, (_, i) => `idle-${i}`),
      ),
    yoga: async (): Promise<Idle> => ({
      ...{ name: "Yoga pub/sub", note: "with graphql-ws", publisher, ...one },
      process: await stage.start("baselines/yoga.ts", { pace }),
    }),
    raw: async (): Promise<Idle> => ({
      ...{ name: "raw ws", note: "a socket in a set: no GraphQL, no keep-alive", publisher, ...one },
      process: await stage.start("baselines/raw-ws.ts"),
    }),
  };
}

/** What an idle subscriber of Parley's takes, in bytes: where all follow one session, or each one of its own. */
export async function parleyIdle(stage: Stage, sessions: "one" | "own"): Promise<number> {
  const { figures } = await idleResult(stage, await idleServers(stage, null)[sessions]());
  return figures.rssBytes ?? Number.NaN;
}

export const idle: Benchmark = {
  name: "idle",
  title: `resident memory of the server for each of ${subscribers} idle WebSocket subscribers, after garbage collection`,
  async run(stage) {
    const publisher = await stage.start<Publisher>("clients/publisher.ts");
    const contenders: ContenderResult[] = [];
    for (const start of Object.values(idleServers(stage, publisher)))
      contenders.push(await idleResult(stage, await start()));
    const compared = (of: string, to: string | null, goal: number | null) =>
      compare(contenders, {
        what: `${of}: an idle subscriber${to === null ? "" : `, against ${to}`}`,
        ...{ of, to, metric: "rssBytes", form: to === null ? "value" : "ratio", goal },
      });
    return {
      contenders,
      comparisons: [
        compared("Parley", null, 12 * 1024),
        compared(spread, null, null),
        compared("Parley", "Yoga pub/sub", null),
        compared("Parley", "raw ws", null),
      ],
    };
  },
};
