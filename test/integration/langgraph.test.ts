import { randomUUID } from "node:crypto";

import { AIMessage, HumanMessage, RemoveMessage, ToolMessage } from "@langchain/core/messages";
import {
  Annotation,
  Command,
  END,
  interrupt,
  MessagesAnnotation,
  REMOVE_ALL_MESSAGES,
  START,
  StateGraph,
} from "@langchain/langgraph";
import { emptyCheckpoint, uuid6, type CheckpointMetadata } from "@langchain/langgraph-checkpoint";
import { validate } from "@langchain/langgraph-checkpoint-validation";
import { RedisChatMessageHistory } from "@langchain/redis";
import { Redis } from "ioredis";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, test, vi } from "vitest";

import { objectOrEmpty, type JsonObject } from "../../src/conversation/message/json.ts";
import { CheckpointSaver, type CheckpointSaverOptions } from "../../src/langgraph/saver.ts";
import { sessionKeys } from "../../src/redis/store/keys.ts";
import { ask, follow, outline } from "../support/gateway/conversation.ts";
import { startGateway, type TestGateway } from "../support/gateway/gateway.ts";
import { execute } from "../support/gateway/graphql-client.ts";
import { startRedis, type TestRedis } from "../support/redis/redis-server.ts";

let server: TestRedis;
let redis: Redis;
let gateway: TestGateway;
const savers: CheckpointSaver[] = [];

beforeAll(async () => {
  server = await startRedis({ appendonly: false });
  redis = new Redis(server.url);
  gateway = await startGateway({ redis: server.url });
});

afterAll(async () => {
  await Promise.all(savers.map((saver) => saver.close()));
  await gateway.close();
  redis.disconnect();
  await server.stop();
});

function saverOf(options: Partial<CheckpointSaverOptions> = {}): CheckpointSaver {
  const saver = new CheckpointSaver({ redis: server.url, ...options });
  savers.push(saver);
  return saver;
}

describe("LangGraph's own tests of a checkpointer", () => {
  const globals = { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it };
  for (const [name, value] of Object.entries(globals)) vi.stubGlobal(name, value);
  afterAll(() => vi.unstubAllGlobals());
  validate({
    checkpointerName: "parley-gateway/langgraph",
    // Each set of tests begins with a Redis that has no threads: they are told apart by a prefix.
    createCheckpointer: () => saverOf({ historyKeyPrefix: `${randomUUID()}:` }),
  });
});

const weather = { id: "call-1", name: "weather", args: { city: "Rome" }, type: "tool_call" as const };

/** A graph that calls a tool, waits where it is told so, and answers. */
function weatherGraph(checkpointer: CheckpointSaver, waits = false) {
  return new StateGraph(MessagesAnnotation)
    .addNode("model", ({ messages }) => {
      const last = messages.at(-1);
      return last instanceof ToolMessage
        ? { messages: [new AIMessage({ id: randomUUID(), content: `It is ${last.text}.` })] }
        : { messages: [new AIMessage({ id: randomUUID(), content: "I look.", tool_calls: [weather] })] };
    })
    .addNode("tools", () => {
      const content = waits ? String(interrupt("May I?")) : "sunny";
      return { messages: [new ToolMessage({ id: randomUUID(), content, tool_call_id: weather.id })] };
    })
    .addEdge(START, "model")
    .addConditionalEdges("model", ({ messages }) =>
      messages.at(-1) instanceof AIMessage && (messages.at(-1) as AIMessage).tool_calls?.length ? "tools" : END,
    )
    .addEdge("tools", "model")
    .compile({ checkpointer });
}

/** LangGraph's types have any. */
function valuesOf({ values }: { readonly values: unknown }): JsonObject {
  return objectOrEmpty(values);
}

const shown = `query ($id: String!) { session(sessionId: $id) { messages { nodes { role text toolCalls { name } } } } sessions { nodes { sessionId } } }`;

interface Shown {
  readonly session: { readonly messages: { readonly nodes: readonly { role: string; text: string }[] } } | null;
  readonly sessions: { readonly nodes: readonly { readonly sessionId: string }[] };
}

