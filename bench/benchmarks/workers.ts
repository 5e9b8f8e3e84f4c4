import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { availableParallelism } from "node:os";
import { Redis } from "ioredis";
import { spawnGateway, workersOf } from "../../test/support/gateway/gateway.ts";
import { compare, inRounds, type Benchmark, type Comparison, type Contender, type Figures } from "../benchmark.ts";
import type { HttpLoad } from "../clients/http-load.ts";
import { graphqlBody, pageQuery } from "../queries.ts";
import { redisUsage } from "../redis-usage.ts";
import { fillSessions } from "../sessions.ts";

const sessionIds = Array.from({ length: 16 }, (_, i) => `page-${10 + i}`);
/** For each process: what a process does at once it does in one go, so that fewer connections make a page dearer. */
const connectionsEach = 32;
/** By each process. V8 compiles what runs often anew, in steps: until it is done. */
const pagesEach = { warmUp: 25_000, window: 3000 };
const workers = 2;
const tickUs = 1e6 / Number(execFileSync("getconf", ["CLK_TCK"], { encoding: "utf8" }));

/** User and system time of a process that answers no orders, as Linux counts it. */
function cpuUs(pid: number): number {
  const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
  const [user = "", system = ""] = stat.slice(stat.lastIndexOf(")") + 2).split(" ").slice(11, 13); // prettier-ignore
  return (Number(user) + Number(system)) * tickUs;
}

interface Window extends Figures {
  readonly cpuUs: number;
  readonly redisUs: number;
  readonly clientUs: number;
  readonly perSecond: number;
}

export const workersBenchmark: Benchmark = {
  name: "workers",
  title: `the newest page of 50 messages, 32 connections a process: WORKERS=${workers} on one port`,
  async run(stage) {
    await fillSessions(stage.redisUrl, sessionIds, 200);
    const redis = new Redis(stage.redisUrl);
    const client = await stage.start<HttpLoad>("clients/http-load.ts");
    const env = { NODE_ENV: "production", REDIS_URL: stage.redisUrl, LOG_LEVEL: "info" };
    const [one, several] = await Promise.all(
      ["1", String(workers)].map((WORKERS) => spawnGateway({ ...env, WORKERS })),
    );
    assert.ok(one !== undefined && several !== undefined);
    try {
      const bodies = sessionIds.map((sessionId) => graphqlBody(pageQuery, { sessionId }));
      const contender = async (name: string, note: string, { pid, url }: typeof one): Promise<Contender> => {
        const request = { url: new URL(url).origin, path: "/graphql", bodies };
        const lengths = (await client.order("answers", request)).map(({ status, text }) => {
          assert.equal(status, 200);
          assert.equal(text.match(/"position":/g)?.length, 50);
          return Buffer.byteLength(text);
        });
        const pids = [pid, ...workersOf(pid)];
        const used = async () => ({
          parley: pids.reduce((sum, one) => sum + cpuUs(one), 0),
          redis: (await redisUsage(redis)).cpuUs,
          client: (await client.usage()).cpuUs,
        });
        const processes = Math.max(1, pids.length - 1);
        const load = async (each: number): Promise<Window> => {
          await client.order("connect", { ...request, count: processes * connectionsEach });
          const before = await used();
          const { requests, ms: took } = await client.order("load", {
            ...request,
            lengths,
            requests: processes * each,
          });
          const after = await used();
          await client.order("disconnect", undefined);
          return {
            cpuUs: (after.parley - before.parley) / requests,
            redisUs: (after.redis - before.redis) / requests,
            clientUs: (after.client - before.client) / requests,
            perSecond: (requests * 1000) / took,
          };
        };
        return { name, note, window: () => load(pagesEach.window), warmUp: () => load(pagesEach.warmUp) };
      };
      const contenders = await inRounds(
        [
          await contender("Parley, one process", "", one),
          await contender(`Parley, ${workers} workers`, "the CPU of the primary and of both workers", several),
        ],
        5,
      );
      return {
        contenders,
        comparisons: [
          compare(contenders, {
            ...{ what: "CPU a page, against one process", of: `Parley, ${workers} workers`, to: "Parley, one process" },
            ...{ metric: "cpuUs", form: "ratio", goal: 1.1 },
          }),
          ofAllCores(contenders.at(-1)?.figures ?? {}),
        ],
      };
    } finally {
      await Promise.all([one.stop(), several.stop()]);
      redis.disconnect();
    }
  },
};

/** The pages that these cores allow for, over those that came; another program on the machine takes its part of them. */
function ofAllCores({ cpuUs: parley = NaN, redisUs = NaN, clientUs = NaN, perSecond = NaN }: Figures): Comparison {
  const possible = (availableParallelism() * 1e6) / (parley + redisUs + clientUs);
  return {
    what: "pages a second that the cores allow for, against those that came",
    metric: "perSecond",
    parley: possible,
    baseline: { name: `Parley, ${workers} workers`, value: perSecond },
    form: "ratio",
    value: possible / perSecond,
    goal: 1 / 0.9,
  };
}
