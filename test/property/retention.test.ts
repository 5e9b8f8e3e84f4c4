import fc from "fast-check";
import type { Cluster, Redis } from "ioredis";
import { afterAll, beforeAll, expect, test } from "vitest";
import { encodeCursor, type Cursor } from "../../src/conversation/message/cursor.ts";
import { ParleyError } from "../../src/conversation/errors.ts";
import { markOf } from "../../src/conversation/message/ids.ts";
import type { Session } from "../../src/conversation/session.ts";
import type { Client } from "../../src/redis/client/connection.ts";
import { startTopology } from "../support/redis/project-topology.ts";
import { checkProperty } from "../support/store/property.ts";
import { propertyRuns } from "../support/store/property-runs.ts";
import {
  completed,
  failed,
  foreignRow,
  must,
  newMessage,
  newOp,
  newTurn,
  openStoreOn,
  owner,
  type TestStore,
} from "../support/store/store.ts";
import type { TestTopology } from "../support/redis/topologies.ts";

// Retention against a plain model: all rows there ever were, of which the newest `max` are kept, without answers of tools
// whose call is gone. Positions, cursors and readCount must be those of the whole row of messages, as if nothing had been
// trimmed.

const runs = 60;

const command = fc.oneof(
  { weight: 5, arbitrary: fc.record({ kind: fc.constant("append" as const), count: fc.integer({ min: 1, max: 5 }) }) },
  { weight: 3, arbitrary: fc.record({ kind: fc.constant("turn" as const), between: fc.integer({ min: 0, max: 3 }) }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant("foreign" as const), count: fc.integer({ min: 1, max: 9 }) }) },
  { weight: 3, arbitrary: fc.record({ kind: fc.constant("step" as const), answers: fc.nat({ max: 5 }) }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant("regenerate" as const), between: fc.nat({ max: 4 }) }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant("edit" as const), from: fc.nat({ max: 5 }) }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant("markRead" as const), cursor: fc.nat({ max: 9 }) }) },
);
type Command = typeof command extends fc.Arbitrary<infer T> ? T : never;

let topology: TestTopology;
let redis: Redis | Cluster;
beforeAll(async () => {
  topology = await startTopology();
  redis = topology.raw();
});
afterAll(async () => {
  await topology.stop();
});

let worlds = 0;

class World {
  readonly id = `kept-${++worlds}`;
  readonly max: number;
  readonly at: TestStore<Client>;
  /** Every row that there ever was in this generation, by position. */
  all: string[] = [];
  read = 0;
  /** Never goes back, not even where a rewind leaves fewer rows than are kept. */
  #base = 0;
  generation: number | null = null;

  constructor(max: number) {
    this.max = max;
    this.at = openStoreOn(topology.source, { maxMessages: max });
  }

  get base(): number {
    return this.#base;
  }

