import { randomUUID } from "node:crypto";
import { compare, inRounds, type Benchmark, type Comparison, type Contender } from "../benchmark.ts";
import type { AgentOrders } from "../baselines/history-agents.ts";
import type { ExpressOrders } from "../baselines/express-chain.ts";
import type { HttpLoad } from "../clients/http-load.ts";
import { agentName, kinds } from "../agents/kinds.ts";
import type { ParleyOrders } from "../parley.ts";
import type { BenchProcess } from "../processes.ts";
import { graphqlBody, turnMutation } from "../queries.ts";
import { fillSessions } from "../sessions.ts";
import { quantile } from "../statistics.ts";

const pace = { tokens: 4, firstTokenMs: 0, tokenMs: 0 };
const windowTurns = 5;
/** Of an agent's turn, which has more code to be compiled than a chain's. */
const agentTurns = { turns: 100, warmUpTurns: 1000 };

/** `sessionId` null: a new one in each turn. */
interface Case {
  /** A model that costs nothing shows the gateway's own share; @langchain/openai is what a turn runs through in service. */
  readonly model: "paced" | "openai";
  readonly name: string;
  readonly turns: number;
  /** Ahead of what is measured: V8 takes thousands of turns to compile all that they run, whoever's code it is. */
  readonly warmUpTurns: number;
  readonly atOnce: number;
  readonly sessionId: string | null;
  /** Of what is one after the other, CPU and time; with many at a time CPU alone says what one costs. */
  readonly goal: number;
}

function caseOf(name: string, rest: Pick<Case, "turns" | "warmUpTurns"> & Partial<Case>): Case {
  return { model: "paced", atOnce: 1, sessionId: null, goal: 1.5, ...rest, name };
}

