import { ConversationChain } from "@langchain/classic/chains";
import { BufferMemory } from "@langchain/classic/memory";
import { AIMessage, HumanMessage, SystemMessage } from "@langchain/core/messages";
import { ChatOpenAI } from "@langchain/openai";
import { RedisChatMessageHistory } from "@langchain/redis";
import type { Cluster, Redis } from "ioredis";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import {
  addMessages,
  ask,
  eventsOf,
  follow,
  isRunEnd,
  readMessages,
  regenerate,
  send,
  texts,
} from "../support/gateway/conversation.ts";
import { startGateway } from "../support/gateway/gateway.ts";
import type { TestGateway } from "../support/gateway/gateway.ts";
import { execute, refusal, subscribe } from "../support/gateway/graphql-client.ts";
import { IoRedisHistory } from "../support/store/ioredis-history.ts";
import { startOpenAI } from "../support/model/openai-server.ts";
import type { OpenAIServer } from "../support/model/openai-server.ts";
import { command } from "../support/redis/redis-command.ts";
import { startTopology } from "../support/redis/project-topology.ts";
import type { TestTopology } from "../support/redis/topologies.ts";

let openai: OpenAIServer;
beforeAll(async () => {
  openai = await startOpenAI();
});
beforeEach(() => {
  openai.releaseAll();
  openai.behave(null);
});
afterAll(() => openai.close());

const keyspaceEvents = [
  ["with keyspace events", "Kglxe$"],
  ["without keyspace events", ""],
] as const;

