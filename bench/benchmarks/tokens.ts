import { randomUUID } from "node:crypto";
import { compare, inRounds, warm, type Benchmark, type Contender, type Stage } from "../benchmark.ts";
import type { ExpressOrders } from "../baselines/express-chain.ts";
import type { YogaOrders } from "../baselines/yoga.ts";
import type { HttpLoad } from "../clients/http-load.ts";
import type { Readers } from "../clients/readers.ts";
import { replyText } from "../model.ts";
import type { ParleyOrders } from "../parley.ts";
import type { BenchProcess } from "../processes.ts";
import { eventSubscription, graphqlBody, sendMutation, tokenSubscription } from "../queries.ts";
import { fillSessions } from "../sessions.ts";

const readersCount = 100;
const warmUpWindows = 3;
const pace = { tokens: 2000, firstTokenMs: 1, tokenMs: 1 };

interface Server {
  readonly name: string;
  readonly note: string;
  readonly process: BenchProcess<Pick<YogaOrders & ParleyOrders, "modelEndedAt">>;
  readonly subscription: string;
  readonly mutation: string;
}

/** Each reader must have the whole reply, character for character. */
async function tokensContender(stage: Stage, client: BenchProcess<HttpLoad>, server: Server): Promise<Contender> {
  const { name, note, process, subscription, mutation } = server;
  const sessionId = `tokens-${name.replaceAll(" ", "-")}`;
  await fillSessions(stage.redisUrl, [sessionId], 2);
  const readers = await stage.start<Readers>("clients/readers.ts");
  const url = `${process.url}/graphql`;
  await readers.order("open", { url, count: readersCount, query: subscription, variables: [{ sessionId }] });
  const bodies = [graphqlBody(mutation, { sessionId })];
  const window = async () => {
    const before = await process.usage();
    const [answer] = await client.order("answers", { url: process.url, path: "/graphql", bodies });
    if (answer?.status !== 200 || answer.text.includes('"errors"')) throw new Error(`${name}: ${answer?.text}`);
    const hadAt = await readers.order("reply", { text: replyText(pace.tokens), limitMs: 40_000 });
    const after = await process.usage();
    const endedAt = await process.order("modelEndedAt", undefined);
    return { cpuMs: (after.cpuUs - before.cpuUs) / 1000, lastMs: hadAt - endedAt };
  };
  return { name, note, window, warmUp: () => warm(warmUpWindows, window) };
}

/** What the other two cannot be cheaper than. */
function chainContender(chain: BenchProcess<ExpressOrders>): Contender {
  const window = async () => {
    const before = await chain.usage();
    await chain.order("turns", { sessionIds: [randomUUID()], windowTurns: null, atOnce: 1, streams: true });
    const after = await chain.usage();
    return { cpuMs: (after.cpuUs - before.cpuUs) / 1000 };
  };
  return {
    name: "ConversationChain alone",
    note: "the same model and LangChain's history, its tokens to nobody",
    window,
    warmUp: () => warm(warmUpWindows, window),
  };
}

export const tokens: Benchmark = {
  name: "tokens",
  title: `a reply of ${pace.tokens} tokens at 1/ms to ${readersCount} readers: CPU of the server in all, the model and its chain included`,
  async run(stage) {
    const client = await stage.start<HttpLoad>("clients/http-load.ts");
    const servers: readonly Server[] = [
      {
        name: "Parley",
        note: "",
        process: await stage.start<ParleyOrders>("parley.ts", { pace }),
        subscription: eventSubscription,
        mutation: sendMutation,
      },
      {
        name: "Yoga, one event a token",
        note: "createPubSub + redis-event-target; who comes late has no text, a reader that lags stops the process",
        process: await stage.start<YogaOrders>("baselines/yoga.ts", { pace }),
        subscription: tokenSubscription,
        mutation: "mutation Send($sessionId: String!) { send(sessionId: $sessionId) }",
      },
    ];
    const all: Contender[] = [];
    for (const server of servers) all.push(await tokensContender(stage, client, server));
    all.push(chainContender(await stage.start<ExpressOrders>("baselines/express-chain.ts", { pace })));
    const contenders = await inRounds(all, 1);
    const against = { of: "Parley", to: "Yoga, one event a token" };
    return {
      contenders,
      comparisons: [
        compare(contenders, {
          what: "a streamed reply, against one event a token on Yoga",
          ...{ ...against, metric: "cpuMs", form: "ratio", goal: 1 / 20 },
        }),
        compare(contenders, {
          what: "the last token with the last reader, behind the model's",
          ...{ of: "Parley", to: null, metric: "lastMs", form: "value", goal: 50 },
        }),
      ],
    };
  },
};
