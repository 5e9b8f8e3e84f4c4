import { randomUUID } from "node:crypto";
import fc from "fast-check";
import { execute, Kind, parse } from "graphql";
import { Redis } from "ioredis";
import { afterAll, beforeAll, expect, test } from "vitest";

import type { StoreRead } from "../../src/conversation/ports/store.ts";
import type { Conversations } from "../../src/conversation/conversations/conversations.ts";
import { CompiledQuery } from "../../src/operations/compiled-query.ts";
import { jsonOfData, Rendered } from "../../src/graphql/rendered.ts";
import { schema } from "../../src/graphql/schema.ts";
import { startGateway } from "../support/gateway/gateway.ts";
import type { TestGateway } from "../support/gateway/gateway.ts";
import { execute as request } from "../support/gateway/graphql-client.ts";
import { contextOf } from "../support/gateway/graphql-operation.ts";
import { checkProperty } from "../support/store/property.ts";
import { startRedis } from "../support/redis/redis-server.ts";
import type { TestRedis } from "../support/redis/redis-server.ts";

// Who asks the same again and again is answered from what was made of the session before, where Redis answers as it did.
// However writers of all kinds come between, that must be what a reading of its own says.

let server: TestRedis;
let at: TestGateway;
let redis: Redis;
/** The same conversations, of which no reading is like another: nothing was made of it before. */
let anew: Conversations;

beforeAll(async () => {
  server = await startRedis({ appendonly: false });
  at = await startGateway({ redis: server.url, model: "offline" });
  redis = new Redis(server.url);
  const { conversations } = at.gateway;
  anew = new Proxy(conversations, {
    get(target, name) {
      if (name === "readSession") {
        return (...[viewer, sessionId, read]: Parameters<Conversations["readSession"]>) => {
          const different: StoreRead = { ...read, runId: randomUUID() };
          return conversations.readSession(viewer, sessionId, different);
        };
      }
      return Reflect.get(target, name) as unknown;
    },
  });
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
].map((text) => {
  const document = parse(text);
  const [operation] = document.definitions;
  if (operation?.kind !== Kind.OPERATION_DEFINITION) throw new Error("That is no operation");
  return { document, compiled: new CompiledQuery(schema, document, operation, 1000) };
});

/** As the transport counts (transport/direct.ts). */
function counting(): ReturnType<typeof contextOf> & { asked: number } {
  const { conversations, ...context } = contextOf(at.gateway.conversations);
  return {
    ...context,
    asked: 0,
    get conversations() {
      this.asked += 1;
      return conversations;
    },
  };
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

test("what is asked again and again is answered as a reading of its own", async () => {
  let rendered = 0;
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
          for (const { document, compiled } of queries) {
            const contextValue = contextOf(anew);
            const expected = await execute({ schema, document, contextValue, variableValues: variables });
            // Kept from its second time on, made from the third, used from the fourth.
            for (let time = 0; time < 5; time++) {
              const { data } = (await compiled.run(counting(), variables)) ?? {};
              if (!data) throw new Error("There is no answer");
              expect(jsonOfData(data)).toBe(JSON.stringify(expected.data));
              rendered += Object.values(data).filter((value) => value instanceof Rendered).length;
            }
          }
        } else await mutate(kind, { s, t });
      }
    }),
    { runs: 40 },
  );
  // Else it would have said nothing.
  expect(rendered).toBeGreaterThan(200);
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
