import fc from "fast-check";
import type { Cluster, Redis } from "ioredis";
import { afterAll, beforeAll, expect, test } from "vitest";
import { parseCursor, type Cursor } from "../../src/conversation/message/cursor.ts";
import { ParleyError } from "../../src/conversation/errors.ts";
import type { Client } from "../../src/redis/client/connection.ts";
import { decodeStoredMessage } from "../../src/conversation/message/stored-message.ts";
import { checkProperty } from "../support/store/property.ts";
import { command, type Command } from "../support/store/store-commands.ts";
import { World, type Kept } from "../support/store/store-world.ts";
import { startTopology } from "../support/redis/project-topology.ts";
import {
  completed,
  failed,
  foreignRow,
  must,
  newMessage,
  newRecord,
  newTurn,
  openStoreOn,
  owner,
  type TestStore,
} from "../support/store/store.ts";
import type { TestTopology } from "../support/redis/topologies.ts";

// The same random commands on Redis and on a plain model.

const runs = 100;
const maxQueued = 2;

let topology: TestTopology;
let redis: Redis | Cluster;
let stores: readonly TestStore<Client>[];
beforeAll(async () => {
  topology = await startTopology();
  redis = topology.raw();
  stores = [60_000, 60_000, -1000].map((leaseMs) =>
    openStoreOn(topology.source, { leaseMs, maxQueuedRuns: maxQueued }),
  );
});
afterAll(async () => {
  for (const store of stores) store.close();
  await topology.stop();
});

function realCursor(id: string, kept: Kept | null): Cursor | null {
  return kept ? parseCursor(id, kept.text) : null;
}

/** "ok", or the code of the refusal. */
async function codeOf(work: Promise<unknown>): Promise<string> {
  try {
    await work;
    return "ok";
  } catch (error) {
    if (error instanceof ParleyError) return error.code;
    throw error;
  }
}

