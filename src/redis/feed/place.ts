import type { Kept } from "../../conversation/message/cursor.ts";
import type { PlacedMessage, SessionEvent } from "../../conversation/events.ts";
import {
  hasEnd,
  messageAt,
  recordAt,
  textAt,
  textIndexAt,
  toolPartAt,
  type LogRecord,
} from "../../conversation/part-log.ts";
import { isFinal } from "../../conversation/run.ts";
import type { MessagePage, Session } from "../../conversation/session.ts";
import { placeCursor } from "./catch-up.ts";
import { Follower, type Entry, type RunText } from "./follower.ts";

/** Where a feed stands: the number of its next entry, and the write of the newest. */
export interface FeedPlace {
  readonly number: number;
  readonly sequence: number;
}

/** What a place reads of the feed that it is in. */
interface Ring {
  readonly sessionId: string;
  readonly historyKey: string;
  /** The number of the entry that comes next. */
  readonly next: number;
  readonly place: FeedPlace;
  /** null: it has left the ring; undefined: it is not there yet. */
  entry(number: number): Entry | null | undefined;
}

export type ReadEntry = Entry & { readonly kind: "started" | "updated" | "reset" };
type QuickEntry = Exclude<Entry, ReadEntry>;
type ProgressEntry = Extract<Entry, { readonly kind: "progress" }>;

/** How much of a run's part log, and of the text of the message that is being made there, in UTF-16 units. */
interface Delivered {
  readonly offset: number;
  readonly logOffset: number;
  /** Of that message. */
  readonly localId: string;
}

/** Whether it is told with the session, as each reader asks for it. */
export function isReadAgain(entry: Entry): entry is ReadEntry {
  return entry.kind === "started" || entry.kind === "updated" || entry.kind === "reset";
}

/** For all who have nothing of their own. */
const nothing: readonly Entry[] = [];

/** Over WebSockets nobody asks for its cursor, but where it is selected. */
class MessageEvent {
  readonly kind = "message";
  readonly message: PlacedMessage;

  constructor(message: PlacedMessage) {
    this.message = message;
  }

  get cursor(): string {
    const { historyKey, generation, row } = this.message;
    return placeCursor(historyKey, generation, row.position, row.mark);
  }
}

/** Where a subscription stands in a feed: what it has delivered, and so what is new to it. */
export class Place {
  readonly feed: Ring;
  me: Follower;
  /** Entries that are this subscriber's alone: what it catches up with. */
  own: readonly Entry[] = nothing;
  /** Of the feed's next entry that was not looked at. */
  number: number;
  /** The feed's entry that the last event was made of; null: it depends on what else was delivered. */
  origin: Entry | null = null;
  /** Behind the tip by more than a page: keeps reading before it listens. */
  behind = false;
  removed = false;
  /** How much of which run's text and part log was delivered. */
  told: (Delivered & { readonly of: RunText }) | null;
  /** The newest write that a reading of this subscriber's covered, and the run that was going then. */
  #covered: number;
  #coveredRun: string | null;
  /** The write of the newest entry of the feed: one that is lower says that Redis lost writes, and counts anew. */
  #heard: number;

  private constructor(feed: Ring, me: Follower, told: Place["told"], from: FeedPlace) {
    this.feed = feed;
    this.me = me;
    this.told = told;
    this.number = from.number;
    this.#heard = from.sequence;
    this.#covered = -1;
    this.#coveredRun = null;
  }

  /** At what a reading showed. `from`: where the feed stood before it. */
  static at(session: Session, feed: Ring, from: FeedPlace): Place {
    const place = new Place(feed, Follower.of(session), toldOf(session), from);
    place.cover(session.sequence, session.activeRun?.runId ?? null);
    return place;
  }

  /** In front of the session's beginning. */
  static waiting(feed: Ring, from: FeedPlace): Place {
    return new Place(feed, new Follower(feed.sessionId, feed.historyKey), null, from);
  }

