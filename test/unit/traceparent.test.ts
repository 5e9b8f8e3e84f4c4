import { expect, test } from "vitest";
import { formatTraceparent, parseTraceparent } from "../../src/telemetry/tracing/traceparent.ts";

const traceId = "0af7651916cd43dd8448eb211c80319c";
const spanId = "b7ad6b7169203331";

test("what W3C Trace Context allows is read", () => {
  expect(parseTraceparent(`00-${traceId}-${spanId}-01`)).toEqual({ traceId, spanId, traceFlags: 1, isRemote: true });
  expect(parseTraceparent(`00-${traceId}-${spanId}-00`)?.traceFlags).toBe(0);
  // Flags and fields of later versions are nothing to stumble over.
  expect(parseTraceparent(`00-${traceId}-${spanId}-ff`)?.traceFlags).toBe(1);
  expect(parseTraceparent(`cc-${traceId}-${spanId}-01-what-comes`)).toMatchObject({ traceId, spanId });
});

test.each([
  null,
  undefined,
  7,
  "",
  traceId,
  `ff-${traceId}-${spanId}-01`,
  `00-${traceId}-${spanId}-01-more`,
  `00-${traceId.toUpperCase()}-${spanId}-01`,
  `00-${"0".repeat(32)}-${spanId}-01`,
  `00-${traceId}-${"0".repeat(16)}-01`,
  `00-${traceId}-${spanId}-1`,
  // Two headers of the name.
  `00-${traceId}-${spanId}-01, 00-${traceId}-${spanId}-01`,
  `cc-${traceId}-${spanId}-01-${"x".repeat(300)}`,
])("%j is ignored, and a new trace begins", (text) => {
  expect(parseTraceparent(text)).toBeNull();
});

test("formatting a parsed header gives the same header", () => {
  const text = `00-${traceId}-${spanId}-01`;
  const read = parseTraceparent(text);
  if (!read) throw new Error(text);
  expect(formatTraceparent(read)).toBe(text);
});
