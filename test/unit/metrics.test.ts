import { expect, test } from "vitest";
import { loadConfig } from "../../src/config/load.ts";
import { createMetrics } from "../../src/telemetry/metrics.ts";

const operation = { type: "query", field: "session", code: "OK", seconds: 0.003 } as const;

test("a label has no more values than there is room for, whoever makes them", async () => {
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
] as const)("%j: who can reach /metrics unasked is on this machine (%s)", (env, expected) => {
  expect(loadConfig(env).metrics).toBe(expected);
});

test("a token that can be guessed is a mistake in the configuration", () => {
  expect(() => loadConfig({ METRICS_TOKEN: "short" })).toThrow("METRICS_TOKEN");
});