  /** What a script does with the rows that it finds and adds. */
  #commit(): void {
    const least = this.all.length - this.max;
    if (least <= this.#base) return;
    this.#base = least;
    while (isAnswer(this.all[this.#base])) this.#base += 1;
  }

  async run(one: Command): Promise<void> {
    const { store } = this.at;
    switch (one.kind) {
      case "append": {
        const messages = Array.from({ length: one.count }, (_, i) =>
          newMessage(this.id, "USER", `a${this.all.length + i}`, null),
        );
        const places = await store.append(owner, this.id, messages, newOp());
        expect(places.map(({ position }) => position)).toEqual(messages.map((_, i) => this.all.length + i));
        this.all.push(...messages.map(({ row }, i) => filled(row, this.all.length + i)));
        this.#commit();
        return;
      }
      case "foreign":
        for (let i = 0; i < one.count; i++) await this.#foreign();
        return;
      case "turn": {
        const answer = await store.begin(owner, this.id, newTurn(this.id, "question"));
        if (answer.kind !== "started") throw new Error(answer.kind);
        expect(answer.low).toBe(this.base);
        expect(answer.rows).toEqual(this.all.slice(this.base));
        this.all.push(answer.inputRow);
        this.#commit();
        this.read = this.all.length;
        for (let i = 0; i < one.between; i++) await this.#foreign();
        const end = completed(answer, "answer");
        await store.finish(answer, end, newOp().id);
        if (end.kind === "completed") this.all.push(`${end.reply.head}${this.all.length}${end.reply.tail}`);
        this.#commit();
        return;
      }
      case "step": {
        const rows = [
          foreignRow("call", "ai"),
          ...Array.from({ length: one.answers }, () => foreignRow("answer", "tool")),
        ];
        await redis.lpush(this.id, ...rows);
        this.all.push(...rows);
        return;
      }
      case "regenerate": {
        // A question and its answer to begin with, so that there is something to replace.
        await this.run({ kind: "turn", between: 0 });
        const answer = await store.begin(owner, this.id, newTurn(this.id, null));
        if (answer.kind === "nothing") {
          // Only the reply is kept: the question was trimmed.
          expect(this.max).toBe(1);
          return;
        }
        if (answer.kind !== "started") throw new Error(answer.kind);
        const cut = this.all.length - 1;
        const later: string[] = [];
        for (let i = 0; i < one.between; i++) later.push(await this.#foreign());
        // Those beyond the limit are still in the list until a script meets them; here one does.
        await store.read(owner, this.id, { pages: [] });
        this.#commit();
        const base = this.base;
        const end = completed(answer, "another");
        await store.finish(answer, end, newOp().id);
        if (end.kind !== "completed") return;
        const position = Math.max(cut, base);
        const kept = later.slice(Math.max(0, base - cut - 1));
        this.all = [...this.all.slice(0, position), `${end.reply.head}${position}${end.reply.tail}`, ...kept];
        this.#commit();
        this.read = Math.min(this.read, position);
        // A rewind: a new generation, in which positions go on.
        this.generation = null;
        return;
      }
      case "edit": {
        if (this.all.length === 0) return;
        let position = Math.max(0, this.all.length - 1 - one.from);
        const replaceFrom = this.#cursor(await this.session(), position);
        const reply = this.all.findLastIndex((raw, i) => i <= position && !isAnswer(raw));
        // Inside a step it means the reply that calls the tools.
        if (reply >= this.base && isReply(this.all[reply])) position = reply;
        const answer = await store.begin(owner, this.id, newTurn(this.id, "edited", { replaceFrom }));
        if (position < this.base) {
          expect(answer.kind).toBe("expired");
          return;
        }
        if (answer.kind !== "started") throw new Error(answer.kind);
        expect(answer.rows).toEqual(this.all.slice(this.base, position));
        this.all = [...this.all.slice(0, position), answer.inputRow];
        this.#commit();
        this.read = position + 1;
        this.generation = null;
        await store.finish(answer, failed("half"), newOp().id);
        return;
      }
      case "markRead": {
        if (this.all.length === 0) return;
        const position = Math.max(0, this.all.length - 1 - one.cursor);
        const session = await this.session();
        const marking = store.markRead(owner, this.id, this.#cursor(session, position));
        if (position < this.base - 1) {
          await expect(marking).rejects.toMatchObject({ code: "CURSOR_EXPIRED" });
        } else {
          await marking;
          this.read = Math.max(this.read, position + 1);
        }
      }
    }
  }

  async session(): Promise<Session> {
    return must(await this.at.store.read(owner, this.id, { pages: [] })).session;
  }

  async check(): Promise<void> {
    if (this.all.length === 0) return;
    const session = await this.session();
    this.#commit();
    this.generation ??= session.generation;
    expect({ ...session }).toMatchObject({
      generation: this.generation,
      base: this.base,
      end: this.all.length,
      messageCount: this.all.length - this.base,
      readCount: this.read,
      tipMark: markOf(must(this.all.at(-1))),
    });
    const list = (await redis.lrange(this.id, 0, -1)).reverse();
    expect(list).toEqual(this.all.slice(this.base));
    if (this.base > 0) expect(isAnswer(list[0])).toBe(false);
    for (let position = -1; position < this.all.length; position++) {
      const after = encodeCursor(this.id, this.#cursor(session, position));
      const reading = await this.at.store.read(owner, this.id, {
        pages: [
          { first: 200, after, last: null, before: null },
          { first: null, after: null, last: 2, before: after },
        ],
      });
      const [behind, before] = must(reading).session.pages;
      if (position < this.base - 1) {
        expect(behind).toBeInstanceOf(ParleyError);
        expect(behind).toMatchObject({ code: "CURSOR_EXPIRED" });
        continue;
      }
      if (behind === undefined || behind instanceof Error) throw behind ?? new Error("No page");
      const from = Math.max(this.base, position + 1);
      expect(behind.rows.map((row) => [row.position, row.raw])).toEqual(
        this.all.slice(from).map((raw, i) => [from + i, raw]),
      );
      expect(behind.hasPreviousPage).toBe(from > this.base);
      if (before === undefined || before instanceof Error) throw before ?? new Error("No page");
      const low = Math.max(this.base, position - 2);
      expect(before.rows.map((row) => row.position)).toEqual(
        Array.from({ length: Math.max(0, position - low) }, (_, i) => low + i),
      );
    }
  }

  close(): void {
    this.at.close();
  }

  #cursor(session: Session, position: number): Cursor {
    const raw = this.all[position];
    return { generation: session.generation, position, mark: raw === undefined ? "" : markOf(raw) };
  }

  async #foreign(): Promise<string> {
    const row = foreignRow(`f${this.all.length}`);
    await redis.lpush(this.id, row);
    this.all.push(row);
    return row;
  }
}

function isAnswer(raw: string | undefined): boolean {
  return raw?.startsWith('{"type":"tool"') ?? false;
}

function isReply(raw: string | undefined): boolean {
  return raw?.startsWith('{"type":"ai"') ?? false;
}

/** As the script fills a row: the hint of an id that the gateway made is the position too. */
function filled(row: { readonly head: string; readonly tail: string }, position: number): string {
  return `${row.head.replace(/"hint":0,"position":$/, `"hint":${position},"position":`)}${position}${row.tail}`;
}

test(
  "what retention trims moves nothing: positions, cursors, readCount and the list are those of the newest rows",
  async () => {
    await checkProperty(
      fc.asyncProperty(fc.integer({ min: 1, max: 6 }), fc.array(command, { maxLength: 12 }), async (max, commands) => {
        const world = new World(max);
        try {
          for (const one of commands) {
            await world.run(one);
            // Foreign rows beyond the limit are trimmed by who meets them first.
            await world.check();
          }
        } finally {
          world.close();
        }
      }),
      { runs },
    );
  },
  180_000 * propertyRuns,
);
