import { describe, expect } from "vitest";
import { addMessages, ask, eventsOf, follow, isRunEnd, readMessages, send } from "../support/gateway/conversation.ts";
import type { MessageFields } from "../support/gateway/conversation.ts";
import { chatTest } from "../support/gateway/chat-test.ts";
import { execute, subscribe } from "../support/gateway/graphql-client.ts";
import { keysByPart } from "../support/store/store.ts";

const test = chatTest({ model: "offline" });

async function create(url: string, input: object): Promise<void> {
  const query = `mutation ($input: CreateSessionInput!) { createSession(input: $input) { session { id } } }`;
  await execute(url, query, { input });
}

async function expiresAt(url: string, sessionId: string): Promise<number | null> {
  const query = `query ($sessionId: String!) { session(sessionId: $sessionId) { expiresAt } }`;
  type Data = { session: { expiresAt: string | null } | null };
  const text = (await execute<Data>(url, query, { sessionId })).session?.expiresAt;
  return text === undefined || text === null ? null : Date.parse(text);
}

describe("expiry", () => {
  test("a session goes with its TTL: for readers, followers and the list", async ({ url }) => {
    const changes = subscribe<{ readonly __typename: string; readonly sessionId?: string }>(
      url,
      `subscription { sessionChanged { __typename ... on SessionRemoved { sessionId removedId } } }`,
    );
    await changes.waitFor(({ __typename }) => __typename === "SessionListOpened");
    await create(url, { sessionId: "short", ttlSeconds: 1000 });
    await addMessages(url, "short", [{ role: "USER", text: "Soon gone" }]);
    const stream = await follow(url, "short");
    await execute(url, `mutation { updateSession(input: { sessionId: "short", ttlSeconds: 1 }) { session { id } } }`);
    await stream.waitForEnd();
    expect(stream.events.at(-1)).toMatchObject({ __typename: "SessionRemoved", sessionId: "short" });
    expect(eventsOf(stream, "HistoryReset")).toEqual([]);
    await changes.waitFor((change) => change.__typename === "SessionRemoved" && change.sessionId === "short");
    changes.close();
    expect(await execute(url, `{ session(sessionId: "short") { id } }`)).toEqual({ session: null });
    type Data = { sessions: { nodes: readonly { sessionId: string }[] } };
    const { sessions } = await execute<Data>(url, `{ sessions(first: 100) { nodes { sessionId } } }`);
    expect(sessions.nodes.map(({ sessionId }) => sessionId)).not.toContain("short");
  });

  test("it slides with every write, over all of the session's keys alike", async ({ redis, url }) => {
    await create(url, { sessionId: "sliding", ttlSeconds: 1000 });
    await ask(url, "sliding", "Hello");
    const first = (await expiresAt(url, "sliding")) ?? 0;
    const raw = redis.raw();
    const { session = "", runs = "", partial = "", queue = "" } = keysByPart("sliding");
    const times = await Promise.all([session, runs, partial, queue].map((key) => raw.pexpiretime(key)));
    // -2: that one is not there.
    for (const time of times.filter((time) => time !== -2)) expect(Math.abs(time - first)).toBeLessThan(5);
    expect(times.slice(0, 2)).not.toContain(-2);
    expect(await raw.pexpiretime("sliding")).toBe(first);
    await addMessages(url, "sliding", [{ role: "USER", text: "more" }]);
    expect(await expiresAt(url, "sliding")).toBeGreaterThan(first);
  });
});

