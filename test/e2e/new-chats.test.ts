import { randomUUID } from "node:crypto";
import { describe, expect } from "vitest";
import {
  addMessages,
  ask,
  eventsOf,
  follow,
  outline,
  readMessages,
  send,
  sendOnly,
} from "../support/gateway/conversation.ts";
import type { MessageFields, SessionFields } from "../support/gateway/conversation.ts";
import { chatTest } from "../support/gateway/chat-test.ts";
import type { TestGateway } from "../support/gateway/gateway.ts";
import { execute, refusal, subscribe } from "../support/gateway/graphql-client.ts";
import { foreignRow } from "../support/store/store.ts";

// A chat that does not exist yet: who listens before somebody has said anything, and a first message that starts it.

const test = chatTest({
  models: ["openai:gpt-4o-mini", "openai:small"],
  modelMaxRetries: 0,
  feedCheckMs: 1000,
});

const firstTurn = [
  ...["StreamWaiting", "StreamOpened", "RunChanged RUNNING", "MessageAdded USER", "ReplyProgress"],
  ...["MessageAdded ASSISTANT", "RunChanged COMPLETED"],
];
const messageAdded = `subscription ($sessionId: String!, $after: String, $ifMissing: IfMissing! = WAIT) {
  messageAdded(sessionId: $sessionId, after: $after, ifMissing: $ifMissing) { text position cursor }
}`;
const sessionEvents = messageAdded.replace(/messageAdded(.*) \{.*\}/, "sessionEvents$1 { __typename }");

type Added = Pick<MessageFields, "text" | "position" | "cursor">;

