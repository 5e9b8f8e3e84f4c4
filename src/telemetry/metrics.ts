import { collectDefaultMetrics, Counter, Gauge, Histogram, Registry } from "prom-client";
import type { MetricObjectWithValues, MetricValue } from "prom-client";
import { untraced, type Telemetry } from "../conversation/ports/telemetry.ts";

/** Numbers that other parts of the gateway keep; they are read when the metrics are. */
export interface Levels {
  readonly runsGoing: () => number;
  readonly runsWaiting: () => number;
  readonly feeds: () => number;
  readonly subscribers: () => number;
  readonly sockets: () => number;
}

/** All that a process measures, as it goes from one to another. */
export type Figures = readonly MetricObjectWithValues<MetricValue<string>>[];

/** Seconds. Operations take milliseconds, or as long as a model takes for a reply that is waited for. */
const operationBuckets = [0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10, 60];
const runBuckets = [0.1, 0.25, 0.5, 1, 2, 5, 10, 20, 40, 80, 160, 320];
const toolBuckets = [0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300];
const commandBuckets = [0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.5, 2.5];

/**
 * Labels take their values from here, from the schema and from our own scripts, never from a caller. A program that uses
 * Parley as a library may throw codes of its own: beyond this many values a label says "other".
 */
const mostValues = 100;

function bounded(): (value: string) => string {
  const seen = new Set<string>();
  return (value) => {
    if (seen.has(value)) return value;
    if (seen.size >= mostValues) return "other";
    seen.add(value);
    return value;
  };
}

/** Failures of the gateway's own are no refusals. */
const ownFailures = new Set(["OK", "INTERNAL_SERVER_ERROR", "STORE_UNAVAILABLE"]);

/** Of the process, however many gateways there are in it. */
let processRegistry: Registry | null = null;

export function processMetrics(): Registry {
  if (!processRegistry) {
    processRegistry = new Registry();
    collectDefaultMetrics({ register: processRegistry });
  }
  return processRegistry;
}

