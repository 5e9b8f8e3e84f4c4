import type { ReadRequest } from "../../conversation/conversations/api.ts";
import { isStoreUnavailable } from "../../conversation/errors.ts";
import type { SessionChange } from "../../conversation/events.ts";
import { isObject, parseJson } from "../../conversation/message/json.ts";
import { guarded } from "../client/failure.ts";
import type { FeedSettings } from "./feed.ts";
import type { ForeignWrites, Watcher } from "./foreign-writes.ts";
import type { Client } from "../client/connection.ts";
import type { Listener, PubSub } from "../client/hub.ts";
import { sessionKeys } from "../store/keys.ts";
import { PulledIterator, type OpenIterators } from "./pulled-iterator.ts";
import type { RedisSessionStore } from "../store/session-store.ts";

type Kind = "added" | "updated" | "removed";
/** How many sessions are asked about at a time. */
const batch = 200;
/** How many of the newest each check looks at, and how many of the others in turn. */
const newest = 50;
const inTurn = 50;
/** How many that other programs wrote are recorded at a time: whoever writes many keeps others' turns waiting that long. */
const together = 20;
const wholeEvery = 20;
const retryMs = 250;
/** Writes that come together are looked at together, in ms. */
const settleMs = 20;

/** What of a session in the list says whether anything was written. */
interface State {
  /** The number of its newest write; null: it is not there, or another's. */
  readonly sequence: string | null;
  /** Whether the history holds as many messages as were recorded. */
  readonly asRecorded: boolean;
}

/**
 * What changes among an owner's sessions. News are published beside the scripts, so one may be lost with its process or
 * with the connection: the feed knows each session's newest write and holds the list against it. After a reconnect it does
 * so with the whole list; from time to time with the newest sessions and some of the others in turn, so that a check costs
 * the same however many there are. What other programs write is told of by keyevents (foreign-writes.ts), and found by the
 * same checks: the history is longer or shorter than recorded then. Recording it is what tells everybody.
 */
export class ListFeed implements Listener, Watcher {
  readonly removed = false;
  readonly #owner: string;
  readonly #store: RedisSessionStore;
  readonly #redis: Client;
  readonly #hub: PubSub;
  readonly #settings: ListSettings;
  /** History key -> the number of its newest write that the list was seen with ("" before). */
  readonly #known = new Map<string, string>();
  /** Subscriptions, and those that are about to be. */
  subscribers = 0;
  readonly #subscribers = new Set<ListSubscription>();
  /** Histories that somebody may have written, to be looked at. */
  readonly #written = new Set<string>();
  #looking = false;
  #settle: NodeJS.Timeout | null = null;
  #check: NodeJS.Timeout | null = null;
  #comparing = false;
  /** All that was told on a lost connection is unknown. */
  #mustAll = false;
  #checks = 0;
  /** How many the list names that are not there. */
  #beside = 0;
  #round = this.#known.keys();
  #closed = false;

  constructor(owner: string, store: RedisSessionStore, redis: Client, hub: PubSub, settings: ListSettings) {
    this.#owner = owner;
    this.#store = store;
    this.#redis = redis;
    this.#hub = hub;
    this.#settings = settings;
  }

  get store(): RedisSessionStore {
    return this.#store;
  }

  get owner(): string {
    return this.#owner;
  }

