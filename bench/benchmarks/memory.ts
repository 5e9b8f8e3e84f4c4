import { Redis } from "ioredis";
import { compare, type Benchmark } from "../benchmark.ts";
import type { ParleyOrders } from "../parley.ts";

const sessions = 500;
const messages = 10_000;

/** Nothing is timed here: what Redis itself says it uses, before and after. */
export const memory: Benchmark = {
  name: "memory",
  title: "what sessions and messages take in Redis, with all that is kept beside LangChain's own list",
  async run(stage) {
    const redis = new Redis(stage.redisUrl);
    const used = async () => Number(/used_memory:(\d+)/.exec(await redis.info("memory"))?.[1]);
    const pace = { tokens: 1, firstTokenMs: 0, tokenMs: 0 };
    const parley = await stage.start<ParleyOrders>("parley.ts", { pace });
    const append = (sessionIds: readonly string[]) => parley.order("appends", { sessionIds });
    // The scripts are loaded first: they are not a session's.
    await append(["warm"]);
    const empty = await used();
    await append(Array.from({ length: sessions }, (_, i) => `s${i}`));
    const withSessions = await used();
    await append(Array.from({ length: messages }, (_, i) => `s${i % 100}`));
    const withMessages = await used();
    const row = (await redis.lindex("s0", 0)) ?? "";
    const bare = redis.pipeline();
    for (let i = 0; i < messages; i++) bare.lpush(`bare${i % 100}`, row);
    await bare.exec();
    const withBare = await used();
    redis.disconnect();
    const more = `a further message (a row of ${row.length} bytes)`;
    const contenders = [
      {
        name: "Parley, a session with one message",
        note: "its record, its place in the lists of sessions and deadlines, its op for 25 hours",
        figures: { redisBytes: (withSessions - empty) / sessions },
      },
      {
        name: `Parley, ${more}`,
        note: "with its op for 25 hours, by which a retry is free",
        figures: { redisBytes: (withMessages - withSessions) / messages },
      },
      {
        name: `LangChain's list, ${more}`,
        note: "the list alone",
        figures: { redisBytes: (withBare - withMessages) / messages },
      },
    ];
    const comparison = { metric: "redisBytes", goal: null } as const;
    return {
      contenders,
      comparisons: [
        compare(contenders, {
          ...{ what: "a session with one message", of: "Parley, a session with one message" },
          ...{ to: null, form: "value", ...comparison },
        }),
        compare(contenders, {
          ...{ what: "a further message, against LangChain's list alone", of: `Parley, ${more}` },
          ...{ to: `LangChain's list, ${more}`, form: "ratio", ...comparison },
        }),
      ],
    };
  },
};
