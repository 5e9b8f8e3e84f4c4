import { setTimeout as sleep } from "node:timers/promises";
import type { ReadRequest } from "../../conversation/conversations/api.ts";
import { encodeCursor, ExpiredCursor, noGeneration, parseAnchor } from "../../conversation/message/cursor.ts";
import { notFound } from "../../conversation/errors.ts";
import type { SessionChange, SessionEvent } from "../../conversation/events.ts";
import type { Feeds, RunWatcher, WhenAbsent } from "../../conversation/ports/feeds.ts";
import type { Live } from "../../conversation/ports/live.ts";
import { pageRows } from "./catch-up.ts";
import { invalidCursor } from "../scripts/cursor-args.ts";
import { Feed } from "./feed.ts";
import { isFinal } from "../../conversation/run.ts";
import type { Client } from "../client/connection.ts";
import type { Listener, PubSub } from "../client/hub.ts";
import { sessionKeys } from "../store/keys.ts";
import { isBatch, parsePublication } from "./publication.ts";
import { stateOf } from "../scripts/replies.ts";
import { ListFeed, ListSubscription, type ListSettings } from "./list-feed.ts";
import type { RedisSessionStore } from "../store/session-store.ts";
import { Subscription, type Start } from "./subscription.ts";

const settleStepMs = 10;

interface Shared<T> {
  readonly feed: T;
  readonly started: Promise<void>;
  subscribers: number;
}

/** All feeds of a process: one for each session (or owner's list) that somebody listens to. */
export class RedisFeeds implements Feeds {
  readonly #store: RedisSessionStore;
  readonly #redis: Client;
  readonly #hub: PubSub;
  readonly #settings: ListSettings;
  readonly #feeds = new Map<string, Shared<Feed>>();
  readonly #lists = new Map<string, Shared<ListFeed>>();
  readonly #open = new Set<{ end(): void }>();

  constructor(store: RedisSessionStore, redis: Client, hub: PubSub, settings: ListSettings) {
    this.#store = store;
    this.#redis = redis;
    this.#hub = hub;
    this.#settings = settings;
  }

  async open(
    owner: string,
    sessionId: string,
    after: string | null,
    absent: WhenAbsent,
    read: ReadRequest,
    signal: AbortSignal,
  ): Promise<Live<SessionEvent>> {
    const historyKey = this.#store.historyKey(sessionId);
    const anchor = after === null || after === "" ? null : parseAnchor(sessionId, historyKey, after);
    if (after !== null && after !== "" && !anchor) throw invalidCursor();
    const behind = anchor && "generation" in anchor && anchor.generation === noGeneration ? "" : after;
    // One feed an owner and session: what it reads, it reads as that owner (P11).
    const name = JSON.stringify([owner, sessionId]);
    for (;;) {
      const shared = this.#join(
        this.#feeds,
        name,
        () => new Feed(owner, sessionId, this.#store, this.#hub, this.#settings),
      );
      const leave = this.#leaving(this.#feeds, name, shared);
      try {
        await shared.started;
        const { feed } = shared;
        const from = feed.place;
        const waits = feed.waits;
        const start = await this.#startOf(feed, behind, absent, read);
        if (start.kind !== "waiting" || waits) {
          return this.#opened(signal, (onEnd) => new Subscription(feed, read, from, start, onEnd), leave);
        }
        // It went, and its feed has yet to find that out: who waits does so at a feed of its own.
        feed.leaveBehind();
        leave();
      } catch (error) {
        leave();
        throw error;
      }
    }
  }

