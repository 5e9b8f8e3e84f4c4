import type { Cursor } from "../../conversation/message/cursor.ts";
import type { LiveReader } from "../../conversation/ports/live.ts";
import type { Session } from "../../conversation/session.ts";
import { startedBy } from "./beginning.ts";
import { catchUp, pageRows } from "./catch-up.ts";
import { Follower, type Entry } from "./follower.ts";
import type { Listener, PubSub } from "../client/hub.ts";
import { sessionKeys } from "../store/keys.ts";
import type { Checked, Checks } from "./checks.ts";
import { KeyspaceEvents } from "./keyspace-events.ts";
import { isBatch, parsePublication, type Publication } from "./publication.ts";
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

/**
 * What happens in one session, for all its subscribers in this process. It holds the tip and a short ring of entries that
 * some of them have yet to take, no history: who falls out of the ring reads on from its own place (P10). Pub/sub only
 * wakes and carries; whenever a publication does not fit exactly the list is read (P3).
 *
 *     starting ──(there is no such session)──▶ waiting ──(a reading finds it)──▶ following ──(it goes)──▶ removed
 *        └──────────────────────────(there is one)──────────────────────────────────▲
 *
 * A waiting feed writes nothing, and tells nothing: what another owner does under the id looks like nothing (P11).
 */
export class Feed implements Listener, Checked {
  readonly owner: string;
  readonly sessionId: string;
  readonly historyKey: string;
  readonly sessionKey: string;
  readonly #store: RedisSessionStore;
  readonly #hub: PubSub;
  readonly #checks: Checks;
  readonly #settings: FeedSettings;
  readonly #channels: readonly string[];
  readonly #keyspaceChannel: string;
  /** Subscriptions, and those that are about to be. */
  subscribers = 0;
  #waiting = new Set<LiveReader>();
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
  readonly #keyspaceEvents = new KeyspaceEvents(() => this.#readSoon());
  /** Of a session that there is not, or that is another's: what was compared last. */
  #absent = "";
  /** It may have missed something, and is not compared yet. */
  #unsure = false;
  #closed = false;
  /** Publications that wait for a reading; null: one that is not known. */
  #early: (Publication | null)[] = [];

