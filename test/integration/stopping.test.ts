import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { expect, test } from "vitest";
import { eventsOf, follow, isRunEnd, send } from "../support/gateway/conversation.ts";
import { startGateway } from "../support/gateway/gateway.ts";
import { startOpenAI } from "../support/model/openai-server.ts";
import { waitUntil } from "../support/redis/redis-command.ts";
import { startRedis } from "../support/redis/redis-server.ts";
import { temporaryDirectory } from "../support/redis/server-process.ts";
import { startProgram } from "../support/gateway/start-command.ts";

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

/** On a busy machine one that is not stopping may not be ready either. */
async function isStopping(url: string): Promise<boolean> {
  const { reason } = (await (await fetch(new URL("/readyz", url))).json()) as { readonly reason?: string }; // health.ts
  return reason === "shutting down";
}

interface Started {
  readonly child: ChildProcess;
  readonly exited: Promise<unknown>;
  /** Of its own redis-server. */
  readonly server: number;
}

/** Starts a program in a folder of its own, and waits until it has a redis-server there. */
async function startIn(program: string, args: readonly string[], env: Record<string, string> = {}): Promise<Started> {
  const directory = await temporaryDirectory();
  const { PATH = "", HOME = "" } = process.env;
  const child = spawn(program, args, {
    cwd: directory,
    env: { PATH, HOME, PORT: "0", MODEL: "offline", ...env },
    stdio: ["pipe", "pipe", "ignore"],
  });
  const exited = once(child, "exit");
  await waitUntil("its server is started", async () => (await serverIn(directory)) !== null);
  return { child, exited, server: (await serverIn(directory)) ?? 0 };
}

test.each([
  ["a gateway that is just starting", [], "SIGTERM", 0],
  ["a command that waits for its input", ["import"], "SIGINT", 1],
  ["a gateway whose terminal is gone", [], "SIGHUP", 0],
] as const)("%s takes its redis-server along when it is stopped", async (_name, args, signal, code) => {
  const { child, exited, server } = await startIn(process.execPath, [startProgram, ...args]);
  // Nobody reads what it prints any more.
  child.stdout?.destroy();
  child.kill(signal);
  await exited;
  expect([child.exitCode, child.signalCode]).toEqual([code, null]);
  await waitUntil("the server is gone", () => Promise.resolve(!isAlive(server)));
});

test.each([
  ["nohup", (run: string) => `nohup ${run}`],
  ["a script that ignores it", (run: string) => `trap '' HUP; ${run}`],
])("SIGHUP stops no gateway that was to outlive its terminal: %s", async (_name, script) => {
  const run = script(`"${process.execPath}" "${startProgram}"`);
  const { child, exited, server } = await startIn("bash", ["-c", `${run} & echo pid $!; wait`]);
  let printed = "";
  child.stdout?.on("data", (chunk: Buffer) => (printed += chunk.toString()));
  await waitUntil("it listens", () => Promise.resolve(printed.includes("/graphql")));
  const url = /http:\/\/\S+?(?=\/graphql)/.exec(printed)?.[0] ?? "";
  const gateway = Number(/^pid (\d+)$/m.exec(printed)?.[1]);
  // It listens before it has reached its Redis.
  await waitUntil("it is ready", async () => (await fetch(`${url}/readyz`)).ok);
  process.kill(gateway, "SIGHUP");
  // It would be gone, or answer that it is stopping, before it has answered twice.
  for (let i = 0; i < 2; i++) expect(await isStopping(url)).toBe(false);
  process.kill(gateway, "SIGTERM");
  await exited;
  await waitUntil("the server is gone", () => Promise.resolve(!isAlive(server)));
});

test("a subscriber to a reply that ends while the gateway stops gets its end before the socket closes", async () => {
  const [redis, openai] = await Promise.all([startRedis({ appendonly: false }), startOpenAI()]);
  const options = { redis: redis.url, model: "openai:test", openai: { apiKey: "test", baseUrl: openai.baseUrl } };
  const one = await startGateway(options);
  openai.behave({ kind: "gated", tokens: ["the ", "end"] });
  const turn = await send(one.url, "s", "hello");
  const followers = await Promise.all(Array.from({ length: 30 }, () => follow(one.url, "s")));
  openai.release();
  for (const follower of followers) await follower.waitFor(({ __typename: kind }) => kind === "ReplyProgress");
  const closed = one.close(10_000);
  await waitUntil("it is stopping", () => isStopping(one.url));
  openai.releaseAll();
  await closed;
  for (const follower of followers) {
    await follower.waitForEnd();
    expect(follower.error?.message).toBe("The socket closed with 1001 Going away");
    expect(follower.events.filter(isRunEnd(turn.run.id))).toHaveLength(1);
    expect(eventsOf(follower, "MessageAdded").map(({ message }) => message.text)).toEqual(["the end"]);
  }
  await Promise.all([redis.stop(), openai.close()]);
});