describe("subscriptions to a session", () => {
  test("a message that is sent reads what is before it, which SessionUpdated tells; where nothing is unread it tells nothing", async ({
    url,
  }) => {
    await addMessages(url, "unread", [{ role: "ASSISTANT", text: "Unread" }]);
    const stream = await follow(url, "unread");
    expect(eventsOf(stream, "StreamOpened")[0]?.session).toMatchObject({ messageCount: 1, readCount: 0 });
    await ask(url, "unread", "Seen");
    const updated = await stream.waitFor(({ __typename }) => __typename === "SessionUpdated");
    expect(updated).toMatchObject({ session: { readCount: 2 } });
    await execute(url, `mutation { markRead(input: { sessionId: "unread" }) { session { readCount } } }`);
    const { run } = await ask(url, "unread", "Again");
    await stream.waitFor(isRunEnd(run.id));
    stream.close();
    // The sending and markRead, not the second message.
    expect(eventsOf(stream, "SessionUpdated")).toHaveLength(2);
  });

  const messageAdded = `subscription ($sessionId: String!, $after: String) { messageAdded(sessionId: $sessionId, after: $after) { text cursor } }`;
  type Added = Pick<MessageFields, "text" | "cursor">;

  test("messageAdded replays from a cursor or from the beginning, then goes on", async ({ url }) => {
    const [, second] = await addMessages(
      url,
      "replay",
      ["a", "b", "c"].map((text) => ({ role: "USER", text })),
    );
    const fromStart = subscribe<Added>(url, messageAdded, { sessionId: "replay", after: "" });
    const fromCursor = subscribe<Added>(url, messageAdded, { sessionId: "replay", after: second?.cursor });
    await Promise.all([fromStart.waitForCount(3), fromCursor.waitForCount(1)]);
    await addMessages(url, "replay", [{ role: "USER", text: "d" }]);
    await Promise.all([fromStart.waitForCount(4), fromCursor.waitForCount(2)]);
    fromStart.close();
    fromCursor.close();
    expect(fromStart.events.map(({ text }) => text)).toEqual(["a", "b", "c", "d"]);
    expect(fromCursor.events.map(({ text }) => text)).toEqual(["c", "d"]);
  });

  test("messageAdded ends with CURSOR_EXPIRED at a reset, and with NOT_FOUND when the session goes", async ({
    url,
  }) => {
    for (const [sessionId, mutation, code] of [
      [
        "ends-cleared",
        `mutation { clearHistory(input: { sessionId: "ends-cleared" }) { session { id } } }`,
        "CURSOR_EXPIRED",
      ],
      ["ends-deleted", `mutation { deleteSession(input: { sessionId: "ends-deleted" }) { deletedId } }`, "NOT_FOUND"],
    ] as const) {
      await addMessages(url, sessionId, [{ role: "USER", text: "a" }]);
      const stream = subscribe<Added>(url, messageAdded, { sessionId, after: "" });
      await stream.waitForCount(1);
      await execute(url, mutation);
      await stream.waitForEnd();
      stream.close();
      expect([stream.error?.extensions?.code, stream.events.length]).toEqual([code, 1]);
    }
  });

  test("what cannot be followed is refused with its code", async ({ url }) => {
    const [message] = await addMessages(url, "stale", [{ role: "USER", text: "a" }]);
    const events = `subscription ($sessionId: String!, $after: String) { sessionEvents(sessionId: $sessionId, after: $after) { __typename } }`;
    const code = async (document: string, variables: Readonly<Record<string, unknown>>) => {
      const stream = subscribe(url, document, variables);
      await stream.waitForEnd();
      stream.close();
      return stream.error?.extensions?.code;
    };
    for (const document of [events, messageAdded]) {
      const refuse = document.replace("after: $after", "after: $after, ifMissing: REFUSE");
      expect(await code(refuse, { sessionId: "no-such-session" })).toBe("NOT_FOUND");
      expect(await code(document, { sessionId: "stale", after: "nonsense" })).toBe("INVALID_CURSOR");
    }
    await execute(url, `mutation { clearHistory(input: { sessionId: "stale" }) { session { id } } }`);
    expect(await code(messageAdded, { sessionId: "stale", after: message?.cursor })).toBe("CURSOR_EXPIRED");
    const stream = await follow(url, "stale", message?.cursor ?? null);
    expect(await stream.waitFor(({ __typename }) => __typename === "HistoryReset")).toMatchObject({ kept: 0 });
    stream.close();
  });

  test("to resume from the newest cursor that an event brought brings all that was missed, once", async ({ url }) => {
    await addMessages(url, "resumed", [{ role: "USER", text: "a" }]);
    const first = await follow(url, "resumed", "");
    await first.waitFor(({ __typename }) => __typename === "MessageAdded");
    first.close();
    const cursor = eventsOf(first, "MessageAdded").at(-1)?.message.cursor ?? null;
    await send(url, "resumed", "b");
    await addMessages(url, "resumed", [{ role: "SYSTEM", text: "c" }]);
    const second = await follow(url, "resumed", cursor);
    await second.waitForCount(3, ({ __typename }) => __typename === "MessageAdded");
    await addMessages(url, "resumed", [{ role: "SYSTEM", text: "d" }]);
    await second.waitFor((event) => event.__typename === "MessageAdded" && event.message.text === "d");
    second.close();
    expect(eventsOf(second, "MessageAdded").map(({ message }) => message)).toEqual(
      (await readMessages(url, "resumed")).slice(1),
    );
  });
});
