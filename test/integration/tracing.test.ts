import { tool } from "@langchain/core/tools";
import { context, trace } from "@opentelemetry/api";
import { createClient } from "graphql-ws";
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from "vitest";
import { WebSocket } from "ws";
import type { GatewayOptions } from "../../src/gateway.ts";
import { startGateway, type TestGateway } from "../support/gateway/gateway.ts";
import { startOpenAI, type OpenAIServer } from "../support/model/openai-server.ts";
import { pathOf, startCollector, type CollectedSpan, type Collector } from "../support/gateway/otlp-collector.ts";
import { waitUntil } from "../support/redis/redis-command.ts";
import { startRedis, type TestRedis } from "../support/redis/redis-server.ts";

let server: TestRedis;
let openai: OpenAIServer;
let collector: Collector;
const gateways: TestGateway[] = [];
beforeAll(async () => {
  [server, openai] = await Promise.all([startRedis({ appendonly: false }), startOpenAI()]);
});
beforeEach(async () => {
  openai.behave(null);
  collector = await startCollector();
});
afterEach(async () => {
  await Promise.all(gateways.splice(0).map((gateway) => gateway.close()));
  await collector.close();
});
afterAll(() => Promise.all([server.stop(), openai.close()]));

async function start(options: Partial<GatewayOptions> = {}): Promise<TestGateway> {
  const gateway = await startGateway({
    redis: server.url,
    model: "openai:gpt-4o-mini",
    openai: { apiKey: "sk-canary-of-the-model", baseUrl: openai.baseUrl },
    modelMaxRetries: 0,
    tracing: { url: `${collector.url}/v1/traces` },
    ...options,
  });
  gateways.push(gateway);
  return gateway;
}

const send = `mutation Ask($id: String!, $text: String!) {
  sendMessage(input: { sessionId: $id, text: $text }) { run { id status } reply { text } }
}`;

const traceId = "0af7651916cd43dd8448eb211c80319c";
const callerSpan = "b7ad6b7169203331";
const traceparent = `00-${traceId}-${callerSpan}-01`;

async function post(url: string, body: unknown, headers: Record<string, string> = {}): Promise<unknown> {
  const response = await fetch(url, {
    method: "POST",
    headers: { "content-type": "application/json", ...headers },
    body: JSON.stringify(body),
  });
  return await response.json();
}

/** One operation over a socket of its own; resolves with its first result. */
async function overWebSocket(
  url: string,
  payload: { query: string; variables?: Record<string, unknown>; extensions?: Record<string, unknown> },
  headers: Record<string, string> = {},
): Promise<unknown> {
  class Socket extends WebSocket {
    constructor(address: string, protocols: string) {
      super(address, protocols, { headers });
    }
  }
  const client = createClient({ url: url.replace(/^http/, "ws"), webSocketImpl: Socket, retryAttempts: 0 });
  try {
    for await (const result of client.iterate(payload)) return result;
    return null;
  } finally {
    await client.dispose();
  }
}

/** All that was traced: closing delivers it. */
async function collected(...closing: readonly TestGateway[]): Promise<readonly CollectedSpan[]> {
  await Promise.all(closing.map((gateway) => gateway.close(10_000)));
  return collector.spans;
}

function spanOf(spans: readonly CollectedSpan[], name: string): CollectedSpan {
  const found = spans.filter((span) => span.name === name);
  expect(
    found.map((span) => span.name),
    `all: ${spans.map((span) => span.name).join(", ")}`,
  ).toEqual([name]);
  const [span] = found;
  if (!span) throw new Error(name);
  return span;
}

const turnPath = ["mutation sendMessage", "run", "chain", "chat gpt-4o-mini"];

