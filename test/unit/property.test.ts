import fc from "fast-check";
import { expect, test } from "vitest";

import { newCases, parsePropertyRuns, propertyRuns } from "../support/store/property-runs.ts";
import { checkProperty, seedOf } from "../support/store/property.ts";

test("a property that fails tells the seed and the path that repeat the case", async () => {
  const failing = checkProperty(fc.property(fc.nat(), (n) => n < 0));
  await expect(failing).rejects.toThrow(/\{ seed: \d+, path: "0[:\d]*", endOnFailure: true \}\nCounterexample: \[0\]/);
});

test("a test has the same random cases in each run, others than another test's, and new ones where it is asked for", async () => {
  expect([seedOf("one", false), seedOf("other", false)]).toEqual([2130894446, 1749684020]);
  expect(seedOf("one", true)).not.toBe(seedOf("one", true));
  const tried: number[][] = [[], []];
  for (const values of tried) await checkProperty(fc.property(fc.nat(), (n) => void values.push(n)));
  if (newCases) expect(tried[0]).not.toEqual(tried[1]);
  else expect(tried[0]).toEqual(tried[1]);
});

test("cases that failed once are tried first, and beside the random ones", async () => {
  const tried: string[] = [];
  const property = fc.property(fc.constantFrom("random"), (text) => void tried.push(text));
  await checkProperty(property, { runs: 2, cases: [["first"], ["second"]] });
  expect(tried).toEqual(["first", "second", ...Array<string>(2 * propertyRuns).fill("random")]);
});

test("PROPERTY_RUNS says how many times as many random cases there are", () => {
  expect(parsePropertyRuns("50")).toBe(50);
  for (const text of ["0", "-1", "1.5", "many", ""]) {
    expect(() => parsePropertyRuns(text)).toThrow(
      `PROPERTY_RUNS must be a whole number from 1 to 9999, not "${text}".`,
    );
  }
});
