import { describe, expect } from "vitest";
import {
  addMessages,
  ask,
  chosenId,
  eventsOf,
  follow,
  readMessages,
  readRun,
  regenerate,
  send,
  sendOnly,
  texts,
  type MessageFields,
} from "../support/gateway/conversation.ts";
import { chatTest } from "../support/gateway/chat-test.ts";
import { execute, refusal } from "../support/gateway/graphql-client.ts";
import { waitUntil } from "../support/redis/redis-command.ts";
import { foreignRow, keysByPart, must } from "../support/store/store.ts";
import type { TestTopology } from "../support/redis/topologies.ts";

// Kits know messages by their ids: whatever takes a cursor takes a Message.id too, and an edit may keep it.

const test = chatTest({ modelMaxRetries: 0 });

const pages = `query ($sessionId: String!, $id: String) { session(sessionId: $sessionId) {
  after: messages(first: 200, after: $id) { nodes { position } }
  before: messages(last: 200, before: $id) { nodes { position } }
} }`;
const fork = `mutation ($input: ForkSessionInput!) { forkSession(input: $input) { session { messageCount } } }`;
const markRead = `mutation ($input: MarkReadInput!) { markRead(input: $input) { session { readCount } } }`;

interface Pages {
  readonly session: Readonly<Record<"after" | "before", { readonly nodes: readonly { readonly position: number }[] }>>;
}

/** The ids that a session's messages have by whom they are from: the caller, the gateway (twice), foreign code. */
async function filled(redis: TestTopology, url: string, sessionId: string): Promise<readonly MessageFields[]> {
  await ask(url, sessionId, "Chosen", { messageId: "mine" });
  await ask(url, sessionId, "Made");
  await redis.raw().lpush(sessionId, foreignRow("foreign"), foreignRow("reply", "ai"));
  return readMessages(url, sessionId);
}

const codeOf = async (url: string, query: string, variables: Readonly<Record<string, unknown>>) =>
  (await refusal(url, query, variables)).extensions?.code;