export const turns: Benchmark = {
  name: "turns",
  title: `a whole turn, waiting for the reply; of the long session the model sees ${windowTurns} turns`,
  async run(stage) {
    const memory = { strategy: "WINDOW", maxTurns: windowTurns };
    const { url: openaiUrl } = await stage.start("openai-server.ts");
    const serversWith = async (model: object) => ({
      chain: await stage.start<ExpressOrders>("baselines/express-chain.ts", { pace, ...model }),
      parley: await stage.start<ParleyOrders>("parley.ts", { pace, memory, ...model }),
    });
    const servers = { paced: await serversWith({}), openai: await serversWith({ openaiUrl }) };
    const agents = {
      alone: await stage.start<AgentOrders>("baselines/history-agents.ts", { pace }),
      parley: await stage.start<ParleyOrders>("parley.ts", { pace, memory, withAgents: true }),
    };
    const client = await stage.start<HttpLoad>("clients/http-load.ts");
    await fillSessions(stage.redisUrl, ["long-parley", "long-parley-http", "long-chain", "long-express"], 10_000);

    const timed = (
      name: string,
      note: string,
      of: Pick<Case, "turns" | "warmUpTurns">,
      process: BenchProcess,
      take: (count: number) => Promise<{ readonly turns: number; readonly p50Ms: number; readonly p99Ms: number }>,
    ): Contender => ({
      name,
      note,
      warmUp: () => take(of.warmUpTurns),
      async window() {
        const before = await process.usage();
        const { turns: taken, p50Ms, p99Ms } = await take(of.turns);
        const after = await process.usage();
        return { cpuUs: (after.cpuUs - before.cpuUs) / taken, p50Ms, p99Ms };
      },
    });
    const quantiles = (times: readonly number[]) => ({
      turns: times.length,
      p50Ms: quantile(times, 0.5),
      p99Ms: quantile(times, 0.99),
    });
    const overHttp = async (url: string, path: string, body: string, requests: number, count: number) => {
      const request = { url, path, bodies: [body] };
      await client.order("connect", { ...request, count });
      const load = await client.order("load", { ...request, requests });
      await client.order("disconnect", undefined);
      // Each connection was tried with one.
      return { ...load, turns: load.requests + count };
    };
    const contendersOf = (of: Case): readonly Contender[] => {
      const { name, atOnce, sessionId } = of;
      const { chain, parley } = servers[of.model];
      const ids = (long: string, count: number) =>
        Array.from({ length: count }, () => (sessionId === null ? randomUUID() : long));
      const k = sessionId === null ? null : windowTurns;
      const variables = { sessionId: sessionId === null ? "UNIQUE" : "long-parley-http" };
      const body = JSON.stringify({ sessionId: sessionId === null ? "UNIQUE" : "long-express", windowTurns: k });
      const unordered = "nothing orders turns, no retry is safe, nobody is told";
      const chained = async (streams: boolean, count: number) => {
        const order = { sessionIds: ids("long-chain", count), windowTurns: k, atOnce, streams };
        return quantiles(await chain.order("turns", order));
      };
      return [
        timed(`Parley, ${name}`, "createGateway().conversations, as its resolvers call it", of, parley, async (count) =>
          quantiles(await parley.order("turns", { sessionIds: ids("long-parley", count), atOnce })),
        ),
        timed(
          `ConversationChain, ${name}`,
          `LangChain's RedisChatMessageHistory; ${unordered}; not streamed`,
          of,
          chain,
          (count) => chained(false, count),
        ),
        timed(
          `ConversationChain streaming, ${name}`,
          "the same, token by token, as Parley's readers get it",
          of,
          chain,
          (count) => chained(true, count),
        ),
        timed(`Parley over HTTP, ${name}`, "", of, parley, (count) =>
          overHttp(parley.url, "/graphql", graphqlBody(turnMutation, variables), count, atOnce),
        ),
        timed(`Express, ${name}`, "the same ConversationChain, not streamed", of, chain, (count) =>
          overHttp(chain.url, "/turn", body, count, atOnce),
        ),
      ];
    };
    const newSessions = (count: number) => Array.from({ length: count }, () => randomUUID());
    const agentContenders = kinds.flatMap((kind): readonly Contender[] => [
      timed(`Parley, ${kind}, empty session`, "", agentTurns, agents.parley, async (count) =>
        quantiles(
          await agents.parley.order("turns", { sessionIds: newSessions(count), atOnce: 1, model: agentName(kind) }),
        ),
      ),
      timed(
        `LangChain streaming, ${kind}, empty session`,
        "reads and adds to its history by hand",
        agentTurns,
        agents.alone,
        async (count) => quantiles(await agents.alone.order("turns", { sessionIds: newSessions(count), kind })),
      ),
    ]);
    const cases: readonly Case[] = [
      caseOf("empty session", { turns: 300, warmUpTurns: 2000 }),
      caseOf("32 at a time, empty sessions", { turns: 640, warmUpTurns: 640, atOnce: 32 }),
      caseOf("empty session, @langchain/openai", { turns: 150, warmUpTurns: 1000, model: "openai" }),
      caseOf("32 at a time, empty sessions, @langchain/openai", {
        turns: 320,
        warmUpTurns: 320,
        atOnce: 32,
        model: "openai",
      }),
      caseOf("10,000 messages", { turns: 12, warmUpTurns: 12, sessionId: "long", goal: 0.1 }),
    ];
    const contenders = await inRounds([...cases.flatMap(contendersOf), ...agentContenders], 3);
    const ofAgents = kinds.map((kind) =>
      compare(contenders, {
        what: `Parley: a turn of the ${kind}, empty session, against LangChain streaming (CPU)`,
        ...{ of: `Parley, ${kind}, empty session`, to: `LangChain streaming, ${kind}, empty session` },
        ...{ metric: "cpuUs", form: "ratio", goal: null },
      }),
    );
    const ofChains = cases.flatMap(({ name, model, atOnce, goal }): readonly Comparison[] => {
      const timeGoal = atOnce === 1 ? goal : null;
      // OpenAI's client takes twice as long for a reply in pieces, and those are what readers get.
      const streams = model === "openai";
      const against = (of: string, to: string, metric: "cpuUs" | "p50Ms", bound: number | null) =>
        compare(contenders, {
          what: `${of}: a turn, ${name}, against ${to} (${metric === "cpuUs" ? "CPU" : "time"})`,
          ...{ of: `${of}, ${name}`, to: `${to}, ${name}`, metric, form: "ratio", goal: bound },
        });
      return [
        against("Parley", "ConversationChain", "cpuUs", goal),
        against("Parley", "ConversationChain", "p50Ms", timeGoal),
        against("Parley", "ConversationChain streaming", "cpuUs", streams ? goal : null),
        against("Parley", "ConversationChain streaming", "p50Ms", streams ? timeGoal : null),
        against("Parley over HTTP", "Express", "cpuUs", atOnce === 1 ? null : goal),
        against("Parley over HTTP", "Express", "p50Ms", null),
      ];
    });
    return { contenders, comparisons: [...ofChains, ...ofAgents] };
  },
};
