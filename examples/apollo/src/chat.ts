export interface Message {
  readonly id: string;
  readonly position: number;
  readonly role: string;
  readonly text: string;
}

interface Run {
  readonly id: string;
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
  | {
      readonly __typename: "ReplyProgress";
      readonly runId: string;
      readonly replyId: string;
      readonly offset: number;
      readonly text: string;
    }
  | { readonly __typename: "RunChanged"; readonly run: Run }
  | { readonly __typename: "StreamWaiting" | "SessionUpdated" | "SessionRemoved" };

/** What the screen shows. */
export interface Chat {
  readonly messages: readonly Message[];
  /** The reply that is being made, or that waits for somebody; `id` is the one that its message will have. */
  readonly draft: { readonly id: string; readonly runId: string; readonly text: string } | null;
  readonly error: string | null;
}

export const empty: Chat = { messages: [], draft: null, error: null };

/** Only events change the list, and each of them may come twice without harm. */
export function applyEvent(chat: Chat, event: SessionEvent): Chat {
  switch (event.__typename) {
    case "StreamOpened": // also after a reconnect: the page is read anew
    case "HistoryReset": {
      const { activeRun, messages } = event.session;
      return { messages: messages.nodes, draft: draftOf(activeRun, messages.nodes), error: null };
    }
    case "MessageAdded": {
      const { message } = event;
      const others = chat.messages.filter(({ id }) => id !== message.id);
      const messages = [...others, message].sort((a, b) => a.position - b.position);
      return { ...chat, messages, draft: chat.draft?.id === message.id ? null : chat.draft };
    }
    case "ReplyProgress": {
      const { runId, replyId: id, offset, text } = event;
      const before = chat.draft?.id === id ? chat.draft.text : "";
      if (offset + text.length <= before.length) return chat;
      return { ...chat, draft: { id, runId, text: before.slice(0, offset) + text } };
    }
    case "RunChanged": {
      const { run } = event;
      if (isActive(run)) return { ...chat, draft: draftOf(run, chat.messages), error: null };
      // Others are queued behind the one whose text is shown, and may end there.
      const draft = chat.draft?.runId === run.id ? null : chat.draft;
      return { ...chat, draft, error: run.error?.message ?? chat.error };
    }
    case "SessionRemoved":
      return empty;
    default:
      return chat;
  }
}

const isActive = ({ status }: Run) => status === "RUNNING" || status === "WAITING";

/** An agent's run goes on behind messages that it has stored. */
function draftOf(run: Run | null, messages: readonly Message[]): Chat["draft"] {
  if (run === null || messages.some(({ id }) => id === run.replyId)) return null;
  return { id: run.replyId, runId: run.id, text: run.text };
}
