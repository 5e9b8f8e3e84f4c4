import { execute, subscribe } from "./graphql-client.ts";
import type { Collector } from "./graphql-client.ts";

// The documents of a chat frontend, and what they select.

export interface MessageFields {
  readonly id: string;
  readonly messageId: string | null;
  readonly position: number;
  readonly cursor: string;
  readonly role: "USER" | "ASSISTANT" | "SYSTEM" | "TOOL" | "FUNCTION" | "OTHER";
  readonly text: string;
  readonly finishReason: string | null;
  readonly run: { readonly id: string } | null;
}

export interface RunFields {
  readonly id: string;
  readonly status: "QUEUED" | "RUNNING" | "WAITING" | "COMPLETED" | "CANCELLED" | "FAILED";
  readonly model: string;
  readonly text: string;
  readonly replyId: string;
  readonly userMessage: { readonly id: string; readonly text: string } | null;
  readonly reply: { readonly id: string; readonly text: string; readonly finishReason: string | null } | null;
  readonly error: {
    readonly code: string;
    readonly message: string;
    readonly retryable: boolean;
    readonly retryAfterSeconds: number | null;
  } | null;
}

export interface SessionFields {
  readonly id: string;
  readonly sessionId: string;
  readonly title: string | null;
  readonly messageCount: number;
  readonly readCount: number;
  readonly cursor: string;
  readonly updatedAt: string | null;
  readonly activeRun: { readonly id: string; readonly text: string } | null;
}

export type SessionEvent =
  | { readonly __typename: "StreamWaiting"; readonly cursor: string; readonly waitsFor: string }
  | { readonly __typename: "StreamOpened"; readonly cursor: string; readonly session: SessionFields }
  | { readonly __typename: "MessageAdded"; readonly message: MessageFields }
  | {
      readonly __typename: "ReplyProgress";
      readonly runId: string;
      readonly replyId: string;
      readonly offset: number;
      readonly text: string;
    }
  | { readonly __typename: "RunChanged"; readonly run: RunFields }
  | { readonly __typename: "SessionUpdated"; readonly session: SessionFields }
  | {
      readonly __typename: "HistoryReset";
      readonly kept: number;
      readonly cursor: string;
      readonly session: SessionFields & { readonly messages: { readonly nodes: readonly { readonly text: string }[] } };
    }
  | { readonly __typename: "SessionRemoved"; readonly removedId: string; readonly sessionId: string };

export type EventOf<Name extends SessionEvent["__typename"]> = Extract<SessionEvent, { readonly __typename: Name }>;

const messageFields = `fragment M on Message { id messageId position cursor role text finishReason run { id } }`;
const runFields = `fragment R on Run {
  id status model text replyId userMessage { id text } reply { id text finishReason } error { code message retryable retryAfterSeconds }
}`;
const sessionFields = `fragment S on Session {
  id sessionId title messageCount readCount cursor updatedAt activeRun { id text }
}`;

/** What a turn answers with `reply` selected. */
export interface Turn {
  readonly run: RunFields;
  readonly userMessage: MessageFields | null;
  readonly reply: MessageFields | null;
  readonly session: SessionFields;
}

export const sendAndWait = `mutation ($input: SendMessageInput!) {
  sendMessage(input: $input) { run { ...R } userMessage { ...M } reply { ...M } session { ...S } }
} ${runFields} ${messageFields} ${sessionFields}`;

export const sendOnly = `mutation ($input: SendMessageInput!) {
  sendMessage(input: $input) { run { ...R } userMessage { ...M } session { ...S } }
} ${runFields} ${messageFields} ${sessionFields}`;

export type SendInput = Readonly<Record<string, unknown>>;

/** Sends and waits for the reply. */
export async function ask(url: string, sessionId: string, text: string, more: SendInput = {}): Promise<Turn> {
  const input = { sessionId, text, ...more };
  return (await execute<{ sendMessage: Turn }>(url, sendAndWait, { input })).sendMessage;
}

/** Sends without waiting. */
export async function send(
  url: string,
  sessionId: string,
  text: string,
  more: SendInput = {},
): Promise<Omit<Turn, "reply">> {
  const input = { sessionId, text, ...more };
  return (await execute<{ sendMessage: Omit<Turn, "reply"> }>(url, sendOnly, { input })).sendMessage;
}

export async function regenerate(
  url: string,
  sessionId: string,
  more: SendInput = {},
): Promise<Pick<Turn, "run" | "reply">> {
  const query = `mutation ($input: RegenerateReplyInput!) {
    regenerateReply(input: $input) { run { ...R } reply { ...M } }
  } ${runFields} ${messageFields}`;
  const input = { sessionId, ...more };
  return (await execute<{ regenerateReply: Pick<Turn, "run" | "reply"> }>(url, query, { input })).regenerateReply;
}

export const cancelRun = `mutation ($runId: ID!) { cancelRun(input: { runId: $runId }) { run { ...R } } } ${runFields}`;

