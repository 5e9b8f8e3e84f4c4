import type { Redis } from "ioredis";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { encodeCursor } from "../../src/conversation/message/cursor.ts";
import { listSessions } from "../../src/conversation/conversations/listing.ts";
import type { StartedTurn } from "../../src/conversation/ports/store.ts";
import { sessionKeys } from "../../src/redis/store/keys.ts";
import { startGateway } from "../support/gateway/gateway.ts";
import { execute, refusal, request } from "../support/gateway/graphql-client.ts";
import { waitUntil } from "../support/redis/redis-command.ts";
import { startRedis, type TestRedis } from "../support/redis/redis-server.ts";
import { readWhole, started, textsOf } from "../support/store/script-cases.ts";
import {
  completed,
  contents,
  foreignRow,
  must,
  newMessage,
  newOp,
  newRecord,
  newTurn,
  openStore,
  owner,
  type TestStore,
} from "../support/store/store.ts";

// LangChain's histories set their own expiry on the list, behind each write. The record must live as long, and go with it.

/** Long enough to look at what is there before it goes, also on a busy machine. */
const shortMs = 1000;
const longMs = 1_000_000;
const { session: record, all: keys } = sessionKeys("s");
const ops = keys.slice(5, 7);

let server: TestRedis;
let at: TestStore;
let redis: Redis;
beforeAll(async () => {
  server = await startRedis({ appendonly: false });
  at = openStore(server.port);
  ({ redis } = at);
});
beforeEach(() => redis.flushdb());
afterAll(async () => {
  at.close();
  await server.stop();
});

async function listed(): Promise<readonly string[]> {
  const all = { titleContains: null, archived: null, metadata: null, updatedAfter: null };
  const first = { first: 50, after: null, last: null, before: null };
  const page = await listSessions(at.store, owner, first, all, { pages: [] });
  return page.items.map(({ session }) => session.sessionId);
}

const gone = (key: string) => waitUntil(`${key} is gone`, async () => (await redis.exists(key)) === 0);
const fill = (...texts: string[]) => redis.lpush("s", ...texts.map((text) => foreignRow(text)));
/** Of the session's own keys those that are there, but for what it is remembered by. */
const left = async () => Object.keys(await contents(redis)).filter((key) => keys.includes(key) && !ops.includes(key));

async function running(): Promise<AsyncDisposable & { readonly url: string }> {
  const gateway = await startGateway({ redis: server.url });
  return { url: gateway.url, [Symbol.asyncDispose]: () => gateway.close() };
}

