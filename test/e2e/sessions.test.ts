import { describe, expect } from "vitest";
import { addMessages, ask, chosenId, follow, readMessages, sendOnly, texts } from "../support/gateway/conversation.ts";
import type { SessionFields } from "../support/gateway/conversation.ts";
import { chatTest } from "../support/gateway/chat-test.ts";
import { execute, refusal } from "../support/gateway/graphql-client.ts";

const test = chatTest({ models: ["offline"], memory: { strategy: "WINDOW", maxTurns: 7 } });

const settings = `id sessionId title instructions model memory { strategy maxTurns maxTokens } metadata archived ttlSeconds expiresAt
  messageCount readCount updatedAt createdAt forkedFrom { sessionId }`;

interface Settings extends SessionFields {
  readonly instructions: string | null;
  readonly model: string;
  readonly memory: object;
  readonly metadata: object;
  readonly archived: boolean;
  readonly ttlSeconds: number | null;
  readonly expiresAt: string | null;
  readonly createdAt: string | null;
  readonly forkedFrom: { readonly sessionId: string } | null;
}

const createSession = `mutation ($input: CreateSessionInput!) { createSession(input: $input) { session { ${settings} } } }`;
const updateSession = `mutation ($input: UpdateSessionInput!) { updateSession(input: $input) { session { ${settings} } } }`;
const forkSession = `mutation ($input: ForkSessionInput!) { forkSession(input: $input) { session { ${settings} } } }`;
const addOnly = `mutation ($input: AddMessagesInput!) { addMessages(input: $input) { messages { id text position } } }`;
const markRead = `mutation ($input: MarkReadInput!) { markRead(input: $input) { session { ${settings} } } }`;
const deleteSession = `mutation ($sessionId: String!) { deleteSession(input: { sessionId: $sessionId }) { deletedId } }`;

/** The session that a mutation answers with. */
async function session(url: string, mutation: string, input: object): Promise<Settings> {
  const data = await execute<Record<string, { readonly session: Settings }>>(url, mutation, { input });
  const [payload] = Object.values(data);
  if (!payload) throw new Error("No payload");
  return payload.session;
}

async function read(url: string, sessionId: string): Promise<Settings | null> {
  const query = `query ($sessionId: String!) { session(sessionId: $sessionId) { ${settings} } }`;
  return (await execute<{ session: Settings | null }>(url, query, { sessionId })).session;
}

async function codeOf(url: string, document: string, input: object): Promise<string | undefined> {
  return (await refusal(url, document, { input })).extensions?.code;
}

const defaults = {
  title: null,
  instructions: null,
  model: "openai:gpt-4o-mini",
  metadata: {},
  archived: false,
  ttlSeconds: null,
};
const usualMemory = { strategy: "WINDOW", maxTurns: 7, maxTokens: null };

