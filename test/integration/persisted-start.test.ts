import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { afterAll, beforeAll, describe, expect, test } from "vitest";

import { PersistedOperationsError } from "../../src/gateway.ts";
import { spawnGateway, startGateway } from "../support/gateway/gateway.ts";
import { startRedis } from "../support/redis/redis-server.ts";
import type { TestRedis } from "../support/redis/server-process.ts";

let redis: TestRedis;
let folder: string;

beforeAll(async () => {
  redis = await startRedis();
  folder = await mkdtemp(join(tmpdir(), "parley-persisted-"));
});
afterAll(async () => {
  await redis.stop();
  await rm(folder, { recursive: true });
});

const who = "query Who { viewer { subject } }";

async function ask(url: string, body: object): Promise<unknown> {
  const headers = { "content-type": "application/json" };
  return await (await fetch(url, { method: "POST", headers, body: JSON.stringify(body) })).json();
}

describe("parley with PERSISTED_OPERATIONS=only", () => {
  const environment = (file: string) => ({
    REDIS_URL: redis.url,
    PERSISTED_OPERATIONS: "only",
    PERSISTED_OPERATIONS_FILE: file,
  });

  test("does not start on a list with mistakes, and names each", async () => {
    const file = join(folder, "wrong.json");
    await writeFile(file, JSON.stringify({ good: who, bad: "{ vieewer { subject } }", worse: "{" }));
    const started = spawnGateway(environment(file));
    await expect(started).rejects.toThrow("The gateway ended with exit code 2 before it listened");
    await expect(started).rejects.toThrow('  bad: Cannot query field "vieewer" on type "Query".');
    await expect(started).rejects.toThrow("  worse: Syntax Error: Expected Name, found <EOF>.");
    await expect(started).rejects.not.toThrow("good:");
  });

  test("answers what is on the list, has no GraphiQL, and needs no introspection", async () => {
    const file = join(folder, "manifest.json");
    const operations = [{ id: "abc", name: "Who", type: "query", body: who }];
    await writeFile(file, JSON.stringify({ format: "apollo-persisted-query-manifest", version: 1, operations }));
    const gateway = await spawnGateway(environment(file));
    expect(await ask(gateway.url, { documentId: "abc" })).toHaveProperty("data.viewer.subject");
    expect(await ask(gateway.url, { query: who })).toHaveProperty("data.viewer.subject");
    expect(await ask(gateway.url, { query: "{ models { name } }" })).toMatchObject({
      errors: [{ extensions: { code: "PERSISTED_QUERY_NOT_FOUND" } }],
    });
    expect((await fetch(gateway.url, { headers: { accept: "text/html" } })).status).toBe(406);
    expect(await gateway.stop()).toBe(0);
  });
});

describe("as a library", () => {
  test("documents may be given as they are", async () => {
    const documents = { Who: who };
    const gateway = await startGateway({ redis: redis.url, persistedOperations: { mode: "only", documents } });
    expect(await ask(gateway.url, { id: "Who" })).toHaveProperty("data.viewer.subject");
    await gateway.close();
  });

  test("a list with mistakes is reported before anything is started", async () => {
    const documents = { Who: "{ vieewer { subject } }" };
    const failed = startGateway({ redis: redis.url, persistedOperations: { documents } });
    await expect(failed).rejects.toThrow(PersistedOperationsError);
  });

  test("limits hold that are given", async () => {
    const gateway = await startGateway({ redis: redis.url, queryLimits: { maxCost: 1 }, hstsSeconds: 60 });
    expect(await ask(gateway.url, { query: who })).toMatchObject({ errors: [{ extensions: { code: "TOO_COMPLEX" } }] });
    expect((await fetch(gateway.url)).headers.get("strict-transport-security")).toBe("max-age=60");
    await gateway.close();
  });
});