describe("a list that expires takes its session along", () => {
  const cases: readonly (readonly [string, () => Promise<unknown>])[] = [
    ["that foreign code made", () => fill("hi").then(() => redis.pexpire("s", shortMs))],
    [
      "whose expiry came after the gateway had met it",
      async () => {
        await fill("hi");
        await readWhole(at, "s");
        await redis.pexpire("s", shortMs);
        await readWhole(at, "s");
      },
    ],
    [
      "whose expiry slid",
      async () => {
        await fill("hi");
        await redis.pexpire("s", longMs);
        await at.store.update(owner, "s", { title: "T" });
        await redis.pexpire("s", shortMs);
        await readWhole(at, "s");
      },
    ],
    [
      "of a session with a longer life of its own",
      async () => {
        await at.store.create(owner, "s", newRecord("T", 1000), newOp());
        await at.store.append(owner, "s", [newMessage("s", "USER", "hi", null)], newOp());
        await redis.pexpire("s", shortMs);
        await readWhole(at, "s");
      },
    ],
    [
      "in which a reply is being made",
      async () => {
        await started(at, "s", "question");
        await at.store.begin(owner, "s", newTurn("s", "next"));
        await redis.pexpire("s", shortMs);
        await readWhole(at, "s");
      },
    ],
  ];

  test.each(cases)("%s", async (_what, prepare) => {
    await prepare();
    const { session } = await readWhole(at, "s");
    expect(session.expiresAt).toBe(await redis.pexpiretime("s"));
    expect(await listed()).toEqual(["s"]);
    const cursor = encodeCursor("s", { generation: session.generation, position: 0, mark: session.tipMark });
    await gone("s");
    expect(await at.store.read(owner, "s", { pages: [] })).toBeNull();
    expect(await listed()).toEqual([]);
    expect(await redis.zcard(`parley:sessions:${owner}`)).toBe(0);
    expect(await left()).toEqual([]);

    // What comes now is a new session.
    await fill("new");
    const page = { first: 5, after: cursor, last: null, before: null };
    const next = must(await at.store.read(owner, "s", { pages: [page] })).session;
    expect(next).toMatchObject({ title: null, messageCount: 1, activeRun: null, queuedRuns: [], expiresAt: null });
    expect(next.generation).toBeGreaterThan(session.generation);
    expect(next.pages[0]).toMatchObject({ code: "CURSOR_EXPIRED" });
  });

  test.each(["begin", "append", "create"])("also where %s is the first to meet it", async (what) => {
    await fill("old");
    await redis.pexpire("s", shortMs);
    await at.store.update(owner, "s", { title: "Old" });
    await gone("s");
    if (what === "begin") await started(at, "s", "new");
    else if (what === "append") await at.store.append(owner, "s", [newMessage("s", "USER", "new", null)], newOp());
    else await at.store.create(owner, "s", newRecord(null), newOp());
    const { session } = await readWhole(at, "s");
    expect(session.title).toBeNull();
    expect(textsOf(session)).toEqual(what === "create" ? [] : ["new"]);
  });

  test("and a reply that comes too late is dropped", async () => {
    const turn = await started(at, "s", "question");
    await redis.pexpire("s", shortMs);
    await readWhole(at, "s");
    await gone("s");
    await at.store.finish(turn, completed(turn, "answer"), "i:1");
    expect(await redis.exists("s")).toBe(0);
    expect(await at.store.read(owner, "s", { pages: [] })).toBeNull();
    expect(await at.store.read("*", "s", { pages: [] })).toBeNull();
  });

  test("without anybody asking, where a gateway runs", async () => {
    await fill("hi");
    await using gateway = await running();
    await redis.pexpire("s", 4000);
    const query = 'query { session(sessionId: "s") { messageCount } }';
    expect(await execute(gateway.url, query)).toEqual({ session: { messageCount: 1 } });
    expect(await redis.exists(record)).toBe(1);
    await gone("s");
    await gone(record);
    await waitUntil("it is not listed", async () => (await redis.zcard(`parley:sessions:${owner}`)) === 0);
    expect(await left()).toEqual([]);
  });
});

