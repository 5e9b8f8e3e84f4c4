import { afterEach, beforeEach, expect, test } from "vitest";
import { openBackend, type LiveReader, type TestBackend } from "../support/store/feeds.ts";
import { command, waitUntil } from "../support/redis/redis-command.ts";
import { startRedis, type TestRedis } from "../support/redis/redis-server.ts";
import { startProxy, type TcpProxy } from "../support/redis/tcp-proxy.ts";

// One name, behind which another server becomes the primary while the old one lives on: connections that are open stay
// with the old one. Nothing is read from time to time here, so whatever arrives was published to who had moved.

let old: TestRedis;
let next: TestRedis;
let name: TcpProxy;
let writer: TestBackend;
let reader: TestBackend;
let stream: LiveReader;

beforeEach(async () => {
  [old, next] = await Promise.all([startRedis({ appendonly: false }), startRedis({ appendonly: false })]);
  await command(old, "CONFIG", "SET", "repl-diskless-sync-delay", "0");
  await command(next, "REPLICAOF", old.host, String(old.port));
  await waitUntil("the replica follows", async () =>
    (await command<string>(next, "INFO", "replication")).includes("master_link_status:up"),
  );
  name = await startProxy(old.port);
  [writer, reader] = [openBackend(name.port), openBackend(name.port)];
  await writer.append("s", "before");
  await waitUntil("it is on the replica", async () => (await command(next, "LLEN", "s")) === 1);
  stream = await reader.open("s", "");
  await stream.untilCount("message", 1);
});
afterEach(async () => {
  reader.abortAll();
  await Promise.all([writer.backend.close(), reader.backend.close()]);
  await name.close();
  await Promise.all([old.stop(), next.stop()]);
});

/** The connections of gateways to a server that have this name, by the server's ids. */
async function idsOf(
  server: TestRedis,
  connection: "parley-commands" | "parley-subscriber",
): Promise<readonly string[]> {
  const clients = (await command<string>(server, "CLIENT", "LIST")).split("\n");
  const named = clients.filter((client) => client.includes(` name=${connection} `));
  return named.map((client) => /^id=(\d+)/.exec(client)?.[1] ?? "").toSorted();
}

const texts = () => stream.events.flatMap((event) => (event.kind === "message" ? [textIn(event.message.row.raw)] : []));
const textIn = (raw: string) => (JSON.parse(raw) as { data: { content: string } }).data.content; // a row of ours

/** All have left the old server, and what is published from then on arrives: each message once, in order. */
async function expectMoved(...meanwhile: readonly string[]): Promise<void> {
  for (const connection of ["parley-commands", "parley-subscriber"] as const) {
    await waitUntil("nobody is connected to the old one", async () => (await idsOf(old, connection)).length === 0);
    await waitUntil("all are connected to the new one", async () => (await idsOf(next, connection)).length === 2);
  }
  await stream.untilCount("message", 1 + meanwhile.length);
  await writer.append("s", "live");
  await stream.untilCount("message", 2 + meanwhile.length);
  expect(texts()).toEqual(["before", ...meanwhile, "live"]);
  expect(stream.events.map(({ kind }) => kind)).not.toContain("reset");
}

test("connections leave a demoted server that receives nothing any more, the writing one and the one that only subscribes", async () => {
  await command(next, "REPLICAOF", "NO", "ONE");
  name.leadTo(next.port);
  await command(old, "REPLICAOF", old.host, "1");
  await writer.append("s", "first on the new one");
  await expectMoved("first on the new one");
});

test("connections leave a demoted server even if nobody writes", async () => {
  await command(next, "REPLICAOF", "NO", "ONE");
  name.leadTo(next.port);
  await command(old, "REPLICAOF", old.host, "1");
  await expectMoved();
});

test("a demoted server that follows the new primary is left", async () => {
  await command(next, "REPLICAOF", "NO", "ONE");
  name.leadTo(next.port);
  await command(old, "REPLICAOF", next.host, String(next.port));
  await writer.append("s", "first on the new one");
  await expectMoved("first on the new one");
});

test("the subscriber connection leaves a server that does not know that it was replaced, as soon as the command connection does", async () => {
  await command(next, "REPLICAOF", "NO", "ONE");
  name.leadTo(next.port);
  const commands = await idsOf(old, "parley-commands");
  expect(commands).toHaveLength(2);
  for (const id of commands) await command(old, "CLIENT", "KILL", "ID", id);
  await expectMoved();
});

test("while the name still leads to the demoted server its subscribers stay, and move when it leads elsewhere", async () => {
  await command(old, "REPLICAOF", next.host, String(next.port));
  await command(next, "REPLICAOF", "NO", "ONE");
  const before = await idsOf(old, "parley-subscriber");
  expect(before).toHaveLength(2);
  for (let times = 0; times < 2; times++) {
    const commands = await idsOf(old, "parley-commands");
    await waitUntil("commands looked for the primary anew", async () => {
      const now = await idsOf(old, "parley-commands");
      return now.length === 2 && !now.some((id) => commands.includes(id));
    });
  }
  expect(await idsOf(old, "parley-subscriber")).toEqual(before);
  name.leadTo(next.port);
  await expectMoved();
});
