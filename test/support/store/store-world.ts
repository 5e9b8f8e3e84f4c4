import { expect } from "vitest";
import { encodeCursor } from "../../../src/conversation/message/cursor.ts";
import { markOf } from "../../../src/conversation/message/ids.ts";
import type { MessagePage, Session } from "../../../src/conversation/session.ts";
import type { BeginTurn, StartedTurn } from "../../../src/conversation/ports/store.ts";
import { decodeStoredMessage } from "../../../src/conversation/message/stored-message.ts";
import type { RedisSessionStore } from "../../../src/redis/store/session-store.ts";
import type { ModelCursor, ModelRow, ModelTurn } from "./model-session.ts";
import { ModelStore } from "./model-store.ts";
import { trackedCursors } from "./store-commands.ts";
import { must, owner } from "./store.ts";

/** What a client remembers: a cursor, and the row that it was given for. */
export interface Kept {
  readonly id: string;
  readonly text: string;
  readonly raw: string | null;
  readonly model: ModelCursor;
}

export interface Begun {
  readonly id: string;
  readonly by: number;
  readonly turn: BeginTurn;
  readonly model: ModelTurn;
}

let worlds = 0;

/** One run of commands: Redis, the model, and the client between them. */
export class World {
  readonly ids: readonly string[];
  readonly model: ModelStore;
  readonly begun: Begun[] = [];
  readonly started: StartedTurn[] = [];
  readonly #kept: Kept[] = [];
  /** The generation and epoch of each session at the last look. */
  readonly #seen = new Map<string, { readonly generation: number; readonly epoch: number }>();
  #texts = 0;

  readonly #store: RedisSessionStore;

  constructor(store: RedisSessionStore, maxQueued: number) {
    this.#store = store;
    this.model = new ModelStore(maxQueued);
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
      const reading = await this.#store.read(owner, id, { pages: [], runId: turn.runId });
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
    const reading = await this.#store.read(owner, id, { pages, ranges });
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
      const model = { epoch, position, row: rows[position] ?? null };
      this.#kept.push({ id, text, raw: row?.raw ?? null, model });
    }
    const mine = this.#kept.filter((one) => one.id === id);
    if (mine.length > trackedCursors) this.#kept.splice(this.#kept.indexOf(must(mine[0])), 1);
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
