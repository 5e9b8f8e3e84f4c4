import type { Redis } from "ioredis";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { Session } from "../../src/conversation/session.ts";
import { sessionKeys } from "../../src/redis/store/keys.ts";
import { openBackend, range, startServer, type OwnServer, type TestBackend } from "../support/store/feeds.ts";
import { waitUntil } from "../support/redis/redis-command.ts";
import { completed, foreignRow, must, newOp, newTurn, owner } from "../support/store/store.ts";

// A reading names the state that it shows. Asked again with that name, the store says "same" where nothing has changed.

let own: OwnServer;
let at: TestBackend;
let redis: Redis;

beforeAll(async () => {
  own = await startServer();
  ({ redis } = own);
  at = openBackend(own.port);
});

afterAll(async () => {
  await at.backend.close();
  await own[Symbol.asyncDispose]();
});

const pages = [{ first: null, after: null, last: 50, before: null }];

async function sessionAt({ backend: { store } }: TestBackend, id: string): Promise<Session> {
  return must(await store.read(owner, id, { pages })).session;
}

async function isSame({ backend: { store } }: TestBackend, id: string, state: string): Promise<boolean> {
  const known = { state, isSame: false };
  const reading = await store.read(owner, id, { pages, known });
  expect(reading === null).toBe(known.isSame);
  return known.isSame;
}

/** What each of them changes of a session with messages, where a reply is being made in it. */
const changes: Record<
  string,
  (id: string, turn: Parameters<TestBackend["backend"]["store"]["progress"]>[0]) => Promise<unknown>
> = {
  "an append": (id) => at.append(id, "more"),
  "a foreign push": (id) => redis.lpush(id, foreignRow("foreign")),
  "a foreign pop": (id) => redis.lpop(id),
  "a foreign trim": (id) => redis.ltrim(id, 0, 1),
  "a row that foreign code overwrote at the end": (id) => redis.lset(id, 0, foreignRow("instead")),
  "a life that foreign code gave it": (id) => redis.pexpire(id, 600_000),
  "a title": (id) => at.backend.store.update(owner, id, { title: "Cats" }),
  "being archived": (id) => at.backend.store.update(owner, id, { archived: true }),
  "text of the reply": (_id, turn) => at.backend.store.progress(turn, 0, "text"),
  "a summary": async (id) => {
    const { generation, end, tipMark } = await sessionAt(at, id);
    await at.backend.store.saveSummary(id, { generation, position: end - 1, mark: tipMark }, "They talk of cats.");
  },
  "a stop": (id, { runId }) => at.backend.store.cancel(owner, id, runId),
  "a clear": (id) => at.backend.store.clear(owner, id),
};

describe("a reading that is known", () => {
  test.each(Object.entries(changes))("is another behind %s", async (name, change) => {
    const id = `changes ${name}`;
    await at.append(id, ...range(0, 5));
    const turn = await at.backend.store.begin(owner, id, newTurn(id, "question"));
    if (turn.kind !== "started") throw new Error(turn.kind);
    const before = await sessionAt(at, id);
    expect(before.state).not.toBe("");
    expect(await isSame(at, id, before.state)).toBe(true);
    await change(id, turn);
    expect(await isSame(at, id, before.state)).toBe(false);
    const after = await sessionAt(at, id);
    expect(await isSame(at, id, after.state)).toBe(true);
    await at.backend.store.finish(turn, completed(turn, "reply"), newOp().id);
  });

  test("is none where the session is gone", async () => {
    await at.append("gone", "a");
    const { state } = await sessionAt(at, "gone");
    await at.backend.store.remove(owner, "gone");
    const known = { state, isSame: false };
    expect(await at.backend.store.read(owner, "gone", { pages, known })).toBeNull();
    expect(known.isSame).toBe(false);
    await at.append("gone", "a");
    expect(await isSame(at, "gone", state)).toBe(false);
  });

  test("is another for a record whose last writer knew of no stamp", async () => {
    await at.append("old", "a");
    const { state } = await sessionAt(at, "old");
    await redis.hdel(sessionKeys("old").session, "stamp");
    expect(await isSame(at, "old", state)).toBe(false);
    const without = await sessionAt(at, "old");
    expect(without.state).toBe("");
    expect(await isSame(at, "old", without.state)).toBe(false);
    // It writes the next one: what it does not know of it leaves as it was.
    await at.append("old", "b");
    const { state: stamped } = await sessionAt(at, "old");
    await redis.hincrby(sessionKeys("old").session, "seq", 1);
    expect(await isSame(at, "old", stamped)).toBe(false);
  });

  test("is another on a second primary that goes on from the same copy, by the same numbers", async () => {
    await using second = await startServer();
    await at.append("forked", ...range(0, 3));
    await second.redis.replicaof("127.0.0.1", own.port);
    await waitUntil("the copy is there", async () => (await second.redis.llen("forked")) === 3);
    await second.redis.replicaof("NO", "ONE");
    // Not before: a gateway leaves a server that is demoted.
    await using other = openBackend(second.port);
    const copied = await sessionAt(at, "forked");
    expect(await isSame(other, "forked", copied.state)).toBe(true);
    // The same one write on each, as a primary that was cut off and the one in its place may take it.
    await Promise.all([
      at.backend.store.update(owner, "forked", { title: "one" }),
      other.backend.store.update(owner, "forked", { title: "two" }),
    ]);
    const [here, there] = [await sessionAt(at, "forked"), await sessionAt(other, "forked")];
    const numbers = ({ sequence, generation, end, tipMark }: Session) => [sequence, generation, end, tipMark];
    expect(numbers(there)).toEqual(numbers(here));
    expect(await isSame(other, "forked", here.state)).toBe(false);
    expect(await isSame(at, "forked", there.state)).toBe(false);
    // Nor behind one more write that is the same on both.
    await Promise.all([at, other].map(({ backend }) => backend.store.update(owner, "forked", { archived: true })));
    expect(await isSame(other, "forked", (await sessionAt(at, "forked")).state)).toBe(false);
  });
});
