import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { KeyspaceEvents } from "../../src/redis/feed/keyspace-events.ts";

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

/** Longer than an event waits for its publication. */
const waitMs = 10;
const later = () => vi.advanceTimersByTimeAsync(waitMs);

function opened(): { readonly events: KeyspaceEvents; readonly foreign: () => number } {
  let foreign = 0;
  const events = new KeyspaceEvents(() => foreign++);
  return { events, foreign: () => foreign };
}

describe("keyspace events of a list", () => {
  test("behind the publication that explains them cost nothing, not even a timer", () => {
    const { events, foreign } = opened();
    for (let i = 0; i < 1000; i++) {
      events.explain(2, 1);
      for (const event of ["lpush", "ltrim", "expire"]) events.take(event);
    }
    expect(vi.getTimerCount()).toBe(0);
    expect(foreign()).toBe(0);
  });

  test("ahead of it wait for it", async () => {
    const { events, foreign } = opened();
    events.take("lpush");
    events.take("expire");
    events.explain(1, 1);
    await later();
    expect(foreign()).toBe(0);
  });

  test.each(["lpush", "ltrim", "expire", "persist"])(
    "that nothing explains are foreign a moment later: %s",
    async (event) => {
      const { events, foreign } = opened();
      events.take(event);
      expect(foreign()).toBe(0);
      await later();
      expect(foreign()).toBe(1);
      await later();
      expect(foreign()).toBe(1);
    },
  );

  test.each(["del", "rename_to", "lset", "expired", "rpush"])(
    "that no write of a gateway brings are foreign at once: %s",
    (event) => {
      const { events, foreign } = opened();
      events.explain(5, 5);
      events.take(event);
      expect(foreign()).toBe(1);
    },
  );

  test.each([
    ["before", ["foreign", "published", "own"]],
    ["between", ["published", "foreign", "own"]],
    ["behind", ["published", "own", "foreign"]],
    ["ahead of both", ["own", "foreign", "published"]],
  ])("of which one is foreign, %s: found", async (_name, order) => {
    const { events, foreign } = opened();
    for (const one of order) {
      if (one === "published") events.explain(1, 0);
      else events.take("lpush");
    }
    await later();
    expect(foreign()).toBe(1);
  });

  test("a text that pushes nothing explains no push", async () => {
    const { events, foreign } = opened();
    events.explain(0, 1);
    events.take("expire");
    events.take("lpush");
    await later();
    expect(foreign()).toBe(1);
  });

  test("a publication whose event never came explains no later event", async () => {
    const { events, foreign } = opened();
    events.explain(3, 3);
    await vi.advanceTimersByTimeAsync(300);
    events.take("lpush");
    await later();
    expect(foreign()).toBe(1);
    events.explain(3, 3);
    await vi.advanceTimersByTimeAsync(300);
    events.explain(1, 0);
    events.take("lpush");
    events.take("lpush");
    await later();
    expect(foreign()).toBe(2);
  });

  test("reports nothing once it is closed", async () => {
    const { events, foreign } = opened();
    events.take("lpush");
    events.close();
    await later();
    expect(foreign()).toBe(0);
  });
});
