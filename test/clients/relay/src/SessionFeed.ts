import { graphql } from "./tag.ts";

/** Relay heeds @appendNode and @deleteRecord in the operation itself and, without a word, in no fragment that it spreads. */
export const events = graphql`
  subscription SessionFeedSubscription($sessionId: String!, $after: String, $isNew: Boolean!, $connections: [ID!]!) {
    sessionEvents(sessionId: $sessionId, after: $after) {
      __typename
      ... on StreamWaiting {
        cursor
      }
      ...SessionFeed_opened @arguments(isNew: $isNew) @alias(as: "opened")
      ... on MessageAdded {
        message @appendNode(connections: $connections, edgeTypeName: "MessageEdge") {
          ...MessageItem_message
        }
      }
      ...SessionFeed_progress @alias(as: "progress")
      ...SessionFeed_run @alias(as: "run")
      ...SessionFeed_updated @alias(as: "updated")
      ...SessionFeed_reset @alias(as: "reset")
      ... on SessionRemoved {
        removedId @deleteRecord
        sessionId
      }
    }
  }
`;

/** With isNew what MessageListQuery gives: a chat that may not exist yet is opened by the subscription alone. */
export const opened = graphql`
  fragment SessionFeed_opened on StreamOpened @argumentDefinitions(isNew: { type: "Boolean!", defaultValue: false }) {
    cursor
    session {
      activeRun {
        ...Reply_run
      }
      ...MessageList_session @include(if: $isNew) @alias(as: "list")
    }
  }
`;

export const progress = graphql`
  fragment SessionFeed_progress on ReplyProgress {
    runId
    replyId
    offset
    text
  }
`;

export const run = graphql`
  fragment SessionFeed_run on RunChanged {
    run {
      ...Reply_run
    }
  }
`;

export const updated = graphql`
  fragment SessionFeed_updated on SessionUpdated {
    session {
      ...SessionItem_session
      ...Settings_session
    }
  }
`;

export const reset = graphql`
  fragment SessionFeed_reset on HistoryReset {
    kept
    cursor
    session {
      ...MessageList_session
    }
  }
`;
