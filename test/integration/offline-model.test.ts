import { afterAll, beforeAll, expect, test } from "vitest";
import { ask, cancel, readRun, send } from "../support/gateway/conversation.ts";
import { spawnGateway } from "../support/gateway/gateway.ts";
import { startRedis, type TestRedis } from "../support/redis/redis-server.ts";

let redis: TestRedis;
beforeAll(async () => {
  redis = await startRedis({ appendonly: false });
});
afterAll(() => redis.stop());

test("OFFLINE_WORD_DELAY_MS leaves time to look at a reply that is going", async () => {
  const [slow, usual] = await Promise.all([
    spawnGateway({ REDIS_URL: redis.url, OFFLINE_WORD_DELAY_MS: "60000" }),
    spawnGateway({ REDIS_URL: redis.url }),
  ]);
  const { run } = await send(slow.url, "slow", "Hello");
  // Begun later, with as many words.
  expect((await ask(usual.url, "usual", "Hello")).run.status).toBe("COMPLETED");
  expect(await readRun(usual.url, run.id)).toMatchObject({ status: "RUNNING", text: "" });
  expect(await cancel(slow.url, run.id)).toMatchObject({ status: "CANCELLED" });
  await Promise.all([slow.stop(), usual.stop()]);
});
