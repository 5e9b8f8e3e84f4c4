import type { ChildProcessByStdio } from "node:child_process";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { cp, mkdir, readdir, readFile, stat, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { join } from "node:path";
import { createInterface } from "node:readline";
import type { Readable, Writable } from "node:stream";
import { fileURLToPath } from "node:url";
import { Redis } from "ioredis";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { startEmbeddedRedis } from "../../src/embedded-redis/embedded.ts";
import { isServerIn } from "../../src/embedded-redis/liveness.ts";
import { parseAddress } from "../../src/embedded-redis/state-file.ts";
import { tellReaper } from "../support/redis/process-reaper.ts";
import { waitUntil } from "../support/redis/redis-command.ts";
import { temporaryDirectory } from "../support/redis/server-process.ts";

const script = fileURLToPath(new URL("../support/redis/embedded-redis-process.ts", import.meta.url));

/** A gateway's process is killed after these parts of the time that a start takes. */
const killedAfter = [0.4, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95, 1, 1.15];

/** What a gateway's process said: what it got, or why it got nothing. */
interface Got {
  readonly url: string;
  readonly joined: boolean;
  readonly version: string;
  readonly error?: string;
}

let directory: string;
let gateways: Gateway[];
let clients: Redis[];

beforeEach(async () => {
  directory = join(await temporaryDirectory(), "data");
  gateways = [];
  clients = [];
});

afterEach(async () => {
  for (const client of clients) client.disconnect();
  for (const gateway of gateways) await gateway.kill();
  // Whatever was left running in the folder: joined, and left as the last one.
  const rest = await startEmbeddedRedis({ directory, environment: process.env }).catch(() => null);
  await rest?.stop();
  expect(await serversIn(directory)).toEqual([]);
});

class Gateway {
  readonly #child: ChildProcessByStdio<Writable, Readable, null>;
  readonly got: Promise<Got>;

  constructor(folder: string) {
    this.#child = spawn(process.execPath, [script, folder], { stdio: ["pipe", "pipe", "inherit"] });
    const lines = createInterface({ input: this.#child.stdout });
    // The script's own words, one line of JSON.
    this.got = once(lines, "line").then(([line]) => JSON.parse(String(line)) as Got);
    gateways.push(this);
  }

  async stop(): Promise<void> {
    const exit = once(this.#child, "exit");
    this.#child.stdin.write("stop\n");
    expect(await exit).toEqual([0, null]);
  }

  async kill(): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return;
    const exit = once(this.#child, "exit");
    this.#child.kill("SIGKILL");
    await exit;
  }
}

async function started(folder = directory): Promise<Gateway> {
  const gateway = new Gateway(folder);
  expect(await gateway.got).not.toHaveProperty("error");
  return gateway;
}

function client(url: string): Redis {
  const redis = new Redis(url, { retryStrategy: null });
  redis.on("error", () => undefined);
  clients.push(redis);
  return redis;
}

async function processId(url: string): Promise<number> {
  const info = await client(url).info("server");
  return Number(/process_id:(\d+)/.exec(info)?.[1]);
}

/** The ids of all server processes whose working directory it is. */
async function serversIn(folder: string): Promise<number[]> {
  const processes = (await readdir("/proc").catch(() => [])).map(Number).filter(Number.isInteger);
  const there = await Promise.all(processes.map((id) => isServerIn(id, folder)));
  return processes.filter((_, index) => there[index] === true);
}

async function answers(url: string): Promise<boolean> {
  return await client(url)
    .ping()
    .then(
      () => true,
      () => false,
    );
}

describe("one gateway", () => {
  test("starts a real server that only the owner can reach, and ends it", async () => {
    const gateway = await started();
    const { url, joined, version } = await gateway.got;
    expect(joined).toBe(false);
    expect(version).toMatch(/^\d+\.\d+\.\d+$/);
    expect(parseAddress(url)).not.toBeNull();
    expect((await readFile(join(directory, "redis.url"), "utf8")).trim()).toBe(url);
    expect((await stat(join(directory, "redis.url"))).mode & 0o777).toBe(0o600);
    expect((await stat(directory)).mode & 0o777).toBe(0o700);

    const redis = client(url);
    const settings = new Map<string, string | undefined>();
    for (const name of ["appendonly", "appendfsync", "save", "bind", "notify-keyspace-events"]) {
      settings.set(name, String((await redis.config("GET", name))[1]));
    }
    expect(settings.get("notify-keyspace-events")).toMatch(/^(?=.*K)(?=.*E)(?=.*g)(?=.*l)(?=.*x)(?=.*e)(?=.*\$).{7}$/);
    settings.delete("notify-keyspace-events");
    expect(Object.fromEntries(settings)).toEqual({
      appendonly: "yes",
      appendfsync: "everysec",
      save: "",
      bind: "127.0.0.1",
    });
    await expect(client(url.replace(/:[0-9a-f]+@/, "")).ping()).rejects.toThrow();
    // A password on the command line would be everybody's.
    const commandLine = await readFile(`/proc/${await processId(url)}/cmdline`, "utf8").catch(() => "");
    expect(commandLine).not.toContain(parseAddress(url)?.password);

    await gateway.stop();
    expect(await answers(url)).toBe(false);
  });

  test("has its data and its address again after a restart", async () => {
    const first = await started();
    const { url } = await first.got;
    await client(url).lpush("jim", "hi");
    await first.stop();

    const second = await started();
    expect(await second.got).toMatchObject({ joined: false, url });
    expect(await client(url).lrange("jim", 0, -1)).toEqual(["hi"]);
  });

  test("takes another port, with its data, where its own is taken", async () => {
    const first = await started();
    const { url } = await first.got;
    await client(url).lpush("jim", "hi");
    await first.stop();
    const occupier = createServer((socket) => socket.on("error", () => undefined).resume());
    occupier.listen(parseAddress(url)?.port, "127.0.0.1");
    await once(occupier, "listening");
    try {
      const second = await started();
      const got = await second.got;
      expect(got.url).not.toBe(url);
      expect(await client(got.url).lrange("jim", 0, -1)).toEqual(["hi"]);
    } finally {
      occupier.close();
    }
  });

  test("says what the log says where the append-only file is damaged", async () => {
    const first = await started();
    const redis = client((await first.got).url);
    for (let index = 0; index < 100; index += 1) await redis.lpush("jim", `message ${index}`);
    await first.stop();
    const [name] = (await readdir(join(directory, "appendonlydir"))).filter((each) => each.endsWith(".incr.aof"));
    const file = join(directory, "appendonlydir", name ?? "");
    const content = await readFile(file, "latin1");
    await writeFile(file, content.slice(0, 300) + "garbage" + content.slice(320), "latin1");

    const { error } = await new Gateway(directory).got;
    expect(error).toContain(directory);
    expect(error).toMatch(/Bad file format reading the append only file/);
  });
});

describe("two gateways in a folder", () => {
  test("share a server, and the last one to stop ends it", async () => {
    const first = await started();
    const { url } = await first.got;
    const second = await started();
    expect(await second.got).toMatchObject({ joined: true, url });

    await first.stop();
    expect(await answers(url)).toBe(true);
    await client(url).lpush("jim", "hi");
    await second.stop();
    expect(await answers(url)).toBe(false);
  });

  test("start one server when they start at the same moment", async () => {
    const four = [1, 2, 3, 4].map(() => new Gateway(directory));
    const got = await Promise.all(four.map((gateway) => gateway.got));
    expect(got.map(({ joined }) => joined).toSorted()).toEqual([false, true, true, true]);
    expect(new Set(got.map(({ url }) => url)).size).toBe(1);

    expect(await serversIn(directory)).toHaveLength(1);
    const url = got[0]?.url ?? "";
    await Promise.all(four.map((gateway) => gateway.stop()));
    expect(await answers(url)).toBe(false);
  });

  test("neither keeps nor loses the server by a connection that was cut", async () => {
    const first = await started();
    const { url } = await first.got;
    const second = await started();
    const redis = client(url);
    expect(await redis.call("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")).toBe(2);
    await first.stop();
    expect(await answers(url)).toBe(true);
    await second.stop();
    expect(await answers(url)).toBe(false);
  });
});

describe("a server that dies under its gateways", () => {
  test("is started again by one of them, at its address and with its data", async () => {
    const first = await started();
    const { url } = await first.got;
    const second = await started();
    await client(url).lpush("jim", "hi");
    const dead = await processId(url);
    process.kill(dead, "SIGKILL");
    await waitUntil("it answers again", () => answers(url));
    expect(await processId(url)).not.toBe(dead);
    expect(await client(url).lrange("jim", 0, -1)).toEqual(["hi"]);
    await waitUntil("both are back", async () => {
      return String(await client(url).client("LIST")).split("name=parley-gateway ").length === 3;
    });

    await first.stop();
    expect(await answers(url)).toBe(true);
    await second.stop();
    expect(await answers(url)).toBe(false);
  });
});

describe("after a SIGKILL of the gateway", () => {
  test("its server runs on and is joined, and does not count the dead one", async () => {
    const first = await started();
    const { url } = await first.got;
    const before = await processId(url);
    await client(url).lpush("jim", "hi");
    await first.kill();

    const second = await started();
    expect(await second.got).toMatchObject({ joined: true, url });
    expect(await processId(url)).toBe(before);
    expect(await client(url).lrange("jim", 0, -1)).toEqual(["hi"]);
    await second.stop();
    expect(await answers(url)).toBe(false);
  });

  // Some dozen starts, which take seconds each on a busy machine.
  test("in mid-start, the lock is free and there is one server", { timeout: 300_000 }, async () => {
    const since = performance.now();
    const whole = await started();
    const startMs = performance.now() - since;
    await whole.stop();
    // What the killed one has begun must be found by the next.
    for (const part of killedAfter) {
      const first = new Gateway(directory);
      first.got.catch(() => undefined);
      await new Promise((resolve) => setTimeout(resolve, part * startMs));
      await first.kill();
      const second = await started();
      expect(await serversIn(directory)).toHaveLength(1);
      await second.stop();
      expect(await serversIn(directory)).toEqual([]);
    }
  });
});

describe("an address that no longer holds", () => {
  test("of a server that was killed: a new one starts with the data", async () => {
    const first = await started();
    const { url } = await first.got;
    await client(url).lpush("jim", "hi");
    const killed = await processId(url);
    // appendfsync everysec writes at once and syncs later: a SIGKILL of the server loses nothing.
    await first.kill();
    process.kill(killed, "SIGKILL");
    await waitUntil("the server is gone", async () => !(await answers(url)));

    const second = await started();
    expect(await second.got).toMatchObject({ joined: false });
    expect(await client((await second.got).url).lrange("jim", 0, -1)).toEqual(["hi"]);
  });

  test("whose port is another Redis now: that one is left alone", async () => {
    const other = join(await temporaryDirectory(), "other");
    const stranger = await started(other);
    const strange = await stranger.got;
    await mkdir(directory, { recursive: true });
    const password = "0".repeat(48);
    await writeFile(
      join(directory, "redis.url"),
      `redis://:${password}@127.0.0.1:${parseAddress(strange.url)?.port}/0`,
    );
    // The id of a process that lives, and is no server of this folder.
    await writeFile(join(directory, "redis.pid"), `${process.pid}\n`);

    const gateway = await started();
    const { url, joined } = await gateway.got;
    expect(joined).toBe(false);
    expect(await processId(url)).not.toBe(await processId(strange.url));
    await gateway.stop();
    expect(await answers(strange.url)).toBe(true);
    await stranger.stop();
  });

  test("in a copy of the folder: the copy gets a server of its own", async () => {
    const original = await started();
    const { url } = await original.got;
    await client(url).lpush("jim", "hi");
    const copy = join(await temporaryDirectory(), "copy");
    await cp(directory, copy, { recursive: true });

    const gateway = await started(copy);
    const got = await gateway.got;
    expect(got.joined).toBe(false);
    await client(got.url).lpush("jim", "only in the copy");
    expect(await client(url).lrange("jim", 0, -1)).toEqual(["hi"]);
    await gateway.stop();
    expect(await answers(url)).toBe(true);
  });

  test("cut in half: a server that still runs is not joined by a second one on its file", async () => {
    const first = await started();
    const { url } = await first.got;
    const running = await processId(url);
    tellReaper("started", running);
    await writeFile(join(directory, "redis.url"), url.slice(0, 20));
    const { error } = await new Gateway(directory).got;
    expect(error).toContain(`process ${running}`);
    await first.stop();
    expect(await answers(url)).toBe(false);
  });
});
