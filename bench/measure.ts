/** A named way to do a thing once. */
export interface Contender {
  readonly name: string;
  readonly once: () => Promise<unknown>;
}

export interface Result {
  readonly name: string;
  readonly medianMs: number;
  readonly p99Ms: number;
  /** Median against that of the first contender, the baseline. */
  readonly ratio: number;
}

/** Interleaved, so that what else the machine does hits all alike; the first fifth warms up. */
export async function compare(contenders: readonly Contender[], rounds: number): Promise<readonly Result[]> {
  const times = contenders.map((): number[] => []);
  for (let round = -Math.ceil(rounds / 5); round < rounds; round++) {
    for (const [i, { once }] of contenders.entries()) {
      const start = performance.now();
      await once();
      if (round >= 0) times[i]?.push(performance.now() - start);
    }
  }
  const medians = times.map((one) => quantile(one, 0.5));
  return contenders.map(({ name }, i) => ({
    name,
    medianMs: medians[i] ?? 0,
    p99Ms: quantile(times[i] ?? [], 0.99),
    ratio: (medians[i] ?? 0) / (medians[0] ?? 1),
  }));
}

function quantile(values: readonly number[], q: number): number {
  return values.toSorted((a, b) => a - b)[Math.min(values.length - 1, Math.floor(values.length * q))] ?? 0;
}

export function print(title: string, results: readonly Result[]): void {
  process.stdout.write(`\n${title}\n`);
  for (const { name, medianMs, p99Ms, ratio } of results) {
    const row = [name.padEnd(56), `${medianMs.toFixed(3)} ms`.padStart(12), `p99 ${p99Ms.toFixed(3)} ms`.padStart(16)];
    process.stdout.write(`  ${row.join(" ")}  ${ratio.toFixed(2)} ×\n`);
  }
}
