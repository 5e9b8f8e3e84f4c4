import { graphql } from "./tag.ts";

export const query = graphql`
  query SessionListQuery($filter: SessionFilter) {
    viewer {
      subject
      scopes
    }
    models {
      name
      isDefault
    }
    ...SessionList_query @arguments(filter: $filter)
  }
`;

export const sessions = graphql`
  fragment SessionList_query on Query
  @refetchable(queryName: "SessionListPaginationQuery")
  @argumentDefinitions(
    count: { type: "Int", defaultValue: 20 }
    cursor: { type: "String" }
    filter: { type: "SessionFilter" }
  ) {
    sessions(first: $count, after: $cursor, filter: $filter)
      @connection(key: "SessionList_sessions", filters: ["filter"]) {
      __id
      edges {
        node {
          ...SessionItem_session
        }
      }
    }
  }
`;

export const create = graphql`
  mutation SessionListCreateMutation($input: CreateSessionInput!, $connections: [ID!]!) {
    createSession(input: $input) {
      session @prependNode(connections: $connections, edgeTypeName: "SessionEdge") {
        ...SessionItem_session
      }
    }
  }
`;

export const fork = graphql`
  mutation SessionListForkMutation($input: ForkSessionInput!, $connections: [ID!]!) {
    forkSession(input: $input) {
      session @prependNode(connections: $connections, edgeTypeName: "SessionEdge") {
        ...SessionItem_session
        forkedFrom {
          ...SessionItem_session
        }
      }
    }
  }
`;

export const changes = graphql`
  subscription SessionListSubscription($connections: [ID!]!) {
    sessionChanged {
      __typename
      ... on SessionListOpened {
        openedAt
      }
      ... on SessionAdded {
        session @prependNode(connections: $connections, edgeTypeName: "SessionEdge") {
          ...SessionItem_session
        }
      }
      ... on SessionUpdated {
        session {
          ...SessionItem_session
        }
      }
      ... on SessionRemoved {
        removedId @deleteRecord
      }
    }
  }
`;
