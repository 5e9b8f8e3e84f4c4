import { afterAll, beforeAll, expect, test } from "vitest";
import { startGateway, type TestGateway } from "../support/gateway/gateway.ts";
import { request } from "../support/gateway/graphql-client.ts";
import { waitUntil } from "../support/redis/redis-command.ts";
import { startRedis, type TestRedis } from "../support/redis/redis-server.ts";

// A Redis that says nothing: what is asked of it is refused when REDIS_COMMAND_TIMEOUT_MS is over, once, not twice.

const list = `{ sessions { nodes { title } } }`;
const read = `{ session(sessionId: "s") { title messages { nodes { text } } } }`;
const both = `{ viewer { subject } a: session(sessionId: "s") { title } b: session(sessionId: "t") { title } }`;

let redis: TestRedis;
let gateway: TestGateway;
beforeAll(async () => {
  redis = await startRedis({ appendonly: false });
  gateway = await startGateway({ redis: redis.url, redisCommandTimeoutMs: 2500 });
  const create = `mutation { createSession(input: { sessionId: "s", idempotencyKey: "s" }) { session { id } } }`;
  // From the third time on a document is answered by a plan of its own. A busy machine may take too long for one.
  for (const document of [create, ...[list, read, both].flatMap((one) => [one, one, one])]) {
    await waitUntil("it is answered", async () => (await request(gateway.url, document)).errors === undefined);
  }
  redis.pause();
});
afterAll(async () => {
  redis.resume();
  await gateway.close();
  await redis.stop();
});

/** How many commands of these names have failed. */
async function failed(...names: readonly string[]): Promise<number> {
  const text = await (await fetch(new URL("/metrics", gateway.url))).text();
  const lines = text.split("\n").filter((line) => line.startsWith("parley_redis_command_errors_total{"));
  const counted = lines.filter((line) => names.some((name) => line.includes(`command="${name}"`)));
  return counted.reduce((sum, line) => sum + Number(line.split(" ").at(-1)), 0);
}

test.each([
  ["a list of sessions", list, ["sessions"], 1],
  ["a session", read, ["session"], 1],
  ["what needs no store beside what does", both, ["a", "b"], 2],
] as const)("asks a frozen Redis once, and is refused: %s", async (_what, document, paths, asked) => {
  const before = await failed("view", "zrange");
  const { errors = [] } = await request(gateway.url, document);
  expect(errors.map(({ path }) => path?.[0]).sort()).toEqual(paths);
  for (const { extensions } of errors) {
    expect(extensions).toMatchObject({ code: "STORE_UNAVAILABLE", retryAfterSeconds: 1 });
  }
  expect((await failed("view", "zrange")) - before).toBe(asked);
});