describe("createSession and updateSession", () => {
  test("an empty input makes a session with the defaults, under an id of the gateway's", async ({ url }) => {
    const made = await session(url, createSession, {});
    expect(made).toMatchObject({
      ...defaults,
      memory: usualMemory,
      messageCount: 0,
      readCount: 0,
      expiresAt: null,
      forkedFrom: null,
    });
    expect(made.id).toBe(Buffer.from(`Session:${made.sessionId}`).toString("base64"));
    expect(await read(url, made.sessionId)).toEqual(made);
    expect(made.updatedAt).toBe(made.createdAt);
  });

  const given = {
    title: "Bears",
    instructions: "Growl.",
    model: "offline",
    memory: { strategy: "TOKEN_BUFFER", maxTokens: 99 },
    metadata: { a: [1, { b: null }], lc: 1 },
    ttlSeconds: 3600,
  };

  test("what is left out stays, null goes back to the default, metadata is replaced whole", async ({ redis, url }) => {
    const made = await session(url, createSession, { sessionId: "settings", ...given });
    const stored = { ...given, memory: { strategy: "TOKEN_BUFFER", maxTurns: null, maxTokens: 99 } };
    expect(made).toMatchObject(stored);
    // Any write is one that the TTL slides by.
    const { expiresAt, ...kept } = made;
    expect(Date.parse(expiresAt ?? "")).toBeGreaterThan(Date.parse(made.createdAt ?? ""));
    expect(await session(url, updateSession, { sessionId: "settings" })).toMatchObject(kept);
    expect(
      await session(url, updateSession, { sessionId: "settings", title: "Wolves", metadata: { c: 2 } }),
    ).toMatchObject({
      ...kept,
      title: "Wolves",
      metadata: { c: 2 },
    });
    const allNull = {
      title: null,
      instructions: null,
      model: null,
      memory: null,
      metadata: null,
      ttlSeconds: null,
      archived: null,
    };
    expect(await session(url, updateSession, { sessionId: "settings", ...allNull })).toEqual({
      ...made,
      ...defaults,
      memory: usualMemory,
      expiresAt: null,
    });
    expect(await redis.raw().pttl("settings")).toBeLessThan(0);
  });

  test("subscribers get a change of settings, and it does not move updatedAt", async ({ url }) => {
    const { session: before } = await ask(url, "told", "Hello");
    const stream = await follow(url, "told");
    const changed = await session(url, updateSession, { sessionId: "told", title: "Hi there" });
    const event = await stream.waitFor(({ __typename }) => __typename === "SessionUpdated");
    stream.close();
    expect(event).toMatchObject({ session: { title: "Hi there", messageCount: 2 } });
    expect(changed.updatedAt).toBe(before.updatedAt);
  });

  test("SESSION_EXISTS, also for a history of foreign code; the same idempotencyKey gives the first one back", async ({
    redis,
    url,
  }) => {
    await session(url, createSession, { sessionId: "taken" });
    expect(await codeOf(url, createSession, { sessionId: "taken" })).toBe("SESSION_EXISTS");
    await redis.raw().lpush("taken-foreign", `{"type":"human","data":{"content":"x"}}`);
    expect(await codeOf(url, createSession, { sessionId: "taken-foreign" })).toBe("SESSION_EXISTS");
    const keyed = { title: "Keyed", idempotencyKey: "key-1" };
    const [one, two] = await Promise.all([session(url, createSession, keyed), session(url, createSession, keyed)]);
    expect(two).toEqual(one);
    expect((await session(url, createSession, { ...keyed, idempotencyKey: "key-2" })).sessionId).not.toBe(
      one.sessionId,
    );
    expect(await codeOf(url, createSession, { ...keyed, title: "Other" })).toBe("SESSION_EXISTS");
  });

  test("mistakes name their field", async ({ url }) => {
    const cases: readonly (readonly [object, string])[] = [
      [{ sessionId: "" }, "input.sessionId"],
      [{ sessionId: "parley:x" }, "input.sessionId"],
      [{ sessionId: "a\nb" }, "input.sessionId"],
      [{ sessionId: "x".repeat(513) }, "input.sessionId"],
      [{ model: "openai:nope" }, "input.model"],
      [{ ttlSeconds: 0 }, "input.ttlSeconds"],
      [{ metadata: [1] }, "input.metadata"],
      [{ title: "x".repeat(501) }, "input.title"],
    ];
    for (const [input, field] of cases) {
      const { extensions } = await refusal(url, createSession, { input });
      expect(extensions, JSON.stringify(input).slice(0, 60)).toMatchObject({ code: "BAD_USER_INPUT", field });
    }
    expect(await codeOf(url, updateSession, { sessionId: "nowhere", title: "x" })).toBe("NOT_FOUND");
    expect(await codeOf(url, sendOnly, { sessionId: "neither" })).toBe("BAD_USER_INPUT");
    expect(await codeOf(url, sendOnly, { sessionId: "both", text: "x", content: [{ text: "y" }] })).toBe(
      "BAD_USER_INPUT",
    );
    expect(await codeOf(url, sendOnly, { sessionId: "empty-text", text: "" })).toBe("BAD_USER_INPUT");
    expect(await read(url, "neither")).toBeNull();
  });
});

describe("markRead", () => {
  test("raises readCount to a cursor or to the end, and never goes back; sending reads too", async ({ url }) => {
    const added = await addMessages(
      url,
      "read",
      ["a", "b", "c", "d"].map((text) => ({ role: "ASSISTANT", text })),
    );
    expect((await read(url, "read"))?.readCount).toBe(0);
    expect((await session(url, markRead, { sessionId: "read", through: added[1]?.cursor })).readCount).toBe(2);
    expect((await session(url, markRead, { sessionId: "read", through: added[0]?.cursor })).readCount).toBe(2);
    expect((await session(url, markRead, { sessionId: "read" })).readCount).toBe(4);
    const { session: after } = await ask(url, "read", "I am here");
    // The reply to it is still unread.
    expect([after.messageCount, after.readCount]).toEqual([6, 5]);
    expect(await codeOf(url, markRead, { sessionId: "read", through: "nonsense" })).toBe("INVALID_CURSOR");
    expect(await codeOf(url, markRead, { sessionId: "read-nowhere" })).toBe("NOT_FOUND");
  });
});

