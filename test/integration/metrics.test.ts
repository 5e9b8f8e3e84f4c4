import { randomUUID } from "node:crypto";
import { Redis } from "ioredis";
import { tool } from "@langchain/core/tools";
import { ChatOpenAI } from "@langchain/openai";
import { createAgent } from "langchain";
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from "vitest";
import { ask } from "../support/gateway/conversation.ts";
import { calls } from "../support/model/agent-run.ts";
import { execute, subscribe } from "../support/gateway/graphql-client.ts";
import { startGateway, type TestGateway } from "../support/gateway/gateway.ts";
import { startOpenAI } from "../support/model/openai-server.ts";
import { replicasOnline, waitUntil } from "../support/redis/redis-command.ts";
import { startRedis, type TestRedis } from "../support/redis/redis-server.ts";

let server: TestRedis;
let redis: Redis;
let one: TestGateway;
beforeAll(async () => {
  server = await startRedis({ appendonly: false });
  redis = new Redis(server.url);
});
beforeEach(async () => {
  await redis.flushall();
  one = await startGateway({ redis: server.url });
});
afterEach(() => one.close());
afterAll(async () => {
  redis.disconnect();
  await server.stop();
});

/** Series by name and labels, as Prometheus would have them. */
async function scrape(gateway: TestGateway, headers: Record<string, string> = {}): Promise<Map<string, number>> {
  const response = await fetch(gateway.url.replace("/graphql", "/metrics"), { headers });
  expect(response.status).toBe(200);
  expect(response.headers.get("content-type")).toContain("text/plain");
  const lines = (await response.text()).split("\n").filter((line) => line !== "" && !line.startsWith("#"));
  return new Map(
    lines.map((line) => {
      const at = line.lastIndexOf(" ");
      return [line.slice(0, at), Number(line.slice(at + 1))] as const;
    }),
  );
}

const send = `mutation Send($text: String!) {
  sendMessage(input: { sessionId: "measured", text: $text }) { run { status } reply { text } }
}`;

function post(gateway: TestGateway, query: unknown): Promise<Response> {
  return fetch(gateway.url, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ query }),
  });
}

test("a turn is measured: its operation, its run, its first token, its commands to Redis", async () => {
  await execute(one.url, send, { text: "Hello" });
  const series = await scrape(one);
  expect(series.get('parley_operations_total{type="mutation",field="sendMessage",code="OK"}')).toBe(1);
  expect(series.get('parley_operation_duration_seconds_count{type="mutation",field="sendMessage"}')).toBe(1);
  expect(series.get('parley_runs_total{status="COMPLETED",code=""}')).toBe(1);
  const whole = series.get('parley_run_duration_seconds_sum{status="COMPLETED"}') ?? 0;
  const first = series.get("parley_time_to_first_token_seconds_sum") ?? 0;
  expect(series.get("parley_time_to_first_token_seconds_count")).toBe(1);
  expect(first).toBeGreaterThan(0);
  expect(whole).toBeGreaterThanOrEqual(first);
  const calls = (script: string) => series.get(`parley_redis_command_duration_seconds_count{command="${script}"}`);
  expect([calls("begin"), calls("finish")]).toEqual([1, 1]);
  // What the turn wrote itself it does not read back, where nothing of the session is asked for.
  expect(calls("view")).toBeUndefined();
  expect(series.get("parley_runs_going")).toBe(0);
  expect(series.get("parley_runs_queued")).toBe(0);
  expect(series.get("process_resident_memory_bytes")).toBeGreaterThan(1_000_000);
  expect([...series.keys()].filter((name) => name.includes("evalsha"))).toEqual([]);
});

test("tokens are counted as the model tells them, and a run that fails by its code", async () => {
  const openai = await startOpenAI();
  const gateway = await startGateway({
    redis: server.url,
    model: "openai:gpt-4o-mini",
    openai: { apiKey: "sk-x", baseUrl: openai.baseUrl },
    modelMaxRetries: 0,
  });
  try {
    await execute(gateway.url, send, { text: "Hello" });
    const { usage } = await execute<{ usage: { totalUsage: { inputTokens: number; outputTokens: number } } }>(
      gateway.url,
      '{ usage: session(sessionId: "measured") { totalUsage { inputTokens outputTokens } } }',
    );
    openai.behave("401");
    await execute(gateway.url, send, { text: "Hello again" });
    const series = await scrape(gateway);
    expect(usage.totalUsage.outputTokens).toBeGreaterThan(0);
    expect(series.get('parley_tokens_total{direction="input"}')).toBe(usage.totalUsage.inputTokens);
    expect(series.get('parley_tokens_total{direction="output"}')).toBe(usage.totalUsage.outputTokens);
    expect(series.get('parley_runs_total{status="COMPLETED",code=""}')).toBe(1);
    expect(series.get('parley_runs_total{status="FAILED",code="MODEL_UNAUTHORIZED"}')).toBe(1);
  } finally {
    await gateway.close();
    await openai.close();
  }
});

