import { ApolloClient, ApolloLink, HttpLink, InMemoryCache, isReference } from "@apollo/client";
import type { ApolloCache, PossibleTypesMap, Reference } from "@apollo/client";
import { CombinedGraphQLErrors, CombinedProtocolErrors } from "@apollo/client/errors";
import { Defer20220824Handler } from "@apollo/client/incremental";
import { RetryLink } from "@apollo/client/link/retry";
import { GraphQLWsLink } from "@apollo/client/link/subscriptions";
import { relayStylePagination } from "@apollo/client/utilities";
import { OperationTypeNode } from "graphql";
import { tap } from "rxjs";

import { Changes, Events, Messages, Send } from "./apollo-documents.ts";
import type { Connection } from "./apollo-documents.ts";
import { isActive } from "./chat-types.ts";
import type { Message, SendInput, SessionChange, SessionEvent } from "./chat-types.ts";
import { connect } from "./graphql-ws.ts";
import { optimisticId } from "./message-id.ts";

/** Subscriptions by graphql-ws: one socket for all of them, which resumes by itself. */
export function linkOverWebSocket(url: string): ApolloLink {
  return ApolloLink.split(isSubscription, new GraphQLWsLink(connect(url)), new HttpLink({ uri: url }));
}

/**
 * Everything over plain HTTP: HttpLink alone is enough, and with these two a stream that is cut off goes on behind its
 * newest event. Each event brings the id that Last-Event-ID takes back; a stream that has had none yet has it in its header.
 */
export function linkOverHttp(url: string): ApolloLink {
  const retry = new RetryLink({
    // What the gateway says itself (CURSOR_EXPIRED, NOT_FOUND) would be the same again.
    attempts: (_count, operation, error) => isSubscription(operation) && !CombinedProtocolErrors.is(error),
    delay: { initial: 300, max: 10_000 },
  });
  const resume = new ApolloLink((operation, forward) => {
    // What HttpLink takes from it, and what it puts there.
    const { headers = {}, response } = operation.getContext() as { headers?: Headers; response?: Response };
    const resumeFrom = (id: unknown) => {
      if (typeof id === "string") operation.setContext({ headers: { ...headers, "last-event-id": id } });
    };
    // Tried again before there was an event: where the stream before began.
    if (headers["last-event-id"] === undefined) resumeFrom(response?.headers.get("last-event-id"));
    return forward(operation).pipe(
      tap(({ errors = [], extensions }) => {
        // Refused for now: an error of the link is what RetryLink tries again at.
        if (errors.some((error) => error.extensions?.["retryAfterSeconds"] !== undefined)) {
          throw new CombinedGraphQLErrors({ errors });
        }
        resumeFrom(extensions?.["lastEventId"]);
      }),
    );
  });
  return ApolloLink.from([retry, resume, new HttpLink({ uri: url })]);
}

type Headers = Readonly<Record<string, string>>;

function isSubscription({ operationType }: { readonly operationType: OperationTypeNode }): boolean {
  return operationType === OperationTypeNode.SUBSCRIPTION;
}

/** `possibleTypes`: of schema.graphql, as graphql-codegen's fragment-matcher gives them. */
export function createApolloClient(
  url: string,
  possibleTypes: PossibleTypesMap,
  link: ApolloLink = linkOverWebSocket(url),
): ApolloClient {
  return new ApolloClient({
    link,
    cache: new InMemoryCache({
      possibleTypes,
      typePolicies: {
        Query: { fields: { sessions: relayStylePagination(["filter"]) } },
        Session: { fields: { messages: relayStylePagination() } },
        // Each event takes the place of the one before.
        Subscription: { fields: { sessionEvents: { merge: false }, sessionChanged: { merge: false } } },
        // These have no id: parts of one that came with different documents belong together.
        MemorySettings: { merge: true },
        TokenUsage: { merge: true },
        Viewer: { merge: true },
      },
    }),
    incrementalHandler: new Defer20220824Handler(),
  });
}

/** `after`: the session's `cursor` as Messages gave it. Returns what ends it. */
export function followSession(client: ApolloClient, sessionId: string, chatId: string, after: string): () => void {
  const events = client.subscribe({ query: Events, variables: { sessionId, after } });
  const following = events.subscribe(({ data }) => {
    if (data) applySessionEvent(client.cache, chatId, data.sessionEvents);
  });
  return () => following.unsubscribe();
}

