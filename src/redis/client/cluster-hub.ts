import { setTimeout as sleep } from "node:timers/promises";
import type { Cluster, Redis } from "ioredis";
import { storeUnavailable } from "../../conversation/errors.ts";
import { storeError } from "./failure.ts";
import { ChannelListeners, type Listener, type PubSub } from "./hub.ts";
import { Link, type LinkEvents } from "./link.ts";
import { slotOf } from "../store/keys.ts";

const retryMs = 100;
/** After that long without its connection, in ms, the slot is looked for again: it may have another primary by now. */
const patienceMs = 250;

/**
 * All pub/sub of a process in a cluster: a connection to each primary that has a channel's slot. Publications are sharded
 * (SSUBSCRIBE), so that one is carried by its own shard only; keyspace events are told by the key's own primary alone,
 * to plain subscribers. A channel of one kind of event (keyevent) each primary has for its own keys: it is heard at all of
 * them, as far as they can be reached, and nobody waits for those that cannot.
 *
 *     wanted ──subscribe──▶ heard (in #places) ──connection closed, or let go by the server──▶ unheard
 *                             │  ▲──────────────────── resume, listeners read ─────────────────────┘
 *                             └──slot elsewhere: resume there, listeners read──▶ heard
 */
export class ClusterHub implements PubSub {
  readonly #cluster: Cluster;
  readonly #connect: (node: string) => Redis;
  /** How long a channel may take to be subscribed, and how often the connections are asked whether they live; in ms. */
  readonly #limitMs: number;
  readonly #onError: (error: unknown) => void;
  readonly #listeners = new ChannelListeners();
  /** Where each channel is heard. */
  readonly #places = new Map<string, string>();
  /** What was heard and is not any more; also where a newcomer has subscribed it since: the others have to read. */
  readonly #unheard = new Set<string>();
  readonly #resuming = new Set<string>();
  /** Keyevent channels, and at which primaries each is heard. */
  readonly #spread = new Map<string, Set<string>>();
  /** "channel node": is being subscribed. */
  readonly #spreading = new Set<string>();
  readonly #links = new Map<string, SubscriberLink>();
  readonly #watch: NodeJS.Timeout;
  #refreshedAt = -Infinity;
  #closed = false;