async function historyOf(id: string): Promise<readonly string[]> {
  const { session } = await execute<Shown>(gateway.url, shown, { id });
  return session?.messages.nodes.map(({ role, text }) => `${role}: ${text}`) ?? [];
}

const steps = ["USER: Weather?", "ASSISTANT: I look.", "TOOL: sunny", "ASSISTANT: It is sunny."];
/** Each with a message of its own: LangGraph writes an id into it. */
const asking = () => ({ messages: [new HumanMessage({ content: "Weather?" })] });
const thread = (thread_id: string) => ({ configurable: { thread_id } });

describe("a graph's thread is a session", () => {
  test("its messages are listed in Parley, are LangChain's own rows, and a ConversationChain goes on with them", async () => {
    const id = randomUUID();
    await weatherGraph(saverOf()).invoke(asking(), thread(id));
    expect(await historyOf(id)).toEqual(steps);
    const { sessions } = await execute<Shown>(gateway.url, shown, { id });
    expect(sessions.nodes.map(({ sessionId }) => sessionId)).toContain(id);

    const history = new RedisChatMessageHistory({ sessionId: id, config: { url: server.url } });
    const read = await history.getMessages();
    expect(read.map(({ type, text }) => [type, text])).toEqual([
      ["human", "Weather?"],
      ["ai", "I look."],
      ["tool", "sunny"],
      ["ai", "It is sunny."],
    ]);
    expect((read[1] as AIMessage).tool_calls).toEqual([weather]); // the reply that calls the tool, as above
    expect((read[2] as ToolMessage).tool_call_id).toBe(weather.id); // its answer, as above
    await history.client.disconnect();
    await ask(gateway.url, id, "My name is Jim.");
    expect((await historyOf(id)).slice(0, 5)).toEqual([...steps, "USER: My name is Jim."]);
  });

  test("a second turn, by another process, goes on with the state and appends only what is new", async () => {
    const id = randomUUID();
    await weatherGraph(saverOf()).invoke(asking(), thread(id));
    const { messages } = await weatherGraph(saverOf()).invoke(asking(), thread(id));
    expect(messages).toHaveLength(8);
    expect(await historyOf(id)).toEqual([...steps, ...steps]);
  });

  test("clients that follow the session get each message when its step ends; a reply that calls tools comes with their answers", async () => {
    const id = randomUUID();
    const stream = await follow(gateway.url, id);
    const graph = weatherGraph(saverOf(), true);
    await graph.invoke(asking(), thread(id));
    expect(await historyOf(id)).toEqual(steps.slice(0, 1));
    await graph.invoke(new Command({ resume: "sunny" }), thread(id));
    await stream.waitForCount(4, ({ __typename }) => __typename === "MessageAdded");
    const added = outline(stream).filter((step) => step.startsWith("MessageAdded"));
    expect(added).toEqual([
      "MessageAdded USER",
      "MessageAdded ASSISTANT",
      "MessageAdded TOOL",
      "MessageAdded ASSISTANT",
    ]);
    expect(await historyOf(id)).toEqual(steps);
    stream.close();
  });

  test("a question that the program took from the history is not appended again", async () => {
    const id = randomUUID();
    const added = `mutation ($id: String!) { addMessages(input: { sessionId: $id, messages: [{ role: USER, text: "Weather?", messageId: "q-1" }] }) { messages { id } } }`;
    await execute(gateway.url, added, { id });
    await weatherGraph(saverOf()).invoke(
      { messages: [new HumanMessage({ id: "q-1", content: "Weather?" })] },
      thread(id),
    );
    expect(await historyOf(id)).toEqual(steps);
  });

  test("messages that the graph takes out of its state stay in the history", async () => {
    const id = randomUUID();
    const checkpointer = saverOf();
    await weatherGraph(checkpointer).invoke(asking(), thread(id));
    const graph = weatherGraph(checkpointer);
    await graph.updateState(thread(id), { messages: [new RemoveMessage({ id: REMOVE_ALL_MESSAGES })] }, "tools");
    expect(valuesOf(await graph.getState(thread(id)))).toEqual({ messages: [] });
    expect(await historyOf(id)).toEqual(steps);
  });

  test("deleteSession and clearSession take the checkpoints along, deleteThread leaves the history", async () => {
    const ids = [randomUUID(), randomUUID(), randomUUID()] as const;
    const checkpointer = saverOf();
    for (const id of ids) await weatherGraph(checkpointer).invoke(asking(), thread(id));
    await execute(gateway.url, `mutation { deleteSession(input: { sessionId: "${ids[0]}" }) { sessionId } }`);
    await execute(gateway.url, `mutation { clearHistory(input: { sessionId: "${ids[1]}" }) { session { id } } }`);
    await checkpointer.deleteThread(ids[2]);
    for (const id of ids) {
      expect(await checkpointer.getTuple(thread(id))).toBeUndefined();
      expect(await redis.exists(...sessionKeys(id).checkpoints)).toBe(0);
    }
    expect(await historyOf(ids[2])).toEqual(steps);
  });

  test("without a channel of messages nothing is appended", async () => {
    const id = randomUUID();
    await weatherGraph(saverOf({ messages: null })).invoke(asking(), thread(id));
    expect([await redis.exists(id), await historyOf(id)]).toEqual([0, []]);
  });

  test("nothing is stored under a thread id that is another owner's session", async () => {
    const id = randomUUID();
    await weatherGraph(saverOf({ owner: "ann" })).invoke(asking(), thread(id));
    await expect(weatherGraph(saverOf({ owner: "bob" })).invoke(asking(), thread(id))).rejects.toThrow("session");
    expect(await redis.llen(id)).toBe(4);
    expect(await redis.hget(sessionKeys(id).session, "owner")).toBe("ann");
  });
});

