import { fork } from "node:child_process";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { startRedis } from "../support/redis/redis-server.ts";

/** How many files of src/ a message may pass on its way to Redis. This only goes down. */
const mostFiles = 29;

/** The files that a walk on docs/architecture.md names, before the step that names `end`. */
function walk(heading: string, end: string): readonly string[] {
  const page = readFileSync(new URL("../../docs/architecture.md", import.meta.url), "utf8");
  const [, section = ""] = page.split(`## ${heading}\n`);
  const [steps = ""] = (section.split("\n## ")[0] ?? "").split(end);
  return [...new Set(steps.matchAll(/`(src\/[\w./-]+\.ts)`/g).map(([, file = ""]) => file))];
}

test("sendMessage passes the files of its walk on docs/architecture.md, in this order, no others, and fewer than 30", async () => {
  const redis = await startRedis({ appendonly: false });
  const child = fork(new URL("../support/gateway/walk-process.ts", import.meta.url), [redis.url]);
  try {
    const ended = once(child, "exit").then(([code]) => Promise.reject(new Error(`It ended with ${String(code)}.`)));
    const [passed] = (await Promise.race([once(child, "message"), ended])) as [readonly string[]]; // what it sends
    const named = walk("sendMessage", "begin.lua");
    expect(passed).toEqual(named);
    expect(passed.length).toBeLessThanOrEqual(mostFiles);
  } finally {
    child.kill();
    await redis.stop();
  }
}, 120_000);
