import { readFileSync } from "node:fs";

import { ApolloClient, ApolloLink, gql, HttpLink, InMemoryCache, NetworkStatus } from "@apollo/client";
import type { OperationVariables, TypedDocumentNode } from "@apollo/client";
import { CombinedGraphQLErrors, CombinedProtocolErrors } from "@apollo/client/errors";
import { buildSchema } from "graphql";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test, vi } from "vitest";

import {
  applySessionEvent,
  createApolloClient,
  dropSession,
  followSession,
  followSessions,
  linkOverHttp,
  openSession,
  sendMessage,
} from "../clients/apollo.ts";
import { Delete, Messages, Sessions } from "../clients/apollo-documents.ts";
import type { Connection } from "../clients/apollo-documents.ts";
import { fillSession, startChatGateway, startRun } from "../clients/chat-gateway.ts";
import type { ChatGateway } from "../clients/chat-gateway.ts";
import type { Message } from "../clients/chat-types.ts";
import { optimisticId } from "../clients/message-id.ts";
import { holdAnswer } from "../support/model/held-answer.ts";
import { payer } from "../support/model/agent-gateway.ts";
import { pays, startTools } from "../support/model/paid-tools.ts";
import type { Tools } from "../support/model/paid-tools.ts";
import { startOpenAI } from "../support/model/openai-server.ts";
import type { OpenAIServer } from "../support/model/openai-server.ts";
import { waitUntil } from "../support/redis/redis-command.ts";
import { startProxy } from "../support/redis/tcp-proxy.ts";

const schema = buildSchema(readFileSync(new URL("../../schema.graphql", import.meta.url), "utf8"));
const possibleTypes = Object.fromEntries(
  ["Node", "ContentBlock", "SessionEvent", "SessionChange"].map((name) => {
    const type = schema.getType(name);
    if (!type || !("getFields" in type || "getTypes" in type)) throw new Error(`${name} is no abstract type`);
    // Safe: all four are interfaces or unions.
    return [name, schema.getPossibleTypes(type as Parameters<typeof schema.getPossibleTypes>[0]).map(String)];
  }),
);

let openai: OpenAIServer;
let tools: Tools;
let chat: ChatGateway;
let client: ApolloClient;
const stops: (() => void)[] = [];
const complaints = [vi.spyOn(console, "warn"), vi.spyOn(console, "error")];

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

beforeEach(() => {
  client = createApolloClient(chat.url, possibleTypes);
});

afterEach(() => {
  for (const stop of stops.splice(0)) stop();
  client.stop();
  // Apollo says here what it cannot merge, write or find.
  const said = complaints.flatMap((spy) => spy.mock.calls);
  for (const spy of complaints) spy.mockClear();
  expect(said).toEqual([]);
});

const textsOf = (messages: Connection<Message> | undefined) => messages?.edges.map(({ node }) => node.text) ?? [];
const numbered = (from: number, to: number) => Array.from({ length: to - from }, (_, index) => `text ${from + index}`);

/** What a component that shows a query has seen, and the query itself for fetchMore. */
async function watch<Data, Variables extends OperationVariables>(
  query: TypedDocumentNode<Data, Variables>,
  variables: Variables,
) {
  const shown: Data[] = [];
  const observed = client.watchQuery<Data>({ query, variables });
  const subscription = observed.subscribe(({ data, dataState, networkStatus }) => {
    if (dataState === "complete" && networkStatus === NetworkStatus.ready) shown.push(data);
  });
  stops.push(() => subscription.unsubscribe());
  await waitUntil("the first result", () => Promise.resolve(shown.length > 0));
  return { shown, observed };
}

async function open(sessionId: string) {
  const { shown, observed } = await watch(Messages, { sessionId });
  const session = shown.at(-1)?.session;
  if (!session) throw new Error("no such session");
  stops.push(followSession(client, sessionId, session.id, session.cursor));
  return { shown, observed, id: session.id, chat: () => shown.at(-1)?.session ?? null };
}

