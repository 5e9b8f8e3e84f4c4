import type { ReadRequest } from "../../conversation/conversations/api.ts";
import type { Kept } from "../../conversation/message/cursor.ts";
import { isStoreUnavailable } from "../../conversation/errors.ts";
import type { SessionEvent } from "../../conversation/events.ts";
import type { Live, LiveReader } from "../../conversation/ports/live.ts";
import type { MessagePage, Session } from "../../conversation/session.ts";
import { startedBy, withEmptyPages } from "./beginning.ts";
import { catchUp, pageRows, placeCursor } from "./catch-up.ts";
import type { Feed } from "./feed.ts";
import { deliveredOf, settingsOf, type Entry } from "./follower.ts";
import { isReadAgain, Place, type ReadEntry, type FeedPlace } from "./place.ts";
import { PulledIterator, type OpenIterators } from "./pulled-iterator.ts";

/** How long a subscriber waits before it asks a store that was away again, in ms. */
const retryMs = 250;

/** For all that deliver nothing before the feed. */
const nothing: readonly SessionEvent[] = [];

const asleep: LiveReader = { wake: () => undefined, isDone: true };

/**
 * A subscription to a feed: its own place in it, pulled by its consumer. While it waits it holds nothing; when the ring has
 * moved past it, it reads on from its place as if it had been away (P10). return() ends it at once, also while it waits.
 */
export class Subscription extends PulledIterator<SessionEvent> implements Live<SessionEvent> {
  readonly #feed: Feed;
  readonly #request: ReadRequest;
  readonly #open: OpenIterators;
  readonly #place: Place;
  /** What it delivers before all that the place leads to. */
  #ready: readonly SessionEvent[];
  /** Woken at its end. Not a promise to race with: it would keep every race for as long as the subscription lives. */
  #waiter: LiveReader = asleep;

  private constructor(
    feed: Feed,
    request: ReadRequest,
    open: OpenIterators,
    place: Place,
    ready: readonly SessionEvent[],
  ) {
    super(open);
    this.#feed = feed;
    this.#request = request;
    this.#open = open;
    this.#place = place;
    this.#ready = ready;
  }

  /** `from`: where the feed stood before the reading. */
  static open(feed: Feed, request: ReadRequest, open: OpenIterators, from: FeedPlace, start: Start): Subscription {
    if (start.kind === "waiting" || start.kind === "gone") {
      const { sessionId } = feed;
      const place = Place.waiting(feed, from);
      place.removed = start.kind === "gone";
      const first: SessionEvent = place.removed
        ? { kind: "removed", sessionId }
        : { kind: "waiting", cursor: place.cursor(), sessionId };
      return new Subscription(feed, request, open, place, [first]);
    }
    const { session } = start;
    const place = Place.at(session, feed, from);
    // Of an expired one it stays: a client that is cut off before the reset resumes from it, and gets the reset.
    const cursor = start.kind === "tip" ? place.cursor() : start.cursor;
    const opened: SessionEvent = { kind: "opened", cursor, session };
    if (start.kind === "expired") {
      const kept = start.kept?.position ?? 0;
      if (start.kept !== null && kept > 0) place.goBack(session.generation, start.kept);
      const reset: SessionEvent = { kind: "reset", kept, cursor: place.cursor(), session };
      return new Subscription(feed, request, open, place, [opened, reset]);
    }
    if (start.kind === "after") place.goOnBehind(session, start.page);
    return new Subscription(feed, request, open, place, [opened]);
  }

  fork(): Subscription {
    const fork = new Subscription(this.#feed, this.#request, this.#open, this.#place.copy(), this.#ready);
    if (this.ended) fork.end();
    return fork;
  }

  isLevelWith(other: Live<SessionEvent>): boolean {
    return other instanceof Subscription && this.#isAtTip && other.#isAtTip && this.#place.isLike(other.#place);
  }

  get #isAtTip(): boolean {
    return !this.ended && this.#ready.length === 0 && this.#place.isAtTip;
  }

  get origin(): object | null {
    return this.#place.origin;
  }

  protected release(): void {
    this.#ready = nothing;
    this.#place.own = [];
    const waiter = this.#waiter;
    this.#feed.unwait(waiter);
    queueMicrotask(() => waiter.wake());
  }

  poll(): SessionEvent | null {
    if (this.ended) return null;
    const [ready] = this.#ready;
    if (ready === undefined) return this.#place.poll();
    this.#ready = this.#ready.length === 1 ? nothing : this.#ready.slice(1);
    this.#place.origin = null;
    return ready;
  }

  wait(reader: LiveReader): boolean {
    const place = this.#place;
    if (this.ended || this.#ready.length > 0 || place.removed || place.peek() !== null || place.behind) return false;
    this.#waiter = reader;
    return this.#feed.wait(place.number, reader);
  }

  protected async pull(): Promise<IteratorResult<SessionEvent>> {
    while (!this.ended) {
      const ready = this.poll();
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

  async #wait(): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<undefined>();
    if (this.wait({ wake: () => resolve(undefined), isDone: true })) await promise;
  }

  /** Settles as `wait` says, or with undefined when the subscriber ends before. */
  #orEnd<T>(wait: (resolve: (value: T) => void, reject: (error: unknown) => void) => void): Promise<T | undefined> {
    return new Promise<T | undefined>((resolve, reject) => {
      this.#waiter = { wake: () => resolve(undefined), isDone: false };
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
    me.text = told && deliveredOf(told.of, told.offset, told.logOffset);
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
    const place = this.#place;
    place.take();
    const event = await this.#retried(() => this.#read(entry));
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

/** Events that show the session as it is. */
type ReadEvent = Extract<SessionEvent, { readonly kind: "opened" | "updated" | "reset" }>;

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