describe("addMessages", () => {
  const two = [
    { role: "USER", text: "one", messageId: "a1" },
    { role: "ASSISTANT", text: "two", messageId: "a2" },
  ];

  test("starts an unknown session; the same messageIds or key again give the first call's messages", async ({
    url,
  }) => {
    const first = await addMessages(url, "added", two);
    expect(first.map(({ id, position }) => [id, position])).toEqual([
      [chosenId("added", "a1"), 0],
      [chosenId("added", "a2"), 1],
    ]);
    expect(await addMessages(url, "added", two)).toEqual(first);
    const keyed = { sessionId: "added", messages: [{ role: "USER", text: "three" }], idempotencyKey: "k" };
    const once = await execute(url, addOnly, { input: keyed });
    expect(await execute(url, addOnly, { input: keyed })).toEqual(once);
    expect(await texts(url, "added")).toEqual(["USER: one", "ASSISTANT: two", "USER: three"]);
  });

  test("what lies where its messages lay is not given back for them", async ({ url }) => {
    const [one] = await addMessages(url, "added-gone", two);
    await execute(url, `mutation { clearHistory(input: { sessionId: "added-gone" }) { session { id } } }`);
    await addMessages(url, "added-gone", [{ role: "USER", text: "another's" }]);
    expect(one?.position).toBe(0);
    expect(await addMessages(url, "added-gone", two)).toEqual([]);
    expect(await texts(url, "added-gone")).toEqual(["USER: another's"]);
  });

  test("all or none", async ({ url }) => {
    const add = (messages: readonly object[]) => codeOf(url, addOnly, { sessionId: "none", messages });
    const good = { role: "USER", text: "good" };
    expect(await add([good, { role: "FUNCTION", text: "x", name: "f" }])).toBe("BAD_USER_INPUT");
    expect(await add([good, { role: "OTHER", text: "x" }])).toBe("BAD_USER_INPUT");
    expect(await add([good, { role: "TOOL", text: "x" }])).toBe("BAD_USER_INPUT");
    expect(await add([good, { role: "USER" }])).toBe("BAD_USER_INPUT");
    expect(await add([])).toBe("BAD_USER_INPUT");
    expect(await read(url, "none")).toBeNull();
    await addMessages(url, "none", two);
    expect(await add([good, { role: "USER", text: "another", messageId: "a1" }])).toBe("MESSAGE_ID_REUSED");
    expect(
      await add([
        { role: "USER", text: "one", messageId: "a1" },
        { role: "USER", text: "new", messageId: "a3" },
      ]),
    ).toBe("MESSAGE_ID_REUSED");
    expect(
      await add([
        { ...good, messageId: "same" },
        { ...good, messageId: "same" },
      ]),
    ).toBe("BAD_USER_INPUT");
    expect(await readMessages(url, "none")).toHaveLength(2);
  });
});