test("pages of messages are merged backwards, none twice", async () => {
  await fillSession(chat, "pages", 45);
  const view = await open("pages");
  expect(textsOf(view.chat()?.messages)).toEqual(numbered(25, 45));
  for (const from of [5, 0]) {
    const before = view.chat()?.messages.pageInfo.startCursor;
    if (typeof before !== "string") throw new Error("no startCursor");
    await view.observed.fetchMore({ variables: { before } });
    await waitUntil("the older page", () => Promise.resolve(view.chat()?.messages.edges.length === 45 - from));
    expect(textsOf(view.chat()?.messages)).toEqual(numbered(from, 45));
    expect(view.chat()?.messages.pageInfo.hasPreviousPage).toBe(from > 0);
  }
  await fillSession(chat, "pages", 1);
  await waitUntil("the new message", () => Promise.resolve(view.chat()?.messages.edges.length === 46));
  expect(textsOf(view.chat()?.messages)).toEqual([...numbered(0, 45), "text 0"]);
});

test("an optimistic message becomes the stored one, and the reply grows and arrives", async () => {
  await fillSession(chat, "turn", 2);
  const view = await open("turn");
  const input = { sessionId: "turn", text: "Hi! I'm Jim.", messageId: "question" };
  const id = optimisticId("turn", "question");
  const sent = await sendMessage(client, view.id, input);
  expect(sent.data?.sendMessage.userMessage).toMatchObject({ id, position: 2 });
  await waitUntil("the reply", () =>
    Promise.resolve(view.chat()?.messages.edges.length === 4 && view.chat()?.activeRun === null),
  );

  const lists = view.shown.map(({ session }) => session?.messages.edges.map(({ node }) => node) ?? []);
  const mine = lists.flatMap((list) => list.filter((message) => message.id === id));
  // One key from the first: shown before there was an answer, and settled in its place.
  expect(mine[0]).toMatchObject({ text: "Hi! I'm Jim.", position: 2 ** 31 - 1 });
  expect(mine.at(-1)).toMatchObject({ text: "Hi! I'm Jim.", position: 2 });
  for (const list of lists) expect(new Set(list.map((message) => message.id)).size).toBe(list.length);

  const reply = lists.at(-1)?.at(-1);
  expect(reply).toMatchObject({ role: "ASSISTANT", position: 3, id: sent.data?.sendMessage.run.replyId });
  const drafts = view.shown.flatMap(({ session }) => session?.activeRun?.text ?? []);
  expect(drafts.length).toBeGreaterThan(1);
  expect(drafts.every((draft) => reply?.text.startsWith(draft))).toBe(true);
});

test("two tabs open a chat before it exists, and both see its first turn live", async () => {
  openai.behave({ kind: "gated", tokens: ["Hello", " Jim."] });
  const other = createApolloClient(chat.url, possibleTypes);
  const events: string[][] = [[], []];
  const tabs = [client, other].map((tab, i) => {
    stops.push(openSession(tab, "new", ({ __typename }) => events[i]?.push(__typename)));
    return () => tab.readQuery({ query: Messages, variables: { sessionId: "new" } })?.session ?? null;
  });
  // A component that showed "no such chat".
  const { shown: watched } = await watch(Messages, { sessionId: "new" });
  expect(watched).toEqual([{ session: null }]);
  const all = (holds: (shown: (typeof tabs)[number]) => boolean) => () => Promise.resolve(tabs.every(holds));
  const input = { sessionId: "new", text: "Hi! I'm Jim.", messageId: "new", model: "openai:small" };
  await waitUntil("both wait", () => Promise.resolve(events.every((names) => names[0] === "StreamWaiting")));
  const sent = sendMessage(client, "", input);
  await waitUntil(
    "the question",
    all((shown) => textsOf(shown()?.messages)[0] === "Hi! I'm Jim."),
  );
  openai.release();
  await waitUntil(
    "the first word",
    all((shown) => shown()?.activeRun?.text === "Hello"),
  );
  openai.releaseAll();
  await waitUntil(
    "the reply",
    all((shown) => shown()?.activeRun === null && shown()?.messages.edges.length === 2),
  );
  expect((await sent).error).toBeUndefined();
  for (const shown of tabs) expect(textsOf(shown()?.messages)).toEqual(["Hi! I'm Jim.", "Hello Jim."]);
  await waitUntil("it is shown", () => Promise.resolve(textsOf(watched.at(-1)?.session?.messages).length === 2));
  for (const names of events) {
    expect(names.filter((name) => name !== "ReplyProgress")).toEqual([
      ...["StreamWaiting", "StreamOpened", "RunChanged", "MessageAdded", "MessageAdded", "RunChanged"],
    ]);
  }
  other.stop();
});