describe("the record lives at least as long as its list", () => {
  test("where foreign code lets the list live longer than the session's own TTL", async () => {
    await at.store.create(owner, "s", newRecord("T", 1), newOp());
    const turn = await started(at, "s", "question");
    await redis.pexpire("s", longMs);
    expect((await readWhole(at, "s")).session.expiresAt).toBe(await redis.pexpiretime("s"));
    const lists = await Promise.all(keys.slice(0, 3).map((key) => redis.pexpiretime(key)));
    expect(new Set(lists).size).toBe(1);
    await redis.persist("s");
    expect((await readWhole(at, "s")).session).toMatchObject({ expiresAt: null, title: "T" });
    expect([await redis.pttl(record), await redis.pttl(keys[2])]).toEqual([-1, -1]);
    // The next write lets it slide again, as the session's TTL says.
    await at.store.finish(turn, completed(turn, "answer"), "i:1");
    expect(await redis.pttl(record)).toBeGreaterThan(0);
    expect(await redis.pexpiretime(record)).toBe(await redis.pexpiretime("s"));
  });

  test.each([
    ["another TTL", () => redis.pexpire("s", longMs)],
    ["none", () => redis.persist("s")],
  ])("where foreign code gives the list %s and nobody reads it, as long as a gateway runs", async (_what, give) => {
    await using gateway = await running();
    await at.store.create(owner, "s", newRecord("T", 4), newOp());
    await at.store.append(owner, "s", [newMessage("s", "USER", "hi", null)], newOp());
    const end = await redis.pexpiretime(record);
    await give();
    await waitUntil("its end has come", async () => Number((await redis.time())[0]) * 1000 > end);
    expect(await redis.pexpiretime(record)).toBe(await redis.pexpiretime("s"));
    const query = 'query { session(sessionId: "s") { title messageCount } }';
    expect(await execute(gateway.url, query)).toEqual({ session: { title: "T", messageCount: 1 } });
  });

  test("where foreign code alone gives a TTL: it is kept by writes without one, and the record has none", async () => {
    await fill("hi");
    await redis.pexpire("s", longMs);
    const expiresAt = await redis.pexpiretime("s");
    const turn = await started(at, "s", "question");
    await at.store.finish(turn, completed(turn, "answer"), "i:1");
    const { session } = await readWhole(at, "s");
    expect([session.expiresAt, session.ttlSeconds]).toEqual([expiresAt, null]);
    expect(await redis.pttl(record)).toBe(-1);
  });

  test("and a list that is edited from its first message on keeps its TTL", async () => {
    await fill("hi");
    await redis.pexpire("s", longMs);
    const expiresAt = await redis.pexpiretime("s");
    const { session } = await readWhole(at, "s");
    const replaceFrom = { generation: session.generation, position: 0, mark: session.tipMark };
    expect(await at.store.begin(owner, "s", newTurn("s", "edited", { replaceFrom }))).toMatchObject({
      kind: "started",
    });
    expect(textsOf((await readWhole(at, "s")).session)).toEqual(["edited"]);
    expect(await redis.pexpiretime("s")).toBe(expiresAt);
  });

  test("the session's own TTL slides on every write over all its keys but what it is remembered by", async () => {
    await at.store.create(owner, "s", newRecord(null, 100), newOp());
    const turn = await started(at, "s", "question");
    await at.store.progress(turn, 0, "half");
    await at.store.begin(owner, "s", newTurn("s", "next"));
    for (const key of keys.slice(0, 5)) await redis.pexpire(key, 50_000);
    await at.store.update(owner, "s", { title: "T" });
    const lives = await Promise.all(keys.slice(0, 5).map((key) => redis.pttl(key)));
    expect(Math.min(...lives)).toBeGreaterThan(50_000);
    expect(new Set(await Promise.all(keys.slice(0, 5).map((key) => redis.pexpiretime(key)))).size).toBe(1);
    expect(Math.min(...(await Promise.all(ops.map((key) => redis.ttl(key)))))).toBeGreaterThan(24 * 3600);
    await at.store.update(owner, "s", { ttlSeconds: null });
    expect(await Promise.all(keys.slice(0, 5).map((key) => redis.pttl(key)))).toEqual([-1, -1, -1, -1, -1]);
  });
});

