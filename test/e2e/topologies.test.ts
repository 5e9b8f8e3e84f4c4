import { Readable } from "node:stream";
import { ConversationChain } from "@langchain/classic/chains";
import { BufferMemory } from "@langchain/classic/memory";
import type { StoredMessage } from "@langchain/core/messages";
import { AIMessage, HumanMessage } from "@langchain/core/messages";
import { tool } from "@langchain/core/tools";
import { Command, interrupt, MessagesAnnotation, START, StateGraph } from "@langchain/langgraph";
import { ChatOpenAI } from "@langchain/openai";
import { RedisChatMessageHistory } from "@langchain/redis";
import type { Cluster, Redis } from "ioredis";
import { afterAll, beforeAll, beforeEach, describe, expect, test, vi } from "vitest";
import { z } from "zod";
import type { Gateway } from "../../src/gateway.ts";
import { CheckpointSaver } from "../../src/langgraph/saver.ts";
import { sharedKeys } from "../../src/redis/store/keys.ts";
import { scriptNames } from "../../src/redis/scripts/contracts.ts";
import { Scripts } from "../../src/redis/scripts/scripts.ts";
import * as chat from "../support/gateway/conversation.ts";
import { spawnGateway, startGateway, type TestGateway } from "../support/gateway/gateway.ts";
import { execute, request, subscribe, type Variables } from "../support/gateway/graphql-client.ts";
import { IoRedisHistory } from "../support/store/ioredis-history.ts";
import { startOpenAI, type OpenAIServer } from "../support/model/openai-server.ts";
import { startTopology, topologyName } from "../support/redis/project-topology.ts";
import { command, waitUntil } from "../support/redis/redis-command.ts";
import type { TestRedis } from "../support/redis/redis-server.ts";
import { foreignRow } from "../support/store/store.ts";
import type { TestTopology } from "../support/redis/topologies.ts";

const clock = tool(() => "It is noon.", { name: "clock", description: "Tells the time.", schema: z.object({}) });

// Short, so that a lease is renewed, ends and is looked after within the tests.
const runLeaseMs = 3000;

