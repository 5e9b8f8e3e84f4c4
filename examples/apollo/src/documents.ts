import { gql } from "@apollo/client";
import type { TypedDocumentNode } from "@apollo/client";
import type { SessionEvent } from "./chat";

/** The newest page, then all that happens: nothing is missed between the two, and no query is needed before. */
export const Live: TypedDocumentNode<{ sessionEvents: SessionEvent }, { sessionId: string }> = gql`
  subscription Live($sessionId: String!) {
    sessionEvents(sessionId: $sessionId) {
      __typename
      ... on StreamOpened {
        session {
          ...Page
        }
      }
      ... on HistoryReset {
        session {
          ...Page
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
    }
  }

  fragment Page on Session {
    id
    messages(last: 50) {
      nodes {
        ...MessageFields
      }
    }
    activeRun {
      ...RunFields
    }
  }

  fragment MessageFields on Message {
    id
    position
    role
    text
  }

  fragment RunFields on Run {
    id
    status
    replyId
    text
    error {
      message
    }
  }
`;

/** The list is the events' to change: nothing of the answer is needed. With a `messageId` it may be sent twice. */
export const Send: TypedDocumentNode<unknown, { input: { sessionId: string; text: string; messageId: string } }> = gql`
  mutation Send($input: SendMessageInput!) {
    sendMessage(input: $input) {
      run {
        id
      }
    }
  }
`;
