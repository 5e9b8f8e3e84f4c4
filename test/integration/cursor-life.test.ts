import { Redis } from "ioredis";
import { afterAll, afterEach, beforeAll, expect, test } from "vitest";
import { encodeCursor, type Cursor } from "../../src/conversation/message/cursor.ts";
import { markOf, parseLocalId, type LocalId } from "../../src/conversation/message/ids.ts";
import { listOf, openBackend, range, textsOf, type TestBackend } from "../support/store/feeds.ts";
import { startRedis, type TestRedis } from "../support/redis/redis-server.ts";
import {
  completed,
  foreignRow,
  keysByPart,
  must,
  newMessage,
  newOp,
  newTurn,
  openStore,
  owner,
  type TestStore,
} from "../support/store/store.ts";

// What the rule for cursors makes of single cases; test/property/cursors.test.ts has the random ones.

let server: TestRedis;
let redis: Redis;
let at: TestStore;
let one: TestBackend;
let two: TestBackend;

beforeAll(async () => {
  server = await startRedis({ appendonly: false });
  redis = new Redis(server.port, "127.0.0.1");
  at = openStore(server.port);
  one = openBackend(server.port);
  two = openBackend(server.port);
});
afterEach(() => {
  one.abortAll();
  two.abortAll();
});
afterAll(async () => {
  await Promise.all([one.backend.close(), two.backend.close()]);
  at.close();
  redis.disconnect();
  await server.stop();
});

async function cursorAt(id: string, position: number): Promise<Cursor> {
  const reading = must(await at.store.read(owner, id, { pages: [], ranges: [[position, position]] }));
  return { generation: reading.session.generation, position, mark: must(reading.ranges[0]?.[0]).mark };
}

async function holds(id: string, cursor: Cursor): Promise<boolean> {
  const page = { first: 1, after: encodeCursor(id, cursor), last: null, before: null };
  return !(must(await at.store.read(owner, id, { pages: [page] })).session.pages[0] instanceof Error);
}

async function edit(id: string, position: number, text = "edited"): Promise<void> {
  const replaceFrom = await cursorAt(id, position);
  const turn = await at.store.begin(owner, id, newTurn(id, text, { replaceFrom }));
  if (turn.kind !== "started") throw new Error(turn.kind);
  await at.store.finish(turn, completed(turn, `answer to ${text}`), newOp().id);
}

const recordOf = (id: string) => redis.hgetall(must(keysByPart(id)["session"]));
const cutsOf = async (id: string) => {
  const cuts = (await recordOf(id))["cuts"] ?? "";
  const marked = (await redis.hkeys(must(keysByPart(id)["runs"]))).filter((name) => name.startsWith("!"));
  return [cuts === "" ? 0 : cuts.split(",").length, marked.length];
};

test("a cut cursor of an old tab resets no other client and ends no run", async () => {
  const id = "old tab";
  await one.append(id, ...range(0, 6));
  const cut = await cursorAt(id, 5);
  await edit(id, 4);
  const { generation } = must(await at.store.read(owner, id, { pages: [] })).session;
  const listener = await one.open(id);
  const going = await at.store.begin(owner, id, newTurn(id, "question"));
  await at.store.touch(owner, id, cut);
  const tab = await two.open(id, encodeCursor(id, cut));
  await tab.until("the question", () => textsOf(tab).at(-1) === "question");
  expect(tab.ofKind("reset").map(({ kept }) => kept)).toEqual([4]);
  expect(textsOf(tab)).toEqual(["edited", "answer to edited", "question"]);
  await listener.untilCount("message", 1);
  expect(listener.ofKind("reset")).toEqual([]);
  const { session } = must(await at.store.read(owner, id, { pages: [] }));
  expect([session.generation, session.activeRun?.status]).toEqual([generation, "RUNNING"]);
  if (going.kind !== "started") throw new Error(going.kind);
  await at.store.finish(going, completed(going, "answer"), newOp().id);
});