test("an answer that comes later than the reply's first words takes none of them back", async () => {
  openai.behave({ kind: "gated", tokens: ["Hello", " Jim", "."] });
  await fillSession(chat, "late", 2);
  const view = await open("late");
  const letGo = holdAnswer("mutation Send");
  const input = { sessionId: "late", text: "Hi! I'm Jim.", messageId: "late", model: "openai:small" };
  const sent = sendMessage(client, view.id, input);
  const draft = () => view.chat()?.activeRun?.text;
  openai.release();
  // Behind the optimistic answer, which covers the session for as long as it stands for the real one.
  const behind = () => JSON.stringify(client.cache.extract());
  await waitUntil("the first word", () => Promise.resolve(behind().includes('"text":"Hello"')));
  letGo();
  expect((await sent).error).toBeUndefined();
  await waitUntil("it is shown", () => Promise.resolve(draft() !== undefined));
  expect(draft()).toBe("Hello");
  openai.release();
  await waitUntil("the second word", () => Promise.resolve(draft() === "Hello Jim"));
  openai.releaseAll();
  await waitUntil("the reply", () => Promise.resolve(textsOf(view.chat()?.messages).at(-1) === "Hello Jim."));
});

test("what is applied twice changes nothing", async () => {
  await fillSession(chat, "twice", 3);
  const view = await open("twice");
  const before = client.cache.extract();
  const all = view.chat()?.messages.edges.map(({ node }) => node) ?? [];
  for (const message of [...all, ...all]) {
    applySessionEvent(client.cache, view.id, { __typename: "MessageAdded", message });
  }
  expect(client.cache.extract()).toEqual(before);
  expect(textsOf(view.chat()?.messages)).toEqual(numbered(0, 3));
});

test("a run that waits for an approval stays the active one", async () => {
  await fillSession(chat, "waits", 1);
  const view = await open("waits");
  openai.next(pays("ann"));
  await startRun(chat, { sessionId: "waits", text: "Pay ann", model: "agent:careful" });
  await waitUntil("it waits", () => Promise.resolve(view.chat()?.activeRun?.status === "WAITING"));
});

test("a run that is queued behind a reply, and taken back, leaves the reply the active one", async () => {
  const sessionId = "queue";
  openai.behave({ kind: "gated", tokens: ["one", " two"] });
  await fillSession(chat, sessionId, 1);
  const view = await open(sessionId);
  const input = { sessionId, text: "Count.", model: "openai:small" };
  await startRun(chat, input);
  openai.release();
  await waitUntil("the first word", () => Promise.resolve(view.chat()?.activeRun?.text === "one"));
  const queued = await startRun(chat, { ...input, whenBusy: "QUEUE" });
  await chat.ask(`mutation ($runId: ID!) { cancelRun(input: { runId: $runId }) { run { id } } }`, { runId: queued });
  openai.release();
  await waitUntil("the second word", () => Promise.resolve(view.chat()?.activeRun?.text === "one two"));
  openai.releaseAll();
  await waitUntil("the reply", () => Promise.resolve(view.chat()?.activeRun === null));
  expect(textsOf(view.chat()?.messages)).toEqual(["text 0", "Count.", "one two"]);
});

test("the text of an agent's next message begins anew", async () => {
  const sessionId = "steps";
  await fillSession(chat, sessionId, 1);
  const view = await open(sessionId);
  openai.behave(null);
  openai.next(pays("ann"), { kind: "gated", tokens: ["Done", "."] });
  await startRun(chat, { sessionId, text: "Pay ann", model: "agent:payer" });
  openai.release();
  await waitUntil("the next message", () => Promise.resolve(view.chat()?.activeRun?.text === "Done"));
  openai.releaseAll();
  await waitUntil("the reply", () => Promise.resolve(view.chat()?.activeRun === null));
  expect(textsOf(view.chat()?.messages).at(-1)).toBe("Done.");
});