describe("two gateways", () => {
  let redis: TestTopology;
  let openai: OpenAIServer;
  let raw: Redis | Cluster;
  let gateways: readonly TestGateway[] = [];
  let here: string;
  let there: string;
  const run = vi.spyOn(Scripts.prototype, "run");

  beforeAll(async () => {
    [redis, openai] = await Promise.all([startTopology(), startOpenAI()]);
    raw = redis.raw();
    const options = {
      redis: redis.redis,
      model: "openai:gpt-4o-mini",
      openai: { apiKey: "sk-x", baseUrl: openai.baseUrl },
      runLeaseMs,
      // Not to be reached: so that the scripts that count run as well.
      maxSendsPerMinute: 100_000,
      maxRunsPerSubject: 1000,
      maxTokensPerDay: 1_000_000_000,
      agents: {
        clock: { model: "openai:gpt-4o-mini", tools: [clock] },
        asking: { model: "openai:gpt-4o-mini", tools: [clock], approvals: ["clock"] },
      },
      // What foreign code writes must be heard: reading from time to time would hide that it is not.
      feedCheckMs: 600_000,
    };
    gateways = await Promise.all([startGateway(options), startGateway(options)]);
    [here = "", there = ""] = gateways.map(({ url }) => url);
    await ready(here);
    await ready(there);
  });
  beforeEach(() => {
    openai.releaseAll();
    openai.behave(null);
  });
  afterAll(async () => {
    vi.restoreAllMocks();
    await Promise.all(gateways.map((gateway) => gateway.close()));
    await openai.close();
    await redis.stop();
  });

  // With braces in every place that decides a slot, or seems to.
  test.each(["plain", "{tag}key", "a}b", "x{y}z", "{}{a}", "{", "a{}b"])(
    "a conversation in the session %j, followed on the other, foreign rows included",
    async (sessionId) => {
      await chat.addMessages(here, sessionId, [{ role: "SYSTEM", text: "Begin" }]);
      const stream = await chat.follow(there, sessionId);
      const first = await chat.ask(here, sessionId, "Hi! I'm Jim.");
      await raw.lpush(sessionId, foreignRow("from elsewhere"));
      await stream.waitFor(isMessage("from elsewhere"));
      const second = await chat.ask(there, sessionId, "What is my name?");
      await stream.waitFor(chat.isRunEnd(second.run.id));
      stream.close();
      expect(chat.outline(stream).filter((step) => step !== "ReplyProgress")).toEqual([
        ...["StreamOpened", "RunChanged RUNNING", "MessageAdded USER", "SessionUpdated", "MessageAdded ASSISTANT"],
        ...["RunChanged COMPLETED", "MessageAdded USER"],
        ...["RunChanged RUNNING", "MessageAdded USER", "SessionUpdated", "MessageAdded ASSISTANT"],
        "RunChanged COMPLETED",
      ]);
      const said = ["Hi! I'm Jim.", "Hello Jim!", "from elsewhere", "What is my name?", "Your name is Jim."];
      expect(chat.eventsOf(stream, "MessageAdded").map(({ message }) => message.text)).toEqual(said);
      const messages = await chat.readMessages(here, sessionId);
      expect(messages.map(({ text }) => text)).toEqual(["Begin", ...said]);
      expect(messages.map(({ position }) => position)).toEqual([0, 1, 2, 3, 4, 5]);
      expect(messages[2]?.id).toBe(first.reply?.id);
    },
  );

  test("a LangChain program over ioredis (in a cluster its Cluster) shares a conversation, live in both directions", async () => {
    await chat.ask(here, "langchain", "Hi! I'm Jim.");
    const stream = await chat.follow(there, "langchain");
    const llm = new ChatOpenAI({ model: "gpt-4o-mini", apiKey: "sk-y", configuration: { baseURL: openai.baseUrl } });
    const memory = new BufferMemory({ chatHistory: new IoRedisHistory(raw, "langchain") });
    const answer = await new ConversationChain({ llm, memory }).invoke({ input: "What did I just say my name was?" });
    expect(answer).toEqual({ response: "Your name is Jim." });
    await stream.waitForCount(2, ({ __typename }) => __typename === "MessageAdded");
    const { reply } = await chat.ask(there, "langchain", "What is my name?");
    await stream.waitFor((event) => event.__typename === "MessageAdded" && event.message.id === reply?.id);
    stream.close();
    const live = chat.eventsOf(stream, "MessageAdded").map(({ message }) => [message.position, message.text]);
    expect(live).toEqual([
      [2, "What did I just say my name was?"],
      [3, "Your name is Jim."],
      [4, "What is my name?"],
      [5, "Your name is Jim."],
    ]);
    // The package's own class talks to one server: in a cluster to the one that has the key.
    const { url } = await redis.primaryOf("langchain");
    const packaged = new RedisChatMessageHistory({ sessionId: "langchain", config: { url } });
    for (const history of [new IoRedisHistory(raw, "langchain"), packaged]) {
      const read = await history.getMessages();
      expect(read.map(({ type, text }) => [type, text])).toEqual([
        ["human", "Hi! I'm Jim."],
        ["ai", "Hello Jim!"],
        ["human", "What did I just say my name was?"],
        ["ai", "Your name is Jim."],
        ["human", "What is my name?"],
        ["ai", "Your name is Jim."],
      ]);
      expect(read.at(-1)?.id).toBe(reply?.messageId);
    }
    await packaged.client.quit();
  });

  test("queue, interrupt and cancel across the gateways", async () => {
    openai.next({ kind: "gated", tokens: ["Held ", "on"] });
    const held = await chat.send(here, "across", "Hold");
    openai.release();
    await waitUntil("its first text", async () => (await chat.readRun(there, held.run.id))?.text === "Held ");
    // Longer than its lease: only its own process' renewals keep it going.
    await new Promise((resolve) => setTimeout(resolve, runLeaseMs * 1.5));
    const waiting = await chat.send(there, "across", "Waits");
    const dropped = await chat.send(here, "across", "Never");
    expect([held.run.status, waiting.run.status, dropped.run.status]).toEqual(["RUNNING", "QUEUED", "QUEUED"]);
    expect(await codeOf(there, chat.sendOnly, { input: { sessionId: "across", text: "x", whenBusy: "REJECT" } })).toBe(
      "SESSION_BUSY",
    );
    expect((await chat.cancel(there, dropped.run.id)).status).toBe("CANCELLED");
    const aborted = openai.aborted;
    const first = await chat.ask(there, "across", "Me first", { whenBusy: "INTERRUPT" });
    await openai.waitForAbort(aborted + 1);
    await waitUntil("the other had its turn", async () => {
      return (await chat.readRun(here, waiting.run.id))?.status === "COMPLETED";
    });
    expect(first.run.status).toBe("COMPLETED");
    expect(await textsOf("across")).toEqual([
      ...["Hold", "Held ", "Me first", "You said: Me first", "Waits", "You said: Waits"],
    ]);
  });

  test("cancel on the other ends the model's reply, and keeps the text", async () => {
    openai.next({ kind: "gated", tokens: ["Much ", "more"] });
    const { run } = await chat.send(here, "cancelled", "Tell me everything");
    openai.release();
    await waitUntil("its first text", async () => (await chat.readRun(there, run.id))?.text === "Much ");
    const before = openai.aborted;
    expect(await chat.cancel(there, run.id)).toMatchObject({ status: "CANCELLED", text: "Much " });
    await openai.waitForAbort(before + 1);
  });

  test("the same messageId on both at once: one call of the model", async () => {
    const before = openai.requests.length;
    const turns = await Promise.all(
      [here, there, here, there].map((url) => chat.ask(url, "once", "Only once", { messageId: "once" })),
    );
    expect(new Set(turns.map(({ run }) => run.id)).size).toBe(1);
    expect(openai.requests.length).toBe(before + 1);
    expect(await textsOf("once")).toEqual(["Only once", "You said: Only once"]);
  });

  test("a long history is paged in both directions, forked into another slot, cleared and deleted", async () => {
    const texts = Array.from({ length: 620 }, (_, i) => `m${i}`);
    await chat.addMessages(
      here,
      "long",
      texts.map((text) => ({ role: "USER", text })),
    );
    for (const direction of ["first", "last"] as const) {
      const pages: (readonly string[])[] = [];
      for (let cursor: string | null = null; ;) {
        const page = await chat.pageOf(there, "long", direction, cursor);
        pages.push(page.nodes.map(({ text }) => text));
        cursor = direction === "first" ? page.pageInfo.endCursor : page.pageInfo.startCursor;
        if (!(direction === "first" ? page.pageInfo.hasNextPage : page.pageInfo.hasPreviousPage)) break;
      }
      expect((direction === "first" ? pages : pages.reverse()).flat()).toEqual(texts);
      expect(pages).toHaveLength(4);
    }

    const through = (await chat.pageOf(there, "long", "last", null)).edges.at(-2)?.cursor;
    const fork = `mutation ($input: ForkSessionInput!) { forkSession(input: $input) { session { messageCount } } }`;
    const input = { sessionId: "long", newSessionId: "{elsewhere}fork", through };
    expect(await execute(there, fork, { input })).toEqual({ forkSession: { session: { messageCount: 619 } } });
    expect((await textsOf("{elsewhere}fork")).at(-1)).toBe("m618");
    expect(await codeOf(here, fork, { input })).toBe("SESSION_EXISTS");

    const stream = await chat.follow(there, "long");
    await execute(here, `mutation { clearHistory(input: { sessionId: "long" }) { session { id } } }`);
    await stream.waitFor(({ __typename }) => __typename === "HistoryReset");
    expect(await codeOf(here, chat.pageQuery("first"), { sessionId: "long", after: through })).toBe("CURSOR_EXPIRED");
    await execute(here, `mutation { deleteSession(input: { sessionId: "long" }) { deletedId } }`);
    await stream.waitForEnd();
    expect(stream.events.at(-1)?.__typename).toBe("SessionRemoved");
    expect(await raw.exists("long")).toBe(0);
    expect(await textsOf("{elsewhere}fork")).toHaveLength(619);
  });

  test("settings, titles, reading, answering again, summaries", async () => {
    const create = `mutation ($input: CreateSessionInput!) { createSession(input: $input) { session { title } } }`;
    const memory = { strategy: "SUMMARY_BUFFER", maxTokens: 40 };
    expect(await execute(here, create, { input: { sessionId: "settings", title: "One", memory } })).toEqual({
      createSession: { session: { title: "One" } },
    });
    const stream = await chat.follow(there, "settings");
    for (let i = 0; i < 4; i++) await chat.ask(here, "settings", `Tell me more about the number ${i}, at some length.`);
    await chat.regenerate(there, "settings");
    await stream.waitFor(({ __typename }) => __typename === "HistoryReset");
    await execute(
      there,
      `mutation { updateSession(input: { sessionId: "settings", archived: true }) { session { id } } }`,
    );
    await execute(there, `mutation { generateTitle(input: { sessionId: "settings" }) { session { title } } }`);
    await chat.addMessages(there, "settings", [{ role: "ASSISTANT", text: "By the way" }]);
    await execute(here, `mutation { markRead(input: { sessionId: "settings" }) { session { readCount } } }`);
    await stream.waitFor(
      (event) =>
        event.__typename === "SessionUpdated" && event.session.readCount === 9 && event.session.title !== "One",
    );
    stream.close();
    type Summed = { session: { memory: { summary: string | null } } };
    await waitUntil("a summary is kept", async () => {
      const { session } = await execute<Summed>(here, `{ session(sessionId: "settings") { memory { summary } } }`);
      if (session.memory.summary !== null) return true;
      await chat.ask(here, "settings", "And what else is there to be said about all of these numbers?");
      return false;
    });
  });

  test("the list of sessions is whole, and tells of changes on the other", async () => {
    type Change = { readonly __typename: string; readonly session?: { readonly sessionId: string } };
    const changes = subscribe<Change>(
      there,
      `subscription { sessionChanged { __typename ... on SessionAdded { session { sessionId } } } }`,
    );
    await changes.waitFor(({ __typename }) => __typename === "SessionListOpened");
    const ids = Array.from({ length: 30 }, (_, i) => `listed-${i}`);
    for (const id of ids) await chat.addMessages(here, id, [{ role: "USER", text: "x" }]);
    await changes.waitForCount(30, ({ session }) => session?.sessionId.startsWith("listed-") === true);
    changes.close();
    type Listed = { sessions: { nodes: readonly { sessionId: string }[] } };
    const { sessions } = await execute<Listed>(there, `{ sessions(first: 30) { nodes { sessionId } } }`);
    expect(sessions.nodes.map(({ sessionId }) => sessionId)).toEqual(ids.reverse());
  });

  test("adopt finds foreign histories on all servers, and nothing else", async () => {
    for (let i = 0; i < 12; i++) await raw.lpush(`adopt-${i}`, foreignRow("hello"));
    await raw.lpush("adopt-jobs", '{"type":"mail","data":{"to":"x"}}');
    expect(await gateway(0).adopt({ match: "adopt-*" })).toEqual({ scanned: 13, adopted: 12, skipped: 1 });
    expect(await codeOf(here, `{ session(sessionId: "adopt-jobs") { id } }`)).toBeNull();
  });

  test("sessions are given to another owner, and that one's deleted, from whichever server", async () => {
    const listed = `{ sessions(first: 100) { nodes { sessionId } } }`;
    expect(await gateway(0).give({ from: "anonymous", to: "jim", match: "listed-*" })).toBe(30);
    expect(await execute(there, `{ session(sessionId: "listed-7") { id } }`)).toEqual({ session: null });
    expect(JSON.stringify(await execute(there, listed))).not.toContain("listed-");
    expect(await gateway(1).deleteOwner("jim")).toBe(30);
    expect(await raw.exists("listed-7")).toBe(0);
    expect(await raw.exists("plain")).toBe(1);
  });

  test("what was deleted comes back from an archive, from whichever server", async () => {
    const ids = ["once", "plain", "{elsewhere}fork"];
    const before = await Promise.all(ids.map(textsOf));
    const pieces: Uint8Array[] = [];
    for await (const piece of gateway(0).exportSessions()) pieces.push(Buffer.from(piece));
    for (const sessionId of ids) {
      const query = `mutation ($id: String!) { deleteSession(input: { sessionId: $id }) { deletedId } }`;
      await execute(there, query, { id: sessionId });
    }
    expect(await gateway(1).importSessions(Readable.from(pieces))).toMatchObject({ restored: 3 });
    expect(await Promise.all(ids.map(textsOf))).toEqual(before);
  });

  test("refusals have the same codes", async () => {
    const one = async (query: string, variables = {}) => codeOf(here, query, variables);
    const messages = `session(sessionId: "plain") { messages`;
    const cursor = (await chat.pageOf(here, "plain", "first", null)).edges[0]?.cursor ?? "";
    await raw.set("a string", "x");
    expect({
      noCursor: await one(`{ ${messages}(first: 1, after: "no cursor") { nodes { id } } } }`),
      otherCursor: await one(
        `{ session(sessionId: "once") { messages(first: 1, after: ${JSON.stringify(cursor)}) { nodes { id } } } }`,
      ),
      tooMany: await one(`{ ${messages}(first: 201) { nodes { id } } } }`),
      unknown: await one(`mutation { deleteSession(input: { sessionId: "unknown" }) { deletedId } }`),
      ours: await one(chat.sendOnly, { input: { sessionId: "parley:x", text: "x" } }),
      exists: await one(`mutation { createSession(input: { sessionId: "plain" }) { session { id } } }`),
      foreignType: await one(chat.sendOnly, { input: { sessionId: "a string", text: "x" } }),
      reused: await one(chat.sendOnly, { input: { sessionId: "once", text: "Something else", messageId: "once" } }),
      nothing: await one(`mutation { regenerateReply(input: { sessionId: "listed-unknown" }) { run { id } } }`),
      subscription: await subscriptionCode(
        here,
        `subscription { messageAdded(sessionId: "unknown", ifMissing: REFUSE) { id } }`,
      ),
    }).toEqual({
      noCursor: "INVALID_CURSOR",
      otherCursor: "INVALID_CURSOR",
      tooMany: "BAD_USER_INPUT",
      unknown: "NOT_FOUND",
      ours: "BAD_USER_INPUT",
      exists: "SESSION_EXISTS",
      foreignType: "NOT_FOUND",
      reused: "MESSAGE_ID_REUSED",
      nothing: "NOT_FOUND",
      subscription: "NOT_FOUND",
    });
  });

  test("a client that the program has is duplicated and left open; its keyPrefix counts", async () => {
    const client = redis.raw({ keyPrefix: "app:" });
    const own = await startGateway({ redis: client, autoTitle: true, feedCheckMs: 1000 });
    await ready(own.url);
    await chat.ask(own.url, "own", "Hi! I'm Jim.");
    const stream = await chat.follow(own.url, "own");
    await client.lpush("own", foreignRow("from the program"));
    await stream.waitFor(isMessage("from the program"));
    await expect.poll(() => run.mock.calls.some(([call]) => call.name === "compare")).toBe(true);
    stream.close();
    expect(await raw.llen("app:own")).toBe(3);
    const title = () => execute(own.url, `{ session(sessionId: "own") { title } }`);
    await expect.poll(async () => JSON.stringify(await title()), { timeout: 60_000 }).toContain("Jim");
    await own.close();
    expect(await client.llen("own")).toBe(3);
    expect(client.status).toBe("ready");
  });

  test.each(["a}agent", "{tag}agent"])("an agent's step in the session %j, seen on the other", async (sessionId) => {
    openai.next(
      { kind: "reply", finishReason: "tool_calls", toolCalls: [{ id: "c", name: "clock", arguments: "{}" }] },
      { kind: "reply", text: "Noon." },
    );
    const stream = await chat.follow(there, sessionId);
    const { run: told } = await chat.ask(here, sessionId, "What time is it?", { model: "agent:clock" });
    await stream.waitFor(chat.isRunEnd(told.id));
    stream.close();
    const said = ["What time is it?", "", "It is noon.", "Noon."];
    expect(chat.eventsOf(stream, "MessageAdded").map(({ message }) => message.text)).toEqual(said);
    expect(await textsOf(sessionId)).toEqual(said);
  });

  test.each(["a}asks", "{tag}asks"])(
    "a call in the session %j waits, and is approved on the other",
    async (sessionId) => {
      openai.next(
        { kind: "reply", finishReason: "tool_calls", toolCalls: [{ id: "c", name: "clock", arguments: "{}" }] },
        { kind: "reply", text: "Noon." },
      );
      const stream = await chat.follow(there, sessionId);
      const { run: asked } = await chat.send(here, sessionId, "What time is it?", { model: "agent:asking" });
      await waitUntil("it waits", async () => (await chat.readRun(there, asked.id))?.status === "WAITING");
      const approve = `mutation ($id: ID!) {
      respondToRun(input: { runId: $id, decisions: [{ approve: { callId: "c" } }] }) { run { status } }
    }`;
      await execute(there, approve, { id: asked.id });
      await stream.waitFor(chat.isRunEnd(asked.id));
      stream.close();
      expect(await textsOf(sessionId)).toEqual(["What time is it?", "", "It is noon.", "Noon."]);
    },
  );

  test("the environment alone switches a gateway to it", async () => {
    const spawned = await spawnGateway({ ...redis.env, LOG_LEVEL: "warn" });
    await ready(spawned.url);
    const stream = await chat.follow(spawned.url, "plain");
    await chat.ask(here, "plain", "Heard over there?");
    await stream.waitFor(isMessage("Heard over there?"));
    stream.close();
    expect((await chat.ask(spawned.url, "spawned", "Hi! I'm Jim.")).run.status).toBe("COMPLETED");
    expect(await textsOf("spawned")).toHaveLength(2);
    expect(await spawned.stop()).toBe(0);
  });

  test("a LangGraph thread is a session: its messages are live at another gateway, and its checkpoints are found", async () => {
    const checkpointer = new CheckpointSaver({ redis: raw, keep: 3 });
    const stream = await chat.follow(there, "graph");
    const graph = new StateGraph(MessagesAnnotation)
      .addNode("ask", () => ({ messages: [new AIMessage({ id: "answer", content: String(interrupt("Which?")) })] }))
      .addEdge(START, "ask")
      .compile({ checkpointer });
    const thread = { configurable: { thread_id: "graph" } };
    await graph.invoke({ messages: [new HumanMessage("Hi!")] }, thread);
    await stream.waitFor(isMessage("Hi!"));
    await graph.invoke(new Command({ resume: "This." }), thread);
    await stream.waitFor(isMessage("This."));
    stream.close();
    expect(await textsOf("graph")).toEqual(["Hi!", "This."]);
    // Of all threads of all servers.
    const found = [];
    for await (const { config } of checkpointer.list({})) found.push(config.configurable?.["thread_id"]);
    expect(found).toEqual(["graph", "graph", "graph"]);
    await checkpointer.close();
  });

  test("each script has run", async () => {
    const ran = (): readonly string[] => [...new Set(run.mock.calls.map(([call]) => call.name))];
    // Where a run's end was seen in time, nobody has to settle a deadline: one of a session in which nothing is due.
    await raw.zadd(sharedKeys("").due, 1, "plain");
    // A lease that has ended is looked after when its time has come.
    await expect.poll(() => scriptNames.filter((script) => !ran().includes(script)), { timeout: 60_000 }).toEqual([]);
    const used = await Promise.all(redis.servers.map(scriptCalls));
    expect(used.filter((calls) => calls > 0)).toHaveLength(topologyName === "Cluster" ? 3 : 1);
  });

  function gateway(i: number): Gateway {
    const found = gateways[i];
    if (found === undefined) throw new Error("It did not start");
    return found.gateway;
  }

  async function textsOf(sessionId: string): Promise<readonly string[]> {
    const rows = (await raw.lrange(sessionId, 0, -1)).reverse();
    return rows.map((row) => (JSON.parse(row) as StoredMessage).data.content); // every row here is a stored message
  }
});

function isMessage(text: string): (event: chat.SessionEvent) => boolean {
  return (event) => event.__typename === "MessageAdded" && event.message.text === text;
}

/** Of the operation's refusal; null where it was carried out. */
async function codeOf(url: string, query: string, variables: Variables = {}): Promise<string | null> {
  const { errors } = await request(url, query, variables);
  return errors?.[0]?.extensions?.code ?? null;
}

async function subscriptionCode(url: string, query: string): Promise<string | undefined> {
  const collector = subscribe(url, query);
  await collector.waitForEnd();
  return collector.error?.extensions?.code;
}

function ready(url: string): Promise<void> {
  return waitUntil("it is ready", async () => (await fetch(new URL("/readyz", url))).ok);
}

async function scriptCalls(server: TestRedis): Promise<number> {
  const info = await command<string>(server, "INFO", "commandstats");
  return Number(/^cmdstat_evalsha:calls=(\d+)/m.exec(info)?.[1] ?? 0);
}
