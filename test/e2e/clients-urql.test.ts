import { readFileSync } from "node:fs";

import { gql } from "@urql/core";
import type { AnyVariables, Client, DocumentInput, OperationResult } from "@urql/core";
import { buildSchema, introspectionFromSchema } from "graphql";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test, vi } from "vitest";

import { fillSession, startChatGateway, startRun } from "../clients/chat-gateway.ts";
import type { ChatGateway } from "../clients/chat-gateway.ts";
import type { Message } from "../clients/chat-types.ts";
import { optimisticId } from "../clients/message-id.ts";
import { createUrqlClient } from "../clients/urql.ts";
import { Changes, Delete, Events, Messages, Send, Sessions } from "../clients/urql-documents.ts";
import { holdAnswer } from "../support/model/held-answer.ts";
import { payer } from "../support/model/agent-gateway.ts";
import { pays, startTools } from "../support/model/paid-tools.ts";
import type { Tools } from "../support/model/paid-tools.ts";
import { startOpenAI } from "../support/model/openai-server.ts";
import type { OpenAIServer } from "../support/model/openai-server.ts";
import { waitUntil } from "../support/redis/redis-command.ts";

const sdl = readFileSync(new URL("../../schema.graphql", import.meta.url), "utf8");
const schema = introspectionFromSchema(buildSchema(sdl));

let openai: OpenAIServer;
let tools: Tools;
let chat: ChatGateway;

beforeAll(async () => {
  openai = await startOpenAI();
  tools = await startTools();
  chat = await startChatGateway({
    models: ["openai:small"],
    openai: { apiKey: "sk-test", baseUrl: openai.baseUrl },
    agents: payer(tools.url),
  });
});

afterAll(async () => {
  await chat.close();
  tools.close();
  await openai.close();
});

/** What a component that shows a query has seen: each result once it came. */
function watch<Data, Variables extends AnyVariables>(
  client: Client,
  document: DocumentInput<Data, Variables>,
  variables: Variables,
) {
  const results: OperationResult<Data, Variables>[] = [];
  const subscription = client.query(document, variables).subscribe((result) => void results.push(result));
  return {
    stop: () => subscription.unsubscribe(),
    results,
    get data(): Data | undefined {
      return results.at(-1)?.data;
    },
  };
}

const textsOf = (messages: readonly Message[] | undefined) => messages?.map(({ text }) => text) ?? [];
const numbered = (from: number, to: number) => Array.from({ length: to - from }, (_, index) => `text ${from + index}`);

