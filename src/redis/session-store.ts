import { randomUUID } from "node:crypto";
import { Cluster } from "ioredis";
import type { ArchivedSession } from "../conversation/archive.ts";
import type { Client } from "./connection.ts";
import type { Cursor } from "../conversation/cursor.ts";
import { NotReplicated, type DurableScripts } from "./durable.ts";
import { notFound, ParleyError } from "../conversation/errors.ts";
import type { MemorySettings, PageRequest, Session } from "../conversation/session.ts";
import { parseCursor } from "../conversation/cursor.ts";
import { markOf } from "../conversation/ids.ts";
import { escapeFragment } from "../conversation/stored-message.ts";
import type {
  AppendMessage,
  BeginAnswer,
  BeginTurn,
  ListPlace,
  ListQuery,
  NewRecord,
  Op,
  Place,
  ProgressAnswer,
  Reading,
  RecordChange,
  SessionStore,
  StartedTurn,
  StoreRead,
  TurnEnd,
  TurnToken,
} from "../conversation/store.ts";
import { guarded } from "./failure.ts";
import { sessionKeys } from "./keys.ts";
import {
  cursorExpired,
  headOf,
  list,
  type Head,
  memoryOf,
  number,
  packMemory,
  rowsOf,
  runView,
  sessionOf,
  stateOf,
  text,
} from "./replies.ts";
import { Scripts, sessionScripts, type Reply, type ScriptCall, type SessionScript } from "./scripts.ts";
import type { SessionIndex } from "./session-index.ts";

export interface StoreSettings {
  /** In front of each sessionId; "" as in LangChain JS. */
  readonly historyKeyPrefix: string;
  /** Whether a touch adopts histories of foreign code: where there is one owner. */
  readonly adopts: boolean;
  /** Seconds; null: sessions never expire by themselves. */
  readonly ttlSeconds: number | null;
  /** Names this process in the runs that it makes. */
  readonly processId: string;
  readonly leaseMs: number;
  readonly maxQueuedRuns: number;
  /** The most messages that a session keeps: what is older is trimmed as new ones come. null: all. */
  readonly maxMessages: number | null;
  readonly model: string;
  readonly memory: MemorySettings;
  /** The most rows that a turn reads. */
  readonly memoryRows: number;
  /** Milliseconds that other processes' leases are given beyond their end (after a loss of Redis). */
  readonly leaseGraceMs: () => number;
  /** Writes that are acknowledged only when replicas hold them; null: as soon as the primary does. */
  readonly durable: DurableScripts | null;
  /** The next run that waits in this session is this process', and nothing runs there. */
  readonly onTurnFree: (historyKey: string) => void;
  /** A turn has begun for this process, although begin() rejects: the replicas were too slow to acknowledge it. */
  readonly onStarted: (turn: StartedTurn) => void;
}

/** Rows of an archived session, copied into its slot. */
export interface StagedCopy {
  readonly staging: string;
  readonly rows: number;
  readonly digest: string;
  readonly replace: boolean;
  /** When the list is to expire, in ms since the epoch, where that is not the session's own sliding life. */
  readonly livesUntil: number | null;
}

const hours25 = 90_000_000;
/** An op of ours guards only against a command sent twice by the connection, which happens within its time-outs. */
const minutes10 = 600_000;
const forkChunk = 500;

export class RedisSessionStore implements SessionStore {
  readonly #redis: Client;
  readonly #scripts: Scripts;
  readonly #index: SessionIndex;
  readonly #settings: StoreSettings;

  constructor(redis: Client, scripts: Scripts, index: SessionIndex, settings: StoreSettings) {
    this.#redis = redis;
    this.#scripts = scripts;
    this.#index = index;
    this.#settings = settings;
  }

  historyKey(sessionId: string): string {
    return this.#settings.historyKeyPrefix + sessionId;
  }

  /** null: a key of another prefix. */
  sessionIdOf(key: string): string | null {
    const { historyKeyPrefix } = this.#settings;
    return key.startsWith(historyKeyPrefix) ? key.slice(historyKeyPrefix.length) : null;
  }

