import { Redis } from "ioredis";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { ask, chosenId, readMessages, send, sendOnly } from "../support/gateway/conversation.ts";
import { startGateway, type TestGateway } from "../support/gateway/gateway.ts";
import { execute, refusal, request } from "../support/gateway/graphql-client.ts";
import { startOpenAI, type OpenAIServer } from "../support/model/openai-server.ts";
import { replicasOnline, waitUntil } from "../support/redis/redis-command.ts";
import { startRedis, type TestRedis } from "../support/redis/redis-server.ts";

// REDIS_WAIT_REPLICAS: what is acknowledged is on the replicas, whatever happens between a write and its WAIT.

let primary: TestRedis;
let replicas: readonly TestRedis[];
let redis: Redis;
let openai: OpenAIServer;
let gateways: readonly TestGateway[];
let here: string;
let there: string;

const commandTimeoutMs = 20_000;

beforeAll(async () => {
  const quick = ["--repl-diskless-sync-delay", "0"];
  primary = await startRedis({ args: quick });
  const replicaOf = ["--replicaof", primary.host, String(primary.port)];
  replicas = await Promise.all([0, 1].map(() => startRedis({ args: [...quick, ...replicaOf] })));
  await waitUntil("both replicas are online", () => replicasOnline(primary, 2));
  redis = new Redis(primary.url);
  openai = await startOpenAI();
  const options = {
    redis: primary.url,
    model: "openai:gpt-4o-mini",
    openai: { apiKey: "sk-x", baseUrl: openai.baseUrl },
    waitReplicas: 2,
    waitTimeoutMs: 1000,
    redisCommandTimeoutMs: commandTimeoutMs,
  };
  gateways = await Promise.all([startGateway(options), startGateway(options)]);
  [here = "", there = ""] = gateways.map(({ url }) => url);
  for (const url of [here, there]) await add(url, "warm", "warm");
});
beforeEach(() => {
  for (const replica of replicas) replica.resume();
});
afterAll(async () => {
  for (const replica of replicas) replica.resume();
  await Promise.all(gateways.map((gateway) => gateway.close()));
  await openai.close();
  redis.disconnect();
  await Promise.all([primary, ...replicas].map((server) => server.stop()));
});

function pause(): void {
  for (const replica of replicas) replica.pause();
}

const document = `mutation ($input: AddMessagesInput!) { addMessages(input: $input) { messages { text } } }`;

function input(sessionId: string, messageId: string) {
  return { input: { sessionId, messages: [{ role: "USER", text: `text of ${messageId}`, messageId }] } };
}

/** Resolves when it is acknowledged. */
async function add(url: string, sessionId: string, messageId: string): Promise<void> {
  await waitUntil("it is acknowledged", async () => {
    return (await request(url, document, input(sessionId, messageId))).errors === undefined;
  });
}

describe("while the replicas stand still", () => {
  test("nothing is acknowledged, not on a retry either, and not by another gateway", async () => {
    await add(here, "still", "before");
    pause();
    for (const url of [here, here, there, there]) {
      expect((await refusal(url, document, input("still", "meanwhile"))).extensions).toMatchObject({
        code: "STORE_UNAVAILABLE",
        retryAfterSeconds: 1,
      });
    }
    for (const replica of replicas) replica.resume();
    await add(there, "still", "meanwhile");
    expect((await readMessages(here, "still")).map(({ messageId }) => messageId)).toEqual(["before", "meanwhile"]);
  });

  test("a turn whose sender was refused is carried out, and a retry gives its reply", async () => {
    const before = openai.requests.length;
    pause();
    const turn = { sessionId: "turn", text: "Hi! I'm Jim.", messageId: "jim" };
    expect((await refusal(here, sendOnly, { input: turn })).extensions?.code).toBe("STORE_UNAVAILABLE");
    await openai.waitForRequests(before + 1);
    for (const replica of replicas) replica.resume();
    const { run, reply, userMessage } = await ask(there, "turn", turn.text, { messageId: "jim" });
    expect([run.status, reply?.text, userMessage?.id]).toEqual(["COMPLETED", "Hello Jim!", chosenId("turn", "jim")]);
    expect(openai.requests.length).toBe(before + 1);
  });

  test("text is still delivered, because it does not wait for replicas", async () => {
    openai.next({ kind: "gated", tokens: ["One ", "two"] });
    const { run } = await send(here, "flows", "Count");
    pause();
    openai.release();
    type Read = { node: { text: string } };
    const query = `query ($id: ID!) { node(id: $id) { ... on Run { text } } }`;
    await waitUntil(
      "the first text",
      async () => (await execute<Read>(there, query, { id: run.id })).node.text === "One ",
    );
    for (const replica of replicas) replica.resume();
    openai.releaseAll();
    await waitUntil("it ends", async () => (await readMessages(there, "flows")).length === 2);
  });
});

describe("a connection that dies between a script and its WAIT", () => {
  /** Its WAIT does not run out by itself. */
  const startPatient = () =>
    startGateway({
      redis: primary.url,
      waitReplicas: 2,
      waitTimeoutMs: 60_000,
      redisCommandTimeoutMs: commandTimeoutMs,
    });

  test("has the write made sure again, once, and at once", async () => {
    const patient = await startPatient();
    const { url } = patient;
    await add(url, "dies", "before");
    pause();
    const answers = ["a", "b", "c"].map((messageId) => request(url, document, input("dies", messageId)));
    // The others may stand behind its WAIT, which blocks their connection.
    await waitUntil("one is written", async () => (await redis.llen("dies")) > 1);
    const since = performance.now();
    await redis.call("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes");
    for (const replica of replicas) replica.resume();
    for (const { errors } of await Promise.all(answers)) expect(errors).toBeUndefined();
    await add(url, "dies", "after");
    // What the dead connection owed is not waited for.
    expect(performance.now() - since).toBeLessThan(commandTimeoutMs / 2);
    const ids = (await readMessages(there, "dies")).map(({ messageId }) => messageId);
    expect([ids[0], ids.slice(1, 4).sort(), ids[4]]).toEqual(["before", ["a", "b", "c"], "after"]);
    expect(ids).toHaveLength(5);
    for (const replica of replicas) expect(await lengthOn(replica, "dies")).toBe(5);
    await patient.close();
  });

  test("a gateway that closes meanwhile leaves no connection behind", async () => {
    const closing = await startPatient();
    await add(closing.url, "closing", "before");
    const others = await durableConnections();
    pause();
    const last = request(closing.url, document, input("closing", "last")).catch(() => null);
    await waitUntil("it is written", async () => (await redis.llen("closing")) === 2);
    await closing.close();
    await last;
    await waitUntil("its connection is gone", async () => (await durableConnections()) === others - 1);
    for (const replica of replicas) replica.resume();
  });
});

async function durableConnections(): Promise<number> {
  return String(await redis.client("LIST")).split("name=parley-durable").length - 1;
}

async function lengthOn(server: TestRedis, key: string): Promise<number> {
  const replica = new Redis(server.url);
  try {
    return await replica.llen(key);
  } finally {
    replica.disconnect();
  }
}
