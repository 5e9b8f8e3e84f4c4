import type { ReadRequest } from "../conversation/api.ts";
import { isStoreUnavailable } from "../conversation/errors.ts";
import type { SessionChange } from "../conversation/events.ts";
import { isObject, parseJson } from "../conversation/json.ts";
import { guarded } from "./failure.ts";
import type { FeedSettings } from "./feed.ts";
import type { Client } from "./connection.ts";
import type { Listener, PubSub } from "./hub.ts";
import { listChannel, sessionKeys, sessionsKey } from "./keys.ts";
import { PulledIterator } from "./pulled-iterator.ts";
import type { RedisSessionStore } from "./session-store.ts";

type Kind = "added" | "updated" | "removed";
const batch = 200;
const retryMs = 250;

/**
 * What changes among an owner's sessions. News are published beside the scripts, so one may be lost with its process or
 * with the connection: the feed knows each session's newest write and holds the list against it, after a reconnect and
 * from time to time.
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
  #compareAgain = false;
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
    await this.#hub.subscribe([listChannel(this.#owner)], this);
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
    this.#hub.unsubscribe([listChannel(this.#owner)], this);
    if (this.#check) clearTimeout(this.#check);
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
    if (this.#closed) return;
    if (this.#comparing) {
      this.#compareAgain = true;
      return;
    }
    this.#comparing = true;
    void this.#compareOnce().finally(() => {
      this.#comparing = false;
      if (!this.#compareAgain) return;
      this.#compareAgain = false;
      this.#compare();
    });
  }

  async #compareOnce(): Promise<void> {
    try {
      // One that comes while the list is read is not missing in it.
      const before = [...this.#known.keys()];
      const members = await this.#members();
      for (const [key, sequence] of members) {
        // Also where it was told: that may have been of an earlier write.
        if (this.#known.get(key) !== sequence) this.#tell(key, "updated");
        this.#known.set(key, sequence);
      }
      for (const key of before) if (!members.has(key)) this.#tell(key, "removed");
    } catch (error) {
      this.#settings.onError(error);
      this.#planCheck(retryMs);
    }
  }

  /** All sessions that the list names and that are there. */
  async #members(): Promise<Map<string, string>> {
    const keys = await guarded(this.#redis.zrange(sessionsKey(this.#owner), 0, "-1"));
    const found = new Map<string, string>();
    for (let i = 0; i < keys.length; i += batch) {
      const part = keys.slice(i, i + batch).filter((key) => this.#store.sessionIdOf(key) !== null);
      const sequences = await guarded(
        Promise.all(part.map((key) => this.#redis.hget(sessionKeys(key).session, "seq"))),
      );
      sequences.forEach((sequence, at) => {
        const key = part[at];
        if (sequence !== null && key !== undefined) found.set(key, sequence);
      });
    }
    return found;
  }

  /** The whole list is compared, so less often than a session's feed reads. */
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
  #wake: () => void = () => undefined;

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
    this.#wake();
  }

  protected release(): void {
    this.#feed.leave(this);
    this.#pending.clear();
    this.#wake();
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
