import { createClient } from "graphql-ws";
import type { Client, ClientOptions } from "graphql-ws";

import type { Message, Run, SessionEvent as EventOf } from "./chat-types.ts";

type SessionEvent = EventOf<{ readonly nodes: readonly Message[] }>;

/** `url`: of the endpoint, http: or https:. Connects when it is first used, and again whenever the connection is lost. */
export function connect(url: string, options: Partial<ClientOptions> = {}): Client {
  let pongDue: ReturnType<typeof setTimeout> | undefined;
  const client = createClient({
    url: url.replace(/^http/, "ws"),
    retryAttempts: Infinity,
    // By default a connection that ends with an error event before its close event (Node's WebSocket does so when it is
    // cut) is given up. Close codes that say a retry is of no use, like 4401, end it all the same.
    shouldRetry: () => true,
    // By default it waits twice as long after each failure, without an end: 17 minutes after the tenth.
    retryWait: (retries) => {
      const ms = Math.min(1000 * 2 ** retries, 30_000) * (0.5 + Math.random() / 2);
      return new Promise((resolve) => setTimeout(resolve, ms));
    },
    // A browser does not tell of the gateway's pings: that the link is dead shows when ours are not answered.
    keepAlive: 10_000,
    on: {
      ping: (received) => {
        if (!received) pongDue = setTimeout(() => client.terminate(), 5000);
      },
      pong: () => clearTimeout(pongDue),
      closed: () => clearTimeout(pongDue),
    },
    ...options,
  });
  return client;
}

/** A chat as a screen shows it. */
export interface ChatState {
  /** By position. */
  readonly messages: readonly Message[];
  /** The reply being made. */
  readonly draft: { readonly runId: string; readonly replyId: string; readonly text: string } | null;
  /** Resume from here. null: nothing is there yet, and the newest page comes with StreamOpened. */
  readonly cursor: string | null;
  readonly removed: boolean;
}

/** Begins with the newest page. A cursor of "" in its place takes the whole history from the beginning. */
export const freshChat: ChatState = { messages: [], draft: null, cursor: null, removed: false };
export const emptyChat: ChatState = { ...freshChat, cursor: "" };

/** Any event may come again, after a reconnect for example: applied twice it changes nothing. */
export function applyEvent(chat: ChatState, event: SessionEvent): ChatState {
  switch (event.__typename) {
    case "StreamWaiting":
      return { ...chat, cursor: event.cursor };
    case "StreamOpened": {
      const { messages, activeRun } = event.session;
      return { ...chat, messages: messages?.nodes ?? chat.messages, cursor: event.cursor, draft: draftOf(activeRun) };
    }
    case "MessageAdded": {
      const { message } = event;
      const { position, cursor, id } = message;
      const before = chat.messages.filter((other) => other.position < position);
      const behind = chat.messages.filter((other) => other.position > position);
      const draft = chat.draft?.replyId === id ? null : chat.draft;
      return { ...chat, messages: [...before, message, ...behind], cursor, draft };
    }
    case "ReplyProgress": {
      const { runId, replyId, offset, text } = event;
      const had = chat.draft?.runId === runId ? chat.draft.text : "";
      // Text is only ever added: what ends within what is there came before.
      if (offset + text.length <= had.length) return chat;
      return { ...chat, draft: { runId, replyId, text: had.slice(0, offset) + text } };
    }
    case "RunChanged": {
      const { run } = event;
      if (run.status === "RUNNING") return { ...chat, draft: draftOf(run) };
      return chat.draft?.runId === run.id ? { ...chat, draft: null } : chat;
    }
    case "HistoryReset": {
      const { kept, cursor, session } = event;
      const messages = kept > 0 ? chat.messages.filter(({ position }) => position < kept) : session.messages.nodes;
      return { ...chat, messages, cursor };
    }
    case "SessionRemoved":
      return { ...chat, messages: [], draft: null, removed: true };
    case "SessionUpdated":
      return chat;
  }
}

function draftOf(run: Run | null): ChatState["draft"] {
  return run && { runId: run.id, replyId: run.replyId, text: run.text };
}

/**
 * Shows a session live, from `start` on: freshChat, emptyChat, or what a query gave. Returns what ends it.
 */
export function followChat(
  client: Client,
  sessionId: string,
  start: ChatState,
  onChat: (chat: ChatState, event: SessionEvent) => void,
  onError: (error: unknown) => void,
): () => void {
  let chat = start;
  const variables = {
    sessionId,
    // graphql-ws writes the variables anew each time it connects: a getter resumes from the newest cursor. With a plain
    // value all since the first `after` would come again, which does no harm either.
    get after() {
      return chat.cursor;
    },
    get fresh() {
      return chat.cursor === null;
    },
  };
  return client.subscribe<{ sessionEvents: SessionEvent }>(
    { query: sessionEvents, variables },
    {
      next({ data, errors }) {
        if (errors) onError(errors);
        if (!data) return;
        chat = applyEvent(chat, data.sessionEvents);
        onChat(chat, data.sessionEvents);
      },
      error: onError,
      complete: () => undefined,
    },
  );
}

export const sessionEvents = /* GraphQL */ `
  subscription SessionEvents($sessionId: String!, $after: String, $fresh: Boolean! = false) {
    sessionEvents(sessionId: $sessionId, after: $after) {
      __typename
      ... on StreamWaiting {
        cursor
      }
      ... on StreamOpened {
        cursor
        session {
          id
          messages(last: 50) @include(if: $fresh) {
            nodes {
              ...MessageFields
            }
          }
          activeRun {
            ...RunFields
          }
        }
      }
      ... on MessageAdded {
        message {
          ...MessageFields
        }
      }
      ... on ReplyProgress {
        runId
        replyId
        offset
        text
      }
      ... on RunChanged {
        run {
          ...RunFields
        }
      }
      ... on HistoryReset {
        kept
        cursor
        session {
          id
          messages(last: 200) {
            nodes {
              ...MessageFields
            }
          }
        }
      }
      ... on SessionRemoved {
        removedId
      }
    }
  }
  fragment RunFields on Run {
    id
    status
    replyId
    text
  }
  fragment MessageFields on Message {
    id
    position
    cursor
    role
    text
  }
`;