  async read(owner: string, sessionId: string, request: StoreRead): Promise<Reading | null> {
    const key = this.historyKey(sessionId);
    const badPages = new Map<number, Error>();
    const pages: (string | number)[] = [];
    request.pages.forEach((page, i) => {
      const args = pageArgs(key, page);
      if (args instanceof Error) badPages.set(i, args);
      else pages.push(...args);
    });
    for (const [from, to] of request.ranges ?? []) pages.push("range", 0, "", from, "", "", to, "");
    const args = [this.#opId(owner, request.op ?? ""), request.runId ?? "", ...pages];
    let answer = await this.#run("view", owner, key, null, args);
    for (let attempt = 0; attempt < 5; attempt++) {
      if (answer[0] === "TOUCH") {
        const touched = await this.#touchAndView(owner, key, args);
        if (!touched) return null;
        answer = touched;
        continue;
      }
      if (answer[0] === "NOT_FOUND") return null;
      const body = answer.slice(1);
      const whole = sessionOf(sessionId, key, body);
      const answered = [...whole.pages];
      const session = {
        ...whole,
        pages: request.pages.map((_, i) => badPages.get(i) ?? answered.shift() ?? invalidCursor()),
      };
      const ranges = list(body[10])
        .slice(request.pages.length - badPages.size)
        .map((page) => {
          const [, low, , , rows] = list(page);
          return rowsOf(number(low), list(rows));
        });
      const op = text(body[5]);
      const tab = op.indexOf("\t");
      return {
        session,
        op: op === "" ? null : { fingerprint: op.slice(0, tab), result: op.slice(tab + 1) },
        run: runView(sessionId, key, session.generation, body[6]),
        ranges,
      };
    }
    throw new ParleyError("STORE_UNAVAILABLE", "The history changes faster than it can be read. Try again.", {
      retryAfterSeconds: 1,
    });
  }

  /** Records what foreign code did to the list, or that a place a reader knows is gone. false: no such session. */
  async touch(owner: string, key: string, witness: Cursor | null): Promise<boolean> {
    const answer = await this.#run("touch", owner, key, null, cursorArgs(witness));
    if (answer[0] === "NOT_FOUND") return false;
    const head = headOf(answer[1]);
    this.#note(owner, key, head);
    return true;
  }

  /** Both in one piece: foreign code that writes without a pause would get between them each time. null: no such session. */
  async #touchAndView(owner: string, key: string, args: Args): Promise<readonly Reply[] | null> {
    const calls = [this.#call("touch", owner, key, null, cursorArgs(null)), this.#call("view", owner, key, null, args)];
    const [touched, viewed] = await guarded(this.#scripts.runTogether(calls));
    if (!touched || !viewed || touched[0] === "NOT_FOUND") return null;
    refuseCorrupt(key, touched);
    refuseCorrupt(key, viewed);
    this.#note(owner, key, headOf(touched[1]));
    return viewed;
  }

  /** true: it was nobody's and is this owner's now. */
  async adopt(owner: string, key: string): Promise<boolean> {
    const answer = await this.#run("touch", owner, key, null, cursorArgs(null), [], foreign.adopt);
    if (answer[0] === "NOT_FOUND") return false;
    const head = headOf(answer[1]);
    this.#note(owner, key, head);
    return head.added;
  }

  claim(owner: string, sessionId: string): Promise<boolean> {
    return this.adopt(owner, this.historyKey(sessionId));
  }

  async begin(owner: string, sessionId: string, turn: BeginTurn): Promise<BeginAnswer> {
    const { leaseMs, maxQueuedRuns, memory, memoryRows, model, processId } = this.#settings;
    const key = this.historyKey(sessionId);
    const run = {
      id: turn.runId,
      own: processId,
      rid: turn.replyMessageId,
      model: turn.model ?? "",
      ...(turn.input ? {} : { re: 1 }),
      ...(turn.replaceFrom
        ? { cg: turn.replaceFrom.generation, cp: turn.replaceFrom.position, cm: turn.replaceFrom.mark }
        : {}),
    };
    const { head, middle, tail } = turn.partial;
    this.#index.expect(owner, key, leaseMs, turn.existingOnly !== true);
    const args = [
      JSON.stringify(run),
      turn.input?.head ?? "",
      turn.input?.tail ?? "",
      `${head}\t${middle}\t${tail}`,
      turn.whenBusy,
      maxQueuedRuns,
      leaseMs,
      this.#settings.leaseGraceMs(),
      packMemory(memory),
      memoryRows,
      model,
    ];
    const mode = turn.existingOnly === true ? foreign.existingOnly : undefined;
    const beginning = this.#run("begin", owner, key, { ...turn.op, keptMs: hours25 }, args, [], mode);
    const answer = await beginning.catch((error: unknown) => {
      // It stands, and a retry asks for its reply: somebody has to make that.
      if (error instanceof NotReplicated && error.answer[0] === "STARTED") {
        this.#settings.onStarted(this.#started(owner, key, error.answer));
      }
      throw error;
    });
    switch (answer[0]) {
      case "STARTED":
        return this.#started(owner, key, answer);
      case "QUEUED":
        this.#note(owner, key, headOf(answer[1]));
        return { kind: "queued", runId: stateOf(text(answer[2])).runId };
      case "KNOWN": {
        const result = text(answer[2]);
        return {
          kind: "known",
          fingerprint: text(answer[1]),
          runId: result.startsWith("run:") ? result.slice(4) : null,
        };
      }
      case "BUSY":
        return { kind: "busy", runId: text(answer[1]) };
      case "FULL":
        return { kind: "full" };
      case "EXPIRED":
        return { kind: "expired" };
      case "NOTHING":
        return { kind: "nothing" };
      default:
        // Another's session, perhaps: it must not stay in this owner's list, where it would tell that it is there (P11).
        this.#index.withdraw(owner, key);
        return { kind: "notFound" };
    }
  }

  async attend(key: string, takeAny: boolean): Promise<StartedTurn | null> {
    const { leaseMs, memory, memoryRows, processId } = this.#settings;
    const answer = await this.#run("attend", "*", key, ownOp(), [
      processId,
      this.#settings.leaseGraceMs(),
      takeAny ? 1 : 0,
      leaseMs,
      packMemory(memory),
      memoryRows,
    ]);
    if (answer[0] === "STARTED") {
      const owner = await guarded(this.#redis.hget(sessionKeys(key).session, "owner"));
      return this.#started(owner ?? "", key, answer);
    }
    return null;
  }

  /** When a session needs somebody again, as attend() left it. 0: not at all. */
  async dueAt(key: string): Promise<number> {
    const keys = sessionKeys(key);
    const [active, until] = await guarded(this.#redis.hmget(keys.session, "active", "until"));
    if (active && until) return Number(until);
    const waiting = await guarded(this.#redis.llen(keys.all[4] ?? ""));
    return waiting > 0 ? Date.now() + 1000 : 0;
  }

  async progress(turn: TurnToken, offset: number, fragment: string): Promise<ProgressAnswer> {
    const answer = await this.#run("progress", "*", turn.historyKey, null, [
      turn.runId,
      turn.token,
      offset,
      escapeFragment(fragment),
      fragment.length,
      this.#settings.leaseMs,
    ]);
    if (answer[0] === "OK") return { kind: "ok" };
    return answer[0] === "LENGTH" ? { kind: "length", length: number(answer[1]) } : { kind: "closed" };
  }

  async renew(turn: TurnToken): Promise<boolean> {
    const answer = await this.#run("renew", "*", turn.historyKey, null, [
      turn.runId,
      turn.token,
      this.#settings.leaseMs,
    ]);
    return answer[0] === "OK";
  }

  async finish(turn: StartedTurn, end: TurnEnd, op: string): Promise<void> {
    const usage = end.kind === "completed" ? end.usage : null;
    const reply = end.kind === "completed" ? end.reply : { head: "", tail: "" };
    const error = end.kind === "failed" ? end.error : null;
    const answer = await this.#run("finish", "*", turn.historyKey, { id: op, fingerprint: "", keptMs: minutes10 }, [
      turn.runId,
      turn.token,
      end.kind === "completed" ? "COMPLETED" : "FAILED",
      reply.head,
      reply.tail,
      escapeFragment(end.text),
      usage?.inputTokens ?? "",
      usage?.outputTokens ?? "",
      usage?.totalTokens ?? "",
      error?.code ?? "",
      error?.message ?? "",
      error?.retryable ? 1 : 0,
    ]);
    if (answer[0] !== "NOT_FOUND") this.#note(turn.owner, turn.historyKey, headOf(answer[1]));
  }

  async cancel(owner: string, sessionId: string, runId: string): Promise<void> {
    await this.#write("cancel", owner, sessionId, ownOp(), [runId], "run");
  }

  async append(
    owner: string,
    sessionId: string,
    messages: readonly AppendMessage[],
    op: Op,
    existingOnly = false,
  ): Promise<readonly Place[]> {
    const rows = messages.flatMap(({ op: own, row }) => {
      return [this.#opId(owner, own?.id ?? ""), own?.fingerprint ?? "", row.head, row.tail];
    });
    const key = this.historyKey(sessionId);
    const args = [messages.length, ...rows];
    const mode = existingOnly ? foreign.existingOnly : undefined;
    const answer = await this.#run("append", owner, key, { ...op, keptMs: hours25 }, args, [], mode);
    if (answer[0] === "NOT_FOUND") throw notFound();
    if (answer[0] === "REUSED") throw messageIdReused();
    this.#note(owner, key, headOf(answer[1]));
    return answer.slice(2).map((place) => {
      const [position, mark] = text(place).split(" ");
      return { position: Number(position), mark: mark ?? "" };
    });
  }

  async create(owner: string, sessionId: string, record: NewRecord, op: Op): Promise<void> {
    const ttl = record.ttlSeconds === undefined ? this.#settings.ttlSeconds : record.ttlSeconds;
    await this.#make("create", owner, sessionId, op, [ttl ?? "", ...recordFields(record)]);
  }

  async update(owner: string, sessionId: string, change: RecordChange): Promise<void> {
    const drops = dropsOf(change);
    const ttl = change.ttlSeconds;
    await this.#write("update", owner, sessionId, ownOp(), [
      ttl === undefined ? 0 : 1,
      ttl ?? "",
      drops.length,
      ...drops,
      ...recordFields(change),
    ]);
  }

  async markRead(owner: string, sessionId: string, through: Cursor | null): Promise<void> {
    await this.#write("mark-read", owner, sessionId, ownOp(), cursorArgs(through));
  }

  async saveSummary(key: string, at: Cursor, summary: string): Promise<void> {
    await this.#run("summary", "*", key, null, [...cursorArgs(at), summary]);
  }

  async clear(owner: string, sessionId: string): Promise<void> {
    await this.#write("clear", owner, sessionId, ownOp(), []);
  }

  async remove(owner: string, sessionId: string): Promise<void> {
    const key = this.historyKey(sessionId);
    const answer = await this.#run("remove", owner, key, ownOp(), []);
    if (answer[0] === "NOT_FOUND") throw notFound();
    this.#index.forget(owner, key);
    this.#index.settled(key);
  }

  async fork(
    owner: string,
    source: Session,
    through: Cursor | null,
    sessionId: string,
    title: string | null,
    op: Op,
  ): Promise<void> {
    const target = this.historyKey(sessionId);
    const keys = sessionKeys(target);
    const staging = keys.staging(randomUUID());
    const last = through ? through.position : source.end - 1;
    let staged = 0;
    for (let from = source.base; from <= last; from += forkChunk) {
      const reading = await this.read(owner, source.sessionId, {
        pages: [],
        ranges: [[from, Math.min(from + forkChunk - 1, last)]],
      });
      if (!reading || reading.session.generation !== source.generation) throw cursorExpired();
      const rows = reading.ranges[0] ?? [];
      if (rows.length === 0) break;
      await guarded(this.#redis.lpush(staging, ...rows.map((row) => row.raw)));
      // Left behind by a process that died, the copy goes away by itself.
      await guarded(this.#redis.expire(staging, 600));
      staged += rows.length;
    }
    const settings = recordFields({
      title,
      instructions: source.instructions,
      model: source.model,
      memory: source.memory,
      metadata: source.metadata,
    });
    const ttl = source.ttlSeconds === null ? [] : ["ttl", source.ttlSeconds];
    await this.#make("fork", owner, sessionId, op, [staged, "fork", source.sessionId, ...ttl, ...settings], [staging]);
  }

  /** Puts an archived session, whose rows lie at `staging`, in its place. See lua/restore.lua. */
  async restore(
    owner: string,
    { sessionId, generation, base, record }: ArchivedSession,
    copy: StagedCopy,
  ): Promise<"restored" | "known" | "refused"> {
    const key = this.historyKey(sessionId);
    const { rows, digest, replace, livesUntil, staging } = copy;
    const args = [rows, digest, replace ? 1 : 0, generation, base, livesUntil ?? "", ...Object.entries(record).flat()];
    const answer = await this.#run("restore", owner, key, ownOp(), args, [staging]);
    switch (answer[0]) {
      case "OK":
        this.#note(owner, key, headOf(answer[1]));
        return "restored";
      case "KNOWN":
        return "known";
      case "STAGING":
        throw new Error("The copy of a session is not whole. Import it again.");
      default:
        return "refused";
    }
  }

  list(owner: string, query: ListQuery): Promise<readonly ListPlace[]> {
    return this.#index.list(owner, query);
  }

  forget(owner: string, sessionId: string): void {
    this.#index.forget(owner, this.historyKey(sessionId));
  }

  /** A session whose turn is free while a run of this process waits in it is handed to `onTurnFree` at once. */
  #note(owner: string, key: string, head: Head): void {
    this.#index.note(owner, key, head);
    if (head.free && head.nextOwner === this.#settings.processId) this.#settings.onTurnFree(key);
  }

  #started(owner: string, key: string, answer: readonly Reply[]): StartedTurn {
    const [, head, state, inputRow, memory, instructions, summary, low, rows] = answer;
    const run = stateOf(text(state));
    this.#note(owner, key, headOf(head));
    return {
      kind: "started",
      owner,
      sessionId: key.slice(this.#settings.historyKeyPrefix.length),
      historyKey: key,
      runId: run.runId,
      token: run.token,
      state: run,
      inputRow: text(inputRow),
      memory: memoryOf(text(memory)),
      instructions: text(instructions) || null,
      summary: text(summary) || null,
      low: number(low),
      rows: list(rows).map(text).reverse(),
    };
  }

  async #write(
    script: SessionScript,
    owner: string,
    sessionId: string,
    op: FullOp,
    args: Args,
    what?: string,
  ): Promise<void> {
    const key = this.historyKey(sessionId);
    const answer = await this.#run(script, owner, key, op, args);
    if (answer[0] === "NOT_FOUND") throw notFound(what);
    if (answer[0] === "EXPIRED") throw cursorExpired();
    this.#note(owner, key, headOf(answer[1]));
  }

  async #make(
    script: SessionScript,
    owner: string,
    sessionId: string,
    op: Op,
    args: Args,
    more: readonly string[] = [],
  ): Promise<void> {
    const key = this.historyKey(sessionId);
    const answer = await this.#run(script, owner, key, { ...op, keptMs: hours25 }, args, more);
    switch (answer[0]) {
      case "OK":
        this.#note(owner, key, headOf(answer[1]));
        return;
      case "KNOWN":
        if (text(answer[1]) === op.fingerprint) return;
        throw new ParleyError("SESSION_EXISTS", "This idempotencyKey was used for another session.");
      case "NOT_FOUND":
        throw notFound();
      case "STAGING":
        throw new ParleyError("STORE_UNAVAILABLE", "The copy was not complete in time. Try again.", {
          retryAfterSeconds: 1,
        });
      default:
        throw new ParleyError("SESSION_EXISTS", "This session id is taken. Choose another, or leave it out.");
    }
  }

  async #run(
    script: SessionScript,
    owner: string,
    key: string,
    op: FullOp | null,
    args: Args,
    more: readonly string[] = [],
    mode?: ForeignMode,
  ): Promise<readonly Reply[]> {
    const call = this.#call(script, owner, key, op, args, more, mode);
    const { durable } = this.#settings;
    const running =
      durable && sessionScripts[script] !== "reads" && !passing.has(script)
        ? durable.run(call)
        : this.#scripts.run(call.name, call.keys, call.args);
    const answer = await guarded(running);
    refuseCorrupt(key, answer);
    return answer;
  }

  /**
   * Where there are several owners each has ops of its own: they outlive the session, and who is given its id later must
   * not meet what another did under it (P8, P11).
   */
  #opId(owner: string, id: string): string {
    return id === "" || owner === "*" || this.#settings.adopts ? id : `${markOf(owner)}:${id}`;
  }

  #call(
    name: SessionScript,
    owner: string,
    key: string,
    op: FullOp | null,
    args: Args,
    more: readonly string[] = [],
    mode: ForeignMode = this.#settings.adopts ? foreign.adopt : foreign.leave,
  ): ScriptCall {
    const { maxMessages, ttlSeconds } = this.#settings;
    const publish = this.#redis instanceof Cluster ? "SPUBLISH" : "PUBLISH";
    const kept = maxMessages === null ? "" : `:${maxMessages}`;
    const common = [publish, owner, `${mode}${kept}`, ttlSeconds ?? ""];
    const opArgs = [this.#opId(owner, op?.id ?? ""), op?.fingerprint ?? "", op?.keptMs ?? ""];
    return { name, keys: [...sessionKeys(key).all, ...more], args: [...common, ...opArgs, ...args] };
  }
}

