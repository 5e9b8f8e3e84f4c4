import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { Checks, type Checked } from "../../src/redis/feed/checks.ts";
import type { Followed } from "../../src/redis/scripts/reading/compare.ts";

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

const roundMs = 5000;

/** A session, and what it was told of its comparisons. */
class Session implements Checked {
  readonly historyKey: string;
  readonly sessionKey = "";
  readonly known = "as it was";
  readonly told: (string | null)[] = [];

  constructor(historyKey: string) {
    this.historyKey = historyKey;
  }

  compared(state: string | null): void {
    this.told.push(state);
  }
}

/** Checks over a store in which nothing has changed but `changed`. */
class World {
  readonly calls: { readonly at: number; readonly keys: readonly string[] }[] = [];
  readonly changed = new Map<string, string>();
  readonly errors: unknown[] = [];
  readonly checks: Checks;
  roundMs = roundMs;
  /** What it is asked waits for this. */
  held: Promise<unknown> = Promise.resolve();
  failure: Error | null = null;

  constructor(groupOf?: (key: string) => number) {
    this.checks = new Checks({
      checkMs: () => this.roundMs,
      compare: (sessions) => this.#compare(sessions),
      onError: (error) => this.errors.push(error),
      ...(groupOf ? { groupOf } : {}),
    });
  }

  add(count: number, name = "s"): readonly Session[] {
    const sessions = Array.from({ length: count }, (_, i) => new Session(`${name}${i}`));
    for (const one of sessions) this.checks.add(one);
    return sessions;
  }

  async #compare(sessions: readonly Followed[]): Promise<ReadonlyMap<number, string>> {
    const keys = sessions.map(({ historyKey }) => historyKey);
    this.calls.push({ at: Date.now(), keys });
    await this.held;
    if (this.failure !== null) throw this.failure;
    const differ = keys.flatMap((key, i) => {
      const state = this.changed.get(key);
      return state === undefined ? [] : [[i, state] as const];
    });
    return new Map(differ);
  }
}

describe("followed sessions", () => {
  test.each([1, 3, 300, 1000, 4000])(
    "%i that came at once: each is compared in each round, few at a time",
    async (count) => {
      const world = new World();
      const sessions = world.add(count);
      for (let round = 1; round <= 3; round++) {
        await vi.advanceTimersByTimeAsync(roundMs);
        // Its turn comes a little ahead of its time.
        for (const { told } of sessions) expect([round, round + 1]).toContain(told.length);
      }
      const atOnce = Map.groupBy(world.calls, ({ at }) => at);
      const most = [...atOnce.values()].map((some) => some.reduce((sum, { keys }) => sum + keys.length, 0));
      expect(Math.max(...most)).toBeLessThanOrEqual(Math.min(Math.ceil(count / 4), 100) + 1);
    },
  );

  test("a session that has changed gets its new state, and no other session gets one", async () => {
    const world = new World();
    const [first, second] = world.add(2);
    world.changed.set("s1", "another");
    await vi.advanceTimersByTimeAsync(roundMs);
    expect(new Set(first?.told)).toEqual(new Set([null]));
    expect(new Set(second?.told)).toEqual(new Set(["another"]));
  });

  test("a session that may have missed events is compared before the others, once", async () => {
    const world = new World();
    const sessions = world.add(1000);
    const last = sessions.at(-1) as Session;
    for (let i = 0; i < 3; i++) world.checks.soon(last);
    await vi.advanceTimersByTimeAsync(20);
    expect(last.told).toEqual([null]);
  });

  test("all at once, as behind a reconnect: within a fifth of a second, a thousand at a time at most", async () => {
    const world = new World();
    const sessions = world.add(5000);
    for (const one of sessions) world.checks.soon(one);
    await vi.advanceTimersByTimeAsync(200);
    for (const { told } of sessions) expect(told.length).toBeGreaterThan(0);
    for (const some of Map.groupBy(world.calls, ({ at }) => at).values()) expect(some.length).toBeLessThanOrEqual(10);
  });

  test("a failure is reported once for all sessions of one question, and they are asked again long before the next round", async () => {
    const world = new World();
    const sessions = world.add(40);
    world.failure = new Error("Redis is away");
    await vi.advanceTimersByTimeAsync(roundMs / 4);
    expect(world.calls).toHaveLength(1);
    expect(world.errors).toEqual([world.failure]);
    const asked = new Set(world.calls[0]?.keys);
    world.failure = null;
    await vi.advanceTimersByTimeAsync(300);
    const told = sessions.filter(({ historyKey }) => asked.has(historyKey)).map((one) => one.told);
    expect(told).toEqual(Array.from({ length: 10 }, () => [null]));
  });

  test("a session that is no longer followed is asked about no more, and gets no answer to an earlier question", async () => {
    const world = new World();
    const sessions = world.add(4);
    const { promise, resolve } = Promise.withResolvers();
    world.held = promise;
    await vi.advanceTimersByTimeAsync(roundMs);
    expect(world.calls.flatMap(({ keys }) => keys)).toHaveLength(4);
    const [gone] = sessions;
    if (gone === undefined) throw new Error("None");
    world.checks.delete(gone);
    resolve(undefined);
    await vi.advanceTimersByTimeAsync(2 * roundMs);
    expect(gone.told).toEqual([]);
    expect(world.calls.filter(({ keys }) => keys.includes(gone.historyKey))).toHaveLength(1);
    for (const one of sessions) world.checks.delete(one);
    expect(vi.getTimerCount()).toBe(0);
  });

  test("one that is asked about and waits for the answer is not asked about again", async () => {
    const world = new World();
    const [only] = world.add(1);
    const { promise, resolve } = Promise.withResolvers();
    world.held = promise;
    await vi.advanceTimersByTimeAsync(5 * roundMs);
    expect(world.calls).toHaveLength(1);
    resolve(undefined);
    await vi.advanceTimersByTimeAsync(roundMs);
    expect(only?.told.length).toBeGreaterThan(1);
  });

  test("one script call compares sessions of one slot only", async () => {
    const slot = (key: string) => Number(key.slice(1)) % 7;
    const world = new World(slot);
    const sessions = world.add(50);
    await vi.advanceTimersByTimeAsync(roundMs);
    for (const { told } of sessions) expect(told.length).toBeGreaterThan(0);
    for (const { keys } of world.calls) expect(new Set(keys.map(slot)).size).toBe(1);
  });

  test("rounds are shorter from the next step on where the server turns out to have no events", async () => {
    const world = new World();
    const sessions = world.add(10);
    await vi.advanceTimersByTimeAsync(100);
    world.roundMs = 1000;
    await vi.advanceTimersByTimeAsync(roundMs / 4);
    for (const { told } of sessions) expect(told.length).toBeGreaterThan(0);
    await vi.advanceTimersByTimeAsync(4000);
    for (const { told } of sessions) expect(told.length).toBeGreaterThanOrEqual(4);
  });
});
