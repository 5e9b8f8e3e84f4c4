import type { ReadRequest } from "../../conversation/conversations/api.ts";
import type { Kept } from "../../conversation/message/cursor.ts";
import { isStoreUnavailable } from "../../conversation/errors.ts";
import type { SessionEvent } from "../../conversation/events.ts";
import type { Live, LiveReader } from "../../conversation/ports/live.ts";
import type { MessagePage, Session } from "../../conversation/session.ts";
import { startedBy, withEmptyPages } from "./beginning.ts";
import { catchUp, pageRows, placeCursor } from "./catch-up.ts";
import type { Feed } from "./feed.ts";
import { settingsOf, type Entry } from "./follower.ts";
import type { Member } from "./in-step.ts";
import { isReadAgain, Place, type ReadEntry, type FeedPlace } from "./place.ts";
import { PulledIterator } from "./pulled-iterator.ts";
import type { ReadEvent } from "./told-events.ts";

/** How long a subscriber waits before it asks a store that was away again, in ms. */
const retryMs = 250;

/** For all who are told nothing before the feed. */
const nothing: readonly SessionEvent[] = [];

const asleep = (): void => undefined;

/**
 * One subscriber: its own place in a feed, pulled by its consumer. While it waits it holds nothing; when the ring has
 * moved past it, it reads on from its place as if it had been away (P10). return() ends it at once, also while it waits.
 */
export class Subscription extends PulledIterator<SessionEvent> implements Live<SessionEvent>, Member {
  readonly #feed: Feed;
  readonly #request: ReadRequest;
  /** While it is in step with others, theirs too. */
  #place: Place;
  /** What it is told before all that the place leads to. */
  #ready: readonly SessionEvent[];
  /** Who is in step by it. */
  #reader: LiveReader<SessionEvent> | null = null;
  /**
   * Ends what next() waits for, or wakes who polls. Not a promise to race with: it would keep every race for as long as the
   * subscriber lives.
   */
  #interrupt: () => void = asleep;

  /** `from`: where the feed stood before the reading. */
  constructor(feed: Feed, read: ReadRequest, from: FeedPlace, start: Start, onEnd: () => void) {
    super(onEnd);
    this.#feed = feed;
    this.#request = read;
    if (start.kind === "waiting" || start.kind === "gone") {
      const { sessionId } = feed;
      this.#place = Place.waiting(feed, from);
      this.#place.removed = start.kind === "gone";
      this.#ready = [
        start.kind === "gone"
          ? { kind: "removed", sessionId }
          : { kind: "waiting", cursor: this.#place.cursor(), sessionId },
      ];
      return;
    }
    const { session } = start;
    const place = Place.at(session, feed, from);
    this.#place = place;
    // Of an expired one it stays: whose stream is cut off before the reset resumes from it, and hears of the reset.
    const opened: SessionEvent = {
      kind: "opened",
      cursor: start.kind === "tip" ? place.cursor() : start.cursor,
      session,
    };
    this.#ready = [opened];
    if (start.kind === "expired") {
      const kept = start.kept?.position ?? 0;
      if (start.kept !== null && kept > 0) place.goBack(session.generation, start.kept);
      this.#ready = [opened, { kind: "reset", kept, cursor: place.cursor(), session }];
    }
    if (start.kind !== "after") return;
    const { rows, hasNextPage } = start.page;
    const { sequence, generation } = session;
    place.own = rows.map((row) => ({ kind: "message", row, sequence, generation }));
    if (!hasNextPage) return;
    const last = rows.at(-1);
    place.me.end = last ? last.position + 1 : session.end;
    place.me.tipMark = last?.mark ?? session.tipMark;
    place.behind = true;
  }