test("a turn over HTTP is one trace, from the caller's span to Redis", async () => {
  const gateway = await start();
  await post(gateway.url, { query: send, variables: { id: "http", text: "Hello" } }, { traceparent });
  const spans = await collected(gateway);

  expect(new Set(spans.map((span) => span.traceId))).toEqual(new Set([traceId]));
  const request = spanOf(spans, "POST /graphql");
  expect(request).toMatchObject({ parentSpanId: callerSpan, kind: 2, status: 0 });
  expect(request.attributes).toMatchObject({
    "http.request.method": "POST",
    "http.route": "/graphql",
    "http.response.status_code": 200,
  });
  const operation = spanOf(spans, "mutation sendMessage");
  expect(operation.attributes).toEqual({ "graphql.operation.type": "mutation", "graphql.operation.name": "Ask" });
  const run = spanOf(spans, "run");
  expect(run.attributes).toMatchObject({ "parley.run.outcome": "COMPLETED" });
  expect(run.events).toEqual(["first text"]);
  const model = spanOf(spans, "chat gpt-4o-mini");
  expect(pathOf(model, spans)).toEqual(["POST /graphql", ...turnPath]);
  expect(model.kind).toBe(3);
  expect(model.attributes).toMatchObject({
    "gen_ai.operation.name": "chat",
    "gen_ai.provider.name": "openai",
    "gen_ai.request.model": "gpt-4o-mini",
    "gen_ai.response.model": "gpt-4o-mini",
    "gen_ai.usage.input_tokens": 1,
    "gen_ai.usage.output_tokens": 3,
  });
  const begin = spanOf(spans, "EVALSHA begin");
  expect(pathOf(begin, spans)).toEqual(["POST /graphql", "mutation sendMessage", "EVALSHA begin"]);
  expect(begin.attributes).toEqual({
    "db.system.name": "redis",
    "db.operation.name": "EVALSHA",
    "db.stored_procedure.name": "begin",
  });
  const finish = spanOf(spans, "EVALSHA finish");
  expect(pathOf(finish, spans)).toEqual(["POST /graphql", "mutation sendMessage", "run", "EVALSHA finish"]);
  for (const span of spans) expect(span.endedAt, span.name).toBeGreaterThanOrEqual(span.startedAt);
});

