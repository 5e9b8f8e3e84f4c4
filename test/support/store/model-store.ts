import {
  closeLapsed,
  end,
  hasLost,
  humanBelow,
  isOthers,
  moveOps,
  newModelRecord,
  newModelRun,
  placeIn,
  setRows,
  type ModelCode,
  type ModelCursor,
  type ModelRecord,
  type ModelRow,
  type ModelRun,
  type ModelSession,
  type ModelTurn,
} from "./model-session.ts";

/** What the store does, in plain data: one process, no concurrency, no clock, no failures. */
export class ModelStore {
  readonly #sessions = new Map<string, ModelSession>();
  readonly #maxQueued: number;
  #epochs = 0;

  constructor(maxQueued: number) {
    this.#maxQueued = maxQueued;
  }

  at(id: string): ModelSession {
    let session = this.#sessions.get(id);
    if (!session) this.#sessions.set(id, (session = { rows: [], expires: false, record: null, ops: new Map() }));
    return session;
  }

  /** What a reader finds, having met it: null where there is none. */
  meet(id: string): (ModelSession & { readonly record: ModelRecord }) | null {
    const session = this.at(id);
    if (!this.#exists(session)) return null;
    const before = session.record?.recorded;
    const record = this.#reconcile(session);
    if (record.recorded === before && session.rows.length > 0 && !session.expires) record.expires = false;
    return { ...session, record };
  }

  holds(id: string, cursor: ModelCursor): boolean {
    const { record, rows } = this.at(id);
    if (!record?.epochs.has(cursor.epoch)) return false;
    return cursor.row === null || rows[cursor.position] === cursor.row;
  }

  /** Foreign code, which knows of no record. */
  foreign(id: string, change: (rows: readonly ModelRow[]) => readonly ModelRow[]): void {
    const session = this.at(id);
    setRows(session, change(session.rows));
  }

  foreignExpiry(id: string, expires: boolean): void {
    const session = this.at(id);
    session.expires = expires && session.rows.length > 0;
  }

  begin(id: string, process: string, lapsed: boolean, turn: ModelTurn): string {
    const session = this.at(id);
    if (isOthers(session)) return "notFound";
    const known = session.ops.get(turn.op.id);
    if (known) {
      if (!this.#exists(session)) return "notFound";
      if (known.result !== `run:${turn.runId}`) return `known ${known.fingerprint}`;
      const status = session.record?.runs.get(turn.runId)?.status;
      return status === "RUNNING" ? "started" : status === "QUEUED" ? "queued" : `known ${known.fingerprint}`;
    }
    if (!this.#exists(session) && turn.regenerates) return "notFound";
    if (!this.#exists(session) && turn.replaceFrom) return "expired";
    const refused = this.#unwritten(session);
    const there = this.#exists(session) ? this.#reconcile(session) : null;
    if (turn.replaceFrom && !this.holds(id, turn.replaceFrom)) return refused("expired");
    if (turn.regenerates && humanBelow(session.rows, session.rows.length) === null) return refused("nothing");
    const active = there?.active && !there.active.lapsed ? there.active : null;
    const waiting = there?.queue ?? [];
    const run = newModelRun(turn, process);
    if ((active || waiting.length > 0) && turn.whenBusy !== "INTERRUPT") {
      if (turn.whenBusy === "REJECT") return refused(`busy ${active?.id ?? waiting[0]?.id ?? ""}`);
      if (waiting.length >= this.#maxQueued) return refused("full");
      const record = this.#commit(session, turn.op, `run:${run.id}`);
      closeLapsed(record);
      record.runs.set(run.id, run);
      record.queue.push(run);
      return "queued";
    }
    if (turn.regenerates && humanBelow(session.rows, turn.replaceFrom?.position ?? session.rows.length) === null)
      return refused("nothing");
    const record = this.#ensure(session);
    closeLapsed(record);
    if (active) this.#stop(session, active, !turn.regenerates && !turn.replaceFrom);
    record.runs.set(run.id, run);
    this.#start(session, record, run, lapsed);
    this.#commit(session, turn.op, `run:${run.id}`);
    return "started";
  }

  /** The run that starts, or null. */
  attend(id: string, process: string, takeAny: boolean, lapsed: boolean): ModelRun | null {
    const session = this.at(id);
    if (!session.record) return null;
    const record = this.#reconcile(session);
    const lost = closeLapsed(record);
    const [head] = record.queue;
    let run: ModelRun | null = null;
    if (!record.active && head && (head.process === process || takeAny)) {
      record.queue.shift();
      head.process = process;
      const place = head.replaceFrom;
      const holds = place === null || this.holds(id, place);
      if (holds && (!head.regenerates || humanBelow(session.rows, place?.position ?? session.rows.length) !== null)) {
        this.#start(session, record, head, lapsed);
        run = head;
      } else end(head, "FAILED", "OTHER");
      this.#commit(session);
    } else if (lost) this.#commit(session);
    return run;
  }

  progress(id: string, runId: string, token: number, offset: number, text: string, lapsed: boolean): string {
    const session = this.at(id);
    const { record } = session;
    const run = record?.active;
    if (!record || run?.id !== runId || run.token !== token) return "closed";
    if (run.soFar.length !== offset) return `length ${run.soFar.length}`;
    run.soFar += text;
    run.lapsed = lapsed;
    this.#slide(session, record);
    return "ok";
  }

  finish(id: string, runId: string, token: number, text: string, failed: boolean, usage: number): void {
    const session = this.at(id);
    const run = session.record?.runs.get(runId);
    if (!session.record || run?.status !== "RUNNING" || run.token !== token) return;
    // Also where a loss has closed it.
    run.soFar = text;
    const record = this.#reconcile(session);
    if (record.active !== run) return;
    record.active = null;
    if (failed) end(run, "FAILED", "MODEL_TIMEOUT");
    else {
      end(run, "COMPLETED", null);
      record.usage += usage;
      const kept = run.cut ?? session.rows.length;
      // They are cut with the old reply, and come again behind the new one.
      const later = run.cut === null ? [] : session.rows.slice(run.seen).map((row) => ({ ...row }));
      if (run.cut !== null) {
        this.#rewind(record);
        record.read = Math.min(record.read, run.cut);
      }
      moveOps(session, later, run.seen, kept + 1);
      setRows(session, [...session.rows.slice(0, kept), { key: text, kind: "ai" }, ...later]);
    }
    this.#commit(session);
  }

  cancel(id: string, runId: string): ModelCode | "ok" {
    const session = this.at(id);
    const run = this.#exists(session) ? session.record?.runs.get(runId) : undefined;
    if (!run) return "NOT_FOUND";
    if (run.status !== "QUEUED" && run.status !== "RUNNING") return "ok";
    const record = this.#reconcile(session);
    if (run.status === "QUEUED") {
      record.queue = record.queue.filter((one) => one !== run);
      end(run, "CANCELLED", null);
      this.#commit(session);
    } else if (record.active === run) {
      this.#stop(session, run, true);
      this.#commit(session);
    }
    return "ok";
  }

  /** Positions, or a refusal. `own`: the op of a message whose id the caller chose. */
  append(
    id: string,
    op: ModelTurn["op"],
    messages: readonly { readonly row: ModelRow; readonly own: ModelTurn["op"] | null }[],
  ): readonly number[] | ModelCode {
    const session = this.at(id);
    if (isOthers(session)) return "NOT_FOUND";
    const positions = (result: string) => result.split(",").map((place) => Number.parseInt(place, 10));
    const known = messages.map(({ own }) => (own ? session.ops.get(own.id) : undefined));
    const whole = session.ops.get(op.id);
    if (whole) {
      if (whole.fingerprint !== op.fingerprint) return "MESSAGE_ID_REUSED";
      return this.#exists(session) ? positions(whole.result) : "NOT_FOUND";
    }
    if (known.some((one) => one)) {
      // All or none: a part that is known cannot be told from other messages that came with it.
      if (known.some((one, i) => !one || one.fingerprint !== messages[i]?.own?.fingerprint)) return "MESSAGE_ID_REUSED";
      if (!this.#exists(session)) return "NOT_FOUND";
      if (known.some((one) => one?.result.startsWith("run:"))) return "MESSAGE_ID_REUSED";
      return known.flatMap((one) => (one ? positions(one.result) : []));
    }
    if (this.#exists(session)) this.#reconcile(session);
    const from = session.rows.length;
    this.#ensure(session);
    setRows(session, [...session.rows, ...messages.map(({ row }) => row)]);
    const placed = messages.map(({ row }, i) => placeIn(from + i, row));
    messages.forEach(({ own }, i) => {
      if (own) session.ops.set(own.id, { fingerprint: own.fingerprint, result: placed[i] ?? "" });
    });
    this.#commit(session, op, placed.join(","));
    return messages.map((_, i) => from + i);
  }

  create(id: string, op: ModelTurn["op"], title: string | null, ttl: number | null): ModelCode | "ok" {
    const refusal = this.#refusesNew(id, op);
    if (refusal) return refusal === "known" ? "ok" : refusal;
    const record = this.#ensure(this.at(id));
    record.title = title;
    record.ttl = ttl;
    this.#commit(this.at(id), op, "");
    return "ok";
  }

  fork(from: string, through: ModelCursor | null, id: string, op: ModelTurn["op"], title: string): ModelCode | "ok" {
    const source = this.meet(from);
    if (!source) return "NOT_FOUND";
    if (through && !this.holds(from, through)) return "CURSOR_EXPIRED";
    const refusal = this.#refusesNew(id, op);
    if (refusal) return refusal === "known" ? "ok" : refusal;
    const target = this.at(id);
    const record = this.#ensure(target);
    record.title = title;
    record.ttl = source.record.ttl;
    setRows(target, source.rows.slice(0, through ? through.position + 1 : source.rows.length));
    record.read = target.rows.length;
    this.#commit(target, op, "");
    return "ok";
  }

  update(
    id: string,
    change: { readonly title?: string | null; readonly archived?: boolean; readonly ttl?: number | null },
  ): ModelCode | "ok" {
    const met = this.#met(id);
    if (!met) return "NOT_FOUND";
    const { session, record } = met;
    if (change.title !== undefined) record.title = change.title;
    if (change.archived !== undefined) record.archived = change.archived;
    if (change.ttl !== undefined) record.ttl = change.ttl;
    if (change.ttl === null) session.expires = record.expires = false;
    this.#commit(session);
    return "ok";
  }

  markRead(id: string, through: ModelCursor | null): ModelCode | "ok" {
    const session = this.at(id);
    if (!this.#exists(session)) return "NOT_FOUND";
    // Judged before it is written: a cursor that does not hold changes nothing.
    const refused = this.#unwritten(session);
    const record = this.#reconcile(session);
    if (through && !this.holds(id, through)) return refused("CURSOR_EXPIRED");
    const target = through ? through.position + 1 : session.rows.length;
    if (target <= record.read) return "ok";
    record.read = target;
    this.#commit(session);
    return "ok";
  }

  clear(id: string): ModelCode | "ok" {
    const met = this.#met(id);
    if (!met) return "NOT_FOUND";
    const { session, record } = met;
    for (const run of [...record.queue, ...(record.active ? [record.active] : [])]) end(run, "CANCELLED", null);
    record.queue = [];
    record.active = null;
    this.#beginEra(record);
    record.read = 0;
    setRows(session, []);
    this.#commit(session);
    return "ok";
  }

  remove(id: string): ModelCode | "ok" {
    const session = this.at(id);
    if (!this.#exists(session)) return "NOT_FOUND";
    session.record = null;
    setRows(session, []);
    return "ok";
  }

  #met(id: string): { readonly session: ModelSession; readonly record: ModelRecord } | null {
    const session = this.at(id);
    return this.#exists(session) ? { session, record: this.#reconcile(session) } : null;
  }

  #exists(session: ModelSession): boolean {
    return session.record !== null || (session.rows.length > 0 && !isOthers(session));
  }

  #refusesNew(id: string, op: ModelTurn["op"]): ModelCode | "known" | null {
    const session = this.at(id);
    if (isOthers(session)) return "SESSION_EXISTS";
    const known = session.ops.get(op.id);
    if (known && !this.#exists(session)) return "NOT_FOUND";
    if (known) return known.fingerprint === op.fingerprint ? "known" : "SESSION_EXISTS";
    return this.#exists(session) ? "SESSION_EXISTS" : null;
  }

  #newEpoch(): number {
    return ++this.#epochs;
  }

  /** Who refuses writes nothing: a loss that it has met is still to be recorded, by who comes next. */
  #unwritten(session: ModelSession): <Refusal>(refusal: Refusal) => Refusal {
    const { record, expires } = session;
    const recordBefore = record && { ...record };
    const run = record?.active;
    const runBefore = run && { ...run };
    return (refusal) => {
      session.record = record;
      session.expires = expires;
      if (record) Object.assign(record, recordBefore);
      if (run) Object.assign(run, runBefore);
      return refusal;
    };
  }

  #rewind(record: ModelRecord): void {
    record.epoch = this.#newEpoch();
    record.epochs = new Set([...record.epochs, record.epoch]);
  }

  #beginEra(record: ModelRecord): void {
    record.epoch = this.#newEpoch();
    record.epochs = new Set([record.epoch]);
  }

  #ensure(session: ModelSession): ModelRecord {
    session.record ??= newModelRecord(this.#newEpoch());
    return session.record;
  }

  /** Holds the record against the list: rows that were recorded and are gone are a loss, others are new. */
  #reconcile(session: ModelSession): ModelRecord {
    const record = this.#ensure(session);
    const lost = hasLost(session, record);
    if (lost) {
      this.#beginEra(record);
      if (record.active) end(record.active, "FAILED", "RUN_LOST");
      record.active = null;
    }
    if (lost || session.rows.length > record.recorded.length) this.#commit(session);
    return record;
  }

  #commit(session: ModelSession, op?: ModelTurn["op"], result = ""): ModelRecord {
    const record = this.#ensure(session);
    record.recorded = [...session.rows];
    record.read = Math.min(record.read, session.rows.length);
    if (record.ttl !== null) {
      session.expires = session.rows.length > 0;
      record.expires = true;
    }
    if (op) session.ops.set(op.id, { fingerprint: op.fingerprint, result });
    return record;
  }

  /** Writes that record nothing prolong only what is there. */
  #slide(session: ModelSession, record: ModelRecord): void {
    if (record.ttl !== null && session.rows.length > 0) session.expires = record.expires = true;
  }

  #start(session: ModelSession, record: ModelRecord, run: ModelRun, lapsed: boolean): void {
    const place = run.replaceFrom?.position ?? null;
    if (run.regenerates) {
      const finish = session.rows.length;
      const cut = place ?? (humanBelow(session.rows, finish) ?? 0) + 1;
      run.cut = cut < finish ? cut : null;
      run.seen = finish;
    } else {
      if (place !== null) this.#rewind(record);
      const kept = place === null ? session.rows : session.rows.slice(0, place);
      // Not setRows(): a list that is emptied and filled again keeps its TTL.
      session.rows = [...kept, { key: run.text, kind: "human" }];
      record.read = Math.max(record.read, session.rows.length);
    }
    run.status = "RUNNING";
    run.token = ++record.token;
    run.lapsed = lapsed;
    record.active = record.last = run;
  }

  #stop(session: ModelSession, run: ModelRun, append: boolean): void {
    end(run, "CANCELLED", null);
    if (session.record) session.record.active = null;
    if (append && run.soFar !== "" && run.cut === null)
      setRows(session, [...session.rows, { key: run.soFar, kind: "ai" }]);
  }
}
