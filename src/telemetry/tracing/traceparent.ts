import { isSpanContextValid, TraceFlags, type SpanContext } from "@opentelemetry/api";

// W3C Trace Context, https://www.w3.org/TR/trace-context/. Its tracestate is not taken: it would only be handed on, and
// nobody behind the gateway is told of a trace.

const form = /^([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?$/;

/** null: there is none, or it is none. */
export function parseTraceparent(text: unknown): SpanContext | null {
  if (typeof text !== "string" || text.length > 256) return null;
  const [, version, traceId = "", spanId = "", flags = "", rest] = form.exec(text) ?? [];
  // What version 00 does not have a later one may.
  if (version === undefined || version === "ff" || (version === "00" && rest !== undefined)) return null;
  const traceFlags = Number.parseInt(flags, 16) & TraceFlags.SAMPLED;
  const context = { traceId, spanId, traceFlags, isRemote: true };
  return isSpanContextValid(context) ? context : null;
}

export function formatTraceparent({ traceId, spanId, traceFlags }: SpanContext): string {
  return `00-${traceId}-${spanId}-${traceFlags.toString(16).padStart(2, "0")}`;
}
