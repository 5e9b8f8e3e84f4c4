import { z } from "zod";

import { isHttpUrl, variable } from "./values.ts";
import type { Definition } from "./values.ts";

/** Where traces go. As OpenTelemetry specifies its variables: what is wrong is left out and told, but for the endpoint. */
export interface TracingConfig {
  /** Whole. */
  readonly url: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly serviceName: string | null;
  readonly resourceAttributes: Readonly<Record<string, string>>;
  readonly sampler: {
    readonly parentBased: boolean;
    readonly root: "always_on" | "always_off" | "traceidratio";
    readonly ratio: number;
  };
  readonly timeoutMs: number | null;
  /** What was left out, to be told. None holds a value: headers are secrets. */
  readonly warnings: readonly string[];
}

const url = z.string().refine(isHttpUrl, "must be a URL with http: or https:");

export const tracingDefinitions = {
  OTEL_EXPORTER_OTLP_ENDPOINT: variable(
    url,
    null,
    "A collector of OpenTelemetry traces, as http://localhost:4318 (OTLP over HTTP, as JSON; /v1/traces is appended). Without it there are none.",
  ),
  OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: variable(url, null, "The same, whole: nothing is appended."),
  OTEL_EXPORTER_OTLP_HEADERS: variable(
    z.string(),
    null,
    "Sent to the collector: name=value pairs separated by commas, percent-encoded (…_TRACES_HEADERS goes ahead of it).",
  ),
  OTEL_EXPORTER_OTLP_TRACES_HEADERS: variable(z.string(), null, "The same, for traces alone."),
  OTEL_EXPORTER_OTLP_TIMEOUT: variable(z.string(), "10000", "How long an export may take, in milliseconds."),
  OTEL_EXPORTER_OTLP_PROTOCOL: variable(
    z.string().refine((value) => /^http\/(json|protobuf)$/.test(value), "must be http/json: gRPC is not spoken"),
    "http/json",
    "http/protobuf is taken too, as collectors take JSON at the same address.",
  ),
  OTEL_SERVICE_NAME: variable(z.string(), "parley", "What the gateway is called in traces."),
  OTEL_RESOURCE_ATTRIBUTES: variable(z.string(), null, "Told with each trace: name=value pairs separated by commas."),
  OTEL_TRACES_SAMPLER: variable(
    z.string(),
    "parentbased_always_on",
    "always_on, always_off, traceidratio, or one of them with parentbased_ ahead: then a caller's own trace decides.",
  ),
  OTEL_TRACES_SAMPLER_ARG: variable(z.string(), "1", "The share of …traceidratio, from 0 to 1."),
  OTEL_TRACES_EXPORTER: variable(z.string(), "otlp", "`none`: no traces."),
  OTEL_SDK_DISABLED: variable(z.string(), null, "`true`: no traces."),
} as const;

export type TracingName = keyof typeof tracingDefinitions;

const samplers = ["always_on", "always_off", "traceidratio"] as const;

/** null: nothing is traced. */
export function tracingConfig(
  given: <Value>(name: TracingName, definition: Definition<Value>) => Value | null,
): TracingConfig | null {
  const d = tracingDefinitions;
  const disabled = given("OTEL_SDK_DISABLED", d.OTEL_SDK_DISABLED)?.toLowerCase() === "true";
  if (disabled || given("OTEL_TRACES_EXPORTER", d.OTEL_TRACES_EXPORTER) === "none") return null;
  const whole = given("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", d.OTEL_EXPORTER_OTLP_TRACES_ENDPOINT);
  const base = given("OTEL_EXPORTER_OTLP_ENDPOINT", d.OTEL_EXPORTER_OTLP_ENDPOINT);
  const target = whole ?? (base === null ? null : `${base.replace(/\/$/, "")}/v1/traces`);
  if (target === null) return null;
  given("OTEL_EXPORTER_OTLP_PROTOCOL", d.OTEL_EXPORTER_OTLP_PROTOCOL);

  const warnings: string[] = [];
  const pairs = (name: TracingName) => {
    const text = given(name, d[name]);
    const read = text === null ? {} : pairsOf(text);
    if (read === null) warnings.push(`${name} is left out: it must be name=value pairs separated by commas.`);
    return read ?? {};
  };
  const timeoutText = given("OTEL_EXPORTER_OTLP_TIMEOUT", d.OTEL_EXPORTER_OTLP_TIMEOUT);
  const timeoutMs = timeoutText === null ? null : positive(timeoutText);
  if (timeoutText !== null && timeoutMs === null) {
    warnings.push("OTEL_EXPORTER_OTLP_TIMEOUT is left out: it must be a number of milliseconds.");
  }
  return {
    url: target,
    headers: {
      ...pairs("OTEL_EXPORTER_OTLP_HEADERS"),
      ...pairs("OTEL_EXPORTER_OTLP_TRACES_HEADERS"),
    },
    serviceName: given("OTEL_SERVICE_NAME", d.OTEL_SERVICE_NAME),
    resourceAttributes: pairs("OTEL_RESOURCE_ATTRIBUTES"),
    sampler: samplerOf(
      given("OTEL_TRACES_SAMPLER", d.OTEL_TRACES_SAMPLER),
      given("OTEL_TRACES_SAMPLER_ARG", d.OTEL_TRACES_SAMPLER_ARG),
      warnings,
    ),
    timeoutMs,
    warnings,
  };
}

function samplerOf(name: string | null, argument: string | null, warnings: string[]): TracingConfig["sampler"] {
  const wanted = name ?? "parentbased_always_on";
  const root = samplers.find((one) => wanted === one || wanted === `parentbased_${one}`);
  if (root === undefined) {
    warnings.push(`OTEL_TRACES_SAMPLER is left out: it must be one of ${samplers.join(", ")}, or parentbased_….`);
    return { parentBased: true, root: "always_on", ratio: 1 };
  }
  const parentBased = wanted.startsWith("parentbased_");
  if (root !== "traceidratio" || argument === null) return { parentBased, root, ratio: 1 };
  const ratio = /^(\d+\.?\d*|\.\d+)$/.test(argument) ? Number(argument) : NaN;
  if (ratio >= 0 && ratio <= 1) return { parentBased, root, ratio };
  warnings.push("OTEL_TRACES_SAMPLER_ARG is left out: it must be a number from 0 to 1.");
  return { parentBased, root, ratio: 1 };
}

function positive(text: string): number | null {
  const value = /^\d{1,9}$/.test(text) ? Number(text) : 0;
  return value > 0 ? value : null;
}

/** As W3C Baggage writes them. null: something in it is wrong, and then all of it is left out. */
function pairsOf(text: string): Record<string, string> | null {
  const pairs: Record<string, string> = {};
  for (const entry of text.split(",")) {
    if (entry.trim() === "") continue;
    const at = entry.indexOf("=");
    const name = decoded(entry.slice(0, Math.max(at, 0)).trim());
    const value = decoded(entry.slice(at + 1).trim());
    if (at < 1 || !name || value === null) return null;
    pairs[name] = value;
  }
  return pairs;
}

function decoded(text: string): string | null {
  try {
    return decodeURIComponent(text);
  } catch {
    return null;
  }
}