  constructor(cluster: Cluster, connect: (node: string) => Redis, limitMs: number, onError: (error: unknown) => void) {
    this.#cluster = cluster;
    this.#connect = connect;
    this.#limitMs = limitMs;
    this.#onError = onError;
    for (const event of ["refresh", "+node", "-node"]) cluster.on(event, () => this.#follow());
    this.#watch = setInterval(() => void this.#check(), limitMs);
    this.#watch.unref();
  }

  get ready(): boolean {
    return this.#cluster.status === "ready" && [...this.#links.values()].every((link) => link.redis.status === "ready");
  }

  async subscribe(channels: readonly string[], listener: Listener): Promise<void> {
    this.#listeners.add(channels, listener);
    // Sent also for a channel that is heard already: the answer says that it really is.
    const placed = await Promise.allSettled(
      channels.map((channel) => (isKeyevent(channel) ? this.#spreadOut(channel, false) : this.#place(channel))),
    );
    const failed = placed.find((one) => one.status === "rejected");
    if (!failed) return;
    this.unsubscribe(channels, listener);
    throw storeError(failed.reason);
  }

  unsubscribe(channels: readonly string[], listener: Listener): void {
    for (const channel of this.#listeners.remove(channels, listener)) {
      const node = this.#places.get(channel);
      this.#places.delete(channel);
      this.#unheard.delete(channel);
      if (node !== undefined) this.#leave(node, channel);
      for (const one of this.#spread.get(channel) ?? []) this.#leave(one, channel);
      this.#spread.delete(channel);
    }
  }

  async settled(): Promise<void> {
    const ready = [...this.#links.values()].filter(({ redis }) => redis.status === "ready");
    await Promise.all(ready.map(({ redis }) => redis.ping().catch(this.#onError)));
  }

  close(): void {
    this.#closed = true;
    clearInterval(this.#watch);
    for (const link of this.#links.values()) link.redis.disconnect();
    this.#links.clear();
  }

  /** Subscribes a channel where its slot is now; asks again while the slot is on its way or its server is away. */
  async #place(channel: string): Promise<void> {
    const deadline = performance.now() + this.#limitMs;
    for (;;) {
      const node = this.#nodeOf(channel);
      try {
        if (node === undefined) throw storeUnavailable(new Error("The cluster's slots are not known"));
        const link = this.#link(node);
        await link.ready(patienceMs);
        await link.subscribe(channel);
        // Nobody waits for it any more, and who let it go found no place to leave.
        if (!this.#listeners.has(channel)) {
          this.#leave(node, channel);
          return;
        }
        const before = this.#places.get(channel);
        this.#places.set(channel, node);
        if (before !== undefined && before !== node) this.#leave(before, channel);
        return;
      } catch (error) {
        if (performance.now() >= deadline || this.#closed) throw error;
        this.#refresh();
        await sleep(retryMs);
        if (!this.#listeners.has(channel)) return;
      }
    }
  }

  /** Subscribes a keyevent channel at each primary where it is not heard. `resumed`: what those told meanwhile is unknown. */
  async #spreadOut(channel: string, resumed: boolean): Promise<void> {
    const heard = this.#spread.get(channel) ?? new Set<string>();
    this.#spread.set(channel, heard);
    const missing = [...this.#primaries()].filter((node) => !heard.has(node));
    await Promise.all(missing.map((node) => this.#spreadTo(node, channel, heard, resumed)));
  }

  async #spreadTo(node: string, channel: string, heard: Set<string>, resumed: boolean): Promise<void> {
    const name = `${channel} ${node}`;
    if (this.#spreading.has(name)) return;
    this.#spreading.add(name);
    try {
      const link = this.#link(node);
      await link.ready(patienceMs);
      await link.subscribe(channel);
      if (this.#spread.get(channel) !== heard) {
        this.#leave(node, channel);
        return;
      }
      heard.add(node);
      if (resumed) for (const listener of this.#listeners.of(channel)) listener.onResumed();
    } catch (error) {
      // The connection, the next refresh of the slots, or the next check brings another try.
      this.#onError(error);
    } finally {
      this.#spreading.delete(name);
    }
  }

  #primaries(): ReadonlySet<string> {
    return new Set(this.#cluster.slots.flatMap((slot) => slot[0] ?? []));
  }

  #nodeOf(channel: string): string | undefined {
    return this.#cluster.slots[slotOf(keyOf(channel))]?.[0];
  }

  #link(node: string): SubscriberLink {
    const known = this.#links.get(node);
    if (known) return known;
    if (this.#closed) throw storeUnavailable(new Error("The gateway is closed"));
    const lost = (isMeant: (channel: string) => boolean) => {
      for (const [channel, place] of this.#places) {
        if (place !== node || !isMeant(channel)) continue;
        this.#places.delete(channel);
        this.#unheard.add(channel);
      }
    };
    const link = new SubscriberLink(this.#connect(node), {
      onMessage: (channel, message) => this.#listeners.tell(channel, message),
      onReady: () => this.#follow(),
      onClosed: () => {
        lost(() => true);
        for (const heard of this.#spread.values()) heard.delete(node);
      },
      onLetGo: () => {
        // The server does not say which through ioredis, and the slot may even be back by now.
        lost((channel) => !isPlain(channel));
        this.#cluster.refreshSlotsCache(() => this.#follow());
      },
    });
    this.#links.set(node, link);
    return link;
  }

  #leave(node: string, channel: string): void {
    const redis = this.#links.get(node)?.redis;
    if (redis?.status !== "ready") return;
    (isPlain(channel) ? redis.unsubscribe(channel) : redis.sunsubscribe(channel)).catch(this.#onError);
  }

  /** What is not heard where its slot is now is subscribed there. Connections to servers without slots are let go. */
  #follow(): void {
    if (this.#closed) return;
    const elsewhere = [...this.#places].flatMap(([channel, node]) =>
      (this.#nodeOf(channel) ?? node) === node ? [] : [channel],
    );
    for (const channel of new Set([...this.#unheard, ...elsewhere])) void this.#resume(channel);
    for (const channel of this.#spread.keys()) void this.#spreadOut(channel, true);
    const used = new Set([...this.#places.values(), ...this.#primaries()]);
    for (const [node, { redis }] of this.#links) {
      if (used.has(node)) continue;
      redis.disconnect();
      this.#links.delete(node);
      for (const heard of this.#spread.values()) heard.delete(node);
    }
  }

  async #resume(channel: string): Promise<void> {
    if (this.#resuming.has(channel)) return;
    this.#resuming.add(channel);
    try {
      await this.#place(channel);
      this.#unheard.delete(channel);
      // What was published meanwhile is unknown.
      for (const listener of this.#listeners.of(channel)) listener.onResumed();
    } catch (error) {
      // The next refresh of the slots, or the next check, tries again; feeds read from time to time meanwhile.
      if (this.#listeners.has(channel)) this.#unheard.add(channel);
      this.#onError(error);
    } finally {
      this.#resuming.delete(channel);
    }
  }

  async #check(): Promise<void> {
    const lost = await Promise.all([...this.#links.values()].map((link) => link.isMute(this.#onError)));
    if (lost.includes(true)) this.#refresh();
    this.#follow();
  }

  /** Each refresh opens a connection, and all channels of a slot ask at once. */
  #refresh(): void {
    const now = performance.now();
    if (now - this.#refreshedAt < retryMs) return;
    this.#refreshedAt = now;
    this.#cluster.refreshSlotsCache();
  }
}

function isKeyspace(channel: string): boolean {
  return channel.startsWith("__keyspace@");
}

function isKeyevent(channel: string): boolean {
  return channel.startsWith("__keyevent@");
}

/** What servers tell of their own keys is no shard's publication. */
function isPlain(channel: string): boolean {
  return isKeyspace(channel) || isKeyevent(channel);
}

/** What decides a channel's slot: its own name, or the key that a keyspace channel is about. */
function keyOf(channel: string): string {
  return isKeyspace(channel) ? channel.slice(channel.indexOf(":") + 1) : channel;
}

interface SubscriberEvents extends LinkEvents {
  readonly onMessage: (channel: string, message: string) => void;
  /** Sharded channels were unsubscribed by the server, because their slot went elsewhere. */
  readonly onLetGo: () => void;
}

/** The subscriber connection to one primary. */
class SubscriberLink extends Link {
  /** ioredis says "moved" for both: an SSUBSCRIBE that was sent elsewhere, and a channel that the server let go. */
  #moved = 0;
  #sentElsewhere = 0;

  constructor(redis: Redis, { onMessage, onLetGo, ...events }: SubscriberEvents) {
    super(redis, events);
    redis.on("message", onMessage);
    redis.on("smessage", onMessage);
    redis.on("moved", () => {
      // Behind the rejections that go with it.
      if (this.#moved++ > 0) return;
      setImmediate(() => {
        const letGo = this.#moved > this.#sentElsewhere;
        this.#moved = this.#sentElsewhere = 0;
        if (letGo) onLetGo();
      });
    });
  }

  /** Resolves with the acknowledgement, which counts for its own connection only. */
  async subscribe(channel: string): Promise<void> {
    const { epoch } = this;
    try {
      await (isPlain(channel) ? this.redis.subscribe(channel) : this.redis.ssubscribe(channel));
    } catch (error) {
      if (!isPlain(channel) && error instanceof Error && error.message.startsWith("MOVED ")) this.#sentElsewhere++;
      throw error;
    }
    if (this.epoch !== epoch) throw new Error("The connection was lost behind a subscription");
  }

  /** Whether it is away, or is dropped now because it does not answer. */
  async isMute(onError: (error: unknown) => void): Promise<boolean> {
    if (this.redis.status !== "ready") return true;
    try {
      await this.redis.ping();
      return false;
    } catch (error) {
      onError(error);
      this.redis.disconnect(true);
      return true;
    }
  }
}
