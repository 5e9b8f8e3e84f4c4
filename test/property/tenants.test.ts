import { randomUUID } from "node:crypto";
import fc from "fast-check";
import { createClient } from "graphql-ws";
import type { Client } from "graphql-ws";
import { afterAll, beforeAll, expect, test } from "vitest";
import { WebSocket } from "ws";

import { encodeCursor, parseCursor } from "../../src/conversation/message/cursor.ts";
import { startGateway } from "../support/gateway/gateway.ts";
import type { TestGateway } from "../support/gateway/gateway.ts";
import { elsewhere, globalId, probes, subscriptions, waitingSubscriptions } from "../support/gateway/probes.ts";
import type { Known } from "../support/gateway/probes.ts";
import { checkProperty } from "../support/store/property.ts";
import { waitUntil } from "../support/redis/redis-command.ts";
import { startTopology } from "../support/redis/project-topology.ts";
import { callerOf } from "../support/gateway/tenant.ts";
import type { Caller } from "../support/gateway/tenant.ts";
import type { TestTopology } from "../support/redis/topologies.ts";
import { secret, tokenFor } from "../support/gateway/tokens.ts";

const prefix = "chat:";
/** The second one's ids begin as the first one's do: between these two the records alone stand. */
const subjects = ["ann", "ann:x", "bob"] as const;

interface Tenant {
  readonly subject: string;
  readonly caller: Caller;
  readonly live: Client;
  /** In all that this one writes. */
  readonly canary: string;
  /** All that this one was ever told. */
  readonly told: string[];
}

let topology: TestTopology;
let at: TestGateway;
let tenants: readonly Tenant[] = [];
/** What is known of sessions, by whomsoever: every tenant tries all of it. */
const pool: Known[] = [];

beforeAll(async () => {
  topology = await startTopology();
  at = await startGateway({
    redis: topology.redis,
    historyKeyPrefix: prefix,
    auth: { kind: "jwt", key: { secret }, issuer: null, audience: null, clockSkewSeconds: 5, cookie: null },
  });
  tenants = await Promise.all(
    subjects.map(async (subject) => {
      const token = await tokenFor(subject);
      const live = createClient({
        url: at.url.replace("http", "ws"),
        webSocketImpl: WebSocket,
        lazy: false,
        connectionParams: { authorization: token },
      });
      return { subject, caller: callerOf(at.url, token), live, canary: `canary ${randomUUID()}`, told: [] };
    }),
  );
  for (const tenant of tenants) {
    listen(
      tenant,
      `subscription { sessionChanged { __typename ... on SessionAdded { session { title messages { nodes { text } } } }
      ... on SessionUpdated { session { title metadata messages { nodes { text } } } } ... on SessionRemoved { sessionId } } }`,
    );
  }
  await waitUntil("all sidebars are open", () => Promise.resolve(tenants.every(({ told }) => told.length > 0)));
});
afterAll(async () => {
  for (const { live } of tenants) await live.dispose();
  await at.close();
  await topology.stop();
});

function listen({ live, told }: Tenant, query: string, variables: Readonly<Record<string, unknown>> = {}): void {
  live.subscribe(
    { query, variables },
    {
      next: (result) => told.push(JSON.stringify(result)),
      error: (error) => told.push(JSON.stringify(error)),
      complete: () => undefined,
    },
  );
}

interface Step {
  readonly who: number;
  readonly what: "send" | "queue" | "settings" | "append" | "create" | "probe" | "listen";
  /** Which of one's own sessions, of all that is known, and of the probes: as far as there are so many. */
  readonly pick: number;
  readonly probe: number;
}

const step: fc.Arbitrary<Step> = fc.record({
  who: fc.nat({ max: subjects.length - 1 }),
  what: fc.oneof(
    { weight: 6, arbitrary: fc.constant("probe" as const) },
    { weight: 5, arbitrary: fc.constantFrom("send", "queue", "settings", "append", "create", "listen") },
  ),
  pick: fc.nat(1000),
  probe: fc.nat(1000),
});

