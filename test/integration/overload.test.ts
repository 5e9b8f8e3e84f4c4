import { expect, test } from "vitest";
import { startGateway } from "../support/gateway/gateway.ts";
import { execute, refusal, request, subscribe } from "../support/gateway/graphql-client.ts";
import { startOpenAI } from "../support/model/openai-server.ts";
import { waitUntil } from "../support/redis/redis-command.ts";
import { startRedis } from "../support/redis/redis-server.ts";
import { startProxy } from "../support/redis/tcp-proxy.ts";

const ask = `mutation ($id: String!) { sendMessage(input: { sessionId: $id, text: "Hi" }) { reply { text } } }`;
const send = `mutation ($id: String!) { sendMessage(input: { sessionId: $id, text: "Hi" }) { run { id } } }`;

test("mutations that wait for a reply and open streams do not count as operations in execution; a refused operation has no effect", async () => {
  const [server, openai] = await Promise.all([startRedis(), startOpenAI()]);
  const proxy = await startProxy(server.port);
  const gateway = await startGateway({
    redis: server.url.replace(`:${server.port}`, `:${proxy.port}`),
    model: "openai:small",
    openai: { apiKey: "key", baseUrl: openai.baseUrl },
    maxConcurrentOperations: 1,
    redisCommandTimeoutMs: 60_000,
  });
  const { url } = gateway;
  openai.behave({ kind: "gated", tokens: ["a", "b"] });
  const stream = subscribe<{ __typename: string }>(url, `subscription { sessionChanged { __typename } }`);
  await stream.waitFor(({ __typename }) => __typename === "SessionListOpened");
  const asked: Promise<unknown>[] = [];
  for (const id of ["a", "b", "c"]) {
    asked.push(execute(url, ask, { id }));
    // Past begin: it waits for its model now.
    await openai.waitForRequests(asked.length);
  }
  expect(await execute(url, `{ viewer { subject } }`)).toEqual({ viewer: { subject: "anonymous" } });

  // The first of them waits for Redis and has the one place: all others are refused, with nothing done.
  proxy.blackhole(true);
  let ended = 0;
  const sent = Array.from({ length: 30 }, (_, i) => request(url, send, { id: `x${i}` }).finally(() => (ended += 1)));
  await waitUntil("all but one are refused", () => Promise.resolve(ended === sent.length - 1));
  proxy.blackhole(false);
  const burst = await Promise.all(sent);
  const refused = burst.filter(({ errors }) => errors !== undefined);
  expect(refused).toHaveLength(burst.length - 1);
  for (const { errors } of refused) {
    expect(errors?.[0]?.extensions).toEqual({ code: "OVERLOADED", limit: "operations", retryAfterSeconds: 1 });
  }
  const { sessions } = await execute<{ sessions: { nodes: readonly unknown[] } }>(
    url,
    `{ sessions(first: 100) { nodes { id } } }`,
  );
  expect(sessions.nodes).toHaveLength(3 + 1);
  openai.releaseAll();
  await Promise.all(asked);
  expect(await execute(url, ask, { id: "later" })).toEqual({ sendMessage: { reply: { text: "ab" } } });
  expect((await refusal(url, "{ nothing }")).extensions?.code).toBe("GRAPHQL_VALIDATION_FAILED");
  stream.close();
  await gateway.close();
  await proxy.close();
  await Promise.all([server.stop(), openai.close()]);
});
