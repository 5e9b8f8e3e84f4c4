import { once } from "node:events";
import type { Server } from "node:http";
import type { AddressInfo } from "node:net";
import { ChatOpenAI } from "@langchain/openai";
import express from "express";
import { openaiKey, openaiModel, PacedModel, type Pace } from "../model.ts";
import { machineMs, settings, takeOrders, timed } from "../orders.ts";
import { historyChain, tokenHandler } from "./history-chain.ts";

// LangChain's own ConversationChain over its own Redis history: bare, when it is ordered to, and as a service in Express.

const { redisUrl, pace, openaiUrl } = settings<{
  readonly redisUrl: string;
  readonly pace: Pace;
  readonly openaiUrl?: string;
}>();
const model =
  openaiUrl === undefined
    ? new PacedModel(pace)
    : new ChatOpenAI({ model: openaiModel, apiKey: openaiKey, configuration: { baseURL: openaiUrl } });
const chains = await historyChain(redisUrl, model);

interface TurnRequest {
  readonly sessionId: string;
  readonly windowTurns: number | null;
}

const app = express();
app.use(express.json());
app.post("/turn", async (request, response) => {
  const { sessionId, windowTurns } = request.body as TurnRequest; // Safe: the benchmark sends it.
  const { response: reply } = await chains.chain(sessionId, windowTurns).invoke({ input: "Hello" });
  response.json({ reply });
});
app.post("/stream", async (request, response) => {
  const { sessionId, windowTurns } = request.body as TurnRequest; // Safe: the benchmark sends it.
  response.setHeader("content-type", "text/plain");
  const callbacks = [tokenHandler((text) => response.write(text))];
  await chains.chain(sessionId, windowTurns).invoke({ input: "Hello" }, { callbacks });
  response.end();
});
// Safe: Express gives node:http's server.
const server = app.listen(0, "127.0.0.1") as Server;
await once(server, "listening");

interface TurnsOrder {
  readonly sessionIds: readonly string[];
  readonly windowTurns: number | null;
  readonly atOnce: number;
  /** Whether somebody listens to the tokens: the model streams then, as it must for readers. */
  readonly streams: boolean;
}

const orders = {
  turns: ({ sessionIds, windowTurns, atOnce, streams }: TurnsOrder) =>
    timed(sessionIds.length, atOnce, async (i) => {
      const sessionId = sessionIds[i] ?? "";
      let streamed = "";
      const callbacks = streams ? [tokenHandler((text) => void (streamed += text))] : [];
      const { response } = await chains.chain(sessionId, windowTurns).invoke({ input: "Hello" }, { callbacks });
      if (streams && streamed !== response) throw new Error("The tokens are not the reply");
      if (response === "") throw new Error("There is no reply");
    }),

  /** From the call to the first token, in ms. */
  async firstTokens({ sessionIds }: { readonly sessionIds: readonly string[] }) {
    const times: number[] = [];
    for (const sessionId of sessionIds) {
      const start = machineMs();
      let first: number | null = null;
      const callbacks = [tokenHandler((text) => void (text !== "" && (first ??= machineMs() - start)))];
      await chains.chain(sessionId, null).invoke({ input: "Hello" }, { callbacks });
      if (first === null) throw new Error("There was no token");
      times.push(first);
    }
    return times;
  },
};

export type ExpressOrders = typeof orders;

// Safe: a server that listens on TCP has a port.
takeOrders(orders, `http://127.0.0.1:${(server.address() as AddressInfo).port}`);
