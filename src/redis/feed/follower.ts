import { noGeneration, type Kept } from "../../conversation/message/cursor.ts";
import { hasEnd, textAt } from "../../conversation/part-log.ts";
import type { Row } from "../../conversation/message/message.ts";
import { isFinal, type Run, type RunStatus } from "../../conversation/run.ts";
import type { MessagePage, Session } from "../../conversation/session.ts";
import type { Batch, Line, Write } from "./publication.ts";
import { ReadRow } from "../scripts/reading/view.ts";
import { runOf, stateOf } from "../scripts/replies.ts";

/**
 * The part log of a run as it grows, and the text of the message at its end, which begins anew with each message; entries
 * and subscribers hold offsets into them.
 */
export interface RunText {
  readonly runId: string;
  /** Of the message that it was making when this was read; the log names those that begin later. */
  readonly replyLocalId: string;
  text: string;
  log: string;
}

/** One thing that happened, as a feed keeps it in its ring. `sequence`: of the write that it came with. */
export type Entry = { readonly sequence: number; readonly generation: number } &
  /** Somebody has started the session; as it was before its first message. */
  (
    | { readonly kind: "started"; readonly session: Session }
    | { readonly kind: "message"; readonly row: Row }
    /** The run's text up to `end`, and its log up to `logEnd`. */
    | { readonly kind: "progress"; readonly of: RunText; readonly end: number; readonly logEnd: number }
    | { readonly kind: "run"; readonly run: Run }
    | { readonly kind: "updated" }
    /**
     * The rows below `kept` stand. `follows`: what comes behind them is told by the entries behind this one, and `mark` is
     * that of the last that stands; else the reading that it is told with covers all.
     */
    | { readonly kind: "reset"; readonly kept: number; readonly mark: string; readonly follows: boolean }
    | { readonly kind: "removed" }
  );

/**
 * Where a reader of a session stands, and how it gets on: by a publication that fits exactly (apply), else by holding a
 * reading of the session against what it knows (reconcile). Both give the same entries in the same order (P3):
 * a run that starts before its message, text before its reply, the reply before its run's end.
 */
export class Follower {
  readonly sessionId: string;
  readonly historyKey: string;
  generation = noGeneration;
  /** Position behind the last row that was delivered, and that row's mark. */
  end = 0;
  tipMark = "";
  sequence = 0;
  /** Runs that were delivered and have not ended. */
  open = new Map<string, RunStatus>();
  /** The newest run that had begun and was delivered as ended. */
  lastEnded: string | null = null;
  text: RunText | null = null;
  /** Whether own writes prolong the list's life. */
  slides = false;
  settings = "";
  readCount = 0;
  /** What names the newest write that was delivered; "": not known, or there is more by now. */
  stamp = "";

  /** Of a reader that waits for the session to begin. */
  constructor(sessionId: string, historyKey: string) {
    this.sessionId = sessionId;
    this.historyKey = historyKey;
  }

  static of(session: Session): Follower {
    const { sessionId, historyKey, generation, end, tipMark, sequence, activeRun, queuedRuns, readCount } = session;
    const open = new Map(queuedRuns.map((run) => [run.runId, run.status]));
    if (activeRun) open.set(activeRun.runId, activeRun.status);
    return Object.assign(new Follower(sessionId, historyKey), {
      ...{ generation, end, tipMark, sequence, open, readCount, stamp: stampOf(session) },
      lastEnded: activeRun ? null : (session.lastRun?.runId ?? null),
      text: activeRun ? textOf(activeRun) : null,
      slides: session.ttlSeconds !== null,
      settings: settingsOf(session),
    });
  }

  get waits(): boolean {
    return this.generation === noGeneration;
  }

  /** The state that compare.lua finds where there is nothing that was not delivered; "": only reading tells. */
  get known(): string {
    const { stamp, sequence, text } = this;
    if (stamp === "") return "";
    return `${stamp} ${sequence}${text === null ? "" : ` ${text.text.length} ${text.log.length}`}`;
  }

  /** A reading has shown nothing that was not delivered. */
  confirm(session: Session): void {
    this.stamp = stampOf(session);
    this.slides = session.ttlSeconds !== null;
  }

  copy(): Follower {
    return Object.assign(new Follower(this.sessionId, this.historyKey), this, { open: new Map(this.open) });
  }

  /** Whether a reading leads both to the same entries. What is set before each reading counts for nothing. */
  standsLike(other: Follower): boolean {
    return (
      this.generation === other.generation &&
      this.end === other.end &&
      this.tipMark === other.tipMark &&
      this.lastEnded === other.lastEnded &&
      this.settings === other.settings &&
      this.readCount === other.readCount &&
      this.open.size === other.open.size &&
      [...this.open].every(([runId, status]) => other.open.get(runId) === status)
    );
  }