describe("an id does as a cursor", () => {
  test("in pages, markRead and forkSession, for ids of all kinds", async ({ redis, url }) => {
    const messages = await filled(redis, url, "ids");
    expect(messages.map(({ position }) => position)).toEqual([0, 1, 2, 3, 4, 5]);
    expect(messages[0]?.id).toBe(chosenId("ids", "mine"));
    for (const { id, position } of messages) {
      const { session } = await execute<Pages>(url, pages, { sessionId: "ids", id });
      expect(session.before.nodes.map((node) => node.position)).toEqual([0, 1, 2, 3, 4, 5].slice(0, position));
      expect(session.after.nodes.map((node) => node.position)).toEqual([0, 1, 2, 3, 4, 5].slice(position + 1));
      const input = { sessionId: "ids", through: id };
      expect(await execute(url, fork, { input })).toEqual({ forkSession: { session: { messageCount: position + 1 } } });
      const read = await execute<{ markRead: { session: { readCount: number } } }>(url, markRead, { input });
      expect(read.markRead.session.readCount).toBe(Math.max(3, position + 1));
    }
  });

  test("in replaceFrom, also while it waits, and again behind edits and answers made anew", async ({
    redis,
    openai,
    url,
  }) => {
    const [chosen, , made, reply] = await filled(redis, url, "ids-edit");
    await regenerate(url, "ids-edit", { replaceFrom: must(reply).id });
    await ask(url, "ids-edit", "Made, edited", { replaceFrom: must(made).id });
    openai.next({ kind: "gated", tokens: ["held"] });
    const held = await send(url, "ids-edit", "Third");
    const waiting = await send(url, "ids-edit", "All anew", { replaceFrom: must(chosen).id });
    expect(waiting.run.status).toBe("QUEUED");
    openai.releaseAll();
    await waitUntil("it has ended", async () => (await readRun(url, waiting.run.id))?.status === "COMPLETED");
    expect((await readRun(url, held.run.id))?.text).toBe("held");
    expect(await texts(url, "ids-edit")).toEqual(["USER: All anew", "ASSISTANT: You said: All anew"]);
  });

  test("to follow behind it: the stream begins at a cursor of that message", async ({ redis, url }) => {
    const [, first, , , foreign] = await filled(redis, url, "ids-follow");
    for (const [message, behind] of [
      [must(first), [2, 3, 4, 5]],
      [must(foreign), [5]],
    ] as const) {
      const stream = await follow(url, "ids-follow", message.id);
      await stream.waitFor((event) => event.__typename === "MessageAdded" && event.message.position === 5);
      stream.close();
      expect(eventsOf(stream, "StreamOpened")[0]?.cursor).toBe(message.cursor);
      expect(eventsOf(stream, "MessageAdded").map((event) => event.message.position)).toEqual(behind);
    }
  });

  test("one that was cut has expired, and one of another session is none", async ({ redis, url }) => {
    const messages = await filled(redis, url, "ids-cut");
    const [elsewhere] = await filled(redis, url, "ids-elsewhere");
    await ask(url, "ids-cut", "Anew", { replaceFrom: must(messages[0]).id });
    for (const { id } of messages) {
      expect(await codeOf(url, pages, { sessionId: "ids-cut", id })).toBe("CURSOR_EXPIRED");
      expect(await codeOf(url, markRead, { input: { sessionId: "ids-cut", through: id } })).toBe("CURSOR_EXPIRED");
      expect(await codeOf(url, fork, { input: { sessionId: "ids-cut", through: id } })).toBe("CURSOR_EXPIRED");
      const input = { sessionId: "ids-cut", text: "x", replaceFrom: id };
      expect(await codeOf(url, sendOnly, { input })).toBe("CURSOR_EXPIRED");
    }
    for (const id of [must(elsewhere).id, chosenId("ids-cut", "a b"), btoa("Session:ids-cut"), btoa("Run:ids-cut:x")]) {
      expect(await codeOf(url, pages, { sessionId: "ids-cut", id })).toBe("INVALID_CURSOR");
      expect(await codeOf(url, markRead, { input: { sessionId: "ids-cut", through: id } })).toBe("INVALID_CURSOR");
    }
  });

  test("one that the caller chose long ago is found among the newest 2,000, in pages and mutations alike; farther back it takes the cursor", async ({
    redis,
    url,
  }) => {
    const sessionId = "ids-forgotten";
    const [old, message] = await addMessages(url, sessionId, [
      { role: "USER", text: "old", messageId: "old" },
      { role: "USER", text: "message", messageId: "message" },
    ]);
    const raw = redis.raw();
    for (let i = 0; i < 4; i++) {
      await raw.lpush(sessionId, ...Array.from({ length: i < 3 ? 500 : 499 }, (_, j) => foreignRow(`${i} ${j}`)));
    }
    expect(must((await readMessages(url, sessionId)).at(-1)).position).toBe(2000);
    await raw.del(must(keysByPart(sessionId)["ops"]));
    const page = async (id: string) => {
      const query = `query ($id: String) { session(sessionId: "${sessionId}") { messages(first: 1, after: $id) { nodes { position } } } }`;
      return execute(url, query, { id });
    };
    const one = must(message);
    expect(await page(one.id)).toEqual({ session: { messages: { nodes: [{ position: 2 }] } } });
    expect(await execute(url, fork, { input: { sessionId, through: one.id } })).toEqual({
      forkSession: { session: { messageCount: 2 } },
    });
    const error = await refusal(url, pages, { sessionId, id: must(old).id });
    expect(error.extensions?.code).toBe("CURSOR_EXPIRED");
    expect(error.message).toContain("Send the message's cursor");
    const edit = await refusal(url, sendOnly, { input: { sessionId, text: "x", replaceFrom: must(old).id } });
    expect([edit.extensions?.code, edit.message]).toEqual([
      "CURSOR_EXPIRED",
      expect.stringContaining("Send its cursor"),
    ]);
    expect(await page(must(old).cursor)).toEqual({ session: { messages: { nodes: [{ position: 1 }] } } });
    expect((await ask(url, sessionId, "Edited", { replaceFrom: one.id })).userMessage?.position).toBe(1);
  });
});

