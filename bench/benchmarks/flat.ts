import { compare, inRounds, warm, type Benchmark, type Contender } from "../benchmark.ts";
import type { ParleyOrders } from "../parley.ts";
import { fillSessions } from "../sessions.ts";
import { quantile } from "../statistics.ts";

const short = "100 messages";
const long = "100,000 messages";
const pace = { tokens: 4, firstTokenMs: 0, tokenMs: 0 };

/** Ahead of what is measured: V8 takes thousands of operations to compile all that they run. */
const warmUpWindows = 8;

/** P9. The short session grows as it is written to, to some ten thousand at the end; the long one as much. */
export const flat: Benchmark = {
  name: "flat",
  title: "what a page, an append and a turn cost in a long session against a short one (without GraphQL)",
  async run(stage) {
    const sizes = [
      { size: short, sessionId: "short", messages: 100 },
      { size: long, sessionId: "long", messages: 100_000 },
    ];
    for (const { sessionId, messages } of sizes) await fillSessions(stage.redisUrl, [sessionId], messages);
    const memory = { strategy: "WINDOW", maxTurns: 5 };
    const parley = await stage.start<ParleyOrders>("parley.ts", { pace, memory });
    const pageOf = (newest: boolean) => (sessionId: string, count: number) =>
      parley.order("pages", { sessionId, count, newest });
    const works = [
      { what: "newest page of 50", count: 500, once: pageOf(true) },
      { what: "oldest page of 50", count: 500, once: pageOf(false) },
      {
        what: "append",
        count: 150,
        once: (sessionId: string, count: number) =>
          parley.order("appends", { sessionIds: Array.from({ length: count }, () => sessionId) }),
      },
      {
        what: "turn, window of 5",
        count: 100,
        once: (sessionId: string, count: number) =>
          parley.order("turns", { sessionIds: Array.from({ length: count }, () => sessionId), atOnce: 1 }),
      },
    ];
    const all = works.flatMap(({ what, count, once }) =>
      sizes.map(({ size, sessionId }): Contender => {
        const window = async () => {
          const before = await parley.usage();
          const times = await once(sessionId, count);
          const after = await parley.usage();
          return {
            cpuUs: (after.cpuUs - before.cpuUs) / count,
            p50Ms: quantile(times, 0.5),
            p99Ms: quantile(times, 0.99),
          };
        };
        return { name: `${what}, ${size}`, note: "", window, warmUp: () => warm(warmUpWindows, window) };
      }),
    );
    const contenders = await inRounds(all, 10);
    const comparisons = works.flatMap(({ what }) =>
      (["cpuUs", "p50Ms"] as const).map((metric) =>
        compare(contenders, {
          what: `${what}, at 100,000 against 100 (${metric === "cpuUs" ? "CPU" : "time"})`,
          ...{ of: `${what}, ${long}`, to: `${what}, ${short}`, metric, form: "ratio", goal: 1.2 },
        }),
      ),
    );
    return { contenders, comparisons };
  },
};