/** What a script makes of a session that has no record (ARGV 3). */
const foreign = { leave: 0, adopt: 1, existingOnly: 2 } as const;
type ForeignMode = (typeof foreign)[keyof typeof foreign];

/** What may be lost with a primary without anybody having been told otherwise: it is made again. */
const passing: ReadonlySet<SessionScript> = new Set(["progress", "renew", "touch", "summary", "attend"]);

function refuseCorrupt(key: string, answer: readonly Reply[]): void {
  if (answer[0] === "CORRUPT") throw new Error(`A key of session ${JSON.stringify(key)} holds a foreign type`);
}

type Args = readonly (string | number)[];

interface FullOp extends Op {
  readonly keptMs: number;
}

function ownOp(): FullOp {
  return { id: `i:${randomUUID()}`, fingerprint: "", keptMs: minutes10 };
}

function cursorArgs(cursor: Cursor | null): readonly [string | number, string | number, string] {
  return cursor ? [cursor.generation, cursor.position, cursor.mark] : ["", "", ""];
}

export function invalidCursor(): ParleyError {
  return new ParleyError(
    "INVALID_CURSOR",
    "This is not a cursor of this session. Use a cursor that it gave out, unchanged.",
  );
}

export function messageIdReused(): ParleyError {
  return new ParleyError(
    "MESSAGE_ID_REUSED",
    "This messageId or idempotencyKey was used with other content. Choose a new one for a new message.",
  );
}

