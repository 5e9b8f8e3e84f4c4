import { gql } from "@apollo/client";
import type { TypedDocumentNode } from "@apollo/client";

import type { Chat, Listed, Message, PageInfo, Run, SendInput, SessionChange, SessionEvent } from "./chat-types.ts";

// Apollo's relayStylePagination merges `edges` alone.

export interface Connection<Node> {
  readonly edges: readonly { readonly cursor: string; readonly node: Node }[];
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
export const Messages: TypedDocumentNode<
  { session: Chat<Connection<Message>> | null },
  { sessionId: string; before?: string | null }
> = gql`
  query Messages($sessionId: String!, $before: String) {
    session(sessionId: $sessionId) {
      id
      cursor
      activeRun {
        ...RunFields
      }
      messages(last: 20, before: $before) {
        edges {
          cursor
          node {
            ...MessageFields
          }
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

export const Sessions: TypedDocumentNode<{ sessions: Connection<Listed> }, { after?: string | null }> = gql`
  query Sessions($after: String) {
    sessions(first: 20, after: $after) {
      edges {
        cursor
        node {
          ...ListedFields
        }
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
export const Send: TypedDocumentNode<
  { sendMessage: { userMessage: Message | null; run: Pick<Run, "__typename" | "id" | "replyId"> } },
  { input: SendInput }
> = gql`
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

export const Delete: TypedDocumentNode<{ deleteSession: { deletedId: string } }, { sessionId: string }> = gql`
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
export const Events: TypedDocumentNode<
  { sessionEvents: SessionEvent<Connection<Message>> },
  { sessionId: string; after: string; isNew?: boolean }
> = gql`
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
            edges {
              cursor
              node {
                ...MessageFields
              }
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
            edges {
              cursor
              node {
                ...MessageFields
              }
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

export const Changes: TypedDocumentNode<{ sessionChanged: SessionChange }> = gql`
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
