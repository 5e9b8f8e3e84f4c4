import { spawn } from "node:child_process";
import { closeSync, openSync } from "node:fs";
import { chmod, readFile, rename, stat } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import type { Environment } from "./command.ts";
import { lastLines } from "./command.ts";
import type { RedisBinary } from "./binary.ts";
import { isServerIn } from "./liveness.ts";
import { freePort } from "./port.ts";
import { probeServer } from "./probe.ts";
import type { EmbeddedAddress } from "./state-file.ts";
import { newPassword, readAddress, writeAddress, writePrivateFile } from "./state-file.ts";

/** A server of this folder that answers. */
export interface Running {
  readonly address: EmbeddedAddress;
  readonly version: string;
  readonly processId: number;
}

export interface LaunchOptions {
  /** Absolute, without links, and locked by the caller. */
  readonly directory: string;
  readonly environment: Environment;
  readonly onProgress?: ((text: string) => void) | undefined;
  /** Others hold the folder's present address: no other port will do. */
  readonly keepAddress?: boolean;
}

const logName = "redis.log";
const processIdName = "redis.pid";
const configurationName = "redis.conf";
const maxLogBytes = 1_000_000;

/** Reading a large append-only file. */
const loadLimitMs = 10 * 60_000;
/** A new server's first answer; an old one's, that is there and mute. */
const answerLimitMs = 20_000;
/** An old one that is just ending. */
const endLimitMs = 2_000;
const portAttempts = 5;

/**
 * The server that already runs in the folder, or null. Only one that answers to the folder's password and works in this
 * very folder counts: the port may be another program's by now, and the folder a copy. Rejects if the server's process
 * is there and doesn't answer, since a second one on the same append-only file would damage it.
 */
export async function findRunning(options: LaunchOptions): Promise<Running | null> {
  const { directory } = options;
  const address = await readAddress(directory);
  const startedAt = Date.now();
  let told = false;
  for (;;) {
    const probe = address === null ? null : await probeServer(address);
    if (probe?.kind === "ready" && address !== null) {
      if (probe.directory === directory) return { address, version: probe.version, processId: probe.processId };
      return null;
    }
    const processId = Number(await readFile(join(directory, processIdName), "utf8").catch(() => ""));
    if (!(await isServerIn(processId, directory))) return null;
    const waited = Date.now() - startedAt;
    // Without its address it cannot answer us, whatever we wait for.
    const limitMs = address === null ? endLimitMs : probe?.kind === "loading" ? loadLimitMs : answerLimitMs;
    if (waited > limitMs) {
      const why = address === null ? "its address file redis.url is missing" : "it does not answer";
      throw new Error(
        `A redis-server runs in ${directory} (process ${processId}), but ${why}. End it, then start again.`,
      );
    }
    if (!told && waited > 500) {
      told = true;
      options.onProgress?.(`Waiting for the redis-server of ${directory} (process ${processId}).`);
    }
    await sleep(50);
  }
}

/**
 * Starts a server in the folder, on the address that it had before if that port is free. It is a process group of its
 * own, which outlives this process. Rejects with the tail of its log.
 */
export async function launch(binary: RedisBinary, options: LaunchOptions): Promise<Running> {
  const { directory } = options;
  const previous = await readAddress(directory);
  await rotateLog(directory);
  for (let attempt = 1; ; attempt += 1) {
    const port = attempt === 1 && previous !== null ? previous.port : await freePort();
    const address = { port, password: previous?.password ?? newPassword() };
    // Before the start: after a SIGKILL right here the next process must find what we have started.
    await writeAddress(directory, address);
    const failure = await launchAt(binary, address, options);
    if (typeof failure !== "string") return failure;
    const portTaken = /Address already in use|Failed listening on port/.test(failure);
    if (!portTaken || options.keepAddress === true || attempt === portAttempts) {
      throw new Error(`redis-server did not start in ${directory}. The end of its ${logName}:\n${failure}`);
    }
    // It may be this folder's own, started a moment ago by a process that was killed then.
    const running = await findRunning(options);
    if (running !== null) return running;
  }
}

/** The running server, or the tail of its log. */
async function launchAt(
  binary: RedisBinary,
  address: EmbeddedAddress,
  options: LaunchOptions,
): Promise<Running | string> {
  const { directory } = options;
  const log = join(directory, logName);
  const output = openSync(log, "a", 0o600);
  const loggedBefore = (await stat(log)).size;
  // A file: a command line with the password is for everybody to see, and a pipe that a SIGKILL leaves half written
  // makes a server with default settings, open to all.
  await writePrivateFile(join(directory, configurationName), configuration(address));
  const child = spawn(binary.command, [`./${configurationName}`], {
    cwd: directory,
    env: { ...options.environment, ...binary.env },
    stdio: ["ignore", output, output],
    detached: true,
  });
  closeSync(output);
  let startError: Error | null = null;
  child.once("error", (error) => (startError = error));
  const runs = (): boolean => startError === null && child.exitCode === null && child.signalCode === null;
  child.unref();

  // So that a child that ends at once isn't waited for as long as a mute stranger on its port keeps the probe.
  const ended = new Promise<null>((resolve) => child.once("exit", () => resolve(null)));
  const startedAt = Date.now();
  let loading = false;
  while (runs() && Date.now() - startedAt < (loading ? loadLimitMs : answerLimitMs)) {
    const probe = await Promise.race([probeServer(address), ended]);
    if (probe?.kind === "ready" && probe.processId === child.pid) {
      // For the owner only, as the folder is if we have made it.
      await chmod(join(directory, "appendonlydir"), 0o700).catch(() => undefined);
      return { address, version: probe.version, processId: probe.processId };
    }
    if (probe?.kind === "loading" && !loading) options.onProgress?.("redis-server is loading its append-only file.");
    loading = probe?.kind === "loading";
    await sleep(10);
  }
  if (runs()) {
    child.kill("SIGKILL");
    await ended;
  }
  const tail = lastLines((await readFile(log)).subarray(loggedBefore).toString("utf8"), 12);
  return tail === "" ? "(it wrote nothing)" : tail;
}

/** Paths are relative to the folder, which is the working directory: nothing here needs quoting. */
function configuration(address: EmbeddedAddress): string {
  return [
    "bind 127.0.0.1",
    `port ${address.port}`,
    `requirepass ${address.password}`,
    "daemonize no",
    `pidfile ./${processIdName}`,
    "appendonly yes",
    "appendfsync everysec",
    'save ""',
    "notify-keyspace-events KEglxe$",
    "",
  ].join("\n");
}

async function rotateLog(directory: string): Promise<void> {
  const log = join(directory, logName);
  const size = await stat(log).then(
    (found) => found.size,
    () => 0,
  );
  if (size > maxLogBytes) await rename(log, `${log}.old`);
}
