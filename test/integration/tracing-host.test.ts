import { execFileSync } from "node:child_process";
import { context, ROOT_CONTEXT, trace } from "@opentelemetry/api";
import { AsyncLocalStorageContextManager } from "@opentelemetry/context-async-hooks";
import { InMemorySpanExporter, SimpleSpanProcessor, TracerProvider } from "@opentelemetry/sdk-trace";
import { Redis } from "ioredis";
import { afterAll, afterEach, beforeAll, expect, test } from "vitest";
import { hostTraces } from "../../src/telemetry/tracing/host.ts";
import { spawnGateway, startGateway } from "../support/gateway/gateway.ts";
import { execute } from "../support/gateway/graphql-client.ts";
import { startCollector } from "../support/gateway/otlp-collector.ts";
import { startRedis, type TestRedis } from "../support/redis/redis-server.ts";

let server: TestRedis;
beforeAll(async () => {
  server = await startRedis({ appendonly: false });
});
afterEach(() => {
  trace.disable();
  context.disable();
});
afterAll(() => server.stop());

const send = 'mutation { sendMessage(input: { sessionId: "host", text: "Hello" }) { reply { text } } }';

function request(url: string, headers: Record<string, string> = {}): Request {
  return new Request(url, {
    method: "POST",
    headers: { "content-type": "application/json", ...headers },
    body: JSON.stringify({ query: send }),
  });
}

test("a program's own TracerProvider gets the spans, inside the one that it has around the request", async () => {
  const exporter = new InMemorySpanExporter();
  const provider = new TracerProvider({ spanProcessors: [new SimpleSpanProcessor({ exporter })] });
  context.setGlobalContextManager(new AsyncLocalStorageContextManager().enable());
  trace.setGlobalTracerProvider(provider);
  const running = await startGateway({ redis: server.url });
  const { gateway, url } = running;
  const outer = trace.getTracer("program").startSpan("the program's route");
  const answer = await context.with(trace.setSpan(ROOT_CONTEXT, outer), () =>
    // Its own server has read the caller's trace already.
    gateway.fetch(request(url, { traceparent: `00-${"c".repeat(32)}-${"d".repeat(16)}-01` })),
  );
  expect(await answer.json()).toMatchObject({ data: { sendMessage: {} } });
  outer.end();
  await running.close(5000);
  const spans = exporter.getFinishedSpans();
  const inner = spans.find(({ name }) => name === "POST /graphql");
  expect(inner?.parentSpanContext?.spanId).toBe(outer.spanContext().spanId);
  expect(new Set(spans.map((span) => span.spanContext().traceId))).toEqual(new Set([outer.spanContext().traceId]));
  expect(spans.map(({ name }) => name)).toEqual(
    expect.arrayContaining(["mutation sendMessage", "run", "chain", "chat offline", "EVALSHA begin"]),
  );
  expect(new Set(spans.map((span) => span.instrumentationScope.name))).toEqual(new Set(["parley", "program"]));
  await provider.shutdown();
});

test("tracing: null leaves a registered provider alone", async () => {
  const exporter = new InMemorySpanExporter();
  trace.setGlobalTracerProvider(new TracerProvider({ spanProcessors: [new SimpleSpanProcessor({ exporter })] }));
  expect(hostTraces()).toBe(true);
  const running = await startGateway({ redis: server.url, tracing: null });
  await execute(running.url, send);
  await running.close();
  expect(exporter.getFinishedSpans()).toEqual([]);
  trace.disable();
  expect(hostTraces()).toBe(false);
});

test("where nothing is traced, OpenTelemetry's SDK and exporter are not loaded", () => {
  const program = `
    import { createRequire } from "node:module";
    const { createGateway } = await import(${JSON.stringify(new URL("../../src/gateway.ts", import.meta.url).href)});
    const gateway = await createGateway({ redis: ${JSON.stringify(server.url)} });
    const asked = new Request("http://localhost/graphql", {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: ${JSON.stringify(JSON.stringify({ query: send.replace("host", "off") }))},
    });
    const answer = await (await gateway.fetch(asked)).json();
    const loaded = Object.keys(createRequire(import.meta.url).cache);
    const traces = loaded.filter((file) => file.includes("@opentelemetry"));
    console.log(JSON.stringify({ answer, traces, loaded: loaded.length }));
    process.exit();`;
  const output = execFileSync(process.execPath, ["--input-type=module", "--eval", program], { encoding: "utf8" });
  const { answer, traces, loaded } = JSON.parse(output) as { answer: object; traces: string[]; loaded: number };
  expect(answer).toMatchObject({ data: { sendMessage: { reply: {} } } });
  expect(loaded).toBeGreaterThan(50);
  // prom-client loads the API by itself (for exemplars).
  expect(traces.filter((file) => !file.includes("@opentelemetry/api/"))).toEqual([]);
});

test("as a process: variables say where to, shutdown delivers, JSON log lines carry the trace", async () => {
  const collector = await startCollector();
  const redis = new Redis(server.url);
  try {
    await redis.set("parley:{broken}:session:broken", "no hash");
    const gateway = await spawnGateway({
      NODE_ENV: "production",
      REDIS_URL: server.url,
      OTEL_EXPORTER_OTLP_ENDPOINT: `${collector.url}/`,
      OTEL_EXPORTER_OTLP_HEADERS: "x-api-key=a%20secret%2C%20really,x-team=chat",
      OTEL_SERVICE_NAME: "chat-gateway",
      OTEL_RESOURCE_ATTRIBUTES: "service.name=overridden,deployment.environment.name=test%2Flocal",
      OTEL_TRACES_SAMPLER: "no-such-sampler",
    });
    await execute(gateway.url, send);
    const broken = await fetch(request(gateway.url, { traceparent: `00-${"e".repeat(32)}-${"f".repeat(16)}-01` }), {
      body: JSON.stringify({ query: send.replace("host", "broken") }),
    });
    expect(await broken.json()).toMatchObject({ errors: [{ extensions: { code: "INTERNAL_SERVER_ERROR" } }] });
    expect(await gateway.stop()).toBe(0);

    expect(collector.requests.map(({ path }) => path)).toEqual(["/v1/traces"]);
    expect(collector.requests[0]?.headers).toMatchObject({ "x-api-key": "a secret, really", "x-team": "chat" });
    expect(collector.spans.map(({ name }) => name)).toEqual(expect.arrayContaining(["run", "EVALSHA finish"]));
    expect(collector.spans[0]?.resource).toMatchObject({
      "service.name": "chat-gateway",
      "deployment.environment.name": "test/local",
    });
    const lines = gateway.output
      .split("\n")
      .filter((line) => line.startsWith("{"))
      .map((line) => JSON.parse(line) as Record<string, unknown>); // pino's
    const failure = lines.find(({ msg }) => msg === "An operation failed unexpectedly.");
    expect(failure).toMatchObject({ trace_id: "e".repeat(32) });
    const span = collector.spans.find(({ spanId }) => spanId === failure?.["span_id"]);
    expect(span?.name).toBe("POST /graphql");
    expect(lines.find(({ msg }) => String(msg).startsWith("OTEL_TRACES_SAMPLER is left out"))).toBeDefined();
    expect(gateway.output).not.toContain("a secret");
  } finally {
    redis.disconnect();
    await collector.close();
  }
});
