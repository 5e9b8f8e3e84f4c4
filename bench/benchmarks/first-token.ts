import { randomUUID } from "node:crypto";
import { compare, inRounds, warm, type Benchmark, type Contender } from "../benchmark.ts";
import type { ExpressOrders } from "../baselines/express-chain.ts";
import type { FirstTokens } from "../clients/first-tokens.ts";
import { quantile } from "../statistics.ts";

const turns = 40;
const warmUpWindows = 10;

/** Nothing is hidden behind the model's own delay: it gives the first token at once. */
const pace = { tokens: 5, firstTokenMs: 0, tokenMs: 2 };

export const firstToken: Benchmark = {
  name: "first-token",
  title: "from the message to the first token of its reply, new sessions, one after the other",
  async run(stage) {
    const parley = await stage.start("parley.ts", { pace });
    const chain = await stage.start<ExpressOrders>("baselines/express-chain.ts", { pace });
    const client = await stage.start<FirstTokens>("clients/first-tokens.ts");
    const contender = (
      name: string,
      note: string,
      ask: (sessionIds: readonly string[]) => Promise<readonly number[]>,
    ): Contender => {
      const window = async () => {
        const times = await ask(Array.from({ length: turns }, () => randomUUID()));
        return { p50Ms: quantile(times, 0.5), p99Ms: quantile(times, 0.99) };
      };
      return { name, note, window, warmUp: () => warm(warmUpWindows, window) };
    };
    const contenders = await inRounds(
      [
        contender("Parley", "message over HTTP, text over a WebSocket", (sessionIds) =>
          client.order("parley", { url: parley.url, sessionIds }),
        ),
        contender(
          "ConversationChain",
          "LangChain's Redis history, in its own process: no network to a client",
          (sessionIds) => chain.order("firstTokens", { sessionIds }),
        ),
        contender("Express + ConversationChain", "over HTTP; text is gone when the connection is", (sessionIds) =>
          client.order("express", { url: chain.url, sessionIds }),
        ),
      ],
      3,
    );
    const against = (to: string, goal: number | null) =>
      compare(contenders, {
        what: `first token, added to ${to}`,
        ...{ of: "Parley", to, metric: "p50Ms", form: "difference", goal },
      });
    return { contenders, comparisons: [against("ConversationChain", 3), against("Express + ConversationChain", null)] };
  },
};
