import type { ReadRequest } from "../conversation/api.ts";
import { isStoreUnavailable } from "../conversation/errors.ts";
import type { SessionEvent } from "../conversation/events.ts";
import type { Live } from "../conversation/live.ts";
import { isFinal } from "../conversation/run.ts";
import type { MessagePage, Session } from "../conversation/session.ts";
import { catchUp, pageRows, placeCursor } from "./catch-up.ts";
import type { Feed, FeedPlace } from "./feed.ts";
import { Follower, settingsOf, type Entry, type RunText } from "./follower.ts";
import { PulledIterator } from "./pulled-iterator.ts";
import { sharedEntries, type ReadEvent } from "./told-events.ts";

type ReadEntry = Entry & { readonly kind: "updated" | "reset" };
type QuickEntry = Exclude<Entry, ReadEntry>;

/** Whether it is told with a reading of its own. */
function isReadAgain(entry: Entry): entry is ReadEntry {
  return entry.kind === "updated" || entry.kind === "reset";
}

/** How long a subscriber waits before it asks a store that was away again, in ms. */
const retryMs = 250;

/**
 * One subscriber: its own place in a feed, pulled by its consumer. While it waits it holds nothing; when the ring has
 * moved past it, it reads on from its place as if it had been away (P10). return() ends it at once, also while it waits.
 */
export class Subscription extends PulledIterator<SessionEvent> implements Live<SessionEvent> {
  readonly #feed: Feed;
  readonly #request: ReadRequest;
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
  /**
   * Ends what next() waits for, or wakes who polls. Not a promise to race with: it would keep every race for as long as the
   * subscriber lives.
   */
  #interrupt: () => void = () => undefined;

