import { expect } from "vitest";

/**
 * Two kinds of work, in turn and `count` times each, take about as long: the median of neither is `most` times that of the
 * other. Each gives the milliseconds that it took. On a busy machine chance may part them once: what really takes longer does so
 * each time that it is measured anew.
 */
export async function expectAsFast(
  count: number,
  most: number,
  one: () => Promise<number>,
  other: () => Promise<number>,
): Promise<void> {
  const ratios: number[] = [];
  while (ratios.length < 5) {
    const times: [number[], number[]] = [[], []];
    for (let i = 0; i < count; i++) {
      times[0].push(await one());
      times[1].push(await other());
    }
    const ratio = median(times[0]) / median(times[1]);
    ratios.push(Math.max(ratio, 1 / ratio));
    if (Math.max(ratio, 1 / ratio) < most) return;
  }
  expect(Math.min(...ratios), `of ${ratios.join(", ")}`).toBeLessThan(most);
}

/** Milliseconds of `work`. */
export async function timeOf(work: () => Promise<unknown>): Promise<number> {
  const startedAt = performance.now();
  await work();
  return performance.now() - startedAt;
}

function median(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[values.length >> 1] ?? Number.NaN;
}
