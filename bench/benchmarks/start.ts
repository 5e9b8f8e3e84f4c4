import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { Agent, request } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { freePort } from "../../src/embedded-redis/port.ts";
import { startFlags, startProgram } from "../../test/support/gateway/start-command.ts";
import { compare, inRounds, type Benchmark, type Contender, type Figures } from "../benchmark.ts";
import { startProcess } from "../processes.ts";

const rounds = 4;
/** Between two questions whether it is ready; the figures are no finer than this. */
const pollMs = 5;
const giveUpAfterMs = 60_000;

const json = { "content-type": "application/json" };

/** The status; null: nobody listens. One connection serves all, so that asking costs the starting process little. */
function statusOf(agent: Agent, url: string, body: string | null): Promise<number | null> {
  return new Promise((resolve) => {
    const method = body === null ? "GET" : "POST";
    const asked = request(url, { agent, method, headers: json }, (response) => {
      response.resume().once("end", () => resolve(response.statusCode ?? null));
    });
    asked.once("error", () => resolve(null));
    asked.end(body);
  });
}

/** As its users start it: to /readyz, then to the answer of the first operation. */
async function startOnce(redisUrl: string, compileCache: string): Promise<Figures> {
  const port = await freePort();
  const agent = new Agent({ keepAlive: true });
  const { PATH } = process.env;
  const env = { PATH, PORT: String(port), REDIS_URL: redisUrl, NODE_COMPILE_CACHE: compileCache, LOG_LEVEL: "error" };
  const startedAt = performance.now();
  const child = spawn(process.execPath, [...startFlags, startProgram], { env, stdio: ["ignore", "ignore", "inherit"] });
  const exited = once(child, "exit");
  const since = () => performance.now() - startedAt;
  const origin = `http://127.0.0.1:${port}`;
  try {
    while ((await statusOf(agent, `${origin}/readyz`, null)) !== 200) {
      if (child.exitCode !== null || since() > giveUpAfterMs) throw new Error("Parley does not become ready");
      await sleep(pollMs);
    }
    const readyMs = since();
    const status = await statusOf(agent, `${origin}/graphql`, '{"query":"{ __typename }"}');
    if (status !== 200) throw new Error(`The first operation is answered with ${status}`);
    return { readyMs, answerMs: since() };
  } finally {
    agent.destroy();
    child.kill("SIGTERM");
    await exited;
  }
}

/** The Yoga recipe, until it listens: the same libraries without Parley, LangChain among them. */
async function yogaOnce(redisUrl: string): Promise<Figures> {
  const startedAt = performance.now();
  const pace = { tokens: 1, firstTokenMs: 0, tokenMs: 0 };
  const started = await startProcess("baselines/yoga.ts", { redisUrl, pace });
  const readyMs = performance.now() - startedAt;
  await started.stop();
  return { readyMs };
}

export const start: Benchmark = {
  name: "start",
  title: "from the command to a gateway that is ready, its Redis running already",
  async run({ redisUrl }) {
    const kept = await mkdtemp(join(tmpdir(), "parley-bench-"));
    const again: Contender = {
      name: "Parley",
      note: "as npm start; what V8 compiled is there from an earlier start; LangChain is imported afterwards",
      window: () => startOnce(redisUrl, kept),
    };
    const first: Contender = {
      name: "Parley, its first start",
      note: "nothing is compiled yet",
      async window() {
        const empty = await mkdtemp(join(tmpdir(), "parley-bench-"));
        try {
          return await startOnce(redisUrl, empty);
        } finally {
          await rm(empty, { recursive: true });
        }
      },
    };
    const yoga: Contender = {
      name: "Yoga pub/sub",
      note: "the recipe's program until it listens, LangChain's history and chain in it",
      window: () => yogaOnce(redisUrl),
    };
    try {
      const contenders = await inRounds([again, first, yoga], rounds);
      const ready = { metric: "readyMs" } as const;
      return {
        contenders,
        comparisons: [
          compare(contenders, { what: "ready", of: "Parley", to: null, form: "value", goal: 1000, ...ready }),
          compare(contenders, {
            ...{ what: "ready, against the Yoga recipe", of: "Parley", to: "Yoga pub/sub", form: "ratio", goal: null },
            ...ready,
          }),
        ],
      };
    } finally {
      await rm(kept, { recursive: true });
    }
  },
};
