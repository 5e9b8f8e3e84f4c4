import { mapStoredMessagesToChatMessages, type StoredMessage } from "@langchain/core/messages";
import type { Cluster, Redis } from "ioredis";

import { execute } from "../gateway/graphql-client.ts";

// A run that waits for decisions, as a chat frontend sees it, and what it decides.

export interface Part {
  readonly callId?: string;
  readonly args?: unknown;
  readonly status?: string;
  readonly allowed?: readonly string[];
  readonly decided?: string | null;
  readonly failed?: boolean | null;
  readonly revision?: number;
  readonly result?: readonly { readonly text?: string }[];
  readonly text?: string;
}

export interface WaitingRun {
  readonly id: string;
  readonly status: string;
  readonly waitsUntil: string | null;
  readonly parts: readonly Part[];
  readonly approvals: readonly Part[];
  readonly messages: readonly { readonly role: string; readonly text: string }[];
  readonly reply: { readonly text: string } | null;
  readonly error: { readonly code: string; readonly retryable: boolean } | null;
}

const toolFields = `fragment T on ToolPart {
  callId args status allowed decided failed revision result { ... on TextBlock { text } }
}`;
export const runFields = `fragment R on Run {
  id status waitsUntil parts { ... on TextPart { text } ...T } approvals { ...T } messages { role text } reply { text }
  error { code retryable }
} ${toolFields}`;

export async function runOf(url: string, id: string): Promise<WaitingRun | null> {
  const query = `query ($id: ID!) { node(id: $id) { ... on Run { ...R } } } ${runFields}`;
  return (await execute<{ node: WaitingRun | null }>(url, query, { id })).node;
}

export async function respond(
  url: string,
  runId: string,
  decisions: readonly object[],
  more: object = {},
): Promise<WaitingRun> {
  const query = `mutation ($input: RespondToRunInput!) { respondToRun(input: $input) { run { ...R } session { sessionId } } } ${runFields}`;
  const input = { runId, decisions, ...more };
  return (await execute<{ respondToRun: { run: WaitingRun } }>(url, query, { input })).respondToRun.run;
}

/** The stored rows as a LangChain program reads them. */
export async function rowsOf(redis: Redis | Cluster, sessionId: string): Promise<readonly string[]> {
  const rows = (await redis.lrange(sessionId, 0, -1)).reverse().map((row) => JSON.parse(row) as StoredMessage);
  return mapStoredMessagesToChatMessages(rows).map((message) => `${message.type}: ${message.text}`);
}

/** The error's code, or "taken". */
export const codeOf = (asked: Promise<unknown>) =>
  asked.then(
    () => "taken",
    (error: unknown) => String(/\b[A-Z]+(?:_[A-Z]+)+\b/.exec(String(error) + JSON.stringify(error))?.[0]),
  );
