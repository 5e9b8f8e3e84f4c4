import { setTimeout as sleep } from "node:timers/promises";
import { Cluster } from "ioredis";
import type { ReadRequest } from "../../conversation/conversations/api.ts";
import {
  encodeCursor,
  ExpiredCursor,
  noGeneration,
  parseAnchor,
  invalidCursor,
} from "../../conversation/message/cursor.ts";
import { notFound } from "../../conversation/errors.ts";
import type { SessionChange, SessionEvent } from "../../conversation/events.ts";
import type { Feeds, RunWatcher, WhenAbsent } from "../../conversation/ports/feeds.ts";
import type { Live } from "../../conversation/ports/live.ts";
import { pageRows } from "./catch-up.ts";
import { Checks } from "./checks.ts";
import { Feed } from "./feed.ts";
import { isFinal } from "../../conversation/run.ts";
import type { Client } from "../client/connection.ts";
import type { Listener, PubSub } from "../client/hub.ts";
import { sessionKeys, slotOf } from "../store/keys.ts";
import { isBatch, parsePublication } from "./publication.ts";
import { stateOf } from "../scripts/replies.ts";
import { ListFeed, ListSubscription, type ListSettings } from "./list-feed.ts";
import type { RedisSessionStore } from "../store/session-store.ts";
import type { OpenIterators, PulledIterator } from "./pulled-iterator.ts";
import { Subscription, type Start } from "./subscription.ts";

const settleStepMs = 10;

/** A feed, open while it is joined: from a call of join() to its leave(), and while one of its iterators has not ended. */
class Shared<T extends Feed | ListFeed> implements OpenIterators {
  readonly feed: T;
  readonly started: Promise<void>;
  readonly iterators = new Set<PulledIterator<unknown>>();
  readonly #onUnused: () => void;
  #joining = 0;

  constructor(feed: T, onUnused: (shared: Shared<T>) => void) {
    this.feed = feed;
    this.started = feed.start();
    this.#onUnused = () => onUnused(this);
  }

  get isQuiet(): boolean {
    return this.feed.isQuiet;
  }

  join(): this {
    this.#joining++;
    this.#count();
    return this;
  }

  leave(): void {
    this.#joining--;
    this.#count();
    this.#closeUnused();
  }

  add(iterator: PulledIterator<unknown>): void {
    this.iterators.add(iterator);
    this.#count();
  }

  delete(iterator: PulledIterator<unknown>): void {
    this.iterators.delete(iterator);
    this.#count();
    this.#closeUnused();
  }

  #count(): void {
    this.feed.subscribers = this.iterators.size + this.#joining;
  }

  #closeUnused(): void {
    if (this.#joining > 0 || this.iterators.size > 0) return;
    this.#onUnused();
    this.feed.close();
  }
}

/** All feeds of a process: one for each session (or owner's list) that somebody listens to. */
export class RedisFeeds implements Feeds {
  readonly #store: RedisSessionStore;
  readonly #redis: Client;
  readonly #hub: PubSub;
  readonly #settings: ListSettings;
  readonly #checks: Checks;
  readonly #feeds = new Map<string, Shared<Feed>>();
  readonly #lists = new Map<string, Shared<ListFeed>>();
  /** All that are open, also those whose session went and came again. */
  readonly #open = new Set<Shared<Feed | ListFeed>>();

  constructor(store: RedisSessionStore, redis: Client, hub: PubSub, settings: ListSettings) {
    this.#store = store;
    this.#redis = redis;
    this.#hub = hub;
    this.#settings = settings;
    this.#checks = new Checks({
      checkMs: settings.checkMs,
      compare: (sessions) => store.compare(sessions),
      onError: settings.onError,
      ...(redis instanceof Cluster ? { groupOf: slotOf } : {}),
    });
  }

  async open(
    owner: string,
    sessionId: string,
    after: string | null,
    absent: WhenAbsent,
    read: ReadRequest,
    signal?: AbortSignal,
  ): Promise<Live<SessionEvent>> {
    const historyKey = this.#store.historyKey(sessionId);
    const anchor = after === null || after === "" ? null : parseAnchor(sessionId, historyKey, after);
    if (after !== null && after !== "" && !anchor) throw invalidCursor();
    const behind = anchor && "generation" in anchor && anchor.generation === noGeneration ? "" : after;
    // One feed an owner and session: what it reads, it reads as that owner (P11).
    const name = JSON.stringify([owner, sessionId]);
    for (;;) {
      const make = () => new Feed(owner, sessionId, this.#store, this.#hub, this.#checks, this.#settings);
      const shared = this.#join(this.#feeds, name, make);
      try {
        await shared.started;
        const { feed } = shared;
        const from = feed.place;
        const waits = feed.waits;
        const start = await this.#startOf(feed, behind, absent, read);
        if (start.kind !== "waiting" || waits) {
          return Subscription.open(feed, read, shared, from, start).endWith(signal);
        }
        // It went, and its feed has yet to find that out: a subscriber that waits does so at a feed of its own.
        feed.leaveBehind();
      } finally {
        shared.leave();
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
    const make = () => new ListFeed(owner, this.#store, this.#redis, this.#hub, this.#settings);
    const shared = this.#join(this.#lists, owner, make);
    try {
      await shared.started;
      return new ListSubscription(shared.feed, read, shared).endWith(signal);
    } finally {
      shared.leave();
    }
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
          const runs = publication.lines.flatMap((line) => (line.kind === "run" ? stateOf(line.state) : []));
          const ended = runs.filter((run) => isFinal(run.status));
          if (ended.length > 0) watcher.onEnded(ended.map((run) => run.runId));
          const waiting = runs.filter((run) => run.status === "WAITING");
          if (waiting.length > 0) watcher.onWaiting?.(waiting.map((run) => run.runId));
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
    while (![...this.#open].every(({ isQuiet }) => isQuiet) && performance.now() < deadline) await sleep(settleStepMs);
  }

  get #iterators(): readonly PulledIterator<unknown>[] {
    return [...this.#open].flatMap(({ iterators }) => [...iterators]);
  }

  /** Ends all subscriptions. */
  close(): void {
    for (const iterator of this.#iterators) iterator.end();
  }

  /** For metrics and tests. */
  get size(): { readonly feeds: number; readonly subscriptions: number } {
    return {
      feeds: this.#open.size,
      subscriptions: this.#iterators.reduce((sum, { subscribers }) => sum + subscribers, 0),
    };
  }

  #join<T extends Feed | ListFeed>(feeds: Map<string, Shared<T>>, name: string, make: () => T): Shared<T> {
    const known = feeds.get(name);
    if (known && !known.feed.removed) return known.join();
    const shared = new Shared(make(), (unused) => {
      this.#open.delete(unused);
      if (feeds.get(name) === unused) feeds.delete(name);
    });
    this.#open.add(shared);
    feeds.set(name, shared);
    return shared.join();
  }
}
