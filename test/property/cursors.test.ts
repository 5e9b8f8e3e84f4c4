import fc from "fast-check";
import { Redis } from "ioredis";
import { afterAll, beforeAll, expect, test } from "vitest";
import { encodeCursor, parseCursor, type Cursor } from "../../src/conversation/message/cursor.ts";
import { markOf } from "../../src/conversation/message/ids.ts";
import type { SessionEvent } from "../../src/conversation/events.ts";
import { CursorModel, type CursorRow, type HeldCursor } from "../support/store/cursor-model.ts";
import { openBackend, Reader, textOf, type TestBackend } from "../support/store/feeds.ts";
import { checkProperty } from "../support/store/property.ts";
import { propertyRuns } from "../support/store/property-runs.ts";
import { startRedis, type TestRedis } from "../support/redis/redis-server.ts";
import { completed, foreignRow, keysByPart, must, newMessage, newOp, newTurn, owner } from "../support/store/store.ts";

// How long cursors live, against a plain model (P3, P4): edits, answers made anew, retention, LTRIM by foreign code, clear,
// a failover to a replica that is behind, and a refill with the same rows. A cursor holds while its row lies where it lay;
// who comes back with any cursor, and who listens all the time, have the history in the end.

const runs = 60;
const heldCursors = 24;

const command = fc.oneof(
  { weight: 4, arbitrary: fc.record({ kind: fc.constant("append" as const), count: fc.integer({ min: 1, max: 3 }) }) },
  {
    weight: 6,
    arbitrary: fc.record({ kind: fc.constant("edit" as const), from: fc.nat({ max: 5 }), old: fc.boolean() }),
  },
  { weight: 4, arbitrary: fc.record({ kind: fc.constant("again" as const), between: fc.nat({ max: 2 }) }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant("foreign" as const), count: fc.integer({ min: 1, max: 2 }) }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant("trim" as const), newest: fc.boolean() }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant("clear" as const) }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant("replicate" as const) }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant("failover" as const) }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant("refill" as const) }) },
);
type Command = typeof command extends fc.Arbitrary<infer T> ? T : never;

let server: TestRedis;
let redis: Redis;
beforeAll(async () => {
  server = await startRedis({ appendonly: false });
  redis = new Redis(server.port, "127.0.0.1");
});
afterAll(async () => {
  redis.disconnect();
  await server.stop();
});

let worlds = 0;

class World {
  readonly id = `cursors-${++worlds}`;
  readonly at: TestBackend;
  readonly model: CursorModel;
  readonly held: HeldCursor[] = [];
  #live: Reader<SessionEvent> | null = null;
  #replica: (() => Promise<void>) | null = null;
  #texts = 0;

  constructor(most: number | null) {
    // Soon: what foreign code does in the same moment as this process is met by the check alone.
    this.at = openBackend(server.port, { maxMessages: most, feedCheckMs: 200 });
    this.model = new CursorModel(most ?? Infinity);
  }

