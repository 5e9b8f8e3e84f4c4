import { afterAll, beforeAll, expect, test } from "vitest";
import { recordOnly } from "../../src/conversation/conversations/api.ts";
import { anonymous } from "../../src/conversation/session.ts";
import { startGateway, type TestGateway } from "../support/gateway/gateway.ts";
import { execute, subscribe, type Variables } from "../support/gateway/graphql-client.ts";
import { waitUntil } from "../support/redis/redis-command.ts";
import { startRedis, type TestRedis } from "../support/redis/redis-server.ts";
import { must } from "../support/store/store.ts";

const count = 2000;
let server: TestRedis;
let one: TestGateway;
let two: TestGateway;

beforeAll(async () => {
  server = await startRedis({ appendonly: false });
  [one, two] = await Promise.all([startGateway({ redis: server.url }), startGateway({ redis: server.url })]);
  const settings = { instructions: null, model: null, memory: null, ttlSeconds: undefined, idempotencyKey: null };
  for (let i = 0; i < count; i += 100) {
    const create = (n: number) =>
      one.gateway.conversations.createSession(
        anonymous,
        {
          sessionId: id(n),
          title: `Talk number ${n}`,
          metadata: { team: n % 7, tags: { odd: n % 2 === 1 } },
          ...settings,
        },
        recordOnly,
      );
    await Promise.all(Array.from({ length: 100 }, (_, n) => create(i + n)));
  }
});

afterAll(async () => {
  await Promise.all([one.close(), two.close()]);
  await server.stop();
});

function id(n: number): string {
  return `s${String(n).padStart(4, "0")}`;
}

interface Listed {
  readonly sessionId: string;
  readonly updatedAt: string;
  readonly messageCount: number;
}

interface Page {
  readonly sessions: {
    readonly edges: readonly { readonly cursor: string; readonly node: Listed }[];
    readonly pageInfo: {
      readonly hasNextPage: boolean;
      readonly hasPreviousPage: boolean;
      readonly startCursor: string | null;
      readonly endCursor: string | null;
    };
  };
}

const query = `query ($first: Int, $after: String, $last: Int, $before: String, $filter: SessionFilter) {
  sessions(first: $first, after: $after, last: $last, before: $before, filter: $filter) {
    edges { cursor node { sessionId updatedAt messageCount } }
    pageInfo { hasNextPage hasPreviousPage startCursor endCursor }
  }
}`;

async function pageOf(variables: Variables): Promise<Page["sessions"]> {
  return (await execute<Page>(two.url, query, variables)).sessions;
}

/** All pages from the newest on. */
async function walk(filter: object | null, size: number, between: () => Promise<void> = () => Promise.resolve()) {
  const found: Listed[] = [];
  for (let after: string | null = null; ;) {
    const { edges, pageInfo } = await pageOf({ first: size, after, filter });
    found.push(...edges.map(({ node }) => node));
    expect(pageInfo.hasPreviousPage).toBe(after !== null);
    if (!pageInfo.hasNextPage) return found;
    expect(edges).toHaveLength(size);
    after = pageInfo.endCursor;
    await between();
  }
}

test("pages give each session once, newest first, in both directions", async () => {
  const forward = await walk(null, 100);
  expect(new Set(forward.map(({ sessionId }) => sessionId)).size).toBe(count);
  expect(forward).toHaveLength(count);
  const times = forward.map(({ updatedAt }) => updatedAt);
  expect(times).toEqual(times.toSorted().reverse());

  const backward: Listed[] = [];
  for (let before: string | null = null; ;) {
    const { edges, pageInfo } = await pageOf({ last: 73, before });
    backward.unshift(...edges.map(({ node }) => node));
    expect(pageInfo.hasNextPage).toBe(before !== null);
    if (!pageInfo.hasPreviousPage) break;
    before = pageInfo.startCursor;
  }
  expect(backward).toEqual(forward);
});

