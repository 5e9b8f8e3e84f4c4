import Fastify from "fastify";
import { Redis } from "ioredis";
import mercurius from "mercurius";
import { settings, takeOrders } from "../orders.ts";
import { cursorAt, readPage } from "./history.ts";

/** The Yoga baseline's schema in SDL, compiled at the first request. */
const schema = `
  enum MessageRole { USER ASSISTANT OTHER }
  type Message { id: ID! position: Int! role: MessageRole! text: String! createdAt: String cursor: String! }
  type MessageEdge { node: Message! cursor: String! }
  type PageInfo { hasPreviousPage: Boolean! hasNextPage: Boolean! startCursor: String endCursor: String }
  type MessageConnection { edges: [MessageEdge!]! nodes: [Message!]! pageInfo: PageInfo! }
  type Session { messages(last: Int): MessageConnection }
  type Query { session(sessionId: String!): Session! }
`;

const redis = new Redis(settings<{ readonly redisUrl: string }>().redisUrl);
const app = Fastify();
await app.register(mercurius, {
  schema,
  resolvers: {
    Query: { session: (_root: unknown, args: { readonly sessionId: string }) => args },
    Session: {
      async messages({ sessionId }: { readonly sessionId: string }, { last }: { readonly last?: number }) {
        const page = await readPage(redis, sessionId, last ?? 50);
        if (page === null) return null;
        const { messages, hasPreviousPage } = page;
        const cursors = messages.map(({ position }) => cursorAt(position));
        return {
          edges: () => messages.map((node, i) => ({ node, cursor: cursors[i] })),
          nodes: messages,
          pageInfo: { hasPreviousPage, hasNextPage: false, startCursor: cursors[0], endCursor: cursors.at(-1) },
        };
      },
    },
  },
  jit: 1,
});
await app.listen({ port: 0, host: "127.0.0.1" });
takeOrders({}, app.listeningOrigin);
