import { Client, fetchExchange, gql, subscriptionExchange } from "@urql/core";
import type { ExecutionResult } from "@urql/core";
import { cacheExchange } from "@urql/exchange-graphcache";
import type { Cache, CacheExchangeOpts, Entity } from "@urql/exchange-graphcache";
import { relayPagination } from "@urql/exchange-graphcache/extras";

import { isActive } from "./chat-types.ts";
import type { Message, SendInput, SessionChange, SessionEvent as EventOf } from "./chat-types.ts";
import { connect } from "./graphql-ws.ts";
import { optimisticId } from "./message-id.ts";
import type { MessagePage } from "./urql-documents.ts";

type SessionEvent = EventOf<MessagePage>;

/** `schema`: the introspection of schema.graphql. Live updates come over a WebSocket, or over fetch as server-sent events. */
export function createUrqlClient(url: string, live: "websocket" | "sse", schema: CacheExchangeOpts["schema"]): Client {
  const cache = cacheExchange({ ...caching, ...(schema === undefined ? {} : { schema }) });
  if (live === "sse") {
    return new Client({ url, exchanges: [cache, fetchExchange], fetchSubscriptions: true, preferGetMethod: false });
  }
  const socket = connect(url);
  const subscriptions = subscriptionExchange({
    forwardSubscription: ({ query = "", variables = {} }) => ({
      subscribe: (sink) => ({
        unsubscribe: socket.subscribe(
          { query, variables },
          {
            next: (result) => sink.next(result as ExecutionResult), // one format, two types of it
            error: (error) => sink.error(error),
            complete: () => sink.complete(),
          },
        ),
      }),
    }),
  });
  return new Client({ url, exchanges: [cache, fetchExchange, subscriptions], preferGetMethod: false });
}

const embedded = () => null;

const caching: CacheExchangeOpts = {
  // All that has no `id` belongs to what it is in.
  keys: {
    AudioBlock: embedded,
    Citation: embedded,
    DataPart: embedded,
    FileBlock: embedded,
    HistoryReset: embedded,
    ImageBlock: embedded,
    MemorySettings: embedded,
    MessageAdded: embedded,
    Model: embedded,
    OtherBlock: embedded,
    PartAdded: embedded,
    PartChanged: embedded,
    PartProgress: embedded,
    ReasoningBlock: embedded,
    ReasoningPart: embedded,
    ReplyProgress: embedded,
    RunChanged: embedded,
    RunError: embedded,
    ServerToolBlock: embedded,
    SessionAdded: embedded,
    SessionListOpened: embedded,
    SessionRemoved: embedded,
    SessionUpdated: embedded,
    StreamOpened: embedded,
    StreamWaiting: embedded,
    TextBlock: embedded,
    TextPart: embedded,
    TokenUsage: embedded,
    Tool: embedded,
    ToolCall: embedded,
    ToolPart: embedded,
    Viewer: embedded,
  },
  resolvers: {
    Query: { sessions: relayPagination() },
    Session: { messages: relayPagination() },
  },
  optimistic: {
    sendMessage: ({ input }) => {
      const { sessionId, messageId, text } = input as SendInput; // the variables of Send
      const message: Message = {
        __typename: "Message",
        id: optimisticId(sessionId, messageId),
        position: 2 ** 31 - 1, // behind all others until the stored one comes
        role: "USER",
        text,
        cursor: "",
      };
      const run = { __typename: "Run", id: messageId, replyId: "" };
      return { __typename: "SendMessagePayload", userMessage: message, run };
    },
  },
  updates: {
    Mutation: {
      sendMessage(result: { sendMessage: { userMessage: Message | null } }, args: { input: SendInput }, cache, info) {
        const { userMessage } = result.sendMessage;
        // The answer only settles the optimistic message; the list is changed by events alone.
        if (info.optimistic === true && userMessage) place(cache, chatOf(cache, args.input.sessionId), userMessage);
      },
      deleteSession(result: { deleteSession: { deletedId: string } }, _args, cache) {
        drop(cache, result.deleteSession.deletedId);
      },
    },
    Subscription: {
      sessionEvents({ sessionEvents: event }: { sessionEvents: SessionEvent }, args: { sessionId: string }, cache) {
        const chat = chatOf(cache, args.sessionId);
        switch (event.__typename) {
          case "MessageAdded":
            place(cache, chat, event.message);
            break;
          case "RunChanged":
            // Others are queued behind it, and may end there.
            if (chat === null) break;
            if (isActive(event.run)) cache.link(chat, "activeRun", { ...event.run });
            else if (cache.resolve(chat, "activeRun") === cache.keyOfEntity({ ...event.run })) {
              cache.link(chat, "activeRun", null);
            }
            break;
          case "ReplyProgress": {
            const run = { __typename: "Run", id: event.runId };
            const { replyId, offset } = event;
            // An agent's run has a text for each of its messages.
            const had = cache.resolve(run, "replyId") === replyId ? cache.resolve(run, "text") : "";
            const text = typeof had === "string" ? had : "";
            if (offset + event.text.length <= text.length) break; // it is there already
            cache.writeFragment(RunText, { ...run, replyId, text: text.slice(0, offset) + event.text });
            break;
          }
          case "HistoryReset":
            // The newest page came with the event; the older ones are gone, and their cursors with them.
            for (const field of chat === null ? [] : cache.inspectFields(chat)) {
              if (field.fieldName === "messages" && field.arguments?.["before"] != null) {
                cache.invalidate(chat, field.fieldKey);
              }
            }
            break;
          case "SessionRemoved":
            drop(cache, event.removedId);
            break;
          case "StreamOpened":
            // Somebody has started it, or it was opened without a query: from here on the query Messages finds it here.
            if (chat === null)
              cache.link(
                "Query",
                "session",
                { sessionId: args.sessionId },
                { __typename: "Session", id: event.session.id },
              );
            break;
          case "StreamWaiting":
          case "SessionUpdated":
            break; // Graphcache has written the session
        }
      },
      sessionChanged({ sessionChanged: change }: { sessionChanged: SessionChange }, _args, cache) {
        if (change.__typename === "SessionRemoved") drop(cache, change.removedId);
        else if (change.__typename !== "SessionListOpened") list(cache, cache.keyOfEntity({ ...change.session }));
      },
    },
  },
};

