import { graphql } from "./tag.ts";

export const message = graphql`
  fragment MessageItem_message on Message {
    id
    position
    cursor
    role
    name
    createdAt
    finishReason
    text
    content {
      __typename
      ... on TextBlock {
        text
      }
      ... on ImageBlock {
        url
        detail
      }
      ... on OtherBlock {
        type
        data
      }
    }
    toolCalls {
      callId
      name
      args
    }
    toolCallId
    toolFailed
    usage {
      totalTokens
    }
  }
`;

/** A link to one message: its page around it is read by its cursor. */
export const node = graphql`
  query MessageItemNodeQuery($id: ID!) {
    node(id: $id) {
      __typename
      id
      ...MessageItem_message @alias(as: "message")
      ... on Message {
        session {
          ...SessionItem_session
        }
      }
    }
  }
`;
