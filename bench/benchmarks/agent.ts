import { compare, type Benchmark } from "../benchmark.ts";
import { partsOfTurn } from "../agents/chatty-model.ts";
import type { HttpLoad } from "../clients/http-load.ts";
import type { PartReaders } from "../clients/part-readers.ts";
import { machineMs } from "../orders.ts";
import type { ParleyOrders } from "../parley.ts";
import { agentTurnMutation, graphqlBody, runPartsQuery, type RunPart } from "../queries.ts";
import { median } from "../statistics.ts";

const readersCount = 100;
const warmUpMs = 15_000;
const lastsMs = 60_000;
const sessionId = "chatty";

interface Sample {
  readonly atMs: number;
  readonly heapBytes: number;
  readonly rssBytes: number;
}

/** Turn behind turn, and what the gateway holds on to behind each: it must not grow with what it has told. */
export const agentBenchmark: Benchmark = {
  name: "agent",
  title: `an agent that thinks, talks and calls a tool all the time, to ${readersCount} readers for ${lastsMs / 1000} s: what the gateway holds on to`,
  async run(stage) {
    const pace = { tokens: 0, firstTokenMs: 0, tokenMs: 0 };
    const memory = { strategy: "WINDOW", maxTurns: 5 };
    const parley = await stage.start<ParleyOrders>("parley.ts", { pace, memory, withAgents: true });
    const client = await stage.start<HttpLoad>("clients/http-load.ts");
    const readers = await stage.start<PartReaders>("clients/part-readers.ts");
    const ask = async <Data>(query: string, variables: object): Promise<Data> => {
      const body = graphqlBody(query, variables);
      const [answer] = await client.order("answers", { url: parley.url, path: "/graphql", bodies: [body] });
      if (answer?.status !== 200 || answer.text.includes('"errors"')) throw new Error(answer?.text.slice(0, 500));
      // Safe: the fields are those of the query.
      return (JSON.parse(answer.text) as { readonly data: Data }).data;
    };
    interface Turn {
      readonly sendMessage: { readonly reply: object | null; readonly run: { readonly id: string } };
    }
    interface Run {
      readonly node: { readonly status: string; readonly parts: readonly RunPart[] };
    }
    const turn = async (): Promise<number> => {
      const { sendMessage } = await ask<Turn>(agentTurnMutation, { sessionId, model: "agent:chatty" });
      const runId = sendMessage.run.id;
      const { status, parts } = (await ask<Run>(runPartsQuery, { id: runId })).node;
      if (status !== "COMPLETED" || parts.length !== partsOfTurn)
        throw new Error(`The turn is ${status} with ${parts.length} parts`);
      return await readers.order("ended", { runId, parts });
    };
    await ask<Turn>(agentTurnMutation, { sessionId, model: "agent:chatty" });
    await readers.order("open", { url: `${parley.url}/graphql`, count: readersCount, sessionId });
    for (const until = machineMs() + warmUpMs; machineMs() < until;) await turn();

    const samples: Sample[] = [];
    const startedAt = machineMs();
    const before = await parley.usage();
    let events = 0;
    while (machineMs() - startedAt < lastsMs) {
      events += await turn();
      // Twice: what the first finds unused beside V8's heap is given back behind it.
      await parley.collectGarbage();
      await parley.collectGarbage();
      const { heapBytes, rssBytes } = await parley.usage();
      samples.push({ atMs: machineMs() - startedAt, heapBytes, rssBytes });
    }
    const cpuMs = ((await parley.usage()).cpuUs - before.cpuUs) / 1000;
    const of = (third: readonly Sample[]) => ({
      heapBytes: median(third.map((sample) => sample.heapBytes)),
      rssBytes: median(third.map((sample) => sample.rssBytes)),
    });
    const first = "Parley, the first 20 s";
    const last = "Parley, the last 20 s";
    const contenders = [
      { name: first, note: "", figures: of(samples.filter(({ atMs }) => atMs < lastsMs / 3)) },
      {
        name: last,
        note: `${samples.length} turns; ${events} events, each reader's put together to the very parts of each run; all in ${cpuMs.toFixed(0)} ms of CPU with the collections`,
        figures: of(samples.filter(({ atMs }) => atMs >= (lastsMs * 2) / 3)),
      },
    ];
    return {
      contenders,
      comparisons: [
        compare(contenders, {
          what: "what the gateway holds on to, the last 20 s against the first",
          ...{ of: last, to: first, metric: "heapBytes", form: "ratio", goal: 1.1 },
        }),
      ],
    };
  },
};