describe("forkSession", () => {
  test("whole: history and settings, with ids that resolve in the fork; the origin stays as it is", async ({ url }) => {
    await session(url, createSession, {
      sessionId: "origin",
      title: "Origin",
      instructions: "Be brief.",
      metadata: { x: 1 },
    });
    await ask(url, "origin", "Hi! I'm Jim.", { messageId: "hi" });
    const before = await readMessages(url, "origin");
    const fork = await session(url, forkSession, { sessionId: "origin", newSessionId: "fork" });
    expect(fork).toMatchObject({
      sessionId: "fork",
      title: "Origin",
      instructions: "Be brief.",
      metadata: { x: 1 },
      messageCount: 2,
      forkedFrom: { sessionId: "origin" },
    });
    const copied = await readMessages(url, "fork");
    expect(copied.map(({ text, position }) => [text, position])).toEqual(
      before.map(({ text, position }) => [text, position]),
    );
    const ids = copied.map(({ id }) => id);
    const nodes = `query ($ids: [ID!]!) { nodes(ids: $ids) { id ... on Message { text session { sessionId } } } }`;
    expect(await execute(url, nodes, { ids })).toEqual({
      nodes: copied.map(({ id, text }) => ({ id, text, session: { sessionId: "fork" } })),
    });
    expect(new Set([...ids, ...before.map(({ id }) => id)]).size).toBe(4);
    // Each goes its own way.
    expect((await ask(url, "fork", "What is my name?")).reply?.text).toBe("Your name is Jim.");
    expect(await readMessages(url, "origin")).toEqual(before);
    await execute(url, deleteSession, { sessionId: "origin" });
    expect((await read(url, "fork"))?.forkedFrom).toBeNull();
  });

  test("through a message: that one included", async ({ url }) => {
    await ask(url, "branch", "First");
    const { userMessage } = await ask(url, "branch", "Second");
    const fork = await session(url, forkSession, {
      sessionId: "branch",
      through: userMessage?.cursor,
      title: "Branch",
    });
    expect(fork).toMatchObject({ title: "Branch", messageCount: 3 });
    expect(await texts(url, fork.sessionId)).toEqual(["USER: First", "ASSISTANT: You said: First", "USER: Second"]);
  });

  test("is idempotent by its key, and refuses what does not fit", async ({ url }) => {
    await ask(url, "forked", "First");
    const keyed = { sessionId: "forked", idempotencyKey: "f1" };
    const first = await session(url, forkSession, keyed);
    expect(await session(url, forkSession, keyed)).toEqual(first);
    expect(await codeOf(url, forkSession, { sessionId: "forked", newSessionId: "forked" })).toBe("SESSION_EXISTS");
    expect(await codeOf(url, forkSession, { sessionId: "fork-nowhere" })).toBe("NOT_FOUND");
    expect(await codeOf(url, forkSession, { sessionId: "forked", through: "x" })).toBe("INVALID_CURSOR");
    const [old] = await readMessages(url, "forked");
    await execute(url, `mutation { clearHistory(input: { sessionId: "forked" }) { session { id } } }`);
    expect(await codeOf(url, forkSession, { sessionId: "forked", through: old?.cursor })).toBe("CURSOR_EXPIRED");
  });
});

describe("node", () => {
  test("finds each form of id, and nothing for what is none", async ({ redis, url }) => {
    const { run, reply, userMessage } = await ask(url, "each-form", "Chosen", { messageId: "mine" });
    await redis.raw().lpush("each-form", `{"type":"human","data":{"content":"foreign","id":"mine"}}`);
    const [, , foreign] = await readMessages(url, "each-form");
    const sessionNode = Buffer.from("Session:each-form").toString("base64");
    const ids = [sessionNode, run.id, userMessage?.id, reply?.id, foreign?.id];
    expect(new Set(ids).size).toBe(5);
    const query = `query ($ids: [ID!]!) { nodes(ids: $ids) { __typename id ... on Message { text } } }`;
    const bad = [
      "",
      "x",
      "Session",
      Buffer.from("Nothing:x").toString("base64"),
      chosenId("each-form", "unknown"),
      chosenId("nowhere", "mine"),
    ];
    expect(await execute(url, query, { ids: [...ids, ...bad] })).toEqual({
      nodes: [
        { __typename: "Session", id: sessionNode },
        { __typename: "Run", id: run.id },
        { __typename: "Message", id: chosenId("each-form", "mine"), text: "Chosen" },
        { __typename: "Message", id: reply?.id, text: "You said: Chosen" },
        { __typename: "Message", id: foreign?.id, text: "foreign" },
        ...bad.map(() => null),
      ],
    });
    expect(await execute(url, `query ($id: ID!) { node(id: $id) { id } }`, { id: reply?.id })).toEqual({
      node: { id: reply?.id },
    });
  });

  test("an old message is found wherever it is, by its place in the id", async ({ url }) => {
    const added = await addMessages(
      url,
      "far",
      Array.from({ length: 500 }, (_, i) => ({ role: "USER", text: `m${i}` })),
    );
    await addMessages(
      url,
      "far",
      Array.from({ length: 500 }, (_, i) => ({ role: "USER", text: `n${i}` })),
    );
    const query = `query ($id: ID!) { node(id: $id) { ... on Message { text position } } }`;
    for (const i of [0, 250, 499]) {
      expect(await execute(url, query, { id: added[i]?.id })).toEqual({ node: { text: `m${i}`, position: i } });
    }
  });
});