test("of over 32 rewinds the oldest become one at their lowest position; clear forgets them", async () => {
  const id = "many cuts";
  await one.append(id, ...range(0, 12));
  const [first, low, high] = await Promise.all([cursorAt(id, 0), cursorAt(id, 2), cursorAt(id, 8)]);
  await edit(id, 6);
  const between = await cursorAt(id, 4);
  await edit(id, 5);
  for (let i = 0; i < 40; i++) await edit(id, 6 - (i % 2));
  expect(await cutsOf(id)).toEqual([32, 32]);
  expect(await Promise.all([first, low, between, high].map((cursor) => holds(id, cursor)))).toEqual([
    true,
    true,
    true,
    false,
  ]);
  const reader = await one.open(id, encodeCursor(id, high));
  await reader.untilCount("reset", 1);
  // What was cut so long ago is no longer known for sure.
  expect(reader.ofKind("reset").map(({ kept }) => kept)).toEqual([0]);
  await at.store.clear(owner, id);
  expect(await cutsOf(id)).toEqual([0, 0]);
  expect((await recordOf(id))["era"]).toBeUndefined();
  expect(await holds(id, first)).toBe(false);
});

test("a record that knows nothing of the rule goes on: as it is, its generation is where cursors begin to live", async () => {
  const id = "old record";
  await one.append(id, ...range(0, 4));
  const session = must(keysByPart(id)["session"]);
  const first = await cursorAt(id, 0);
  expect(await recordOf(id)).not.toHaveProperty("era");
  await edit(id, 2);
  expect(await holds(id, first)).toBe(true);
  // A gateway of before the rule rewinds: another generation, and nothing said of why.
  await redis.hincrby(session, "gen", 1);
  expect(await holds(id, first)).toBe(false);
  const next = await cursorAt(id, 1);
  await edit(id, 2);
  expect([await holds(id, first), await holds(id, next)]).toEqual([false, true]);
});

test("a subscriber whose rows a failover took does not get them as kept, although its cursor was cut", async () => {
  const id = "lost and cut";
  await one.append(id, ...range(0, 4));
  const keys = Object.values(keysByPart(id));
  const replica = await Promise.all(keys.map((key) => redis.dumpBuffer(key)));
  await one.append(id, ...range(4, 8, "lost"));
  const lost = await cursorAt(id, 7);
  const held = await cursorAt(id, 3);
  const back = redis.multi();
  for (const [i, key] of keys.entries()) {
    const value = replica[i] ?? null;
    if (value === null) back.del(key);
    else back.restore(key, 0, value, "REPLACE");
  }
  await back.exec();
  await one.append(id, ...range(4, 8, "other"));
  await edit(id, 6);
  const reader = await one.open(id, encodeCursor(id, lost));
  await reader.untilCount("reset", 1);
  expect(reader.ofKind("reset").map(({ kept }) => kept)).toEqual([0]);
  const other = await one.open(id, encodeCursor(id, held));
  await other.untilCount("message", 4);
  expect([other.ofKind("reset"), textsOf(other)]).toEqual([[], ["other4", "other5", "edited", "answer to edited"]]);
});

test("a summary of rows that were not cut stays in use; a summary of cut rows is neither used nor shown", async () => {
  const id = "summed";
  await one.append(id, ...range(0, 6));
  await at.store.saveSummary(id, await cursorAt(id, 3), "up to 3");
  const summary = async () => must(await at.store.read(owner, id, { pages: [] })).session.summary;
  await edit(id, 4);
  expect(await summary()).toBe("up to 3");
  await edit(id, 3);
  expect(await summary()).toBeNull();
});