test("filters find what fits, on full pages", async () => {
  const ids = (some: readonly Listed[]) => some.map(({ sessionId }) => sessionId).sort();
  const numbers = (fits: (n: number) => boolean) =>
    Array.from({ length: count }, (_, n) => n)
      .filter(fits)
      .map(id);
  expect(ids(await walk({ titleContains: "NUMBER 19" }, 50))).toEqual(numbers((n) => String(n).startsWith("19")));
  expect(ids(await walk({ metadata: { team: 3 } }, 60))).toEqual(numbers((n) => n % 7 === 3));
  expect(ids(await walk({ metadata: { team: 3, tags: { odd: true } } }, 50))).toEqual(
    numbers((n) => n % 7 === 3 && n % 2 === 1),
  );
  expect(await walk({ titleContains: "nothing like it" }, 50)).toEqual([]);
  const archive = `mutation ($id: String!) { updateSession(input: { sessionId: $id, archived: true }) { session { id } } }`;
  for (const n of [5, 1005, 1999]) await execute(one.url, archive, { id: id(n) });
  expect(ids(await walk({ archived: true }, 2))).toEqual([5, 1005, 1999].map(id));
  expect(await walk({ archived: null }, 100)).toHaveLength(count);
  expect(await walk({ archived: false }, 100)).toHaveLength(count - 3);
  expect(await walk(null, 100)).toHaveLength(count - 3);
});

test("a sidebar that lists and listens is complete, while sessions move, come and go", async () => {
  interface Change {
    readonly __typename: "SessionListOpened" | "SessionAdded" | "SessionUpdated" | "SessionRemoved";
    readonly session?: Listed;
    readonly sessionId?: string;
  }
  const changes = subscribe<Change>(
    two.url,
    `subscription { sessionChanged {
      __typename
      ... on SessionAdded { session { sessionId updatedAt messageCount } }
      ... on SessionUpdated { session { sessionId updatedAt messageCount } }
      ... on SessionRemoved { sessionId }
    } }`,
  );
  await changes.waitFor(({ __typename }) => __typename === "SessionListOpened");
  const write = async (sessionId: string) => {
    const input = { sessionId, messages: [{ role: "USER", text: "moves up" }] };
    const add = `mutation ($input: AddMessagesInput!) { addMessages(input: $input) { session { id } } }`;
    await execute(one.url, add, { input });
  };
  const remove = (sessionId: string) =>
    execute(one.url, `mutation ($id: String!) { deleteSession(input: { sessionId: $id }) { sessionId } }`, {
      id: sessionId,
    });
  let step = 0;
  const listed = await walk({ archived: null }, 100, async () => {
    step++;
    // From the far end, which the client has not listed yet, from the near one, and new ones.
    await Promise.all([write(id(step * 3)), write(id(count - step * 3)), write(`new ${step}`)]);
    await remove(id(step * 3 + 1));
    await remove(id(count - step * 3 - 1));
  });
  expect(new Set(listed.map(({ sessionId }) => sessionId)).size).toBe(listed.length);
  await write("last");

  const sidebar = () => {
    const known = new Map(listed.map(({ sessionId, messageCount }) => [sessionId, messageCount]));
    for (const { session, sessionId } of changes.events) {
      if (session) known.set(session.sessionId, session.messageCount);
      else if (sessionId !== undefined) known.delete(sessionId);
    }
    return [...known].sort();
  };
  const truth = (await walk({ archived: null }, 100))
    .map(({ sessionId, messageCount }) => [sessionId, messageCount])
    .sort();
  expect(truth).toHaveLength(count - 2 * step + step + 1);
  await waitUntil("the sidebar is complete", () =>
    Promise.resolve(JSON.stringify(sidebar()) === JSON.stringify(truth)),
  );
  expect(must(changes.events.at(-1)).__typename).not.toBe("SessionListOpened");
  changes.close();
});
