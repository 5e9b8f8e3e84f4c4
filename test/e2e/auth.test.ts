import { execFile } from "node:child_process";
import { rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, expect, test } from "vitest";

import { spawnGateway } from "../support/gateway.ts";
import { startRedis } from "../support/redis-server.ts";
import type { TestRedis } from "../support/redis-server.ts";
import { temporaryDirectory } from "../support/server-process.ts";
import { callerOf } from "../support/tenant.ts";
import { secret, tokenFor } from "../support/tokens.ts";

let redis: TestRedis;
let directory = "";
beforeAll(async () => {
  [redis, directory] = await Promise.all([startRedis(), temporaryDirectory()]);
});
afterAll(async () => {
  await redis.stop();
  await rm(directory, { recursive: true, force: true });
});

interface Ended {
  readonly code: unknown;
  readonly stdout: string;
  readonly stderr: string;
}

/** A command that ends by itself. */
function parley(args: readonly string[], env: Readonly<Record<string, string>> = {}): Promise<Ended> {
  const { PATH = "", HOME = "" } = process.env;
  const program = fileURLToPath(new URL("../../bin/parley.js", import.meta.url));
  return new Promise((resolve) => {
    const options = { cwd: directory, env: { PATH, HOME, PORT: "0", ...env }, timeout: 30_000 };
    execFile(process.execPath, [program, ...args], options, (error, stdout, stderr) => {
      resolve({ code: error === null ? 0 : error.code, stdout, stderr });
    });
  });
}

const whoAmI = "{ viewer { subject scopes sessions } }";

test("parley keys add makes a key that lets in, also while the gateway runs", async () => {
  const env = { AUTH: "keys", AUTH_KEYS_FILE: join(directory, "keys.jsonl"), HISTORY_KEY_PREFIX: "chat:" };
  const first = await parley(["keys", "add", "--subject", "jim"], env);
  expect(first).toMatchObject({ code: 0, stdout: expect.stringMatching(/^parley_\S{43}\n$/) as string });
  const gateway = await spawnGateway({ ...env, REDIS_URL: redis.url });
  expect(gateway.output).not.toContain(first.stdout.trim());
  expect(await callerOf(gateway.url, first.stdout.trim()).execute(whoAmI)).toEqual({
    viewer: { subject: "jim", scopes: ["chat:read", "chat:write"], sessions: ["jim:*"] },
  });
  const second = await parley(
    ["keys", "add", "--subject", "ops", "--scope", "admin", "--scope", "chat:read", "--sessions", "team-*"],
    env,
  );
  expect(await callerOf(gateway.url, second.stdout.trim()).execute(whoAmI)).toEqual({
    viewer: { subject: "ops", scopes: ["admin", "chat:read"], sessions: ["team-*"] },
  });
  expect(await callerOf(gateway.url, null).refusal(whoAmI)).toMatch(/^401 /);
  expect(await gateway.stop()).toBe(0);
});

test("tokens by AUTH_JWT_SECRET; parley adopt gives histories to who is named", async () => {
  const env = { AUTH: "jwt", AUTH_JWT_SECRET: secret, HISTORY_KEY_PREFIX: "chat:", REDIS_URL: redis.url };
  expect(await parley(["adopt"], env)).toMatchObject({ code: 2, stderr: expect.stringContaining("--owner") as string });
  const gateway = await spawnGateway({ ...env, HOST: "127.0.0.1" });
  expect(await callerOf(gateway.url, await tokenFor("jim")).execute("{ viewer { subject } }")).toEqual({
    viewer: { subject: "jim" },
  });
  expect(await parley(["adopt", "--owner", "jim"], env)).toMatchObject({ code: 0 });
  expect(await gateway.stop()).toBe(0);
});

test.each([
  ["HOST", { HOST: "0.0.0.0" }, /HOST: .*AUTH.*ALLOW_ANONYMOUS=1/],
  ["HISTORY_KEY_PREFIX", { AUTH: "jwt", AUTH_JWT_SECRET: secret }, /HISTORY_KEY_PREFIX: .*ALLOW_BARE_KEYS=1/],
  [
    "AUTH_KEYS_FILE",
    { AUTH: "keys", AUTH_KEYS_FILE: "there-is-none", HISTORY_KEY_PREFIX: "chat:" },
    /AUTH_KEYS_FILE: cannot be read \(ENOENT\)/,
  ],
])("does not start, and says why, where %s would let in whom it should not", async (_what, env, why) => {
  const ended = await parley([], { REDIS_URL: redis.url, ...env });
  expect(ended.code).toBe(2);
  expect(ended.stderr).toMatch(why);
  expect(ended.stderr).not.toContain(secret);
});

test("a keys file with a mistake is told by its line", async () => {
  const file = join(directory, "broken.jsonl");
  await writeFile(file, '{"subject":"jim"}\n');
  const env = { AUTH: "keys", AUTH_KEYS_FILE: file, HISTORY_KEY_PREFIX: "chat:", REDIS_URL: redis.url };
  const ended = await parley([], env);
  expect(ended.code).toBe(2);
  expect(ended.stderr).toContain("AUTH_KEYS_FILE: has mistakes: line 1: its scopes are no list of names");
});

test.each([
  [["keys"], "parley keys add"],
  [["keys", "remove"], "parley keys add"],
  [["keys", "add"], "--subject"],
  [["keys", "add", "--subject", "jim"], "AUTH_KEYS_FILE"],
  [["start", "--subject", "jim"], "parley keys add"],
  [["keys", "add", "--subject", "jim", "--owner", "x"], "parley adopt"],
])("%s is misused", async (args, hint) => {
  const ended = await parley(args);
  expect(ended.code).toBe(2);
  expect(ended.stderr).toContain(hint);
});