export function createMetrics() {
  const registry = new Registry();
  const registers = [registry];
  const process = processMetrics();
  const counter = (name: string, help: string, labelNames: readonly string[] = []) =>
    new Counter({ name: `parley_${name}`, help, labelNames: [...labelNames], registers });
  const histogram = (name: string, help: string, buckets: number[], labelNames: readonly string[] = []) =>
    new Histogram({ name: `parley_${name}`, help, buckets, labelNames: [...labelNames], registers });

  const operations = counter("operations_total", "Operations by type, root field and outcome.", [
    "type",
    "field",
    "code",
  ]);
  const operationSeconds = histogram(
    "operation_duration_seconds",
    "Until the answer; of a subscription until it is open.",
    operationBuckets,
    ["type", "field"],
  );
  const rejections = counter("rejections_total", "Requests, sockets and operations that were refused, by code.", [
    "code",
  ]);
  const limits = counter(
    "limits_reached_total",
    "Requests, sockets and operations beyond a limit, by the limit's name.",
    ["limit"],
  );
  const runs = counter("runs_total", "Runs of this process that have ended. CLOSED: by somebody else.", [
    "status",
    "code",
  ]);
  const runSeconds = histogram("run_duration_seconds", "From a run's beginning to its end.", runBuckets, ["status"]);
  const toolSeconds = histogram("tool_duration_seconds", "Calls of agents' tools, by how they ended.", toolBuckets, [
    ...["agent", "tool", "outcome"],
  ]);
  const firstText = histogram(
    "time_to_first_token_seconds",
    "From a run's beginning to its first text.",
    [0.05, 0.1, 0.25, 0.5, 1, 2, 4, 8, 16, 32, 64],
  );
  const tokens = counter("tokens_total", "Tokens as the models count them.", ["direction"]);
  const modelReconnects = counter(
    "model_reconnects_total",
    "Requests to models' providers that were sent again, because a kept connection had been closed.",
  );
  const catchUps = counter("subscriber_catchups_total", "Readings by subscribers that had fallen behind their feed.");
  const caughtUp = counter("subscriber_caught_up_events_total", "Events that these readings gave.");
  const streams = new Gauge({ name: "parley_http_streams", help: "Open SSE and multipart streams.", registers });
  const commandSeconds = histogram(
    "redis_command_duration_seconds",
    "From sending to the answer, waiting for a lost connection included.",
    commandBuckets,
    ["command"],
  );
  const commandErrors = counter("redis_command_errors_total", "Commands that failed or timed out.", ["command"]);
  const reconnects = counter("redis_reconnects_total", "Connections to Redis that were lost and are back.", ["role"]);

  let levels: Levels | null = null;
  const level = (name: string, help: string, read: (from: Levels) => number) =>
    new Gauge({
      name: `parley_${name}`,
      help,
      registers,
      collect() {
        this.set(levels === null ? 0 : read(levels));
      },
    });
  level("runs_going", "Replies that this process is making.", (from) => from.runsGoing());
  level("runs_queued", "Runs that this process accepted and that wait for their turn.", (from) => from.runsWaiting());
  level("feeds", "Sessions and lists that are followed.", (from) => from.feeds());
  level("subscribers", "Open subscriptions.", (from) => from.subscribers());
  level("websockets", "Open WebSockets.", (from) => from.sockets());

  const field = bounded();
  const code = bounded();
  const command = bounded();
  const tool = bounded();
  const telemetry: Telemetry = {
    ...untraced,
    operation(report) {
      const labels = { type: report.type, field: field(report.field) };
      operations.inc({ ...labels, code: code(report.code) });
      operationSeconds.observe(labels, report.seconds);
      if (!ownFailures.has(report.code)) rejections.inc({ code: code(report.code) });
    },
    refused: (reason) => rejections.inc({ code: code(reason) }),
    limited: (limit) => limits.inc({ limit }),
    streamOpened() {
      streams.inc();
      let open = true;
      return () => {
        if (open) streams.dec();
        open = false;
      };
    },
    runEnded(status, reason, seconds) {
      runs.inc({ status, code: reason ?? "" });
      runSeconds.observe({ status }, seconds);
    },
    toolEnded: (agent, name, outcome, seconds) => toolSeconds.observe({ agent, tool: tool(name), outcome }, seconds),
    firstText: (seconds) => firstText.observe(seconds),
    tokens({ inputTokens, outputTokens }) {
      // A provider's word: a counter takes no less than nothing.
      tokens.inc({ direction: "input" }, Math.max(0, inputTokens));
      tokens.inc({ direction: "output" }, Math.max(0, outputTokens));
    },
    modelReconnected: () => modelReconnects.inc(),
    caughtUp(events) {
      catchUps.inc();
      caughtUp.inc(events);
    },
    redisCommand(name) {
      const startedAt = performance.now();
      return (failure) => {
        const labels = { command: command(name) };
        commandSeconds.observe(labels, (performance.now() - startedAt) / 1000);
        if (failure !== null) commandErrors.inc(labels);
      };
    },
    redisReconnected: (role) => reconnects.inc({ role }),
  };
  return {
    telemetry,
    /** Until it is called the levels are 0. */
    watch(given: Levels): void {
      levels = given;
    },
    /** In Prometheus' text format. */
    text: async () => `${await registry.metrics()}\n${await process.metrics()}`,
    figures: async (): Promise<Figures> => [
      ...(await registry.getMetricsAsJSON()),
      ...(await process.getMetricsAsJSON()),
    ],
    contentType: registry.contentType,
    /** All that text() can hold; a histogram also under its name with _bucket, _sum and _count. */
    names: () =>
      [...registry.getMetricsAsArray(), ...process.getMetricsAsArray()].map(({ name, type }) => ({
        name,
        type: String(type),
      })),
  };
}
