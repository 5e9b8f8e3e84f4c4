import { readFileSync } from "node:fs";
import { Redis } from "ioredis";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { anonymous } from "../../src/conversation/session.ts";
import { createGateway, type Gateway } from "../../src/gateway.ts";
import { linesOf } from "../../src/redis/admin/restore.ts";
import { sessionKeys, sharedKeys } from "../../src/redis/store/keys.ts";
import { waitUntil } from "../support/redis/redis-command.ts";
import { startRedis, type TestRedis } from "../support/redis/redis-server.ts";
import { foreignRow, newMessage, newOp, newTurn, openStore, owner, type TestStore } from "../support/store/store.ts";

const everything = { pages: [] };

/** As every writer of LangChain's leaves them. */
function goldenRows(): readonly string[] {
  return ["js", "python"].flatMap((language) =>
    readFileSync(new URL(`../golden/langchain-${language}.jsonl`, import.meta.url), "utf8")
      .trimEnd()
      .split("\n"),
  );
}

let from: TestRedis;
let to: TestRedis;
let source: Gateway;
let target: Gateway;
let here: Redis;
let there: Redis;
let at: TestStore;

beforeAll(async () => {
  [from, to] = await Promise.all([startRedis({ appendonly: false }), startRedis({ appendonly: false })]);
  [source, target] = await Promise.all([
    createGateway({ redis: from.url, idle: true }),
    createGateway({ redis: to.url, idle: true }),
  ]);
  here = new Redis(from.url);
  there = new Redis(to.url);
  at = openStore(from.port);
});
beforeEach(() => Promise.all([here.flushall(), there.flushall()]));
afterAll(async () => {
  at.close();
  here.disconnect();
  there.disconnect();
  await Promise.all([source.close(), target.close()]);
  await Promise.all([from.stop(), to.stop()]);
});

async function archiveOf(options: Parameters<Gateway["exportSessions"]>[0] = {}): Promise<string> {
  let text = "";
  for await (const piece of source.exportSessions(options)) text += piece;
  return text;
}

/** Cut where a pipe may cut: anywhere. */
async function* pieces(text: string, size = 65_537): AsyncGenerator<Uint8Array> {
  const bytes = Buffer.from(text);
  for (let i = 0; i < bytes.byteLength; i += size) yield await Promise.resolve(bytes.subarray(i, i + size));
}

async function append(id: string, ...texts: string[]): Promise<void> {
  const messages = texts.map((text) => newMessage(id, "USER", text, null));
  await at.store.append(owner, id, messages, newOp());
}

