import { httpUrl, orNull, text } from "./forms.ts";
import { derived, setting, type Values } from "./setting.ts";

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

/** As OpenTelemetry specifies its variables: what is wrong is left out and told, but for the endpoint. */
export interface TracingConfig extends Required<TracingOptions> {
  /** What was left out, to be told. None holds a value: headers are secrets. */
  readonly warnings: readonly string[];
}

/** Whether there are traces at all: where not, the other variables of OpenTelemetry are nobody's mistake. */
export const tracingSwitches = {
  disabled: setting("OTEL_SDK_DISABLED", orNull(text()), null, "`true`: no traces."),
  exporter: setting("OTEL_TRACES_EXPORTER", text(), "otlp", "`none`: no traces."),
};

export const tracingSettings = {
  base: setting(
    "OTEL_EXPORTER_OTLP_ENDPOINT",
    orNull(httpUrl),
    null,
    "A collector of OpenTelemetry traces, as http://localhost:4318 (OTLP over HTTP, as JSON; /v1/traces is appended). Without it there are none.",
  ),
  whole: setting("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", orNull(httpUrl), null, "The same, whole: nothing is appended."),
  headers: setting(
    "OTEL_EXPORTER_OTLP_HEADERS",
    orNull(text()),
    null,
    "Sent to the collector: name=value pairs separated by commas, percent-encoded (…_TRACES_HEADERS goes ahead of it).",
  ),
  tracesHeaders: setting("OTEL_EXPORTER_OTLP_TRACES_HEADERS", orNull(text()), null, "The same, for traces alone."),
  timeout: setting(
    "OTEL_EXPORTER_OTLP_TIMEOUT",
    orNull(text()),
    derived("10000", () => null),
    "How long an export may take, in milliseconds.",
  ),
  protocol: setting(
    "OTEL_EXPORTER_OTLP_PROTOCOL",
    text(),
    "http/json",
    "http/protobuf is taken too, as collectors take JSON at the same address.",
  ),
  serviceName: setting(
    "OTEL_SERVICE_NAME",
    orNull(text()),
    derived("parley", () => null),
    "What the gateway is called in traces.",
  ),
  resourceAttributes: setting(
    "OTEL_RESOURCE_ATTRIBUTES",
    orNull(text()),
    null,
    "Told with each trace: name=value pairs separated by commas.",
  ),
  sampler: setting(
    "OTEL_TRACES_SAMPLER",
    text(),
    "parentbased_always_on",
    "always_on, always_off, traceidratio, or one of them with parentbased_ ahead: then a caller's own trace decides.",
  ),
  samplerArgument: setting("OTEL_TRACES_SAMPLER_ARG", text(), "1", "The share of …traceidratio, from 0 to 1."),
};

const samplers = ["always_on", "always_off", "traceidratio"] as const;

export function isTracingOff({ disabled, exporter }: Values<typeof tracingSwitches>): boolean {
  return disabled?.toLowerCase() === "true" || exporter === "none";
}

/** null: there is no collector. */
export function tracingConfig(
  settings: Values<typeof tracingSettings>,
  problem: (variable: string, message: string) => void,
): TracingConfig | null {
  const { base, whole, serviceName } = settings;
  const url = whole ?? (base === null ? null : `${base.replace(/\/$/, "")}/v1/traces`);
  if (url === null) return null;
  if (!/^http\/(json|protobuf)$/.test(settings.protocol)) {
    problem(tracingSettings.protocol.variable, "must be http/json: gRPC is not spoken");
  }
  const warnings: string[] = [];
  const pairs = (name: "headers" | "tracesHeaders" | "resourceAttributes") => {
    const read = pairsOf(settings[name] ?? "");
    const { variable } = tracingSettings[name];
    if (read === null) warnings.push(`${variable} is left out: it must be name=value pairs separated by commas.`);
    return read ?? {};
  };
  const timeoutMs = settings.timeout === null ? null : positive(settings.timeout);
  if (settings.timeout !== null && timeoutMs === null) {
    warnings.push("OTEL_EXPORTER_OTLP_TIMEOUT is left out: it must be a number of milliseconds.");
  }
  return {
    url,
    headers: { ...pairs("headers"), ...pairs("tracesHeaders") },
    serviceName,
    resourceAttributes: pairs("resourceAttributes"),
    sampler: samplerOf(settings.sampler, settings.samplerArgument, warnings),
    timeoutMs,
    warnings,
  };
}

function samplerOf(wanted: string, argument: string, warnings: string[]): TraceSampler {
  const root = samplers.find((one) => wanted === one || wanted === `parentbased_${one}`);
  if (root === undefined) {
    warnings.push(`OTEL_TRACES_SAMPLER is left out: it must be one of ${samplers.join(", ")}, or parentbased_….`);
    return { parentBased: true, root: "always_on", ratio: 1 };
  }
  const parentBased = wanted.startsWith("parentbased_");
  if (root !== "traceidratio") return { parentBased, root, ratio: 1 };
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
