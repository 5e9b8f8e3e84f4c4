import { readFileSync } from "node:fs";
import type { Redis } from "ioredis";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { encodeCursor } from "../../src/conversation/message/cursor.ts";
import { listSessions } from "../../src/conversation/conversations/listing.ts";
import type { Session } from "../../src/conversation/session.ts";
import { adoptAll } from "../../src/redis/admin/adopt.ts";
import { sessionKeys } from "../../src/redis/store/keys.ts";
import { startRedis, type TestRedis } from "../support/redis/redis-server.ts";
import { readWhole, started, textsOf } from "../support/store/script-cases.ts";
import {
  completed,
  contents,
  foreignRow,
  keysByPart,
  must,
  newMessage,
  newOp,
  newRecord,
  newTurn,
  openStore,
  owner,
  type TestStore,
} from "../support/store/store.ts";

// What other programs do in the same Redis: their keys are out of reach, and what LangChain code does to a history is
// met, never mistaken.

let server: TestRedis;
let at: TestStore;
let redis: Redis;
beforeAll(async () => {
  server = await startRedis({ appendonly: false });
  at = openStore(server.port);
  // A store of one Redis has one connection of this kind.
  ({ redis } = at);
});
beforeEach(() => redis.flushdb());
afterAll(async () => {
  at.close();
  await server.stop();
});

const everything = { titleContains: null, archived: null, metadata: null, updatedAfter: null };
const recordOnly = { pages: [] };

async function listed(): Promise<readonly string[]> {
  const page = await listSessions(
    at.store,
    owner,
    { first: 50, after: null, last: null, before: null },
    everything,
    recordOnly,
  );
  return page.items.map(({ session }) => session.sessionId);
}

function adopt() {
  return adoptAll({ primaries: () => Promise.resolve([redis]), store: at.store }, owner, "*", () => undefined);
}

/** As from a program that writes another encoding: each character is one byte. */
function noUtf8(text: string): Buffer {
  return Buffer.from(`{"type":"human","data":{"content":"${text}"}}`, "latin1");
}

/** A list's bytes, each as one character. */
async function latin1(key: string): Promise<readonly string[]> {
  return (await redis.lrangeBuffer(key, 0, -1)).map((row) => row.toString("latin1"));
}

/** Everything that a caller can ask for, at a key that is none of ours: nothing answers, and nothing is touched. */
async function expectOutOfReach(key: string): Promise<void> {
  const before = await contents(redis);
  const gone = { code: "NOT_FOUND" };
  const { store } = at;
  expect(await store.read(owner, key, { pages: [], runId: "r", ranges: [[0, 9]] })).toBeNull();
  expect(await store.touch(owner, key, null)).toBe(false);
  expect(await store.adopt(owner, key)).toBe(false);
  expect(await store.attend(key, true)).toEqual({ turn: null, dueAt: 0 });
  expect(await store.begin(owner, key, newTurn(key, "hi"))).toEqual({ kind: "notFound" });
  expect(await store.begin(owner, key, newTurn(key, null, { whenBusy: "INTERRUPT" }))).toEqual({ kind: "notFound" });
  await expect(store.append(owner, key, [newMessage(key, "USER", "hi", null)], newOp())).rejects.toMatchObject(gone);
  await expect(store.update(owner, key, { title: "Mine" })).rejects.toMatchObject(gone);
  await expect(store.markRead(owner, key, null)).rejects.toMatchObject(gone);
  await expect(store.cancel(owner, key, "run")).rejects.toMatchObject(gone);
  await expect(store.clear(owner, key)).rejects.toMatchObject(gone);
  await expect(store.remove(owner, key)).rejects.toMatchObject(gone);
  await store.saveSummary(key, { generation: 0, position: 0, mark: "" }, "text");
  const token = { sessionId: key, historyKey: key, runId: "run", token: 1 };
  expect(await store.progress(token, 0, "text")).toEqual({ kind: "closed" });
  expect(await store.renew(token)).toBe(false);
  await expect(store.create(owner, key, newRecord(null), newOp())).rejects.toMatchObject({ code: "SESSION_EXISTS" });
  await store.create(owner, "source", newRecord("Source"), newOp());
  const { session } = await readWhole(at, "source");
  const fork = store.fork(owner, session, null, key, null, newOp());
  await expect(fork).rejects.toMatchObject({ code: "SESSION_EXISTS" });
  await store.remove(owner, "source");
  expect(await adopt()).toMatchObject({ adopted: 0 });
  expect(await listed()).toEqual([]);
  // The source's tombstone and the deadlines are beside the point; whoever polls those takes them away.
  const beside = new Set(["parley:due", ...sessionKeys("source").all.slice(5, 7)]);
  const after = Object.fromEntries(Object.entries(await contents(redis)).filter(([one]) => !beside.has(one)));
  expect(after).toEqual(before);
}

