/** What the documents of urql and Apollo select; graphql-codegen makes such types, see codegen/. */
export interface Message {
  readonly __typename: "Message";
  readonly id: string;
  readonly position: number;
  readonly cursor: string;
  readonly role: string;
  readonly text: string;
}

export interface Run {
  readonly __typename: "Run";
  readonly id: string;
  readonly status: string;
  readonly replyId: string;
  readonly text: string;
}

/** Whether a reply is being made, or waits for somebody. */
export function isActive({ status }: Pick<Run, "status">): boolean {
  return status === "RUNNING" || status === "WAITING";
}

export interface PageInfo {
  readonly startCursor: string | null;
  readonly endCursor: string | null;
  readonly hasPreviousPage: boolean;
  readonly hasNextPage: boolean;
}

export interface Listed {
  readonly __typename: "Session";
  readonly id: string;
  readonly sessionId: string;
  readonly title: string | null;
}

/** `Messages`: the connection as the client's cache wants it, with `nodes` or `edges`. */
export interface Chat<Messages> {
  readonly __typename: "Session";
  readonly id: string;
  readonly cursor: string;
  readonly activeRun: Run | null;
  readonly messages: Messages;
}

export type SessionEvent<Messages> =
  | { readonly __typename: "StreamWaiting"; readonly cursor: string }
  | {
      readonly __typename: "StreamOpened";
      readonly cursor: string;
      /** With `isNew` all that the query Messages gives. */
      readonly session: Pick<Chat<Messages>, "__typename" | "id" | "activeRun"> &
        Partial<Pick<Chat<Messages>, "cursor" | "messages">>;
    }
  | { readonly __typename: "MessageAdded"; readonly message: Message }
  | {
      readonly __typename: "ReplyProgress";
      readonly runId: string;
      readonly replyId: string;
      readonly offset: number;
      readonly text: string;
    }
  | { readonly __typename: "RunChanged"; readonly run: Run }
  | { readonly __typename: "SessionUpdated"; readonly session: Listed }
  | {
      readonly __typename: "HistoryReset";
      readonly kept: number;
      readonly cursor: string;
      readonly session: Chat<Messages>;
    }
  | { readonly __typename: "SessionRemoved"; readonly removedId: string };

export type SessionChange =
  | { readonly __typename: "SessionListOpened" }
  | { readonly __typename: "SessionAdded" | "SessionUpdated"; readonly session: Listed }
  | { readonly __typename: "SessionRemoved"; readonly removedId: string };

export interface SendInput {
  readonly sessionId: string;
  readonly text: string;
  readonly messageId: string;
}
