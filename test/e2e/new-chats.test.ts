import { randomUUID } from "node:crypto";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
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
import { startGateway } from "../support/gateway/gateway.ts";
import type { TestGateway } from "../support/gateway/gateway.ts";
import { execute, refusal, subscribe } from "../support/gateway/graphql-client.ts";
import { startOpenAI } from "../support/model/openai-server.ts";
import type { OpenAIServer } from "../support/model/openai-server.ts";
import { startTopology } from "../support/redis/project-topology.ts";
import { foreignRow } from "../support/store/store.ts";
import type { TestTopology } from "../support/redis/topologies.ts";

// A chat that does not exist yet: who listens before somebody has said anything, and a first message that starts it.

let redis: TestTopology;
let openai: OpenAIServer;
let one: TestGateway;
let two: TestGateway;

beforeAll(async () => {
  [redis, openai] = await Promise.all([startTopology(), startOpenAI()]);
  [one, two] = await Promise.all([start(), start()]);
});
afterAll(async () => {
  await Promise.all([one.close(), two.close()]);
  await openai.close();
  await redis.stop();
});

function start(): Promise<TestGateway> {
  return startGateway({
    redis: redis.redis,
    model: "openai:gpt-4o-mini",
    models: ["openai:gpt-4o-mini", "openai:small"],
    openai: { apiKey: "sk-x", baseUrl: openai.baseUrl },
    modelMaxRetries: 0,
    feedCheckMs: 1000,
  });
}

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
  test("two tabs on two gateways see the first turn live, whole", async () => {
    const tabs = [await follow(one.url, "tabs"), await follow(two.url, "tabs"), await follow(two.url, "tabs", "")];
    const only = subscribe<Added>(two.url, messageAdded, { sessionId: "tabs" });
    openai.next({ kind: "gated", tokens: ["Hello", " Jim."] });
    const { run } = await send(one.url, "tabs", "Hi! I'm Jim.");
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

  test("subscribing and sending in one moment loses nothing, whichever comes first", async () => {
    for (let i = 0; i < 15; i++) {
      const sessionId = `moment-${i}`;
      const at = i % 2 === 0 ? one : two;
      const stream = subscribe<Added>(at.url, messageAdded, { sessionId, after: "" });
      const sent = ask(one.url, sessionId, "Hi");
      const { reply } = await sent;
      const messages = await stream.waitForCount(2);
      expect(messages.map(({ text }) => text)).toEqual(["Hi", reply?.text]);
      stream.close();
    }
  });

  test("what LangChain code pushes starts it", async () => {
    const tab = await follow(one.url, "pushed");
    await redis.raw().lpush("pushed", foreignRow("Hello from LangChain"));
    await tab.waitFor(({ __typename }) => __typename === "MessageAdded", "the message");
    expect(outline(tab)).toEqual(["StreamWaiting", "StreamOpened", "MessageAdded USER"]);
    tab.close();
  });

  test("from its cursor it goes on at another gateway, whether the session has begun meanwhile or not", async () => {
    const three = await start();
    const tabs = [await follow(three.url, "restart"), await follow(three.url, "restart-later")];
    const [began, later] = tabs.map((tab) => eventsOf(tab, "StreamWaiting")[0]?.cursor ?? "");
    await three.close();
    for (const tab of tabs) tab.close();
    await addMessages(one.url, "restart", [{ role: "USER", text: "a" }]);
    const [first, second] = [
      await follow(two.url, "restart", began),
      await follow(two.url, "restart-later", later),
    ] as const;
    await first.waitFor(({ __typename }) => __typename === "MessageAdded", "what was said meanwhile");
    expect(outline(first)).toEqual(["StreamOpened", "MessageAdded USER"]);
    await addMessages(one.url, "restart-later", [{ role: "USER", text: "b" }]);
    await second.waitFor(({ __typename }) => __typename === "MessageAdded", "what is said now");
    expect(outline(second)).toEqual(["StreamWaiting", "StreamOpened", "MessageAdded USER"]);
    for (const tab of [first, second]) tab.close();
  });

  test("it ends when the session goes, and the next stream waits for another", async () => {
    const tab = await follow(one.url, "twice");
    await addMessages(two.url, "twice", [{ role: "USER", text: "a" }]);
    const added = await tab.waitFor(({ __typename }) => __typename === "MessageAdded", "the message");
    const cursor = added.__typename === "MessageAdded" ? added.message.cursor : "";
    await execute(two.url, `mutation { deleteSession(input: { sessionId: "twice" }) { deletedId } }`);
    await tab.waitForEnd();
    expect(outline(tab).slice(-1)).toEqual(["SessionRemoved"]);
    expect(tab.error).toBeNull();

    // Behind a row of it there is nothing more, and nothing to wait for.
    for (const ifMissing of ["WAIT", "REFUSE"]) {
      const behind = subscribe<unknown>(one.url, sessionEvents, { sessionId: "twice", after: cursor, ifMissing });
      await behind.waitForEnd();
      expect([behind.events, behind.error]).toEqual([[{ __typename: "SessionRemoved" }], null]);
      const messages = subscribe<unknown>(one.url, messageAdded, { sessionId: "twice", after: cursor, ifMissing });
      await messages.waitForEnd();
      expect([messages.events, messages.error?.extensions?.code]).toEqual([[], "NOT_FOUND"]);
    }
    // In front of its first message there is.
    const start = eventsOf(tab, "StreamOpened")[0]?.cursor ?? "";
    const waits = await follow(two.url, "twice", start);
    expect(outline(waits)).toEqual(["StreamWaiting"]);
    waits.close();
    const next = await follow(one.url, "twice");
    await addMessages(two.url, "twice", [{ role: "USER", text: "again" }]);
    await next.waitFor(({ __typename }) => __typename === "MessageAdded", "the next message");
    expect(outline(next)).toEqual(["StreamWaiting", "StreamOpened", "MessageAdded USER"]);
    next.close();
  });

  test("REFUSE, and keys that hold no history: NOT_FOUND in the same words", async () => {
    const raw = redis.raw();
    await raw.set("a string", "x");
    await raw.lpush("jobs", JSON.stringify({ job: 1 }));
    const words = async (sessionId: string, ifMissing: string, document: string) => {
      const stream = subscribe<unknown>(one.url, document, { sessionId, ifMissing });
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
  const begin = async (input: object) =>
    (await execute<{ sendMessage: Started }>(one.url, sendOnly, { input })).sendMessage;
  const count = async () => {
    const { sessions } = await execute<{ sessions: { nodes: readonly unknown[] } }>(
      two.url,
      `{ sessions(first: 100) { nodes { id } } }`,
    );
    return sessions.nodes.length;
  };

  test("starts a session; with the same messageId it finds that one again, and no reply is made twice", async () => {
    const before = await count();
    const input = { text: "Hi", messageId: randomUUID() };
    const sent = await Promise.all([1, 2, 3].map(() => begin(input)));
    const again = (await execute<{ sendMessage: Started }>(two.url, sendOnly, { input })).sendMessage;
    const [first] = sent;
    for (const { run, session } of [...sent, again]) {
      expect([session.sessionId, run.id]).toEqual([first?.session.sessionId, first?.run.id]);
    }
    expect(await count()).toBe(before + 1);
    const { sessionId = "" } = first?.session ?? {};
    await follow(one.url, sessionId, "").then(async (stream) => {
      await stream.waitFor((event) => event.__typename === "MessageAdded" && event.message.role === "ASSISTANT");
      stream.close();
    });
    expect(await readMessages(one.url, sessionId)).toHaveLength(2);
    // A message of its own in it, under its id.
    await ask(one.url, sessionId, "And more");
    expect((await refusal(one.url, sendOnly, { input: { ...input, text: "Other" } })).extensions?.code).toBe(
      "MESSAGE_ID_REUSED",
    );
    await execute(one.url, `mutation ($id: String!) { deleteSession(input: { sessionId: $id }) { deletedId } }`, {
      id: sessionId,
    });
    expect((await refusal(two.url, sendOnly, { input })).extensions?.code).toBe("NOT_FOUND");
  });

  test("without a messageId each call starts one", async () => {
    const [first, second] = [await begin({ text: "Hi" }), await begin({ text: "Hi", sessionId: null })];
    expect(first.session.sessionId).not.toBe(second.session.sessionId);
  });

  test("newSession says how it is to be, for the call that starts it alone", async () => {
    const newSession = {
      ...{ title: "Pirates", model: "openai:small", instructions: "Talk like a pirate.", metadata: { project: "sea" } },
    };
    const input = { text: `Ahoy ${randomUUID()}`, messageId: randomUUID(), newSession, model: "openai:gpt-4o-mini" };
    const { run, session } = await begin(input);
    // The reply's own model, and the session's.
    expect(run.model).toBe("openai:gpt-4o-mini");
    expect(await execute(two.url, settings, { sessionId: session.sessionId })).toEqual({ session: newSession });
    const asked = openai.requests.find(({ messages }) => messages.at(-1)?.["content"] === input.text);
    expect(asked?.messages[0]).toMatchObject({ content: "Talk like a pirate." });

    const other = { title: "Other", model: "openai:gpt-4o-mini", instructions: "Be brief.", metadata: { x: 1 } };
    const again = await begin({ ...input, newSession: other });
    expect(again.run.id).toBe(run.id);
    const next = await ask(one.url, session.sessionId, "More", { newSession: other });
    expect(next.run.model).toBe("openai:small");
    expect(await execute(two.url, settings, { sessionId: session.sessionId })).toEqual({ session: newSession });
    // Also where the caller has chosen the id.
    const chosen = `chosen-${randomUUID()}`;
    expect((await ask(one.url, chosen, "Ahoy", { newSession })).run.model).toBe("openai:small");
    expect(await execute(one.url, settings, { sessionId: chosen })).toEqual({ session: newSession });
  });

  test.each([
    ["an unknown model", { newSession: { model: "none" } }, "BAD_USER_INPUT", "input.newSession.model"],
    ["a title too long", { newSession: { title: "x".repeat(10_000) } }, "BAD_USER_INPUT", "input.newSession.title"],
    ["metadata that are no object", { newSession: { metadata: [] } }, "BAD_USER_INPUT", "input.newSession.metadata"],
    ["an empty id", { sessionId: "" }, "BAD_USER_INPUT", "input.sessionId"],
    ["a cursor to replace from", { replaceFrom: "x" }, "INVALID_CURSOR", "input.replaceFrom"],
  ])("%s is refused and starts nothing", async (_, more, code, field) => {
    const before = await count();
    const error = await refusal(one.url, sendOnly, { input: { text: "Hi", ...more } });
    expect(error.extensions).toMatchObject({ code, field });
    expect(await count()).toBe(before);
  });
});