describe("a list that is no history is out of reach", () => {
  const jobs: readonly (readonly [string, readonly string[]])[] = [
    ["job ids", ["1", "2", "3"]],
    ["jobs as JSON", ['{"id":1,"name":"send"}', '{"id":2,"name":"send"}']],
    ["jobs as type and data", ['{"type":"email","data":{"to":"a@example.org"}}']],
    ["a job whose type sounds like a message's", ['{"type":"human_review","data":{"id":1}}']],
    ["jobs that no JSON parser of Lua reads", ['{"type":"email","data":"\\ud800"}']],
    ["texts", ["hello", ""]],
    ["JSON that is no object", ["null", "[]", '"human"', "7"]],
    ["a type without data", ['{"type":"human"}', '{"type":"ai","data":"text"}']],
    ["data without a type", ['{"data":{"content":"hi"}}', '{"type":7,"data":{}}']],
    ["a message below jobs", [foreignRow("hi"), "job"]],
    ["a message above jobs", ["job", foreignRow("hi")]],
    ["5 MB of text", ["x".repeat(5_000_000)]],
  ];
  test.each(jobs)("%s", async (_what, rows) => {
    await redis.lpush("queue:mail", ...rows);
    await expectOutOfReach("queue:mail");
  });

  test("bytes that are no text", async () => {
    await redis.lpush("queue:mail", Buffer.from([0, 255, 254, 123]));
    const before = await redis.lrangeBuffer("queue:mail", 0, -1);
    expect(await at.store.read(owner, "queue:mail", recordOnly)).toBeNull();
    expect(await at.store.begin(owner, "queue:mail", newTurn("queue:mail", "hi"))).toEqual({ kind: "notFound" });
    expect(await redis.lrangeBuffer("queue:mail", 0, -1)).toEqual(before);
  });
});

describe("a key of another type is out of reach", () => {
  const makers: readonly (readonly [string, (key: string) => Promise<unknown>])[] = [
    ["string", (key) => redis.set(key, foreignRow("hi"))],
    ["hash", (key) => redis.hset(key, "type", "human", "owner", owner, "gen", 1)],
    ["set", (key) => redis.sadd(key, foreignRow("hi"))],
    ["sorted set", (key) => redis.zadd(key, 1, foreignRow("hi"))],
    ["stream", (key) => redis.xadd(key, "*", "type", "human")],
  ];
  test.each(makers)("%s", async (_type, make) => {
    await make("cache:1");
    await expectOutOfReach("cache:1");
  });

  test("also where a session was there before", async () => {
    await at.store.append(owner, "s", [newMessage("s", "USER", "hi", null)], newOp());
    await redis.del("s");
    await redis.set("s", "text");
    const before = await contents(redis);
    expect(await at.store.read(owner, "s", recordOnly)).toBeNull();
    await expect(at.store.remove(owner, "s")).rejects.toMatchObject({ code: "NOT_FOUND" });
    expect(await contents(redis)).toEqual(before);
  });
});

