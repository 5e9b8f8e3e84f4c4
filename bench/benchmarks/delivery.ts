import { setTimeout as sleep } from "node:timers/promises";
import { compare, inRounds, warm, type Benchmark, type Contender, type Stage } from "../benchmark.ts";
import type { Publisher } from "../clients/publisher.ts";
import type { Readers } from "../clients/readers.ts";
import type { BenchProcess } from "../processes.ts";
import { messageSubscription } from "../queries.ts";
import { fillSessions } from "../sessions.ts";

const subscribers = 1000;
const perSecond = 20;
const windowMessages = 40;
const warmUpWindows = 3;

let sessions = 0;

interface Server {
  readonly name: string;
  readonly note: string;
  readonly process: BenchProcess;
  readonly how: "parley" | "redis";
}

/** Everyone follows one session, of which no other server knows; each gets each message once and in order, or the benchmark fails. */
export async function deliveryContender(
  stage: Stage,
  publisher: BenchProcess<Publisher>,
  { name, note, process, how }: Server,
): Promise<Contender> {
  const sessionId = `delivery-${++sessions}`;
  await fillSessions(stage.redisUrl, [sessionId], 50);
  const readers = await stage.start<Readers>("clients/readers.ts");
  const url = `${process.url}/graphql`;
  const variables = [{ sessionId }];
  await readers.order("open", { url, count: subscribers, query: messageSubscription, variables });
  let sent = 0;
  const publish = async (count: number) => {
    await publisher.order("publish", { how, sessionIds: [sessionId], from: sent + 1, count, perSecond });
    sent += count;
  };
  // Nobody says when a subscription over graphql-ws has begun: they have when a message reaches all of them.
  for (let tries = 0; (await readers.order("answered", undefined)) < subscribers; tries++) {
    if (tries > 500) throw new Error(`${name}: some subscribers get nothing`);
    await publish(1);
    await sleep(20);
  }
  await readers.order("deliveries", { through: sent });
  const window = async () => {
    const before = await process.usage();
    await publish(windowMessages);
    const { deliveries, p50Ms, p99Ms, lastMs } = await readers.order("deliveries", { through: sent });
    const after = await process.usage();
    if (deliveries !== windowMessages * subscribers) throw new Error(`${name}: ${deliveries} deliveries`);
    return { cpuUs: (after.cpuUs - before.cpuUs) / deliveries, p50Ms, p99Ms, lastMs };
  };
  return { name, note, window, warmUp: () => warm(warmUpWindows, window) };
}

export const delivery: Benchmark = {
  name: "delivery",
  title: `delivery of a message, ${subscribers} WebSocket subscribers of one session, ${perSecond} messages a second`,
  async run(stage) {
    const publisher = await stage.start<Publisher>("clients/publisher.ts");
    const pace = { tokens: 1, firstTokenMs: 0, tokenMs: 0 };
    const noGaps = "gaps are not filled, nobody who lags is looked after";
    const servers: readonly Server[] = [
      { name: "Parley", note: "", how: "parley", process: await stage.start("parley.ts", { pace }) },
      {
        name: "Yoga pub/sub",
        note: `createPubSub + redis-event-target + graphql-ws as the guides have it; ${noGaps}`,
        how: "redis",
        process: await stage.start("baselines/yoga.ts", { pace }),
      },
      {
        name: "graphql-redis-subscriptions",
        note: `with graphql-ws; ${noGaps}`,
        how: "redis",
        process: await stage.start("baselines/graphql-redis-subscriptions.ts"),
      },
      {
        name: "raw ws broadcast",
        note: `serialised once, ws.send to each; no GraphQL, no owner, no operation ids; ${noGaps}`,
        how: "redis",
        process: await stage.start("baselines/raw-ws.ts"),
      },
    ];
    const all: Contender[] = [];
    for (const server of servers) all.push(await deliveryContender(stage, publisher, server));
    const contenders = await inRounds(all, 2);
    const against = (to: string, goal: number) =>
      compare(contenders, {
        what: `a delivery, against ${to}`,
        of: "Parley",
        to,
        metric: "cpuUs",
        form: "ratio",
        goal,
      });
    return {
      contenders,
      comparisons: [
        against("Yoga pub/sub", 1 / 5),
        against("graphql-redis-subscriptions", 1 / 3.5),
        against("raw ws broadcast", 1.3),
      ],
    };
  },
};
