import { graphql } from "./tag.ts";

/** The reply while it is made: keyed by replyId, so that it becomes the message without a flicker. */
export const run = graphql`
  fragment Reply_run on Run @refetchable(queryName: "ReplyRefetchQuery") {
    id
    status
    model
    replyId
    text
    error {
      code
      message
      retryable
    }
  }
`;

export const cancel = graphql`
  mutation ReplyCancelMutation($input: CancelRunInput!) {
    cancelRun(input: $input) {
      run {
        ...Reply_run
        reply {
          ...MessageItem_message
        }
      }
    }
  }
`;

export const regenerate = graphql`
  mutation ReplyRegenerateMutation($input: RegenerateReplyInput!) {
    regenerateReply(input: $input) {
      run {
        ...Reply_run
      }
    }
  }
`;