  protected release(): void {
    this.#ready = nothing;
    this.#feed.unwait(this.#interrupt);
    if (this.#reader !== null) {
      const reader = this.#reader;
      this.#reader = null;
      this.#feed.inStep.leave(reader);
      queueMicrotask(() => reader.wake());
    } else {
      this.#place.own = [];
      queueMicrotask(this.#interrupt);
    }
  }

  goOn(place: Place): void {
    this.#reader = null;
    this.#place = place;
  }

  poll(): SessionEvent | null {
    if (this.ended) return null;
    this.#standAlone();
    const [ready] = this.#ready;
    if (ready === undefined) return this.#place.poll();
    this.#ready = this.#ready.length === 1 ? nothing : this.#ready.slice(1);
    return ready;
  }

  wait(reader: LiveReader<SessionEvent>): boolean {
    const place = this.#place;
    if (this.ended || this.#ready.length > 0 || place.removed || place.peek() !== null || place.behind) return false;
    const shared = place.isAtTip ? this.#feed.inStep.join(reader, this, place) : null;
    if (shared === null) return this.#sleep(() => reader.wake());
    this.#place = shared;
    this.#reader = reader;
    this.#interrupt = asleep;
    return true;
  }

  protected async pull(): Promise<IteratorResult<SessionEvent>> {
    while (!this.ended) {
      const ready = this.poll(); // stands alone from here on
      if (ready !== null) return { done: false, value: ready };
      const entry = this.#place.peek();
      if (entry !== null && isReadAgain(entry)) {
        const event = await this.#withReading(entry);
        if (event !== null) return { done: false, value: event };
      } else if (this.#place.removed) this.end();
      else if (this.#place.behind) await this.#catchUp();
      else await this.#wait();
    }
    return { done: true, value: undefined };
  }

  /** Who asks by itself moves no one else on. */
  #standAlone(): void {
    if (this.#reader === null) return;
    this.#feed.inStep.leave(this.#reader);
    this.goOn(this.#place.copy());
  }

  #sleep(wake: () => void): boolean {
    this.#interrupt = wake;
    return this.#feed.wait(this.#place.number, wake);
  }

  async #wait(): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<undefined>();
    if (this.#sleep(() => resolve(undefined))) await promise;
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
    const place = this.#place;
    const { me, told } = place;
    if (me.waits) {
      place.own = (await this.#retried(() => this.#started())) ?? [];
      return;
    }
    // Part of a write may have been told: the reading is held against what was, whatever its number.
    me.sequence = -1;
    me.text = told && {
      ...told.of,
      text: told.of.text.slice(0, told.offset),
      log: told.of.log.slice(0, told.logOffset),
    };
    const entries = await this.#retried(() => catchUp(me, this.#feed, (witness) => this.#feed.touch(witness)));
    if (!entries) return;
    this.#feed.caughtUp(entries.length);
    place.own = entries;
    // A full page: there is more behind it.
    if (entries.filter((entry) => entry.kind === "message").length >= pageRows) return;
    place.rejoin(from);
    place.cover(me.sequence, me.text?.runId ?? null);
  }

  /** For who waited and was not told that the session has begun: what came since is read from there on. */
  async #started(): Promise<readonly Entry[]> {
    const reading = await this.#feed.read({ pages: [] });
    if (reading !== null) return [startedBy(reading.session, reading.session.sequence)];
    return [{ kind: "removed", sequence: 0, generation: this.#place.me.generation }];
  }

  /** null: the subscriber has ended. */
  async #withReading(entry: ReadEntry): Promise<SessionEvent | null> {
    const { told } = this.#feed;
    const place = this.#place;
    const ask = () => this.#read(entry);
    const shared = place.take();
    const event = await this.#retried(() => (shared ? told.read(entry, this.#request, ask) : ask()));
    if (event === undefined) return null;
    const { me } = place;
    if (event === null) {
      place.removed = true;
      return { kind: "removed", sessionId: me.sessionId };
    }
    const { session } = event;
    if (event.kind === "opened") place.begin(session);
    else if (event.kind === "updated") {
      me.settings = settingsOf(session);
      me.readCount = session.readCount;
    } else if (entry.kind === "reset" && entry.follows) {
      me.generation = entry.generation;
      me.end = entry.kept;
      me.tipMark = entry.mark;
      // Everything else is taken from this very reading: the stream goes on behind it.
    } else place.moveTo(session);
    return event;
  }

  /** What an entry is told with that shows the session as it is; null: it is gone. */
  async #read(entry: ReadEntry): Promise<ReadEvent | null> {
    const { historyKey } = this.#place.me;
    if (entry.kind === "started") {
      const session = withEmptyPages(entry.session, this.#request.pages);
      return {
        kind: "opened",
        cursor: placeCursor(historyKey, session.generation, session.end - 1, session.tipMark),
        session,
      };
    }
    const reading = await this.#feed.read(this.#request);
    if (reading === null) return null;
    const { session } = reading;
    if (entry.kind === "updated") return { kind: "updated", session };
    const { kept } = entry;
    const cursor = entry.follows
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
}

export type Start =
  | { readonly kind: "tip"; readonly session: Session }
  /** Behind a cursor: the first page after it. */
  | { readonly kind: "after"; readonly session: Session; readonly cursor: string; readonly page: MessagePage }
  /** `kept`: where its holder goes on, if that is known. */
  | { readonly kind: "expired"; readonly session: Session; readonly cursor: string; readonly kept: Kept | null }
  /** There is no session yet. */
  | { readonly kind: "waiting" }
  /** There is no session any more. */
  | { readonly kind: "gone" };
