import fc from "fast-check";
import { Redis } from "ioredis";
import { afterAll, beforeAll, expect, test } from "vitest";
import { encodeCursor, parseCursor, type Cursor } from "../../src/conversation/cursor.ts";
import { ParleyError } from "../../src/conversation/errors.ts";
import { markOf } from "../../src/conversation/ids.ts";
import type { MessagePage, Session } from "../../src/conversation/session.ts";
import type { BeginTurn, StartedTurn } from "../../src/conversation/store.ts";
import { decodeStoredMessage } from "../../src/conversation/stored-message.ts";
import type { ModelCursor, ModelRow, ModelTurn } from "../support/model-session.ts";
import { ModelStore } from "../support/model-store.ts";
import { startRedis, type TestRedis } from "../support/redis-server.ts";
import {
  completed,
  failed,
  foreignRow,
  must,
  newMessage,
  newRecord,
  newTurn,
  openStore,
  owner,
  type TestStore,
} from "../support/store.ts";

// The same random commands on Redis and on a plain model. Where they differ, fast-check prints the seed and the path
// that repeat the shrunk case: fc.assert(…, { seed, path }).

const runs = 100;
const maxQueued = 2;
const tracked = 8;

/** Mostly the same one: what is rare happens in a session that much has happened in. */
const session = fc.constantFrom(0, 0, 0, 1);
/** Whose process: two that live, and one whose leases have run out as soon as they begin. */
const by = fc.constantFrom(0, 0, 0, 1, 2);
/** Which turn: 0 the one that is going, 1 the one that waits, the others as they began, newest first. */
const recent = fc.constantFrom(0, 0, 0, 1, 2, 3, 4, 5);
const cursor = fc.option(fc.nat({ max: tracked - 1 }), { freq: 2 });
const chosenOp = fc.option(fc.nat({ max: 2 }), { freq: 1 });
const fingerprint = fc.constantFrom("f", "f", "g");
const ttl = fc.constantFrom(null, 1000, 5000);

/** Mostly those that leave what was there: after a loss little is left to happen to. */
const foreignChanges = [
  ...["human", "human", "human", "ai", "ai", "garbage", "expire", "persist"],
  ...["del", "pop", "trim", "rpush", "swap"],
];

const command = fc.oneof(
  {
    weight: 12,
    arbitrary: fc.record({
      kind: fc.constant("begin"),
      session,
      by,
      op: chosenOp,
      fingerprint,
      regenerates: fc.nat({ max: 3 }).map((n) => n === 0),
      cursor,
      whenBusy: fc.constantFrom("QUEUE", "QUEUE", "REJECT", "INTERRUPT"),
    }),
  },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant("again"), turn: fc.nat({ max: 3 }) }) },
  {
    weight: 6,
    arbitrary: fc.record({
      kind: fc.constant("progress"),
      turn: recent,
      by,
      stale: fc.nat({ max: 3 }).map((n) => n === 0),
    }),
  },
  { weight: 7, arbitrary: fc.record({ kind: fc.constant("finish"), turn: recent, failed: fc.nat({ max: 3 }) }) },
  { weight: 4, arbitrary: fc.record({ kind: fc.constant("cancel"), session, turn: recent }) },
  { weight: 5, arbitrary: fc.record({ kind: fc.constant("attend"), session, by, takeAny: fc.boolean() }) },
  {
    weight: 5,
    arbitrary: fc.record({
      kind: fc.constant("append"),
      session,
      op: chosenOp,
      fingerprint,
      own: fc.uniqueArray(chosenOp, { minLength: 1, maxLength: 3 }),
    }),
  },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant("create"), session, op: chosenOp, fingerprint, ttl }) },
  {
    weight: 1,
    arbitrary: fc.record({
      kind: fc.constant("update"),
      session,
      title: fc.option(fc.constantFrom("T", "U"), { nil: null }),
      archived: fc.boolean(),
      ttl: fc.option(ttl, { nil: undefined }),
    }),
  },
  { weight: 3, arbitrary: fc.record({ kind: fc.constant("markRead"), session, cursor }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant("clear"), session }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant("remove"), session }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant("fork"), session, op: chosenOp, fingerprint, cursor }) },
  {
    weight: 6,
    arbitrary: fc.record({
      kind: fc.constant("foreign"),
      session,
      what: fc.constantFrom(...foreignChanges),
      // Not looked at right after: then the next command is the one that meets it.
      quiet: fc.boolean(),
    }),
  },
);
type Command = typeof command extends fc.Arbitrary<infer T> ? T : never;

