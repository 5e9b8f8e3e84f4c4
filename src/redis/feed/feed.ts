import type { Cursor } from "../../conversation/message/cursor.ts";
import type { LiveReader } from "../../conversation/ports/live.ts";
import type { Session } from "../../conversation/session.ts";
import { startedBy } from "./beginning.ts";
import { catchUp, pageRows } from "./catch-up.ts";
import { Follower, type Entry } from "./follower.ts";
import type { Listener, PubSub } from "../client/hub.ts";
import { sessionKeys } from "../store/keys.ts";
import { isBatch, parsePublication } from "./publication.ts";
import type { RedisSessionStore } from "../store/session-store.ts";
import type { StoreRead } from "../../conversation/ports/store.ts";
import type { FeedPlace } from "./place.ts";

export interface FeedSettings {
  /** Database of the keyspace channels. */
  readonly db: number;
  /** How often the list is read although nothing was told, in ms; asked anew each time. */
  readonly checkMs: () => number;
  /** A subscriber that had fallen behind has read so many events from its own place. */
  readonly onCaughtUp?: (events: number) => void;
  readonly onError: (error: unknown) => void;
}

const ringEntries = 512;
const ringChars = 4_000_000;
/** Publications that are kept while a reading is under way; beyond that the reading is made again. */
const keptPublications = 1000;
/** Own publications explain keyspace events that arrive this many ms around them. */
const settleMs = 5;
/** After a reading that failed, in ms; a Redis that is away is asked again long before the next check. */
const retryMs = 250;
/** They change how long the list lives, and leave its rows; own writes bring them too. */
const lifeEvents = new Set(["expire", "persist"]);

/**
 * What happens in one session, for all its subscribers in this process. It holds the tip and a short ring of entries,
 * no history: who falls out of the ring reads on from its own place (P10). Pub/sub only wakes and carries; whenever a
 * publication does not fit exactly the list is read (P3).
 *
 *     starting ──(there is no such session)──▶ waiting ──(a reading finds it)──▶ following ──(it goes)──▶ removed
 *        └──────────────────────────(there is one)──────────────────────────────────▲
 *
 * A waiting feed writes nothing, and tells nothing: what another owner does under the id looks like nothing (P11).
 */
export class Feed implements Listener {
  readonly owner: string;
  readonly sessionId: string;
  readonly historyKey: string;
  readonly #store: RedisSessionStore;
  readonly #hub: PubSub;
  readonly #settings: FeedSettings;
  readonly #channels: readonly string[];
  readonly #keyspaceChannel: string;
  readonly #waiting = new Set<LiveReader>();
  #waking = false;
  #ring: Entry[] = [];
  #ringChars = 0;
  #removed = false;
  #leftBehind = false;
  #started = false;
  #first = 0;
  #follower: Follower | null = null;
  #reading: Promise<void> | null = null;
  #readAgain = false;
  #owed = 0;
  #lifeChanged = false;
  #ownWrite = false;
  #settle: NodeJS.Timeout | null = null;
  #check: NodeJS.Timeout | null = null;
  #closed = false;
  #early: string[] = [];

  constructor(owner: string, sessionId: string, store: RedisSessionStore, hub: PubSub, settings: FeedSettings) {
    this.owner = owner;
    this.sessionId = sessionId;
    this.#store = store;
    this.#hub = hub;
    this.#settings = settings;
    this.historyKey = store.historyKey(sessionId);
    const keys = sessionKeys(this.historyKey);
    this.#keyspaceChannel = `__keyspace@${settings.db}__:${keys.history}`;
    this.#channels = [keys.events, this.#keyspaceChannel];
  }

