import { spawn } from "node:child_process";
import { once } from "node:events";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { expect, test } from "vitest";
import { waitUntil } from "../support/redis-command.ts";
import { temporaryDirectory } from "../support/server-process.ts";
import { startProgram } from "../support/start-command.ts";

/** Of the redis-server that was started in the folder; null: there is none yet. */
async function serverIn(directory: string): Promise<number | null> {
  try {
    return Number(await readFile(join(directory, ".parley", "redis.pid"), "utf8")) || null;
  } catch {
    return null;
  }
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}

test.each([
  ["a gateway that is just starting", [], "SIGTERM", 0],
  ["a command that waits for its input", ["import"], "SIGINT", 1],
] as const)("%s takes its redis-server along when it is stopped", async (_name, args, signal, code) => {
  const directory = await temporaryDirectory();
  const { PATH = "", HOME = "" } = process.env;
  const child = spawn(process.execPath, [startProgram, ...args], {
    cwd: directory,
    env: { PATH, HOME, PORT: "0", MODEL: "offline" },
    stdio: ["pipe", "ignore", "ignore"],
  });
  const exited = once(child, "exit");
  await waitUntil("its server is started", async () => (await serverIn(directory)) !== null);
  const server = (await serverIn(directory)) ?? 0;
  child.kill(signal);
  await exited;
  expect([child.exitCode, child.signalCode]).toEqual([code, null]);
  await waitUntil("the server is gone", () => Promise.resolve(!isAlive(server)));
});