let server: TestRedis;
let redis: Redis;
let stores: readonly TestStore[];
beforeAll(async () => {
  server = await startRedis({ appendonly: false });
  redis = new Redis(server.url);
  stores = [60_000, 60_000, -1000].map((leaseMs) => openStore(server.port, { leaseMs, maxQueuedRuns: maxQueued }));
});
afterAll(async () => {
  redis.disconnect();
  for (const store of stores) store.close();
  await server.stop();
});

/** What a client remembers: a cursor, and the row that it was given for. */
interface Kept {
  readonly id: string;
  readonly text: string;
  readonly raw: string | null;
  readonly model: ModelCursor;
}

interface Begun {
  readonly id: string;
  readonly by: number;
  readonly turn: BeginTurn;
  readonly model: ModelTurn;
}

let worlds = 0;

/** One run of commands: Redis, the model, and the client between them. */
class World {
  readonly ids: readonly string[];
  readonly model = new ModelStore(maxQueued);
  readonly begun: Begun[] = [];
  readonly started: StartedTurn[] = [];
  readonly #kept: Kept[] = [];
  /** The generation and epoch of each session at the last look. */
  readonly #seen = new Map<string, { readonly generation: number; readonly epoch: number }>();
  #texts = 0;

  constructor() {
    const number = ++worlds;
    this.ids = [`{u}a${number}`, `b}${number}`];
  }

  text(letter: string): string {
    return `${letter}${++this.#texts};`;
  }

  id(index: number): string {
    return must(this.ids[index]);
  }

  cursorOf(id: string, index: number | null): Kept | null {
    const mine = this.#kept.filter((one) => one.id === id && one.model.position >= 0);
    return index === null ? null : (mine.at(-1 - (index % Math.max(1, mine.length))) ?? null);
  }

  op(index: number | null, fingerprintOf: string): { readonly id: string; readonly fingerprint: string } {
    return { id: index === null ? `k:${this.text("op")}` : `m:${index}`, fingerprint: fingerprintOf };
  }

  /** A turn that was started: the one that is going, else as it began. */
  turnOf(index: number): StartedTurn | undefined {
    const going = this.ids.flatMap((id) => this.model.at(id).record?.active?.id ?? []);
    return this.started.find((turn) => index === 0 && going.includes(turn.runId)) ?? this.started.at(-1 - index);
  }

  runOf(id: string, index: number): string | undefined {
    const { active, queue } = this.model.at(id).record ?? {};
    const found = index === 0 ? active?.id : index === 1 ? queue?.[0]?.id : undefined;
    return found ?? this.begun.at(-1 - index)?.turn.runId;
  }

  async check(): Promise<void> {
    for (const id of this.ids) await this.#checkSession(id);
  }

  async checkRuns(): Promise<void> {
    for (const { id, turn } of this.begun) {
      const met = this.model.meet(id);
      const run = met?.record.runs.get(turn.runId);
      const reading = await must(stores[0]).store.read(owner, id, { pages: [], runId: turn.runId });
      expect(reading?.run?.status).toBe(run?.status);
      expect(reading?.run?.error?.code ?? null).toBe(run?.error ?? null);
      if (run && run.status !== "QUEUED") expect(reading?.run?.text).toBe(run.soFar);
    }
  }