describe.each(keyspaceEvents)("LangChain's own code on the same Redis, %s", (_name, flags) => {
  let redis: TestTopology;
  let gateway: TestGateway;
  let url: string;
  let raw: Redis | Cluster;
  const histories: RedisChatMessageHistory[] = [];

  beforeAll(async () => {
    redis = await startTopology();
    raw = redis.raw();
    await Promise.all(redis.servers.map((server) => command(server, "CONFIG", "SET", "notify-keyspace-events", flags)));
    gateway = await startGateway({
      redis: redis.redis,
      model: "openai:gpt-4o-mini",
      openai: { apiKey: "sk-x", baseUrl: openai.baseUrl },
    });
    ({ url } = gateway);
  });
  afterAll(async () => {
    // Not after each test: two of them use theirs at the same time.
    for (const history of histories.splice(0)) await history.client.quit();
    await gateway.close();
    await redis.stop();
  });

  /** What a LangChain program has there: @langchain/redis knows one server's URL, the community's class any ioredis client. */
  function historyOf(sessionId: string, sessionTTL?: number): RedisChatMessageHistory | IoRedisHistory {
    if (typeof redis.redis !== "string") return new IoRedisHistory(raw, sessionId, sessionTTL);
    const ttl = sessionTTL === undefined ? {} : { sessionTTL };
    const history = new RedisChatMessageHistory({ sessionId, config: { url: redis.redis }, ...ttl });
    histories.push(history);
    return history;
  }

  function chainOver(sessionId: string): ConversationChain {
    const llm = new ChatOpenAI({
      model: "gpt-4o-mini",
      apiKey: "sk-y",
      configuration: { baseURL: openai.baseUrl },
      maxRetries: 0,
    });
    return new ConversationChain({ llm, memory: new BufferMemory({ chatHistory: historyOf(sessionId) }) });
  }

  test("a plain ConversationChain continues what the gateway began, seen live, and the gateway continues it", async () => {
    await ask(url, "shared", "Hi! I'm Jim.");
    const stream = await follow(url, "shared");
    const answer = await chainOver("shared").invoke({ input: "What did I just say my name was?" });
    expect(answer).toEqual({ response: "Your name is Jim." });
    expect(String(openai.requests.at(-1)?.messages.map(({ content }) => content))).toContain("Hello Jim!");

    await stream.waitForCount(2, ({ __typename }) => __typename === "MessageAdded");
    await ask(url, "shared", "What is my name?");
    await stream.waitForCount(4, ({ __typename }) => __typename === "MessageAdded");
    stream.close();
    expect(openai.requests.at(-1)?.messages).toMatchObject([
      { role: "user", content: "Hi! I'm Jim." },
      { role: "assistant", content: "Hello Jim!" },
      { role: "user", content: "What did I just say my name was?" },
      { role: "assistant", content: "Your name is Jim." },
      { role: "user", content: "What is my name?" },
    ]);
    const added = eventsOf(stream, "MessageAdded").map(({ message }) => message);
    expect(added.map(({ position, text }) => [position, text])).toEqual([
      [2, "What did I just say my name was?"],
      [3, "Your name is Jim."],
      [4, "What is my name?"],
      [5, "Your name is Jim."],
    ]);
    expect(added.slice(0, 2).map(({ run, messageId }) => [run, messageId])).toEqual([
      [null, null],
      [null, null],
    ]);
    expect(await readMessages(url, "shared")).toEqual([
      expect.objectContaining({ position: 0 }),
      expect.objectContaining({ position: 1 }),
      ...added,
    ]);
  });

  test("LangChain reads what the gateway wrote, whole", async () => {
    const { reply, userMessage } = await ask(url, "read-back", "Hi! I'm Jim.");
    await addMessages(url, "read-back", [
      { role: "SYSTEM", text: "Be kind." },
      { role: "ASSISTANT", text: "", toolCalls: [{ callId: "c1", name: "look", args: { at: [1] } }] },
      { role: "TOOL", text: "seen", toolCallId: "c1", toolFailed: true },
      { role: "USER", content: [{ text: "and " }, { image: { url: "data:image/png;base64,AA==" } }], name: "ann" },
    ]);
    const messages = await historyOf("read-back").getMessages();
    expect(messages.map((message) => message.type)).toEqual(["human", "ai", "system", "ai", "tool", "human"]);
    expect(messages[0]).toMatchObject({ content: "Hi! I'm Jim.", id: userMessage?.messageId });
    expect(messages[1]).toMatchObject({
      content: "Hello Jim!",
      id: reply?.messageId,
      usage_metadata: { input_tokens: 3, output_tokens: 2, total_tokens: 5 },
    });
    expect(messages[3]).toMatchObject({ tool_calls: [{ id: "c1", name: "look", args: { at: [1] } }] });
    expect(messages[4]).toMatchObject({ content: "seen", tool_call_id: "c1", status: "error" });
    expect(messages[5]).toMatchObject({
      name: "ann",
      content: [
        { type: "text", text: "and " },
        { type: "image_url", image_url: { url: "data:image/png;base64,AA==" } },
      ],
    });
  });

  test("a history that LangChain began is a session: read, followed from its beginning, continued", async () => {
    const history = historyOf("begun-by-langchain");
    await history.addMessages([
      new SystemMessage("You are a bear."),
      new HumanMessage("I am Ann."),
      new AIMessage("Grr Ann."),
    ]);
    const query = `{ session(sessionId: "begun-by-langchain") { createdAt messageCount title messages { nodes { role text } } } }`;
    expect(await execute(url, query)).toEqual({
      session: {
        createdAt: null,
        messageCount: 3,
        title: null,
        messages: {
          nodes: [
            { role: "SYSTEM", text: "You are a bear." },
            { role: "USER", text: "I am Ann." },
            { role: "ASSISTANT", text: "Grr Ann." },
          ],
        },
      },
    });
    const stream = await follow(url, "begun-by-langchain", "");
    await stream.waitForCount(3, ({ __typename }) => __typename === "MessageAdded");
    stream.close();
    expect((await ask(url, "begun-by-langchain", "What is my name?")).reply?.text).toBe("Your name is Ann.");
    type Data = { sessions: { nodes: readonly { sessionId: string }[] } };
    const { sessions } = await execute<Data>(url, `{ sessions(first: 100) { nodes { sessionId } } }`);
    expect(sessions.nodes).toContainEqual({ sessionId: "begun-by-langchain" });
  });

  test("what LangChain pushes while a reply is made stays in the list, before the reply", async () => {
    openai.behave({ kind: "gated", tokens: ["late"] });
    const before = openai.requests.length;
    const { run } = await send(url, "beside", "Question");
    await openai.waitForRequests(before + 1);
    const stream = await follow(url, "beside");
    await historyOf("beside").addUserMessage("Beside it");
    await stream.waitFor((event) => event.__typename === "MessageAdded" && event.message.text === "Beside it");
    openai.releaseAll();
    await stream.waitFor((event) => event.__typename === "RunChanged" && event.run.status === "COMPLETED");
    stream.close();
    expect(await texts(url, "beside")).toEqual(["USER: Question", "USER: Beside it", "ASSISTANT: late"]);
    expect(eventsOf(stream, "MessageAdded").map(({ message }) => [message.text, message.run?.id ?? null])).toEqual([
      ["Beside it", null],
      ["late", run.id],
    ]);
  });

  test("forty messages of two foreign writers and the gateway between: each once and in order", async () => {
    await addMessages(url, "writers", [{ role: "USER", text: "start" }]);
    const stream = await follow(url, "writers", "");
    const write = async (name: string) => {
      const history = historyOf("writers");
      for (let i = 0; i < 15; i += 1) await history.addUserMessage(`${name} ${i}`);
    };
    const ours = async () => {
      for (let i = 0; i < 10; i += 1) await addMessages(url, "writers", [{ role: "USER", text: `ours ${i}` }]);
    };
    await Promise.all([write("a"), write("b"), ours()]);
    const added = await stream.waitForCount(41, ({ __typename }) => __typename === "MessageAdded");
    // Whatever came twice would come before the next one.
    await addMessages(url, "writers", [{ role: "USER", text: "stop" }]);
    await stream.waitFor((event) => event.__typename === "MessageAdded" && event.message.text === "stop");
    stream.close();
    expect(added).toHaveLength(41);
    const stored = (await readMessages(url, "writers")).map(({ id, position, text }) => ({ id, position, text }));
    expect(
      eventsOf(stream, "MessageAdded").map(({ message: { id, position, text } }) => ({ id, position, text })),
    ).toEqual(stored);
    expect(stored.map(({ position }) => position)).toEqual(Array.from({ length: 42 }, (_, i) => i));
  });

  test("LangChain's clear() is a reset, and the stream goes on behind it", async () => {
    await ask(url, "cleared", "Hi! I'm Jim.");
    const stream = await follow(url, "cleared");
    const history = historyOf("cleared");
    await history.clear();
    const reset = await stream.waitFor(({ __typename }) => __typename === "HistoryReset");
    expect(reset).toMatchObject({ kept: 0, session: { messageCount: 0, messages: { nodes: [] } } });
    await history.addUserMessage("Anew");
    await stream.waitFor((event) => event.__typename === "MessageAdded" && event.message.text === "Anew");
    stream.close();
    expect((await readMessages(url, "cleared")).map(({ position, text }) => [position, text])).toEqual([[0, "Anew"]]);
  });

  test("its clear() in the middle of a reply ends the run, its text kept in the run alone", async () => {
    await ask(url, "cleared-midway", "Hi! I'm Jim.");
    openai.next({ kind: "gated", tokens: ["Part ", "two"] });
    const stream = await follow(url, "cleared-midway");
    const { run } = await send(url, "cleared-midway", "Go on");
    openai.release();
    await stream.waitFor(({ __typename }) => __typename === "ReplyProgress");
    const aborted = openai.aborted;
    await historyOf("cleared-midway").clear();
    await stream.waitFor(({ __typename }) => __typename === "HistoryReset");
    const end = await stream.waitFor(isRunEnd(run.id));
    await openai.waitForAbort(aborted + 1);
    expect(end).toMatchObject({ run: { status: "FAILED", text: "Part ", reply: null, error: { code: "RUN_LOST" } } });
    expect(await readMessages(url, "cleared-midway")).toEqual([]);
    const next = await ask(url, "cleared-midway", "What is my name?");
    await stream.waitFor(isRunEnd(next.run.id));
    stream.close();
    expect(next.reply?.text).toBe("You have not told me your name.");
    expect((await readMessages(url, "cleared-midway")).map(({ position }) => position)).toEqual([0, 1]);
  });

  // These two wait at the same time.
  test.concurrent("its sessionTTL counts: the record lives as long as the list, and goes with it", async () => {
    await historyOf("with-ttl", 4).addUserMessage("For a while");
    const stream = await follow(url, "with-ttl");
    type Data = { session: { ttlSeconds: number | null; expiresAt: string | null } | null };
    const query = `{ session(sessionId: "with-ttl") { ttlSeconds expiresAt } }`;
    const { session } = await execute<Data>(url, query);
    expect(Date.parse(session?.expiresAt ?? "")).toBe(await raw.pexpiretime("with-ttl"));
    await stream.waitForEnd();
    expect(stream.events.map(({ __typename }) => __typename)).toEqual(["StreamOpened", "SessionRemoved"]);
    expect(await execute(url, query)).toEqual({ session: null });
    // What is written there afterwards is another session.
    await historyOf("with-ttl").addUserMessage("Another");
    expect((await readMessages(url, "with-ttl")).map(({ position, text }) => [position, text])).toEqual([
      [0, "Another"],
    ]);
  });

  test.concurrent("a TTL that another program sets later counts as well", async () => {
    await addMessages(url, "ttl-later", [{ role: "USER", text: "For ever" }]);
    const stream = await follow(url, "ttl-later");
    await raw.pexpire("ttl-later", 4000);
    await stream.waitForEnd();
    expect(stream.events.map(({ __typename }) => __typename)).toEqual(["StreamOpened", "SessionRemoved"]);
    expect(await execute(url, `{ session(sessionId: "ttl-later") { id } }`)).toEqual({ session: null });
  });

  test("the bytes that LangChain wrote are not touched by turns, regenerate and forks", async () => {
    const history = historyOf("bytes");
    await history.addMessages([
      // eslint-disable-next-line @typescript-eslint/no-deprecated -- programs have it in their histories
      new HumanMessage({ content: "Who?", additional_kwargs: { odd: { lc: 1 } } }),
      new AIMessage("Me"),
    ]);
    const written = await raw.lrange("bytes", 0, -1);
    await ask(url, "bytes", "Again?");
    await regenerate(url, "bytes");
    const fork = `mutation { forkSession(input: { sessionId: "bytes", newSessionId: "bytes-fork" }) { session { messageCount } } }`;
    await execute(url, fork);
    expect((await raw.lrange("bytes", 0, -1)).slice(-2)).toEqual(written);
    expect((await raw.lrange("bytes-fork", 0, -1)).slice(-2)).toEqual(written);
    expect((await historyOf("bytes-fork").getMessages()).map(({ content }) => content)).toEqual([
      "Who?",
      "Me",
      "Again?",
      "You said: Again?",
    ]);
  });

  test("another program's keys are neither read nor harmed", async () => {
    await raw.lpush("jobs", "job-1", "job-2");
    await raw.set("counter", "7");
    await raw.hset("profile", "name", "x");
    for (const sessionId of ["jobs", "counter", "profile"]) {
      const given = { sessionId };
      expect(
        await execute(url, `query ($sessionId: String!) { session(sessionId: $sessionId) { id } }`, given),
      ).toEqual({
        session: null,
      });
      const refused = await Promise.all([
        refusal(
          url,
          `mutation ($sessionId: String!) { sendMessage(input: { sessionId: $sessionId, text: "x" }) { run { id } } }`,
          given,
        ),
        refusal(
          url,
          `mutation ($sessionId: String!) { deleteSession(input: { sessionId: $sessionId }) { deletedId } }`,
          given,
        ),
        refusal(
          url,
          `mutation ($sessionId: String!) { clearHistory(input: { sessionId: $sessionId }) { session { id } } }`,
          given,
        ),
      ]);
      expect(refused.map(({ extensions }) => extensions?.code)).toEqual(["NOT_FOUND", "NOT_FOUND", "NOT_FOUND"]);
    }
    expect(await raw.lrange("jobs", 0, -1)).toEqual(["job-2", "job-1"]);
    expect([await raw.get("counter"), await raw.hgetall("profile")]).toEqual(["7", { name: "x" }]);
  });

  test("a subscriber of messageAdded sees foreign messages too", async () => {
    await addMessages(url, "plain", [{ role: "USER", text: "first" }]);
    const stream = subscribe<{ text: string }>(
      url,
      `subscription { messageAdded(sessionId: "plain", after: "") { text } }`,
    );
    await stream.waitForCount(1);
    await historyOf("plain").addAIMessage("second");
    await stream.waitForCount(2);
    stream.close();
    expect(stream.events).toEqual([{ text: "first" }, { text: "second" }]);
  });
});
