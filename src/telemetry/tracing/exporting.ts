import { randomUUID } from "node:crypto";
import { context } from "@opentelemetry/api";
import { AsyncLocalStorageContextManager } from "@opentelemetry/context-async-hooks";
import { OTLPTraceExporter } from "@opentelemetry/exporter-trace-otlp-http";
import { defaultResource, resourceFromAttributes } from "@opentelemetry/resources";
import {
  AlwaysOffSampler,
  AlwaysOnSampler,
  BatchSpanProcessor,
  ParentBasedSampler,
  TraceIdRatioBasedSampler,
  TracerProvider,
  type Sampler,
  type SpanExporter,
} from "@opentelemetry/sdk-trace";
import type { TraceSampler, TracingOptions } from "../../config/tracing.ts";

const defaultSampler: TraceSampler = { parentBased: true, root: "always_on", ratio: 1 };

/** Spans go in batches beside everything else; what cannot be delivered, or is more than 2,048 spans, is dropped. */
export function exportingProvider(options: TracingOptions, version: string, onFailure: () => void): TracerProvider {
  const { url, headers = {}, serviceName = null, resourceAttributes = {}, timeoutMs = null } = options;
  // What is given here goes ahead of the environment. The rest (OTEL_EXPORTER_OTLP_COMPRESSION and _CERTIFICATE, with
  // their kin) the exporter reads there itself: that is where its specification puts it, and it tells no reader of ours.
  const exporter = new OTLPTraceExporter({
    url,
    headers: { ...headers },
    ...(timeoutMs === null ? {} : { timeoutMillis: timeoutMs }),
  });
  // Spans of the program outlast an await by it. Another one that is registered already serves as well.
  const contexts = new AsyncLocalStorageContextManager();
  if (!context.setGlobalContextManager(contexts.enable())) contexts.disable();
  const resource = defaultResource().merge(
    resourceFromAttributes({
      "service.name": "parley",
      "service.version": version,
      "service.instance.id": randomUUID(),
      ...resourceAttributes,
      ...(serviceName === null ? {} : { "service.name": serviceName }),
    }),
  );
  return new TracerProvider({
    resource,
    sampler: samplerOf(options.sampler ?? defaultSampler),
    spanLimits: { attributeValueLengthLimit: 256 },
    spanProcessors: [new BatchSpanProcessor({ exporter: telling(exporter, onFailure) })],
  });
}

function samplerOf({ parentBased, root, ratio }: TraceSampler): Sampler {
  const sampler =
    root === "always_on"
      ? new AlwaysOnSampler()
      : root === "always_off"
        ? new AlwaysOffSampler()
        : new TraceIdRatioBasedSampler(ratio);
  return parentBased ? new ParentBasedSampler({ root: sampler }) : sampler;
}

function telling(exporter: SpanExporter, onFailure: () => void): SpanExporter {
  return {
    export: (spans, done) =>
      exporter.export(spans, (result) => {
        if (result.error !== undefined) onFailure();
        done(result);
      }),
    forceFlush: async () => await exporter.forceFlush?.(),
    shutdown: () => exporter.shutdown(),
  };
}