  async #startOf(feed: Feed, after: string | null, absent: WhenAbsent, read: ReadRequest): Promise<Start> {
    const page = { first: pageRows, after: after === "" ? null : after, last: null, before: null };
    const request = { ...read, next: after === null ? undefined : page };
    const found = await this.#store.find(feed.owner, feed.sessionId, request);
    if (typeof found === "string") {
      if (found === "other" || absent === "refuse") throw notFound();
      return { kind: absent === "wait" ? "waiting" : "gone" };
    }
    const { session, next: first } = found;
    if (first === null) return { kind: "tip", session };
    if (first instanceof Error) {
      const kept = first instanceof ExpiredCursor ? first.kept : null;
      return { kind: "expired", session, cursor: after ?? "", kept };
    }
    const { historyKey, generation } = session;
    const beginning = { position: -1, mark: "" };
    // Not the id: the message may be edited under it, and who resumes behind it must be told.
    const named = after === "" ? beginning : first.after;
    const cursor = named ? encodeCursor(historyKey, { generation, ...named }) : (after ?? "");
    return { kind: "after", session, cursor, page: first };
  }

  async changes(owner: string, read: ReadRequest, signal: AbortSignal): Promise<AsyncIterableIterator<SessionChange>> {
    const shared = this.#join(
      this.#lists,
      owner,
      () => new ListFeed(owner, this.#store, this.#redis, this.#hub, this.#settings),
    );
    try {
      await shared.started;
    } catch (error) {
      this.#leave(this.#lists, owner, shared);
      throw error;
    }
    return this.#opened(
      signal,
      (onEnd) => new ListSubscription(shared.feed, read, onEnd),
      this.#leaving(this.#lists, owner, shared),
    );
  }

  watch(historyKey: string, watcher: RunWatcher): () => void {
    const channels = [sessionKeys(historyKey).events];
    let stopped = false;
    const listener: Listener = {
      onMessage(_channel, message) {
        if (isBatch(message)) return;
        const publication = parsePublication(message);
        if (!publication) watcher.onUnsure();
        else if (publication.kind === "write") {
          const ended = publication.lines
            .flatMap((line) => (line.kind === "run" ? stateOf(line.state) : []))
            .filter((run) => isFinal(run.status));
          if (ended.length > 0) watcher.onEnded(ended.map((run) => run.runId));
        }
      },
      onResumed: () => watcher.onUnsure(),
    };
    const subscribe = async () => {
      while (!stopped) {
        try {
          await this.#hub.subscribe(channels, listener);
          // Let go while the acknowledgement was on its way.
          if (watcherGone()) this.#hub.unsubscribe(channels, listener);
          else watcher.onUnsure();
          return;
        } catch (error) {
          this.#settings.onError(error);
          await new Promise((resolve) => setTimeout(resolve, 250).unref());
        }
      }
    };
    const watcherGone = () => stopped;
    void subscribe();
    return () => {
      stopped = true;
      this.#hub.unsubscribe(channels, listener);
    };
  }

  /**
   * Before the end: resolves when the subscribers were told all that was published so far, and have taken it; after
   * `limitMs` whatever they were told.
   */
  async settle(limitMs: number): Promise<void> {
    const deadline = performance.now() + limitMs;
    const limit = sleep(limitMs, undefined, { ref: false });
    await Promise.race([this.#hub.settled(), limit]);
    while (!this.#isQuiet() && performance.now() < deadline) await sleep(settleStepMs);
  }

  #isQuiet(): boolean {
    const quiet = ({ feed, subscribers }: Shared<Feed | ListFeed>) => feed.isQuiet(subscribers);
    return [...this.#feeds.values()].every(quiet) && [...this.#lists.values()].every(quiet);
  }

  /** Ends all subscriptions. */
  close(): void {
    for (const subscription of [...this.#open]) subscription.end();
  }

  /** For metrics and tests. */
  get size(): { readonly feeds: number; readonly subscriptions: number } {
    return { feeds: this.#feeds.size + this.#lists.size, subscriptions: this.#open.size };
  }

  /** A subscription that ends when `signal` aborts, with this process, or by itself; then `leave` is called. */
  #opened<T extends { end(): void }>(signal: AbortSignal, make: (onEnd: () => void) => T, leave: () => void): T {
    const end = () => subscription.end();
    const subscription = make(() => {
      this.#open.delete(subscription);
      signal.removeEventListener("abort", end);
      leave();
    });
    this.#open.add(subscription);
    signal.addEventListener("abort", end, { once: true });
    if (signal.aborted) end();
    return subscription;
  }

  #join<T extends Startable>(feeds: Map<string, Shared<T>>, name: string, make: () => T): Shared<T> {
    const known = feeds.get(name);
    if (known && !known.feed.removed) {
      known.subscribers++;
      return known;
    }
    const feed = make();
    const shared: Shared<T> = { feed, started: feed.start(), subscribers: 1 };
    feeds.set(name, shared);
    return shared;
  }

  /** Made here, where nothing of the reading is at hand: a subscriber keeps it as long as it listens. */
  #leaving<T extends Startable>(feeds: Map<string, Shared<T>>, name: string, shared: Shared<T>): () => void {
    return () => this.#leave(feeds, name, shared);
  }

  #leave<T extends Startable>(feeds: Map<string, Shared<T>>, name: string, shared: Shared<T>): void {
    if (--shared.subscribers > 0) return;
    if (feeds.get(name) === shared) feeds.delete(name);
    shared.feed.close();
  }
}

interface Startable {
  readonly removed: boolean;
  start(): Promise<void>;
  close(): void;
}
