import type { ReadRequest } from "../conversation/api.ts";
import { isStoreUnavailable } from "../conversation/errors.ts";
import type { SessionEvent } from "../conversation/events.ts";
import type { MessagePage, Session } from "../conversation/session.ts";
import { catchUp, pageRows, placeCursor } from "./catch-up.ts";
import type { Feed, FeedPlace } from "./feed.ts";
import { Follower, settingsOf, type Entry, type RunText } from "./follower.ts";
import { PulledIterator } from "./pulled-iterator.ts";

/** How long a subscriber waits before it asks a store that was away again, in ms. */
const retryMs = 250;

/**
 * One subscriber: its own place in a feed, pulled by its consumer. While it waits it holds nothing; when the ring has
 * moved past it, it reads on from its place as if it had been away (P10). return() ends it at once, also while it waits.
 */
export class Subscription extends PulledIterator<SessionEvent> {
  readonly #feed: Feed;
  readonly #read: ReadRequest;
  readonly #me: Follower;
  /** Entries that are this subscriber's alone: what it catches up with. */
  #own: Entry[] = [];
  #ready: SessionEvent[] = [];
  #number: number;
  /** Behind the tip by more than a page: keeps reading before it listens. */
  #behind: boolean;
  /** How much of which run's text was delivered. */
  #told: { readonly of: RunText; offset: number } | null;
  /** The newest write that a reading of this subscriber's covered, and the run that was going then. */
  #covered: number;
  #coveredRun: string | null;
  /** The write of the newest entry of the feed: one that is lower says that Redis lost writes, and counts anew. */
  #heard: number;
  #removed = false;
  /** Ends what next() waits for. Not a promise to race with: it would keep every race for as long as the subscriber lives. */
  #interrupt: () => void = () => undefined;

  /** `from`: where the feed stood before the reading. */
  constructor(feed: Feed, session: Session, read: ReadRequest, from: FeedPlace, start: Start, onEnd: () => void) {
    super(onEnd);
    this.#feed = feed;
    this.#read = read;
    this.#me = new Follower(session);
    this.#number = from.number;
    this.#heard = from.sequence;
    this.#told = toldOf(session);
    this.#covered = session.sequence;
    this.#coveredRun = session.activeRun?.runId ?? null;
    this.#behind = false;
    if (start.kind === "tip") {
      this.#ready.push({ kind: "opened", cursor: this.#cursor(), session });
    } else if (start.kind === "expired") {
      this.#ready.push(
        { kind: "opened", cursor: this.#cursor(), session },
        { kind: "reset", kept: 0, cursor: this.#cursor(), session },
      );
    } else {
      this.#ready.push({ kind: "opened", cursor: start.cursor, session });
      for (const row of start.page.rows)
        this.#own.push({ kind: "message", row, sequence: session.sequence, generation: session.generation });
      if (start.page.hasNextPage) {
        const last = start.page.rows.at(-1);
        this.#me.end = last ? last.position + 1 : session.end;
        this.#me.tipMark = last?.mark ?? session.tipMark;
        this.#behind = true;
      }
    }
  }

  protected release(): void {
    this.#own = [];
    this.#ready = [];
    this.#interrupt();
  }

  protected async pull(): Promise<IteratorResult<SessionEvent>> {
    for (;;) {
      if (this.ended) return { done: true, value: undefined };
      const ready = this.#ready.shift();
      if (ready) return { done: false, value: ready };
      if (this.#removed) {
        this.end();
        continue;
      }
      const entry = this.#own.shift();
      if (entry) {
        await this.#deliver(entry);
        continue;
      }
      if (this.#behind) {
        await this.#catchUp();
        continue;
      }
      const next = this.#feed.entry(this.#number);
      if (next === null) {
        this.#behind = true;
      } else if (next === undefined) {
        await this.#wait();
      } else {
        this.#number++;
        if (next.sequence < this.#heard) this.#covered = -1;
        this.#heard = next.sequence;
        if (this.#isNew(next)) await this.#deliver(next);
      }
    }
  }

  async #wait(): Promise<void> {
    let cancel: () => void = () => undefined;
    await this.#orEnd<undefined>((resolve) => (cancel = this.#feed.wait(this.#number, () => resolve(undefined))));
    cancel();
  }

  /** Settles as `wait` says, or with undefined when the subscriber ends before. */
  #orEnd<T>(wait: (resolve: (value: T) => void, reject: (error: unknown) => void) => void): Promise<T | undefined> {
    return new Promise<T | undefined>((resolve, reject) => {
      this.#interrupt = () => resolve(undefined);
      wait(resolve, reject);
    });
  }

  async #catchUp(): Promise<void> {
    const from = this.#feed.place;
    const me = this.#me;
    // Part of a write may have been told: the reading is held against what was, whatever its number.
    me.sequence = -1;
    me.text = this.#told && { ...this.#told.of, text: this.#told.of.text.slice(0, this.#told.offset) };
    const entries = await this.#retried(() => catchUp(me, this.#feed, (witness) => this.#feed.touch(witness)));
    if (!entries) return;
    this.#feed.caughtUp(entries.length);
    this.#own = [...entries];
    // A full page: there is more behind it.
    if (entries.filter((entry) => entry.kind === "message").length >= pageRows) return;
    this.#behind = false;
    this.#number = from.number;
    this.#heard = from.sequence;
    this.#covered = me.sequence;
    this.#coveredRun = me.text?.runId ?? null;
  }

