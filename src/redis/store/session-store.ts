import type { Anchor, Cursor } from "../../conversation/message/cursor.ts";
import { notFound } from "../../conversation/errors.ts";
import type {
  AppendMessage,
  BeginAnswer,
  BeginTurn,
  NewRecord,
  Op,
  Place,
  Reading,
  RecordChange,
  SessionStore,
  StoreRead,
  TurnToken,
} from "../../conversation/ports/store.ts";
import type { Client } from "../client/connection.ts";
import { guarded } from "../client/failure.ts";
import {
  cursorArgs,
  dropsOf,
  recordFields,
  callersOp,
  foreign,
  ownOp,
  SessionCalls,
  type StoreSettings,
} from "../scripts/session-calls.ts";
import { compare, type Followed } from "../scripts/reading/compare.ts";
import { view, type Absent } from "../scripts/reading/view.ts";
import { headOf } from "../scripts/replies.ts";
import type { Scripts } from "../scripts/scripts.ts";
import { checkpoint } from "../scripts/checkpoints/checkpoint.ts";
import { fork } from "../scripts/session/fork.ts";
import { restore } from "../scripts/session/restore.ts";
import { touch } from "../scripts/session/touch.ts";
import { append } from "../scripts/turn/append.ts";
import { attend } from "../scripts/turn/attend.ts";
import { begin } from "../scripts/turn/begin.ts";
import { finish } from "../scripts/turn/finish.ts";
import { progress } from "../scripts/turn/progress.ts";
import { claimCalls, respond, waiting } from "../scripts/steps/respond.ts";
import { answer, step } from "../scripts/steps/step.ts";
import { sessionKeys, sharedKeys, type SharedKeys } from "./keys.ts";
import type { SessionIndex } from "./session-index.ts";

type Rest<Call> = Call extends (calls: SessionCalls, ...rest: infer Others) => unknown ? Others : never;

/** The conversations in Redis. Each write is one script, whose function lies beside it in ../scripts/ where it says more than its arguments. */
export class RedisSessionStore implements SessionStore {
  readonly shared: SharedKeys;
  readonly #calls: SessionCalls;

  constructor(redis: Client, scripts: Scripts, index: SessionIndex, settings: StoreSettings) {
    this.shared = sharedKeys(settings.historyKeyPrefix);
    this.#calls = new SessionCalls(redis, scripts, index, settings);
  }

