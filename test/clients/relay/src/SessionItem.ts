import { graphql } from "./tag.ts";

export const session = graphql`
  fragment SessionItem_session on Session {
    id
    sessionId
    title
    archived
    updatedAt
    messageCount
    readCount
    activeRun {
      id
      status
    }
  }
`;

export const rename = graphql`
  mutation SessionItemUpdateMutation($input: UpdateSessionInput!) @raw_response_type {
    updateSession(input: $input) {
      session {
        ...SessionItem_session
      }
    }
  }
`;

export const read = graphql`
  mutation SessionItemReadMutation($input: MarkReadInput!) {
    markRead(input: $input) {
      session {
        readCount
      }
    }
  }
`;

export const remove = graphql`
  mutation SessionItemDeleteMutation($input: DeleteSessionInput!) {
    deleteSession(input: $input) {
      deletedId @deleteRecord
      sessionId
    }
  }
`;

/** The other way to take it out of lists: the edge alone, the record stays. */
export const archive = graphql`
  mutation SessionItemDeleteEdgeMutation($input: DeleteSessionInput!, $connections: [ID!]!) {
    deleteSession(input: $input) {
      deletedId @deleteEdge(connections: $connections)
    }
  }
`;
