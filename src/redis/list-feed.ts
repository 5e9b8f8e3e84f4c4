import type { ReadRequest } from "../conversation/api.ts";
import { isStoreUnavailable } from "../conversation/errors.ts";
import type { SessionChange } from "../conversation/events.ts";
import { isObject, parseJson } from "../conversation/json.ts";
import { guarded } from "./failure.ts";
import type { FeedSettings } from "./feed.ts";
import type { Client } from "./connection.ts";
import type { Listener, PubSub } from "./hub.ts";
import { sessionKeys } from "./keys.ts";
import { PulledIterator } from "./pulled-iterator.ts";
import type { RedisSessionStore } from "./session-store.ts";

type Kind = "added" | "updated" | "removed";
const batch = 200;
const wholeEvery = 20;
const retryMs = 250;

/**
 * What changes among an owner's sessions. News are published beside the scripts, so one may be lost with its process or
 * with the connection: the feed knows each session's newest write and holds the list against it. After a reconnect it does
 * so with the whole list; from time to time with the newest sessions and some of the others in turn, so that a check costs
 * the same however many there are.
 */
export class ListFeed implements Listener {
  readonly removed = false;
  readonly #owner: string;
  readonly #store: RedisSessionStore;
  readonly #redis: Client;
  readonly #hub: PubSub;
  readonly #settings: FeedSettings;
  /** History key -> the number of its newest write that the list was seen with ("" before). */
  readonly #known = new Map<string, string>();
  readonly #subscribers = new Set<ListSubscription>();
  #check: NodeJS.Timeout | null = null;
  #comparing = false;
  /** All that was told on a lost connection is unknown. */
  #mustAll = false;
  #checks = 0;
  /** How many the list names that are not there. */
  #beside = 0;
  #round = this.#known.keys();
  #closed = false;

  constructor(owner: string, store: RedisSessionStore, redis: Client, hub: PubSub, settings: FeedSettings) {
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
    try {
      for (const [key, sequence] of await this.#members()) this.#known.set(key, sequence);
    } catch (error) {
      this.close();
      throw error;
    }
    this.#planCheck();
  }

  close(): void {
    this.#closed = true;
    this.#hub.unsubscribe([this.#store.shared.list(this.#owner)], this);
    if (this.#check) clearTimeout(this.#check);
  }

  /** Whether all of so many subscribers wait for more. */
  isQuiet(subscribers: number): boolean {
    return [...this.#subscribers].filter(({ waits }) => waits).length >= subscribers;
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

  #tell(key: string, kind: Kind): void {
    if (this.#store.sessionIdOf(key) === null) return;
    const known = this.#known.has(key);
    if (kind === "removed") {
      if (!this.#known.delete(key)) return;
    } else if (!known) {
      this.#known.set(key, "");
    }
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
    try {
      const listed = await guarded(this.#redis.zcard(this.#store.shared.sessions(this.#owner)));
      this.#checks++;
      // One that is not known here, or one too many: looked for seldom, as sessions that come and go look the same.
      const differs = listed - this.#known.size !== this.#beside && this.#checks % wholeEvery === 0;
      if (whole || differs || listed <= 2 * batch) await this.#compareAll();
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
    for (const [key, sequence] of members) this.#met(key, sequence);
    for (const key of before) if (!members.has(key)) this.#tell(key, "removed");
  }

  /** So many of the newest, and so many of all in turn. */
  async #comparePart(): Promise<void> {
    const newest = await guarded(this.#redis.zrange(this.#store.shared.sessions(this.#owner), -batch, "-1"));
    const keys = new Set(newest);
    for (let i = 0; i < batch; i++) {
      const next = this.#round.next();
      if (next.done) {
        this.#round = this.#known.keys();
        break;
      }
      keys.add(next.value);
    }
    for (const [key, sequence] of await this.#sequencesOf([...keys])) {
      if (sequence !== null) this.#met(key, sequence);
      else this.#tell(key, "removed");
    }
  }

  #met(key: string, sequence: string): void {
    // Also where it was told: that may have been of an earlier write.
    if (this.#known.get(key) !== sequence) this.#tell(key, "updated");
    this.#known.set(key, sequence);
  }

  /** All sessions that the list names and that are there. */
  async #members(): Promise<Map<string, string>> {
    const keys = await guarded(this.#redis.zrange(this.#store.shared.sessions(this.#owner), 0, "-1"));
    const found = new Map<string, string>();
    for (let i = 0; i < keys.length; i += batch) {
      for (const [key, sequence] of await this.#sequencesOf(keys.slice(i, i + batch))) {
        if (sequence !== null) found.set(key, sequence);
      }
    }
    this.#beside = keys.length - found.size;
    return found;
  }

  /** The number of each session's newest write; null: it is not there. */
  async #sequencesOf(keys: readonly string[]): Promise<readonly (readonly [key: string, sequence: string | null])[]> {
    const own = keys.filter((key) => this.#store.sessionIdOf(key) !== null);
    return await guarded(
      Promise.all(own.map(async (key) => [key, await this.#redis.hget(sessionKeys(key).session, "seq")] as const)),
    );
  }

  /** Many sessions are compared, so less often than a session's feed reads. */
  #planCheck(afterMs = this.#settings.checkMs() * (2.5 + Math.random())): void {
    if (this.#closed) return;
    if (this.#check) clearTimeout(this.#check);
    this.#check = setTimeout(() => {
      this.#planCheck();
      this.#compare();
    }, afterMs);
    this.#check.unref();
  }
}

/** One sidebar. It holds which sessions changed, each once, and reads a session when it is pulled (P10). */
export class ListSubscription extends PulledIterator<SessionChange> {
  readonly #feed: ListFeed;
  readonly #read: ReadRequest;
  readonly #pending = new Map<string, Kind>();
  #opened = false;
  #wake: (() => void) | null = null;

  constructor(feed: ListFeed, read: ReadRequest, onEnd: () => void) {
    super(onEnd);
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
