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

export interface RunPart {
  readonly __typename: string;
  readonly start?: number;
  readonly text?: string;
  readonly argsText?: string;
  readonly revision?: number;
}

const partFields = `fragment PartFields on RunPart {
  __typename
  ... on TextPart { start text }
  ... on ReasoningPart { text }
  ... on ToolPart { callId name argsText status revision result { ... on TextBlock { text } } }
  ... on DataPart { callId name data }
}`;

/** All that an agent's page follows. */
export const partsQuery = `subscription Parts($sessionId: String!) {
  sessionEvents(sessionId: $sessionId) {
    __typename
    ... on PartAdded { runId index part { ...PartFields } }
    ... on PartProgress { runId index offset text }
    ... on PartChanged { runId index part { ...PartFields } }
    ... on ReplyProgress { runId index offset text }
    ... on RunChanged { run { id status } }
    ... on MessageAdded { message { id position role text createdAt cursor } }
  }
} ${partFields}`;

/** Waits for the reply. */
export const agentTurnMutation = `mutation Turn($sessionId: String!, $model: String!) {
  sendMessage(input: { sessionId: $sessionId, text: "Hello", model: $model }) { reply { text } run { id } }
}`;

export const runPartsQuery = `query Run($id: ID!) { node(id: $id) { ... on Run { status parts { ...PartFields } } } } ${partFields}`;
