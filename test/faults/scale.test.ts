import { Redis } from "ioredis";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { PageRequest } from "../../src/conversation/session.ts";
import { expectAsFast, timeOf } from "../support/compared-times.ts";
import {
  commandsOf,
  openBackend,
  range,
  startServer,
  type OwnServer,
  type TestBackend,
} from "../support/store/feeds.ts";
import { completed, foreignRow, must, newOp, newTurn, owner } from "../support/store/store.ts";

const many = 100_000;
const few = 100;
const memoryRows = 200;

let server: OwnServer;
let redis: Redis;
let one: TestBackend;

beforeAll(async () => {
  server = await startServer();
  redis = server.redis;
  one = openBackend(server.port);
  await fill("few", few);
  await fill("many", many);
  // What is done once for a foreign history, and once for a connection: adoption, scripts, subscriptions.
  for (const key of ["few", "many"]) for (const work of Object.values(operations)) await work(key);
});

afterAll(async () => {
  await one.backend.close();
  await server[Symbol.asyncDispose]();
});

async function fill(key: string, count: number): Promise<void> {
  const pipeline = redis.pipeline();
  for (let i = 0; i < count; i += 1000) {
    pipeline.lpush(key, ...range(i, Math.min(i + 1000, count)).map((text) => foreignRow(text)));
  }
  await pipeline.exec();
  expect(await redis.llen(key)).toBe(count);
}

async function page(key: string, request: Partial<PageRequest>): Promise<void> {
  const pages = [{ first: null, after: null, last: null, before: null, ...request }];
  const [found] = must(await one.backend.store.read(owner, key, { pages })).session.pages;
  if (found === undefined || found instanceof Error) throw new Error("No page", { cause: found });
  expect(found.rows).toHaveLength(50);
}

async function cursorAt(key: string, from: "first" | "last"): Promise<string> {
  const reader = await one.open(key, "", "never");
  const opened = must(await reader.next());
  reader.abort();
  if (opened.kind !== "opened") throw new Error(opened.kind);
  if (from === "first") return opened.cursor;
  const tip = await one.open(key, null, "never");
  const at = must(await tip.next());
  tip.abort();
  if (at.kind !== "opened") throw new Error(at.kind);
  return at.cursor;
}

const operations: Readonly<Record<string, (key: string) => Promise<void>>> = {
  "the oldest 50": (key) => page(key, { first: 50 }),
  "the newest 50": (key) => page(key, { last: 50 }),
  "50 behind the beginning": async (key) => page(key, { first: 50, after: await cursorAt(key, "first") }),
  "50 before the newest": async (key) => page(key, { last: 50, before: await cursorAt(key, "last") }),
  "an append": (key) => one.append(key, "appended"),
  "a subscription and a message": async (key) => {
    const reader = await one.open(key);
    await one.append(key, "heard");
    await reader.untilCount("message", 1);
    await reader.return();
  },
  "a foreign message to a subscriber": async (key) => {
    const reader = await one.open(key);
    await redis.lpush(key, foreignRow("foreign"));
    await reader.untilCount("message", 1);
    await reader.return();
  },
  "a turn": async (key) => {
    const begun = await one.backend.store.begin(owner, key, newTurn(key, "question"));
    if (begun.kind !== "started") throw new Error(begun.kind);
    await one.backend.store.progress(begun, 0, "answer");
    await one.backend.store.finish(begun, completed(begun, "answer"), newOp().id);
  },
};

/** The rows that a command on a list walks over or gives. */
function rowsTouched(args: readonly string[]): number {
  const [verb = "", , from = "0", to = "0"] = args;
  if (/^lrange$/i.test(verb)) return Number(to) - Number(from) + 1;
  if (/^lindex$/i.test(verb)) return Math.min(Math.abs(Number(from)), many - Math.abs(Number(from)));
  return 1;
}

/**
 * What the gateway writes beside an append (its place in the list of sessions) nobody awaits, but it goes ahead of what is
 * read next on the same connection.
 */
async function whole(key: string, work: (key: string) => Promise<void>): Promise<void> {
  await work(key);
  await one.backend.store.read(owner, key, { pages: [] });
}

/** Of several times the least of each command: what the gateway does of itself now and then falls into one or the other. */
async function leastCommandsOf(work: () => Promise<void>): Promise<ReadonlyMap<string, number>> {
  const times = [await commandsOf(redis, work), await commandsOf(redis, work), await commandsOf(redis, work)];
  const [first = new Map<string, number>()] = times;
  const least = [...first.keys()].map((name) => [name, Math.min(...times.map((one) => one.get(name) ?? 0))] as const);
  return new Map(least.filter(([, count]) => count > 0));
}

describe(`with ${many} messages as with ${few} (P9)`, () => {
  test.each(Object.entries(operations))("the same commands, and no more rows than a page: %s", async (name, work) => {
    const monitor = await redis.monitor();
    const seen: (readonly string[])[] = [];
    monitor.on("monitor", (_time: string, args: string[]) => seen.push(args));
    const counts = new Map<string, ReadonlyMap<string, number>>();
    for (const key of ["few", "many"]) counts.set(key, await leastCommandsOf(() => whole(key, work)));
    await redis.ping("seen all");
    await expect.poll(() => seen.some((args) => args[1] === "seen all")).toBe(true);
    monitor.disconnect();
    const without = (key: string) =>
      [...must(counts.get(key))].filter(([command]) => !/^(monitor|client|hello|info|command)/.test(command)).sort();
    expect(without("many")).toEqual(without("few"));
    const rows = seen.filter((args) => args[1] === "many").map(rowsTouched);
    expect(rows.length).toBeGreaterThan(0);
    expect(Math.max(...rows)).toBeLessThanOrEqual(name === "a turn" ? memoryRows : 200);
  });

  test("a page takes about as long", { timeout: 300_000 }, async () => {
    const pages = (key: string) => () => timeOf(() => page(key, { first: 50 }).then(() => page(key, { last: 50 })));
    await expectAsFast(40, 5, pages("many"), pages("few"));
  });
});
