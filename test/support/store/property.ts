import { createHash } from "node:crypto";
import fc from "fast-check";
import { expect, onTestFailed } from "vitest";

import { newCases, propertyRuns } from "./property-runs.ts";

export interface PropertyOptions<Values> {
  /** Random cases of an everyday run. */
  readonly runs?: number;
  /** Cases that failed once: tried each time, before the random ones. */
  readonly cases?: readonly Values[];
  /** Random values that the property does not take, for each of its runs. */
  readonly maxSkipsPerRun?: number;
  /** Not to look for a smaller case that fails as well: each run takes long. */
  readonly endOnFailure?: boolean;
}

/** The same in each run of the test of this name; a new one in each run where `anew`. */
export function seedOf(testName: string, anew: boolean): number {
  return anew ? Math.trunc(Math.random() * 2 ** 31) : createHash("sha1").update(testName).digest().readUInt32BE() >>> 1;
}

/**
 * Whether a property holds for random cases: the same ones each time, unless PROPERTY_RUNS is set. However the test fails, the
 * seed and the path of the case are printed: also where it ran out of time in the property, and where what it expects behind it
 * fails. `fc.assert(…, { seed, path })` in place of this call repeats the case.
 */
export async function checkProperty<Values extends [unknown, ...unknown[]]>(
  property: fc.IProperty<Values> | fc.IAsyncProperty<Values>,
  { runs = 100, cases = [], ...rest }: PropertyOptions<Values> = {},
): Promise<void> {
  const seed = seedOf(expect.getState().currentTestName ?? "", newCases);
  let path = -1;
  onTestFailed(() => console.error(`The property's last case: { seed: ${seed}, path: "${path}" }`));
  const plugins = [fc.beforeEach(() => void (path += 1))];
  const numRuns = runs * propertyRuns + cases.length;
  await fc.assert(property, { ...rest, plugins, seed, numRuns, examples: [...cases] });
}
