import { expect, test } from "vitest";
import { loadConfig } from "../../src/config/load.ts";

const endpoint = { OTEL_EXPORTER_OTLP_ENDPOINT: "http://collector:4318" };
const tracing = (env: Record<string, string>) => loadConfig(env).tracing;

test("no endpoint, no traces; the variables that only switch it off say so too", () => {
  expect(tracing({})).toBeNull();
  expect(tracing({ OTEL_SERVICE_NAME: "x", OTEL_TRACES_SAMPLER: "always_on" })).toBeNull();
  expect(tracing({ ...endpoint, OTEL_SDK_DISABLED: "True" })).toBeNull();
  expect(tracing({ ...endpoint, OTEL_TRACES_EXPORTER: "none" })).toBeNull();
});

test("the endpoint, as the exporter's specification has it", () => {
  expect(tracing(endpoint)).toEqual({
    url: "http://collector:4318/v1/traces",
    headers: {},
    serviceName: null,
    resourceAttributes: {},
    sampler: { parentBased: true, root: "always_on", ratio: 1 },
    timeoutMs: null,
    warnings: [],
  });
  expect(tracing({ OTEL_EXPORTER_OTLP_ENDPOINT: "https://c/base/" })?.url).toBe("https://c/base/v1/traces");
  const whole = { ...endpoint, OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: "http://other/in" };
  expect(tracing(whole)?.url).toBe("http://other/in");
  expect(() => tracing({ OTEL_EXPORTER_OTLP_ENDPOINT: "collector:4318" })).toThrow("OTEL_EXPORTER_OTLP_ENDPOINT");
  expect(() => tracing({ ...endpoint, OTEL_EXPORTER_OTLP_PROTOCOL: "grpc" })).toThrow("OTEL_EXPORTER_OTLP_PROTOCOL");
});

test("headers and attributes are decoded, the ones of traces go ahead", () => {
  const read = tracing({
    ...endpoint,
    OTEL_EXPORTER_OTLP_HEADERS: "a=1, b = two%20words ,c=x=y",
    OTEL_EXPORTER_OTLP_TRACES_HEADERS: "a=3",
    OTEL_RESOURCE_ATTRIBUTES: "deployment.environment.name=prod,,x=%C3%A9",
    OTEL_SERVICE_NAME: "chat",
    OTEL_EXPORTER_OTLP_TIMEOUT: "2500",
  });
  expect(read).toMatchObject({
    headers: { a: "3", b: "two words", c: "x=y" },
    resourceAttributes: { "deployment.environment.name": "prod", x: "é" },
    serviceName: "chat",
    timeoutMs: 2500,
    warnings: [],
  });
});

test.each([
  ["OTEL_EXPORTER_OTLP_HEADERS", "a-secret-without-a-name"],
  ["OTEL_EXPORTER_OTLP_HEADERS", "=a-secret"],
  ["OTEL_RESOURCE_ATTRIBUTES", "a=%E0%A4%A"],
  ["OTEL_EXPORTER_OTLP_TIMEOUT", "soon"],
  ["OTEL_TRACES_SAMPLER", "xray"],
] as const)("%s=%s is ignored, with a warning that does not contain the value", (name, value) => {
  const read = tracing({ ...endpoint, [name]: value });
  expect(read).toMatchObject({ headers: {}, resourceAttributes: {}, timeoutMs: null });
  expect(read?.warnings).toHaveLength(1);
  expect(read?.warnings[0]).toContain(name);
  expect(read?.warnings[0]).not.toContain(value);
});

test.each([
  ["always_on", "", { parentBased: false, root: "always_on", ratio: 1 }],
  ["always_off", "0.5", { parentBased: false, root: "always_off", ratio: 1 }],
  ["traceidratio", "0.25", { parentBased: false, root: "traceidratio", ratio: 0.25 }],
  ["parentbased_always_off", "", { parentBased: true, root: "always_off", ratio: 1 }],
  ["parentbased_traceidratio", "0", { parentBased: true, root: "traceidratio", ratio: 0 }],
  ["parentbased_traceidratio", "", { parentBased: true, root: "traceidratio", ratio: 1 }],
] as const)("OTEL_TRACES_SAMPLER=%s with %j", (name, argument, expected) => {
  const read = tracing({ ...endpoint, OTEL_TRACES_SAMPLER: name, OTEL_TRACES_SAMPLER_ARG: argument });
  expect(read?.sampler).toEqual(expected);
  expect(read?.warnings).toEqual([]);
});

test.each(["2", "-1", "half", "1e9"])("OTEL_TRACES_SAMPLER_ARG=%s is left out", (argument) => {
  const read = tracing({ ...endpoint, OTEL_TRACES_SAMPLER: "traceidratio", OTEL_TRACES_SAMPLER_ARG: argument });
  expect(read?.sampler.ratio).toBe(1);
  expect(read?.warnings).toHaveLength(1);
});
