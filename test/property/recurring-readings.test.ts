import fc from "fast-check";
import { execute, parse } from "graphql";
import { Redis } from "ioredis";
import { afterAll, beforeAll, expect, test, vi } from "vitest";

import { schema } from "../../src/graphql/schema.ts";
import { startGateway } from "../support/gateway/gateway.ts";
import type { TestGateway } from "../support/gateway/gateway.ts";
import { execute as request } from "../support/gateway/graphql-client.ts";
import { contextOf } from "../support/gateway/graphql-operation.ts";
import { propertyRuns } from "../support/store/property-runs.ts";
import { openAcknowledged } from "../support/gateway/transport-server.ts";
import { checkProperty } from "../support/store/property.ts";
import { startRedis } from "../support/redis/redis-server.ts";
import type { TestRedis } from "../support/redis/redis-server.ts";

// A query that comes again and again is answered with the answer that was made before, where Redis says that the session is
// as it was. However writers of all kinds come between, that must be what a reading of its own says.

let server: TestRedis;
let at: TestGateway;
let redis: Redis;
let sameReadings: () => number;

beforeAll(async () => {
  server = await startRedis({ appendonly: false });
  at = await startGateway({ redis: server.url, model: "offline" });
  redis = new Redis(server.url);
  const asked = vi.spyOn(at.gateway.conversations, "readSession");
  sameReadings = () => asked.mock.calls.filter(([, , { known }]) => known?.isSame === true).length;
});

afterAll(async () => {
  redis.disconnect();
  await at.close();
  await server.stop();
});

const sessionIds = ["one", "two", "çedilla", "fork of one"];
const message = `id position role text createdAt cursor content { __typename } storedText`;
const queries = [
  `query ($s: String!) { session(sessionId: $s) { messages(last: 50) { nodes { ${message} } pageInfo { startCursor } } } }`,
  `query ($s: String!, $n: Int) { session(sessionId: $s) { title messages(first: $n) { nodes { ${message} } } messageCount } }`,
  `query ($s: String!) { a: session(sessionId: $s) { updatedAt readCount cursor } }`,
  // These read more than the one session.
  `query ($s: String!) { session(sessionId: $s) { forkedFrom { id title } messages(last: 3) { nodes { text run { status } } } } }`,
  `query ($s: String!) { session(sessionId: $s) { title } two: session(sessionId: "two") { title messageCount } }`,
  `query ($s: String!, $n: Int) { session(sessionId: $s) { messages(last: $n) { edges { cursor node { text session { title } } } } } }`,
];

/** The text of the answer, as any client gets it. */
async function answer(query: string, variables: Readonly<Record<string, unknown>>): Promise<string> {
  const headers = { "content-type": "application/json" };
  const body = JSON.stringify({ query, variables });
  const response = await at.gateway.fetch(new Request(at.url, { method: "POST", headers, body }));
  return response.text();
}

const row = (text: string) => JSON.stringify({ type: "human", data: { content: text, response_metadata: {} } });

const sessionId = fc.constantFrom(...sessionIds);
const text = fc.constantFrom("a", 'quoted "é"', "\u{1f600}", "");
const step = fc.oneof(
  { weight: 6, arbitrary: fc.record({ kind: fc.constant("read"), sessionId, n: fc.integer({ min: 1, max: 4 }) }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant("add"), sessionId, text }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant("foreign"), sessionId, text }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant("rename"), sessionId, text }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant("markRead"), sessionId }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant("overwrite"), sessionId, text }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant("fork"), sessionId }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant("drop"), sessionId }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant("delete"), sessionId }) },
);

const mutations = {
  add: `mutation ($s: String!, $t: String) { addMessages(input: { sessionId: $s, messages: [{ role: USER, text: $t }] }) { session { id } } }`,
  rename: `mutation ($s: String!, $t: String) { updateSession(input: { sessionId: $s, title: $t }) { session { id } } }`,
  markRead: `mutation ($s: String!) { markRead(input: { sessionId: $s }) { session { id } } }`,
  fork: `mutation { forkSession(input: { sessionId: "one", newSessionId: "fork of one" }) { session { id } } }`,
  delete: `mutation ($s: String!) { deleteSession(input: { sessionId: $s }) { sessionId } }`,
};

/** What there is not, or is empty, is refused: that is a step as well. */
async function mutate(name: keyof typeof mutations, variables: Readonly<Record<string, unknown>>): Promise<void> {
  await request(at.url, mutations[name], variables).catch(() => undefined);
}

// On a busy machine its thousands of answers take their time.
test(
  "what is asked again and again is answered as a reading of its own",
  { timeout: 240_000 * propertyRuns },
  async () => {
    await checkProperty(
      fc.asyncProperty(fc.array(step, { minLength: 5, maxLength: 25 }), async (steps) => {
        for (const one of steps) {
          const { kind, sessionId: s } = one;
          const t = "text" in one ? one.text : "";
          if (kind === "foreign") await redis.lpush(s, row(t));
          else if (kind === "overwrite") await redis.lset(s, 0, row(`${t} instead`)).catch(() => undefined);
          else if (kind === "drop") await redis.rpop(s);
          else if (kind === "read") {
            const variables = { s, n: "n" in one ? one.n : 1 };
            for (const query of queries) {
              const contextValue = contextOf(at.gateway.conversations);
              const { data } = await execute({
                schema,
                document: parse(query),
                contextValue,
                variableValues: variables,
              });
              // Noted the first time, kept the second, and given again from then on.
              for (let time = 0; time < 3; time++)
                expect(await answer(query, variables)).toBe(JSON.stringify({ data }));
            }
          } else await mutate(kind, { s, t });
        }
      }),
      { runs: 40 },
    );
    // Else it would have said nothing.
    expect(sameReadings()).toBeGreaterThan(200);
  },
);

test("over a WebSocket it is the same answer, with nothing beside its data", async () => {
  await mutate("add", { s: "socket", t: "a" });
  const [query = ""] = queries;
  const expected: unknown = JSON.parse(await answer(query, { s: "socket" }));
  const raw = await openAcknowledged(at.url);
  const before = sameReadings();
  for (const id of ["1", "2", "3"]) {
    raw.send({ type: "subscribe", id, payload: { query, variables: { s: "socket" } } });
    expect(await raw.receive()).toEqual({ id, type: "next", payload: expected });
    expect(await raw.receive()).toEqual({ id, type: "complete" });
  }
  expect(sameReadings()).toBeGreaterThan(before);
  raw.socket.close();
});

test("what was read of another session is not kept with it", async () => {
  await mutate("add", { s: "origin", t: "a" });
  const fork = `mutation { forkSession(input: { sessionId: "origin", newSessionId: "copy" }) { session { id } } }`;
  await request(at.url, fork);
  const title = async () => {
    const query = `query ($s: String!) { session(sessionId: $s) { forkedFrom { title } } }`;
    let found;
    for (let time = 0; time < 5; time++) {
      found = await request<{ session: { forkedFrom: { title: string } } }>(at.url, query, { s: "copy" });
    }
    return found?.session.forkedFrom.title;
  };
  for (const t of ["First", "Second"]) {
    await mutate("rename", { s: "origin", t });
    expect(await title()).toBe(t);
  }
});
