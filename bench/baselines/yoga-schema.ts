import SchemaBuilder from "@pothos/core";
import RelayPlugin from "@pothos/plugin-relay";
import type { createPubSub } from "graphql-yoga";
import type { Redis } from "ioredis";
import { cursorAt, readPage, viewer, type BaselineMessage } from "./history.ts";

export interface Token {
  readonly replyId: string;
  readonly offset: number;
  readonly text: string;
}

/** No interface: an interface has no index signature, which createPubSub wants. */
export type Topics = {
  message: [sessionId: string, message: BaselineMessage];
  token: [sessionId: string, token: Token];
};

export interface BaselineContext {
  readonly viewer: string;
}

export interface BaselineParts {
  readonly redis: Redis;
  readonly pubSub: ReturnType<typeof createPubSub<Topics>>;
  /** Runs the model; resolves with the id of the reply, which goes on. */
  readonly send: (sessionId: string) => string;
}

/** A schema as Pothos' and Yoga's guides have one, over LangChain's list. */
export function baselineSchema({ redis, pubSub, send }: BaselineParts) {
  const builder = new SchemaBuilder<{ Context: BaselineContext; DefaultFieldNullability: false }>({
    plugins: [RelayPlugin],
    defaultFieldNullability: false,
    relay: { nodesOnConnection: true },
  });
  const Role = builder.enumType("MessageRole", { values: ["USER", "ASSISTANT", "OTHER"] as const });
  const Message = builder.objectRef<BaselineMessage>("Message").implement({
    fields: (t) => ({
      id: t.exposeID("id"),
      position: t.exposeInt("position"),
      role: t.expose("role", { type: Role }),
      text: t.exposeString("text"),
      createdAt: t.exposeString("createdAt", { nullable: true }),
      cursor: t.exposeString("cursor"),
    }),
  });
  const Session = builder.objectRef<{ readonly sessionId: string }>("Session").implement({
    fields: (t) => ({
      messages: t.connection({
        type: Message,
        nullable: true,
        resolve: async ({ sessionId }, { last }) => {
          const page = await readPage(redis, sessionId, last ?? 50);
          if (page === null) return null;
          const { messages, hasPreviousPage } = page;
          const cursors = messages.map(({ position }) => cursorAt(position));
          const [startCursor = null, endCursor = null] = [cursors[0], cursors.at(-1)];
          return {
            edges: messages.map((node, i) => ({ node, cursor: cursors[i] ?? "" })),
            pageInfo: { hasPreviousPage, hasNextPage: false, startCursor, endCursor },
          };
        },
      }),
    }),
  });
  const TokenRef = builder.objectRef<Token>("Token").implement({
    fields: (t) => ({
      replyId: t.exposeID("replyId"),
      offset: t.exposeInt("offset"),
      text: t.exposeString("text"),
    }),
  });
  const sessionId = { sessionId: { type: "String", required: true } } as const;
  const mayRead = async (context: BaselineContext, id: string) => {
    if ((await redis.get(`owner:${id}`)) !== context.viewer) throw new Error("NOT_FOUND");
  };
  builder.queryType({
    fields: (t) => ({
      session: t.field({
        type: Session,
        args: { sessionId: t.arg(sessionId.sessionId) },
        resolve: (_root, args) => args,
      }),
    }),
  });
  builder.mutationType({
    fields: (t) => ({
      send: t.id({ args: { sessionId: t.arg(sessionId.sessionId) }, resolve: (_root, args) => send(args.sessionId) }),
    }),
  });
  builder.subscriptionType({
    fields: (t) => ({
      messageAdded: t.field({
        type: Message,
        args: { sessionId: t.arg(sessionId.sessionId) },
        subscribe: async (_root, args, context) => {
          await mayRead(context, args.sessionId);
          return pubSub.subscribe("message", args.sessionId);
        },
        resolve: (message) => message,
      }),
      tokenAdded: t.field({
        type: TokenRef,
        args: { sessionId: t.arg(sessionId.sessionId) },
        subscribe: async (_root, args, context) => {
          await mayRead(context, args.sessionId);
          return pubSub.subscribe("token", args.sessionId);
        },
        resolve: (token) => token,
      }),
    }),
  });
  return builder.toSchema();
}

export const baselineContext: BaselineContext = { viewer };