test("a cleared history leaves an empty list that goes on", async () => {
  await fillSession(chat, "clear", 30);
  const view = await open("clear");
  const before = view.chat()?.messages.pageInfo.startCursor;
  if (typeof before !== "string") throw new Error("no startCursor");
  await view.observed.fetchMore({ variables: { before } });
  await waitUntil("both pages", () => Promise.resolve(view.chat()?.messages.edges.length === 30));

  await chat.ask(`mutation { clearHistory(input: { sessionId: "clear" }) { session { id } } }`);
  await waitUntil("an empty list", () => Promise.resolve(view.chat()?.messages.edges.length === 0));
  await fillSession(chat, "clear", 1);
  await waitUntil("a new message", () => Promise.resolve(view.chat()?.messages.edges.length === 1));
  expect(textsOf(view.chat()?.messages)).toEqual(["text 0"]);
});

test("the list of sessions has what comes and loses what goes", async () => {
  const ids = Array.from({ length: 25 }, (_, index) => `list-${index}`);
  for (const sessionId of ids) await fillSession(chat, sessionId, 1);
  stops.push(followSessions(client));
  const { shown, observed } = await watch(Sessions, {});
  const nodes = () => shown.at(-1)?.sessions.edges.map(({ node }) => node) ?? [];
  const listed = () => nodes().map(({ sessionId }) => sessionId);
  expect(listed()).toEqual(ids.toReversed().slice(0, 20));
  const after = shown.at(-1)?.sessions.pageInfo.endCursor;
  if (typeof after !== "string") throw new Error("no endCursor");
  await observed.fetchMore({ variables: { after } });
  await waitUntil("the second page", () => Promise.resolve(listed().length > 20));
  expect(listed().slice(0, 25)).toEqual(ids.toReversed());
  expect(new Set(listed()).size).toBe(listed().length);

  const [first = "", second = "", third = ""] = ids;
  await chat.ask(`mutation {
    createSession(input: { sessionId: "list-new" }) { session { id } }
    updateSession(input: { sessionId: "${first}", title: "Renamed" }) { session { id } }
    deleteSession(input: { sessionId: "${second}" }) { deletedId }
  }`);
  await waitUntil("the new one first, the other gone, the title", () =>
    Promise.resolve(
      listed()[0] === "list-new" &&
        !listed().includes(second) &&
        nodes().some(({ sessionId, title }) => sessionId === first && title === "Renamed"),
    ),
  );

  await client.mutate({
    mutation: Delete,
    variables: { sessionId: third },
    update(cache, { data }) {
      if (data) dropSession(cache, data.deleteSession.deletedId);
    },
  });
  await waitUntil("gone", () => Promise.resolve(!listed().includes(third)));
  expect(listed().filter((id) => id.startsWith("list-"))).toHaveLength(24);
});

test("@defer gives the question at once and the reply when it is complete", async () => {
  openai.behave({ kind: "gated", tokens: ["Hello", " Jim."] });
  interface Asked {
    sendMessage: { userMessage: Message; reply?: Message | null };
  }
  const Ask: TypedDocumentNode<Asked> = gql`
    mutation Ask($input: SendMessageInput!) {
      sendMessage(input: $input) {
        userMessage {
          id
          text
        }
        ... @defer(label: "reply") {
          reply {
            id
            text
          }
        }
      }
    }
  `;
  const question = client.watchFragment({
    fragment: gql`
      fragment Question on Message {
        id
        text
      }
    `,
    from: { __typename: "Message", id: optimisticId("defer", "asked") },
  });
  // The gate opens only when the cache has the first part: an answer that waits for the reply would never come.
  const shown = question.subscribe(({ dataState }) => {
    if (dataState === "complete") openai.releaseAll();
  });
  stops.push(() => shown.unsubscribe());
  const input = { sessionId: "defer", text: "Hi", model: "openai:small", messageId: "asked" };
  const { data } = await client.mutate({ mutation: Ask, variables: { input } });
  expect(data?.sendMessage).toMatchObject({ userMessage: { text: "Hi" }, reply: { text: "Hello Jim." } });
});

