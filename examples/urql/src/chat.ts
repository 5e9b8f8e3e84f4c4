export interface Message {
  readonly id: string;
  readonly position: number;
  readonly role: string;
  readonly text: string;
}

interface Run {
  readonly status: string;
  readonly replyId: string;
  readonly text: string;
  readonly error: { readonly message: string } | null;
}

interface Page {
  readonly messages: { readonly nodes: readonly Message[] };
  readonly activeRun: Run | null;
}

export type SessionEvent =
  | { readonly __typename: "StreamOpened" | "HistoryReset"; readonly session: Page }
  | { readonly __typename: "MessageAdded"; readonly message: Message }
  | { readonly __typename: "ReplyProgress"; readonly replyId: string; readonly offset: number; readonly text: string }
  | { readonly __typename: "RunChanged"; readonly run: Run }
  | { readonly __typename: "StreamWaiting" | "SessionUpdated" | "SessionRemoved" };

/** What the screen shows. */
export interface Chat {
  readonly messages: readonly Message[];
  /** The reply that is being made. */
  readonly draft: { readonly id: string; readonly text: string } | null;
  readonly error: string | null;
}

export const empty: Chat = { messages: [], draft: null, error: null };

/** Only events change the list, and each of them may come twice without harm. */
export function applyEvent(chat: Chat, event: SessionEvent): Chat {
  switch (event.__typename) {
    case "StreamOpened": // also after a reconnect: the page is read anew
    case "HistoryReset":
      return { messages: event.session.messages.nodes, draft: draftOf(event.session.activeRun), error: null };
    case "MessageAdded": {
      const { message } = event;
      const others = chat.messages.filter(({ id }) => id !== message.id);
      const messages = [...others, message].sort((a, b) => a.position - b.position);
      return { ...chat, messages, draft: chat.draft?.id === message.id ? null : chat.draft };
    }
    case "ReplyProgress": {
      const before = chat.draft?.id === event.replyId ? chat.draft.text : "";
      if (event.offset + event.text.length <= before.length) return chat;
      return { ...chat, draft: { id: event.replyId, text: before.slice(0, event.offset) + event.text } };
    }
    case "RunChanged":
      return { ...chat, draft: draftOf(event.run), error: event.run.error?.message ?? null };
    case "SessionRemoved":
      return empty;
    default:
      return chat;
  }
}

const draftOf = (run: Run | null) => (run?.status === "RUNNING" ? { id: run.replyId, text: run.text } : null);
