import { afterEach, beforeEach, expect, test, vi } from "vitest";
import type { LiveReader } from "../../src/conversation/ports/live.ts";
import { markOf } from "../../src/conversation/message/ids.ts";
import type { Session } from "../../src/conversation/session.ts";
import { Feed } from "../../src/redis/feed/feed.ts";
import { sessionKeys } from "../../src/redis/store/keys.ts";
import type { RedisSessionStore } from "../../src/redis/store/session-store.ts";
import { FakeConversations, stored } from "../support/store/fake-conversations.ts";
import { noChecks } from "../support/store/feeds.ts";
import { must } from "../support/store/store.ts";

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

const id = "jim";
const raw = stored("human", "own");
const events = sessionKeys(id).events;
const keyspace = `__keyspace@0__:${id}`;

function sessionOf(sequence: number, ...texts: readonly string[]): Session {
  const fake = new FakeConversations();
  fake.put(id, texts);
  const page = { rows: [], hasNextPage: false, hasPreviousPage: false };
  return { ...fake.session(id, []), sequence, pages: [page] };
}

/** A write of a gateway as it is published (commit.lua). */
function publicationOf({ sequence, generation, end, tipMark }: Session): string {
  const header = { v: 1, seq: sequence + 1, gen: generation, base: 0, at: end, prev: tipMark, pushes: 1, read: 0 };
  return `${JSON.stringify(header)}\nM${raw}`;
}

const moment = () => vi.advanceTimersByTimeAsync(10);

/** A feed of a session that is `before`; what it reads later is answered by the test. */
async function started(before: Session) {
  const readings: PromiseWithResolvers<{ readonly session: Session }>[] = [];
  const store = {
    historyKey: () => id,
    read: () => {
      const reading = Promise.withResolvers<{ readonly session: Session }>();
      readings.push(reading);
      return reading.promise;
    },
  };
  const hub = {
    ready: true,
    subscribe: () => Promise.resolve(),
    unsubscribe: () => undefined,
    settled: () => Promise.resolve(),
    close: () => undefined,
  };
  const settings = { db: 0, checkMs: () => 600_000, onError: (error: unknown) => expect(error).toBeNull() };
  // As much of a store as a feed asks for.
  const feed = new Feed("somebody", id, store as unknown as RedisSessionStore, hub, noChecks(), settings);
  const answer = async (session: Session) => {
    must(readings.at(-1)).resolve({ session });
    await vi.advanceTimersByTimeAsync(0);
  };
  const start = feed.start();
  await vi.advanceTimersByTimeAsync(0);
  await answer(before);
  await start;
  return { feed, readings, answer };
}

test("a publication that waits for a reading explains its own keyspace event, and no foreign write that comes behind it", async () => {
  const before = sessionOf(7, stored("human", "first"));
  const behind = sessionOf(8, stored("human", "first"), raw);
  const { feed, readings, answer } = await started(before);
  feed.onMessage(keyspace, "lpush");
  await moment();
  expect(readings).toHaveLength(2);
  // A gateway writes while the reading is under way.
  feed.onMessage(events, publicationOf(before));
  feed.onMessage(keyspace, "lpush");
  await moment();
  await answer(before);
  expect(feed.entry(0)).toMatchObject({ kind: "message", row: { position: 1, mark: markOf(raw) } });
  // The keyspace event that came meanwhile was the publication's. It is behind the reading that a program pushes.
  expect(readings).toHaveLength(2);
  feed.onMessage(keyspace, "lpush");
  await moment();
  await answer(behind);
  expect(readings).toHaveLength(3);
  feed.close();
});

test("an entry is kept until each subscriber has taken it, also for one that is about to be, and no longer", async () => {
  const before = sessionOf(7, stored("human", "first"));
  const { feed } = await started(before);
  const woken: number[] = [];
  const readers: readonly LiveReader[] = [0, 1].map((i) => ({ wake: () => void woken.push(i), isDone: true }));
  const wait = (i: number) => feed.wait(feed.next, must(readers[i]));
  feed.subscribers = 3;
  expect([wait(0), wait(1)]).toEqual([true, true]);
  feed.onMessage(events, publicationOf(before));
  // The third has joined, and its reading is under way: it goes on from where the feed stood before it.
  await moment();
  expect(woken).toEqual([0, 1]);
  expect([wait(0), wait(1)]).toEqual([true, true]);
  expect(feed.entry(0)).toMatchObject({ kind: "message" });
  // It has left. What comes next is taken by the others, one after the other.
  feed.subscribers = 2;
  const next = { ...before, sequence: 8, end: 2, tipMark: markOf(raw) };
  feed.onMessage(events, publicationOf(next));
  // Not woken yet: one that comes to the tip now takes nothing away from the others.
  expect(wait(0)).toBe(true);
  expect(feed.entry(1)).toMatchObject({ kind: "message" });
  await moment();
  expect(wait(0)).toBe(true);
  expect(feed.entry(1)).toMatchObject({ kind: "message" });
  expect(wait(1)).toBe(true);
  expect([feed.next, feed.entry(0), feed.entry(1), feed.entry(2)]).toEqual([2, null, null, undefined]);
  feed.close();
});
