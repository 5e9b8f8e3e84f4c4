import { createServer } from "node:net";
import type { AddressInfo } from "node:net";
import { once } from "node:events";
import { request } from "node:http";
import { rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { text as readText } from "node:stream/consumers";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { addMessages, eventsOf, follow, isRunEnd, send, texts } from "../support/gateway/conversation.ts";
import { spawnGateway, workersOf, type GatewayProcess } from "../support/gateway/gateway.ts";
import { runParley } from "../support/gateway/parley-command.ts";
import { startOpenAI, type OpenAIServer } from "../support/model/openai-server.ts";
import { waitUntil } from "../support/redis/redis-command.ts";
import { startRedis, type TestRedis } from "../support/redis/redis-server.ts";
import { temporaryDirectory } from "../support/redis/server-process.ts";

/** Over a connection of its own: one after the other they go to one worker and to the next. */
async function askAnew(url: string, query: string): Promise<unknown> {
  const asked = request(url, { method: "POST", agent: false, headers: { "content-type": "application/json" } });
  asked.end(JSON.stringify({ query }));
  const [response] = (await once(asked, "response")) as [NodeJS.ReadableStream]; // node:http gives it
  return JSON.parse(await readText(response));
}

async function scrape(url: string): Promise<Map<string, number>> {
  const asked = request(url.replace("/graphql", "/metrics"), { agent: false }).end();
  const [response] = (await once(asked, "response")) as [NodeJS.ReadableStream]; // node:http gives it
  const lines = (await readText(response)).split("\n").filter((line) => line !== "" && !line.startsWith("#"));
  return new Map(lines.map((line) => [line.slice(0, line.lastIndexOf(" ")), Number(line.split(" ").at(-1))] as const));
}

/** The lines of its log. */
function logOf(gateway: GatewayProcess): readonly Readonly<Record<string, unknown>>[] {
  const lines = gateway.output.split("\n").filter((line) => line.startsWith("{") && line.endsWith("}"));
  return lines.map((line) => JSON.parse(line) as Readonly<Record<string, unknown>>); // pino's
}

const agents = 'export default { one: { model: "offline" } };\n';
const counted = 'parley_operations_total{type="query",field="viewer",code="OK"}';

describe("two workers, with a Redis of Parley's own", () => {
  let gateway: GatewayProcess;
  let openai: OpenAIServer;
  let url: string;
  /** Where it lies a worker that starts dies. */
  let poison: string;

  beforeAll(async () => {
    openai = await startOpenAI();
    const folder = await temporaryDirectory();
    poison = join(folder, "poison");
    const file = join(folder, "agents.mjs");
    const dies = `if (cluster.isWorker && existsSync(${JSON.stringify(poison)})) process.exit(7);`;
    const imports = 'import cluster from "node:cluster";\nimport { existsSync } from "node:fs";';
    await writeFile(file, `${imports}\n${dies}\n${agents}`);
    gateway = await spawnGateway({
      WORKERS: "2",
      MODEL: "offline",
      MODELS: "openai:test,openai:away",
      OPENAI_API_KEY: "test",
      OPENAI_BASE_URL: openai.baseUrl,
      MODEL_MAX_RETRIES: "0",
      AGENTS_FILE: file,
    });
    ({ url } = gateway);
    await waitUntil("the screen is whole", () => Promise.resolve(gateway.output.includes("process.exit()")));
  });
  const deaths = () => logOf(gateway).filter(({ msg }) => String(msg).startsWith("A worker has ended."));
  afterAll(async () => {
    await gateway.kill();
    await openai.close();
  });

  test("are one gateway: it says ready once, on the one port that PORT=0 picked", async () => {
    expect(gateway.output.match(/is ready/g)).toHaveLength(1);
    expect(gateway.output).toContain("Workers   2 processes share the port");
    expect(gateway.output.match(/Redis +redis:/g)).toHaveLength(1);
    expect(workersOf(gateway.pid)).toHaveLength(2);
    expect((await fetch(new URL("/healthz", url))).status).toBe(200);
    expect((await fetch(new URL("/readyz", url))).status).toBe(200);
  });

  test("share conversations live: who follows at one worker has what was sent at the other", async () => {
    const followers = [await follow(url, "shared"), await follow(url, "shared")];
    const turn = await send(url, "shared", "Hi! I am Jim.");
    for (const follower of followers) {
      await follower.waitFor(isRunEnd(turn.run.id));
      const [asked, reply] = eventsOf(follower, "MessageAdded").map(({ message }) => message.text);
      expect([asked, reply?.slice(0, 10)]).toEqual(["Hi! I am Jim.", "Hello Jim!"]);
      follower.close();
    }
  });

  test("log lines carry the worker that wrote them", async () => {
    openai.behave("401");
    const before = logOf(gateway).length;
    const turn = `mutation { sendMessage(input: { text: "Hello", model: "openai:test" }) { reply { text } } }`;
    await askAnew(url, turn);
    await askAnew(url, turn);
    openai.behave(null);
    const failures = () => logOf(gateway).slice(before).filter(({ msg }) => msg === "A call of a model has failed."); // prettier-ignore
    await waitUntil("both are logged", () => Promise.resolve(failures().length === 2));
    expect(failures().map(({ worker }) => worker).sort()).toEqual([1, 2]); // prettier-ignore
  });

  test("/metrics is that of both, whichever is asked", async () => {
    const before = (await scrape(url)).get(counted) ?? 0;
    const followers = [await follow(url, "measured"), await follow(url, "measured"), await follow(url, "measured")];
    for (let i = 0; i < 4; i++) await askAnew(url, "{ viewer { subject } }");
    for (let i = 0; i < 2; i++) {
      const series = await scrape(url);
      expect(series.get(counted)).toBe(before + 4);
      expect(series.get("parley_websockets")).toBe(3);
      expect(series.get("parley_subscribers")).toBe(3);
      // The session is followed at both.
      expect(series.get("parley_feeds")).toBe(2);
      expect(series.get("parley_workers")).toBe(2);
      expect(series.get("process_resident_memory_bytes")).toBeGreaterThan(100_000_000);
    }
    for (const follower of followers) follower.close();
    await waitUntil("they are gone", async () => (await scrape(url)).get("parley_websockets") === 0);
  });

  test("one that is killed is replaced: the other serves on, clients resume and miss nothing, counts stay", async () => {
    await askAnew(url, "{ viewer { subject } }");
    const before = await scrape(url);
    const workers = workersOf(gateway.pid);
    const streams: Awaited<ReturnType<typeof follow>>[] = [];
    for (let i = 0; i < 4; i++) streams.push(await follow(url, "resumed"));
    await addMessages(url, "resumed", [{ role: "USER", text: "one" }]);
    for (const stream of streams) await stream.waitFor(({ __typename }) => __typename === "MessageAdded");
    const [victim = 0] = workers;
    process.kill(victim, "SIGKILL");
    await waitUntil("its streams are cut", () => Promise.resolve(streams.filter(({ ended }) => ended).length === 2));
    // As a client does: the write is sent again until it is answered, and is one write.
    await waitUntil("it is written", async () => {
      const more = { idempotencyKey: "two" };
      return (await addMessages(url, "resumed", [{ role: "USER", text: "two" }], more)).length === 1;
    });
    for (const stream of streams) {
      if (!stream.ended) {
        await stream.waitForCount(2, ({ __typename }) => __typename === "MessageAdded");
        continue;
      }
      const [{ message: last } = { message: { cursor: "" } }] = eventsOf(stream, "MessageAdded");
      const again = await follow(url, "resumed", last.cursor);
      await again.waitFor(({ __typename }) => __typename === "MessageAdded");
      expect(eventsOf(again, "MessageAdded").map(({ message }) => message.text)).toEqual(["two"]);
      again.close();
    }
    const alive = streams.filter(({ ended }) => !ended);
    expect(alive).toHaveLength(2);
    for (const stream of alive) {
      expect(eventsOf(stream, "MessageAdded").map(({ message }) => message.text)).toEqual(["one", "two"]);
      stream.close();
    }
    await waitUntil("it is replaced", async () => {
      const series = await scrape(url);
      return series.get("parley_workers") === 2 && series.get("parley_worker_restarts_total") === 1;
    });
    const now = workersOf(gateway.pid);
    expect(now).toHaveLength(2);
    expect(now).not.toContain(victim);
    expect((await scrape(url)).get(counted)).toBe(before.get(counted));
    expect(deaths().map(({ signal, code }) => [signal, code])).toEqual([["SIGKILL", null]]);
    expect(await texts(url, "resumed")).toEqual(["USER: one", "USER: two"]);
  });

  test("one that dies again and again is replaced later each time, until it lives", async () => {
    await writeFile(poison, "");
    const [victim = 0] = workersOf(gateway.pid);
    process.kill(victim, "SIGKILL");
    await waitUntil("it has died thrice", () => Promise.resolve(deaths().length >= 4));
    await rm(poison);
    await waitUntil("both listen", async () => (await scrape(url)).get("parley_workers") === 2);
    const [, first, ...again] = deaths();
    expect(first).toMatchObject({ signal: "SIGKILL", worker: expect.any(Number) as number });
    let delay = first?.["delayMs"];
    for (const death of again) {
      expect(death).toMatchObject({ code: 7, signal: null, worker: first?.["worker"] });
      expect(death["delayMs"]).toBe(delay === 0 ? 250 : Math.min(30_000, Number(delay) * 2));
      delay = death["delayMs"];
    }
    expect((await scrape(url)).get("parley_worker_restarts_total")).toBe(deaths().length);
  });

  test("SIGTERM stops all, once the replies have ended: their followers, at either, have the end before 1001", async () => {
    openai.behave({ kind: "gated", tokens: ["the ", "end"] });
    const turn = await send(url, "stopped", "Hello", { model: "openai:test" });
    const followers = [await follow(url, "stopped"), await follow(url, "stopped")];
    openai.release();
    for (const follower of followers) await follower.waitFor(({ __typename }) => __typename === "ReplyProgress");
    const workers = workersOf(gateway.pid);
    const stopped = gateway.stop();
    const reasonOf = async () => ((await (await fetch(new URL("/readyz", url))).json()) as { reason?: string }).reason; // health.ts
    await waitUntil("it is stopping", async () => (await reasonOf()) === "shutting down");
    openai.releaseAll();
    expect(await stopped).toBe(0);
    for (const follower of followers) {
      await follower.waitForEnd();
      expect(follower.error?.message).toBe("The socket closed with 1001 Going away");
      expect(follower.events.filter(isRunEnd(turn.run.id))).toHaveLength(1);
      expect(eventsOf(follower, "MessageAdded").map(({ message }) => message.text)).toEqual(["the end"]);
    }
    for (const pid of workers) expect(() => process.kill(pid, 0)).toThrow("ESRCH");
    expect(gateway.output.match(/"Stopped\."/g)).toHaveLength(1);
  });
});

describe("a start that fails is told once, and leaves nothing behind", () => {
  let redis: TestRedis;
  let folder: string;

  beforeAll(async () => {
    redis = await startRedis({ appendonly: false });
    folder = await temporaryDirectory();
  });
  afterAll(() => redis.stop());

  test("a worker dies before it is ready: exit code 1", async () => {
    const file = join(folder, "agents.mjs");
    const dies = `import cluster from "node:cluster";\nif (cluster.isWorker) process.kill(process.pid, "SIGKILL");\n`;
    await writeFile(file, `${dies}${agents}`);
    const ended = await runParley(folder, [], { REDIS_URL: redis.url, WORKERS: "2", AGENTS_FILE: file });
    expect([ended.code, ended.stderr]).toEqual([1, ""]);
    const lines = ended.stdout.trim().split("\n");
    expect(lines).toHaveLength(1);
    expect(lines[0]).toMatch(/"level":60,.*"worker":[12],.*Worker [12] ended before it was ready \(SIGKILL\)\./);
  });

  test("the port is taken: exit code 1", async () => {
    const taken = createServer().listen(0, "127.0.0.1");
    await once(taken, "listening");
    const PORT = String((taken.address() as AddressInfo).port); // it listens on a port
    const ended = await runParley(folder, [], { REDIS_URL: redis.url, WORKERS: "2", PORT });
    taken.close();
    expect([ended.code, ended.stderr]).toEqual([1, ""]);
    expect(ended.stdout.match(/Port \d+ of 127\.0\.0\.1 is taken\. Set PORT/g)).toHaveLength(1);
    expect(ended.stdout).toContain('"code":"EADDRINUSE"');
    expect(ended.stdout).not.toContain("ready");
  });

  test("a list of operations has a mistake: exit code 2", async () => {
    const file = join(folder, "operations.json");
    await writeFile(file, JSON.stringify({ bad: "{ vieewer { subject } }" }));
    const env = { REDIS_URL: redis.url, WORKERS: "2", PERSISTED_OPERATIONS_FILE: file };
    const ended = await runParley(folder, [], env);
    expect([ended.code, ended.stdout]).toEqual([2, ""]);
    expect(ended.stderr.match(/bad: Cannot query field "vieewer"/g)).toHaveLength(1);
  });
});
