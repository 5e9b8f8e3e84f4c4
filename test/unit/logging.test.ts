import { expect, test } from "vitest";

import { describeError } from "../../src/telemetry/logging.ts";

test("a logged error has its cause and code, and nothing that was hung on it", () => {
  const refused = Object.assign(new Error("ERR wrong"), {
    name: "ReplyError",
    command: { name: "lpush", args: ["jim", "what a user wrote"] },
  });
  const error = Object.assign(new TypeError("The store failed", { cause: refused }), {
    code: "ECONNRESET",
    document: "what a user wrote",
  });
  const described = describeError(error);
  expect(described).toMatchObject({
    type: "TypeError",
    message: "The store failed",
    code: "ECONNRESET",
    cause: { type: "ReplyError", message: "ERR wrong" },
  });
  expect(JSON.stringify(described)).not.toContain("what a user wrote");
  expect(JSON.stringify(describeError("what a user wrote"))).not.toContain("what a user wrote");
});

test("errors that cause each other come to an end", () => {
  const first = new Error("first");
  const second = new Error("second", { cause: first });
  first.cause = second;
  expect(JSON.stringify(describeError(first)).match(/"message"/g)?.length).toBeLessThan(10);
});

test("of an error with a long message, as a tool's server may send it, a line has the beginning", () => {
  const error = new Error("x".repeat(5_000_000), { cause: new Error("y".repeat(5_000_000)) });
  expect(JSON.stringify(describeError(error)).length).toBeLessThan(50_000);
  expect(describeError(error).message).toMatch(/^x{8192}…$/);
});