/** A chat that may not exist yet: its first messages come here whoever starts it. Returns what ends it. */
export function openSession(
  client: ApolloClient,
  sessionId: string,
  onEvent: (event: SessionEvent<Connection<Message>>) => void,
): () => void {
  let chatId = "";
  const events = client.subscribe({ query: Events, variables: { sessionId, after: "", isNew: true } });
  const following = events.subscribe(({ data }) => {
    const event = data?.sessionEvents;
    if (event?.__typename === "StreamOpened") {
      const { cursor, messages, ...session } = event.session;
      chatId = session.id;
      if (cursor !== undefined && messages !== undefined) {
        const chat = { ...session, cursor, messages };
        client.cache.writeQuery({ query: Messages, variables: { sessionId }, data: { session: chat } });
      }
    }
    if (!event) return;
    applySessionEvent(client.cache, chatId, event);
    onEvent(event);
  });
  return () => following.unsubscribe();
}

export function followSessions(client: ApolloClient): () => void {
  const following = client.subscribe({ query: Changes }).subscribe(({ data }) => {
    if (data) applySessionChange(client.cache, data.sessionChanged);
  });
  return () => following.unsubscribe();
}

/** `chatId`: the session's global id. */
export function sendMessage(client: ApolloClient, chatId: string, input: SendInput) {
  const optimistic: Message = {
    __typename: "Message",
    id: optimisticId(input.sessionId, input.messageId),
    position: 2 ** 31 - 1, // behind all others until the stored one comes
    cursor: "",
    role: "USER",
    text: input.text,
  };
  return client.mutate({
    mutation: Send,
    variables: { input },
    optimisticResponse: {
      sendMessage: {
        userMessage: optimistic,
        run: { __typename: "Run", id: input.messageId, replyId: "" },
      },
    },
    update(cache, { data }) {
      const userMessage = data?.sendMessage.userMessage;
      if (userMessage) place(cache, chatId, userMessage);
    },
  });
}

export function applySessionEvent(cache: ApolloCache, chatId: string, event: SessionEvent<Connection<Message>>): void {
  switch (event.__typename) {
    case "MessageAdded":
      place(cache, chatId, event.message);
      break;
    case "RunChanged": {
      const { id } = event.run;
      const run = { __ref: `Run:${id}` };
      // Others are queued behind the active one, and may end there.
      const next = (active: Reference | null) =>
        isActive(event.run) ? run : active?.__ref === run.__ref ? null : active;
      cache.modify({ id: `Session:${chatId}`, fields: { activeRun: next } });
      break;
    }
    case "ReplyProgress": {
      const { replyId, offset, text: more } = event;
      cache.modify({
        id: `Run:${event.runId}`,
        fields: {
          replyId: () => replyId,
          text(had: string, { readField }) {
            // An agent's run has a text for each of its messages.
            const text = readField("replyId") === replyId ? had : "";
            // A text that ends within what is there came before.
            return offset + more.length <= text.length ? text : text.slice(0, offset) + more;
          },
        },
      });
      break;
    }
    case "SessionRemoved":
      dropSession(cache, event.removedId);
      break;
    case "StreamWaiting":
    case "StreamOpened":
    case "SessionUpdated":
    case "HistoryReset":
      break; // the cache has written the session, and a page without `before` replaces all that it had
  }
}

export function applySessionChange(cache: ApolloCache, change: SessionChange): void {
  if (change.__typename === "SessionRemoved") {
    dropSession(cache, change.removedId);
  } else if (change.__typename !== "SessionListOpened") {
    const node = { __ref: `Session:${change.session.id}` };
    cache.modify({
      fields: {
        // A session that no page has yet comes first; the sidebar sorts by what it shows.
        sessions(list: Stored | Reference) {
          if (isReference(list)) return list;
          const known = list.edges.some((edge) => edge.node.__ref === node.__ref);
          return known ? list : { ...list, edges: [{ __typename: "SessionEdge", cursor: "", node }, ...list.edges] };
        },
      },
    });
  }
}

/** Also with `deletedId` of deleteSession. Lists leave out what cannot be read any more. */
export function dropSession(cache: ApolloCache, id: string): void {
  cache.evict({ id: `Session:${id}` });
  cache.gc();
}

/** A connection as relayStylePagination stores it; Apollo's types let any field be a reference. */
interface Stored {
  readonly edges: readonly { readonly __typename: string; readonly cursor: string; readonly node: Reference }[];
}

/** Puts a message where its position says, once: events may come twice. */
function place(cache: ApolloCache, chatId: string, message: Message): void {
  const node = { __ref: `Message:${message.id}` };
  cache.modify({
    id: `Session:${chatId}`,
    fields: {
      messages(list: Stored | Reference, { readField }) {
        if (isReference(list)) return list;
        const others = list.edges.filter((edge) => edge.node.__ref !== node.__ref);
        const at = others.findLastIndex((edge) => Number(readField("position", edge.node)) < message.position) + 1;
        const edge = { __typename: "MessageEdge", cursor: message.cursor, node };
        return { ...list, edges: others.toSpliced(at, 0, edge) };
      },
    },
  });
}