  async start(): Promise<void> {
    await this.#hub.subscribe([this.#store.shared.list(this.#owner)], this);
    // Before the list is read: what is written behind that is told of.
    await this.#settings.foreignWrites?.join(this);
    try {
      for (const [key, { sequence }] of await this.#members()) this.#know(key, sequence);
    } catch (error) {
      this.close();
      throw error;
    }
    this.#planCheck();
  }

  close(): void {
    this.#closed = true;
    this.#hub.unsubscribe([this.#store.shared.list(this.#owner)], this);
    this.#settings.foreignWrites?.leave(this);
    for (const key of [...this.#known.keys()]) this.#forget(key);
    if (this.#check) clearTimeout(this.#check);
    if (this.#settle) clearTimeout(this.#settle);
  }

  /** Whether all subscribers wait for more. */
  get isQuiet(): boolean {
    return [...this.#subscribers].filter(({ waits }) => waits).length >= this.subscribers;
  }

  join(subscriber: ListSubscription): void {
    this.#subscribers.add(subscriber);
  }

  leave(subscriber: ListSubscription): void {
    this.#subscribers.delete(subscriber);
  }

  onMessage(_channel: string, message: string): void {
    const news = parseJson(message);
    if (!isObject(news) || typeof news["key"] !== "string") return;
    this.#tell(news["key"], news["kind"] === "removed" ? "removed" : "updated");
  }

  onResumed(): void {
    this.#mustAll = true;
    this.#compare();
  }

  onWritten(key: string): void {
    this.#written.add(key);
    this.#lookSoon();
  }

  #lookSoon(): void {
    if (this.#looking || this.#closed || this.#written.size === 0) return;
    this.#settle ??= setTimeout(() => {
      this.#settle = null;
      this.#looking = true;
      void this.#look().finally(() => {
        this.#looking = false;
        this.#lookSoon();
      });
    }, settleMs);
  }

  /** So many at a time, whatever the pace of who writes: one that is written again meanwhile waits for the next time. */
  async #look(): Promise<void> {
    const keys = [...this.#written].slice(0, batch);
    for (const key of keys) this.#written.delete(key);
    try {
      const unrecorded: string[] = [];
      for (const [key, { sequence, asRecorded }] of await this.#statesOf(keys)) {
        if (sequence === null) this.#tell(key, "removed");
        // As recorded, and by a write that is not known yet: that is the gateways' own, and told by themselves.
        else if (!asRecorded || this.#known.get(key) === sequence) unrecorded.push(key);
      }
      for (let i = 0; i < unrecorded.length; i += together) {
        await Promise.all(unrecorded.slice(i, i + together).map((key) => this.#record(key)));
      }
    } catch (error) {
      // Redis is away, and so may be what it had to tell.
      this.#mustAll = true;
      this.#settings.onError(error);
      this.#planCheck(retryMs);
    }
  }

  /** Who reads a history that is not as recorded records it, which is told to everybody. */
  async #record(key: string): Promise<void> {
    const sessionId = this.#store.sessionIdOf(key);
    if (sessionId === null || (await this.#store.read(this.#owner, sessionId, { pages: [] })) !== null) return;
    // What was left of it goes, or the next check would find it again.
    await this.#store.touch(this.#owner, key, null);
    this.#tell(key, "removed");
  }

  #know(key: string, sequence: string): void {
    // A check may be under way at the end.
    if (this.#closed) return;
    this.#known.set(key, sequence);
    this.#settings.foreignWrites?.watch(key, this);
  }

  #forget(key: string): boolean {
    this.#settings.foreignWrites?.unwatch(key, this);
    return this.#known.delete(key);
  }

  #tell(key: string, kind: Kind): void {
    if (this.#store.sessionIdOf(key) === null) return;
    const known = this.#known.has(key);
    if (kind === "removed") {
      if (!this.#forget(key)) return;
    } else if (!known) this.#know(key, "");
    const told = kind === "removed" ? kind : known ? "updated" : "added";
    for (const subscriber of this.#subscribers) subscriber.note(key, told);
  }

  #compare(): void {
    if (this.#closed || this.#comparing) return;
    this.#comparing = true;
    void this.#compareOnce().then((compared) => {
      this.#comparing = false;
      // The connection was lost again meanwhile.
      if (compared && this.#mustAll) this.#compare();
    });
  }

  /** Whether it could; where it could not, it is tried again soon. */
  async #compareOnce(): Promise<boolean> {
    const whole = this.#mustAll;
    this.#mustAll = false;
    this.#settings.foreignWrites?.listen();
    try {
      const listed = await guarded(this.#redis.zcard(this.#store.shared.sessions(this.#owner)));
      this.#checks++;
      // One that is not known here, or one too many: looked for seldom, as sessions that come and go look the same.
      const differs = listed - this.#known.size !== this.#beside && this.#checks % wholeEvery === 0;
      if (whole || differs || listed <= newest + inTurn) await this.#compareAll();
      else await this.#comparePart();
      return true;
    } catch (error) {
      this.#mustAll ||= whole;
      this.#settings.onError(error);
      this.#planCheck(retryMs);
      return false;
    }
  }

  async #compareAll(): Promise<void> {
    // One that comes while the list is read is not missing in it.
    const before = [...this.#known.keys()];
    const members = await this.#members();
    for (const [key, state] of members) this.#met(key, state);
    for (const key of before) if (!members.has(key)) this.#tell(key, "removed");
  }

  /** So many of the newest, and so many of all in turn. */
  async #comparePart(): Promise<void> {
    const top = await guarded(this.#redis.zrange(this.#store.shared.sessions(this.#owner), -newest, "-1"));
    const keys = new Set(top);
    for (let i = 0; i < inTurn; i++) {
      const next = this.#round.next();
      if (next.done) {
        this.#round = this.#known.keys();
        break;
      }
      keys.add(next.value);
    }
    for (const [key, state] of await this.#statesOf([...keys])) {
      if (isThere(state)) this.#met(key, state);
      else this.#tell(key, "removed");
    }
  }

  #met(key: string, { sequence, asRecorded }: Present): void {
    // Also where it was told: that may have been of an earlier write.
    if (this.#known.get(key) !== sequence) this.#tell(key, "updated");
    this.#know(key, sequence);
    if (!asRecorded) this.onWritten(key);
  }

  /** All sessions that the list names and that are there. */
  async #members(): Promise<Map<string, Present>> {
    const keys = await guarded(this.#redis.zrange(this.#store.shared.sessions(this.#owner), 0, "-1"));
    const found = new Map<string, Present>();
    for (let i = 0; i < keys.length; i += batch) {
      for (const [key, state] of await this.#statesOf(keys.slice(i, i + batch))) {
        if (isThere(state)) found.set(key, state);
      }
    }
    this.#beside = keys.length - found.size;
    return found;
  }

  async #statesOf(keys: readonly string[]): Promise<readonly (readonly [key: string, state: State])[]> {
    const own = keys.filter((key) => this.#store.sessionIdOf(key) !== null);
    return await guarded(Promise.all(own.map(async (key) => [key, await this.#stateOf(key)] as const)));
  }

  async #stateOf(key: string): Promise<State> {
    const [[owner, sequence = null, recorded], length] = await Promise.all([
      this.#redis.hmget(sessionKeys(key).session, "owner", "seq", "len"),
      this.#redis.llen(key).catch(lengthOfNone),
    ]);
    const isOurs = owner === this.#owner;
    return { sequence: isOurs ? sequence : null, asRecorded: length === null || length === Number(recorded) };
  }

  /** Many sessions are compared: less often than a session's feed reads, where events tell of them. */
  #planCheck(afterMs = this.#settings.listCheckMs()): void {
    if (this.#closed) return;
    if (this.#check) clearTimeout(this.#check);
    this.#check = setTimeout(() => {
      this.#planCheck();
      this.#compare();
    }, afterMs);
    this.#check.unref();
  }
}

export interface ListSettings extends FeedSettings {
  /** Null: other programs' writes are found by checks alone. */
  readonly foreignWrites: ForeignWrites | null;
  /** How long until the next check, in ms; asked anew each time. */
  readonly listCheckMs: () => number;
}

type Present = State & { readonly sequence: string };

function isThere(state: State): state is Present {
  return state.sequence !== null;
}

/** Where a history was there lies something else, which is nobody's to look into. */
function lengthOfNone(error: unknown): null {
  if (error instanceof Error && error.message.startsWith("WRONGTYPE")) return null;
  throw error;
}

/** One sidebar. It holds which sessions changed, each once, and reads a session when it is pulled (P10). */
export class ListSubscription extends PulledIterator<SessionChange> {
  readonly #feed: ListFeed;
  readonly #read: ReadRequest;
  readonly #pending = new Map<string, Kind>();
  #opened = false;
  #wake: (() => void) | null = null;

  constructor(feed: ListFeed, read: ReadRequest, open: OpenIterators) {
    super(open);
    this.#feed = feed;
    this.#read = read;
    feed.join(this);
  }

  note(key: string, kind: Kind): void {
    const before = this.#pending.get(key);
    // Not told yet that it came: what it became since is part of that.
    this.#pending.set(key, before === "added" && kind === "updated" ? "added" : kind);
    this.#wake?.();
  }

  /** Whether it was pulled and has nothing to give. */
  get waits(): boolean {
    return this.#wake !== null && this.#pending.size === 0;
  }

  protected release(): void {
    this.#feed.leave(this);
    this.#pending.clear();
    this.#wake?.();
  }

  protected async pull(): Promise<IteratorResult<SessionChange>> {
    while (!this.ended) {
      if (!this.#opened) {
        this.#opened = true;
        return { done: false, value: { kind: "opened", openedAt: Date.now() } };
      }
      const [next] = this.#pending;
      if (!next) {
        await new Promise<void>((resolve) => (this.#wake = resolve));
        this.#wake = null;
        continue;
      }
      const [key, kind] = next;
      const sessionId = this.#feed.store.sessionIdOf(key) ?? "";
      this.#pending.delete(key);
      if (kind === "removed") return { done: false, value: { kind: "removed", sessionId } };
      try {
        const reading = await this.#feed.store.read(this.#feed.owner, sessionId, this.#read);
        return { done: false, value: reading ? { kind, session: reading.session } : { kind: "removed", sessionId } };
      } catch (error) {
        if (!isStoreUnavailable(error)) throw error;
        if (!this.#pending.has(key)) this.#pending.set(key, kind);
        await new Promise((resolve) => setTimeout(resolve, retryMs).unref());
      }
    }
    return { done: true, value: undefined };
  }
}
