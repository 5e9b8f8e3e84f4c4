/** The same operations for all that speak GraphQL; the baselines' schemas have just what these need. */

export const pageQuery = `query Page($sessionId: String!) {
  session(sessionId: $sessionId) {
    messages(last: 50) {
      nodes { id position role text createdAt cursor }
      pageInfo { hasPreviousPage startCursor }
    }
  }
}`;

export const messageSubscription = `subscription Messages($sessionId: String!) {
  messageAdded(sessionId: $sessionId) { id position role text createdAt cursor }
}`;

/** What a chat's page needs of a message. */
export const chatMessageSubscription = `subscription Messages($sessionId: String!) {
  messageAdded(sessionId: $sessionId) { id role text createdAt }
}`;

/** Text of the reply as it is made. */
export const eventSubscription = `subscription Events($sessionId: String!) {
  sessionEvents(sessionId: $sessionId) {
    __typename
    ... on ReplyProgress { replyId offset text }
  }
}`;

/** The same of the baseline, whose subscription has nothing but text. */
export const tokenSubscription = `subscription Tokens($sessionId: String!) {
  tokenAdded(sessionId: $sessionId) { replyId offset text }
}`;

export const sendMutation = `mutation Send($sessionId: String!) {
  sendMessage(input: { sessionId: $sessionId, text: "Hello" }) { run { id } }
}`;

export const turnMutation = `mutation Turn($sessionId: String!) {
  sendMessage(input: { sessionId: $sessionId, text: "Hello" }) { reply { text } }
}`;

export function graphqlBody(query: string, variables: object = {}): string {
  return JSON.stringify({ query, variables });
}

/** What a chat's page follows: messages, and text as it comes. */
export const chatSubscription = `subscription Chat($sessionId: String!) {
  sessionEvents(sessionId: $sessionId) {
    __typename
    ... on MessageAdded { message { id position role text createdAt cursor } }
    ... on ReplyProgress { replyId offset text }
  }
}`;

export const addMutation = `mutation Add($sessionId: String!, $text: String!) {
  addMessages(input: { sessionId: $sessionId, messages: [{ role: USER, text: $text }] }) { messages { id cursor } }
}`;
