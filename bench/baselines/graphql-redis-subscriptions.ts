import { once } from "node:events";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { RedisPubSub } from "graphql-redis-subscriptions";
import { buildSchema, type GraphQLSchema } from "graphql";
import { useServer } from "graphql-ws/use/ws";
import { Redis } from "ioredis";
import { WebSocketServer } from "ws";
import { settings, takeOrders } from "../orders.ts";
import { viewer, type BaselineMessage } from "./history.ts";

const { redisUrl } = settings<{ readonly redisUrl: string }>();
const redis = new Redis(redisUrl);
// It brings an ioredis of its own, and connects by itself.
const pubSub = new RedisPubSub({ connection: redisUrl });

function createSchema(): GraphQLSchema {
  const schema = buildSchema(`
    enum MessageRole { USER ASSISTANT OTHER }
    type Message { id: ID! position: Int! role: MessageRole! text: String! createdAt: String cursor: String! }
    type Query { viewer: String }
    type Subscription { messageAdded(sessionId: String!): Message! }
  `);
  const field = schema.getSubscriptionType()?.getFields()["messageAdded"];
  if (field === undefined) throw new Error("The schema has no messageAdded");
  field.subscribe = async (_root, args) => {
    const { sessionId } = args as { readonly sessionId: string }; // Safe: the schema says so.
    if ((await redis.get(`owner:${sessionId}`)) !== viewer) throw new Error("NOT_FOUND");
    return pubSub.asyncIterator<BaselineMessage>(`message:${sessionId}`);
  };
  field.resolve = (message: BaselineMessage) => message;
  return schema;
}

const server = createServer((_request, response) => response.writeHead(404).end());
useServer({ schema: createSchema() }, new WebSocketServer({ server, path: "/graphql" }));
server.listen(0, "127.0.0.1");
await once(server, "listening");
// Safe: a server that listens on TCP has a port.
takeOrders({}, `http://127.0.0.1:${(server.address() as AddressInfo).port}`);