export async function cancel(url: string, runId: string): Promise<RunFields> {
  return (await execute<{ cancelRun: { run: RunFields } }>(url, cancelRun, { runId })).cancelRun.run;
}

export async function readMessages(url: string, sessionId: string): Promise<readonly MessageFields[]> {
  const query = `query ($sessionId: String!) {
    session(sessionId: $sessionId) { messages(last: 200) { nodes { ...M } } }
  } ${messageFields}`;
  type Data = { session: { messages: { nodes: readonly MessageFields[] } } | null };
  return (await execute<Data>(url, query, { sessionId })).session?.messages.nodes ?? [];
}

export async function texts(url: string, sessionId: string): Promise<readonly string[]> {
  return (await readMessages(url, sessionId)).map(({ role, text }) => `${role}: ${text}`);
}

export async function readRun(url: string, id: string): Promise<RunFields | null> {
  const query = `query ($id: ID!) { node(id: $id) { ...R } } ${runFields}`;
  return (await execute<{ node: RunFields | null }>(url, query, { id })).node;
}

export async function addMessages(
  url: string,
  sessionId: string,
  messages: readonly SendInput[],
  more: SendInput = {},
): Promise<readonly MessageFields[]> {
  const query = `mutation ($input: AddMessagesInput!) {
    addMessages(input: $input) { messages { ...M } }
  } ${messageFields}`;
  type Data = { addMessages: { messages: readonly MessageFields[] } };
  return (await execute<Data>(url, query, { input: { sessionId, messages, ...more } })).addMessages.messages;
}

/** Of a long history, 200 messages at a time. */
export interface Page {
  readonly edges: readonly { readonly cursor: string }[];
  readonly nodes: readonly { readonly text: string }[];
  readonly pageInfo: Readonly<
    Record<"hasNextPage" | "hasPreviousPage", boolean> & Record<"startCursor" | "endCursor", string | null>
  >;
}

export function pageQuery(direction: "first" | "last"): string {
  const window = direction === "first" ? "first: 200, after: $after" : "last: 200, before: $after";
  return `query ($sessionId: String!, $after: String) { session(sessionId: $sessionId) { messages(${window}) {
    edges { cursor } nodes { text } pageInfo { hasNextPage hasPreviousPage startCursor endCursor }
  } } }`;
}

export async function pageOf(
  url: string,
  sessionId: string,
  direction: "first" | "last",
  after: string | null,
): Promise<Page> {
  const query = pageQuery(direction);
  return (await execute<{ session: { messages: Page } }>(url, query, { sessionId, after })).session.messages;
}

/** Follows a session; resolves once nothing can be missed. Of a session that there is not yet with StreamWaiting. */
export async function follow(
  url: string,
  sessionId: string,
  after: string | null = null,
): Promise<Collector<SessionEvent>> {
  const query = `subscription ($sessionId: String!, $after: String) {
    sessionEvents(sessionId: $sessionId, after: $after) {
      __typename
      ... on StreamWaiting { cursor waitsFor: sessionId }
      ... on StreamOpened { cursor session { ...S } }
      ... on MessageAdded { message { ...M } }
      ... on ReplyProgress { runId replyId offset text }
      ... on RunChanged { run { ...R } }
      ... on SessionUpdated { session { ...S } }
      ... on HistoryReset { kept cursor session { ...S messages { nodes { text } } } }
      ... on SessionRemoved { removedId sessionId }
    }
  } ${runFields} ${messageFields} ${sessionFields}`;
  const stream = subscribe<SessionEvent>(url, query, { sessionId, after });
  await stream.waitFor(({ __typename }) => /^Stream/.test(__typename), "StreamOpened or StreamWaiting");
  return stream;
}

export function eventsOf<Name extends SessionEvent["__typename"]>(
  { events }: Pick<Collector<SessionEvent>, "events">,
  name: Name,
): readonly EventOf<Name>[] {
  return events.filter((event): event is EventOf<Name> => event.__typename === name);
}

/** "RunChanged RUNNING", "MessageAdded USER", "ReplyProgress", …: a run of progress counts as one. */
export function outline({ events }: Pick<Collector<SessionEvent>, "events">): readonly string[] {
  const steps = events.map((event) => {
    if (event.__typename === "RunChanged") return `RunChanged ${event.run.status}`;
    if (event.__typename === "MessageAdded") return `MessageAdded ${event.message.role}`;
    return event.__typename;
  });
  return steps.filter((step, i) => step !== "ReplyProgress" || steps[i - 1] !== step);
}

export function isRunEnd(runId: string): (event: SessionEvent) => boolean {
  return (event) =>
    event.__typename === "RunChanged" &&
    event.run.id === runId &&
    ["COMPLETED", "CANCELLED", "FAILED"].includes(event.run.status);
}

/** What a Message.id is where the caller chose the messageId. */
export function chosenId(sessionId: string, messageId: string): string {
  return Buffer.from(`Message:${sessionId}:${messageId}`).toString("base64");
}
