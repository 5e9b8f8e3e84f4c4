import { setTimeout as sleep } from "node:timers/promises";
import { Redis } from "ioredis";

/** Sends one command on a connection of its own; rejects at once where there is no server. */
export async function command<T>(server: { host: string; port: number }, ...args: [string, ...string[]]): Promise<T> {
  const redis = new Redis({
    host: server.host,
    port: server.port,
    lazyConnect: true,
    enableReadyCheck: false,
    retryStrategy: null,
    connectTimeout: 2_000,
    commandTimeout: 5_000,
  });
  redis.on("error", () => undefined);
  try {
    await redis.connect();
    const [verb, ...rest] = args;
    return (await redis.call(verb, ...rest)) as T; // the caller knows its command's reply
  } finally {
    redis.disconnect();
  }
}

const limitMs = 60_000;

/** Asks until it holds; rejects after 60 s. What it throws meanwhile counts as "not yet". */
export async function waitUntil(what: string, holds: () => Promise<boolean>): Promise<void> {
  const deadline = Date.now() + limitMs;
  let last: unknown;
  while (Date.now() < deadline) {
    try {
      if (await holds()) return;
    } catch (error) {
      last = error;
    }
    await sleep(50);
  }
  throw new Error(`Not within ${limitMs / 1000} s: ${what}`, { cause: last });
}

/** Connected isn't enough: a failover to a replica that still synchronises is none. */
export async function replicasOnline(server: { host: string; port: number }, count: number): Promise<boolean> {
  const info = await command<string>(server, "INFO", "replication");
  return [...info.matchAll(/^slave\d+:.*state=online/gm)].length >= count;
}
