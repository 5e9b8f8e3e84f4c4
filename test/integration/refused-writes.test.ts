import { mkdir, rmdir } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { startGateway, type TestGateway } from "../support/gateway/gateway.ts";
import { startServer, type OwnServer } from "../support/store/feeds.ts";
import { execute, refusal } from "../support/gateway/graphql-client.ts";
import { waitUntil } from "../support/redis/redis-command.ts";

// A server that can be read and takes no writes: the caller is refused, and the operator is told why.

let at: OwnServer;
let gateway: TestGateway;
beforeAll(async () => {
  at = await startServer();
  gateway = await startGateway({ redis: at.server.url });
  await execute(gateway.url, add, { text: "before" });
});
afterAll(async () => {
  await gateway.close();
  await at[Symbol.asyncDispose]();
});

const add = `mutation ($text: String!) { addMessages(input: { sessionId: "s", messages: [{ role: USER, text: $text }] }) { session { messageCount } } }`;
const read = `{ session(sessionId: "s") { messages { nodes { text } } } }`;

async function readiness(): Promise<{ readonly status: number; readonly warnings: readonly string[] }> {
  const response = await fetch(new URL("/readyz", gateway.url));
  const { warnings = [] } = (await response.json()) as { warnings?: readonly string[] }; // as health.ts has it
  return { status: response.status, warnings };
}

/** Makes the server's last snapshot a failure: a folder lies where it would be. */
async function failSnapshots(): Promise<() => Promise<void>> {
  const [, directory = ""] = await at.redis.config("GET", "dir"); // name and value
  const path = join(directory, "dump.rdb");
  await mkdir(path);
  await at.redis.config("SET", "save", "3600 1");
  const saved = async (status: string) => {
    await at.redis.bgsave();
    await waitUntil(`the snapshot is ${status}`, async () =>
      (await at.redis.info("persistence")).includes(`rdb_last_bgsave_status:${status}`),
    );
  };
  await saved("err");
  return async () => {
    await rmdir(path);
    await saved("ok");
    await at.redis.config("SET", "save", "");
  };
}

async function set(name: string, value: string, back: string): Promise<() => Promise<unknown>> {
  await at.redis.config("SET", name, value);
  return () => at.redis.config("SET", name, back);
}

test.each([
  ["OOM", () => set("maxmemory", "1mb", "0")],
  ["NOREPLICAS", () => set("min-replicas-to-write", "1", "0")],
  ["MISCONF", failSnapshots],
] as const)("%s is logged once and shown by /readyz, while reads are answered; so is its end", async (code, begin) => {
  const logged = (part: string) => gateway.logged.filter(({ message }) => message.includes(part));
  const before = logged("takes writes again").length;
  const end = await begin();
  for (let i = 0; i < 3; i++) {
    expect((await refusal(gateway.url, add, { text: "refused" })).extensions?.code).toBe("STORE_UNAVAILABLE");
  }
  expect(logged(`(${code})`)).toMatchObject([{ level: "warn", fields: { err: { name: "ReplyError" } } }]);
  const { status, warnings } = await readiness();
  expect(status).toBe(200);
  expect(warnings[0]).toContain(`(${code})`);
  expect(await execute(gateway.url, read)).toMatchObject({ session: { messages: { nodes: [{ text: "before" }] } } });
  await end();
  await waitUntil("it is told", () => Promise.resolve(logged("takes writes again").length === before + 1));
  expect((await readiness()).warnings.join()).not.toContain(code);
  expect(logged(`(${code})`)).toHaveLength(1);
});

test("/readyz shows it even before a write was refused", async () => {
  const end = await set("min-replicas-to-write", "1", "0");
  expect((await readiness()).warnings[0]).toContain("(NOREPLICAS)");
  await end();
  expect((await readiness()).warnings.join()).not.toContain("NOREPLICAS");
});
