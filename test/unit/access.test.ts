import fc from "fast-check";
import { describe, expect, test } from "vitest";

import {
  actingFor,
  makeSessionId,
  mayReach,
  mayUse,
  requireScope,
  subjectProblem,
  viewerOf,
} from "../../src/conversation/conversations/access.ts";
import { anonymous } from "../../src/conversation/session.ts";
import type { Viewer } from "../../src/conversation/session.ts";
import { checkProperty } from "../support/store/property.ts";

const viewer = (sessions: readonly string[] | null = null, scopes: readonly string[] = []) =>
  viewerOf({ subject: "jim", scopes, sessions, models: null });
const now = 1_800_000_000_000;

describe("which session ids somebody may choose", () => {
  test("without authentication any", () => {
    for (const id of ["jim", "ann:1", "*"]) expect(mayUse(anonymous, id)).toBe(true);
  });

  test("by default those that begin with the subject and a colon", () => {
    for (const id of ["jim:1", "jim:", "jim:a:b"]) expect(mayUse(viewer(), id)).toBe(true);
    for (const id of ["jim", "jimmy:1", "Jim:1", "ann:jim:1", ""]) expect(mayUse(viewer(), id)).toBe(false);
  });

  test.each([
    ["team-*", ["team-", "team-1", "team-*"], ["team", "a-team-1"]],
    ["jim", ["jim"], ["jim:", "jimm", "*"]],
    ["*", ["", "anything"], []],
    ["*-jim", ["-jim", "a-jim-jim"], ["a-jim-"]],
    ["a*b*c", ["abc", "aXbYc", "abbc", "abcbc"], ["ac", "acb", "ab", "abX"]],
    ["aa*aa", ["aaaa", "aaaaa"], ["aa", "aaa"]],
    ["a.c", ["a.c"], ["abc"]],
    ["[a-z]+$*", ["[a-z]+$x"], ["abc"]],
  ])("%s", (pattern, inside, outside) => {
    for (const id of inside) expect(mayUse(viewer([pattern]), id), id).toBe(true);
    for (const id of outside) expect(mayUse(viewer([pattern]), id), id).toBe(false);
  });

  test("an id needs to match only one of several patterns; an empty list matches no id", () => {
    expect(mayUse(viewer(["a*", "b*"]), "b1")).toBe(true);
    expect(mayUse(viewer([]), "a")).toBe(false);
  });

  test("a pattern matches as the regular expression that it stands for", async () => {
    const text = fc.string({ unit: fc.constantFrom("a", "b", ".", ":"), maxLength: 12 });
    const pattern = fc.string({ unit: fc.constantFrom("a", "b", ".", "*"), minLength: 1, maxLength: 8 });
    await checkProperty(
      fc.property(pattern, text, (given, id) => {
        const expression = given
          .split("*")
          .map((part) => part.replaceAll(".", "\\."))
          .join(".*");
        expect(mayUse(viewer([given]), id)).toBe(new RegExp(`^${expression}$`).test(id));
      }),
      { runs: 2000 },
    );
  });

  test("no pattern is slow to match", () => {
    const slow = viewer([`${"*a".repeat(250)}b`]);
    // Exponential for a backtracking matcher: it would not come back at all.
    expect(mayUse(slow, "a".repeat(512))).toBe(false);
  });
});

test("granted patterns limit which sessions can be reached; without them the record alone decides whose a session is", () => {
  expect(mayReach(viewer(), "given-by-an-admin")).toBe(true);
  expect(mayReach(viewer(["team-*"]), "jim:1")).toBe(false);
  expect(mayReach(viewer(["team-*"]), "team-1")).toBe(true);
});

describe("an id that the gateway makes", () => {
  const uuid = "[0-9a-f]{8}-[0-9a-f]{4}-[78][0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}";

  test.each<readonly [Viewer, RegExp]>([
    [anonymous, new RegExp(`^${uuid}$`)],
    [viewer(), new RegExp(`^jim:${uuid}$`)],
    [viewer(["jim", "team-*"]), new RegExp(`^team-${uuid}$`)],
    [viewer(["a*b*c"]), new RegExp(`^a${uuid}bc$`)],
    [viewer(["$&*"]), new RegExp(`^\\$&${uuid}$`)],
  ])("carries the pattern: %#", (who, form) => {
    const id = makeSessionId(who, "create", null, now);
    expect(id).toMatch(form);
    expect(mayUse(who, id)).toBe(true);
    expect(makeSessionId(who, "create", null, now)).not.toBe(id);
  });

  test("is the same for the same idempotency key of the same subject", () => {
    const id = makeSessionId(viewer(), "create", "key", now);
    expect(makeSessionId(viewer(), "create", "key", now + 1)).toBe(id);
    expect(makeSessionId(viewer(), "fork", "key", now)).not.toBe(id);
    const ann = viewerOf({ subject: "ann", scopes: [], sessions: ["jim:*"], models: null });
    expect(makeSessionId(ann, "create", "key", now)).not.toBe(id);
  });

  test("cannot be made if the patterns name every allowed id", () => {
    expect(() => makeSessionId(viewer(["jim"]), "create", null, now)).toThrow(/name the sessions/);
  });
});

test("a scope allows what it names; admin allows everything", () => {
  expect(() => requireScope(viewer(null, ["chat:read"]), "chat:read")).not.toThrow();
  expect(() => requireScope(viewer(null, ["admin"]), "chat:write")).not.toThrow();
  for (const scopes of [[], ["chat:write"], ["CHAT:READ"], ["chat"]]) {
    expect(() => requireScope(viewer(null, scopes), "chat:read")).toThrow(
      "This needs the scope chat:read, which your credentials do not have.",
    );
  }
});

test("only an admin acts for another subject, and then has the rights of that subject", () => {
  expect(() => actingFor(viewer(null, ["chat:read", "chat:write"]), "ann")).toThrow(/scope admin/);
  expect(actingFor(viewer(["jim"], ["admin"]), "ann")).toEqual({
    subject: "ann",
    scopes: ["admin"],
    sessions: null,
    granted: false,
    models: null,
  });
});

test("nobody can sign in as anonymous, the owner of sessions made without authentication", () => {
  expect(() => viewerOf({ subject: "anonymous", scopes: [], sessions: null, models: null })).toThrow(
    "These credentials are not valid",
  );
  expect(subjectProblem("anonymous")).toBeNull();
});

test("a subject can be neither a pattern nor the name of the gateway itself", () => {
  for (const subject of ["*", "a*b", "", "a\u0000b", "é".repeat(128)]) expect(subjectProblem(subject)).not.toBeNull();
  for (const subject of ["jim", "auth0|1", "repo:a/b", "jim@chat.example", "é".repeat(127)]) {
    expect(subjectProblem(subject)).toBeNull();
  }
  expect(() => viewerOf({ subject: "*", scopes: [], sessions: null, models: null })).toThrow(/not valid/);
});