function pageArgs(historyKey: string, page: PageRequest): Args | Error {
  const places: (readonly [string | number, string | number, string])[] = [];
  for (const cursor of [page.after, page.before]) {
    if (cursor === null || cursor === "") {
      places.push(cursorArgs(null));
      continue;
    }
    const parsed = parseCursor(historyKey, cursor);
    if (!parsed) return invalidCursor();
    places.push(cursorArgs(parsed));
  }
  return [page.first === null ? "last" : "first", page.first ?? page.last ?? 50, ...places.flat()];
}

/** Field, value, … of what is set; what goes back to its default is in dropsOf. */
function recordFields(record: RecordChange): readonly (string | number)[] {
  const fields: (string | number)[] = [];
  const put = (name: string, value: string | number | null | undefined) => {
    if (value !== null && value !== undefined) fields.push(name, value);
  };
  put("title", record.title);
  put("instructions", record.instructions);
  put("model", record.model);
  if (record.memory) {
    put("mem", record.memory.strategy);
    put("memTurns", record.memory.maxTurns ?? "");
    put("memTokens", record.memory.maxTokens ?? "");
  }
  put("metadata", record.metadata ? JSON.stringify(record.metadata) : null);
  if (record.archived !== undefined) put("archived", record.archived ? 1 : 0);
  return fields;
}

function dropsOf(change: RecordChange): readonly string[] {
  const drops: string[] = [];
  if (change.title === null) drops.push("title");
  if (change.instructions === null) drops.push("instructions");
  if (change.model === null) drops.push("model");
  if (change.metadata === null) drops.push("metadata");
  if (change.memory === null) drops.push("mem", "memTurns", "memTokens");
  return drops;
}