const RunText = gql`
  fragment RunText on Run {
    id
    replyId
    text
  }
`;

function chatOf(cache: Cache, sessionId: string): Entity | null {
  const key = cache.resolve("Query", "session", { sessionId });
  return typeof key === "string" ? key : null;
}

/** The pages of a connection as they are stored, the one at the live end first. */
function pagesOf(cache: Cache, parent: Entity, fieldName: string): { key: string; nodes: string[] }[] {
  const fields = cache.inspectFields(parent).filter((field) => field.fieldName === fieldName);
  const isLive = ({ arguments: args }: { arguments: Record<string, unknown> | null }) =>
    args?.["before"] == null && args?.["after"] == null;
  return [...fields.filter(isLive), ...fields.filter((field) => !isLive(field))].flatMap(({ fieldKey }) => {
    const key = cache.resolve(parent, fieldKey);
    const nodes = typeof key === "string" ? cache.resolve(key, "nodes") : null;
    return typeof key === "string" && Array.isArray(nodes) ? [{ key, nodes: nodes.map(String) }] : [];
  });
}

/** Puts a message where its position says, once: events may come twice. */
function place(cache: Cache, chat: Entity | null, message: Message): void {
  const key = cache.keyOfEntity({ ...message });
  if (chat === null || key === null) return;
  const [newest] = pagesOf(cache, chat, "messages");
  if (!newest) return;
  const others = newest.nodes.filter((node) => node !== key);
  const at = others.findLastIndex((node) => Number(cache.resolve(node, "position")) < message.position) + 1;
  cache.link(newest.key, "nodes", others.toSpliced(at, 0, key));
}

/** A session that no page has yet comes first; the sidebar sorts by what it shows. */
function list(cache: Cache, key: string | null): void {
  const pages = pagesOf(cache, "Query", "sessions");
  const [first] = pages;
  if (key === null || !first || pages.some(({ nodes }) => nodes.includes(key))) return;
  cache.link(first.key, "nodes", [key, ...first.nodes]);
}

function drop(cache: Cache, id: string): void {
  const session = { __typename: "Session", id };
  const key = cache.keyOfEntity(session);
  for (const page of pagesOf(cache, "Query", "sessions")) {
    if (key !== null && page.nodes.includes(key)) {
      const rest = page.nodes.filter((node) => node !== key);
      cache.link(page.key, "nodes", rest);
    }
  }
  cache.invalidate(session);
}