  async #checkSession(id: string): Promise<void> {
    const kept = this.#kept.filter((one) => one.id === id);
    const all = { first: 1000, after: null, last: null, before: null };
    const pages = [all, ...kept.map(({ text }) => ({ ...all, first: 1, after: text }))];
    const ranges = kept.map(({ model: { position } }) => [position, position] as const);
    const met = this.model.meet(id);
    const reading = await must(stores[0]).store.read(owner, id, { pages, ranges });
    expect(reading === null).toBe(met === null);
    if (!reading || !met) {
      this.#seen.delete(id);
      return;
    }
    const { session: real } = reading;
    const { record, rows } = met;
    const page = pageOf(real, 0);
    expect(page.rows.map((row) => keyOf(row.raw))).toEqual(rows.map((row) => row.key));
    expect(page.rows.map((row) => row.position)).toEqual(rows.map((_, i) => i));
    expect(real).toMatchObject({
      base: 0,
      end: rows.length,
      messageCount: rows.length,
      tipMark: markOfLast(page),
      readCount: record.read,
      title: record.title,
      archived: record.archived,
      ttlSeconds: record.ttl,
      usage: { inputTokens: record.usage, outputTokens: 2 * record.usage, totalTokens: 3 * record.usage },
    });
    expect(real.expiresAt !== null).toBe(rows.length > 0 ? met.expires : record.expires);
    expect([real.activeRun?.runId, real.activeRun?.text]).toEqual([record.active?.id, record.active?.soFar]);
    expect([real.lastRun?.runId, real.lastRun?.status]).toEqual([record.last?.id, record.last?.status]);
    expect(real.queuedRuns.map((run) => [run.runId, run.status])).toEqual(
      record.queue.map((run) => [run.id, "QUEUED"]),
    );

    const seen = this.#seen.get(id);
    if (seen && seen.epoch <= record.epoch) {
      expect([record.epoch, Math.sign(real.generation - seen.generation)]).toEqual([
        record.epoch,
        record.epoch === seen.epoch ? 0 : 1,
      ]);
    }
    this.#seen.set(id, { generation: real.generation, epoch: record.epoch });
    kept.forEach((one, i) => this.#checkCursor(one, real.pages[i + 1], reading.ranges[i]?.[0]?.raw));
    this.#keep(id, real, rows, record.epoch);
  }

  /** P4: a cursor stands where it stood, or it is refused. */
  #checkCursor(kept: Kept, page: Session["pages"][number] | undefined, raw: string | undefined): void {
    const { id, model } = kept;
    if (page instanceof Error) expect(page).toMatchObject({ code: "CURSOR_EXPIRED" });
    else {
      if (kept.raw !== null) expect(raw).toBe(kept.raw);
      const [next] = must(page).rows;
      if (next) expect(next.position).toBe(model.position + 1);
    }
    expect([model, !(page instanceof Error)]).toEqual([model, this.model.holds(id, model)]);
  }

  /** Of each look the start, the newest and one in the middle. */
  #keep(id: string, real: Session, rows: readonly ModelRow[], epoch: number): void {
    const page = pageOf(real, 0);
    for (const position of new Set([-1, rows.length - 1, this.#texts % Math.max(1, rows.length)])) {
      const row = page.rows[position];
      if (position >= 0 && !row) continue;
      const mark = row?.mark ?? "";
      const text = encodeCursor(id, { generation: real.generation, position, mark });
      if (this.#kept.some((one) => one.text === text)) continue;
      const model = { epoch, position, key: rows[position]?.key ?? "" };
      this.#kept.push({ id, text, raw: row?.raw ?? null, model });
    }
    const mine = this.#kept.filter((one) => one.id === id);
    if (mine.length > tracked) this.#kept.splice(this.#kept.indexOf(must(mine[0])), 1);
  }
}

function pageOf(real: Session, index: number): MessagePage {
  const page = real.pages[index];
  if (page === undefined || page instanceof Error) throw page ?? new Error("No page");
  return page;
}

function keyOf(raw: string): string {
  return decodeStoredMessage(raw).text || raw;
}

function markOfLast(page: MessagePage): string {
  const last = page.rows.at(-1);
  return last ? markOf(last.raw) : "";
}

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
      const { whenBusy } = one as { readonly whenBusy: ModelTurn["whenBusy"] }; // constantFrom() gives string
      const turn = newTurn(id, one.regenerates ? null : text, { op, replaceFrom: realCursor(id, kept), whenBusy });
      const { runId } = turn;
      const modelTurn = { op, runId, text, regenerates: one.regenerates, replaceFrom: kept?.model ?? null, whenBusy };
      world.begun.push({ id, by: one.by, turn, model: modelTurn });
      await begin(world, world.begun.length - 1);
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
      const turn = await at.store.attend(id, one.takeAny);
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

test("Redis and the model do the same", async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(command, { minLength: 10, maxLength: 30, size: "max" }), async (commands) => {
      const world = new World();
      for (const one of commands) {
        await carryOut(world, one);
        if (!("quiet" in one && one.quiet)) await world.check();
      }
      await world.check();
      await world.checkRuns();
    }),
    { numRuns: runs },
  );
});