test("another owner's session answers as one that does not exist", async () => {
  const turn = await started(at, "s", "secret");
  await at.store.progress(turn, 0, "half");
  const before = await contents(redis, /^parley:(?:due|sessions:mallory)$/);
  const gone = { code: "NOT_FOUND" };
  const { store } = at;
  expect(await store.read("mallory", "s", { pages: [], runId: turn.runId })).toBeNull();
  expect(await store.touch("mallory", "s", null)).toBe(false);
  expect(await store.begin("mallory", "s", newTurn("s", "hi", { whenBusy: "INTERRUPT" }))).toEqual({
    kind: "notFound",
  });
  await expect(store.cancel("mallory", "s", turn.runId)).rejects.toMatchObject(gone);
  await expect(store.clear("mallory", "s")).rejects.toMatchObject(gone);
  await expect(store.remove("mallory", "s")).rejects.toMatchObject(gone);
  await expect(store.update("mallory", "s", { title: "Mine" })).rejects.toMatchObject(gone);
  await expect(store.markRead("mallory", "s", null)).rejects.toMatchObject(gone);
  await expect(store.append("mallory", "s", [], newOp())).rejects.toMatchObject(gone);
  await expect(store.create("mallory", "s", newRecord(null), newOp())).rejects.toMatchObject({
    code: "SESSION_EXISTS",
  });
  expect(await contents(redis, /^parley:(?:due|sessions:mallory)$/)).toEqual(before);
});

test("if a touch does not adopt, a list without a record has no owner", async () => {
  const strict = openStore(server.port, { adopts: false });
  await redis.lpush("s", foreignRow("hi"));
  const before = await contents(redis);
  expect(await strict.store.read(owner, "s", recordOnly)).toBeNull();
  expect(await strict.store.begin(owner, "s", newTurn("s", "hi"))).toEqual({ kind: "notFound" });
  await expect(strict.store.remove(owner, "s")).rejects.toMatchObject({ code: "NOT_FOUND" });
  expect(await contents(redis, /^parley:(?:due|sessions)/)).toEqual(before);
  strict.close();
});

describe("a history of foreign code", () => {
  const golden = ["js", "python"].flatMap((language) =>
    readFileSync(new URL(`../golden/langchain-${language}.jsonl`, import.meta.url), "utf8")
      .split("\n")
      .filter((line) => line !== ""),
  );

  test.each(golden)("is known by a row of any kind: %s", async (row) => {
    await redis.lpush("s", row);
    const { session } = await readWhole(at, "s");
    expect(rawOf(session)).toEqual([row]);
    expect(await redis.lrange("s", 0, -1)).toEqual([row]);
    expect(await listed()).toEqual(["s"]);
  });

  test("of every kind of row is read byte for byte, and goes on", async () => {
    await redis.lpush("s", ...golden);
    expect(rawOf((await readWhole(at, "s")).session)).toEqual(golden);
    const turn = await started(at, "s", "question");
    expect(turn.rows).toEqual(golden);
    await at.store.finish(turn, completed(turn, "answer"), "i:1");
    expect(rawOf((await readWhole(at, "s")).session).slice(0, -2)).toEqual(golden);
    expect((await redis.lrange("s", 2, -1)).reverse()).toEqual(golden);
  });

  test.each([
    ["a lone surrogate", '{"type":"human","data":{"content":"\\ud83d"}}'],
    ["more depth than Lua's parser takes", foreignRow("deep").replace('"deep"', "[".repeat(2000) + "]".repeat(2000))],
    ["white space", ' {\n"type" : "ai" ,\t"data" : {"content":"hi"} }'],
    ["5 MB", foreignRow("x".repeat(5_000_000))],
  ])("is known by a row with %s", async (_what, row) => {
    await redis.lpush("s", row);
    expect(rawOf((await readWhole(at, "s")).session)).toEqual([row]);
  });

  test("that is no UTF-8 holds its cursors and its run, and is copied byte for byte", async () => {
    const { store } = at;
    await redis.lpush("s", foreignRow("first"), noUtf8("\xe2\x82"), noUtf8("\xed\xa0\x80"));
    const turn = await started(at, "s", "question");
    await redis.lpush("s", noUtf8("caf\xe9"));
    const { session } = await readWhole(at, "s");
    for (const { position, mark } of rowsOf(session)) {
      const place = { generation: session.generation, position, mark };
      expect(await store.touch(owner, "s", place)).toBe(true);
      const page = { first: 10, after: encodeCursor("s", place), last: null, before: null };
      const behind = must(must(await store.read(owner, "s", { pages: [page] })).session.pages[0]);
      expect(behind).toMatchObject({ rows: rowsOf(session).slice(position + 1) });
    }
    await store.finish(turn, completed(turn, "answer"), "i:1");
    const after = await readWhole(at, "s", turn.runId);
    expect(after.run).toMatchObject({ status: "COMPLETED" });
    expect(after.session).toMatchObject({ generation: session.generation, messageCount: 6 });

    await store.fork(owner, after.session, null, "copy", null, newOp());
    expect(await latin1("copy")).toEqual(await latin1("s"));
    expect((await readWhole(at, "copy")).session.messageCount).toBe(6);
  });

  test("may hold rows that are no messages between its ends, and once it has a record anywhere", async () => {
    const rows = [foreignRow("first"), "garbage", "x".repeat(5_000_000), "", foreignRow("last")];
    await redis.lpush("s", ...rows);
    expect(rawOf((await readWhole(at, "s")).session)).toEqual(rows);
    await redis.lpush("s", "{not JSON");
    const { session } = await readWhole(at, "s");
    expect(rawOf(session)).toEqual([...rows, "{not JSON"]);
    const last = { generation: session.generation, position: 4, mark: must(rowsOf(session)[4]).mark };
    const page = { first: 1, after: encodeCursor("s", last), last: null, before: null };
    const next = must(await at.store.read(owner, "s", { pages: [page] })).session.pages[0];
    expect(next).toMatchObject({
      rows: [{ position: 5, raw: "{not JSON" }],
      hasNextPage: false,
      hasPreviousPage: true,
    });
    const turn = await started(at, "s", "question");
    expect(turn.rows).toEqual([...rows, "{not JSON"]);
    await at.store.finish(turn, completed(turn, "answer"), "i:1");
    const regenerated = await started(at, "s", null);
    expect(regenerated.inputRow).toContain("question");
  });

  test("is adopted by the first touch, or all at once by a search", async () => {
    await redis.lpush("a", foreignRow("1"));
    await redis.lpush("b}{", foreignRow("2"));
    await redis.lpush("jobs", "job");
    await redis.lpush("parley:{a}:session:x", foreignRow("3"));
    await redis.set("text", "text");
    await readWhole(at, "a");
    expect(await adopt()).toEqual({
      scanned: expect.any(Number) as number,
      adopted: 1,
      skipped: expect.any(Number) as number,
    });
    expect([...(await listed())].sort()).toEqual(["a", "b}{"]);
    expect(await adopt()).toMatchObject({ adopted: 0 });
    expect(await redis.type("parley:{a}:session:x")).toBe("list");
  });
});

