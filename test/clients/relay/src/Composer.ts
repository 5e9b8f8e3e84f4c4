import { graphql } from "./tag.ts";

/**
 * Relay appends a node once: whether this answer or the subscription's MessageAdded comes first makes no difference.
 * Nothing of the run that changes: an answer that comes late would take back what events have brought meanwhile.
 */
export const send = graphql`
  mutation ComposerSendMutation($input: SendMessageInput!, $connections: [ID!]!) @raw_response_type {
    sendMessage(input: $input) {
      userMessage @appendNode(connections: $connections, edgeTypeName: "MessageEdge") {
        ...MessageItem_message
      }
      run {
        id
        replyId
      }
    }
  }
`;

/** Without a subscription: the question settles at once, the reply comes in a later part of the same answer. */
export const ask = graphql`
  mutation ComposerAskMutation($input: SendMessageInput!) {
    sendMessage(input: $input) {
      userMessage {
        ...MessageItem_message
      }
      ...Composer_reply @defer
    }
  }
`;

export const reply = graphql`
  fragment Composer_reply on SendMessagePayload {
    reply {
      ...MessageItem_message
    }
  }
`;
