// No vendor is imported here: whether there is anything to trace to is known before OpenTelemetry is loaded.

/** A collector that takes OTLP over HTTP (as JSON), and what is told it. */
export interface TracingOptions {
  /** Whole, as "http://127.0.0.1:4318/v1/traces". */
  readonly url: string;
  /** Sent with each export: what the collector knows its senders by. */
  readonly headers?: Readonly<Record<string, string>>;
  /** "parley" unless it is given here or among the resource's attributes. */
  readonly serviceName?: string | null;
  readonly resourceAttributes?: Readonly<Record<string, string>>;
  /** Default: all, but what a caller with a trace of its own chose to leave out. */
  readonly sampler?: TraceSampler;
  /** Of one export, in ms. Default 10,000. */
  readonly timeoutMs?: number | null;
}

export interface TraceSampler {
  /** Where the caller has a trace, its choice counts; `root` is for the others. */
  readonly parentBased: boolean;
  readonly root: "always_on" | "always_off" | "traceidratio";
  /** Of traceidratio: from 0 to 1. */
  readonly ratio: number;
}

/**
 * Whether the program that Parley is a part of, or what was loaded ahead of it (`node --import`), has registered a
 * TracerProvider: OpenTelemetry's API, each 1.x copy of it, keeps it there.
 */
export function hostTraces(): boolean {
  const kept: unknown = Reflect.get(globalThis, Symbol.for("opentelemetry.js.api.1"));
  return typeof kept === "object" && kept !== null && "trace" in kept && kept.trace !== undefined;
}