  copy(): Place {
    const copy = new Place(this.feed, this.me.copy(), this.told, { number: this.number, sequence: this.#heard });
    copy.own = this.own;
    copy.behind = this.behind;
    copy.removed = this.removed;
    copy.cover(this.#covered, this.#coveredRun);
    return copy;
  }

  /** A reading of this subscriber's showed what was written up to this write. */
  cover(sequence: number, runId: string | null): void {
    this.#covered = sequence;
    this.#coveredRun = runId;
  }

  /** Goes on in the feed from where it stood before a reading. */
  rejoin(from: FeedPlace): void {
    this.behind = false;
    this.number = from.number;
    this.#heard = from.sequence;
  }

  /** Reads on from farther back before it listens: what it was told from there on was cut. */
  goBack(generation: number, { position, mark }: Kept): void {
    this.me.generation = generation;
    this.me.end = position;
    this.me.tipMark = mark;
    this.behind = true;
  }

  /** Delivers the first page behind a cursor; where that is not all, it reads on before it listens. */
  goOnBehind({ sequence, generation, end, tipMark }: Session, { rows, hasNextPage }: MessagePage): void {
    this.own = rows.map((row) => ({ kind: "message", row, sequence, generation }));
    const last = rows.at(-1);
    if (!hasNextPage) return;
    this.me.end = last ? last.position + 1 : end;
    this.me.tipMark = last?.mark ?? tipMark;
    this.behind = true;
  }

  /** Goes on behind all that a reading showed. */
  moveTo(session: Session): void {
    this.me.generation = session.generation;
    this.me.end = session.end;
    this.me.tipMark = session.tipMark;
    this.own = nothing;
    this.told = toldOf(session);
    this.cover(session.sequence, session.activeRun?.runId ?? null);
  }

  /** Goes on from the session's beginning: all that happens in it is new. */
  begin(session: Session): void {
    this.me = Follower.of(session);
    this.own = nothing;
    this.cover(-1, null);
  }

  /** Whether all that it waits for is what the feed brings next. */
  get isAtTip(): boolean {
    return this.own.length === 0 && !this.behind && !this.removed && this.number === this.feed.next;
  }

  /** Of two at the tip: whether both deliver the same of whatever comes, and are alike behind it. */
  isLike(other: Place): boolean {
    const { sequence } = this.feed.place;
    const covers = (place: Place) => (place.#covered < sequence ? null : `${place.#covered} ${place.#coveredRun}`);
    return (
      this.#heard === other.#heard &&
      covers(this) === covers(other) &&
      this.told?.of.runId === other.told?.of.runId &&
      this.told?.offset === other.told?.offset &&
      this.told?.logOffset === other.told?.logOffset &&
      this.me.standsLike(other.me)
    );
  }

  /** An event that needs no reading; null: there is none, and peek() says what leads on. */
  poll(): SessionEvent | null {
    for (let entry = this.peek(); entry !== null && !isReadAgain(entry); entry = this.peek()) {
      const event = this.#tell(entry);
      if (event !== null) return event;
    }
    return null;
  }

  /** The next entry that is new to this subscriber, which take() takes. null: there is none, or it has to catch up. */
  peek(): Entry | null {
    if (this.removed) return null;
    const own = this.own[0];
    if (own !== undefined) return own;
    while (!this.behind) {
      const next = this.feed.entry(this.number);
      if (next === undefined) return null;
      if (next === null) {
        this.behind = true;
        return null;
      }
      if (next.sequence < this.#heard) this.#covered = -1;
      this.#heard = next.sequence;
      if (this.#isNew(next)) return next;
      this.number++;
    }
    return null;
  }

  /** Takes what peek() has shown. */
  take(): void {
    if (this.own.length === 0) this.number++;
    else this.own = this.own.length === 1 ? nothing : this.own.slice(1);
  }

  cursor(): string {
    return placeCursor(this.me.historyKey, this.me.generation, this.me.end - 1, this.me.tipMark);
  }

  /** Whether an entry of the feed is not covered by a reading that this subscriber had. */
  #isNew(entry: Entry): boolean {
    switch (entry.kind) {
      case "started":
        return this.me.waits;
      case "message":
        // Another generation is told by a reset before it; what came before a reset that was read is over.
        return entry.generation === this.me.generation && entry.row.position >= this.me.end;
      case "progress":
        return (
          entry.sequence > this.#covered || (entry.sequence === this.#covered && entry.of.runId === this.#coveredRun)
        );
      case "removed":
        return true;
      case "reset":
        return entry.sequence > this.#covered || entry.generation !== this.me.generation;
      case "run":
      case "updated":
        return entry.sequence > this.#covered;
    }
  }

  /** Takes the entry; null: there is nothing new in it. */
  #tell(entry: QuickEntry): SessionEvent | null {
    const { me } = this;
    if (entry.kind === "progress") return this.#progress(entry);
    this.origin = this.own.length === 0 ? entry : null;
    this.take();
    if (entry.kind === "message") {
      me.generation = entry.generation;
      me.end = entry.row.position + 1;
      me.tipMark = entry.row.mark;
    } else if (entry.kind === "removed") this.removed = true;
    else if (isFinal(entry.run.status)) {
      me.close(entry.run);
      // Its text was told before: who was told of it stands where one does who came later.
      if (this.told?.of.runId === entry.run.runId) this.told = null;
    } else me.open.set(entry.run.runId, entry.run.status);
    return this.#eventOf(entry);
  }

  #eventOf(entry: Exclude<QuickEntry, { readonly kind: "progress" }>): SessionEvent {
    const { sessionId, historyKey, generation } = this.me;
    switch (entry.kind) {
      case "message":
        return new MessageEvent({ sessionId, historyKey, generation, row: entry.row });
      case "run":
        return { kind: "run", run: entry.run };
      case "removed":
        return { kind: "removed", sessionId };
    }
  }

  #progress(entry: ProgressEntry): SessionEvent | null {
    const { feed } = this;
    let last = entry;
    this.origin = null;
    this.take();
    // Batches of the same run that wait behind this one are told as one.
    for (
      let next = feed.entry(this.number);
      this.own.length === 0 && next?.kind === "progress";
      next = feed.entry(this.number)
    ) {
      if (next.of.runId !== entry.of.runId) break;
      last = next;
      this.take();
    }
    const { of, end, logEnd } = last;
    const before = this.told?.of.runId === of.runId ? this.told : { offset: 0, logOffset: 0, localId: of.replyLocalId };
    const event = this.#nextOf(last, before);
    if (event === null) return null;
    const { offset, logOffset } = this.told ?? before;
    // What is of several parts is told as several events: the rest is delivered next.
    if (logOffset < logEnd || offset < end) this.own = [last, ...this.own];
    return event;
  }

  /** The first event of what the entry has beyond `before`, and from then on that was delivered; null: nothing. */
  #nextOf({ of, end, logEnd }: ProgressEntry, before: Delivered): SessionEvent | null {
    const { log, runId } = of;
    const { sessionId } = this.me;
    let { offset, logOffset, localId } = before;
    for (;;) {
      const record = logOffset < logEnd ? recordAt(log, logOffset) : null;
      const text = textAt(log, logOffset, of.text);
      const limit = record !== null && hasEnd(log.slice(logOffset, logEnd), 0) ? text.length : end;
      const textEnd = Math.min(limit, record?.at ?? limit);
      if (textEnd > offset) {
        this.told = { of, offset: textEnd, logOffset, localId };
        const index = textIndexAt(log, logOffset);
        return {
          ...{ kind: "progress", sessionId, runId, replyLocalId: localId, index, offset },
          text: text.slice(offset, textEnd),
        };
      }
      if (record === null) return null;
      logOffset = record.next;
      if (record.kind === "message") localId = record.localId;
      if (record.kind === "message" || record.kind === "ended") offset = 0;
      else {
        const event = this.#partEvent(of, record, localId, logEnd);
        logOffset = event.next;
        this.told = { of, offset, logOffset, localId };
        return event.event;
      }
      this.told = { of, offset, logOffset, localId };
    }
  }

  /** What a record that is a part, or of one, is told as; with the records behind it that go into the same event. */
  #partEvent(
    of: RunText,
    record: Exclude<LogRecord, { readonly kind: "message" | "ended" }>,
    messageLocalId: string,
    logEnd: number,
  ): { readonly event: SessionEvent; readonly next: number } {
    const { log, runId } = of;
    const { index, offset } = record;
    const where = { sessionId: this.me.sessionId, runId, index };
    if (record.kind === "data") {
      const { callId, name, data, next } = record;
      return {
        event: { kind: "partAdded", ...where, part: { kind: "data", messageLocalId, callId, name, data } },
        next,
      };
    }
    if (record.kind === "change") {
      const { next } = record;
      const part = toolPartAt(log, index, next, messageLocalId);
      // A change of no call: nothing of ours writes it.
      if (part === null) return { event: { kind: "partProgress", ...where, offset: 0, text: "" }, next };
      return { event: { kind: "partChanged", ...where, part }, next };
    }
    const grows = record.kind === "reasoning" ? "reasoning" : "arguments";
    let text = record.kind === "call" ? "" : record.text;
    let { next } = record;
    for (
      let more = next < logEnd ? recordAt(log, next) : null;
      more?.kind === grows && more.index === index && more.offset > 0 === (offset > 0 || text !== "");
      more = next < logEnd ? recordAt(log, next) : null
    ) {
      text += more.text;
      next = more.next;
    }
    if (record.kind === "call") {
      const { callId, name } = record;
      const part = {
        kind: "tool",
        messageLocalId,
        callId,
        name,
        argsText: text,
        revision: 0,
        status: "WRITING",
      } as const;
      return { event: { kind: "partAdded", ...where, part }, next };
    }
    if (record.kind === "reasoning" && offset === 0)
      return { event: { kind: "partAdded", ...where, part: { kind: "reasoning", messageLocalId, text } }, next };
    return { event: { kind: "partProgress", ...where, offset, text }, next };
  }
}

function toldOf(session: Session): Place["told"] {
  const run = session.activeRun;
  if (run === null) return null;
  const { runId, replyLocalId, text, log } = run;
  const of = { runId, replyLocalId, text, log };
  // While tools work, the run names its next message already; what they tell is of the one that calls them.
  const localId = messageAt(log, log.length) ?? replyLocalId;
  return { of, offset: text.length, logOffset: log.length, localId };
}