describe("a loss is told", () => {
  const filled = async (): Promise<{ readonly session: Session; readonly cursors: readonly string[] }> => {
    await redis.lpush("s", ...["1", "2", "3", "4"].map((text) => foreignRow(text)));
    const { session } = await readWhole(at, "s");
    const { generation } = session;
    const places = rowsOf(session).map(({ position, mark }) => ({ generation, position, mark }));
    const start = { generation, position: -1, mark: "" };
    return { session, cursors: [start, ...places].map((place) => encodeCursor("s", place)) };
  };
  const codesOf = async (cursors: readonly string[]): Promise<readonly unknown[]> => {
    const pages = cursors.map((after) => ({ first: 1, after, last: null, before: null }));
    const { session } = must(await at.store.read(owner, "s", { pages }));
    return session.pages.map((page) => (page instanceof Error ? (page as { code?: unknown }).code : "ok")); // a ParleyError
  };
  const refill = (...texts: string[]) => redis.lpush("s", ...texts.map((text) => foreignRow(text)));

  const losses: readonly (readonly [string, () => Promise<unknown>, readonly string[]])[] = [
    ["DEL", () => redis.del("s"), []],
    ["LTRIM of the newest", () => redis.ltrim("s", 1, -1), ["1", "2", "3"]],
    ["LTRIM of the oldest", () => redis.ltrim("s", 0, 2), ["2", "3", "4"]],
    ["RPOP", () => redis.rpop("s"), ["2", "3", "4"]],
    ["LPOP", () => redis.lpop("s"), ["1", "2", "3"]],
    ["DEL and other rows", () => redis.del("s").then(() => refill("a", "b", "c", "d", "e")), ["a", "b", "c", "d", "e"]],
    [
      "DEL and a beginning that is the same",
      () => redis.del("s").then(() => refill("1", "2", "x", "y", "z")),
      ["1", "2", "x", "y", "z"],
    ],
    ["LPOP and another row", () => redis.lpop("s").then(() => refill("other")), ["1", "2", "3", "other"]],
    ["another oldest row", () => redis.rpop("s").then(() => redis.rpush("s", foreignRow("0"))), ["0", "2", "3", "4"]],
    ["RPUSH", () => redis.rpush("s", foreignRow("0")), ["0", "1", "2", "3", "4"]],
    ["LINSERT", () => redis.linsert("s", "BEFORE", foreignRow("2"), foreignRow("new")), ["1", "2", "new", "3", "4"]],
    ["RENAME over it", () => redis.lpush("t", foreignRow("t")).then(() => redis.rename("t", "s")), ["t"]],
  ];
  test.each(losses)("%s", async (_what, lose, left) => {
    const { session, cursors } = await filled();
    await lose();
    expect(await codesOf(cursors)).toEqual(cursors.map(() => "CURSOR_EXPIRED"));
    const after = (await readWhole(at, "s")).session;
    expect(after.generation).toBeGreaterThan(session.generation);
    expect(textsOf(after)).toEqual(left);
    // Once: what is left is the history from now on.
    expect((await readWhole(at, "s")).session.generation).toBe(after.generation);
  });

  test("appended rows are no loss, nor is a history refilled with the same rows", async () => {
    const { session, cursors } = await filled();
    await refill("5");
    expect(await codesOf(cursors)).toEqual(cursors.map(() => "ok"));
    await redis.del("s");
    await refill("1", "2", "3", "4", "5");
    expect(await codesOf(cursors)).toEqual(cursors.map(() => "ok"));
    expect((await readWhole(at, "s")).session.generation).toBe(session.generation);
  });

  test("a row that was changed in its place no longer holds a cursor", async () => {
    const { cursors } = await filled();
    await redis.lset("s", 1, foreignRow("changed"));
    expect(await codesOf(cursors)).toEqual(["ok", "ok", "ok", "CURSOR_EXPIRED", "ok"]);
  });

  test.each([
    ["its text so far", "half", () => readWhole(at, "s")],
    ["the whole text where it was complete", "half, and whole", () => Promise.resolve()],
  ])("the run whose question is gone ends with it, %s kept", async (_what, text, meet) => {
    const turn = await started(at, "s", "question");
    await at.store.progress(turn, 0, "half");
    await redis.del("s");
    await meet();
    await at.store.finish(turn, completed(turn, "half, and whole"), "i:1");
    const { session, run } = await readWhole(at, "s", turn.runId);
    expect(session).toMatchObject({ messageCount: 0, activeRun: null });
    expect(run).toMatchObject({ status: "FAILED", error: { code: "RUN_LOST" }, text });
    expect(await at.store.progress(turn, 4, "more")).toEqual({ kind: "closed" });
  });

  test("rows appended after a loss, or in place of a reply that was read, count as unread", async () => {
    const { store } = at;
    const turn = await started(at, "s", "question");
    await store.finish(turn, completed(turn, "answer"), "i:1");
    await store.markRead(owner, "s", null);
    const again = await started(at, "s", null);
    await store.finish(again, completed(again, "other answer"), "i:2");
    expect((await readWhole(at, "s")).session).toMatchObject({ messageCount: 2, readCount: 1 });
    await store.markRead(owner, "s", null);
    await redis.del("s");
    await store.append(owner, "s", [newMessage("s", "ASSISTANT", "hi", null)], newOp());
    expect((await readWhole(at, "s")).session).toMatchObject({ messageCount: 1, readCount: 0 });
  });

  test("FLUSHALL leaves no session", async () => {
    const turn = await started(at, "s", "question");
    await redis.flushall();
    expect(await at.store.read(owner, "s", recordOnly)).toBeNull();
    await at.store.finish(turn, completed(turn, "answer"), "i:1");
    expect(await at.store.progress(turn, 0, "more")).toEqual({ kind: "closed" });
    expect(await redis.exists(...Object.values(keysByPart("s")))).toBe(0);
  });
});

function rowsOf(session: Session) {
  const [page] = session.pages;
  if (page === undefined || page instanceof Error) throw page ?? new Error("No page");
  return page.rows;
}

function rawOf(session: Session): readonly string[] {
  return rowsOf(session).map((row) => row.raw);
}