describe("an edit may keep its messageId", () => {
  test("A, B, C and B again: each is told by its own key, however late it is sent again", async ({ openai, url }) => {
    const sessionId = "keeps-id";
    const replaceFrom = chosenId(sessionId, "mine");
    await ask(url, sessionId, "Before");
    const calls = [
      { text: "A", messageId: "mine" },
      { text: "B", messageId: "mine", replaceFrom, idempotencyKey: "to B" },
      { text: "C", messageId: "mine", replaceFrom, idempotencyKey: "to C" },
      { text: "B", messageId: "mine", replaceFrom, idempotencyKey: "back to B" },
    ] as const;
    const runs: string[] = [];
    for (const { text, ...more } of calls) {
      const turn = await ask(url, sessionId, text, more);
      expect(turn.userMessage).toMatchObject({ id: replaceFrom, messageId: "mine", position: 2, text });
      expect(await texts(url, sessionId)).toEqual([
        "USER: Before",
        "ASSISTANT: You said: Before",
        `USER: ${text}`,
        `ASSISTANT: You said: ${text}`,
      ]);
      runs.push(turn.run.id);
    }
    expect(new Set(runs).size).toBe(4);
    const asked = openai.requests.length;
    const before = await readMessages(url, sessionId);
    for (const [i, { text, ...more }] of calls.entries()) {
      expect((await ask(url, sessionId, text, more)).run.id).toBe(runs[i]);
    }
    expect(openai.requests.length).toBe(asked);
    expect(await readMessages(url, sessionId)).toEqual(before);
  });

  test("by the message's cursor, which is cut when the call is sent again", async ({ url }) => {
    const sessionId = "keeps-id-cursor";
    const first = await ask(url, sessionId, "A", { messageId: "mine" });
    const input = { messageId: "mine", replaceFrom: must(first.userMessage).cursor, idempotencyKey: "to B" };
    const edit = await ask(url, sessionId, "B", input);
    expect((await ask(url, sessionId, "B", input)).run.id).toBe(edit.run.id);
    const other = { sessionId, text: "C", ...input };
    expect(await codeOf(url, sendOnly, { input: other })).toBe("MESSAGE_ID_REUSED");
    // Another edit, from a tab that has not heard of this one: it is the place that has gone.
    expect(await codeOf(url, sendOnly, { input: { ...other, idempotencyKey: "to C" } })).toBe("CURSOR_EXPIRED");
    expect(await texts(url, sessionId)).toEqual(["USER: B", "ASSISTANT: You said: B"]);
  });

  test("without an idempotencyKey it is refused, whatever the content; of another message the id is taken", async ({
    url,
  }) => {
    const sessionId = "keeps-id-keyless";
    const { userMessage } = await ask(url, sessionId, "A", { messageId: "mine" });
    const next = await ask(url, sessionId, "Next");
    for (const text of ["A", "B"]) {
      for (const replaceFrom of [must(userMessage).id, must(userMessage).cursor]) {
        const error = await refusal(url, sendOnly, { input: { sessionId, text, messageId: "mine", replaceFrom } });
        expect(error.extensions).toMatchObject({ code: "BAD_USER_INPUT", field: "input.idempotencyKey" });
      }
    }
    const input = { sessionId, text: "B", messageId: "mine", replaceFrom: must(next.userMessage).cursor };
    expect(await codeOf(url, sendOnly, { input })).toBe("MESSAGE_ID_REUSED");
    expect(await codeOf(url, sendOnly, { input: { ...input, idempotencyKey: "k" } })).toBe("MESSAGE_ID_REUSED");
    expect(await readMessages(url, sessionId)).toHaveLength(4);
  });

  test("where it waits, the key tells it too, and of two at once the second finds the message edited", async ({
    openai,
    url,
  }) => {
    const sessionId = "keeps-id-queued";
    const { userMessage } = await ask(url, sessionId, "A", { messageId: "mine" });
    openai.next({ kind: "gated", tokens: ["held"] });
    await send(url, sessionId, "Hold");
    const replaceFrom = must(userMessage).cursor;
    const edit = { messageId: "mine", replaceFrom, idempotencyKey: "to B" };
    const one = await send(url, sessionId, "B", edit);
    const two = await send(url, sessionId, "C", { ...edit, idempotencyKey: "to C" });
    expect([one.run.status, two.run.status]).toEqual(["QUEUED", "QUEUED"]);
    expect((await send(url, sessionId, "B", edit)).run.id).toBe(one.run.id);
    openai.releaseAll();
    await waitUntil("both have ended", async () => (await readRun(url, two.run.id))?.status === "FAILED");
    expect(await texts(url, sessionId)).toEqual(["USER: B", "ASSISTANT: You said: B"]);
    expect((await send(url, sessionId, "C", { ...edit, idempotencyKey: "to C" })).run.id).toBe(two.run.id);
  });

  test("a message that comes with an idempotencyKey as well is known by both: the key is no other message's", async ({
    url,
  }) => {
    const input = { messageId: "mine", idempotencyKey: "key" };
    const first = await ask(url, "both", "Hi! I'm Jim.", input);
    expect((await send(url, "both", "Hi! I'm Jim.", input)).run.id).toBe(first.run.id);
    const other = { sessionId: "both", text: "Hi! I'm Jim.", messageId: "another", idempotencyKey: "key" };
    expect(await codeOf(url, sendOnly, { input: other })).toBe("MESSAGE_ID_REUSED");
    // Without a key of its own it is no edit.
    const replaceFrom = must(first.userMessage).id;
    expect((await send(url, "both", "Hi! I'm Jim.", { ...input, replaceFrom })).run.id).toBe(first.run.id);
    expect(await texts(url, "both")).toHaveLength(2);
  });

  test("a message without messageId is safe to repeat by an idempotencyKey, a new session too", async ({ url }) => {
    const keyed = { idempotencyKey: "once" };
    const one = await ask(url, "keyed", "Hello", keyed);
    expect((await ask(url, "keyed", "Hello", keyed)).run.id).toBe(one.run.id);
    expect(await codeOf(url, sendOnly, { input: { sessionId: "keyed", text: "Other", ...keyed } })).toBe(
      "MESSAGE_ID_REUSED",
    );
    const query = `mutation ($input: SendMessageInput!) { sendMessage(input: $input) { session { sessionId } } }`;
    const input = { text: "New", idempotencyKey: "new-one" };
    const started = await execute(url, query, { input });
    expect(await execute(url, query, { input })).toEqual(started);
    // A messageId of the same text is another call's, and starts a session of its own.
    expect(await execute(url, query, { input: { text: "New", messageId: "new-one" } })).not.toEqual(started);
  });
});