  /** null: it does not fit; read. */
  apply(publication: Batch | Write): readonly Entry[] | null {
    return publication.kind === "batch" ? this.#batch(publication) : this.#write(publication);
  }

  #batch({ runId, offset, text, log }: Batch): readonly Entry[] | null {
    const of = this.text;
    if (of?.runId !== runId) return null;
    const { offset: logOffset, lines } = log ?? { offset: 0, lines: "" };
    // Of a message that has ended: a reading showed what came behind it.
    if (hasEnd(of.log, logOffset + lines.length)) return [];
    if (offset > of.text.length || logOffset > of.log.length) return null;
    const newLog = lines.slice(of.log.length - logOffset);
    if (hasEnd(newLog, 0)) return this.#progress(of, text, of.log + newLog);
    return this.#progress(of, of.text + text.slice(of.text.length - offset), of.log + newLog);
  }

  /** What the run has more than was known of it. */
  #progress(of: RunText, text: string, log: string): readonly Entry[] {
    const { length } = of.text;
    const logLength = of.log.length;
    if (text.length <= length && log.length <= logLength) return [];
    if (text.length > length || hasEnd(log, logLength)) of.text = text;
    if (log.length > logLength) of.log = log;
    return [this.#entry({ kind: "progress", of, end: of.text.length, logEnd: of.log.length })];
  }

  #write(write: Write): readonly Entry[] | null {
    // Known already, unless the count began anew with a history that took this one's place.
    if (write.sequence <= this.sequence) return write.generation > this.generation ? null : [];
    if (write.sequence !== this.sequence + 1 || write.more) return null;
    if (write.removed) return [this.#entry({ kind: "removed" })];
    const reset = write.reset !== null;
    // Rows that others appended meanwhile came along.
    if (reset && write.reset !== write.at) return null;
    if ((write.from ?? write.generation) !== this.generation) return null;
    if (!reset && (write.at !== this.end || write.previousMark !== this.tipMark)) return null;
    if (reset && write.at > this.end) return null;

    this.sequence = write.sequence;
    this.stamp = write.stamp;
    this.readCount = write.readCount;
    this.generation = write.generation;
    const entries: Entry[] = [];
    // Runs that a reset ends were begun before it: told first, as the script lists them.
    let told = !reset;
    const tellReset = () => {
      if (told) return;
      told = true;
      entries.push(this.#reset({ position: write.at, mark: write.previousMark }));
    };
    const { lines } = write;
    const last = lines.findLastIndex(({ kind }) => kind === "message");
    const rows: ReadRow[] = [];
    for (let i = 0; i <= last; i++) {
      const line = lines[i];
      if (line?.kind !== "message") continue;
      const mark = i === last && write.tipMark !== "" ? write.tipMark : null;
      rows.push(new ReadRow(write.at + rows.length, line.raw, mark));
    }
    let next = 0;
    for (let i = 0; i < lines.length; i++) {
      const line = lines[i];
      if (line === undefined) continue;
      if (line.kind === "message") {
        tellReset();
        const row = rows[next++];
        if (!row) continue;
        const later = lines[i + 1];
        if (later?.kind === "run") entries.push(...this.#restOfText(this.#run(later, rows)));
        entries.push(this.#message(row));
      } else {
        const run = this.#run(line, rows);
        if (run.status === "RUNNING") tellReset();
        entries.push(...this.#tell(run));
      }
    }
    tellReset();
    this.tipMark = rows.at(-1)?.mark ?? this.tipMark;
    if (write.updated) entries.push(this.#entry({ kind: "updated" }));
    return entries;
  }

  /**
   * Entries that lead from here to the reading; `page` holds the rows behind this place, or behind `kept` where what was told
   * from there on was cut. null: the place no longer holds, and nothing is known to.
   */
  reconcile(
    session: Session,
    page: MessagePage | null,
    ended: readonly Run[],
    kept: Kept | null = null,
  ): readonly Entry[] {
    const entries: Entry[] = [];
    this.sequence = session.sequence;
    this.confirm(session);
    if (page?.hasNextPage === true) this.stamp = "";
    const runs = [
      ...ended,
      ...(session.activeRun ? [session.activeRun] : session.lastRun ? [session.lastRun] : []),
      ...session.queuedRuns,
    ];
    const told = new Set<string>();
    for (const run of ended) entries.push(...this.#restOfText(run));
    // In another generation what was cut may also have come behind this place, and all that was told stands.
    const reset = page === null || kept !== null || session.generation !== this.generation;
    if (reset) {
      // Ends of runs come first, as in a publication, but for those whose reply is still to come.
      for (const run of runs) {
        if (!isFinal(run.status) || page?.rows.some(({ position }) => position === lastOf(run))) continue;
        entries.push(...this.#tell(run));
        told.add(run.runId);
      }
      this.generation = session.generation;
    }
    if (page === null) {
      // What follows counts as covered by the reading that it is told with.
      this.end = session.end;
      this.tipMark = session.tipMark;
      entries.push(this.#entry({ kind: "reset", kept: 0, mark: "", follows: false }));
    } else {
      if (reset) entries.push(this.#reset(kept ?? { position: this.end, mark: this.tipMark }));
      for (const row of page.rows) {
        for (const run of runs) {
          if (isGoing(run) && run.userRow?.position === row.position) entries.push(...this.#begun(run));
          if (isFinal(run.status) && lastOf(run) === row.position) entries.push(...this.#restOfText(run));
        }
        entries.push(this.#message(row));
        for (const run of runs) {
          if (!isFinal(run.status) || lastOf(run) !== row.position) continue;
          entries.push(...this.#tell(run));
          told.add(run.runId);
        }
      }
      this.tipMark = page.rows.at(-1)?.mark ?? this.tipMark;
    }
    for (const run of runs) if (!told.has(run.runId)) entries.push(...this.#tell(run));
    const settings = settingsOf(session);
    if (settings !== this.settings || session.readCount !== this.readCount) {
      this.settings = settings;
      this.readCount = session.readCount;
      entries.push(this.#entry({ kind: "updated" }));
    }
    return entries;
  }

  #reset({ position, mark }: Kept): Entry {
    this.end = position;
    this.tipMark = mark;
    return this.#entry({ kind: "reset", kept: position, mark, follows: true });
  }

  #begun(run: Run): readonly Entry[] {
    const known = this.open.get(run.runId);
    if (known === "RUNNING" || known === "WAITING") return [];
    this.open.set(run.runId, run.status);
    return [this.#entry({ kind: "run", run })];
  }

  /** What is new in a run: its text so far, and its status if that was not told. */
  #tell(run: Run): readonly Entry[] {
    const entries: Entry[] = [];
    const known = this.open.get(run.runId);
    if (isGoing(run)) {
      entries.push(...this.#begun(run));
      if (this.text?.runId !== run.runId) this.text = { ...textOf(run), text: "", log: "" };
      entries.push(...this.#progress(this.text, run.text, run.log));
      if (this.open.get(run.runId) !== run.status) {
        this.open.set(run.runId, run.status);
        entries.push(this.#entry({ kind: "run", run }));
      }
    } else if (run.status === "QUEUED") {
      if (known === undefined) entries.push(this.#entry({ kind: "run", run }));
      this.open.set(run.runId, "QUEUED");
    } else if (known !== undefined || this.lastEnded !== run.runId) {
      entries.push(...this.#restOfText(run), this.#entry({ kind: "run", run }));
      this.close(run);
      if (this.text?.runId === run.runId) this.text = null;
    }
    return entries;
  }

  /** One that was cancelled while it waited was never the newest that had begun. */
  close(run: Run): void {
    this.open.delete(run.runId);
    if (run.startedAt !== null) this.lastEnded = run.runId;
  }

  #restOfText(run: Run): readonly Entry[] {
    const of = this.text;
    return of?.runId === run.runId && isFinal(run.status) ? this.#progress(of, run.text, run.log) : [];
  }

  #run(line: Line & { readonly kind: "run" }, rows: readonly Row[]): Run {
    const { replyPosition } = stateOf(line.state);
    return runOf(this.sessionId, this.historyKey, this.generation, {
      state: line.state,
      input: line.input,
      text: line.text,
      log: line.log,
      userRow: line.input,
      replyRow: rows.find((row) => row.position === replyPosition)?.raw ?? "",
    });
  }

  #message(row: Row): Entry {
    this.end = row.position + 1;
    return this.#entry({ kind: "message", row });
  }

  #entry<T extends object>(what: T): T & { readonly sequence: number; readonly generation: number } {
    return { ...what, sequence: this.sequence, generation: this.generation };
  }
}

function isGoing({ status }: Run): boolean {
  return status === "RUNNING" || status === "WAITING";
}

/** Where the last row of a run lies, where its reply still does. */
function lastOf({ replyRow, rows }: Run): number | null {
  return replyRow === null ? null : (rows?.last ?? replyRow.position);
}

/** As much of it as a place has delivered. */
export function deliveredOf(of: RunText, offset: number, logOffset: number): RunText {
  return { ...of, text: textAt(of.log, logOffset, of.text).slice(0, offset), log: of.log.slice(0, logOffset) };
}

/** Session.state begins with it (view.lua). */
function stampOf({ state }: Session): string {
  return state.slice(0, Math.max(0, state.indexOf(" ")));
}

function textOf(run: Run): RunText {
  return { runId: run.runId, replyLocalId: run.replyLocalId, text: run.text, log: run.log };
}

/** What SessionUpdated tells of, to notice a change whose publication was missed. */
export function settingsOf(session: Session): string {
  const { title, instructions, model, memory, metadata, archived, ttlSeconds } = session;
  return JSON.stringify([title, instructions, model, memory, metadata, archived, ttlSeconds]);
}
