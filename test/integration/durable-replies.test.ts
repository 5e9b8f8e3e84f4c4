import { Redis } from "ioredis";
import { afterAll, beforeAll, beforeEach, expect, test } from "vitest";
import { sessionKeys } from "../../src/redis/store/keys.ts";
import { send, sendAndWait } from "../support/gateway/conversation.ts";
import { startGateway, type TestGateway } from "../support/gateway/gateway.ts";
import { refusal, request } from "../support/gateway/graphql-client.ts";
import { anonymousCaller } from "../support/gateway/graphql-operation.ts";
import { startOpenAI, type OpenAIServer } from "../support/model/openai-server.ts";
import { waitUntil } from "../support/redis/redis-command.ts";
import { startSentinel, type TestSentinel } from "../support/redis/redis-sentinel.ts";
import type { TestRedis } from "../support/redis/redis-server.ts";

// REDIS_WAIT_REPLICAS: nobody is told of a reply's end that the replicas do not hold, whichever gateway made it.

let sentinel: TestSentinel;
let primary: TestRedis;
let replicas: readonly TestRedis[];
let redis: Redis;
let openai: OpenAIServer;
let here: TestGateway;
let there: TestGateway;

beforeAll(async () => {
  [sentinel, openai] = await Promise.all([startSentinel(), startOpenAI()]);
  primary = await sentinel.primary();
  replicas = sentinel.servers.filter((server) => server !== primary);
  redis = new Redis(primary.url);
  const options = {
    redis: { sentinels: sentinel.sentinels.map((one) => ({ ...one })), name: sentinel.name },
    model: "openai:gpt-4o-mini",
    openai: { apiKey: "sk-x", baseUrl: openai.baseUrl },
    waitReplicas: 2,
    waitTimeoutMs: 1000,
  };
  [here, there] = await Promise.all([startGateway(options), startGateway(options)]);
});
beforeEach(() => {
  for (const replica of replicas) replica.resume();
});
afterAll(async () => {
  for (const replica of replicas) replica.resume();
  await Promise.all([here.close(), there.close()]);
  await openai.close();
  redis.disconnect();
  await sentinel.stop();
});

/** Begun on one gateway, whose reply stands in Redis only when the replicas stand still. */
async function unheld(sessionId: string, meanwhile: (runId: string) => Promise<unknown>): Promise<string> {
  openai.next({ kind: "gated", tokens: ["Late"] });
  const { run } = await send(here.url, sessionId, "Hi", { messageId: "hi" });
  await openai.waitForRequests();
  await meanwhile(run.id);
  for (const replica of replicas) replica.pause();
  openai.releaseAll();
  await waitUntil("the reply is written", async () => (await redis.llen(sessionId)) === 2);
  return run.id;
}

async function lengthOn(server: TestRedis, key: string): Promise<number> {
  const replica = new Redis(server.url);
  try {
    return await replica.llen(key);
  } finally {
    replica.disconnect();
  }
}

const retry = (sessionId: string) => ({ input: { sessionId, text: "Hi", messageId: "hi" } });
const stop = `mutation ($input: CancelRunInput!) { cancelRun(input: $input) { run { status } } }`;

test("a caller that waits for the reply on another gateway gets it when the replicas hold it", async () => {
  const waiting: ReturnType<typeof refusal>[] = [];
  const { events } = sessionKeys("waits");
  await unheld("waits", async () => {
    waiting.push(refusal(there.url, sendAndWait, retry("waits")));
    // Its own process follows the session too, a little later.
    await waitUntil("both follow", async () => (await redis.pubsub("NUMSUB", events))[1] === 2);
  });
  expect((await waiting[0])?.extensions).toMatchObject({ code: "STORE_UNAVAILABLE", retryAfterSeconds: 1 });
  for (const replica of replicas) replica.resume();
  await waitUntil("a retry has it", async () => {
    const answer = await request(there.url, sendAndWait, retry("waits"));
    return answer.errors === undefined;
  });
  for (const replica of replicas) expect(await lengthOn(replica, "waits")).toBe(2);
});

test("a caller that reads a run's end, or stops it too late, gets the end when the replicas hold it", async () => {
  const runId = await unheld("reads", () => Promise.resolve());
  const { conversations } = there.gateway;
  const local = (await redis.hget(sessionKeys("reads").session, "last")) ?? "";
  const caller = anonymousCaller(AbortSignal.timeout(20_000));
  const read = () => conversations.awaitRun(caller, "reads", local);
  await expect(read()).rejects.toMatchObject({ code: "STORE_UNAVAILABLE" });
  const refused = await refusal(there.url, stop, { input: { runId } });
  expect(refused.extensions?.code).toBe("STORE_UNAVAILABLE");
  for (const replica of replicas) replica.resume();
  await waitUntil("it is told", async () => (await read()).status === "COMPLETED");
  for (const replica of replicas) expect(await lengthOn(replica, "reads")).toBe(2);
});
