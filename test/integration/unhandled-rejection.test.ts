import { afterAll, beforeAll, expect, test } from "vitest";
import { spawnGateway } from "../support/gateway/gateway.ts";
import { execute } from "../support/gateway/graphql-client.ts";
import { startRedis } from "../support/redis/redis-server.ts";
import type { TestRedis } from "../support/redis/redis-server.ts";

let server: TestRedis;

beforeAll(async () => {
  server = await startRedis({ appendonly: false });
});

afterAll(async () => {
  await server.stop();
});

test("a rejection that nothing handles is logged, and the gateway goes on", async () => {
  const mistake = `process.on("SIGUSR2", () => void Promise.reject(new Error("nobody waits")));`;
  const gateway = await spawnGateway({
    REDIS_URL: server.url,
    MODEL: "offline",
    NODE_ENV: "production",
    NODE_OPTIONS: `--import=data:text/javascript,${encodeURIComponent(mistake)}`,
  });
  process.kill(gateway.pid, "SIGUSR2");
  await expect.poll(() => gateway.output).toContain("nobody waits");
  expect(await execute(gateway.url, "{ __typename }")).toEqual({ __typename: "Query" });
  expect(await gateway.stop()).toBe(0);
});