  /** Subscribes, awaits the acknowledgement, then reads: what comes between is kept and applied behind the reading. */
  async start(): Promise<void> {
    await this.#hub.subscribe(this.#channels, this);
    try {
      const reading = await this.#store.read(this.owner, this.sessionId, { pages: [] });
      if (reading) this.#follower = Follower.of(reading.session);
    } catch (error) {
      this.close();
      throw error;
    }
    this.#started = true;
    // It may have been started behind the reading's back.
    if (this.waits && this.#early.length > 0) this.#readAgain = true;
    this.#publishEarly();
    this.#readOwed();
    this.#planCheck();
  }

  close(): void {
    this.#closed = true;
    this.#hub.unsubscribe(this.#channels, this);
    if (this.#settle) clearTimeout(this.#settle);
    if (this.#check) clearTimeout(this.#check);
    this.#wake();
  }

  /** Number of the next entry that will be told. */
  get next(): number {
    return this.#first + this.#ring.length;
  }

  get place(): FeedPlace {
    return { number: this.next, sequence: this.#follower?.sequence ?? 0 };
  }

  /** undefined: not there yet; null: it has left the ring. */
  entry(number: number): Entry | null | undefined {
    return number < this.#first ? null : this.#ring[number - this.#first];
  }

  /** Wakes the reader once there is an entry of this number, or the feed is closed; false: that is so already. */
  wait(number: number, reader: LiveReader): boolean {
    if (number < this.next || this.#closed) return false;
    this.#waiting.add(reader);
    return true;
  }

  unwait(reader: LiveReader): void {
    this.#waiting.delete(reader);
  }

  /** There was no such session yet when it last looked. */
  get waits(): boolean {
    return this.#started && this.#follower === null;
  }

  /** Whether all of so many subscriptions wait for more, with nothing on its way to them. */
  isQuiet(subscriptions: number): boolean {
    if (this.#waking || this.#reading !== null || this.#readAgain) return false;
    return this.#waiting.size >= subscriptions && [...this.#waiting].every(({ isDone }) => isDone);
  }

  /** The session is gone: who opens it again gets a new feed. */
  get removed(): boolean {
    return this.#removed || this.#leftBehind;
  }

  /** Somebody has seen that the session is gone. */
  leaveBehind(): void {
    this.#leftBehind = true;
    this.#readSoon();
  }

  caughtUp(events: number): void {
    this.#settings.onCaughtUp?.(events);
  }

  touch(witness: Cursor): Promise<unknown> {
    return this.#store.touch(this.owner, this.historyKey, witness);
  }

  read(request: StoreRead): ReturnType<RedisSessionStore["read"]> {
    return this.#store.read(this.owner, this.sessionId, request);
  }

  readUnless(request: StoreRead, state: string): ReturnType<RedisSessionStore["readUnless"]> {
    return this.#store.readUnless(this.owner, this.sessionId, request, state);
  }

  onMessage(channel: string, message: string): void {
    if (channel === this.#keyspaceChannel) this.#listEvent(message);
    else if (this.#follower && !this.#reading) this.#published(message);
    // A text begins no session; behind a write that may have, it is kept.
    else if (this.waits && this.#early.length === 0 && isBatch(message)) return;
    else {
      if (this.#early.length < keptPublications) this.#early.push(message);
      else this.#readAgain = true;
      if (this.waits) this.#readSoon();
    }
  }

  onResumed(): void {
    this.#readSoon();
  }

  #published(message: string): void {
    const publication = parsePublication(message);
    if (!publication || !this.#follower) {
      this.#readSoon();
      return;
    }
    if (publication.kind === "write") {
      this.#ownWrite = true;
      this.#explain(-publication.pushes);
    } else if (this.#follower.slides) {
      // A batch of text pushes nothing, and lets the list live longer.
      this.#ownWrite = true;
      this.#explain(0);
    }
    let entries: readonly Entry[] | null;
    try {
      entries = this.#follower.apply(publication);
    } catch (error) {
      // Not what a script of ours publishes. The list is the truth, whoever sent it.
      this.#settings.onError(error);
      entries = null;
    }
    if (entries) this.#tell(entries);
    else this.#readSoon();
  }

  /** What came while a reading was under way; a publication among it may start the next one. */
  #publishEarly(): void {
    for (;;) {
      const message = this.#reading || !this.#follower ? undefined : this.#early.shift();
      if (message === undefined) return;
      this.#published(message);
    }
  }

  #listEvent(event: string): void {
    // Retention trims what it pushes beyond its limit, in the same write.
    if (event === "lpush" || event === "ltrim") this.#explain(1);
    else if (lifeEvents.has(event)) {
      this.#lifeChanged = true;
      this.#explain(0);
    } else this.#readSoon();
  }

  /** Events of the list and own publications cancel out; what remains a moment later was foreign. */
  #explain(by: number): void {
    this.#owed += by;
    this.#settle ??= setTimeout(() => {
      this.#settle = null;
      const ownLife = this.#ownWrite && this.#follower?.slides === true;
      const foreign = this.#owed > 0 || (this.#lifeChanged && !ownLife);
      this.#owed = 0;
      this.#lifeChanged = this.#ownWrite = false;
      if (foreign) this.#readSoon();
    }, settleMs);
  }

  #readSoon(): void {
    if (this.#closed || this.#removed) return;
    // Owed also while the first reading is on its way: it may have been made before what is told now.
    if (this.#reading || !this.#started) {
      this.#readAgain = true;
      return;
    }
    const reading = this.#follower ? this.#readNow(this.#follower) : this.#lookForStart();
    this.#reading = reading.finally(() => {
      this.#reading = null;
      // What the reading held already is older than it and passes by; the rest fits behind it.
      this.#publishEarly();
      this.#readOwed();
    });
  }

  #readOwed(): void {
    if (!this.#readAgain || this.#reading) return;
    this.#readAgain = false;
    this.#readSoon();
  }

  async #lookForStart(): Promise<void> {
    const before = this.#early.length;
    try {
      const reading = await this.read({ pages: [] });
      if (reading) this.#begin(reading.session);
      // What came before the reading has started nothing that is there. Of what came since nobody knows yet.
      else this.#early.splice(0, before);
    } catch (error) {
      this.#settings.onError(error);
      this.#planCheck(retryMs);
    }
  }

  /** From the write that started it on, where that was heard: all is told as it was published. Else it is read. */
  #begin(session: Session): void {
    const heard = this.#early.map(parsePublication);
    const first = heard.findLastIndex(
      (one) => one?.kind === "write" && one.added && one.generation === session.generation,
    );
    const write = heard[first];
    const before = write?.kind === "write" ? write.sequence - 1 : null;
    this.#early.splice(0, Math.max(first, 0));
    const started = startedBy(session, before ?? session.sequence);
    this.#follower = Follower.of(started.session);
    this.#follower.readCount = session.readCount;
    if (before === null) this.#readAgain = true;
    else this.#follower.sequence = before;
    this.#tell([started]);
  }

