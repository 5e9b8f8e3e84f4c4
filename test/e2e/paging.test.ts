import { afterAll, beforeAll, describe, expect } from "vitest";
import { addMessages, ask, readMessages } from "../support/gateway/conversation.ts";
import { chatTest } from "../support/gateway/chat-test.ts";
import { startGateway } from "../support/gateway/gateway.ts";
import type { TestGateway } from "../support/gateway/gateway.ts";
import { execute, refusal } from "../support/gateway/graphql-client.ts";
import type { Variables } from "../support/gateway/graphql-client.ts";
import { startTopology } from "../support/redis/project-topology.ts";
import type { TestTopology } from "../support/redis/topologies.ts";

const test = chatTest({ model: "offline" });

interface Page {
  readonly edges: readonly { readonly cursor: string; readonly node: { readonly name: string | null } }[];
  readonly nodes: readonly { readonly name: string | null }[];
  readonly pageInfo: {
    readonly hasNextPage: boolean;
    readonly hasPreviousPage: boolean;
    readonly startCursor: string | null;
    readonly endCursor: string | null;
  };
}

type Window = Readonly<{ first?: number; after?: string; last?: number; before?: string }>;

/** What a page of `all` is by Relay's definition, the two facts taken literally. */
function expected(all: readonly { readonly cursor: string; readonly name: string }[], window: Window) {
  const indexOf = (cursor: string) => all.findIndex((one) => one.cursor === cursor);
  let low = window.after === undefined ? 0 : indexOf(window.after) + 1;
  let high = window.before === undefined ? all.length : indexOf(window.before);
  if (window.first !== undefined) high = Math.min(high, low + window.first);
  else if (window.last !== undefined) low = Math.max(low, high - window.last);
  const shown = low < high ? all.slice(low, high) : [];
  return { names: shown.map(({ name }) => name), shown, low, high };
}

/** Every window over the list: both directions, each pair of ends, sizes below, at and beyond its length. */
function* windows(cursors: readonly string[]): Generator<Window> {
  const ends = [undefined, ...cursors];
  for (const after of ends) {
    for (const before of ends) {
      for (const size of [1, 2, cursors.length, cursors.length + 3]) {
        const between = { ...(after === undefined ? {} : { after }), ...(before === undefined ? {} : { before }) };
        yield { first: size, ...between };
        yield { last: size, ...between };
      }
    }
  }
}

async function checkAll(
  all: readonly { readonly cursor: string; readonly name: string }[],
  read: (window: Window) => Promise<Page>,
): Promise<void> {
  const some = [0, 2, all.length - 1].flatMap((i) => all[i]?.cursor ?? []);
  let checked = 0;
  for (const window of windows(some)) {
    const { names, shown } = expected(all, window);
    const page = await read(window);
    const where = JSON.stringify(window);
    expect(
      page.nodes.map(({ name }) => name),
      where,
    ).toEqual(names);
    expect(
      page.edges.map(({ node }) => node.name),
      where,
    ).toEqual(names);
    expect(
      page.edges.map(({ cursor }) => cursor),
      where,
    ).toEqual(shown.map(({ cursor }) => cursor));
    if (shown.length > 0) {
      expect(page.pageInfo, where).toEqual({
        startCursor: shown[0]?.cursor,
        endCursor: shown.at(-1)?.cursor,
        hasPreviousPage: shown[0] !== all[0],
        hasNextPage: shown.at(-1) !== all.at(-1),
      });
    } else {
      expect([page.pageInfo.startCursor, page.pageInfo.endCursor], where).toEqual([null, null]);
    }
    checked += 1;
  }
  expect(checked).toBe(128);
}

