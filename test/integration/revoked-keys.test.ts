import { readFile, rename, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";

import { afterEach, beforeEach, expect, test } from "vitest";

import { addKey } from "../../src/transport/auth/key-file.ts";
import { keyVerifier } from "../../src/transport/auth/api-keys.ts";
import type { VerifyToken } from "../../src/transport/auth/token.ts";
import type { Authenticate } from "../../src/operations/identity.ts";
import { temporaryDirectory } from "../support/redis/server-process.ts";
import { openRaw, post, startTransport } from "../support/gateway/transport-server.ts";
import type { RawSocket, TestServer } from "../support/gateway/transport-server.ts";

const ticks = "subscription { ticks { text } }";
const jim = { subject: "jim", scopes: ["chat:read"], sessions: null, models: null };
let file: string;
let directory: string;
let server: TestServer & AsyncDisposable;
let looks = 0;

beforeEach(async () => {
  directory = await temporaryDirectory();
  file = join(directory, "keys.jsonl");
  looks = 0;
  const verify = keyVerifier(file, () => (looks += 1), 20);
  server = await startTransport({ authenticate: keyAuthentication(verify) });
});

afterEach(async () => {
  await server[Symbol.asyncDispose]();
  await rm(directory, { recursive: true });
});

function keyAuthentication(verify: VerifyToken): Authenticate {
  return ({ headers }) => verify(headers.get("x-key") ?? "");
}

/** Past connection_init, with a subscription open. */
async function open(key: string): Promise<RawSocket> {
  const raw = await openRaw(server.endpoint, ["graphql-transport-ws"], { "x-key": key });
  raw.send({ type: "connection_init" });
  expect((await raw.receive())["type"]).toBe("connection_ack");
  raw.send({ id: "1", type: "subscribe", payload: { query: "{ waiting }" } });
  await server.probe.waiting;
  return raw;
}

/** As editors do it: a new file in the old one's place. */
async function replace(text: string): Promise<void> {
  await writeFile(`${file}.new`, text);
  await rename(`${file}.new`, file);
}

async function lines(): Promise<readonly [string, string]> {
  const [first = "", second = ""] = (await readFile(file, "utf8")).split("\n");
  return [first, second];
}

async function isServed(raw: RawSocket): Promise<void> {
  raw.send({ type: "ping" });
  for (;;) if ((await raw.receive())["type"] === "pong") return;
}

test("a key that is taken out ends its sockets and streams; others' go on", async () => {
  const [gone, kept] = [await addKey(file, jim), await addKey(file, { ...jim, subject: "ann" })];
  const sockets = [await open(gone), await open(gone), await open(kept)] as const;
  const stream = await post(server.endpoint, ticks, { accept: "text/event-stream", "x-key": gone });
  const [, second] = await lines();
  await replace(`${second}\n`);
  expect((await sockets[0].closed).code).toBe(4403);
  expect((await sockets[1].closed).code).toBe(4403);
  // Cut off, without the event that would end it.
  expect(await stream.text()).toBe(":\n\n");
  await isServed(sockets[2]);
  expect((await post(server.endpoint, "{ hello }", { "x-key": gone })).status).toBe(401);
  sockets[2].socket.close();
  await sockets[2].closed;
});

test("a key that has other rights now signs in again", async () => {
  const key = await addKey(file, jim);
  const raw = await open(key);
  const [line] = await lines();
  await replace(line.replace('"chat:read"', '"chat:write"'));
  expect((await raw.closed).code).toBe(4403);
});

test("using a key with its new rights before the next check ends the streams that it opened with the old ones", async () => {
  const key = await addKey(file, { ...jim, scopes: ["chat:read", "chat:write"] });
  await using unhurried = await startTransport({
    authenticate: keyAuthentication(keyVerifier(file, () => undefined, 3_600_000)),
  });
  const raw = await openRaw(unhurried.endpoint, ["graphql-transport-ws"], { "x-key": key });
  raw.send({ type: "connection_init" });
  expect((await raw.receive())["type"]).toBe("connection_ack");
  const [line] = await lines();
  await replace(line.replace(',"chat:write"', ""));
  expect((await post(unhurried.endpoint, "{ hello }", { "x-key": key })).status).toBe(200);
  expect((await raw.closed).code).toBe(4403);
});

test("another line, or the same one moved, changes nothing; a file that is gone for good ends all", async () => {
  const key = await addKey(file, jim);
  const raw = await open(key);
  const [line] = await lines();
  await replace(`# mine\n\n{"broken"\n${line}`);
  // Its mistake is told when it was read.
  await expect.poll(() => looks).toBeGreaterThan(0);
  await isServed(raw);
  await rm(file);
  expect((await raw.closed).code).toBe(4403);
});