async function carryOut(world: World, one: Command): Promise<void> {
  const { model } = world;
  switch (one.kind) {
    case "begin": {
      const id = world.id(one.session);
      const kept = world.cursorOf(id, one.cursor);
      const op = world.op(one.op, one.fingerprint);
      const text = world.text("u");
      const { whenBusy } = one;
      const turn = newTurn(id, one.regenerates ? null : text, { op, replaceFrom: realCursor(id, kept), whenBusy });
      const { runId } = turn;
      const modelTurn = { op, runId, text, regenerates: one.regenerates, replaceFrom: kept?.model ?? null, whenBusy };
      world.begun.push({ id, by: one.by, turn, model: modelTurn });
      await begin(world, world.begun.length - 1);
      break;
    }
    case "chat": {
      // A whole turn, so that there are replies to make anew, and perhaps the beginning of that.
      const plain = { kind: "begin", session: one.session, by: 0, op: null, fingerprint: "f", cursor: null } as const;
      await carryOut(world, { ...plain, regenerates: false, whenBusy: "QUEUE" });
      await carryOut(world, { kind: "finish", turn: 0, failed: 1 });
      if (!one.remake) break;
      await carryOut(world, { ...plain, regenerates: true, whenBusy: "QUEUE" });
      await carryOut(world, { kind: "progress", turn: 0, by: 0, stale: false });
      break;
    }
    case "again":
      if (world.begun.length > 0) await begin(world, world.begun.length - 1 - (one.turn % world.begun.length));
      break;
    case "progress": {
      const turn = world.turnOf(one.turn);
      if (!turn) break;
      const text = world.text('p"');
      const soFar = model.at(turn.historyKey).record?.active?.soFar.length ?? 0;
      const offset = one.stale ? soFar + 1 : soFar;
      const lapsed = one.by === 2;
      const expected = model.progress(turn.historyKey, turn.runId, turn.token, offset, text, lapsed);
      const answer = await must(stores[one.by]).store.progress(turn, offset, text);
      expect(answer.kind === "length" ? `length ${answer.length}` : answer.kind).toBe(expected);
      break;
    }
    case "finish": {
      const turn = world.turnOf(one.turn);
      if (!turn) break;
      const text = world.text("r");
      const usage = { inputTokens: 3, outputTokens: 6, totalTokens: 9 };
      const fails = one.failed === 0;
      model.finish(turn.historyKey, turn.runId, turn.token, text, fails, 3);
      await must(stores[0]).store.finish(turn, fails ? failed(text) : completed(turn, text, usage), world.text("i:"));
      break;
    }
    case "cancel": {
      const id = world.id(one.session);
      const runId = world.runOf(id, one.turn);
      if (runId === undefined) break;
      const expected = model.cancel(id, runId);
      expect(await codeOf(must(stores[0]).store.cancel(owner, id, runId))).toBe(expected);
      break;
    }
    case "attend": {
      const id = world.id(one.session);
      const at = must(stores[one.by]);
      const expected = model.attend(id, at.processId, one.takeAny, one.by === 2);
      const { turn } = await at.store.attend(id, one.takeAny);
      expect([turn?.runId, turn?.token]).toEqual([expected?.id, expected?.token]);
      if (turn) world.started.push(turn);
      break;
    }
    case "append": {
      const id = world.id(one.session);
      const op =
        one.op === null ? world.op(null, one.fingerprint) : { id: `k:${one.op}`, fingerprint: one.fingerprint };
      const messages = one.own.map((index) => ({
        row: { key: world.text("a"), kind: "human" as const },
        own: index === null ? null : world.op(index, one.fingerprint),
      }));
      const expected = model.append(id, op, messages);
      const rows = messages.map(({ row, own }) => newMessage(id, "USER", row.key, own));
      let places: readonly number[] = [];
      const work = must(stores[1]).store.append(owner, id, rows, op);
      const code = await codeOf(work.then((found) => (places = found.map((place) => place.position))));
      expect(code === "ok" ? places : code).toEqual(expected);
      break;
    }
    case "create": {
      const id = world.id(one.session);
      const op = {
        ...world.op(one.op, one.fingerprint),
        id: one.op === null ? world.text("op") : `k:create:${one.op}`,
      };
      const title = world.text("t");
      const expected = model.create(id, op, title, one.ttl);
      expect(await codeOf(must(stores[0]).store.create(owner, id, newRecord(title, one.ttl), op))).toBe(expected);
      break;
    }
    case "update": {
      const id = world.id(one.session);
      const { title, archived } = one;
      const change = { title, archived, ...(one.ttl === undefined ? {} : { ttl: one.ttl }) };
      const expected = model.update(id, change);
      const real = { title, archived, ttlSeconds: one.ttl };
      expect(await codeOf(must(stores[0]).store.update(owner, id, real))).toBe(expected);
      break;
    }
    case "markRead": {
      const id = world.id(one.session);
      const kept = world.cursorOf(id, one.cursor);
      const expected = model.markRead(id, kept?.model ?? null);
      expect(await codeOf(must(stores[0]).store.markRead(owner, id, realCursor(id, kept)))).toBe(expected);
      break;
    }
    case "clear":
    case "remove": {
      const id = world.id(one.session);
      const expected = model[one.kind](id);
      expect(await codeOf(must(stores[0]).store[one.kind](owner, id))).toBe(expected);
      break;
    }
    case "fork":
      await fork(world, one.session, one.cursor, one.op, one.fingerprint);
      break;
    case "foreign":
      await foreign(world, world.id(one.session), one.what);
  }
}

async function begin(world: World, index: number): Promise<void> {
  const { id, by: process, turn, model } = must(world.begun[index]);
  const at = must(stores[process]);
  const expected = world.model.begin(id, at.processId, process === 2, model);
  const answer = await at.store.begin(owner, id, turn);
  switch (answer.kind) {
    case "started": {
      const run = world.model.at(id).record?.active;
      expect([expected, answer.runId, answer.token]).toEqual(["started", run?.id, run?.token]);
      if (run && !run.regenerates && world.started.every((one) => one.runId !== run.id)) {
        const { origin } = decodeStoredMessage(answer.inputRow);
        const position = world.model.at(id).rows.findIndex((row) => row.key === run.text);
        expect([origin?.position, origin?.hint]).toEqual([position, position]);
      }
      world.started.push(answer);
      break;
    }
    case "known":
      expect(`known ${answer.fingerprint}`).toBe(expected);
      break;
    case "busy":
      expect(`busy ${answer.runId}`).toBe(expected);
      break;
    default:
      expect(answer.kind).toBe(expected);
  }
}

