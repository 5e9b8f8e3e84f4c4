import { spawn } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";
import { Redis } from "ioredis";
import { afterAll, beforeAll, expect, test } from "vitest";
import { readDataCommand } from "../../src/data-commands.ts";
import { startRedis, type TestRedis } from "../support/redis-server.ts";
import { newMessage, newOp, newTurn, openStore, owner } from "../support/store.ts";
import { sessionKeys } from "../../src/redis/keys.ts";

let from: TestRedis;
let to: TestRedis;
let here: Redis;
let there: Redis;
beforeAll(async () => {
  [from, to] = await Promise.all([startRedis({ appendonly: false }), startRedis({ appendonly: false })]);
  here = new Redis(from.url);
  there = new Redis(to.url);
});
afterAll(async () => {
  here.disconnect();
  there.disconnect();
  await Promise.all([from.stop(), to.stop()]);
});

interface Outcome {
  readonly code: number | null;
  readonly stdout: Buffer;
  readonly stderr: string;
}

async function parley(redis: TestRedis, args: readonly string[], input: Buffer = Buffer.alloc(0)): Promise<Outcome> {
  const { PATH = "", HOME = "" } = process.env;
  const child = spawn(process.execPath, [fileURLToPath(new URL("../../bin/parley.js", import.meta.url)), ...args], {
    env: { PATH, HOME, REDIS_URL: redis.url, LOG_LEVEL: "debug" },
    stdio: ["pipe", "pipe", "pipe"],
  });
  const out: Buffer[] = [];
  let stderr = "";
  child.stdout.on("data", (chunk: Buffer) => out.push(chunk));
  child.stderr.on("data", (chunk: Buffer) => (stderr += chunk.toString()));
  child.stdin.on("error", () => undefined); // a command that reads nothing closes it
  child.stdin.end(input);
  await once(child, "close");
  return { code: child.exitCode, stdout: Buffer.concat(out), stderr };
}

test("export, import and delete-owner, as a user runs them", async () => {
  const at = openStore(from.port);
  try {
    for (const id of ["one", "two"]) {
      const texts = Array.from({ length: 300 }, (_, i) => newMessage(id, "USER", `${id} ${i} \u2028 é`, null));
      await at.store.append(owner, id, texts, newOp());
    }
    // Waits for a gateway: a command that only reads must not take it.
    const left = newTurn("one", "who answers?");
    await at.store.begin(owner, "one", left);
    await here.hset(sessionKeys("one").session, "until", 1);
  } finally {
    at.close();
  }
  const exported = await parley(from, ["export"]);
  expect(exported, exported.stderr).toMatchObject({ code: 0 });
  expect(exported.stderr).toContain("2 sessions exported, 601 messages.");
  // Nothing but the archive: log lines go elsewhere.
  expect(exported.stdout.toString().trimEnd().split("\n")).toHaveLength(601 + 2 * 2 + 2);
  expect(await here.hget(sessionKeys("one").session, "active")).not.toBeNull();

  const imported = await parley(to, ["import"], exported.stdout);
  expect(imported, imported.stderr).toMatchObject({ code: 0 });
  expect(imported.stderr).toContain("2 sessions imported.");
  for (const id of ["one", "two"]) expect(await there.lrange(id, 0, -1)).toEqual(await here.lrange(id, 0, -1));
  expect((await parley(to, ["import"], exported.stdout)).code).toBe(0);

  const cut = await parley(to, ["import"], exported.stdout.subarray(0, exported.stdout.byteLength / 2));
  expect(cut.code).toBe(1);
  expect(cut.stderr).toContain("archive");

  const unsure = await parley(from, ["delete-owner", owner]);
  expect(unsure).toMatchObject({ code: 2 });
  expect(await here.exists("one", "two")).toBe(2);
  const sure = await parley(from, ["delete-owner", owner, "--yes"]);
  expect(sure, sure.stderr).toMatchObject({ code: 0 });
  expect(await here.exists("one", "two")).toBe(0);

  // There are sessions of that name now: they stay, and that is said.
  const again = openStore(from.port);
  await again.store
    .append(owner, "two", [newMessage("two", "USER", "newer", null)], newOp())
    .finally(() => again.close());
  const refused = await parley(from, ["import"], exported.stdout);
  expect(refused.code).toBe(1);
  expect(refused.stderr).toContain('"two"');
  expect(await here.llen("two")).toBe(1);
});

test.each([
  [["export"], { kind: "export", owner: null, sessionId: null }],
  [["export", "--owner", "a", "--session", "s"], { kind: "export", owner: "a", sessionId: "s" }],
  [["import", "--replace"], { kind: "import", owner: null, replace: true }],
  [["delete-owner", "a", "--yes"], { kind: "delete-owner", owner: "a" }],
  [["delete-owner", "a"], { kind: "misused" }],
  [["delete-owner", "--yes"], { kind: "misused" }],
  [["export", "--replace"], { kind: "misused" }],
  [["export", "more"], { kind: "misused" }],
])("%j", (args, expected) => {
  expect(readDataCommand(args)).toMatchObject(expected);
});

test.each([[["start"]], [[]], [["adopt"]], [["export", "--help"]]])("%j is another command", (args: string[]) => {
  expect(readDataCommand(args)).toBeNull();
});
