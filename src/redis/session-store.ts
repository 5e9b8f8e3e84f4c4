import { randomUUID } from "node:crypto";
import type { ArchivedSession } from "../conversation/archive.ts";
import type { Cursor } from "../conversation/cursor.ts";
import { messageIdReused, notFound } from "../conversation/errors.ts";
import type { Session } from "../conversation/session.ts";
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
import type { Client } from "./connection.ts";
import { cursorArgs } from "./cursor-args.ts";
import { stageFork } from "./fork-copy.ts";
import { sessionKeys } from "./keys.ts";
import { dropsOf, recordFields } from "./record-fields.ts";
import { headOf, text } from "./replies.ts";
import type { Scripts } from "./scripts.ts";
import { callersOp, foreign, ownOp, SessionCalls, type CallSettings } from "./session-calls.ts";
import type { SessionIndex } from "./session-index.ts";
import { readSession } from "./session-reading.ts";
import { SessionTurns, type TurnSettings } from "./session-turns.ts";

export interface StoreSettings extends CallSettings, TurnSettings {}

/** Rows of an archived session, copied into its slot. */
export interface StagedCopy {
  readonly staging: string;
  readonly rows: number;
  readonly digest: string;
  readonly replace: boolean;
  /** When the list is to expire, in ms since the epoch, where that is not the session's own sliding life. */
  readonly livesUntil: number | null;
}

export class RedisSessionStore implements SessionStore {
  readonly #redis: Client;
  readonly #index: SessionIndex;
  readonly #calls: SessionCalls;
  readonly #turns: SessionTurns;
  readonly #settings: StoreSettings;

  constructor(redis: Client, scripts: Scripts, index: SessionIndex, settings: StoreSettings) {
    this.#redis = redis;
    this.#index = index;
    this.#calls = new SessionCalls(redis, scripts, index, settings);
    this.#turns = new SessionTurns(redis, this.#calls, index, settings);
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

  read(owner: string, sessionId: string, request: StoreRead): Promise<Reading | null> {
    return readSession(this.#calls, owner, sessionId, this.historyKey(sessionId), request);
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
    return this.#turns.begin(owner, this.historyKey(sessionId), turn);
  }

  attend(key: string, takeAny: boolean): Promise<StartedTurn | null> {
    return this.#turns.attend(key, takeAny);
  }

  /** When a session needs somebody again, as attend() left it. 0: not at all. */
  dueAt(key: string): Promise<number> {
    return this.#turns.dueAt(key);
  }

  progress(turn: TurnToken, offset: number, fragment: string): Promise<ProgressAnswer> {
    return this.#turns.progress(turn, offset, fragment);
  }

  renew(turn: TurnToken): Promise<boolean> {
    return this.#turns.renew(turn);
  }

  finish(turn: StartedTurn, end: TurnEnd, op: string): Promise<void> {
    return this.#turns.finish(turn, end, op);
  }

  async cancel(owner: string, sessionId: string, runId: string): Promise<void> {
    await this.#calls.write("cancel", owner, this.historyKey(sessionId), ownOp(), [runId], "run");
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
    const mode = existingOnly ? foreign.existingOnly : undefined;
    const answer = await this.#calls.run("append", owner, key, callersOp(op), args, { mode });
    if (answer[0] === "NOT_FOUND") throw notFound();
    if (answer[0] === "REUSED") throw messageIdReused();
    this.#calls.note(owner, key, headOf(answer[1]));
    return answer.slice(2).map((place) => {
      const [position, mark] = text(place).split(" ");
      return { position: Number(position), mark: mark ?? "" };
    });
  }

  async create(owner: string, sessionId: string, record: NewRecord, op: Op): Promise<void> {
    const ttl = record.ttlSeconds === undefined ? this.#settings.ttlSeconds : record.ttlSeconds;
    await this.#calls.make("create", owner, this.historyKey(sessionId), op, [ttl ?? "", ...recordFields(record)]);
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

  async markRead(owner: string, sessionId: string, through: Cursor | null): Promise<void> {
    await this.#calls.write("mark-read", owner, this.historyKey(sessionId), ownOp(), cursorArgs(through));
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
    const staging = sessionKeys(target).staging(randomUUID());
    const last = through ? through.position : source.end - 1;
    const staged = await stageFork(this.#redis, this.#calls, owner, source, last, staging);
    const settings = recordFields({
      title,
      instructions: source.instructions,
      model: source.model,
      memory: source.memory,
      metadata: source.metadata,
    });
    const ttl = source.ttlSeconds === null ? [] : ["ttl", source.ttlSeconds];
    const args = [staged, "fork", source.sessionId, ...ttl, ...settings];
    await this.#calls.make("fork", owner, target, op, args, { staging });
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

  forget(owner: string, sessionId: string): void {
    this.#index.forget(owner, this.historyKey(sessionId));
  }
}
