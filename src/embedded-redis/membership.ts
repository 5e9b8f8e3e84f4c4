import { setTimeout as sleep } from "node:timers/promises";
import { Redis } from "ioredis";
import type { RedisBinary } from "./binary.ts";
import { withFolderLock } from "./folder-lock.ts";
import type { LaunchOptions, Running } from "./launch.ts";
import { findRunning, launch } from "./launch.ts";
import { isServerIn } from "./liveness.ts";
import { infoField } from "./probe.ts";
import { addressUrl } from "./state-file.ts";

const memberName = "parley-gateway";
const shutdownLimitMs = 20_000;
/** Longer than a member whose connection was cut takes to come back. */
const secondLookMs = 150;
/** At this many failed attempts to come back in a row (about 0.4 s), and again every so many (10 s), the server is looked after. */
const firstRevival = 5;
const revivalEvery = 20;

/** One gateway's part in the folder's server: a named connection that it keeps open, by which Redis counts gateways. */
export class Membership {
  readonly #options: LaunchOptions;
  readonly #find: () => Promise<RedisBinary>;
  readonly #connection: Redis;
  #left: Promise<void> | null = null;
  #ending = false;
  #reviving = false;

  private constructor(running: Running, options: LaunchOptions, find: () => Promise<RedisBinary>) {
    this.#options = options;
    this.#find = find;
    this.#connection = new Redis(addressUrl(running.address), {
      connectionName: memberName,
      lazyConnect: true,
      retryStrategy: (times) => this.#retry(times),
      connectTimeout: 2_000,
      commandTimeout: 5_000,
      maxRetriesPerRequest: 2,
    });
    // The gateway's own connections report a server that is away; this one only has to come back.
    this.#connection.on("error", () => undefined);
  }

  /** Called under the folder's lock, so that nobody stops the server before this one counts. */
  static async open(running: Running, options: LaunchOptions, find: () => Promise<RedisBinary>): Promise<Membership> {
    const membership = new Membership(running, options, find);
    await membership.#connection.connect();
    return membership;
  }

  leave(): Promise<void> {
    this.#left ??= this.#leave();
    return this.#left;
  }

  /** Quick at first, since others count this connection; and for as long as the gateway runs. */
  #retry(times: number): number | null {
    if (this.#ending) return null;
    if (this.#left === null && !this.#reviving && times % revivalEvery === firstRevival) void this.#revive();
    return Math.min(times * 25, 500);
  }

  /** The gateways that share the server all get here; the lock lets one start it, and the others find it running. */
  async #revive(): Promise<void> {
    const { directory, onProgress } = this.#options;
    this.#reviving = true;
    try {
      await withFolderLock(directory, async () => {
        if (this.#left !== null || (await findRunning(this.#options)) !== null) return;
        onProgress?.(`The redis-server of ${directory} has died. Starting it again.`);
        await launch(await this.#find(), { ...this.#options, keepAddress: true });
      });
    } catch (error) {
      onProgress?.(error instanceof Error ? error.message : String(error));
    } finally {
      this.#reviving = false;
    }
  }

  async #leave(): Promise<void> {
    try {
      await withFolderLock(this.#options.directory, async () => {
        if (await this.#isLast()) await this.#shutDown();
        // The next process in the lock does not count this one any more, also where this connection's end takes its time.
        else await this.#connection.client("SETNAME", "").catch(() => undefined);
      });
    } finally {
      this.#ending = true;
      this.#connection.disconnect();
    }
  }

  async #isLast(): Promise<boolean> {
    try {
      if ((await this.#others()) > 0) return false;
      await sleep(secondLookMs);
      return (await this.#others()) === 0;
    } catch {
      // It is gone already, or hangs: nothing that could be asked to end.
      return false;
    }
  }

  async #others(): Promise<number> {
    const own = String(await this.#connection.client("ID"));
    return otherMembers(String(await this.#connection.client("LIST")), own);
  }

  async #shutDown(): Promise<void> {
    const { directory } = this.#options;
    const processId = Number(infoField(await this.#connection.info("server"), "process_id"));
    this.#ending = true;
    // No RDB; the append-only file is flushed and synced. Succeeds by closing the connection.
    await this.#connection.call("SHUTDOWN", "NOSAVE").catch(() => undefined);
    const deadline = Date.now() + shutdownLimitMs;
    while (await isServerIn(processId, directory)) {
      if (Date.now() > deadline) {
        throw new Error(`The redis-server of ${directory} (process ${processId}) does not end.`);
      }
      await sleep(20);
    }
  }
}

/** How many lines of CLIENT LIST are gateways' connections, other than the one with this id. */
export function otherMembers(clientList: string, ownId: string): number {
  const members = clientList.split("\n").filter((line) => line.split(" ").includes(`name=${memberName}`));
  return members.filter((line) => !line.startsWith(`id=${ownId} `)).length;
}