  async #readNow(follower: Follower): Promise<void> {
    try {
      let entries = await catchUp(follower, this, (witness) => this.touch(witness), follower.state);
      // Farther behind than a page: the feed goes to the tip at once, its subscribers read on from their own places.
      if (entries.filter((entry) => entry.kind === "message").length >= pageRows) {
        const reading = await this.read({ pages: [] });
        if (!reading) this.#readAgain = true;
        else if (!isAt(follower, reading.session)) {
          this.#follower = Follower.of(reading.session);
          this.#drop(this.#ring.length);
          this.#first += 1;
          entries = [];
          this.#wake();
        }
      }
      this.#tell(entries);
    } catch (error) {
      // Redis is away: read again until it is back; subscribers wait meanwhile.
      this.#settings.onError(error);
      this.#planCheck(retryMs);
    }
  }

  #tell(entries: readonly Entry[]): void {
    if (entries.length === 0 || this.#closed) return;
    this.#ring.push(...entries);
    for (const entry of entries) {
      this.#ringChars += charsOf(entry);
      if (entry.kind === "removed") this.#removed = true;
    }
    let excess = Math.max(0, this.#ring.length - ringEntries);
    for (let chars = this.#ringChars; chars > ringChars && excess < this.#ring.length - 1; excess++)
      chars -= charsOf(this.#ring[excess]);
    this.#drop(excess);
    this.#wake();
  }

  #drop(count: number): void {
    for (const entry of this.#ring.splice(0, count)) this.#ringChars -= charsOf(entry);
    this.#first += count;
  }

  /** A moment later: publications that arrive together wake the subscriptions once, and are taken in one go. */
  #wake(): void {
    if (this.#waking) return;
    this.#waking = true;
    queueMicrotask(() => {
      this.#waking = false;
      const waiting = [...this.#waiting];
      this.#waiting.clear();
      for (const reader of waiting) reader.wake();
    });
  }

  #planCheck(afterMs = this.#settings.checkMs()): void {
    if (this.#closed) return;
    if (this.#check) clearTimeout(this.#check);
    const jitter = 0.8 + 0.4 * Math.random();
    this.#check = setTimeout(() => {
      this.#planCheck();
      this.#readSoon();
    }, afterMs * jitter);
    this.#check.unref();
  }
}

function isAt(follower: Follower, session: Session): boolean {
  return session.generation === follower.generation && session.end === follower.end;
}

function charsOf(entry: Entry | undefined): number {
  if (entry?.kind === "message") return entry.row.raw.length;
  return entry?.kind === "run" ? entry.run.text.length + entry.run.log.length + (entry.run.inputRow?.length ?? 0) : 0;
}
