import { rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";

import { runParley } from "../support/gateway/parley-command.ts";
import { temporaryDirectory } from "../support/redis/server-process.ts";
import { secret } from "../support/gateway/tokens.ts";

// What is refused before there is any talk with Redis.
const nobody = "redis://127.0.0.1:1";

let directory = "";
beforeAll(async () => {
  directory = await temporaryDirectory();
});
afterAll(() => rm(directory, { recursive: true, force: true }));

test.each([
  ["HOST", { HOST: "0.0.0.0" }, /HOST: .*AUTH.*ALLOW_ANONYMOUS=1/],
  ["HISTORY_KEY_PREFIX", { AUTH: "jwt", AUTH_JWT_SECRET: secret }, /HISTORY_KEY_PREFIX: .*ALLOW_BARE_KEYS=1/],
  [
    "AUTH_KEYS_FILE",
    { AUTH: "keys", AUTH_KEYS_FILE: "there-is-none", HISTORY_KEY_PREFIX: "chat:" },
    /AUTH_KEYS_FILE: cannot be read \(ENOENT\)/,
  ],
])("does not start, and says why, where %s would let in whom it should not", async (_what, env, why) => {
  const ended = await runParley(directory, [], { REDIS_URL: nobody, ...env });
  expect(ended.code).toBe(2);
  expect(ended.stderr).toMatch(why);
  expect(ended.stderr).not.toContain(secret);
});

test("a mistake in the keys file is reported with its line number", async () => {
  const file = join(directory, "broken.jsonl");
  await writeFile(file, '{"subject":"jim"}\n');
  const env = { AUTH: "keys", AUTH_KEYS_FILE: file, HISTORY_KEY_PREFIX: "chat:", REDIS_URL: nobody };
  const ended = await runParley(directory, [], env);
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
  const ended = await runParley(directory, args);
  expect(ended.code).toBe(2);
  expect(ended.stderr).toContain(hint);
});
