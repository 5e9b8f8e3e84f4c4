import { AggregatorRegistry, Counter, Gauge, Registry } from "prom-client";
import { processMetrics, type Figures } from "./metrics.ts";

/** How the figures of several processes become one, where prom-client would do it otherwise: a blocked worker shall be seen. */
const aggregators: Readonly<Record<string, "max" | "min">> = {
  nodejs_eventloop_lag_seconds: "max",
  nodejs_eventloop_lag_p50_seconds: "max",
  nodejs_eventloop_lag_p90_seconds: "max",
  nodejs_eventloop_lag_p99_seconds: "max",
  process_start_time_seconds: "min",
};

/**
 * The metrics of all workers as if they were one process. What a worker has counted stays counted when it is gone: a sum
 * that falls would be taken for a new beginning, and for everything counted since.
 */
export class GatheredMetrics {
  readonly #registry = new Registry();
  readonly #own = processMetrics();
  readonly #restarts: Counter;
  /** What each worker last told, by its number. */
  readonly #last = new Map<number, Figures>();
  /** What the workers that are gone had counted. */
  #counted: Figures = [];

  /** `ready`: how many workers listen. */
  constructor(ready: () => number) {
    const registers = [this.#registry];
    new Gauge({
      name: "parley_workers",
      help: "Workers that listen.",
      registers,
      collect() {
        this.set(ready());
      },
    });
    this.#restarts = new Counter({
      name: "parley_worker_restarts_total",
      help: "Workers that ended without being told to, and were replaced.",
      registers,
    });
  }

  restarted(): void {
    this.#restarts.inc();
  }

  /** The worker is gone. */
  left(worker: number): void {
    const last = this.#last.get(worker) ?? [];
    this.#last.delete(worker);
    const all = together([this.#counted, last.filter(({ type }) => isCounted(String(type)))]);
    // What aggregate() makes holds its values; the type does not say so.
    this.#counted = all.getMetricsAsArray().map((metric) => ({ values: [], ...metric }));
  }

  /** In Prometheus' text format. `told`: what the workers say now, by their numbers; for one that is silent its last word counts. */
  async text(told: ReadonlyMap<number, Figures>): Promise<string> {
    for (const [worker, figures] of told) this.#last.set(worker, figures);
    // The process that the workers belong to does nothing that the others are measured by, but it takes CPU and memory.
    const own = (await this.#own.getMetricsAsJSON()).filter(({ name }) => name.startsWith("process_"));
    const all = together([this.#counted, own, ...this.#last.values()]);
    return `${await all.metrics()}\n${await this.#registry.metrics()}`;
  }

  /** What the page has beside the metrics of a gateway. */
  names(): readonly { readonly name: string; readonly type: string }[] {
    return this.#registry.getMetricsAsArray().map(({ name, type }) => ({ name, type: String(type) }));
  }
}

function isCounted(type: string): boolean {
  return type === "counter" || type === "histogram";
}

function together(all: readonly Figures[]): Registry {
  const known = all.map((figures) =>
    figures.map((metric) => ({ ...metric, aggregator: aggregators[metric.name] ?? metric.aggregator })),
  );
  return AggregatorRegistry.aggregate(known);
}
