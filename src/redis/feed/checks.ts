import type { Followed } from "../scripts/reading/compare.ts";

/** A followed session that is compared from time to time. */
export interface Checked extends Followed {
  /** Of a comparison that was asked for before: the session's state, or null where it was the known one. */
  compared(state: string | null): void;
}

interface CheckSettings {
  /** Each is compared so often, in ms; asked anew each time. */
  readonly checkMs: () => number;
  /** Sessions of one group are compared by one script: in a cluster those of one slot. Left out: all are one group. */
  readonly groupOf?: (historyKey: string) => number;
  /** Which of these differ: their places in the list, and their states. */
  readonly compare: (sessions: readonly Followed[]) => Promise<ReadonlyMap<number, string>>;
  readonly onError: (error: unknown) => void;
}

/** How many one script compares: it keeps Redis from everything else for about a millisecond. */
const together = 100;
/** How many are asked about at a time. */
const mostAtOnce = 1000;
/** A round of checks has at least so many steps, and each takes at least so long, in ms. */
const fewestSteps = 4;
const shortestStepMs = 10;
/** After a comparison that failed, in ms; a Redis that is away is asked again long before the next check. */
const retryMs = 250;

/**
 * Finds what happened to followed sessions without a word of pub/sub: they are compared in turn, spread over the time in
 * which each is compared once, by few scripts and one timer for all.
 */
export class Checks {
  readonly #settings: CheckSettings;
  /** Who waits for a turn, the one that has waited longest first, and since when. */
  readonly #turns = new Map<Checked, number>();
  /** Whose turn comes ahead of the others', and when. */
  readonly #ahead = new Map<Checked, number>();
  readonly #asked = new Set<Checked>();
  #timer: NodeJS.Timeout | null = null;
  #timerAt = Infinity;
  #stepAt = 0;
  /** How many of a step's turns are left over, as a fraction. */
  #share = 0;

  constructor(settings: CheckSettings) {
    this.#settings = settings;
  }

  add(one: Checked): void {
    const now = performance.now();
    if (this.#turns.size === 0) this.#stepAt = now;
    this.#turns.set(one, now);
    this.#planStep(this.#stepAt + this.#stepMs);
  }

  delete(one: Checked): void {
    this.#turns.delete(one);
    this.#ahead.delete(one);
    this.#asked.delete(one);
    if (this.#turns.size + this.#asked.size === 0) this.#unplan();
  }

  /** Compares it as soon as possible: what was told of it meanwhile is unknown. */
  soon(one: Checked): void {
    this.#askAt(one, performance.now());
  }

  /** What has failed is tried again by a comparison, long before the next one would come. */
  retry(one: Checked): void {
    this.#askAt(one, performance.now() + retryMs);
  }

  #askAt(one: Checked, at: number): void {
    if (!this.#turns.has(one) && !this.#asked.has(one)) return;
    this.#ahead.set(one, Math.min(at, this.#ahead.get(one) ?? Infinity));
    this.#planStep(at);
  }

  get #stepMs(): number {
    const steps = Math.max(fewestSteps, Math.ceil(this.#turns.size / together));
    return Math.max(shortestStepMs, this.#settings.checkMs() / steps);
  }

  #planStep(at: number): void {
    if (at >= this.#timerAt) return;
    this.#unplan();
    this.#timerAt = Math.max(at, this.#stepAt + shortestStepMs);
    this.#timer = setTimeout(() => this.#step(), Math.max(1, this.#timerAt - performance.now())).unref();
  }

  #unplan(): void {
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#timer = null;
    this.#timerAt = Infinity;
  }

  #step(): void {
    this.#unplan();
    const now = performance.now();
    const due: Checked[] = [];
    const take = (one: Checked) => {
      this.#turns.delete(one);
      this.#ahead.delete(one);
      this.#asked.add(one);
      due.push(one);
    };
    for (const [one, at] of this.#ahead) {
      if (due.length === mostAtOnce) break;
      if (at <= now && !this.#asked.has(one)) take(one);
    }
    const [everyMs, stepMs, { size }] = [this.#settings.checkMs(), this.#stepMs, this.#turns];
    this.#share = Math.min(size, this.#share + (size * (now - this.#stepAt)) / everyMs);
    this.#stepAt = now;
    for (const [one, since] of this.#turns) {
      if (due.length === mostAtOnce || (this.#share < 1 && since + everyMs > now + stepMs / 2)) break;
      this.#share = Math.max(0, this.#share - 1);
      take(one);
    }
    for (const some of this.#batches(due)) void this.#ask(some, now);
    if (this.#turns.size > 0) this.#planStep(now + stepMs);
    for (const [one, at] of this.#ahead) if (!this.#asked.has(one)) this.#planStep(at);
  }

  #batches(due: readonly Checked[]): readonly (readonly Checked[])[] {
    const { groupOf } = this.#settings;
    const groups = groupOf ? [...Map.groupBy(due, ({ historyKey }) => groupOf(historyKey)).values()] : [due];
    return groups.flatMap((group) =>
      Array.from({ length: Math.ceil(group.length / together) }, (_, i) => {
        return group.slice(i * together, (i + 1) * together);
      }),
    );
  }

  async #ask(some: readonly Checked[], now: number): Promise<void> {
    // One that is gone meanwhile has no more turns.
    const isLeft = (one: Checked) => {
      if (!this.#asked.delete(one)) return false;
      this.#turns.set(one, now);
      return true;
    };
    try {
      const states = await this.#settings.compare(some);
      for (const [i, one] of some.entries()) if (isLeft(one)) one.compared(states.get(i) ?? null);
    } catch (error) {
      this.#settings.onError(error);
      for (const one of some) if (isLeft(one)) this.retry(one);
    }
    this.#planStep(this.#stepAt + this.#stepMs);
  }
}