describe("while a reply is being made", () => {
  const lives = () => Promise.all(keys.slice(0, 5).map((key) => redis.pexpiretime(key)));

  test.each([
    ["text", (turn: StartedTurn) => at.store.progress(turn, 3, "far")],
    ["renewing its lease", (turn: StartedTurn) => at.store.renew(turn)],
  ])("%s lets the session's own TTL slide over all its keys", async (_what, write) => {
    await at.store.create(owner, "s", newRecord(null, 100), newOp());
    const turn = await started(at, "s", "question");
    await at.store.progress(turn, 0, "so ");
    await at.store.begin(owner, "s", newTurn("s", "next"));
    for (const key of keys.slice(0, 5)) await redis.pexpire(key, 50_000);
    await write(turn);
    const [list = 0, ...others] = await lives();
    expect(list).toBeGreaterThan(Date.now() + 90_000);
    expect(new Set(others)).toEqual(new Set([list]));
    expect((await at.store.read(owner, "s", { pages: [] }))?.session.expiresAt).toBe(list);
  });

  test("and neither brings back a session whose list has expired", async () => {
    await at.store.create(owner, "s", newRecord(null, 100), newOp());
    const turn = await started(at, "s", "question");
    await redis.pexpire("s", shortMs);
    await readWhole(at, "s");
    await gone("s");
    await at.store.progress(turn, 0, "half");
    await at.store.renew(turn);
    expect(await redis.pttl(keys[3] ?? "")).toBeGreaterThan(0);
    expect(await at.store.read(owner, "s", { pages: [] })).toBeNull();
    expect(await left()).toEqual([]);
  });

  test("its text lives as long as a list that foreign code lets live longer", async () => {
    await fill("hi");
    await redis.pexpire("s", shortMs);
    const turn = await started(at, "s", "question");
    await at.store.progress(turn, 0, "Hello ");
    const end = await redis.pexpiretime("s");
    await redis.pexpire("s", longMs);
    await waitUntil("its first end has come", async () => Number((await redis.time())[0]) * 1000 > end);
    await at.store.progress(turn, 6, "world");
    expect((await readWhole(at, "s")).session.activeRun?.text).toBe("Hello world");
  });
});

test("runs that were queued in a session whose list has expired do not delay the next session of that id", async () => {
  await fill("old");
  await started(at, "s", "question");
  await at.store.begin(owner, "s", newTurn("s", "waits"));
  await redis.pexpire("s", shortMs);
  await readWhole(at, "s");
  await gone("s");
  expect(await at.store.begin(owner, "s", newTurn("s", "new", { whenBusy: "REJECT" }))).toMatchObject({
    kind: "started",
  });
  expect((await readWhole(at, "s")).session.queuedRuns).toEqual([]);
});

describe("a session id that cannot be one", () => {
  const refused: readonly (readonly [string, string])[] = [
    ["of the gateway's own", "parley:due"],
    ["of a session's record", sessionKeys("s").session],
    ["with a line break", "a\nb"],
    ["with a null", "a\u0000b"],
    ["over 512 bytes", "é".repeat(257)],
  ];

  test.each(refused)("%s is refused to make, and unknown to ask for", async (_what, sessionId) => {
    await at.store.append(owner, "s", [newMessage("s", "USER", "hi", null)], newOp());
    await redis.lpush("parley:due:list", foreignRow("hi"));
    const gateway = await startGateway({ redis: server.url });
    try {
      const before = await contents(redis, /^parley:(?:due|expiries|sessions)/);
      const ask = "query ($id: String!) { session(sessionId: $id) { messageCount } }";
      expect(await execute(gateway.url, ask, { id: sessionId })).toEqual({ session: null });
      const input = { sessionId, text: "hi" };
      const send = "mutation ($input: SendMessageInput!) { sendMessage(input: $input) { run { id } } }";
      expect((await refusal(gateway.url, send, { input })).extensions).toMatchObject({
        code: "BAD_USER_INPUT",
        field: "input.sessionId",
      });
      const remove = "mutation ($input: DeleteSessionInput!) { deleteSession(input: $input) { sessionId } }";
      const { errors } = await request(gateway.url, remove, { input: { sessionId } });
      expect(errors?.[0]?.extensions?.code).toBe("NOT_FOUND");
      expect(await contents(redis, /^parley:(?:due|expiries|sessions)/)).toEqual(before);
    } finally {
      await gateway.close();
    }
  });

  test("is known by the whole key, prefix and all", async () => {
    const gateway = await startGateway({ redis: server.url, historyKeyPrefix: "par" });
    try {
      await redis.lpush("parley:x", foreignRow("hi"));
      const ask = 'query { session(sessionId: "ley:x") { messageCount } }';
      expect(await execute(gateway.url, ask)).toEqual({ session: null });
    } finally {
      await gateway.close();
    }
  });
});