  /** `from`: where the feed stood before the reading. */
  constructor(feed: Feed, session: Session, read: ReadRequest, from: FeedPlace, start: Start, onEnd: () => void) {
    super(onEnd);
    this.#feed = feed;
    this.#request = read;
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
    this.#feed.unwait(this.#interrupt);
    queueMicrotask(this.#interrupt);
  }

  poll(): SessionEvent | null {
    if (this.ended) return null;
    if (this.#ready.length > 0) return this.#ready.shift() ?? null;
    for (let entry = this.#peek(); entry !== null && !isReadAgain(entry); entry = this.#peek()) {
      const event = this.#tell(entry);
      if (event !== null) return event;
    }
    return null;
  }

  wait(wake: () => void): boolean {
    if (this.ended || this.#removed || this.#ready.length > 0 || this.#peek() !== null || this.#behind) return false;
    this.#interrupt = wake;
    return this.#feed.wait(this.#number, wake);
  }

  protected async pull(): Promise<IteratorResult<SessionEvent>> {
    while (!this.ended) {
      const ready = this.poll();
      if (ready !== null) return { done: false, value: ready };
      const entry = this.#peek();
      if (entry !== null && isReadAgain(entry)) {
        const event = await this.#withReading(entry);
        if (event !== null) return { done: false, value: event };
      } else if (this.#removed) this.end();
      else if (this.#behind) await this.#catchUp();
      else await this.#wait();
    }
    return { done: true, value: undefined };
  }

  /** The next entry that is new to this subscriber, which #take() takes. null: there is none, or it has to catch up. */
  #peek(): Entry | null {
    if (this.#removed) return null;
    const own = this.#own[0];
    if (own !== undefined) return own;
    while (!this.#behind) {
      const next = this.#feed.entry(this.#number);
      if (next === undefined) return null;
      if (next === null) {
        this.#behind = true;
        return null;
      }
      if (next.sequence < this.#heard) this.#covered = -1;
      this.#heard = next.sequence;
      if (this.#isNew(next)) return next;
      this.#number++;
    }
    return null;
  }

  /** Takes what #peek() has shown. Whether subscribers in step are told the same of it. */
  #take(): boolean {
    if (this.#own.length > 0) {
      this.#own.shift();
      return false;
    }
    return this.#number++ >= this.#feed.next - sharedEntries;
  }

  async #wait(): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<undefined>();
    const wake = () => resolve(undefined);
    this.#interrupt = wake;
    if (this.#feed.wait(this.#number, wake)) await promise;
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

  /** Takes the entry; null: there is nothing new in it. */
  #tell(entry: QuickEntry): SessionEvent | null {
    const me = this.#me;
    if (entry.kind === "progress") return this.#progress(entry);
    const shared = this.#take();
    if (entry.kind === "message") {
      me.generation = entry.generation;
      me.end = entry.row.position + 1;
      me.tipMark = entry.row.mark;
    } else if (entry.kind === "removed") this.#removed = true;
    else if (isFinal(entry.run.status)) me.close(entry.run);
    else me.open.set(entry.run.runId, entry.run.status);
    const known = shared ? this.#feed.told.find(entry, 0) : undefined;
    if (known !== undefined) return known;
    const event = this.#eventOf(entry);
    if (shared) this.#feed.told.keep(entry, 0, event);
    return event;
  }

  #eventOf(entry: Exclude<QuickEntry, { readonly kind: "progress" }>): SessionEvent {
    const { sessionId, historyKey, generation } = this.#me;
    switch (entry.kind) {
      case "message":
        return {
          kind: "message",
          cursor: this.#cursor(),
          message: { sessionId, historyKey, generation, row: entry.row },
        };
      case "run":
        return { kind: "run", run: entry.run };
      case "removed":
        return { kind: "removed", sessionId };
    }
  }

  #progress(entry: Entry & { readonly kind: "progress" }): SessionEvent | null {
    let last = entry;
    let shared = this.#take();
    // Batches of the same run that wait behind this one are told as one.
    for (
      let next = this.#feed.entry(this.#number);
      this.#own.length === 0 && next?.kind === "progress";
      next = this.#feed.entry(this.#number)
    ) {
      if (next.of.runId !== entry.of.runId) break;
      last = next;
      shared = this.#take();
    }
    const { of, end } = last;
    const offset = this.#told?.of.runId === of.runId ? this.#told.offset : 0;
    if (end <= offset) return null;
    this.#told = { of, offset: end };
    const known = shared ? this.#feed.told.find(last, offset) : undefined;
    if (known !== undefined) return known;
    const { runId, replyLocalId } = of;
    const text = of.text.slice(offset, end);
    const event = { kind: "progress", sessionId: this.#me.sessionId, runId, replyLocalId, offset, text } as const;
    if (shared) this.#feed.told.keep(last, offset, event);
    return event;
  }

  /** null: the subscriber has ended. */
  async #withReading(entry: ReadEntry): Promise<SessionEvent | null> {
    const { told } = this.#feed;
    const ask = () => this.#read(entry);
    const shared = this.#take();
    const event = await this.#retried(() => (shared ? told.read(entry, this.#request, ask) : ask()));
    if (event === undefined) return null;
    const me = this.#me;
    if (event === null) {
      this.#removed = true;
      return { kind: "removed", sessionId: me.sessionId };
    }
    const { session } = event;
    if (event.kind === "updated") {
      me.settings = settingsOf(session);
      me.readCount = session.readCount;
    } else if (entry.kind === "reset" && entry.kept > 0) {
      me.generation = entry.generation;
      me.end = entry.kept;
      me.tipMark = entry.mark;
    } else {
      // Everything is taken from this very reading: the stream goes on behind it.
      me.generation = session.generation;
      me.end = session.end;
      me.tipMark = session.tipMark;
      this.#own = [];
      this.#told = toldOf(session);
      this.#covered = session.sequence;
      this.#coveredRun = session.activeRun?.runId ?? null;
    }
    return event;
  }

  /** What an entry is told with that shows the session as it is; null: it is gone. */
  async #read(entry: ReadEntry): Promise<ReadEvent | null> {
    const reading = await this.#feed.read(this.#request);
    if (reading === null) return null;
    const { session } = reading;
    if (entry.kind === "updated") return { kind: "updated", session };
    const { historyKey } = this.#me;
    const { kept } = entry;
    const cursor =
      kept > 0
        ? placeCursor(historyKey, entry.generation, kept - 1, entry.mark)
        : placeCursor(historyKey, session.generation, session.end - 1, session.tipMark);
    return { kind: "reset", kept, cursor, session };
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
