import { spawn } from "node:child_process";
import { once } from "node:events";
import type { Cluster, Redis } from "ioredis";
import { afterAll, beforeAll, expect, test } from "vitest";
import { newMessage, newOp, newTurn, openStoreOn, owner } from "../support/store/store.ts";
import { startTopology } from "../support/redis/project-topology.ts";
import { startProgram } from "../support/gateway/start-command.ts";
import type { TestTopology } from "../support/redis/topologies.ts";
import { sessionKeys } from "../../src/redis/store/keys.ts";

let from: TestTopology;
let to: TestTopology;
let here: Redis | Cluster;
let there: Redis | Cluster;
beforeAll(async () => {
  [from, to] = await Promise.all([startTopology(), startTopology()]);
  here = from.raw();
  there = to.raw();
});
afterAll(async () => {
  await Promise.all([from.stop(), to.stop()]);
});

interface Outcome {
  readonly code: number | null;
  readonly stdout: Buffer;
  readonly stderr: string;
}

async function parley(redis: TestTopology, args: readonly string[], input: Buffer = Buffer.alloc(0)): Promise<Outcome> {
  const { PATH = "", HOME = "" } = process.env;
  const child = spawn(process.execPath, [startProgram, ...args], {
    env: { PATH, HOME, ...oneAddress(redis.env), LOG_LEVEL: "debug" },
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

/** One node or Sentinel is enough to find the others by. */
function oneAddress(env: Readonly<Record<string, string>>): Record<string, string> {
  return Object.fromEntries(Object.entries(env).map(([name, value]) => [name, value.split(",")[0] ?? ""]));
}

test("export, import and delete-owner, as a user runs them", async () => {
  const at = openStoreOn(from.source);
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
  for (const id of ["one", "two"]) expect(await here.exists(id)).toBe(1);
  const sure = await parley(from, ["delete-owner", owner, "--yes"]);
  expect(sure, sure.stderr).toMatchObject({ code: 0 });
  for (const id of ["one", "two"]) expect(await here.exists(id)).toBe(0);

  // There are sessions of that name now: they stay, and that is said.
  const again = openStoreOn(from.source);
  await again.store
    .append(owner, "two", [newMessage("two", "USER", "newer", null)], newOp())
    .finally(() => again.close());
  const refused = await parley(from, ["import"], exported.stdout);
  expect(refused.code).toBe(1);
  expect(refused.stderr).toContain('"two"');
  expect(await here.llen("two")).toBe(1);
});
