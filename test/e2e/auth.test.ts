import { rm } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";

import { spawnGateway } from "../support/gateway/gateway.ts";
import { runParley } from "../support/gateway/parley-command.ts";
import { temporaryDirectory } from "../support/redis/server-process.ts";
import { callerOf } from "../support/gateway/tenant.ts";
import { secret, tokenFor } from "../support/gateway/tokens.ts";
import { startTopology } from "../support/redis/project-topology.ts";
import type { TestTopology } from "../support/redis/topologies.ts";

let redis: TestTopology;
let directory = "";
beforeAll(async () => {
  [redis, directory] = await Promise.all([startTopology(), temporaryDirectory()]);
});
afterAll(async () => {
  await redis.stop();
  await rm(directory, { recursive: true, force: true });
});

const whoAmI = "{ viewer { subject scopes sessions } }";

test("parley keys add makes a key that lets in, also while the gateway runs", async () => {
  const env = { AUTH: "keys", AUTH_KEYS_FILE: join(directory, "keys.jsonl"), HISTORY_KEY_PREFIX: "chat:" };
  const first = await runParley(directory, ["keys", "add", "--subject", "jim"], env);
  expect(first).toMatchObject({ code: 0, stdout: expect.stringMatching(/^parley_\S{43}\n$/) as string });
  const gateway = await spawnGateway({ ...env, ...redis.env });
  expect(gateway.output).not.toContain(first.stdout.trim());
  expect(await callerOf(gateway.url, first.stdout.trim()).execute(whoAmI)).toEqual({
    viewer: { subject: "jim", scopes: ["chat:read", "chat:write"], sessions: ["jim:*"] },
  });
  const second = await runParley(
    directory,
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
  const env = { AUTH: "jwt", AUTH_JWT_SECRET: secret, HISTORY_KEY_PREFIX: "chat:", ...redis.env };
  expect(await runParley(directory, ["adopt"], env)).toMatchObject({
    code: 2,
    stderr: expect.stringContaining("--owner") as string,
  });
  const gateway = await spawnGateway({ ...env, HOST: "127.0.0.1" });
  expect(await callerOf(gateway.url, await tokenFor("jim")).execute("{ viewer { subject } }")).toEqual({
    viewer: { subject: "jim" },
  });
  expect(await runParley(directory, ["adopt", "--owner", "jim"], env)).toMatchObject({ code: 0 });
  expect(await gateway.stop()).toBe(0);
});
