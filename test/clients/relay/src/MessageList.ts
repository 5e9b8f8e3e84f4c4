import { graphql } from "./tag.ts";

export const query = graphql`
  query MessageListQuery($sessionId: String!) {
    session(sessionId: $sessionId) {
      ...SessionItem_session
      ...MessageList_session
      ...Settings_session
    }
  }
`;

/** Newest first to come, older ones as the reader scrolls up. */
export const messages = graphql`
  fragment MessageList_session on Session
  @refetchable(queryName: "MessageListPaginationQuery")
  @argumentDefinitions(count: { type: "Int", defaultValue: 50 }, cursor: { type: "String" }) {
    sessionId
    cursor
    messages(last: $count, before: $cursor) @connection(key: "MessageList_messages", filters: []) {
      __id
      edges {
        node {
          ...MessageItem_message
        }
      }
    }
    lastRun {
      ...Reply_run
    }
    queuedRuns {
      ...Reply_run
    }
  }
`;