test("a call of an agent's tool is a span within its run, and what the tool asks is within that", async () => {
  const schema = { type: "object", properties: {} } as const;
  const within: unknown[] = [];
  const clock = tool(
    () => {
      within.push(trace.getSpanContext(context.active())?.spanId);
      return "Noon.";
    },
    { name: "clock", description: "The time.", schema },
  );
  const gateway = await start({ agents: { helper: { model: "offline", tools: [clock] } }, model: "agent:helper" });
  await post(gateway.url, { query: send, variables: { id: "tool", text: "What time is it?" } });
  const spans = await collected(gateway);
  const span = spanOf(spans, "execute_tool clock");
  expect(pathOf(span, spans)).toEqual([
    ...["POST /graphql", "mutation sendMessage", "run", "chain", "execute_tool clock"],
  ]);
  expect(span.attributes).toEqual({
    ...{ "gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "clock", "gen_ai.agent.name": "helper" },
  });
  expect([span.status, within]).toEqual([0, [span.spanId]]);
});

test("over a WebSocket each operation is a trace, its caller's where it says so, linked to the handshake", async () => {
  const gateway = await start();
  const variables = { id: "socket", text: "Hello" };
  await overWebSocket(gateway.url, { query: send, variables, extensions: { traceparent } });
  await overWebSocket(gateway.url, { query: "{ viewer { subject } }" });
  const byUpgrade = { traceparent: `00-${"1".repeat(32)}-${"2".repeat(16)}-01` };
  await overWebSocket(gateway.url, { query: "query Third { models { name } }" }, byUpgrade);
  const spans = await collected(gateway);

  const handshakes = spans.filter((span) => span.name === "GET /graphql");
  expect(handshakes.map((span) => span.attributes["http.response.status_code"])).toEqual([101, 101, 101]);
  const model = spanOf(spans, "chat gpt-4o-mini");
  expect(model.traceId).toBe(traceId);
  expect(pathOf(model, spans)).toEqual(["WEBSOCKET /graphql", ...turnPath]);
  const messages = spans.filter((span) => span.name === "WEBSOCKET /graphql");
  expect(messages.map((span) => [span.traceId, span.parentSpanId])).toEqual([
    [traceId, callerSpan],
    [expect.not.stringMatching(traceId), ""],
    ["1".repeat(32), "2".repeat(16)],
  ]);
  expect(messages.map((span) => span.links.map((link) => link.spanId))).toEqual(
    handshakes.map((span) => [span.spanId]),
  );
  const finish = spanOf(spans, "EVALSHA finish");
  expect(pathOf(finish, spans)).toEqual(["WEBSOCKET /graphql", "mutation sendMessage", "run", "EVALSHA finish"]);
});

test("a queued run belongs to the trace of the request that sent it, whichever gateway carries it out", async () => {
  const [one, two] = [await start(), await start()];
  openai.behave({ kind: "gated", tokens: ["First"] });
  const ask = (gateway: TestGateway, text: string, parent: string) =>
    post(
      gateway.url,
      { query: `mutation { sendMessage(input: { sessionId: "waits", text: "${text}" }) { run { id } } }` },
      { traceparent: parent },
    );
  const second = `00-${"a".repeat(32)}-${"b".repeat(16)}-01`;
  await ask(one, "first", traceparent);
  await ask(one, "second", second);
  await openai.waitForRequests(openai.requests.length);
  // Who accepted both goes; the other finds what waits.
  const closing = one.gateway.close({ graceMs: 0 });
  openai.behave(null);
  await closing;
  await waitUntil("the other gateway has carried it out", async () => {
    const asked = (await post(two.url, {
      query: '{ session(sessionId: "waits") { messages { nodes { role text } } } }',
    })) as { data: { session: { messages: { nodes: { text: string }[] } } } };
    return asked.data.session.messages.nodes.some(({ text }) => text === "You said: second");
  });
  const spans = await collected(two);
  const runs = spans.filter((span) => span.name === "run");
  expect(runs.map((span) => [span.traceId, span.attributes["parley.run.outcome"]])).toEqual([
    [traceId, "FAILED"],
    ["a".repeat(32), "COMPLETED"],
  ]);
  for (const run of runs) expect(pathOf(run, spans)).toEqual(["POST /graphql", "mutation sendMessage", "run"]);
  const model = spans.filter((span) => span.name === "chat gpt-4o-mini" && span.traceId === "a".repeat(32));
  expect(model).toHaveLength(1);
});

test("spans have the codes of errors, and the log lines of a request carry its trace", async () => {
  const gateway = await start();
  openai.behave("401");
  await post(gateway.url, { query: send, variables: { id: "fails", text: "Hello" } }, { traceparent });
  await post(gateway.url, { query: '{ session(sessionId: "nobody-has-it") { title } }' });
  await post(gateway.url, { query: 'mutation { deleteSession(sessionId: "nobody-has-it") { deletedId } }' });
  // What is unexpected is logged: a key of ours that holds what it cannot.
  const { Redis } = await import("ioredis");
  const redis = new Redis(server.url);
  await redis.set("parley:{broken}:session:broken", "no hash");
  await post(gateway.url, { query: send, variables: { id: "broken", text: "Hello" } }, { traceparent });
  redis.disconnect();
  const line = gateway.logged.find(({ message }) => message === "An operation failed unexpectedly.");
  const spans = await collected(gateway);
  const failed = spans.filter((span) => span.status === 2);
  const told = failed.map((span) => [span.name, span.attributes["error.type"]]);
  expect(told).toContainEqual(["chat gpt-4o-mini", "MODEL_UNAUTHORIZED"]);
  expect(told).toContainEqual(["run", "MODEL_UNAUTHORIZED"]);
  const internal = failed.find((span) => span.attributes["error.type"] === "INTERNAL_SERVER_ERROR");
  expect(internal?.name).toBe("mutation sendMessage");
  expect(line?.fields).toMatchObject({ trace_id: traceId });
  expect(JSON.stringify(line?.fields)).toContain("requestId");
});

test("nothing that was written, and no secret, leaves with a trace", async () => {
  const canaries = ["canary-of-a-message", "canary-of-a-session", "canary-of-a-token", "sk-canary-of-the-model"];
  const gateway = await start({
    authenticate: ({ headers }) =>
      headers.get("authorization") === "Bearer canary-of-a-token"
        ? { subject: "canary-of-a-subject", scopes: ["chat:read", "chat:write"], sessions: ["*"] }
        : null,
    historyKeyPrefix: "canary-of-a-prefix:",
  });
  const headers = { authorization: "Bearer canary-of-a-token" };
  const variables = { id: "canary-of-a-session", text: "canary-of-a-message" };
  expect(await post(gateway.url, { query: send, variables }, headers)).toMatchObject({
    data: { sendMessage: { run: { status: "COMPLETED" } } },
  });
  const inline = send.replace("$text }", '"canary-of-a-message" }').replace(", $text: String!", "");
  openai.behave("500");
  await post(gateway.url, { query: inline, variables: { id: variables.id } }, headers);
  await fetch(`${gateway.url}?query=${encodeURIComponent('{ session(sessionId: "canary-of-a-session") { title } }')}`, {
    headers,
  });
  await post(gateway.url, { query: "{ canary_of_a_field }" }, headers);
  await post(gateway.url, { query: "{ viewer { subject } }" }, { authorization: "Bearer another-canary-of-a-token" });
  await overWebSocket(gateway.url, { query: send, variables }, headers);
  const spans = await collected(gateway);
  expect(spans.filter((span) => span.name === "mutation sendMessage")).toHaveLength(3);
  expect(collector.requests.length).toBeGreaterThan(0);
  for (const { body } of collector.requests) {
    for (const canary of [...canaries, "canary"]) expect(body).not.toContain(canary);
  }
});

test("a query is one span with its commands, also when it has come so often that it is compiled", async () => {
  const gateway = await start();
  for (let i = 0; i < 6; i++) await post(gateway.url, { query: '{ session(sessionId: "often") { title } }' });
  const spans = await collected(gateway);
  const views = spans.filter((span) => span.name === "EVALSHA view");
  expect(views.map((span) => pathOf(span, spans))).toEqual(
    Array.from({ length: 6 }, () => ["POST /graphql", "query session", "EVALSHA view"]),
  );
});

test("an operation of many commands counts those beyond the first 64", async () => {
  const gateway = await start({ queryLimits: { maxAliases: 200, maxRootFields: 200 } });
  const sessions = Array.from({ length: 100 }, (_, i) => `s${i}: session(sessionId: "many-${i}") { title }`);
  await post(gateway.url, { query: `{ ${sessions.join(" ")} }` });
  const spans = await collected(gateway);
  expect(spans.filter((span) => span.name.startsWith("EVALSHA"))).toHaveLength(64);
  const operation = spanOf(spans, "query session");
  expect(Number(operation.attributes["parley.redis.commands_without_span"])).toBeGreaterThanOrEqual(36);
});

test("a long reply has a bounded number of spans", async () => {
  const gateway = await start();
  openai.behave({ kind: "reply", tokens: Array.from({ length: 60 }, (_, i) => `w${i} `), delayMs: 5 });
  await post(gateway.url, { query: send, variables: { id: "long", text: "Talk" } });
  const spans = await collected(gateway);
  expect(spans.filter((span) => span.name === "EVALSHA progress")).toEqual([]);
  const counted = spans.map((span) => Number(span.attributes["parley.redis.commands_without_span"] ?? 0));
  expect(counted.reduce((sum, one) => sum + one, 0)).toBeGreaterThan(3);
  expect(spans.length).toBeLessThan(40);
});

test("a subscription's spans end when it is open, and what it delivers has none", async () => {
  const gateway = await start();
  const document = 'subscription Live { messageAdded(sessionId: "live", after: "") { text } }';
  await post(gateway.url, { query: send, variables: { id: "live", text: "Hello" } });
  const stop = new AbortController();
  const stream = await fetch(`${gateway.url}?query=${encodeURIComponent(document)}`, {
    headers: { accept: "text/event-stream", traceparent },
    signal: stop.signal,
  });
  const reader = stream.body?.getReader();
  await reader?.read();
  for (let i = 0; i < 5; i++) await post(gateway.url, { query: send, variables: { id: "live", text: `More ${i}` } });
  stop.abort();
  const spans = await collected(gateway);
  const own = spans.filter((span) => span.traceId === traceId).map((span) => span.name);
  expect(own).toContain("subscription messageAdded");
  expect(own).toContain("GET /graphql");
  expect(own.length).toBeLessThan(12);
});

test("the sampler is asked: a caller's own choice counts, always_off traces nothing", async () => {
  const tracing = { url: `${collector.url}/v1/traces`, serviceName: "chat", resourceAttributes: { "team.name": "x" } };
  const byCaller = await start({ tracing: { ...tracing, headers: { "x-api-key": "for-the-collector" } } });
  await post(byCaller.url, { query: "{ viewer { subject } }" }, { traceparent: traceparent.replace(/01$/, "00") });
  await post(byCaller.url, { query: "{ models { name } }" });
  const off = await start({ tracing: { ...tracing, sampler: { parentBased: false, root: "always_off", ratio: 1 } } });
  await post(off.url, { query: "{ viewer { subject } }" }, { traceparent });
  const spans = await collected(byCaller, off);
  expect(spans.map((span) => span.name).sort()).toEqual(["POST /graphql", "query models"]);
  expect(spans[0]?.resource).toMatchObject({ "service.name": "chat", "team.name": "x", "service.version": "0.1.0" });
  expect(collector.requests.map(({ headers }) => headers["x-api-key"])).toEqual(["for-the-collector"]);
});

test.each([
  ["refuses", 400],
  ["fails", 500],
  ["does not answer", null],
  ["is not there", "closed"],
] as const)("a collector that %s disturbs no request, and is logged once", async (_what, how) => {
  if (how === "closed") await collector.close();
  else collector.answer(how);
  const gateway = await start({ tracing: { url: `${collector.url}/v1/traces`, timeoutMs: 500 } });
  for (let i = 0; i < 5; i++) {
    expect(await post(gateway.url, { query: send, variables: { id: "away", text: "Hello" } })).toMatchObject({
      data: { sendMessage: { run: { status: "COMPLETED" } } },
    });
  }
  await gateway.close();
  const told = gateway.logged.filter(({ message }) => message.startsWith("Traces cannot be delivered"));
  expect(told).toHaveLength(1);
});