test("calls of agents' tools are timed by agent, tool and outcome; a name that a model made up is no label", async () => {
  const schema = { type: "object", properties: {} } as const;
  const clock = tool(() => "Noon.", { name: "clock", description: "The time.", schema });
  const broken = tool(() => Promise.reject(new Error("secret")), { name: "broken", description: "Fails.", schema });
  const slow = tool(() => new Promise<string>(() => undefined), { name: "slow", description: "Hangs.", schema });
  const openai = await startOpenAI();
  const configuration = { baseURL: openai.baseUrl };
  const { graph } = createAgent({
    model: new ChatOpenAI({ model: "small", apiKey: "x", configuration }),
    tools: [clock],
  });
  const gateway = await startGateway({
    ...{ redis: server.url, offlineWordDelayMs: 0, modelMaxRetries: 0 },
    openai: { apiKey: "sk-x", baseUrl: openai.baseUrl },
    agents: {
      helper: { model: "offline", tools: [clock, broken, slow], limits: { toolTimeoutMs: 100 } },
      wild: { model: "openai:small", tools: [clock] },
      flow: { graph },
    },
  });
  try {
    for (const text of ["What time is it?", "Use broken", "Use slow"]) {
      expect((await ask(gateway.url, "tools", text, { model: "agent:helper" })).run.status).toBe("COMPLETED");
    }
    openai.next(calls(["c1", "{}", "made_up_by_the_model"]), { kind: "reply", text: "Sorry." });
    expect((await ask(gateway.url, "tools", "Hi", { model: "agent:wild" })).run.status).toBe("COMPLETED");
    openai.next(calls(["c2", "{}", "clock"]), { kind: "reply", text: "Noon." });
    expect((await ask(gateway.url, "tools", "What time is it?", { model: "agent:flow" })).run.status).toBe("COMPLETED");
    const series = await scrape(gateway);
    const counted = [...series].filter(([name]) => name.startsWith("parley_tool_duration_seconds_count"));
    const of = (agent: string, name: string, outcome: string) =>
      `parley_tool_duration_seconds_count{agent="${agent}",tool="${name}",outcome="${outcome}"}`;
    expect(Object.fromEntries(counted)).toEqual({
      [of("helper", "clock", "OK")]: 1,
      [of("helper", "broken", "FAILED")]: 1,
      [of("helper", "slow", "TIMEOUT")]: 1,
      [of("flow", "clock", "OK")]: 1,
    });
    expect(
      series.get('parley_tool_duration_seconds_sum{agent="helper",tool="slow",outcome="TIMEOUT"}'),
    ).toBeGreaterThan(0.09);
  } finally {
    await gateway.close();
    await openai.close();
  }
});

test("sockets, streams, subscribers and feeds are counted while they are there", async () => {
  await execute(one.url, send, { text: "Hello" });
  const document = 'subscription { messageAdded(sessionId: "measured", after: "") { text } }';
  const live = subscribe(one.url, document);
  const stop = new AbortController();
  const stream = await fetch(`${one.url}?query=${encodeURIComponent(document)}`, {
    headers: { accept: "text/event-stream" },
    signal: stop.signal,
  });
  expect(stream.status).toBe(200);
  await waitUntil("both are open", async () => (await scrape(one)).get("parley_subscribers") === 2);
  const series = await scrape(one);
  expect(series.get("parley_websockets")).toBe(1);
  expect(series.get("parley_http_streams")).toBe(1);
  expect(series.get("parley_feeds")).toBe(1);
  expect(series.get('parley_operations_total{type="subscription",field="messageAdded",code="OK"}')).toBe(2);
  stop.abort();
  live.close();
  await waitUntil("all are gone", async () => {
    const after = await scrape(one);
    return ["websockets", "http_streams", "subscribers", "feeds"].every((name) => after.get(`parley_${name}`) === 0);
  });
});

