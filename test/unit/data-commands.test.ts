import { expect, test } from "vitest";
import { readDataCommand } from "../../src/cli/data-commands.ts";

test.each([
  [["export"], { kind: "export", owner: null, sessionId: null }],
  [["export", "--owner", "a", "--session", "s"], { kind: "export", owner: "a", sessionId: "s" }],
  [["import", "--replace"], { kind: "import", owner: null, replace: true }],
  [["delete-owner", "a", "--yes"], { kind: "delete-owner", owner: "a" }],
  [["give", "anonymous", "jim"], { kind: "give", from: "anonymous", to: "jim", match: "*" }],
  [["give", "a", "b", "--match", "team-*"], { kind: "give", from: "a", to: "b", match: "team-*" }],
  [["give", "a"], { kind: "misused" }],
  [["give", "a", "b", "c"], { kind: "misused" }],
  [["delete-owner", "a"], { kind: "misused" }],
  [["delete-owner", "--yes"], { kind: "misused" }],
  [["export", "--replace"], { kind: "misused" }],
  [["export", "more"], { kind: "misused" }],
])("%j", (args, expected) => {
  expect(readDataCommand(args)).toMatchObject(expected);
});

test.each([[["start"]], [[]], [["adopt"]], [["export", "--help"]]])("%j is another command", (args: string[]) => {
  expect(readDataCommand(args)).toBeNull();
});