  /** Whether an entry of the feed is not covered by a reading that this subscriber had. */
  #isNew(entry: Entry): boolean {
    switch (entry.kind) {
      case "message":
        // Another generation is told by a reset before it; what came before a reset that was read is over.
        return entry.generation === this.#me.generation && entry.row.position >= this.#me.end;
      case "progress":
        return (
          entry.sequence > this.#covered || (entry.sequence === this.#covered && entry.of.runId === this.#coveredRun)
        );
      case "removed":
        return true;
      case "reset":
        return entry.sequence > this.#covered || entry.generation !== this.#me.generation;
      case "run":
      case "updated":
        return entry.sequence > this.#covered;
    }
  }

  async #deliver(entry: Entry): Promise<void> {
    const me = this.#me;
    switch (entry.kind) {
      case "message":
        me.generation = entry.generation;
        me.end = entry.row.position + 1;
        me.tipMark = entry.row.mark;
        this.#ready.push({
          kind: "message",
          cursor: this.#cursor(),
          message: { sessionId: me.sessionId, historyKey: me.historyKey, generation: me.generation, row: entry.row },
        });
        return;
      case "progress":
        this.#progress(entry);
        return;
      case "run":
        if (entry.run.status === "RUNNING" || entry.run.status === "QUEUED")
          me.open.set(entry.run.runId, entry.run.status);
        else me.close(entry.run);
        this.#ready.push({ kind: "run", run: entry.run });
        return;
      case "removed":
        this.#ready.push({ kind: "removed", sessionId: me.sessionId });
        this.#removed = true;
        return;
      case "updated":
      case "reset":
        await this.#withReading(entry);
    }
  }

  #progress(entry: Entry & { readonly kind: "progress" }): void {
    // Batches of the same run that wait behind this one are told as one.
    let end = entry.end;
    for (
      let next = this.#feed.entry(this.#number);
      this.#own.length === 0 && next?.kind === "progress";
      next = this.#feed.entry(this.#number)
    ) {
      if (next.of.runId !== entry.of.runId) break;
      end = next.end;
      this.#number++;
    }
    const offset = this.#told?.of.runId === entry.of.runId ? this.#told.offset : 0;
    if (end <= offset) return;
    this.#told = { of: entry.of, offset: end };
    this.#ready.push({
      kind: "progress",
      sessionId: this.#me.sessionId,
      runId: entry.of.runId,
      replyLocalId: entry.of.replyLocalId,
      offset,
      text: entry.of.text.slice(offset, end),
    });
  }

  async #withReading(entry: Entry & { readonly kind: "updated" | "reset" }): Promise<void> {
    const reading = await this.#retried(() => this.#feed.read(this.#read));
    if (reading === undefined) return;
    if (reading === null) {
      this.#ready.push({ kind: "removed", sessionId: this.#me.sessionId });
      this.#removed = true;
      return;
    }
    const { session } = reading;
    const me = this.#me;
    if (entry.kind === "updated") {
      me.settings = settingsOf(session);
      me.readCount = session.readCount;
      this.#ready.push({ kind: "updated", session });
      return;
    }
    if (entry.kept > 0) {
      me.generation = entry.generation;
      me.end = entry.kept;
      me.tipMark = entry.mark;
      this.#ready.push({ kind: "reset", kept: entry.kept, cursor: this.#cursor(), session });
      return;
    }
    // Everything is taken from this very reading: the stream goes on behind it.
    me.generation = session.generation;
    me.end = session.end;
    me.tipMark = session.tipMark;
    this.#own = [];
    this.#told = toldOf(session);
    this.#covered = session.sequence;
    this.#coveredRun = session.activeRun?.runId ?? null;
    this.#ready.push({ kind: "reset", kept: 0, cursor: this.#cursor(), session });
  }

  /** Until the store answers or the subscriber ends (undefined). */
  async #retried<T>(ask: () => Promise<T>): Promise<T | undefined> {
    while (!this.ended) {
      try {
        return await this.#orEnd<T>((resolve, reject) => void ask().then(resolve, reject));
      } catch (error) {
        if (!isStoreUnavailable(error)) throw error;
        await this.#orEnd<undefined>((resolve) => void setTimeout(() => resolve(undefined), retryMs).unref());
      }
    }
    return undefined;
  }

  #cursor(): string {
    return placeCursor(this.#me.historyKey, this.#me.generation, this.#me.end - 1, this.#me.tipMark);
  }
}

function toldOf(session: Session): { of: RunText; offset: number } | null {
  const run = session.activeRun;
  return run && { of: { runId: run.runId, replyLocalId: run.replyLocalId, text: run.text }, offset: run.text.length };
}

export type Start =
  | { readonly kind: "tip" }
  /** Behind a cursor: the first page after it. */
  | { readonly kind: "after"; readonly cursor: string; readonly page: MessagePage }
  | { readonly kind: "expired" };
