import { randomUUID } from "node:crypto";
import type { ArchivedSession } from "../../conversation/message/archive.ts";
import type { Anchor, Cursor } from "../../conversation/message/cursor.ts";
import { messageIdReused, notFound } from "../../conversation/errors.ts";
import type { Session } from "../../conversation/session.ts";
import type {
  AppendMessage,
  Attended,
  BeginAnswer,
  BeginTurn,
  FinishedTurn,
  ListPlace,
  ListQuery,
  LogBatch,
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
} from "../../conversation/ports/store.ts";
import type { Client } from "../client/connection.ts";
import { cursorArgs } from "../scripts/cursor-args.ts";
import { guarded } from "../client/failure.ts";
import { stageFork } from "./fork-copy.ts";
import { sessionKeys, sharedKeys, type SharedKeys } from "./keys.ts";
import { dropsOf, recordFields } from "../scripts/record-fields.ts";
import { RecentReadings } from "./recent-readings.ts";
import { headOf, text } from "../scripts/replies.ts";
import type { Scripts } from "../scripts/scripts.ts";
import { callersOp, foreign, ownOp, SessionCalls, type CallSettings } from "../scripts/session-calls.ts";
import type { SessionIndex } from "./session-index.ts";
import { readSession, viewClock, type Absent } from "./session-reading.ts";
import type { SessionRoom } from "./session-room.ts";
import { SessionTurns, type TurnSettings } from "./session-turns.ts";

export interface StoreSettings extends CallSettings, TurnSettings {
  /** Whether an owner may start another session; left out: always. */
  readonly room?: SessionRoom | null;
}

/** Rows of an archived session, copied into its slot. */
export interface StagedCopy {
  readonly staging: string;
  readonly rows: number;
  readonly digest: string;
  readonly replace: boolean;
  /** When the list is to expire, in ms since the epoch, where that is not the session's own sliding life. */
  readonly livesUntil: number | null;
  /** The session's count of writes at which it has these rows already; null: it has others, or is not there. */
  readonly sameAt: number | null;
}

/** Memory for readings that are made again and again: some hundred pages of 50 messages. */
const recentBytes = 64 * 1024 * 1024;

export class RedisSessionStore implements SessionStore {
  readonly shared: SharedKeys;
  readonly #redis: Client;
  readonly #index: SessionIndex;
  readonly #calls: SessionCalls;
  readonly #turns: SessionTurns;
  readonly #settings: StoreSettings;
  readonly #recent = new RecentReadings(recentBytes, viewClock);

  constructor(redis: Client, scripts: Scripts, index: SessionIndex, settings: StoreSettings) {
    this.shared = sharedKeys(settings.historyKeyPrefix);
    this.#redis = redis;
    this.#index = index;
    this.#calls = new SessionCalls(redis, scripts, index, settings);
    this.#turns = new SessionTurns(this.#calls, index, settings);
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
    const found = await this.find(owner, sessionId, request);
    return typeof found === "string" ? null : found;
  }