describe("what is kept", () => {
  const Counting = Annotation.Root({ count: Annotation<number>, big: Annotation<string> });
  const metadata: CheckpointMetadata = { source: "loop", step: 0, parents: {} };

  /** Counts to five, beside a channel that never changes. */
  const counting = (checkpointer: CheckpointSaver) =>
    new StateGraph(Counting)
      .addNode("add", ({ count }) => ({ count: count + 1 }))
      .addEdge(START, "add")
      .addConditionalEdges("add", ({ count }) => (count < 5 ? "add" : END))
      .compile({ checkpointer });

  async function checkpointsOf(checkpointer: CheckpointSaver, id: string): Promise<readonly number[]> {
    const counts: number[] = [];
    for await (const { checkpoint } of checkpointer.list(thread(id))) {
      counts.push(Number(checkpoint.channel_values["count"]));
    }
    return counts;
  }

  test("`keep` leaves the newest, whole, and the values that they refer to; without it all stay", async () => {
    const [all, two] = [randomUUID(), randomUUID()];
    const input = { count: 1, big: "x".repeat(10_000) };
    await counting(saverOf()).invoke(input, thread(all));
    expect(await checkpointsOf(saverOf(), all)).toEqual([5, 4, 3, 2, 1, NaN]);

    const checkpointer = saverOf({ keep: 2 });
    await counting(checkpointer).invoke(input, thread(two));
    expect(await checkpointsOf(checkpointer, two)).toEqual([5, 4]);
    expect((await counting(checkpointer).getState(thread(two))).values).toEqual({ ...input, count: 5 });
    const [data, order] = sessionKeys(two).checkpoints;
    const fields = await redis.hkeys(data);
    // Two of each checkpoint, the values of `count` of both and the one of `big`, which was stored once, and the key's name.
    expect(fields.filter((field) => field.startsWith("b/") && field.endsWith("/big"))).toHaveLength(1);
    expect(fields.filter((field) => /^[cr]\//.test(field))).toHaveLength(4);
    expect((await redis.zrange(order, 0, "-1")).filter((name) => name.startsWith("c/"))).toHaveLength(2);
  });

  test("a checkpoint whose parent is gone has all values", async () => {
    const id = randomUUID();
    const checkpointer = saverOf();
    const put = (count: number, parent: string | undefined, changed: object) => {
      const checkpoint = { ...emptyCheckpoint(), id: uuid6(count), channel_values: { count, big: "x" } };
      const config = { configurable: { thread_id: id, ...(parent === undefined ? {} : { checkpoint_id: parent }) } };
      return checkpointer.put(config, checkpoint, metadata, changed as Record<string, number>);
    };
    const first = await put(1, undefined, { count: 1, big: 1 });
    await checkpointer.deleteThread(id);
    const { checkpoint_id: parent } = first.configurable as { checkpoint_id: string };
    await put(2, parent, { count: 2 });
    expect((await checkpointer.getTuple(thread(id)))?.checkpoint.channel_values).toEqual({ count: 2, big: "x" });
  });

  test("two branches of one checkpoint have separate values", async () => {
    const id = randomUUID();
    const graph = counting(saverOf());
    await graph.invoke({ count: 3, big: "x" }, thread(id));
    const states = [];
    for await (const state of graph.getStateHistory(thread(id))) states.push(state);
    const old = states.find((state) => valuesOf(state)["count"] === 3);
    const branch = await graph.updateState(old?.config ?? {}, { big: "y" }, "add");
    expect((await graph.getState(branch)).values).toEqual({ count: 3, big: "y" });
    expect(await Promise.all(states.map(async ({ config }) => valuesOf(await graph.getState(config))))).toEqual(
      states.map(valuesOf),
    );
  });

  test("a thread lives as long as `ttlSeconds` says after its last write, its session too", async () => {
    const id = randomUUID();
    await weatherGraph(saverOf({ ttlSeconds: 900 })).invoke(asking(), thread(id));
    for (const key of [...sessionKeys(id).checkpoints, id, sessionKeys(id).session]) {
      const lives = await redis.pttl(key);
      expect(lives).toBeGreaterThan(0);
      expect(lives).toBeLessThanOrEqual(900_000);
    }
    const endless = randomUUID();
    await weatherGraph(saverOf()).invoke(asking(), thread(endless));
    expect(await redis.pttl(sessionKeys(endless).checkpoints[0])).toBe(-1);
  });

  test("bytes are stored as they are", async () => {
    const id = randomUUID();
    const checkpointer = saverOf();
    const held = new Uint8Array([0, 255, 10, 13]);
    await checkpointer.put(thread(id), { ...emptyCheckpoint(), channel_values: { held } }, metadata, { held: 1 });
    const read = (await checkpointer.getTuple(thread(id)))?.checkpoint.channel_values["held"];
    expect(Array.from(read as Uint8Array)).toEqual([0, 255, 10, 13]); // as it was put
  });
});

test.each<[Record<string, unknown>, RegExp]>([
  [{ redis: "http://x" }, /redis must be/],
  [{ redis: null }, /redis must be/],
  [{ ttlSecond: 60 }, /ttlSecond is no option/],
  [{ keep: 0 }, /keep must be a whole number above 0/],
  [{ ttlSeconds: 0.5 }, /ttlSeconds must be/],
  [{ messages: "" }, /messages must be/],
  [{ historyKeyPrefix: "parley:x" }, /historyKeyPrefix must be/],
  [{ owner: "" }, /owner must be/],
])("the option %j is refused", (option, message) => {
  expect(() => new CheckpointSaver({ redis: "redis://127.0.0.1:1", ...option })).toThrow(message);
});

test("a thread id that no session can have is refused", async () => {
  const checkpointer = saverOf();
  const write = (id: string) =>
    checkpointer.put(thread(id), emptyCheckpoint(), { source: "loop", step: 0, parents: {} }, {});
  await expect(write("parley:x")).rejects.toThrow('configurable.thread_id must not begin with "parley:"');
  await expect(write("")).rejects.toThrow("configurable.thread_id, a text");
});