async function take({ who, what, pick, probe }: Step): Promise<void> {
  const tenant = tenants[who];
  if (!tenant) throw new Error(`There is no tenant ${who}`);
  const { subject, caller, canary, told } = tenant;
  // The first one's name is the beginning of all of the second one's ids.
  const sessionId = `${subject}:${pick % 3 === 0 && subject === "ann" ? "x:" : ""}${pick % 4}`;
  // Only what sendMessage answers is looked into.
  const ask = async (query: string, variables: Readonly<Record<string, unknown>>) => {
    const result = await caller.request<Record<string, SentData | null>>(query, variables);
    told.push(JSON.stringify(result));
    return result;
  };
  switch (what) {
    case "send":
    case "queue": {
      const reply = what === "send" ? "reply { id text }" : "";
      const messageId = `m${pick % 5}`;
      const query = `mutation Send($input: SendMessageInput!) { sendMessage(input: $input) {
        run { id } userMessage { id cursor text } ${reply} session { id cursor messages { nodes { id } } } } }`;
      const { data } = await ask(query, { input: { sessionId, text: canary, messageId } });
      const sent = data?.["sendMessage"] ?? null;
      if (!sent) return;
      pool.push({
        sessionId,
        id: sent.session.id,
        messageIds: [
          globalId("Message", `${sessionId}:${messageId}`),
          ...sent.session.messages.nodes.map(({ id }) => id),
        ],
        runId: sent.run.id,
        cursor: sent.userMessage?.cursor ?? sent.session.cursor,
        messageId,
        idempotencyKey: `k${pick % 3}`,
      });
      return;
    }
    case "settings": {
      const query = `mutation Set($input: UpdateSessionInput!) { updateSession(input: $input) { session { title metadata } } }`;
      await ask(query, { input: { sessionId, title: canary, instructions: canary, metadata: { canary } } });
      return;
    }
    case "append": {
      const query = `mutation Add($input: AddMessagesInput!) { addMessages(input: $input) { messages { id text } } }`;
      const messages = [{ role: "ASSISTANT", text: canary, messageId: `a${pick % 5}` }];
      await ask(query, { input: { sessionId, messages } });
      return;
    }
    case "create": {
      const query = `mutation New($input: CreateSessionInput!) { createSession(input: $input) { session { id sessionId title } } }`;
      const id = pick % 2 === 0 ? { sessionId } : { idempotencyKey: `k${pick % 3}` };
      await ask(query, { input: { ...id, title: canary, metadata: { canary } } });
      return;
    }
    case "listen": {
      const known = pool[pick % Math.max(pool.length, 1)];
      const streams = [...subscriptions, ...waitingSubscriptions];
      const subscription = streams[probe % streams.length];
      if (known && subscription) listen(tenant, subscription.query, subscription.variables(known));
      return;
    }
    case "probe":
      await tryOut(tenant, pool[pick % Math.max(pool.length, 1)], probe);
  }
}

/** What sendMessage's document in take() selects. */
interface SentData {
  readonly run: { readonly id: string };
  readonly userMessage: { readonly cursor: string } | null;
  readonly session: {
    readonly id: string;
    readonly cursor: string;
    readonly messages: { readonly nodes: readonly { readonly id: string }[] };
  };
}

async function tryOut({ subject, caller, told }: Tenant, known: Known | undefined, number: number): Promise<void> {
  const probe = probes[number % probes.length];
  if (!probe || !known) return;
  const { query, variables } = probe;
  if (known.sessionId.startsWith(`${subject}:`)) {
    told.push(JSON.stringify(await caller.request(query, variables(known))));
    return;
  }
  // Not this one's to name: in the very words of what there is not.
  const nowhere = `${known.sessionId}-${randomUUID()}`;
  const place = parseCursor(prefix + known.sessionId, known.cursor);
  if (!place) throw new Error("The gateway gave out no cursor");
  const missing = elsewhere(known, nowhere, encodeCursor(prefix + nowhere, place));
  const answer = await caller.refusal(query, variables(known));
  told.push(answer);
  expect(answer, probe.name).toBe(await caller.refusal(query, variables(missing)));
}

test("no owner ever sees what another wrote, whatever anybody does", async () => {
  await checkProperty(
    fc.asyncProperty(fc.array(step, { minLength: 30, maxLength: 30, size: "max" }), async (steps) => {
      for (const one of steps) await take(one);
      for (const { subject, told } of tenants) {
        const all = told.join("\n");
        for (const other of tenants) {
          if (other.subject !== subject)
            expect(all.includes(other.canary), `${subject} of ${other.subject}`).toBe(false);
        }
      }
    }),
    { runs: 8, endOnFailure: true },
  );
  // All of this was about something: each was told its own.
  for (const { told, canary } of tenants) expect(told.some((text) => text.includes(canary))).toBe(true);
  expect(new Set(pool.map(({ sessionId }) => sessionId)).size).toBeGreaterThan(4);
});