  /** read(), and why there is nothing to read. */
  find(owner: string, sessionId: string, request: StoreRead): Promise<Reading | Absent> {
    return readSession(this.#calls, owner, sessionId, this.historyKey(sessionId), request, this.#recent);
  }

  /** Records what foreign code did to the list, or that a place a reader knows is gone. false: no such session. */
  async touch(owner: string, key: string, witness: Cursor | null): Promise<boolean> {
    const answer = await this.#calls.run("touch", owner, key, null, cursorArgs(witness));
    if (answer[0] === "NOT_FOUND") return false;
    const head = headOf(answer[1]);
    this.#calls.note(owner, key, head);
    return true;
  }

  /** true: it was nobody's and is this owner's now. */
  async adopt(owner: string, key: string): Promise<boolean> {
    const answer = await this.#calls.run("touch", owner, key, null, cursorArgs(null), { mode: foreign.adopt });
    if (answer[0] === "NOT_FOUND") return false;
    const head = headOf(answer[1]);
    this.#calls.note(owner, key, head);
    return head.added;
  }

  claim(owner: string, sessionId: string): Promise<boolean> {
    return this.adopt(owner, this.historyKey(sessionId));
  }

  begin(owner: string, sessionId: string, turn: BeginTurn): Promise<BeginAnswer> {
    const key = this.historyKey(sessionId);
    if (turn.existingOnly === true) return this.#turns.begin(owner, key, turn);
    return this.#starting(owner, async (full) => {
      const answer = await this.#turns.begin(owner, key, full ? { ...turn, existingOnly: true } : turn);
      if (full && answer.kind === "notFound") throw full.refusal();
      return answer;
    });
  }

  attend(key: string, takeAny: boolean): Promise<Attended> {
    return this.#turns.attend(key, takeAny);
  }

  progress(turn: TurnToken, offset: number, fragment: string, log?: LogBatch): Promise<ProgressAnswer> {
    return this.#turns.progress(turn, offset, fragment, log);
  }

  renew(turn: TurnToken): Promise<boolean> {
    return this.#turns.renew(turn);
  }

  finish(turn: StartedTurn, end: TurnEnd, op: string): Promise<FinishedTurn> {
    return this.#turns.finish(turn, end, op);
  }

  async cancel(owner: string, sessionId: string, runId: string): Promise<void> {
    await this.#calls.write("cancel", owner, this.historyKey(sessionId), ownOp(), [runId], { what: "run" });
  }

  async append(
    owner: string,
    sessionId: string,
    messages: readonly AppendMessage[],
    op: Op,
    existingOnly = false,
  ): Promise<readonly Place[]> {
    const rows = messages.flatMap(({ op: own, row }) => {
      return [this.#calls.opId(owner, own?.id ?? ""), own?.fingerprint ?? "", row.head, row.tail];
    });
    const key = this.historyKey(sessionId);
    const args = [messages.length, ...rows];
    const run = async (full: SessionRoom | null) => {
      const mode = existingOnly || full ? foreign.existingOnly : undefined;
      const appended = await this.#calls.run("append", owner, key, callersOp(op), args, { mode });
      if (appended[0] === "NOT_FOUND") throw full?.refusal() ?? notFound();
      if (appended[0] !== "REUSED") this.#calls.note(owner, key, headOf(appended[1]));
      return appended;
    };
    const answer = await (existingOnly ? run(null) : this.#starting(owner, run));
    if (answer[0] === "REUSED") throw messageIdReused();
    return answer.slice(2).map((place) => {
      const [position, mark] = text(place).split(" ");
      return { position: Number(position), mark: mark ?? "" };
    });
  }

  async create(owner: string, sessionId: string, record: NewRecord, op: Op): Promise<void> {
    const ttl = record.ttlSeconds === undefined ? this.#settings.ttlSeconds : record.ttlSeconds;
    const args = [ttl ?? "", ...recordFields(record)];
    const key = this.historyKey(sessionId);
    await this.#starting(owner, (full) => this.#calls.make("create", owner, key, op, args, { full }));
  }

  async update(owner: string, sessionId: string, change: RecordChange): Promise<void> {
    const drops = dropsOf(change);
    const ttl = change.ttlSeconds;
    await this.#calls.write("update", owner, this.historyKey(sessionId), ownOp(), [
      ttl === undefined ? 0 : 1,
      ttl ?? "",
      drops.length,
      ...drops,
      ...recordFields(change),
    ]);
  }

  async giveTitle(owner: string, sessionId: string, generation: number, title: string): Promise<void> {
    const key = this.historyKey(sessionId);
    const answer = await this.#calls.run("title", owner, key, ownOp(), [generation, title]);
    if (answer[0] === "OK") this.#calls.note(owner, key, headOf(answer[1]));
  }

  async markRead(owner: string, sessionId: string, through: Anchor | null): Promise<void> {
    const args = this.#calls.anchorArgs(owner, through);
    await this.#calls.write("mark-read", owner, this.historyKey(sessionId), ownOp(), args, { through });
  }

  async saveSummary(key: string, at: Cursor, summary: string): Promise<void> {
    await this.#calls.run("summary", "*", key, null, [...cursorArgs(at), summary]);
  }

  async clear(owner: string, sessionId: string): Promise<void> {
    await this.#calls.write("clear", owner, this.historyKey(sessionId), ownOp(), []);
  }

  async remove(owner: string, sessionId: string): Promise<void> {
    const key = this.historyKey(sessionId);
    const answer = await this.#calls.run("remove", owner, key, ownOp(), []);
    if (answer[0] === "NOT_FOUND") throw notFound();
    this.#index.forget(owner, key);
  }

  async fork(
    owner: string,
    source: Session,
    through: Place | null,
    sessionId: string,
    title: string | null,
    op: Op,
  ): Promise<void> {
    const target = this.historyKey(sessionId);
    const staging = sessionKeys(target).staging(randomUUID());
    const last = through ?? { position: source.end - 1, mark: source.tipMark };
    const settings = recordFields({
      title,
      instructions: source.instructions,
      model: source.model,
      memory: source.memory,
      metadata: source.metadata,
    });
    const ttl = source.ttlSeconds === null ? [] : ["ttl", source.ttlSeconds];
    await this.#starting(owner, async (full) => {
      // Where there is no room only a retry gets an answer, and that needs no copy.
      const staged = full ? 0 : await stageFork(this.#redis, this.#calls, owner, source, last, staging);
      const args = [staged, "fork", source.sessionId, ...ttl, ...settings];
      await this.#calls.make("fork", owner, target, op, args, { staging, full });
    });
  }

  /** Does what may start a session. `full`: it may not, and says why. */
  #starting<T>(owner: string, act: (full: SessionRoom | null) => Promise<T>): Promise<T> {
    const { room = null } = this.#settings;
    return room ? room.starting(owner, (isFull) => act(isFull ? room : null)) : act(null);
  }

  /** Makes a session another owner's. false: it is not the first one's. */
  async give(from: string, to: string, sessionId: string): Promise<boolean> {
    const key = this.historyKey(sessionId);
    const answer = await this.#calls.run("give", from, key, ownOp(), [to]);
    if (answer[0] === "NOT_FOUND") return false;
    this.#calls.note(to, key, { ...headOf(answer[1]), added: true });
    this.#index.forget(from, key);
    return true;
  }

  /** Puts an archived session, whose rows lie at `staging`, in its place. See lua/restore.lua. */
  async restore(
    owner: string,
    { sessionId, generation, base, record }: ArchivedSession,
    copy: StagedCopy,
  ): Promise<"restored" | "known" | "refused"> {
    const key = this.historyKey(sessionId);
    const { rows, digest, replace, livesUntil, sameAt, staging } = copy;
    const own = [rows, digest, replace ? 1 : 0, generation, base, livesUntil ?? "", sameAt ?? ""];
    const args = [...own, ...Object.entries(record).flat()];
    const answer = await this.#calls.run("restore", owner, key, ownOp(), args, { staging });
    switch (answer[0]) {
      case "OK":
        this.#calls.note(owner, key, headOf(answer[1]));
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

  async settle(sessionId: string): Promise<void> {
    const { durable } = this.#settings;
    if (durable) await guarded(durable.settle(sessionKeys(this.historyKey(sessionId)).all));
  }

  forget(owner: string, sessionId: string): void {
    this.#index.forget(owner, this.historyKey(sessionId));
  }
}