describe("pages of messages", () => {
  const query = `query ($sessionId: String!, $first: Int, $after: String, $last: Int, $before: String) {
    session(sessionId: $sessionId) { messages(first: $first, after: $after, last: $last, before: $before) {
      edges { cursor node { name: text } } nodes { name: text }
      pageInfo { hasNextPage hasPreviousPage startCursor endCursor }
    } }
  }`;

  async function page(url: string, sessionId: string, window: Window = {}): Promise<Page> {
    return (await execute<{ session: { messages: Page } }>(url, query, { sessionId, ...window })).session.messages;
  }

  async function fill(url: string, sessionId: string, count: number): Promise<void> {
    for (let from = 0; from < count; from += 500) {
      const messages = Array.from({ length: Math.min(500, count - from) }, (_, i) => ({
        role: "USER",
        text: `m${from + i}`,
      }));
      await addMessages(url, sessionId, messages);
    }
  }

  test("every window, in both directions, with true facts", async ({ url }) => {
    await fill(url, "windows", 7);
    const all = (await page(url, "windows")).edges.map(({ cursor, node }) => ({ cursor, name: node.name ?? "" }));
    expect(all.map(({ name }) => name)).toEqual(["m0", "m1", "m2", "m3", "m4", "m5", "m6"]);
    await checkAll(all, (window) => page(url, "windows", window));
  });

  test("the last 50 by default, 200 at most, oldest first always", async ({ url }) => {
    await fill(url, "long", 450);
    const last = await page(url, "long");
    expect(last.nodes.map(({ name }) => name)).toEqual(Array.from({ length: 50 }, (_, i) => `m${400 + i}`));
    expect([last.pageInfo.hasPreviousPage, last.pageInfo.hasNextPage]).toEqual([true, false]);
    expect((await page(url, "long", { first: 200 })).nodes).toHaveLength(200);
    for (const window of [{ first: 201 }, { last: 201 }, { first: 0 }, { last: -1 }, { first: 1, last: 1 }]) {
      const { extensions } = await refusal(url, query, { sessionId: "long", ...window });
      expect(extensions?.code, JSON.stringify(window)).toBe("BAD_USER_INPUT");
    }
    // Walked page by page, nothing is missing and nothing is twice.
    const walked: (string | null)[] = [];
    let after: string | undefined;
    for (;;) {
      const next: Page = await page(url, "long", { first: 100, ...(after === undefined ? {} : { after }) });
      walked.push(...next.nodes.map(({ name }) => name));
      if (!next.pageInfo.hasNextPage) break;
      after = next.pageInfo.endCursor ?? undefined;
    }
    expect(walked).toEqual(Array.from({ length: 450 }, (_, i) => `m${i}`));
  });

  test("a new message neither moves a page nor ends the validity of its cursors", async ({ url }) => {
    await fill(url, "growing", 5);
    const first = await page(url, "growing", { first: 2 });
    await ask(url, "growing", "one more");
    expect(await page(url, "growing", { first: 2 })).toEqual(first);
    expect((await page(url, "growing", { first: 2, after: first.pageInfo.endCursor ?? "" })).nodes).toEqual([
      { name: "m2" },
      { name: "m3" },
    ]);
  });

  test("an empty session has an empty page, and a cursor that misses nothing", async ({ url }) => {
    type Data = { createSession: { session: { cursor: string; messages: Page } } };
    const create = `mutation { createSession(input: { sessionId: "empty" }) { session { cursor messages { nodes { name: text } pageInfo { hasNextPage hasPreviousPage } } } } }`;
    const { session } = (await execute<Data>(url, create)).createSession;
    expect(session.messages).toEqual({ nodes: [], pageInfo: { hasNextPage: false, hasPreviousPage: false } });
    for (const window of [{ after: session.cursor }, { before: session.cursor }]) {
      for (const count of [{ first: 5 }, { last: 5 }]) {
        const { pageInfo } = await page(url, "empty", { ...count, ...window });
        expect([pageInfo.hasPreviousPage, pageInfo.hasNextPage]).toEqual([false, false]);
      }
    }
    await fill(url, "empty", 2);
    expect((await page(url, "empty", { first: 5, after: session.cursor })).nodes).toEqual([
      { name: "m0" },
      { name: "m1" },
    ]);
  });

  test("INVALID_CURSOR is no cursor of this session; CURSOR_EXPIRED was one", async ({ url }) => {
    await fill(url, "expired", 3);
    await fill(url, "other", 3);
    const [message] = await readMessages(url, "expired");
    const cursor = message?.cursor ?? "";
    const code = async (variables: Variables) => (await refusal(url, query, variables)).extensions?.code;
    for (const after of [
      "nonsense",
      `${cursor}A`,
      cursor.slice(0, -2),
      (await readMessages(url, "other"))[0]?.cursor,
    ]) {
      expect(await code({ sessionId: "expired", first: 1, after })).toBe("INVALID_CURSOR");
      expect(await code({ sessionId: "expired", last: 1, before: after })).toBe("INVALID_CURSOR");
    }
    await execute(url, `mutation { clearHistory(input: { sessionId: "expired" }) { session { id } } }`);
    expect(await code({ sessionId: "expired", first: 1, after: cursor })).toBe("CURSOR_EXPIRED");
    await fill(url, "expired", 3);
    expect(await code({ sessionId: "expired", first: 1, after: cursor })).toBe("CURSOR_EXPIRED");
    expect(await code({ sessionId: "expired", last: 1, before: cursor })).toBe("CURSOR_EXPIRED");
  });

  test("the expired cursor makes its field an error, not the reading", async ({ url }) => {
    await fill(url, "partly", 2);
    const both = `{ session(sessionId: "partly") { messageCount messages(first: 1) { nodes { text } } } }`;
    expect(await execute(url, both)).toEqual({ session: { messageCount: 2, messages: { nodes: [{ text: "m0" }] } } });
    const two = `{ session(sessionId: "partly") { first: messages(first: 1) { nodes { text } } last: messages(last: 1) { nodes { text } } } }`;
    expect(await execute(url, two)).toEqual({
      session: { first: { nodes: [{ text: "m0" }] }, last: { nodes: [{ text: "m1" }] } },
    });
  });
});

