import { readdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { pathToFileURL } from "node:url";

import { buildSchema, parse, validate } from "graphql";
import { afterAll, beforeAll, describe, expect, test } from "vitest";

import { fillSession, startChatGateway } from "../clients/chat-gateway.ts";
import type { ChatGateway } from "../clients/chat-gateway.ts";
import { connect } from "../clients/graphql-ws.ts";
import { optimisticId } from "../clients/message-id.ts";
import { project, removeProjects, run } from "../support/gateway/client-project.ts";
import { waitUntil } from "../support/redis/redis-command.ts";

afterAll(removeProjects);

/** What a Relay app sends for an operation. */
interface Artifact {
  readonly params: { readonly name: string; readonly operationKind: string; readonly text: string };
  readonly operation: unknown;
}

interface Connection<Node> {
  readonly edges: readonly { readonly cursor: string; readonly node: Node }[];
  readonly pageInfo: { readonly startCursor: string; readonly endCursor: string };
}
interface Item {
  readonly id: string;
  readonly text: string;
  readonly sessionId: string;
}

describe("Relay", () => {
  let chat: ChatGateway;
  const operations = new Map<string, Artifact>();

  beforeAll(async () => {
    const folder = await project("relay");
    await run(folder, "relay-compiler", "relay.config.json");
    for (const file of await readdir(join(folder, "artifacts"))) {
      if (!/(Query|Mutation|Subscription)\.graphql\.ts$/.test(file)) continue;
      const module: unknown = await import(pathToFileURL(join(folder, "artifacts", file)).href);
      const { default: artifact } = module as { default: Artifact }; // relay-compiler's form
      operations.set(artifact.params.name, artifact);
    }
    chat = await startChatGateway();
  });

  afterAll(async () => {
    await chat.close();
  });

  /** Sends what relay-compiler made of a document. */
  async function send<Data>(name: string, variables: Record<string, unknown>): Promise<Data> {
    return (await chat.ask(textOf(name), variables)) as Data; // what the document asks for
  }

  function textOf(name: string): string {
    const artifact = operations.get(name);
    if (!artifact) throw new Error(`relay-compiler made no ${name}`);
    return artifact.params.text;
  }

  test("relay-compiler takes a chat UI's documents, and makes of them what the gateway's schema allows", async () => {
    const schema = buildSchema(await readFile(new URL("../../schema.graphql", import.meta.url), "utf8"));
    expect([...operations.keys()].sort()).toEqual([
      "ComposerAskMutation",
      "ComposerSendMutation",
      "MessageItemNodeQuery",
      "MessageListPaginationQuery",
      "MessageListQuery",
      "ReplyCancelMutation",
      "ReplyRefetchQuery",
      "ReplyRegenerateMutation",
      "SessionFeedSubscription",
      "SessionItemDeleteEdgeMutation",
      "SessionItemDeleteMutation",
      "SessionItemReadMutation",
      "SessionItemUpdateMutation",
      "SessionListCreateMutation",
      "SessionListForkMutation",
      "SessionListPaginationQuery",
      "SessionListQuery",
      "SessionListSubscription",
      "SettingsRefetchQuery",
    ]);
    for (const { params } of operations.values()) expect(validate(schema, parse(params.text))).toEqual([]);
    const handles = (name: string) => JSON.stringify(operations.get(name)?.operation);
    expect(handles("ComposerSendMutation")).toMatch(/"handle":"appendNode".*"value":"MessageEdge"/);
    expect(handles("SessionFeedSubscription")).toMatch(/"handle":"appendNode".*"value":"MessageEdge"/);
    expect(handles("SessionFeedSubscription")).toContain('"handle":"deleteRecord"');
    expect(handles("SessionListSubscription")).toMatch(
      /"handle":"prependNode".*"value":"SessionEdge".*"handle":"deleteRecord"/,
    );
    expect(handles("SessionListCreateMutation")).toMatch(/"handle":"prependNode".*"value":"SessionEdge"/);
    expect(handles("SessionItemDeleteMutation")).toContain('"handle":"deleteRecord"');
    expect(handles("SessionItemDeleteEdgeMutation")).toContain('"handle":"deleteEdge"');
    expect(handles("MessageListPaginationQuery")).toContain('"handle":"connection","key":"MessageList_messages"');
  });

  test("relay-compiler refuses what the schema does not have", async () => {
    const folder = await project("relay");
    const broken = "export const broken = graphql`query BrokenQuery { session(sessionId: 1) { nothing } }`;";
    await writeFile(join(folder, "src/Broken.ts"), broken);
    await expect(run(folder, "relay-compiler", "relay.config.json")).rejects.toThrow(/nothing/);
  });

  test("the list of sessions: pages, create, read, rename, fork and delete by the ids that the store has", async () => {
    const made: string[] = [];
    for (let index = 0; index < 25; index += 1) {
      const input = { sessionId: `list-${index}`, title: `Title ${index}` };
      type Created = { createSession: { session: Item } };
      made.push(
        (await send<Created>("SessionListCreateMutation", { input, connections: [] })).createSession.session.id,
      );
    }
    type Listed = { sessions: Connection<Item> };
    const first = await send<Listed>("SessionListQuery", { filter: { titleContains: "title" } });
    const second = await send<Listed>("SessionListPaginationQuery", {
      filter: { titleContains: "title" },
      cursor: first.sessions.pageInfo.endCursor,
    });
    const listed = [...first.sessions.edges, ...second.sessions.edges].map(({ node }) => node.id);
    expect(listed).toEqual(made.toReversed());

    await fillSession(chat, "list-3", 4);
    await send("SessionItemReadMutation", { input: { sessionId: "list-3" } });
    await send("SessionItemUpdateMutation", { input: { sessionId: "list-3", title: "New" } });
    await send("SessionListForkMutation", {
      input: { sessionId: "list-3", newSessionId: "list-3-copy" },
      connections: [],
    });
    const settings = await send<{ node: unknown }>("SettingsRefetchQuery", { id: made[3] });
    expect(settings.node).toMatchObject({ id: made[3], model: "offline", metadata: {} });

    type Deleted = { deleteSession: { deletedId: string } };
    const { deleteSession } = await send<Deleted>("SessionItemDeleteMutation", { input: { sessionId: "list-3" } });
    expect(deleteSession.deletedId).toBe(made[3]);
    await expect(send("SettingsRefetchQuery", { id: made[3] })).resolves.toEqual({ node: null });
  });

  test("two tabs open a chat before it exists, by the subscription alone, and both see its first turn", async () => {
    interface Event {
      __typename: string;
      session?: Item & { messages: Connection<Item> };
      message?: Item;
    }
    const tabs = [1, 2].map(() => {
      const client = connect(chat.url);
      const events: Event[] = [];
      client.subscribe<{ sessionEvents: Event }>(
        { query: textOf("SessionFeedSubscription"), variables: { sessionId: "new", after: "", isNew: true } },
        {
          next({ data }) {
            if (data) events.push(data.sessionEvents);
          },
          error: (error) => {
            throw error;
          },
          complete: () => undefined,
        },
      );
      return { client, events };
    });
    const all = (name: string, count: number) => () =>
      Promise.resolve(
        tabs.every(({ events }) => events.filter(({ __typename }) => __typename === name).length === count),
      );
    await waitUntil("both wait", all("StreamWaiting", 1));
    const input = { sessionId: "new", text: "Hi! I'm Jim.", messageId: "first" };
    type Sent = { sendMessage: { userMessage: Item; run: { replyId: string } } };
    const { sendMessage } = await send<Sent>("ComposerSendMutation", { input, connections: [] });
    await waitUntil("the run's end", all("RunChanged", 2));
    for (const { client, events } of tabs) {
      expect(events.map(({ __typename }) => __typename).filter((name) => name !== "ReplyProgress")).toEqual([
        ...["StreamWaiting", "StreamOpened", "RunChanged", "MessageAdded", "MessageAdded", "RunChanged"],
      ]);
      // What MessageListQuery would have given, empty; and the first messages behind it.
      expect(events[1]?.session).toMatchObject({ sessionId: "new", messages: { edges: [] } });
      expect(events.flatMap(({ message }) => (message ? [message.id] : []))).toEqual([
        ...[sendMessage.userMessage.id, sendMessage.run.replyId],
      ]);
      await client.dispose();
    }
  });

  test("messages page backwards through node(id), and what happens comes to the subscription", async () => {
    await fillSession(chat, "chat", 70);
    type Opened = { session: Item & { cursor: string; messages: Connection<Item> } };
    const { session } = await send<Opened>("MessageListQuery", { sessionId: "chat" });
    type Older = { node: { messages: Connection<Item> } };
    const older = await send<Older>("MessageListPaginationQuery", {
      id: session.id,
      cursor: session.messages.pageInfo.startCursor,
      count: 30,
    });
    const texts = [...older.node.messages.edges, ...session.messages.edges].map(({ node }) => node.text);
    expect(texts).toEqual(Array.from({ length: 70 }, (_, index) => `text ${index}`));

    type Event = { sessionEvents: { __typename: string; message?: Item; text?: string; removedId?: string } };
    const events: Event["sessionEvents"][] = [];
    const client = connect(chat.url);
    let ended = false;
    client.subscribe<Event>(
      {
        query: textOf("SessionFeedSubscription"),
        variables: { sessionId: "chat", after: session.cursor, isNew: false },
      },
      {
        next({ data }) {
          if (data) events.push(data.sessionEvents);
        },
        error: (error) => {
          throw error;
        },
        complete: () => (ended = true),
      },
    );
    await waitUntil("the subscription is open", () => Promise.resolve(events.length > 0));

    const input = { sessionId: "chat", text: "Hi! I'm Jim.", messageId: "mine" };
    type Sent = { sendMessage: { userMessage: Item; run: { id: string; replyId: string } } };
    const { sendMessage } = await send<Sent>("ComposerSendMutation", { input, connections: [] });
    expect(sendMessage.userMessage.id).toBe(optimisticId("chat", "mine"));
    const { replyId } = sendMessage.run;
    const arrived = () => events.flatMap(({ message }) => (message ? [message.id] : []));
    await waitUntil("the reply", () => Promise.resolve(arrived().includes(replyId)));
    expect(arrived()).toEqual([sendMessage.userMessage.id, replyId]);

    const node = await send<{ node: unknown }>("MessageItemNodeQuery", { id: replyId });
    expect(node.node).toMatchObject({ __typename: "Message", id: replyId, role: "ASSISTANT" });
    await waitUntil("the run's end", () => Promise.resolve(events.at(-1)?.__typename === "RunChanged"));
    const run = await send<{ node: { text: string } }>("ReplyRefetchQuery", { id: sendMessage.run.id });
    const progress = events.flatMap(({ __typename, text = "" }) => (__typename === "ReplyProgress" ? [text] : []));
    expect(run.node).toMatchObject({ status: "COMPLETED", replyId, text: progress.join("") });

    await send("SessionItemDeleteMutation", { input: { sessionId: "chat" } });
    await waitUntil("the stream's end", () => Promise.resolve(ended));
    expect(events.at(-1)).toMatchObject({ __typename: "SessionRemoved", removedId: session.id });
    await client.dispose();
  });
});