  constructor(
    owner: string,
    sessionId: string,
    store: RedisSessionStore,
    hub: PubSub,
    checks: Checks,
    settings: FeedSettings,
  ) {
    this.owner = owner;
    this.sessionId = sessionId;
    this.#store = store;
    this.#hub = hub;
    this.#checks = checks;
    this.#settings = settings;
    this.historyKey = store.historyKey(sessionId);
    const keys = sessionKeys(this.historyKey);
    this.sessionKey = keys.session;
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
    if (!this.#closed) this.#checks.add(this);
  }

  close(): void {
    this.#closed = true;
    this.#hub.unsubscribe(this.#channels, this);
    this.#keyspaceEvents.close();
    this.#checks.delete(this);
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
    // All of them have taken what there is: nobody comes back to it.
    if (!this.#waking && this.#waiting.size >= this.subscribers) this.#drop(this.#ring.length);
    return true;
  }

  unwait(reader: LiveReader): void {
    this.#waiting.delete(reader);
  }

  /** There was no such session yet when it last looked. */
  get waits(): boolean {
    return this.#started && this.#follower === null;
  }

  /** Whether all subscriptions wait for more, with nothing on its way to them. */
  get isQuiet(): boolean {
    if (this.#waking || this.#reading !== null || this.#readAgain) return false;
    if (this.#unsure && !this.#removed) return false;
    return this.#waiting.size >= this.subscribers && [...this.#waiting].every(({ isDone }) => isDone);
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

  get known(): string {
    return this.#follower ? this.#follower.known : this.#absent;
  }

  compared(state: string | null): void {
    this.#unsure = false;
    // Its publication may have come meanwhile.
    if (state === null || (state !== "" && state === this.known)) return;
    // Read behind this: what comes in between is found by the next comparison.
    this.#absent = state;
    this.#readSoon();
  }

  onMessage(channel: string, message: string): void {
    if (channel === this.#keyspaceChannel) {
      this.#keyspaceEvents.take(message);
      return;
    }
    // A text begins no session; behind a write that may have, it is kept.
    if (this.waits && this.#early.length === 0 && isBatch(message)) return;
    const publication = parsePublication(message);
    // Held against the list's events now, also where it waits for a reading: they come now. A batch of text pushes nothing;
    // where the list's life slides, it slides with it.
    const pushes = publication?.kind === "write" ? publication.pushes : 0;
    this.#keyspaceEvents.explain(pushes, this.#follower?.slides === true ? 1 : 0);
    if (this.#follower && !this.#reading) this.#published(publication, this.#follower);
    else {
      if (this.#early.length < keptPublications) this.#early.push(publication);
      else this.#readAgain = true;
      if (this.waits) this.#readSoon();
    }
  }

  onResumed(): void {
    if (!this.#started) {
      this.#readAgain = true;
      return;
    }
    this.#unsure = true;
    this.#checks.soon(this);
  }

  #published(publication: Publication | null, follower: Follower): void {
    let entries: readonly Entry[] | null = null;
    try {
      if (publication) entries = follower.apply(publication);
    } catch (error) {
      // Not what a script of ours publishes. The list is the truth, whoever sent it.
      this.#settings.onError(error);
    }
    if (entries) this.#tell(entries);
    else this.#readSoon();
  }

  /** What came while a reading was under way; a publication among it may start the next one. */
  #publishEarly(): void {
    for (;;) {
      const publication = this.#reading ? undefined : this.#early[0];
      if (publication === undefined || !this.#follower) return;
      this.#early.shift();
      this.#published(publication, this.#follower);
    }
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
      this.#absent = "";
      this.#checks.retry(this);
    }
  }

  /** From the write that started it on, where that was heard: all is told as it was published. Else it is read. */
  #begin(session: Session): void {
    const first = this.#early.findLastIndex(
      (one) => one?.kind === "write" && one.added && one.generation === session.generation,
    );
    const write = this.#early[first];
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
      let entries = await catchUp(follower, this, (witness) => this.touch(witness));
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
      follower.stamp = "";
      this.#checks.retry(this);
    }
  }

  #tell(entries: readonly Entry[]): void {
    if (entries.length === 0 || this.#closed) return;
    this.#ring.push(...entries);
    for (const entry of entries) {
      this.#ringChars += charsOf(entry);
      if (entry.kind !== "removed") continue;
      this.#removed = true;
      this.#checks.delete(this);
    }
    let excess = Math.max(0, this.#ring.length - ringEntries);
    for (let chars = this.#ringChars; chars > ringChars && excess < this.#ring.length - 1; excess++)
      chars -= charsOf(this.#ring[excess]);
    this.#drop(excess);
    this.#wake();
  }

  #drop(count: number): void {
    if (count === 0) return;
    this.#first += count;
    if (count === this.#ring.length) {
      this.#ring = [];
      this.#ringChars = 0;
    } else for (const entry of this.#ring.splice(0, count)) this.#ringChars -= charsOf(entry);
  }

  /** A moment later: publications that arrive together wake the subscriptions once, and are taken in one go. */
  #wake(): void {
    if (this.#waking) return;
    this.#waking = true;
    queueMicrotask(() => {
      this.#waking = false;
      const waiting = this.#waiting;
      this.#waiting = new Set();
      for (const reader of waiting) reader.wake();
    });
  }
}

function isAt(follower: Follower, session: Session): boolean {
  return session.generation === follower.generation && session.end === follower.end;
}

function charsOf(entry: Entry | undefined): number {
  if (entry?.kind === "message") return entry.row.raw.length;
  return entry?.kind === "run" ? entry.run.text.length + entry.run.log.length + (entry.run.inputRow?.length ?? 0) : 0;
}