test("refusals are counted by their codes", async () => {
  await post(one, "{ session(sessionId:");
  await post(one, "{ session(sessionId:");
  await post(one, "{ nothingOfThatName }");
  await post(one, 'mutation { deleteSession(input: { sessionId: "nobody" }) { deletedId } }');
  await post(one, `{ __typename } # ${"x".repeat(2_000_000)}`);
  const unread = subscribe(one.url, "subscription {");
  await unread.waitForEnd();
  unread.close();
  const series = await scrape(one);
  const rejected = (code: string) => series.get(`parley_rejections_total{code="${code}"}`);
  expect(rejected("GRAPHQL_PARSE_FAILED")).toBe(3);
  expect(rejected("GRAPHQL_VALIDATION_FAILED")).toBe(1);
  expect(rejected("NOT_FOUND")).toBe(1);
  expect(rejected("PAYLOAD_TOO_LARGE")).toBe(1);
  expect(series.get('parley_operations_total{type="mutation",field="deleteSession",code="NOT_FOUND"}')).toBe(1);
  expect(series.get('parley_operations_total{type="unknown",field="",code="GRAPHQL_VALIDATION_FAILED"}')).toBe(1);
});

test("callers cannot create labels: a thousand names, aliases and sessions add no series", async () => {
  const query = (name: string) => `query ${name} { ${name}: session(sessionId: "${name}") { ${name}s: sessionId } }`;
  await post(one, query("first"));
  await post(one, "{ unknownField }");
  const before = await scrape(one);
  for (let i = 0; i < 20; i++) {
    await Promise.all(
      Array.from({ length: 50 }, (_, n) => {
        const name = `n${randomUUID().replaceAll("-", "")}`;
        return post(one, n % 10 < 7 ? query(name) : `{ ${name} }`);
      }),
    );
  }
  const after = await scrape(one);
  // Commands to Redis, of which some come from time to time, have names of our own.
  const own = (series: Map<string, number>) =>
    [...series.keys()].filter((name) => /^parley_(?!redis_)/.test(name)).sort();
  const commands = [...after.keys()].filter((name) => name.startsWith("parley_redis_command_duration_seconds_count"));
  expect(commands.length).toBeLessThan(20);
  expect(own(after)).toEqual(own(before));
  const counted = [...after].filter(([name]) => name.startsWith("parley_operations_total"));
  expect(counted.reduce((sum, [, value]) => sum + value, 0)).toBe(1002);
});

test("a lost connection that is back is counted, and commands that failed", async () => {
  await redis.call("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes");
  const back = 'parley_redis_reconnects_total{role="commands"}';
  await waitUntil("it is back", async () => ((await scrape(one)).get(back) ?? 0) >= 1);
  await execute(one.url, "{ viewer { subject } }");
});

test("writes that wait for replicas go over connections of their own, and are measured too", async () => {
  const replica = await startRedis({
    appendonly: false,
    args: ["--replicaof", "127.0.0.1", String(server.port)],
  });
  try {
    await waitUntil("the replica follows", () => replicasOnline({ host: "127.0.0.1", port: server.port }, 1));
    const durable = await startGateway({ redis: server.url, waitReplicas: 1, waitTimeoutMs: 10_000 });
    try {
      await execute(durable.url, send, { text: "Hello" });
      const series = await scrape(durable);
      for (const command of ["begin", "finish", "wait"]) {
        const count = series.get(`parley_redis_command_duration_seconds_count{command="${command}"}`);
        expect(count, command).toBeGreaterThan(0);
      }
    } finally {
      await durable.close();
    }
  } finally {
    await replica.stop();
  }
});

test("METRICS_TOKEN is required if it is set; with METRICS=off there is no page", async () => {
  const closed = await startGateway({ redis: server.url, metricsToken: "a-token-of-some-length" });
  const off = await startGateway({ redis: server.url, metrics: false });
  try {
    const page = closed.url.replace("/graphql", "/metrics");
    for (const authorization of [
      undefined,
      "Bearer wrong",
      "Bearer a-token-of-some-lengthX",
      "Basic YTpi",
      "Bearer ",
    ]) {
      const response = await fetch(page, authorization === undefined ? {} : { headers: { authorization } });
      expect(response.status).toBe(401);
      expect(await response.text()).not.toContain("parley_");
    }
    const series = await scrape(closed, { authorization: "Bearer a-token-of-some-length" });
    expect(series.get("parley_runs_going")).toBe(0);
    expect((await fetch(one.url.replace("/graphql", "/metrics"), { method: "POST" })).status).toBe(405);
    expect((await fetch(off.url.replace("/graphql", "/metrics"))).status).toBe(404);
  } finally {
    await Promise.all([closed.close(), off.close()]);
  }
});
