import { gql } from "@urql/core";

import type { Chat, Listed, Message, PageInfo, Run, SendInput, SessionChange, SessionEvent } from "./chat-types.ts";

// urql's relayPagination merges `nodes` as well as `edges`: with `nodes` there is less to write in updates.

export interface MessagePage {
  readonly nodes: readonly Message[];
  readonly pageInfo: PageInfo;
}

const MessageFields = gql`
  fragment MessageFields on Message {
    id
    position
    cursor
    role
    text
  }
`;

const RunFields = gql`
  fragment RunFields on Run {
    id
    status
    replyId
    text
  }
`;

const ListedFields = gql`
  fragment ListedFields on Session {
    id
    sessionId
    title
  }
`;

/** `before`: the `startCursor` of the last result. What comes back holds all pages read so far. */
export const Messages = gql<{ session: Chat<MessagePage> | null }, { sessionId: string; before?: string }>`
  query Messages($sessionId: String!, $before: String) {
    session(sessionId: $sessionId) {
      id
      cursor
      activeRun {
        ...RunFields
      }
      messages(last: 20, before: $before) {
        nodes {
          ...MessageFields
        }
        pageInfo {
          startCursor
          endCursor
          hasPreviousPage
          hasNextPage
        }
      }
    }
  }
  ${MessageFields}
  ${RunFields}
`;

export const Sessions = gql<{ sessions: { nodes: readonly Listed[]; pageInfo: PageInfo } }, { after?: string }>`
  query Sessions($after: String) {
    sessions(first: 20, after: $after) {
      nodes {
        ...ListedFields
      }
      pageInfo {
        startCursor
        endCursor
        hasPreviousPage
        hasNextPage
      }
    }
  }
  ${ListedFields}
`;

/** Nothing of the run that changes: an answer that comes late would take back what events have brought meanwhile. */
export const Send = gql<
  { sendMessage: { userMessage: Message | null; run: Pick<Run, "__typename" | "id" | "replyId"> } },
  { input: SendInput }
>`
  mutation Send($input: SendMessageInput!) {
    sendMessage(input: $input) {
      userMessage {
        ...MessageFields
      }
      run {
        id
        replyId
      }
    }
  }
  ${MessageFields}
`;

export const Delete = gql<{ deleteSession: { deletedId: string } }, { sessionId: string }>`
  mutation Delete($sessionId: String!) {
    deleteSession(input: { sessionId: $sessionId }) {
      deletedId
    }
  }
`;

/**
 * `after`: the `cursor` of the session that Messages gave, so that nothing between the two is missed. A chat that may not
 * exist yet needs no query: with `isNew` and an `after` of "" this waits for it, and StreamOpened brings what Messages would.
 */
export const Events = gql<
  { sessionEvents: SessionEvent<MessagePage> },
  { sessionId: string; after: string; isNew?: boolean }
>`
  subscription Events($sessionId: String!, $after: String, $isNew: Boolean! = false) {
    sessionEvents(sessionId: $sessionId, after: $after) {
      __typename
      ... on StreamWaiting {
        cursor
      }
      ... on StreamOpened {
        cursor
        session {
          id
          activeRun {
            ...RunFields
          }
          cursor @include(if: $isNew)
          messages(last: 20) @include(if: $isNew) {
            nodes {
              ...MessageFields
            }
            pageInfo {
              startCursor
              endCursor
              hasPreviousPage
              hasNextPage
            }
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
      ... on SessionUpdated {
        session {
          ...ListedFields
        }
      }
      ... on HistoryReset {
        kept
        cursor
        session {
          id
          cursor
          messages(last: 20) {
            nodes {
              ...MessageFields
            }
            pageInfo {
              startCursor
              endCursor
              hasPreviousPage
              hasNextPage
            }
          }
        }
      }
      ... on SessionRemoved {
        removedId
      }
    }
  }
  ${MessageFields}
  ${RunFields}
  ${ListedFields}
`;

export const Changes = gql<{ sessionChanged: SessionChange }>`
  subscription Changes {
    sessionChanged {
      __typename
      ... on SessionAdded {
        session {
          ...ListedFields
        }
      }
      ... on SessionUpdated {
        session {
          ...ListedFields
        }
      }
      ... on SessionRemoved {
        removedId
      }
    }
  }
  ${ListedFields}
`;
