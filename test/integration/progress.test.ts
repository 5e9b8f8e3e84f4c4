import { Readable, Writable } from "node:stream";
import { Redis } from "ioredis";
import { afterAll, beforeAll, expect, test } from "vitest";
import { runDataCommand, type DataCommand } from "../../src/cli/data-commands.ts";
import { createGateway, type AdoptProgress, type Gateway } from "../../src/gateway.ts";
import { startRedis, type TestRedis } from "../support/redis/redis-server.ts";

let server: TestRedis;
let redis: Redis;
let gateway: Gateway;
beforeAll(async () => {
  server = await startRedis({ appendonly: false });
  redis = new Redis(server.url);
  gateway = await createGateway({ redis: server.url, idle: true });
  const row = JSON.stringify({ type: "human", data: { content: "Hi" } });
  const histories = redis.pipeline();
  for (let i = 0; i < 600; i++) histories.lpush(`history-${i}`, row, row);
  await histories.exec();
});
afterAll(async () => {
  await gateway.close();
  redis.disconnect();
  await server.stop();
});

/** Runs it with a terminal, or none, to watch; `stdin` comes in pieces. */
async function run(command: DataCommand, isTTY: boolean, stdin: Buffer = Buffer.alloc(0)) {
  const out: Buffer[] = [];
  const told: string[] = [];
  const stdout = new Writable({
    write(chunk: Buffer, _encoding, done) {
      out.push(chunk);
      done();
    },
  });
  const pieces = Array.from({ length: 20 }, (_, i) => {
    const size = Math.ceil(stdin.byteLength / 20);
    return stdin.subarray(i * size, (i + 1) * size);
  });
  const code = await runDataCommand(command, gateway, {
    stdin: Readable.from(pieces),
    stdinBytes: stdin.byteLength > 0 ? stdin.byteLength : null,
    stdout,
    stderr: { isTTY, columns: 100, write: (text) => told.push(text) },
  });
  const steps = told.filter((text) => text.startsWith("\r\x1b[K") && text.length > 4);
  const shares = steps.map((text) => Number(/\] +(\d+)%/.exec(text)?.[1]));
  return { code, data: Buffer.concat(out), told, steps, shares };
}

const rising = (numbers: readonly number[]) => numbers.every((one, i) => i === 0 || one >= (numbers[i - 1] ?? 0));

test("long commands show their progress on a terminal, and only there", async () => {
  const adopting: AdoptProgress[] = [];
  await gateway.adopt({ onProgress: (now) => adopting.push(now) });
  const adopted = adopting.map(({ share }) => share ?? -1);
  expect(adopted.length).toBeGreaterThan(1);
  expect(rising(adopted)).toBe(true);
  expect(adopted.at(-1)).toBe(1);

  const exported = await run({ kind: "export", owner: null, sessionId: null }, true);
  expect(exported.code).toBe(0);
  expect(exported.steps.length).toBeGreaterThan(0);
  expect(exported.shares).not.toContain(NaN);
  expect(rising(exported.shares)).toBe(true);
  expect(exported.told.at(-1)).toBe("600 sessions exported, 1200 messages.\n");
  // The line is taken away before the last word.
  expect(exported.told.at(-2)).toBe("\r\x1b[K");
  const lines = exported.data.toString().trimEnd().split("\n");
  for (const line of lines) expect(() => JSON.parse(line) as unknown).not.toThrow();

  const piped = await run({ kind: "export", owner: null, sessionId: "history-1" }, false);
  expect(piped.told).toEqual(["1 sessions exported, 2 messages.\n"]);

  const imported = await run({ kind: "import", owner: null, replace: false }, true, exported.data);
  expect(imported.steps.length).toBeGreaterThan(0);
  expect(rising(imported.shares)).toBe(true);
  expect(Math.max(...imported.shares)).toBeLessThanOrEqual(100);

  const deleted = await run({ kind: "delete-owner", owner: "anonymous" }, true);
  expect(deleted.told.at(-1)).toBe("600 sessions deleted.\n");
  expect(deleted.shares).not.toContain(NaN);
  expect(rising(deleted.shares)).toBe(true);
});
