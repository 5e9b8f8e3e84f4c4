import { GraphQLError } from "graphql";
import { describe, expect, test } from "vitest";

import { errorCodes, ParleyError } from "../../src/conversation/errors.ts";
import { toGraphQLError } from "../../src/graphql/errors.ts";

describe("what a client sees", () => {
  test.each(errorCodes)("of a refusal: its code %s and its message", (code) => {
    const seen = toGraphQLError(new ParleyError(code, "Do this instead."));
    expect(seen.toJSON()).toEqual({ message: "Do this instead.", extensions: { code } });
  });

  test("of a refusal: its details, a run by its global id", () => {
    const busy = new ParleyError("SESSION_BUSY", "Busy.", { runId: "user:jim:r1", retryAfterSeconds: 3 });
    expect(toGraphQLError(busy).extensions).toEqual({
      code: "SESSION_BUSY",
      runId: Buffer.from("Run:user:jim:r1").toString("base64"),
      retryAfterSeconds: 3,
    });
  });

  test("of a refusal that executors have wrapped: the same, with the path", () => {
    const refusal = new ParleyError("NOT_FOUND", "Not there.");
    const located = new GraphQLError(refusal.message, { path: ["session", "messages"], originalError: refusal });
    const again = new GraphQLError(located.message, { path: ["session", "messages"], originalError: located });
    expect(toGraphQLError(again).toJSON()).toEqual({
      message: "Not there.",
      path: ["session", "messages"],
      extensions: { code: "NOT_FOUND" },
    });
  });

  test.each([
    ["an Error", new Error("connect ECONNREFUSED 10.0.0.7:6379")],
    ["no Error at all", "10.0.0.7"],
    ["an Error on its path", new GraphQLError("10.0.0.7", { originalError: new TypeError("10.0.0.7") })],
  ])("of %s: nothing of it", (_, thrown) => {
    const seen = toGraphQLError(thrown);
    expect(seen.extensions).toEqual({ code: "INTERNAL_SERVER_ERROR" });
    expect(JSON.stringify(seen.toJSON())).not.toContain("10.0.0.7");
    expect(seen.originalError).toBeInstanceOf(Error);
  });

  test("of GraphQL's own errors: themselves", () => {
    const syntax = new GraphQLError("Syntax Error: Unexpected }.", { extensions: { code: "GRAPHQL_PARSE_FAILED" } });
    expect(toGraphQLError(syntax)).toBe(syntax);
    const coercion = new GraphQLError("$x got invalid value", { originalError: syntax });
    expect(toGraphQLError(coercion)).toBe(coercion);
  });
});