test("a cursor behind the last row that retention trimmed holds for clients that had that row", async () => {
  const id = "trimmed";
  const trims = openStore(server.port, { maxMessages: 3 });
  const add = async (text: string) => {
    await trims.store.append(owner, id, [newMessage(id, "USER", text, null)], newOp());
  };
  for (const text of range(0, 3)) await add(text);
  const cursor = await cursorAt(id, 0);
  await add("m3");
  expect([await holds(id, cursor), await holds(id, { ...cursor, mark: markOf("another") })]).toEqual([true, false]);
  await add("m4");
  expect(await holds(id, cursor)).toBe(false);
  trims.close();
});

test("a subscriber that was away during an edit of the first message gets the promised order when the feed catches up", async () => {
  const id = "first edited";
  await one.append(id, ...range(0, 2));
  const reader = await one.open(id, "");
  await reader.untilCount("message", 2);
  const turn = newTurn(id, "anew", { replaceFrom: await cursorAt(id, 0) });
  // What is published while the gateway's connection is cut, nobody hears.
  await Promise.all([redis.call("CLIENT", "KILL", "TYPE", "pubsub"), at.store.begin(owner, id, turn)]);
  await reader.until("the message", () => listOf(reader).length === 1);
  const kinds = reader.events.slice(3).map((event) => (event.kind === "run" ? event.run.status : event.kind));
  expect(kinds).toEqual(["reset", "RUNNING", "message"]);
});

test("a message is found by its id in the one script that pages, begins or marks, and among few bytes", async () => {
  const id = "by id";
  const add = (text: string, messageId: string | null) =>
    at.store.append(
      owner,
      id,
      [newMessage(id, "USER", text, messageId === null ? null : { id: `m:${messageId}`, fingerprint: text })],
      newOp(),
    );
  await add("chosen", "mine");
  await add("made", null);
  await redis.lpush(id, foreignRow("foreign"));
  const rows = must(await at.store.read(owner, id, { pages: [], ranges: [[0, 2]] })).ranges[0] ?? [];
  const made = (JSON.parse(must(rows[1]).raw) as { data: { id: string } }).data.id; // as the gateway wrote it
  const locals = ["mine", `~1~${made}`, `~@2~${must(rows[2]).mark}`];
  const calls: string[] = [];
  at.scripts.beforeRun = (name) => calls.push(name);
  const ids = locals.map((local): LocalId => must(parseLocalId(local)));
  for (const [i, anchor] of ids.entries()) {
    const global = btoa(`Message:${id}:${locals[i] ?? ""}`);
    const pages = [{ first: 1, after: null, last: null, before: global }];
    const reading = must(await at.store.read(owner, id, { pages, at: anchor }));
    expect(reading.at).toMatchObject({ position: i, row: { raw: must(rows[i]).raw } });
    const [page] = reading.session.pages;
    if (!page || page instanceof Error) throw page ?? new Error("No page");
    expect(page.rows.map(({ position }) => position)).toEqual(i === 0 ? [] : [0]);
    await at.store.markRead(owner, id, anchor);
  }
  const begun = await at.store.begin(owner, id, { ...newTurn(id, "anew"), replaceFrom: must(ids[1]) });
  expect(begun).toMatchObject({ kind: "started", state: { userPosition: 1 } });
  expect(calls).toEqual([...ids.flatMap(() => ["view", "mark-read"]), "begin"]);
  at.scripts.beforeRun = () => undefined;

  // Its op is forgotten: looked for among the newest rows, as long as these are few bytes.
  await redis.del(must(keysByPart(id)["ops"]));
  const found = async () => must(await at.store.read(owner, id, { pages: [], at: must(ids[0]) })).at;
  await redis.lpush(id, ...range(0, 3).map((text) => foreignRow(text + "x".repeat(1_000_000))));
  expect(await found()).toMatchObject({ position: 0 });
  await redis.lpush(id, ...range(0, 60).map((text) => foreignRow(text + "x".repeat(100_000))));
  expect(await found()).toMatchObject({ code: "CURSOR_EXPIRED", message: expect.stringContaining("cursor") as string });
});