describe("subscribe first, then send", () => {
  test("two tabs on two gateways see the first turn live, whole", async ({ openai, gateway, other }) => {
    const tabs = [
      await follow(gateway.url, "tabs"),
      await follow(other.url, "tabs"),
      await follow(other.url, "tabs", ""),
    ];
    const only = subscribe<Added>(other.url, messageAdded, { sessionId: "tabs" });
    openai.next({ kind: "gated", tokens: ["Hello", " Jim."] });
    const { run } = await send(gateway.url, "tabs", "Hi! I'm Jim.");
    for (const tab of tabs) await tab.waitFor(({ __typename }) => __typename === "MessageAdded", "the question");
    openai.release();
    for (const tab of tabs) await tab.waitFor(({ __typename }) => __typename === "ReplyProgress", "the first word");
    openai.releaseAll();
    for (const tab of tabs) {
      await tab.waitFor((event) => event.__typename === "RunChanged" && event.run.status === "COMPLETED", "the end");
      expect(outline(tab)).toEqual(firstTurn);
      expect(eventsOf(tab, "StreamWaiting")).toMatchObject([{ waitsFor: "tabs" }]);
      expect(eventsOf(tab, "StreamOpened")[0]?.session).toMatchObject({ messageCount: 0, activeRun: null });
      expect(eventsOf(tab, "MessageAdded").map(({ message }) => message.text)).toEqual(["Hi! I'm Jim.", "Hello Jim."]);
      expect(new Set(eventsOf(tab, "RunChanged").map((event) => event.run.id))).toEqual(new Set([run.id]));
      tab.close();
    }
    // It may have subscribed behind the first one: what it has then is from now on.
    await only.waitFor(({ text }) => text === "Hello Jim.");
    only.close();
  });

  test("subscribing and sending in one moment loses nothing, whichever comes first", async ({ gateway, other }) => {
    for (let i = 0; i < 15; i++) {
      const sessionId = `moment-${i}`;
      const at = i % 2 === 0 ? gateway : other;
      const stream = subscribe<Added>(at.url, messageAdded, { sessionId, after: "" });
      const sent = ask(gateway.url, sessionId, "Hi");
      const { reply } = await sent;
      const messages = await stream.waitForCount(2);
      expect(messages.map(({ text }) => text)).toEqual(["Hi", reply?.text]);
      stream.close();
    }
  });

  test("what LangChain code pushes starts it", async ({ redis, gateway }) => {
    const tab = await follow(gateway.url, "pushed");
    await redis.raw().lpush("pushed", foreignRow("Hello from LangChain"));
    await tab.waitFor(({ __typename }) => __typename === "MessageAdded", "the message");
    expect(outline(tab)).toEqual(["StreamWaiting", "StreamOpened", "MessageAdded USER"]);
    tab.close();
  });

  test("from its cursor it goes on at another gateway, whether the session has begun meanwhile or not", async ({
    start,
    gateway,
    other,
  }) => {
    const three = await start();
    const tabs = [await follow(three.url, "restart"), await follow(three.url, "restart-later")];
    const [began, later] = tabs.map((tab) => eventsOf(tab, "StreamWaiting")[0]?.cursor ?? "");
    await three.close();
    for (const tab of tabs) tab.close();
    await addMessages(gateway.url, "restart", [{ role: "USER", text: "a" }]);
    const [first, second] = [
      await follow(other.url, "restart", began),
      await follow(other.url, "restart-later", later),
    ] as const;
    await first.waitFor(({ __typename }) => __typename === "MessageAdded", "what was said meanwhile");
    expect(outline(first)).toEqual(["StreamOpened", "MessageAdded USER"]);
    await addMessages(gateway.url, "restart-later", [{ role: "USER", text: "b" }]);
    await second.waitFor(({ __typename }) => __typename === "MessageAdded", "what is said now");
    expect(outline(second)).toEqual(["StreamWaiting", "StreamOpened", "MessageAdded USER"]);
    for (const tab of [first, second]) tab.close();
  });

  test("it ends when the session goes, and the next stream waits for another", async ({ gateway, other }) => {
    const tab = await follow(gateway.url, "twice");
    await addMessages(other.url, "twice", [{ role: "USER", text: "a" }]);
    const added = await tab.waitFor(({ __typename }) => __typename === "MessageAdded", "the message");
    const cursor = added.__typename === "MessageAdded" ? added.message.cursor : "";
    await execute(other.url, `mutation { deleteSession(input: { sessionId: "twice" }) { deletedId } }`);
    await tab.waitForEnd();
    expect(outline(tab).slice(-1)).toEqual(["SessionRemoved"]);
    expect(tab.error).toBeNull();

    // Behind a row of it there is nothing more, and nothing to wait for.
    for (const ifMissing of ["WAIT", "REFUSE"]) {
      const behind = subscribe<unknown>(gateway.url, sessionEvents, { sessionId: "twice", after: cursor, ifMissing });
      await behind.waitForEnd();
      expect([behind.events, behind.error]).toEqual([[{ __typename: "SessionRemoved" }], null]);
      const messages = subscribe<unknown>(gateway.url, messageAdded, { sessionId: "twice", after: cursor, ifMissing });
      await messages.waitForEnd();
      expect([messages.events, messages.error?.extensions?.code]).toEqual([[], "NOT_FOUND"]);
    }
    // In front of its first message there is.
    const start = eventsOf(tab, "StreamOpened")[0]?.cursor ?? "";
    const waits = await follow(other.url, "twice", start);
    expect(outline(waits)).toEqual(["StreamWaiting"]);
    waits.close();
    const next = await follow(gateway.url, "twice");
    await addMessages(other.url, "twice", [{ role: "USER", text: "again" }]);
    await next.waitFor(({ __typename }) => __typename === "MessageAdded", "the next message");
    expect(outline(next)).toEqual(["StreamWaiting", "StreamOpened", "MessageAdded USER"]);
    next.close();
  });

  test("REFUSE, and keys that hold no history: NOT_FOUND in the same words", async ({ redis, gateway }) => {
    const raw = redis.raw();
    await raw.set("a string", "x");
    await raw.lpush("jobs", JSON.stringify({ job: 1 }));
    const words = async (sessionId: string, ifMissing: string, document: string) => {
      const stream = subscribe<unknown>(gateway.url, document, { sessionId, ifMissing });
      await stream.waitForEnd();
      return [stream.events, stream.error];
    };
    for (const document of [messageAdded, sessionEvents]) {
      const refused = await words("nobody", "REFUSE", document);
      expect(refused[1]).toMatchObject({ extensions: { code: "NOT_FOUND" } });
      for (const sessionId of ["a string", "jobs"]) {
        for (const ifMissing of ["WAIT", "REFUSE"]) {
          expect(await words(sessionId, ifMissing, document)).toEqual(refused);
        }
      }
      expect(await words("parley:x", "WAIT", document)).toEqual(refused);
    }
  });
});

interface Started {
  readonly run: { readonly id: string; readonly model: string };
  readonly session: SessionFields;
}