describe("pages of sessions", () => {
  // With nobody else's sessions in the list.
  let alone: TestTopology;
  let own: TestGateway;
  const query = `query ($first: Int, $after: String, $last: Int, $before: String, $filter: SessionFilter) {
    sessions(first: $first, after: $after, last: $last, before: $before, filter: $filter) {
      edges { cursor node { name: sessionId } } nodes { name: sessionId }
      pageInfo { hasNextPage hasPreviousPage startCursor endCursor }
    }
  }`;

  async function page(variables: Variables = {}): Promise<Page> {
    return (await execute<{ sessions: Page }>(own.url, query, variables)).sessions;
  }

  async function named(filter: object): Promise<readonly (string | null)[]> {
    return (await page({ filter, first: 100 })).nodes.map(({ name }) => name);
  }

  async function create(input: object): Promise<void> {
    await execute(
      own.url,
      `mutation ($input: CreateSessionInput!) { createSession(input: $input) { session { id } } }`,
      { input },
    );
  }

  async function update(input: object): Promise<void> {
    await execute(
      own.url,
      `mutation ($input: UpdateSessionInput!) { updateSession(input: $input) { session { id } } }`,
      { input },
    );
  }

  beforeAll(async () => {
    alone = await startTopology();
    own = await startGateway({ redis: alone.redis });
    for (let i = 0; i < 7; i += 1) {
      const metadata = { kind: i % 2 === 0 ? "even" : "odd", nested: { n: i } };
      await create({ sessionId: `s${i}`, title: `Title ${i % 3} OF s${i}`, metadata });
    }
  });
  afterAll(async () => {
    await own.close();
    await alone.stop();
  });

  test("newest first; every window, in both directions, with true facts", async () => {
    const all = (await page()).edges.map(({ cursor, node }) => ({ cursor, name: node.name ?? "" }));
    expect(all.map(({ name }) => name)).toEqual(["s6", "s5", "s4", "s3", "s2", "s1", "s0"]);
    await checkAll(all, (window) => page(window));
  });

  test("100 at most, and cursors are checked", async () => {
    for (const window of [{ first: 101 }, { last: 101 }, { first: 1, last: 1 }]) {
      expect((await refusal(own.url, query, window)).extensions?.code).toBe("BAD_USER_INPUT");
    }
    const { endCursor } = (await page({ first: 1 })).pageInfo;
    for (const after of ["x", `${endCursor ?? ""}=`, ""]) {
      expect((await refusal(own.url, query, { first: 1, after })).extensions?.code).toBe("INVALID_CURSOR");
    }
  });

  test("filters hold together, and pages of a filtered list are whole", async () => {
    expect(await named({ titleContains: "title 1 of" })).toEqual(["s4", "s1"]);
    expect(await named({ metadata: { kind: "odd" } })).toEqual(["s5", "s3", "s1"]);
    expect(await named({ metadata: { kind: "odd", nested: { n: 3 } } })).toEqual(["s3"]);
    expect(await named({ metadata: { kind: "odd" }, titleContains: "TITLE 1" })).toEqual(["s1"]);
    expect(await named({ metadata: { missing: null } })).toEqual([]);
    const filter = { metadata: { kind: "even" } };
    const first = await page({ filter, first: 2 });
    expect([first.nodes, first.pageInfo.hasNextPage, first.pageInfo.hasPreviousPage]).toEqual([
      [{ name: "s6" }, { name: "s4" }],
      true,
      false,
    ]);
    const second = await page({ filter, first: 2, after: first.pageInfo.endCursor });
    expect([second.nodes, second.pageInfo.hasNextPage, second.pageInfo.hasPreviousPage]).toEqual([
      [{ name: "s2" }, { name: "s0" }],
      false,
      true,
    ]);
  });

  test("archived ones are left out, or alone, or with the rest", async () => {
    await update({ sessionId: "s2", archived: true });
    expect(await named({})).toEqual(["s6", "s5", "s4", "s3", "s1", "s0"]);
    expect((await page()).nodes).toHaveLength(6);
    expect(await named({ archived: true })).toEqual(["s2"]);
    expect(await named({ archived: null })).toEqual(["s6", "s5", "s4", "s3", "s2", "s1", "s0"]);
    await update({ sessionId: "s2", archived: false });
    expect(await named({ archived: true })).toEqual([]);
  });

  test("a message moves its session to the top, a rename does not; updatedAfter is strict", async () => {
    type Data = { session: { updatedAt: string } };
    const updatedAt = async (sessionId: string) =>
      (
        await execute<Data>(own.url, `query ($sessionId: String!) { session(sessionId: $sessionId) { updatedAt } }`, {
          sessionId,
        })
      ).session.updatedAt;
    const newest = await updatedAt("s6");
    await update({ sessionId: "s3", title: "Renamed" });
    expect((await page({ first: 1 })).nodes).toEqual([{ name: "s6" }]);
    expect(await named({ updatedAfter: newest })).toEqual([]);
    await addMessages(own.url, "s0", [{ role: "USER", text: "up" }]);
    expect((await page({ first: 2 })).nodes).toEqual([{ name: "s0" }, { name: "s6" }]);
    expect(await named({ updatedAfter: newest })).toEqual(["s0"]);
    expect(Date.parse(await updatedAt("s0"))).toBeGreaterThan(Date.parse(newest));
  });

  test("a deleted session leaves the list; a page behind its cursor is still right", async () => {
    const { edges } = await page({ first: 3 });
    const at = edges[2];
    await execute(
      own.url,
      `mutation ($sessionId: String!) { deleteSession(input: { sessionId: $sessionId }) { deletedId } }`,
      {
        sessionId: at?.node.name,
      },
    );
    const rest = await page({ first: 10, after: at?.cursor });
    expect(rest.nodes).toHaveLength(4);
    expect(rest.pageInfo).toMatchObject({ hasPreviousPage: true, hasNextPage: false });
    expect(await named({})).not.toContain(at?.node.name);
  });
});