describe("an archive", () => {
  test("brings every row back byte for byte, whoever wrote it and whatever it is", async () => {
    const strange: readonly (string | Buffer)[] = [
      ...goldenRows(),
      "no JSON at all",
      "",
      "{}",
      "null",
      '{"type":"human","data":{"content":"lines\u2028and\u2029\r\n ends, NUL \u0000 and \u{1f600}, \ufffd itself"}}',
      Buffer.from([0xff, 0xfe, 0x00, 0xc3, 0x28, 0x0a]),
      Buffer.concat([
        Buffer.from('{"type":"human","data":{"content":"'),
        Buffer.from([0xe2, 0x82]),
        Buffer.from('"}}'),
      ]),
      foreignRow("x".repeat(5 * 1024 * 1024)),
    ];
    await append("strange", "first");
    for (const row of strange) await here.lpush("strange", row);
    await append("strange", "last");
    await append("{tag}plain", "ä", "ö");

    const archive = await archiveOf();
    const result = await target.importSessions(pieces(archive));
    expect(result).toMatchObject({ restored: 2, known: 0, refused: 0, rows: strange.length + 4 });
    for (const key of ["strange", "{tag}plain"]) {
      const rows = await there.lrangeBuffer(key, 0, -1);
      expect(rows.map((row) => row.toString("latin1"))).toEqual(
        (await here.lrangeBuffer(key, 0, -1)).map((row) => row.toString("latin1")),
      );
    }
    // An export of what was imported is the same again.
    let again = "";
    for await (const piece of target.exportSessions()) again += piece;
    const sorted = (text: string) => text.split("\n").sort();
    expect(sorted(again)).toEqual(sorted(archive));
  });

  test("carries the record, and places: cursors that were given out before hold", async () => {
    const settings = { sessionId: "record", title: "Tïtle", instructions: "Be {brief}.", model: null, memory: null };
    const metadata = { a: [1, "\u2028"] };
    const input = { ...settings, ttlSeconds: 5000, metadata, idempotencyKey: null };
    const { conversations } = source;
    await conversations.createSession(anonymous, input, everything);
    await append("record", "one", "two", "three");
    const page = { first: 2, after: null, last: null, before: null };
    const before = await conversations.readSession(anonymous, "record", { pages: [page] });
    await conversations.markRead(anonymous, "record", null, everything);
    await target.importSessions(pieces(await archiveOf({ sessionId: "record" })));

    const after = await target.conversations.readSession(anonymous, "record", { pages: [] });
    const was = await conversations.readSession(anonymous, "record", everything);
    // Times go on, and so does the count of writes, which the state holds, too.
    expect({ ...after, sequence: 0, expiresAt: 0, state: "" }).toEqual({
      ...was,
      sequence: 0,
      expiresAt: 0,
      state: "",
    });
    expect(await there.pttl("record")).toBeGreaterThan(4_900_000);
    expect(after).toMatchObject({ title: "Tïtle", metadata, readCount: 3, generation: before?.generation });
    const listed = await target.conversations.listSessions(
      anonymous,
      { first: 5, after: null, last: null, before: null },
      { titleContains: "tïtle", archived: null, metadata, updatedAfter: null },
      everything,
    );
    expect(listed.items.map(({ session }) => session.sessionId)).toEqual(["record"]);
  });

  test("leaves sessions that exist, replaces them with --replace, and changes nothing the second time", async () => {
    await append("kept", "archived");
    await append("new", "archived too");
    const archive = await archiveOf();
    const other = openStore(to.port);
    try {
      await other.store.append(owner, "kept", [newMessage("kept", "USER", "in the way", null)], newOp());
      await other.store.append("somebody", "theirs", [newMessage("theirs", "USER", "not yours", null)], newOp());
      const theirs = archive.replaceAll('"sessionId":"kept"', '"sessionId":"theirs"');

      expect(await target.importSessions(pieces(archive))).toMatchObject({
        restored: 1,
        refused: 1,
        inTheWay: ["kept"],
      });
      expect(await there.llen("kept")).toBe(1);
      expect(await target.importSessions(pieces(archive))).toMatchObject({ restored: 0, known: 1, refused: 1 });

      // What goes on where it was imported is not taken back by importing again.
      await other.store.append(owner, "new", [newMessage("new", "USER", "since then", null)], newOp());
      expect(await target.importSessions(pieces(archive))).toMatchObject({ restored: 0, known: 1, refused: 1 });
      expect(await there.llen("new")).toBe(2);

      const turn = await other.store.begin(owner, "kept", newTurn("kept", "going"));
      const generation = Number(await there.hget(sessionKeys("kept").session, "gen"));
      expect(await target.importSessions(pieces(archive), { replace: true })).toMatchObject({
        restored: 2,
        refused: 0,
      });
      expect(await there.lrange("kept", 0, -1)).toEqual(await here.lrange("kept", 0, -1));
      // Readers of what was there are told.
      const reading = await other.store.read(owner, "kept", everything);
      expect(reading?.session).toMatchObject({ activeRun: null, queuedRuns: [], messageCount: 1 });
      expect(reading?.session.generation).toBeGreaterThan(generation);
      expect(turn.kind).toBe("started");

      // Nobody's sessions are replaced by another's.
      expect(await target.importSessions(pieces(theirs), { replace: true })).toMatchObject({ inTheWay: ["theirs"] });
      expect(await there.hget(sessionKeys("theirs").session, "owner")).toBe("somebody");
      expect((await there.keys("*staging*")).length).toBe(0);
    } finally {
      other.close();
    }
  });

  test("of the same data replaces it without any cursor's end", async () => {
    await append("same", "one", "two", "three");
    const archive = await archiveOf();
    expect(await target.importSessions(pieces(archive))).toMatchObject({ restored: 1 });
    for (const [gateway, text] of [
      [source, "where it came from"],
      [target, "where it was put"],
    ] as const) {
      const { conversations } = gateway;
      const page = { pages: [{ first: 2, after: null, last: null, before: null }] };
      const before = await conversations.readSession(anonymous, "same", page);
      await conversations.updateSession(
        anonymous,
        { sessionId: "same", title: text, instructions: undefined, model: undefined, memory: undefined },
        everything,
      );
      expect(await gateway.importSessions(pieces(archive), { replace: true })).toMatchObject({ restored: 1 });
      const after = await conversations.readSession(anonymous, "same", page);
      expect(after).toMatchObject({
        generation: before?.generation,
        end: 3,
        title: null,
        readCount: before?.readCount,
      });
      expect(after?.pages).toEqual(before?.pages);
    }
    // Other data is another history.
    const { generation = 0 } = (await target.conversations.readSession(anonymous, "same", everything)) ?? {};
    await there.lset("same", 1, foreignRow("changed"));
    expect(await target.importSessions(pieces(archive), { replace: true })).toMatchObject({ restored: 1 });
    const changed = await target.conversations.readSession(anonymous, "same", everything);
    expect(changed?.generation).toBeGreaterThan(generation);
    expect(await there.lrange("same", 0, -1)).toEqual(await here.lrange("same", 0, -1));
    expect((await there.keys("*staging*")).length).toBe(0);
  });

  test("that is cut off or damaged is refused from there on, and leaves no half session", async () => {
    await append("whole", "one", "two");
    const archive = await archiveOf();
    const lines = archive.trimEnd().split("\n");
    const broken: readonly (readonly [name: string, text: string])[] = [
      ["its end is missing", lines.slice(0, -1).join("\n")],
      ["a row is missing", lines.filter((line) => !line.includes("two")).join("\n")],
      ["a row has changed", archive.replace("one", "eno")],
      ["its session is cut", lines.slice(0, 3).join("\n")],
      ["rows without a session", lines.filter((line) => !line.startsWith('{"session')).join("\n")],
      ["another file", "id,text\n1,hello\n"],
      ["of a later version", archive.replace('"version":1', '"version":2')],
      ["a foreign key", archive.replace('"sessionId":"whole"', '"sessionId":"parley:due"')],
      ["the gateway's own", archive.replace(/"owner":"[^"]*"/, '"owner":"*"')],
      ["a field that is the gateway's own", archive.replace('"record":{', '"record":{"active":"x",')],
    ];
    for (const [name, text] of broken) {
      await there.flushall();
      await expect(target.importSessions(pieces(text, 7)), name).rejects.toMatchObject({ name: "ArchiveError" });
      const left = await there.keys("*");
      if (name !== "its end is missing") expect(left, name).toEqual([]);
    }
  });

  test("holds a session as it was at one time, though it is rewound while it is read", async () => {
    const many = Array.from({ length: 600 }, (_, i) => `m${i} ${"x".repeat(20_000)}`);
    await append("moving", ...many.slice(0, 300));
    await append("moving", ...many.slice(300));
    let text = "";
    let rows = 0;
    for await (const piece of source.exportSessions({ sessionId: "moving" })) {
      text += piece;
      if (piece.startsWith('{"row"')) rows++;
      if (rows === 20) {
        rows++;
        await source.conversations.clearHistory(anonymous, "moving", everything);
        await append("moving", "after the rewind");
      }
      // What is only appended does not disturb it.
      if (piece.includes("after the rewind")) await append("moving", "too late");
    }
    expect(text).toContain('{"void":true}');
    expect(await target.importSessions(pieces(text))).toMatchObject({ restored: 1 });
    const got = await there.lrange("moving", 0, -1);
    expect(got).toEqual((await here.lrange("moving", 0, -1)).slice(-1));
    expect(got[0]).toContain("after the rewind");
  });

  test("of one owner, or of a session that is not there", async () => {
    await append("mine", "a");
    await at.store.append("bob", "his", [newMessage("his", "USER", "b", null)], newOp());
    expect(await archiveOf({ owner: "bob" })).not.toContain("mine");
    await target.importSessions(pieces(await archiveOf({ owner: "bob" })), { owner: "carol" });
    expect(await there.hget(sessionKeys("his").session, "owner")).toBe("carol");
    await expect(archiveOf({ sessionId: "nobody's" })).rejects.toMatchObject({ code: "NOT_FOUND" });
    await expect(archiveOf({ owner: "bob", sessionId: "mine" })).rejects.toMatchObject({ code: "NOT_FOUND" });
  });

  test("of a history whose time foreign code set: it goes when it would have gone", async () => {
    await append("timed", "a");
    await here.pexpireat("timed", Date.now() + 3_600_000);
    const archive = await archiveOf();
    await target.importSessions(pieces(archive));
    expect(await there.pexpiretime("timed")).toBe(await here.pexpiretime("timed"));
    await there.flushall();
    const past = archive.replace(/"expiresAt":\d+/, '"expiresAt":1000');
    expect(await target.importSessions(pieces(past))).toMatchObject({ restored: 0, expired: 1 });
    expect(await there.keys("*")).toEqual([]);
  });

  test("of a session that retention has trimmed keeps its positions", async () => {
    const trimming = openStore(from.port, { maxMessages: 3 });
    try {
      for (let i = 0; i < 10; i++) {
        await trimming.store.append(owner, "trimmed", [newMessage("trimmed", "USER", `t${i}`, null)], newOp());
      }
    } finally {
      trimming.close();
    }
    await target.importSessions(pieces(await archiveOf()));
    const session = await target.conversations.readSession(anonymous, "trimmed", everything);
    expect(session).toMatchObject({ base: 7, end: 10, messageCount: 3 });
  });
});

test("lines end at line feeds alone, wherever the pieces are cut", async () => {
  const text = `{"a":"\u2028 \u2029 \r é"}\n\n{"b":1}\n{"c":"€"}`;
  for (const size of [1, 2, 3, 1000]) {
    const lines: string[] = [];
    for await (const line of linesOf(pieces(text, size))) lines.push(line);
    expect(lines).toEqual([`{"a":"\u2028 \u2029 \r é"}`, '{"b":1}', '{"c":"€"}']);
  }
});

test("deleting an owner takes all that is the owner's, listed or not, and nothing else", async () => {
  for (let i = 0; i < 30; i++) {
    await at.store.append("bob", `b${i}`, [newMessage(`b${i}`, "USER", "x", null)], newOp());
    await at.store.append("eve", `e${i}`, [newMessage(`e${i}`, "USER", "x", null)], newOp());
  }
  await at.store.begin("bob", "b1", newTurn("b1", "going"));
  // Written beside the scripts, so one may be missing, and one may be left of what is gone.
  await here.zrem(sharedKeys("").sessions("bob"), "b2");
  await here.zadd(sharedKeys("").sessions("bob"), 1, "long gone");
  const told: number[] = [];
  expect(await source.deleteOwner("bob", { onProgress: (deleted) => told.push(deleted) })).toBe(30);
  expect(told.at(-1)).toBe(30);
  expect(await here.exists(...Array.from({ length: 30 }, (_, i) => `b${i}`))).toBe(0);
  expect(await here.exists(...Array.from({ length: 30 }, (_, i) => `e${i}`))).toBe(30);
  await waitUntil("the list is empty", async () => (await here.zcard(sharedKeys("").sessions("bob"))) === 0);
  expect((await here.keys("parley:*:session:b*")).concat(await here.keys("parley:*:runs:b*"))).toEqual([]);
  expect(await source.deleteOwner("bob")).toBe(0);
});
