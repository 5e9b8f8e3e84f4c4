import { randomUUID } from "node:crypto";
import { compare, inRounds, type Benchmark, type Comparison, type Contender } from "../benchmark.ts";
import type { ExpressOrders } from "../baselines/express-chain.ts";
import type { HttpLoad } from "../clients/http-load.ts";
import type { ParleyOrders } from "../parley.ts";
import type { BenchProcess } from "../processes.ts";
import { graphqlBody, turnMutation } from "../queries.ts";
import { fillSessions } from "../sessions.ts";
import { quantile } from "../statistics.ts";

const pace = { tokens: 4, firstTokenMs: 0, tokenMs: 0 };
const windowTurns = 5;

/** `sessionId` null: a new one in each turn. */
interface Case {
  readonly name: string;
  readonly turns: number;
  readonly sessionId: string | null;
  readonly goal: number;
}

export const turns: Benchmark = {
  name: "turns",
  title: `a whole turn, waiting for the reply, one after the other; of the long session the model sees ${windowTurns} turns`,
  async run(stage) {
    const chain = await stage.start<ExpressOrders>("baselines/express-chain.ts", { pace });
    const memory = { strategy: "WINDOW", maxTurns: windowTurns };
    const parley = await stage.start<ParleyOrders>("parley.ts", { pace, memory });
    const client = await stage.start<HttpLoad>("clients/http-load.ts");
    await fillSessions(stage.redisUrl, ["long-parley", "long-parley-http", "long-chain", "long-express"], 10_000);

    const timed = (
      name: string,
      note: string,
      count: number,
      process: BenchProcess,
      once: () => Promise<{ readonly p50Ms: number; readonly p99Ms: number }>,
    ): Contender => ({
      name,
      note,
      async window() {
        const before = await process.usage();
        const { p50Ms, p99Ms } = await once();
        const after = await process.usage();
        return { cpuUs: (after.cpuUs - before.cpuUs) / count, p50Ms, p99Ms };
      },
    });
    const quantiles = (times: readonly number[]) => ({ p50Ms: quantile(times, 0.5), p99Ms: quantile(times, 0.99) });
    const overHttp = async (url: string, path: string, body: string, requests: number) => {
      const request = { url, path, bodies: [body] };
      await client.order("connect", { ...request, count: 1 });
      const load = await client.order("load", { ...request, requests });
      await client.order("disconnect", undefined);
      return load;
    };
    const contendersOf = ({ name, turns: count, sessionId }: Case): readonly Contender[] => {
      const ids = (long: string) => Array.from({ length: count }, () => (sessionId === null ? randomUUID() : long));
      const k = sessionId === null ? null : windowTurns;
      const variables = { sessionId: sessionId === null ? "UNIQUE" : "long-parley-http" };
      const chained = JSON.stringify({ sessionId: sessionId === null ? "UNIQUE" : "long-express", windowTurns: k });
      const unordered = "nothing orders turns, no retry is safe, nobody is told";
      return [
        timed(`Parley, ${name}`, "createGateway().conversations, as its resolvers call it", count, parley, async () =>
          quantiles(await parley.order("turns", { sessionIds: ids("long-parley") })),
        ),
        timed(
          `ConversationChain, ${name}`,
          `LangChain's RedisChatMessageHistory; ${unordered}`,
          count,
          chain,
          async () =>
            quantiles(await chain.order("turns", { sessionIds: ids("long-chain"), windowTurns: k, streams: false })),
        ),
        timed(
          `ConversationChain streaming, ${name}`,
          "the same, token by token, as Parley's readers get it",
          count,
          chain,
          async () =>
            quantiles(await chain.order("turns", { sessionIds: ids("long-chain"), windowTurns: k, streams: true })),
        ),
        timed(`Parley over HTTP, ${name}`, "", count + 1, parley, () =>
          overHttp(parley.url, "/graphql", graphqlBody(turnMutation, variables), count),
        ),
        timed(`Express, ${name}`, "the same ConversationChain", count + 1, chain, () =>
          overHttp(chain.url, "/turn", chained, count),
        ),
      ];
    };
    const cases: readonly Case[] = [
      { name: "empty session", turns: 60, sessionId: null, goal: 1.5 },
      { name: "10,000 messages", turns: 12, sessionId: "long", goal: 0.1 },
    ];
    const contenders = await inRounds(cases.flatMap(contendersOf), 3);
    const comparisons = cases.flatMap(({ name, goal }): readonly Comparison[] => {
      const against = (of: string, to: string, metric: "cpuUs" | "p50Ms", bound: number | null) =>
        compare(contenders, {
          what: `${of}: a turn, ${name}, against ${to} (${metric === "cpuUs" ? "CPU" : "time"})`,
          ...{ of: `${of}, ${name}`, to: `${to}, ${name}`, metric, form: "ratio", goal: bound },
        });
      return [
        against("Parley", "ConversationChain", "cpuUs", goal),
        against("Parley", "ConversationChain", "p50Ms", goal),
        against("Parley", "ConversationChain streaming", "p50Ms", null),
        against("Parley over HTTP", "Express", "cpuUs", null),
        against("Parley over HTTP", "Express", "p50Ms", null),
      ];
    });
    return { contenders, comparisons };
  },
};