describe.each(["websocket", "sse"] as const)("urql with Graphcache, live over %s", (live) => {
  let client: Client;
  const stops: (() => void)[] = [];
  const warn = vi.spyOn(console, "warn");
  const error = vi.spyOn(console, "error");

  beforeEach(() => {
    client = createUrqlClient(chat.url, live, schema);
  });

  afterEach(() => {
    for (const stop of stops.splice(0)) stop();
    // Graphcache says here what it cannot key, write or find in the schema.
    expect([...warn.mock.calls, ...error.mock.calls]).toEqual([]);
  });

  /** Subscribes and waits for StreamOpened or SessionListOpened: from then on nothing is missed. */
  async function listen<Data, Variables extends AnyVariables>(
    document: DocumentInput<Data, Variables>,
    variables: Variables,
  ): Promise<Data[]> {
    const events: Data[] = [];
    const subscription = client.subscription(document, variables).subscribe(({ data, error: failure }) => {
      if (failure) throw failure;
      if (data !== undefined) events.push(data);
    });
    stops.push(() => subscription.unsubscribe());
    await waitUntil("the subscription is open", () => Promise.resolve(events.length > 0));
    return events;
  }

  async function open(sessionId: string) {
    const view = watch(client, Messages, { sessionId });
    stops.push(view.stop);
    await waitUntil("the messages are there", () => Promise.resolve(view.results.length > 0));
    const after = view.data?.session?.cursor;
    if (after === undefined) throw new Error("no such session");
    const events = await listen(Events, { sessionId, after });
    return { view, events };
  }

  test("pages of messages are merged backwards, none twice", async () => {
    const sessionId = `pages-${live}`;
    await fillSession(chat, sessionId, 45);
    const { view } = await open(sessionId);
    expect(textsOf(view.data?.session?.messages.nodes)).toEqual(numbered(25, 45));

    for (const from of [5, 0]) {
      const before = view.data?.session?.messages.pageInfo.startCursor;
      if (typeof before !== "string") throw new Error("no startCursor");
      const older = await client.query(Messages, { sessionId, before }).toPromise();
      expect(textsOf(older.data?.session?.messages.nodes)).toEqual(numbered(from, 45));
      await waitUntil("the view has the older page", () =>
        Promise.resolve(view.data?.session?.messages.nodes.length === 45 - from),
      );
      expect(textsOf(view.data?.session?.messages.nodes)).toEqual(numbered(from, 45));
      expect(view.data?.session?.messages.pageInfo.hasPreviousPage).toBe(from > 0);
    }

    await fillSession(chat, sessionId, 1);
    await waitUntil("the new message", () => Promise.resolve(view.data?.session?.messages.nodes.length === 46));
    expect(textsOf(view.data?.session?.messages.nodes)).toEqual([...numbered(0, 45), "text 0"]);
  });

  test("an optimistic message becomes the stored one, and the reply grows and arrives", async () => {
    const sessionId = `turn-${live}`;
    await fillSession(chat, sessionId, 2);
    const { view, events } = await open(sessionId);
    const messageId = `question-${live}`;
    const id = optimisticId(sessionId, messageId);
    const mine = () =>
      view.results.flatMap(
        ({ data: seen }) => seen?.session?.messages.nodes.filter((message) => message.id === id) ?? [],
      );

    const sent = client.mutation(Send, { input: { sessionId, text: "Hi! I'm Jim.", messageId } }).toPromise();
    const { data, error: failure } = await sent;
    expect(failure).toBeUndefined();
    expect(data?.sendMessage.userMessage).toMatchObject({ id, position: 2 });

    await waitUntil("the reply", () =>
      Promise.resolve(view.data?.session?.messages.nodes.length === 4 && view.data.session.activeRun === null),
    );
    // One key from the first: shown before there was an answer, and settled in its place.
    expect(mine()[0]).toMatchObject({ text: "Hi! I'm Jim.", position: 2 ** 31 - 1 });
    expect(mine().at(-1)).toMatchObject({ text: "Hi! I'm Jim.", position: 2 });
    const reply = view.data?.session?.messages.nodes[3];
    expect(reply).toMatchObject({ role: "ASSISTANT", position: 3, id: data?.sendMessage.run.replyId });

    const drafts = view.results.flatMap(({ data: seen }) => seen?.session?.activeRun?.text ?? []);
    expect(drafts.length).toBeGreaterThan(1);
    const progress = events.flatMap(({ sessionEvents: event }) =>
      event.__typename === "ReplyProgress" ? [event] : [],
    );
    expect(progress.map(({ text }) => text).join("")).toBe(reply?.text);
    expect(drafts.every((draft) => reply?.text.startsWith(draft))).toBe(true);
    // It is sent over two messages that nobody has read: readCount changes.
    expect(
      events.map(({ sessionEvents }) => sessionEvents.__typename).filter((name) => name !== "ReplyProgress"),
    ).toEqual(["StreamOpened", "RunChanged", "MessageAdded", "SessionUpdated", "MessageAdded", "RunChanged"]);
    // Not one result showed a message twice.
    for (const { data: seen } of view.results) {
      const ids = seen?.session?.messages.nodes.map((message) => message.id) ?? [];
      expect(new Set(ids).size).toBe(ids.length);
    }
  });

  test("two tabs open a chat before it exists, and both see its first turn live", async () => {
    openai.behave({ kind: "gated", tokens: ["Hello", " Jim."] });
    const sessionId = `new-${live}`;
    const tabs = [client, createUrqlClient(chat.url, live, schema)].map((tab) => {
      const view = watch(tab, Messages, { sessionId });
      const events: string[] = [];
      const following = tab.subscription(Events, { sessionId, after: "", isNew: true }).subscribe(({ data, error }) => {
        if (error) throw error;
        if (data) events.push(data.sessionEvents.__typename);
      });
      stops.push(view.stop, () => following.unsubscribe());
      return { tab, view, events };
    });
    await waitUntil("both wait", () =>
      Promise.resolve(tabs.every(({ view, events }) => view.data?.session === null && events[0] === "StreamWaiting")),
    );
    const input = { sessionId, text: "Hi! I'm Jim.", messageId: `new-${live}`, model: "openai:small" };
    const sent = client.mutation(Send, { input }).toPromise();
    const shown = ({ view }: (typeof tabs)[number]) => view.data?.session;
    await waitUntil("the question", () =>
      Promise.resolve(tabs.every((tab) => textsOf(shown(tab)?.messages.nodes)[0] === "Hi! I'm Jim.")),
    );
    openai.release();
    await waitUntil("the first word", () =>
      Promise.resolve(tabs.every((tab) => shown(tab)?.activeRun?.text === "Hello")),
    );
    openai.releaseAll();
    await waitUntil("the reply", () =>
      Promise.resolve(
        tabs.every((tab) => shown(tab)?.activeRun === null && shown(tab)?.messages.nodes[1]?.text === "Hello Jim."),
      ),
    );
    expect((await sent).error).toBeUndefined();
    for (const tab of tabs) {
      expect(textsOf(shown(tab)?.messages.nodes)).toEqual(["Hi! I'm Jim.", "Hello Jim."]);
      expect(tab.events.filter((name) => name !== "ReplyProgress")).toEqual([
        ...["StreamWaiting", "StreamOpened", "RunChanged", "MessageAdded", "MessageAdded", "RunChanged"],
      ]);
    }
  });

  test("an answer that comes later than the reply's first words takes none of them back", async () => {
    openai.behave({ kind: "gated", tokens: ["Hello", " Jim", "."] });
    const sessionId = `late-${live}`;
    await fillSession(chat, sessionId, 2);
    const { view } = await open(sessionId);
    const letGo = holdAnswer("mutation Send");
    const input = { sessionId, text: "Hi! I'm Jim.", messageId: `late-${live}`, model: "openai:small" };
    const sent = client.mutation(Send, { input }).toPromise();
    const draft = () => view.data?.session?.activeRun?.text;
    openai.release();
    await waitUntil("the first word", () => Promise.resolve(draft() === "Hello"));
    letGo();
    expect((await sent).error).toBeUndefined();
    expect(draft()).toBe("Hello");
    openai.release();
    await waitUntil("the second word", () => Promise.resolve(draft() === "Hello Jim"));
    openai.releaseAll();
    await waitUntil("the reply", () =>
      Promise.resolve(view.data?.session?.messages.nodes.at(-1)?.text === "Hello Jim."),
    );
  });

  test("a run that waits for an approval stays the active one", async () => {
    const sessionId = `waits-${live}`;
    await fillSession(chat, sessionId, 1);
    const { view } = await open(sessionId);
    openai.next(pays("ann"));
    await startRun(chat, { sessionId, text: "Pay ann", model: "agent:careful" });
    await waitUntil("it waits", () => Promise.resolve(view.data?.session?.activeRun?.status === "WAITING"));
  });

  test("a run that is queued behind a reply, and taken back, leaves the reply the active one", async () => {
    const sessionId = `queue-${live}`;
    openai.behave({ kind: "gated", tokens: ["one", " two"] });
    await fillSession(chat, sessionId, 1);
    const { view } = await open(sessionId);
    const input = { sessionId, text: "Count.", model: "openai:small" };
    await startRun(chat, input);
    openai.release();
    await waitUntil("the first word", () => Promise.resolve(view.data?.session?.activeRun?.text === "one"));
    const queued = await startRun(chat, { ...input, whenBusy: "QUEUE" });
    await chat.ask(`mutation ($runId: ID!) { cancelRun(input: { runId: $runId }) { run { id } } }`, { runId: queued });
    openai.release();
    await waitUntil("the second word", () => Promise.resolve(view.data?.session?.activeRun?.text === "one two"));
    openai.releaseAll();
    await waitUntil("the reply", () => Promise.resolve(view.data?.session?.activeRun === null));
    expect(textsOf(view.data?.session?.messages.nodes)).toEqual(["text 0", "Count.", "one two"]);
  });

  test("the text of an agent's next message begins anew", async () => {
    const sessionId = `steps-${live}`;
    await fillSession(chat, sessionId, 1);
    const { view } = await open(sessionId);
    openai.behave(null);
    openai.next(pays("ann"), { kind: "gated", tokens: ["Done", "."] });
    await startRun(chat, { sessionId, text: "Pay ann", model: "agent:payer" });
    openai.release();
    await waitUntil("the next message", () => Promise.resolve(view.data?.session?.activeRun?.text === "Done"));
    openai.releaseAll();
    await waitUntil("the reply", () => Promise.resolve(view.data?.session?.activeRun === null));
    expect(textsOf(view.data?.session?.messages.nodes).at(-1)).toBe("Done.");
  });

  test("a cleared history leaves an empty list that goes on", async () => {
    const sessionId = `clear-${live}`;
    await fillSession(chat, sessionId, 30);
    const { view } = await open(sessionId);
    const before = view.data?.session?.messages.pageInfo.startCursor;
    if (typeof before !== "string") throw new Error("no startCursor");
    await client.query(Messages, { sessionId, before }).toPromise();

    await chat.ask(`mutation { clearHistory(input: { sessionId: "${sessionId}" }) { session { id } } }`);
    await waitUntil("an empty list", () => Promise.resolve(view.data?.session?.messages.nodes.length === 0));
    await fillSession(chat, sessionId, 1);
    await waitUntil("a new message", () => Promise.resolve(view.data?.session?.messages.nodes.length === 1));
    expect(textsOf(view.data?.session?.messages.nodes)).toEqual(["text 0"]);
  });

  test("the list of sessions has what comes and loses what goes", async () => {
    const ids = Array.from({ length: 25 }, (_, index) => `list-${live}-${index}`);
    for (const sessionId of ids) await fillSession(chat, sessionId, 1);
    const changes = await listen(Changes, {});
    const view = watch(client, Sessions, {});
    stops.push(view.stop);
    await waitUntil("the first page", () => Promise.resolve(view.data !== undefined));
    const listed = () => view.data?.sessions.nodes.map(({ sessionId }) => sessionId) ?? [];
    expect(listed()).toEqual(ids.toReversed().slice(0, 20));

    const after = view.data?.sessions.pageInfo.endCursor;
    if (typeof after !== "string") throw new Error("no endCursor");
    await client.query(Sessions, { after }).toPromise();
    await waitUntil("the second page", () => Promise.resolve(listed().length > 20));
    expect(listed().slice(0, 25)).toEqual(ids.toReversed());
    expect(new Set(listed()).size).toBe(listed().length);

    // Elsewhere: one comes, one is renamed, one goes.
    const born = `list-${live}-new`;
    const [first = "", second = "", third = ""] = ids;
    await chat.ask(`mutation {
      createSession(input: { sessionId: "${born}" }) { session { id } }
      updateSession(input: { sessionId: "${first}", title: "Renamed" }) { session { id } }
      deleteSession(input: { sessionId: "${second}" }) { deletedId }
    }`);
    await waitUntil("the new one first, the other gone", () =>
      Promise.resolve(listed()[0] === born && !listed().includes(second)),
    );
    await waitUntil("the title", () =>
      Promise.resolve(
        view.data?.sessions.nodes.some(({ sessionId, title }) => sessionId === first && title === "Renamed") ?? false,
      ),
    );
    expect(changes.length).toBeGreaterThan(3);

    // Here: gone with the mutation's answer.
    await client.mutation(Delete, { sessionId: third }).toPromise();
    expect(listed()).not.toContain(third);
    expect(listed().filter((id) => id.startsWith(`list-${live}`))).toHaveLength(24);
  });
});

