import { readFileSync } from "node:fs";
import { trace, type Tracer, type TracerProvider } from "@opentelemetry/api";
import type { Telemetry } from "../../conversation/ports/telemetry.ts";
import type { TracingOptions } from "../../config/tracing.ts";
import { traced } from "./traced.ts";

export interface Tracing {
  /** The same telemetry, which follows what is begun. */
  follow(telemetry: Telemetry): Telemetry;
  /** Delivers what there is, as far as that takes no more than 3 s. Never rejects. */
  close(): Promise<void>;
}

const name = "parley";
const closeLimitMs = 3000;
const tellEveryMs = 60_000;

/**
 * `options`: a collector; null: the TracerProvider that the program has registered, if it has. A collector that is away
 * disturbs nothing: `onFailure` is called, once a minute at most, and the spans are dropped.
 */
export async function openTracing(options: TracingOptions | null, onFailure: () => void): Promise<Tracing | null> {
  const version = ownVersion();
  if (options === null) {
    const tracer = registeredTracer(trace.getTracerProvider(), version);
    return tracer && { follow: (telemetry) => traced(telemetry, tracer), close: () => Promise.resolve() };
  }
  const { exportingProvider } = await import("./exporting.ts");
  let toldAt = -Infinity;
  const provider = exportingProvider(options, version, () => {
    if (performance.now() - toldAt < tellEveryMs) return;
    toldAt = performance.now();
    onFailure();
  });
  return {
    follow: (telemetry) => traced(telemetry, provider.getTracer(name, version)),
    async close() {
      let timer: NodeJS.Timeout | undefined;
      const limit = new Promise<void>((resolve) => (timer = setTimeout(resolve, closeLimitMs)));
      await Promise.race([provider.shutdown().catch(() => undefined), limit]);
      clearTimeout(timer);
    },
  };
}

/** What the API gives where nobody registered anything makes tracers too, of spans that go nowhere. */
function registeredTracer(provider: TracerProvider, version: string): Tracer | null {
  // By its method: the program may have another copy of the API than we have.
  if (!("getDelegateTracer" in provider)) return provider.getTracer(name, version);
  const { getDelegateTracer } = provider as { getDelegateTracer: TracerDelegate }; // ProxyTracerProvider
  return getDelegateTracer.call(provider, name, version) ?? null;
}

type TracerDelegate = (this: TracerProvider, name: string, version: string) => Tracer | undefined;

function ownVersion(): string {
  const { version } = JSON.parse(readFileSync(new URL("../../../package.json", import.meta.url), "utf8")) as {
    version: string; // our own package.json
  };
  return version;
}