  async run(one: Command): Promise<void> {
    const { model, id } = this;
    const { store } = this.at.backend;
    switch (one.kind) {
      case "append": {
        const messages = Array.from({ length: one.count }, () => newMessage(id, "USER", this.#text(), null));
        await store.append(owner, id, messages, newOp());
        return this.#appended(one.count);
      }
      case "foreign":
        for (let i = 0; i < one.count; i++) await this.#foreign();
        return;
      case "edit": {
        if (model.rows.length === 0) return;
        const position = Math.max(model.base, model.end - 1 - one.from);
        // By the oldest cursor that holds, or by a new one.
        const old = this.held.find((cursor) => one.old && cursor.position === position && model.holds(cursor));
        const replaceFrom = old ? must(parseCursor(id, old.text)) : await this.#cursorAt(position);
        const answer = await store.begin(owner, id, newTurn(id, this.#text(), { replaceFrom }));
        if (answer.kind !== "started") throw new Error(answer.kind);
        model.rewind(position);
        model.append({ raw: answer.inputRow });
        await store.finish(answer, completed(answer, this.#text()), newOp().id);
        return this.#appended(1);
      }
      case "again": {
        const answer = await store.begin(owner, id, newTurn(id, null));
        if (answer.kind !== "started") return;
        const seen = model.end;
        const cut = must(answer.run.userRow).position + 1;
        for (let i = 0; i < one.between; i++) await this.#foreign();
        await store.read(owner, id, { pages: [] });
        await store.finish(answer, completed(answer, this.#text()), newOp().id);
        const later = model.rows.slice(Math.max(0, seen - model.base));
        if (cut < seen) model.rewind(Math.max(cut, model.base));
        return this.#appended(1 + (cut < seen ? later.length : 0));
      }
      case "trim":
        if (model.rows.length === 0) return;
        if (one.newest) await redis.ltrim(id, 1, -1);
        else await redis.ltrim(id, 0, -2);
        model.beginAnew(one.newest ? model.rows.slice(0, -1) : model.rows.slice(1));
        return;
      case "clear":
        await store.clear(owner, id);
        model.beginAnew([]);
        return;
      case "replicate":
        return this.#replicate();
      case "failover":
        return this.#replica?.();
      case "refill": {
        const rows = await redis.lrange(id, 0, -1);
        if (rows.length > 0)
          await redis
            .multi()
            .del(id)
            .rpush(id, ...rows)
            .exec();
      }
    }
  }

  /** What is there is what the model says; every cursor holds or is refused, as it says. Then cursors of all rows are held. */
  async check(): Promise<void> {
    const { model, id } = this;
    await this.#listen();
    const page = { first: 200, last: null, before: null };
    const pages = [{ ...page, after: null }, ...this.held.map(({ text }) => ({ ...page, after: text }))];
    const { session } = must(await this.at.backend.store.read(owner, id, { pages }));
    const [all, ...behind] = session.pages.map((one) => (one instanceof Error ? one : one.rows));
    expect(all).toMatchObject(model.rows.map(({ raw }, i) => ({ position: model.base + i, raw })));
    for (const [i, cursor] of this.held.entries()) {
      const rows = behind[i];
      const expected = model.holds(cursor)
        ? model.rows.slice(Math.max(0, cursor.position + 1 - model.base)).map(({ raw }) => ({ raw }))
        : { code: "CURSOR_EXPIRED" };
      expect({ cursor, rows }).toMatchObject({ cursor, rows: expected });
    }
    const seen = new Map<number, string>();
    if (model.base === 0) this.#hold(session.generation, -1, null, new Map());
    for (const [i, row] of model.rows.entries()) {
      seen.set(model.base + i, row.raw);
      this.#hold(session.generation, model.base + i, row, new Map(seen));
    }
    this.held.splice(0, this.held.length - heldCursors);
  }

  /** Who comes back with a cursor is told where to go on, and has the history then. */
  async resume(cursor: HeldCursor): Promise<void> {
    const { model } = this;
    const reader = await this.#open(cursor.text);
    const resets = () => reader.ofKind("reset").map(({ kept }) => kept);
    const expected = model.holds(cursor) ? [] : [model.keptOf(cursor)];
    await this.#until(reader, cursor.seen, () => resets().length >= expected.length);
    expect({ cursor, resets: resets() }).toEqual({ cursor, resets: expected });
    reader.abort();
  }

  /** One who listens all the time. */
  async #listen(): Promise<void> {
    this.#live ??= await this.#open("");
    const reader = this.#live;
    await this.#until(reader, new Map(), () => true);
  }

  async #until(reader: Reader<SessionEvent>, seen: HeldCursor["seen"], also: () => boolean): Promise<void> {
    const { model } = this;
    const whole = () => also() && sameRows(listOf(reader, seen), model);
    await reader.until("the history", whole).catch((error: unknown) => {
      const has = [...listOf(reader, seen)].map(([position, raw]) => `${position} ${textOf(raw)}`);
      const there = model.rows.map(({ raw }, i) => `${model.base + i} ${textOf(raw)}`);
      const events = reader.events.map((event) => {
        if (event.kind === "message") return `${event.message.row.position} ${textOf(event.message.row.raw)}`;
        return event.kind === "reset" ? `reset ${event.kept}` : event.kind;
      });
      throw new Error(`${String(error)}: ${JSON.stringify({ has, there, events })}`);
    });
  }

  async #open(after: string): Promise<Reader<SessionEvent>> {
    const stop = new AbortController();
    const read = { pages: [{ first: null, after: null, last: 200, before: null }] };
    return new Reader(
      await this.at.backend.feeds.open(owner, this.id, after, "refuse", read, stop.signal),
      stop,
      "always",
    );
  }

  #hold(generation: number, position: number, row: CursorRow | null, seen: ReadonlyMap<number, string>): void {
    const text = encodeCursor(this.id, { generation, position, mark: row ? markOf(row.raw) : "" });
    if (this.held.some((cursor) => cursor.text === text)) return;
    this.held.push({ text, epoch: this.model.epoch, position, row, seen });
  }

  async #cursorAt(position: number): Promise<Cursor> {
    const { generation } = must(await this.at.backend.store.read(owner, this.id, { pages: [] })).session;
    return { generation, position, mark: markOf(must(this.model.rows[position - this.model.base]).raw) };
  }

  /** So many of the newest rows are new. */
  async #appended(count: number): Promise<void> {
    const newest = await redis.lrange(this.id, 0, count - 1);
    this.model.append(...newest.reverse().map((raw) => ({ raw })));
  }

  async #foreign(): Promise<void> {
    const raw = foreignRow(this.#text());
    await redis.lpush(this.id, raw);
    this.model.append({ raw });
  }

  async #replicate(): Promise<void> {
    const keys = Object.values(keysByPart(this.id));
    const values = await Promise.all(keys.map((key) => redis.dumpBuffer(key)));
    const back = this.model.replica();
    this.#replica = async () => {
      // Generations are told apart by the millisecond in which they begin, and a failover takes longer than one.
      await new Promise((resolve) => setTimeout(resolve, 2));
      const { tip, epoch, end } = this.model;
      const all = redis.multi();
      for (const [i, key] of keys.entries()) {
        const value = values[i] ?? null;
        if (value === null) all.del(key);
        else all.restore(key, 0, value, "REPLACE");
      }
      await all.exec();
      const { model } = this;
      back();
      // Who listens has a row that must be there, and is not: it is told to all.
      const isLost = model.isKnown(epoch) && tip !== null && model.rows[end - 1 - model.base] !== tip;
      if (isLost && model.keptOf({ text: "", epoch, position: end - 1, row: tip, seen: new Map() }) === 0)
        model.beginAnew(model.rows);
    };
  }

