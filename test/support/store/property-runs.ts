const asked = process.env["PROPERTY_RUNS"];

/** How many times as many random cases as in everyday runs: PROPERTY_RUNS, which nightly runs set (CONTRIBUTING.md). */
export const propertyRuns = parsePropertyRuns(asked ?? "1");

/** Everyday runs repeat the same cases, so that no change is refused for a fault that is older; nightly runs look for others. */
export const newCases = asked !== undefined;

export function parsePropertyRuns(text: string): number {
  if (!/^[1-9]\d{0,3}$/.test(text))
    throw new Error(`PROPERTY_RUNS must be a whole number from 1 to 9999, not "${text}".`);
  return Number(text);
}
