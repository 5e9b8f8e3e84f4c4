import { expect, test } from "vitest";
import { drills } from "../drills/drills.ts";

// The quick ones of npm run drill.
test.each(drills.filter(({ quick }) => quick).map((drill) => [drill.name, drill] as const))(
  "%s: nothing is lost silently, doubled or put out of order",
  async (_name, { loses, run }) => {
    const count = await run();
    expect(count).toMatchObject({ silent: 0, duplicated: 0, outOfOrder: 0, wrong: [] });
    expect(count.acknowledged).toBeGreaterThan(100);
    if (loses) {
      // Else the drill has shown nothing.
      expect(count.lost).toBeGreaterThan(0);
      expect(count.resets).toBeGreaterThan(0);
    } else {
      expect(count.lost).toBe(0);
    }
  },
);
