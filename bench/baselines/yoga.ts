import { once } from "node:events";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { createRedisEventTarget } from "@graphql-yoga/redis-event-target";
import type { ExecutionArgs } from "graphql";
import { useServer } from "graphql-ws/use/ws";
import { createPubSub, createYoga } from "graphql-yoga";
import { Redis } from "ioredis";
import { WebSocketServer } from "ws";
import { PacedModel, type Pace } from "../model.ts";
import { settings, takeOrders } from "../orders.ts";
import { historyChain, tokenHandler } from "./history-chain.ts";
import { baselineContext, baselineSchema, type Topics } from "./yoga-schema.ts";

// Yoga, Pothos, graphql-ws and Redis pub/sub, wired as Yoga's own guides have it: nothing of it is tuned.

const { redisUrl, pace } = settings<{ readonly redisUrl: string; readonly pace: Pace }>();
const redis = new Redis(redisUrl);
const model = new PacedModel(pace);
const chains = await historyChain(redisUrl, model);

const eventTarget = createRedisEventTarget({ publishClient: redis, subscribeClient: new Redis(redisUrl) });
const pubSub = createPubSub<Topics>({ eventTarget });

/** One event a token. */
function send(sessionId: string): string {
  const replyId = `reply-${sessionId}`;
  let offset = 0;
  const onToken = (text: string) => {
    pubSub.publish("token", sessionId, { replyId, offset, text });
    offset += text.length;
  };
  chains
    .chain(sessionId, null)
    .invoke({ input: "Hello" }, { callbacks: [tokenHandler(onToken)] })
    .catch(console.error);
  return replyId;
}

const schema = baselineSchema({ redis, pubSub, send });
const yoga = createYoga({ schema, context: () => baselineContext });
// Not awaited by node:http; Yoga answers for its own errors.
const server = createServer((request, response) => void yoga(request, response));
const webSockets = new WebSocketServer({ server, path: yoga.graphqlEndpoint });

interface Enveloped extends ExecutionArgs {
  readonly rootValue: Pick<ReturnType<typeof yoga.getEnveloped>, "execute" | "subscribe">;
}

useServer(
  {
    // Safe, both: onSubscribe below made the arguments.
    execute: (args) => (args as Enveloped).rootValue.execute(args),
    subscribe: (args) => (args as Enveloped).rootValue.subscribe(args),
    onSubscribe: async (context, _id, params) => {
      const { schema, execute, subscribe, contextFactory, parse, validate } = yoga.getEnveloped({
        ...context,
        req: context.extra.request,
        socket: context.extra.socket,
        params,
      });
      const args: Enveloped = {
        schema,
        operationName: params.operationName ?? null,
        document: parse(params.query),
        variableValues: params.variables ?? {},
        contextValue: await contextFactory(),
        rootValue: { execute, subscribe },
      };
      const errors = validate(args.schema, args.document);
      return errors.length > 0 ? errors : args;
    },
  },
  webSockets,
);
server.listen(0, "127.0.0.1");
await once(server, "listening");

const orders = { modelEndedAt: (): number => model.endedAtMs };
export type YogaOrders = typeof orders;
// Safe: a server that listens on TCP has a port.
takeOrders(orders, `http://127.0.0.1:${(server.address() as AddressInfo).port}`);