async function fork(
  world: World,
  from: number,
  cursorIndex: number | null,
  opIndex: number | null,
  by: string,
): Promise<void> {
  const [source, target] = [world.id(from), world.id(1 - from)];
  const kept = world.cursorOf(source, cursorIndex);
  const op = { id: opIndex === null ? world.text("op") : `k:fork:${opIndex}`, fingerprint: by };
  const title = world.text("t");
  const { store } = must(stores[1]);
  const reading = await store.read(owner, source, { pages: [] });
  const work = async (): Promise<void> => {
    if (!reading) throw new ParleyError("NOT_FOUND", "");
    const pages = kept ? [{ first: 1, after: kept.text, last: null, before: null }] : [];
    for (const page of (await store.read(owner, source, { pages }))?.session.pages ?? [])
      if (page instanceof Error) throw page;
    await store.fork(owner, reading.session, realCursor(source, kept), target, title, op);
  };
  const expected = world.model.fork(source, kept?.model ?? null, target, op, title);
  expect(await codeOf(work())).toBe(expected);
}

async function foreign(world: World, id: string, what: string): Promise<void> {
  const { model } = world;
  const key = world.text(what === "garbage" ? "garbage" : "f");
  switch (what) {
    case "human":
    case "ai":
    case "garbage":
      await redis.lpush(id, what === "garbage" ? key : foreignRow(key, what));
      model.foreign(id, (rows) => [...rows, { key, kind: what }]);
      break;
    case "rpush":
      await redis.rpush(id, foreignRow(key));
      model.foreign(id, (rows) => [{ key, kind: "human" }, ...rows]);
      break;
    case "swap":
      if ((await redis.rpop(id)) === null) break;
      await redis.rpush(id, foreignRow(key));
      model.foreign(id, (rows) => rows.slice(1));
      model.foreign(id, (rows) => [{ key, kind: "human" }, ...rows]);
      break;
    case "pop":
      await redis.rpop(id);
      model.foreign(id, (rows) => rows.slice(1));
      break;
    case "trim":
      await redis.ltrim(id, 1, 3);
      model.foreign(id, (rows) => rows.slice(0, -1).slice(-3));
      break;
    case "del":
      await redis.del(id);
      model.foreign(id, () => []);
      break;
    case "expire":
      await redis.expire(id, 100_000);
      model.foreignExpiry(id, true);
      break;
    default:
      await redis.persist(id);
      model.foreignExpiry(id, false);
  }
}

// CI found it: a message that came while a reply was made anew moves with the reply's end, and its op tells where it lies.
const begun = {
  kind: "begin",
  session: 0,
  by: 0,
  op: null,
  fingerprint: "f",
  cursor: null,
  whenBusy: "QUEUE",
} as const;
const append = { kind: "append", session: 0, op: null, fingerprint: "f" } as const;
const movedByRegenerate: Command[] = [
  { ...begun, regenerates: false },
  { kind: "chat", session: 1, remake: false },
  { kind: "chat", session: 0, remake: true },
  { kind: "foreign", session: 0, what: "ai", quiet: false },
  { kind: "cancel", session: 0, turn: 0 },
  { kind: "attend", session: 0, by: 0, takeAny: false },
  { ...append, own: [1, null] },
  { kind: "chat", session: 0, remake: false },
  { ...append, own: [1] },
];

test("Redis and the model do the same", async () => {
  await checkProperty(
    fc.asyncProperty(fc.array(command, { minLength: 10, maxLength: 30, size: "max" }), async (commands) => {
      const world = new World(must(stores[0]).store, maxQueued);
      for (const one of commands) {
        await carryOut(world, one);
        if (!("quiet" in one && one.quiet)) await world.check();
      }
      await world.check();
      await world.checkRuns();
    }),
    { runs, cases: [[movedByRegenerate]] },
  );
});