  readonly attend: SessionStore["attend"] = (...args) => attend(this.#calls, ...args);
  readonly progress: SessionStore["progress"] = (...args) => progress(this.#calls, ...args);
  readonly step: SessionStore["step"] = (...args) => step(this.#calls, ...args);
  readonly wait: SessionStore["wait"] = (...args) => step(this.#calls, ...args);
  readonly claimCalls: SessionStore["claimCalls"] = (...args) => claimCalls(this.#calls, ...args);
  readonly answer: SessionStore["answer"] = (...args) => answer(this.#calls, ...args);
  readonly finish: SessionStore["finish"] = (...args) => finish(this.#calls, ...args);
  readonly fork: SessionStore["fork"] = (...args) => fork(this.#calls, ...args);
  readonly checkpoint = (...args: Rest<typeof checkpoint>) => checkpoint(this.#calls, ...args);
  readonly restore = (...args: Rest<typeof restore>) => restore(this.#calls, ...args);
  readonly list: SessionStore["list"] = (...args) => this.#calls.index.list(...args);

  /** Redis was lost, and is back. */
  grantGrace(): void {
    this.#calls.grantGrace();
  }

  historyKey(sessionId: string): string {
    return this.#calls.historyKey(sessionId);
  }

  /** null: a key of another prefix. */
  sessionIdOf(key: string): string | null {
    return key.startsWith(this.historyKey("")) ? this.#calls.sessionIdOf(key) : null;
  }

  async read(owner: string, sessionId: string, request: StoreRead): Promise<Reading | null> {
    const found = await this.find(owner, sessionId, request);
    if (found === "same" && request.known !== undefined) request.known.isSame = true;
    return typeof found === "string" ? null : found;
  }

  /** read(), and why there is nothing to read. */
  find(owner: string, sessionId: string, request: StoreRead): Promise<Reading | Absent> {
    return view(this.#calls, owner, sessionId, request);
  }

  /** Which of these are no longer as they are known: their places in the list, and their states. In a cluster all are of one slot. */
  compare(sessions: readonly Followed[]): Promise<ReadonlyMap<number, string>> {
    return compare(this.#calls, sessions);
  }

  /** Records what foreign code did to the list, or that a place a reader knows is gone. false: no such session. */
  async touch(owner: string, key: string, witness: Cursor | null): Promise<boolean> {
    return (await touch(this.#calls, { owner, key }, witness)) !== null;
  }

  /** true: it was nobody's and is this owner's now. */
  async adopt(owner: string, key: string): Promise<boolean> {
    return (await touch(this.#calls, { owner, key, mode: foreign.adopt }))?.added ?? false;
  }

  claim(owner: string, sessionId: string): Promise<boolean> {
    return this.adopt(owner, this.historyKey(sessionId));
  }

  begin(owner: string, sessionId: string, turn: BeginTurn): Promise<BeginAnswer> {
    const key = this.historyKey(sessionId);
    if (turn.existingOnly === true) return begin(this.#calls, owner, key, turn);
    return this.#calls.starting(owner, async (full) => {
      const answer = await begin(this.#calls, owner, key, full ? { ...turn, existingOnly: true } : turn);
      if (full && answer.kind === "notFound") throw full.refusal();
      return answer;
    });
  }

  async renew({ historyKey, runId, token }: TurnToken): Promise<boolean> {
    const { leaseMs } = this.#calls.settings;
    return (await this.#calls.run("renew", { owner: "*", key: historyKey }, { runId, token, leaseMs })).code === "OK";
  }

  readonly waiting: SessionStore["waiting"] = (owner, sessionId, ...args) =>
    waiting(this.#calls, owner, this.historyKey(sessionId), ...args);

  readonly respond: SessionStore["respond"] = (owner, sessionId, ...args) =>
    respond(this.#calls, owner, this.historyKey(sessionId), ...args);

  async cancel(owner: string, sessionId: string, runId: string): Promise<void> {
    await this.#calls.write("cancel", this.#target(owner, sessionId), { runId }, { what: "run" });
  }

  append(
    owner: string,
    sessionId: string,
    messages: readonly AppendMessage[],
    op: Op,
    existingOnly = false,
  ): Promise<readonly Place[]> {
    const key = this.historyKey(sessionId);
    if (existingOnly) return append(this.#calls, owner, key, messages, op, true, null);
    return this.#calls.starting(owner, (full) => append(this.#calls, owner, key, messages, op, false, full));
  }

  async create(owner: string, sessionId: string, record: NewRecord, op: Op): Promise<void> {
    const ttl = (record.ttlSeconds === undefined ? this.#calls.settings.ttlSeconds : record.ttlSeconds) ?? "";
    const target = { ...this.#target(owner, sessionId), op: callersOp(op) };
    await this.#calls.starting(owner, (full) =>
      this.#calls.make("create", target, { ttl, record: recordFields(record) }, full),
    );
  }

  async update(owner: string, sessionId: string, change: RecordChange): Promise<void> {
    const { ttlSeconds } = change;
    await this.#calls.write("update", this.#target(owner, sessionId), {
      setsTtl: ttlSeconds === undefined ? 0 : 1,
      ttl: ttlSeconds ?? "",
      drops: dropsOf(change).join(),
      record: recordFields(change),
    });
  }

  async giveTitle(owner: string, sessionId: string, generation: number, title: string): Promise<void> {
    const target = this.#target(owner, sessionId);
    const answer = await this.#calls.run("title", { ...target, op: ownOp() }, { generation, title });
    if (answer.code === "OK") this.#calls.note(owner, target.key, headOf(answer.head));
  }

  async markRead(owner: string, sessionId: string, through: Anchor | null): Promise<void> {
    const [kind, where, what] = this.#calls.anchorArgs(owner, through);
    await this.#calls.write("mark-read", this.#target(owner, sessionId), { kind, where, what }, { through });
  }

  async saveSummary(key: string, at: Cursor, text: string): Promise<void> {
    const [generation, position, rowMark] = cursorArgs(at);
    await this.#calls.run("summary", { owner: "*", key }, { generation, position, rowMark, text });
  }

  async clear(owner: string, sessionId: string): Promise<void> {
    await this.#calls.write("clear", { ...this.#target(owner, sessionId), checkpoints: true }, {});
  }

  async remove(owner: string, sessionId: string): Promise<void> {
    const target = { ...this.#target(owner, sessionId), op: ownOp(), checkpoints: true };
    const answer = await this.#calls.run("remove", target, {});
    if (answer.code === "NOT_FOUND") throw notFound();
    this.forget(owner, sessionId);
  }

  /** Makes a session another owner's. false: it is not the first one's. */
  async give(from: string, to: string, sessionId: string): Promise<boolean> {
    const target = { ...this.#target(from, sessionId), op: ownOp() };
    const answer = await this.#calls.run("give", target, { newOwner: to });
    if (answer.code === "NOT_FOUND") return false;
    this.#calls.note(to, target.key, { ...headOf(answer.head), added: true });
    this.forget(from, sessionId);
    return true;
  }

  async settle(sessionId: string): Promise<void> {
    const { durable } = this.#calls.settings;
    if (durable) await guarded(durable.settle(sessionKeys(this.historyKey(sessionId)).all));
  }

  forget(owner: string, sessionId: string): void {
    this.#calls.index.forget(owner, this.historyKey(sessionId));
  }

  #target(owner: string, sessionId: string): { readonly owner: string; readonly key: string } {
    return { owner, key: this.historyKey(sessionId) };
  }
}
