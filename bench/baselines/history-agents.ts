import type { BaseCallbackHandler } from "@langchain/core/callbacks/base";
import { HumanMessage, type BaseMessage } from "@langchain/core/messages";
import { RedisChatMessageHistory } from "@langchain/redis";
import { createAgent } from "langchain";
import { createClient } from "redis";

import { partsOf, type Kind } from "../agents/kinds.ts";
import { settings, takeOrders, timed } from "../orders.ts";
import type { Pace } from "../model.ts";
import { tokenHandler } from "./history-chain.ts";

// What one writes around LangChain's agents, graphs and models by hand: read the history, ask, add what is new.

const { redisUrl, pace } = settings<{ readonly redisUrl: string; readonly pace: Pace }>();
const client = createClient({ url: redisUrl });
await client.connect();
const { model, calling, weather, graph } = partsOf(pace);
const agent = createAgent({ model, tools: [] });
const agentWithTool = createAgent({ model: calling, tools: [weather] });

interface Asking {
  readonly callbacks: BaseCallbackHandler[];
}

/** Each gives the messages that it has made. */
const ask: Readonly<Record<Kind, (messages: BaseMessage[], asking: Asking) => Promise<BaseMessage[]>>> = {
  agent: async (messages, asking) => (await agent.invoke({ messages }, asking)).messages.slice(messages.length),
  "agent with a tool": async (messages, asking) =>
    (await agentWithTool.invoke({ messages }, asking)).messages.slice(messages.length),
  graph: async (messages, asking) => (await graph.invoke({ messages }, asking)).messages.slice(messages.length),
  runnable: async (messages, asking) => [await model.invoke(messages, asking)],
};

interface TurnsOrder {
  readonly kind: Kind;
  readonly sessionIds: readonly string[];
}

const orders = {
  /** One after the other; its readers get the text token by token. */
  turns: ({ kind, sessionIds }: TurnsOrder) =>
    timed(sessionIds.length, 1, async (i) => {
      const history = new RedisChatMessageHistory({ sessionId: sessionIds[i] ?? "", client });
      const question = new HumanMessage("Hello");
      let streamed = "";
      const callbacks = [tokenHandler((text) => void (streamed += text))];
      const made = await ask[kind]([...(await history.getMessages()), question], { callbacks });
      await history.addMessages([question, ...made]);
      if (streamed === "" || streamed !== made.at(-1)?.content) throw new Error("The tokens are not the reply");
      if (made.length !== (kind === "agent with a tool" ? 3 : 1)) throw new Error("The turn is not whole");
    }),
};

export type AgentOrders = typeof orders;

takeOrders(orders);
