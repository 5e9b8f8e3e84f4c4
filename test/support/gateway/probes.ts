/** Operations on a session, by what a stranger might know of it, each with the places where ids go. */
export interface Known {
  readonly sessionId: string;
  /** Global ids, "Session:…", "Message:…", "Run:…" in base64. */
  readonly id: string;
  readonly messageIds: readonly string[];
  readonly runId: string;
  readonly cursor: string;
  readonly messageId: string;
  readonly idempotencyKey: string;
}

export interface Probe {
  readonly name: string;
  readonly query: string;
  readonly variables: (known: Known) => Readonly<Record<string, unknown>>;
}

const message = "id text position cursor run { id } session { sessionId title }";
const session = `id sessionId title instructions metadata cursor messageCount messages { nodes { ${message} } } activeRun { id } lastRun { id text } queuedRuns { id }`;

const input = (name: string, type: string, selection: string, fields: (known: Known) => object): Probe => ({
  name,
  query: `mutation Probe($input: ${type}!) { ${name}(input: $input) { ${selection} } }`,
  variables: (known) => ({ input: fields(known) }),
});

/** Everything that can be asked of a session, a message or a run by name. */
export const probes: readonly Probe[] = [
  {
    name: "session",
    query: `query Probe($id: String!) { session(sessionId: $id) { ${session} } }`,
    variables: ({ sessionId: id }) => ({ id }),
  },
  {
    name: "session after a cursor",
    query: `query Probe($id: String!, $after: String) { session(sessionId: $id) { messages(after: $after) { nodes { ${message} } } } }`,
    variables: ({ sessionId: id, cursor: after }) => ({ id, after }),
  },
  {
    name: "node of the session",
    query: `query Probe($id: ID!) { node(id: $id) { id ... on Session { ${session} } } }`,
    variables: ({ id }) => ({ id }),
  },
  {
    name: "nodes of its messages",
    query: `query Probe($a: ID!, $b: ID!) { a: node(id: $a) { id ... on Message { ${message} } } b: node(id: $b) { id ... on Message { ${message} } } }`,
    variables: ({ messageIds: [a, b] }) => ({ a, b: b ?? a }),
  },
  {
    name: "node of its run",
    query: `query Probe($id: ID!) { node(id: $id) { id ... on Run { text replyId } } }`,
    variables: ({ runId: id }) => ({ id }),
  },
  input("sendMessage", "SendMessageInput", "run { id } userMessage { id }", ({ sessionId, messageId }) => ({
    sessionId,
    messageId,
    text: "hello",
  })),
  input("addMessages", "AddMessagesInput", "session { id } messages { id }", ({ sessionId, idempotencyKey }) => ({
    sessionId,
    idempotencyKey,
    messages: [{ role: "USER", text: "hello" }],
  })),
  input("regenerateReply", "RegenerateReplyInput", "run { id }", ({ sessionId, cursor }) => ({
    sessionId,
    replaceFrom: cursor,
  })),
  input("createSession", "CreateSessionInput", "session { id }", ({ sessionId, idempotencyKey }) => ({
    sessionId,
    idempotencyKey,
  })),
  input("updateSession", "UpdateSessionInput", "session { id }", ({ sessionId }) => ({ sessionId, title: "mine" })),
  input("markRead", "MarkReadInput", "session { id }", ({ sessionId, cursor }) => ({ sessionId, through: cursor })),
  input("generateTitle", "GenerateTitleInput", "session { id }", ({ sessionId }) => ({ sessionId })),
  input("clearHistory", "ClearHistoryInput", "session { id }", ({ sessionId }) => ({ sessionId })),
  input("deleteSession", "DeleteSessionInput", "deletedId", ({ sessionId }) => ({ sessionId })),
  input("forkSession", "ForkSessionInput", "session { id }", ({ sessionId, cursor }) => ({
    sessionId,
    through: cursor,
  })),
  input("cancelRun", "CancelRunInput", "run { id text }", ({ runId }) => ({ runId })),
];

/** Streams that are over at once where there is no such session. */
export const subscriptions: readonly Probe[] = [
  {
    name: "messageAdded",
    query: `subscription Probe($id: String!, $after: String) { messageAdded(sessionId: $id, after: $after) { ${message} } }`,
    variables: ({ sessionId: id, cursor: after }) => ({ id, after }),
  },
  {
    name: "sessionEvents",
    query: `subscription Probe($id: String!) { sessionEvents(sessionId: $id, ifMissing: REFUSE) { __typename } }`,
    variables: ({ sessionId: id }) => ({ id }),
  },
];

/** Streams that wait where there is no such session, for who may start it. */
export const waitingSubscriptions: readonly Probe[] = [
  {
    name: "messageAdded that waits",
    query: `subscription Probe($id: String!) { messageAdded(sessionId: $id, after: "") { ${message} } }`,
    variables: ({ sessionId: id }) => ({ id }),
  },
  {
    name: "sessionEvents that wait",
    query: `subscription Probe($id: String!) { sessionEvents(sessionId: $id) { __typename
      ... on StreamWaiting { cursor sessionId } ... on StreamOpened { cursor session { ${session} } }
      ... on MessageAdded { message { ${message} } } ... on ReplyProgress { text } ... on RunChanged { run { id text } }
      ... on SessionUpdated { session { ${session} } } ... on HistoryReset { session { ${session} } } } }`,
    variables: ({ sessionId: id }) => ({ id }),
  },
];

export function globalId(type: string, local: string): string {
  return Buffer.from(`${type}:${local}`).toString("base64");
}

/** The same knowledge of a session that there is not: every id renamed, the cursor as it would be there. */
export function elsewhere(known: Known, sessionId: string, cursor: string): Known {
  const rename = (id: string): string => {
    const text = Buffer.from(id, "base64").toString();
    return Buffer.from(text.replace(known.sessionId, sessionId)).toString("base64");
  };
  return {
    ...known,
    sessionId,
    cursor,
    id: rename(known.id),
    messageIds: known.messageIds.map(rename),
    runId: rename(known.runId),
  };
}