describe("sendMessage without a sessionId", () => {
  const settings = `query ($sessionId: String!) { session(sessionId: $sessionId) { title model instructions metadata } }`;
  const begin = async (gateway: TestGateway, input: object) =>
    (await execute<{ sendMessage: Started }>(gateway.url, sendOnly, { input })).sendMessage;
  const count = async (other: TestGateway) => {
    const { sessions } = await execute<{ sessions: { nodes: readonly unknown[] } }>(
      other.url,
      `{ sessions(first: 100) { nodes { id } } }`,
    );
    return sessions.nodes.length;
  };

  test("starts a session; with the same messageId it finds that one again, and no reply is made twice", async ({
    gateway,
    other,
  }) => {
    const before = await count(other);
    const input = { text: "Hi", messageId: randomUUID() };
    const sent = await Promise.all([1, 2, 3].map(() => begin(gateway, input)));
    const again = (await execute<{ sendMessage: Started }>(other.url, sendOnly, { input })).sendMessage;
    const [first] = sent;
    for (const { run, session } of [...sent, again]) {
      expect([session.sessionId, run.id]).toEqual([first?.session.sessionId, first?.run.id]);
    }
    expect(await count(other)).toBe(before + 1);
    const { sessionId = "" } = first?.session ?? {};
    await follow(gateway.url, sessionId, "").then(async (stream) => {
      await stream.waitFor((event) => event.__typename === "MessageAdded" && event.message.role === "ASSISTANT");
      stream.close();
    });
    expect(await readMessages(gateway.url, sessionId)).toHaveLength(2);
    // A message of its own in it, under its id.
    await ask(gateway.url, sessionId, "And more");
    expect((await refusal(gateway.url, sendOnly, { input: { ...input, text: "Other" } })).extensions?.code).toBe(
      "MESSAGE_ID_REUSED",
    );
    await execute(gateway.url, `mutation ($id: String!) { deleteSession(input: { sessionId: $id }) { deletedId } }`, {
      id: sessionId,
    });
    expect((await refusal(other.url, sendOnly, { input })).extensions?.code).toBe("NOT_FOUND");
  });

  test("without a messageId each call starts one", async ({ gateway }) => {
    const [first, second] = [
      await begin(gateway, { text: "Hi" }),
      await begin(gateway, { text: "Hi", sessionId: null }),
    ];
    expect(first.session.sessionId).not.toBe(second.session.sessionId);
  });

  test("newSession says how it is to be, for the call that starts it alone", async ({ openai, gateway, other }) => {
    const newSession = {
      ...{ title: "Pirates", model: "openai:small", instructions: "Talk like a pirate.", metadata: { project: "sea" } },
    };
    const input = { text: `Ahoy ${randomUUID()}`, messageId: randomUUID(), newSession, model: "openai:gpt-4o-mini" };
    const { run, session } = await begin(gateway, input);
    // The reply's own model, and the session's.
    expect(run.model).toBe("openai:gpt-4o-mini");
    expect(await execute(other.url, settings, { sessionId: session.sessionId })).toEqual({ session: newSession });
    const asked = openai.requests.find(({ messages }) => messages.at(-1)?.["content"] === input.text);
    expect(asked?.messages[0]).toMatchObject({ content: "Talk like a pirate." });

    const changed = { title: "Other", model: "openai:gpt-4o-mini", instructions: "Be brief.", metadata: { x: 1 } };
    const again = await begin(gateway, { ...input, newSession: changed });
    expect(again.run.id).toBe(run.id);
    const next = await ask(gateway.url, session.sessionId, "More", { newSession: changed });
    expect(next.run.model).toBe("openai:small");
    expect(await execute(other.url, settings, { sessionId: session.sessionId })).toEqual({ session: newSession });
    // Also where the caller has chosen the id.
    const chosen = `chosen-${randomUUID()}`;
    expect((await ask(gateway.url, chosen, "Ahoy", { newSession })).run.model).toBe("openai:small");
    expect(await execute(gateway.url, settings, { sessionId: chosen })).toEqual({ session: newSession });
  });

  test.for([
    ["an unknown model", { newSession: { model: "none" } }, "BAD_USER_INPUT", "input.newSession.model"],
    ["a title too long", { newSession: { title: "x".repeat(10_000) } }, "BAD_USER_INPUT", "input.newSession.title"],
    ["metadata that are no object", { newSession: { metadata: [] } }, "BAD_USER_INPUT", "input.newSession.metadata"],
    ["an empty id", { sessionId: "" }, "BAD_USER_INPUT", "input.sessionId"],
    ["a cursor to replace from", { replaceFrom: "x" }, "INVALID_CURSOR", "input.replaceFrom"],
  ] as const)("%s is refused and starts nothing", async ([, more, code, field], { gateway, other }) => {
    const before = await count(other);
    const error = await refusal(gateway.url, sendOnly, { input: { text: "Hi", ...more } });
    expect(error.extensions).toMatchObject({ code, field });
    expect(await count(other)).toBe(before);
  });
});