describe("over plain HTTP", () => {
  const Added: TypedDocumentNode<{ messageAdded: { text: string } }, { sessionId: string; after?: string }> = gql`
    subscription Added($sessionId: String!, $after: String) {
      messageAdded(sessionId: $sessionId, after: $after) {
        text
      }
    }
  `;

  /** What a subscriber is given, as it comes. */
  function follow(from: ApolloClient, variables: { sessionId: string; after?: string }) {
    const texts: string[] = [];
    const errors: unknown[] = [];
    let ended = false;
    const following = from.subscribe({ query: Added, variables, fetchPolicy: "no-cache" }).subscribe({
      next({ data, error }) {
        if (error !== undefined) errors.push(error);
        if (data) texts.push(data.messageAdded.text);
      },
      complete: () => (ended = true),
    });
    stops.push(() => following.unsubscribe());
    return { texts, errors, end: () => waitUntil("the end", () => Promise.resolve(ended)) };
  }

  const codesOf = (error: unknown) =>
    CombinedProtocolErrors.is(error) || CombinedGraphQLErrors.is(error)
      ? error.errors.map(({ extensions }) => extensions?.["code"])
      : error;

  test("HttpLink alone brings all that comes, and tells how it ended", async () => {
    await fillSession(chat, "http", 2);
    const plain = new ApolloClient({ link: new HttpLink({ uri: chat.url }), cache: new InMemoryCache() });
    const { texts, errors, end } = follow(plain, { sessionId: "http", after: "" });
    await waitUntil("what was there", () => Promise.resolve(texts.length === 2));
    await fillSession(chat, "http", 1);
    await waitUntil("what comes", () => Promise.resolve(texts.length === 3));
    expect(texts).toEqual(["text 0", "text 1", "text 0"]);
    await chat.ask(`mutation { deleteSession(input: { sessionId: "http" }) { deletedId } }`);
    await end();
    expect(errors.map(codesOf)).toEqual([["NOT_FOUND"]]);

    await fillSession(chat, "http", 1);
    const refused = follow(plain, { sessionId: "http", after: "no cursor" });
    await refused.end();
    expect(refused.errors.map(codesOf)).toEqual([["INVALID_CURSOR"]]);
    plain.stop();
  });

  test("a whole turn: the question, the growing reply, the reply", async () => {
    client.stop();
    client = createApolloClient(chat.url, possibleTypes, linkOverHttp(chat.url));
    await fillSession(chat, "http-turn", 2);
    const view = await open("http-turn");
    await sendMessage(client, view.id, { sessionId: "http-turn", text: "Hi! I'm Jim.", messageId: "asked" });
    await waitUntil("the reply", () =>
      Promise.resolve(view.chat()?.messages.edges.length === 4 && view.chat()?.activeRun === null),
    );
    const reply = view.chat()?.messages.edges.at(-1)?.node;
    const drafts = view.shown.flatMap(({ session }) => session?.activeRun?.text ?? []);
    expect(drafts.length).toBeGreaterThan(1);
    expect(drafts.every((draft) => reply?.text.startsWith(draft))).toBe(true);
  });

  test("cut off, it goes on behind the newest event, and where it began when there was none", async () => {
    const proxy = await startProxy(chat.port);
    const url = `http://127.0.0.1:${proxy.port}/graphql`;
    const operations: ApolloLink.Operation[] = [];
    const watched = new ApolloLink((operation, forward) => {
      operations.push(operation);
      return forward(operation);
    });
    const cut = createApolloClient(url, possibleTypes, watched.concat(linkOverHttp(url)));
    await fillSession(chat, "http-cut", 2);
    // From now on: nothing comes before the cut, so the stream has no event yet.
    const quiet = follow(cut, { sessionId: "http-cut" });
    const { texts, errors } = follow(cut, { sessionId: "http-cut", after: "" });
    const areOpen = () =>
      operations.length === 2 && operations.every((one) => one.getContext()["response"] !== undefined);
    await waitUntil("both streams, and what was there", () => Promise.resolve(texts.length === 2 && areOpen()));
    proxy.refuse(true);
    await fillSession(chat, "http-cut", 3);
    proxy.refuse(false);
    await waitUntil("what came meanwhile", () => Promise.resolve(texts.length >= 5 && quiet.texts.length >= 3));
    await fillSession(chat, "http-cut", 1);
    await waitUntil("what comes then", () => Promise.resolve(texts.length >= 6 && quiet.texts.length >= 4));
    expect(texts).toEqual(["text 0", "text 1", "text 0", "text 1", "text 2", "text 0"]);
    expect(quiet.texts).toEqual(["text 0", "text 1", "text 2", "text 0"]);
    expect([...errors, ...quiet.errors]).toEqual([]);
    cut.stop();
    await proxy.close();
  });
});