test("urql: @defer gives the question at once and the reply when it is complete", async () => {
  openai.behave({ kind: "gated", tokens: ["Hello", " Jim."] });
  const client = createUrqlClient(chat.url, "sse", schema);
  const Ask = gql<{ sendMessage: { userMessage: Message; reply?: Message | null } }>`
    mutation Ask($input: SendMessageInput!) {
      sendMessage(input: $input) {
        userMessage {
          id
          text
        }
        ... @defer {
          reply {
            id
            text
          }
        }
      }
    }
  `;
  const seen: { text: string | undefined; hasNext: boolean }[] = [];
  const input = { sessionId: "defer", text: "Hi", model: "openai:small" };
  const subscription = client.mutation(Ask, { input }).subscribe(({ data, error, hasNext }) => {
    if (error) throw error;
    expect(data?.sendMessage.userMessage.text).toBe("Hi");
    // The gate opens only when the first part is there: an answer that waits for the reply would never come.
    openai.releaseAll();
    seen.push({ text: data?.sendMessage.reply?.text, hasNext });
  });
  await waitUntil("the last part", () => Promise.resolve(seen.at(-1)?.hasNext === false));
  subscription.unsubscribe();
  expect(seen[0]).toEqual({ text: undefined, hasNext: true });
  expect(seen.at(-1)?.text).toBe("Hello Jim.");
});
