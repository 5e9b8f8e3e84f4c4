import { expect, test } from "vitest";
import { waitUntil } from "../support/redis/redis-command.ts";
import { openBackend, startServer, textsOf, type LiveReader, type TestBackend } from "../support/store/feeds.ts";
import { startProxy } from "../support/redis/tcp-proxy.ts";
import { foreignRow, must, owner } from "../support/store/store.ts";

// A thousand followed sessions, of which most are as they were: comparing them together tells of each that is not (P4, P5).

const count = 1000;
const ids = Array.from({ length: count }, (_, i) => `chat ${i}`);
const noEvents = ["--notify-keyspace-events", ""];

/** So many at a time that a slow machine has answered each within its time-out. */
async function forEach<T, R>(some: readonly T[], act: (one: T) => Promise<R>): Promise<readonly R[]> {
  const results: R[] = [];
  for (let i = 0; i < some.length; i += 50) results.push(...(await Promise.all(some.slice(i, i + 50).map(act))));
  return results;
}

function filled(at: TestBackend, some: readonly string[], ...texts: readonly string[]): Promise<unknown> {
  return forEach(some, (id) => at.append(id, ...texts));
}

async function followed(at: TestBackend, some: readonly string[]): Promise<readonly LiveReader[]> {
  const readers = await forEach(some, (id) => at.open(id));
  await Promise.all(readers.map((reader) => reader.untilCount("opened", 1)));
  return readers;
}

/** How often each session was compared so far, and how often it had been when it was read for the first time. */
function watched({ backend: { store } }: TestBackend) {
  const comparisons = new Map<string, number>();
  const readAt = new Map<string, number>();
  const [compare, read] = [store.compare.bind(store), store.read.bind(store)];
  store.compare = (sessions) => {
    for (const { historyKey } of sessions) comparisons.set(historyKey, (comparisons.get(historyKey) ?? 0) + 1);
    return compare(sessions);
  };
  store.read = (as, id, request) => {
    if (!readAt.has(id)) readAt.set(id, comparisons.get(id) ?? 0);
    return read(as, id, request);
  };
  return { comparisons, readAt };
}

test("without keyspace events each foreign change is found by the next comparison, and nothing else is read", async () => {
  await using own = await startServer(...noEvents);
  await using at = openBackend(own.port, { feedCheckMs: 1000 });
  const { redis } = own;
  await filled(at, ids, "one", "two", "three");
  const readers = await followed(at, ids);
  const { comparisons, readAt } = watched(at);
  const reset = (reader: LiveReader) => reader.untilCount("reset", 1);
  const pushed = (reader: LiveReader) => reader.until("the message", () => textsOf(reader).includes("pushed"));
  const changes: readonly (readonly [act: (id: string) => Promise<unknown>, told: typeof reset])[] = [
    [(id) => redis.lpush(id, foreignRow("pushed")), pushed],
    [(id) => redis.del(id), reset],
    [(id) => redis.ltrim(id, 0, 0), reset],
    [(id) => redis.lset(id, -1, foreignRow("other")), reset],
    [(id) => redis.rename(id, `${id} elsewhere`), reset],
  ];
  const quiet = count / 2;
  const late = await Promise.all(
    ids.slice(quiet).map(async (id, i) => {
      const [act, told] = must(changes[i % changes.length]);
      await act(id);
      const before = comparisons.get(id) ?? 0;
      await told(must(readers[quiet + i]));
      return must(readAt.get(id)) - before;
    }),
  );
  // What is asked from then on shows the change.
  expect(Math.max(...late)).toBeLessThanOrEqual(1);
  for (const id of ids.slice(0, quiet)) expect(readAt.has(id)).toBe(false);
  for (const reader of readers.slice(0, quiet)) expect(reader.events.map(({ kind }) => kind)).toEqual(["opened"]);

  await redis.flushall();
  await Promise.all(readers.map((reader) => reader.until("the end", () => reader.ended)));
  for (const reader of readers) expect(reader.events.at(-1)?.kind).toBe("removed");
});

test("after a failover subscribers whose newest writes are lost get a reset, and each of the others goes on", async () => {
  await using primary = await startServer(...noEvents);
  await using replica = await startServer(...noEvents);
  const proxy = await startProxy(primary.port);
  // Only the reconnect leads to comparisons.
  await using at = openBackend(proxy.port);
  await filled(at, ids, "one", "two");
  await replica.redis.replicaof("127.0.0.1", primary.port);
  await waitUntil("the copy is there", async () => (await replica.redis.dbsize()) === (await primary.redis.dbsize()));
  const readers = await followed(at, ids);
  await replica.redis.replicaof("NO", "ONE");
  const losers = readers.slice(0, 300);
  await filled(at, ids.slice(0, losers.length), "lost");
  await Promise.all(losers.map((reader) => reader.untilCount("message", 1)));

  proxy.leadTo(replica.port);
  proxy.cutAll();
  await Promise.all(losers.map((reader) => reader.untilCount("reset", 1)));
  await waitUntil("it takes writes", () => at.append(ids[0] ?? "", "next").then(() => true));
  await filled(at, ids.slice(1), "next");
  await Promise.all(readers.map((reader) => reader.until("the next", () => textsOf(reader).at(-1) === "next")));
  for (const reader of readers.slice(losers.length)) expect(textsOf(reader)).toEqual(["next"]);
  at.abortAll();
  await proxy.close();
});

test("sessions that end by themselves, and streams that wait for theirs, are found as well", async () => {
  await using own = await startServer(...noEvents);
  await using at = openBackend(own.port, { feedCheckMs: 1000 });
  const [ending, coming] = [ids.slice(0, 200), ids.slice(200, 400)];
  await filled(at, ending, "one");
  const readers = await followed(at, ending);
  await forEach(ending, (id) => at.backend.store.update(owner, id, { ttlSeconds: 1 }));
  const waiting = await forEach(coming, (id) => at.open(id, null, "always", "wait"));
  await Promise.all(waiting.map((reader) => reader.untilCount("waiting", 1)));
  for (const id of coming) await own.redis.lpush(id, foreignRow("hello"));
  await Promise.all(readers.map((reader) => reader.until("the end", () => reader.ended)));
  for (const reader of readers) expect(reader.events.at(-1)?.kind).toBe("removed");
  await Promise.all(waiting.map((reader) => reader.untilCount("message", 1)));
  for (const reader of waiting) expect(reader.events.map(({ kind }) => kind)).toEqual(["waiting", "opened", "message"]);
});
