// No vendor is imported here: whether there is anything to trace to is known before OpenTelemetry is loaded.

/**
 * Whether the program that Parley is a part of, or what was loaded ahead of it (`node --import`), has registered a
 * TracerProvider: OpenTelemetry's API, each 1.x copy of it, keeps it there.
 */
export function hostTraces(): boolean {
  const kept: unknown = Reflect.get(globalThis, Symbol.for("opentelemetry.js.api.1"));
  return typeof kept === "object" && kept !== null && "trace" in kept && kept.trace !== undefined;
}
