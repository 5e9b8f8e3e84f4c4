import { describe, expect, test } from "vitest";
import { loadConfig } from "../../src/config/load.ts";
import { GatheredMetrics } from "../../src/telemetry/gathered-metrics.ts";
import { createMetrics, type Figures } from "../../src/telemetry/metrics.ts";

const operation = { type: "query", field: "session", code: "OK", seconds: 0.003 } as const;

test("a label never has more than the allowed number of values, whoever makes them", async () => {
  const metrics = createMetrics();
  for (let i = 0; i < 1000; i++) metrics.telemetry.operation({ ...operation, field: `f${i}`, code: `C${i}` });
  const lines = (await metrics.text()).split("\n").filter((line) => line.startsWith("parley_operations_total{"));
  expect(lines).toHaveLength(101);
  expect(lines.at(-1)).toBe('parley_operations_total{type="query",field="other",code="other"} 900');
});

test("two gateways in one process count for themselves", async () => {
  const [one, two] = [createMetrics(), createMetrics()];
  one.telemetry.tokens({ inputTokens: 3, outputTokens: -4, totalTokens: 7 });
  const closed = one.telemetry.streamOpened();
  one.watch({ runsGoing: () => 2, runsWaiting: () => 0, feeds: () => 0, subscribers: () => 0, sockets: () => 0 });
  expect(await one.text()).toMatch(/^parley_tokens_total\{direction="input"\} 3$/m);
  expect(await one.text()).toMatch(/^parley_tokens_total\{direction="output"\} 0$/m);
  expect(await one.text()).toMatch(/^parley_runs_going 2$/m);
  expect(await one.text()).toMatch(/^parley_http_streams 1$/m);
  closed();
  closed();
  expect(await one.text()).toMatch(/^parley_http_streams 0$/m);
  expect(await two.text()).not.toContain("parley_tokens_total{");
  expect(await two.text()).toMatch(/^process_cpu_seconds_total /m);
});

test.each([
  [{}, true],
  [{ HOST: "::1" }, true],
  [{ HOST: "0.0.0.0", ALLOW_ANONYMOUS: "1" }, false],
  [{ HOST: "0.0.0.0", ALLOW_ANONYMOUS: "1", METRICS: "on" }, true],
  [{ HOST: "0.0.0.0", ALLOW_ANONYMOUS: "1", METRICS_TOKEN: "0123456789abcdef" }, true],
  [{ METRICS: "off", METRICS_TOKEN: "0123456789abcdef" }, false],
] as const)("%j: without a token only this machine can reach /metrics (%s)", (env, expected) => {
  expect(loadConfig(env).metrics).toBe(expected);
});

test("a METRICS_TOKEN that can be guessed is a mistake in the configuration", () => {
  expect(() => loadConfig({ METRICS_TOKEN: "short" })).toThrow("METRICS_TOKEN");
});

describe("the metrics of several workers", () => {
  const worker = (input: number, sockets: number) => {
    const metrics = createMetrics();
    metrics.telemetry.tokens({ inputTokens: input, outputTokens: 0, totalTokens: input });
    metrics.telemetry.firstText(input);
    metrics.watch({
      runsGoing: () => 0,
      runsWaiting: () => 0,
      feeds: () => 0,
      subscribers: () => 0,
      sockets: () => sockets,
    });
    return metrics;
  };
  const byNumber = (...figures: readonly Figures[]) => new Map(figures.map((one, i) => [i + 1, one]));
  const line = (text: string, name: string) => text.split("\n").find((one) => one.startsWith(`${name} `));

  test("counts and levels are sums, a lag is that of the worst, a start that of the first", async () => {
    const gathered = new GatheredMetrics(() => 2);
    // As prom-client has it, which would make a mean of it.
    const late = async (figures: Promise<Figures>, seconds: number): Promise<Figures> =>
      (await figures).map((one) =>
        one.name === "nodejs_eventloop_lag_p99_seconds" ? { ...one, values: [{ value: seconds, labels: {} }] } : one,
      );
    const one = await late(worker(3, 5).figures(), 0.5);
    const two = await late(worker(4, 6).figures(), 0.1);
    const text = await gathered.text(byNumber(one, two));
    expect(line(text, 'parley_tokens_total{direction="input"}')).toMatch(/ 7$/);
    expect(line(text, 'parley_time_to_first_token_seconds_bucket{le="4"}')).toMatch(/ 2$/);
    expect(line(text, "parley_websockets")).toMatch(/ 11$/);
    expect(line(text, "nodejs_eventloop_lag_p99_seconds")).toMatch(/ 0\.5$/);
    expect(line(text, "parley_workers")).toMatch(/ 2$/);
    expect(Number(line(text, "process_start_time_seconds")?.split(" ")[1])).toBeLessThanOrEqual(Date.now() / 1000);
    // Each once, as Prometheus wants it.
    const types = text.split("\n").filter((one) => one.startsWith("# TYPE"));
    expect(new Set(types).size).toBe(types.length);
  });

  test("what a worker has counted stays counted when it is gone, and its levels go with it", async () => {
    const gathered = new GatheredMetrics(() => 2);
    const input = 'parley_tokens_total{direction="input"}';
    await gathered.text(byNumber(await worker(3, 5).figures(), await worker(4, 6).figures()));
    gathered.left(1);
    gathered.restarted();
    const meanwhile = await gathered.text(new Map());
    expect(line(meanwhile, input)).toMatch(/ 7$/);
    expect(line(meanwhile, "parley_websockets")).toMatch(/ 6$/);
    const text = await gathered.text(new Map([[1, await worker(10, 1).figures()]]));
    expect(line(text, input)).toMatch(/ 17$/);
    expect(line(text, "parley_time_to_first_token_seconds_count")).toMatch(/ 3$/);
    expect(line(text, "parley_websockets")).toMatch(/ 7$/);
    expect(line(text, "parley_worker_restarts_total")).toMatch(/ 1$/);
    gathered.left(1);
    expect(line(await gathered.text(new Map()), input)).toMatch(/ 17$/);
  });
});