  #text(): string {
    return `t${++this.#texts}`;
  }

  async close(): Promise<void> {
    this.#live?.abort();
    await this.at.backend.close();
  }
}

/** What a client that follows the rules has. */
function listOf(reader: Reader<SessionEvent>, seen: ReadonlyMap<number, string>): ReadonlyMap<number, string> {
  const list = new Map(seen);
  for (const event of reader.events) {
    if (event.kind === "message") list.set(event.message.row.position, event.message.row.raw);
    if (event.kind !== "reset") continue;
    for (const position of [...list.keys()]) if (position >= event.kept) list.delete(position);
    const [page] = event.session.pages;
    if (event.kept === 0 && page && !(page instanceof Error))
      for (const row of page.rows) list.set(row.position, row.raw);
  }
  return list;
}

/** Those that retention has dropped a client may still show. */
function sameRows(list: ReadonlyMap<number, string>, { rows, base, end }: CursorModel): boolean {
  return rows.every(({ raw }, i) => list.get(base + i) === raw) && [...list.keys()].every((position) => position < end);
}

test(
  "a cursor lives as long as its row, and whoever comes back with one has the history in the end",
  async () => {
    const most = fc.constantFrom(null, null, 4, 6);
    await checkProperty(
      fc.asyncProperty(
        most,
        fc.array(command, { minLength: 4, maxLength: 16 }),
        fc.nat(),
        async (max, commands, pick) => {
          const world = new World(max);
          try {
            await world.run({ kind: "append", count: 2 });
            await world.check();
            for (const one of commands) {
              await world.run(one);
              await world.check();
              await world.resume(must(world.held[pick % world.held.length]));
            }
            for (const cursor of [...world.held]) await world.resume(cursor);
          } finally {
            await world.close();
          }
        },
      ),
      // Each try of what never comes takes its time.
      { runs, endOnFailure: true },
    );
  },
  180_000 * propertyRuns,
);
