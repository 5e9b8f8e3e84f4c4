import calculateSlot from "cluster-key-slot";
import type { Cluster, Redis } from "ioredis";
import { storeUnavailable } from "../conversation/errors.ts";
import { guarded } from "./failure.ts";
import { ChannelListeners, type Listener, type PubSub } from "./hub.ts";

const attempts = 20;
const retryMs = 100;

/**
 * All pub/sub of a process in a cluster: a connection to each primary that has a channel's slot. Publications are sharded
 * (SSUBSCRIBE), so that one is carried by its own shard only; keyspace events are told by the key's own primary alone,
 * to plain subscribers. When a slot moves, its channels are subscribed anew where it went, and their listeners read.
 */
export class ClusterHub implements PubSub {
  readonly #cluster: Cluster;
  readonly #connect: (node: string) => Redis;
  readonly #onError: (error: unknown) => void;
  readonly #listeners = new ChannelListeners();
  /** Where each channel is subscribed. */
  readonly #places = new Map<string, string>();
  readonly #links = new Map<string, Redis>();
  readonly #watch: NodeJS.Timeout;
  #mapping = false;
  #closed = false;

  constructor(
    cluster: Cluster,
    connect: (node: string) => Redis,
    pingEveryMs: number,
    onError: (error: unknown) => void,
  ) {
    this.#cluster = cluster;
    this.#connect = connect;
    this.#onError = onError;
    for (const event of ["refresh", "+node", "-node", "node error"]) cluster.on(event, () => void this.#follow());
    this.#watch = setInterval(() => void this.#check(), pingEveryMs);
    this.#watch.unref();
  }

  get ready(): boolean {
    return this.#cluster.status === "ready" && [...this.#links.values()].every((link) => link.status === "ready");
  }

  async subscribe(channels: readonly string[], listener: Listener): Promise<void> {
    this.#listeners.add(channels, listener);
    try {
      for (const channel of channels) await this.#place(channel);
    } catch (error) {
      this.unsubscribe(channels, listener);
      throw error;
    }
  }

  unsubscribe(channels: readonly string[], listener: Listener): void {
    for (const channel of this.#listeners.remove(channels, listener)) {
      const node = this.#places.get(channel);
      this.#places.delete(channel);
      if (node !== undefined) this.#leave(node, channel);
    }
  }

  close(): void {
    this.#closed = true;
    clearInterval(this.#watch);
    for (const link of this.#links.values()) link.disconnect();
    this.#links.clear();
  }

  /** Subscribes a channel where its slot is now; asks again while the slot is on its way. */
  async #place(channel: string): Promise<void> {
    for (let attempt = 0; ; attempt++) {
      const node = this.#nodeOf(channel);
      try {
        if (node === undefined) throw storeUnavailable(new Error("The cluster's slots are not known"));
        await guarded(subscribeTo(this.#link(node), channel));
        const before = this.#places.get(channel);
        this.#places.set(channel, node);
        if (before !== undefined && before !== node) this.#leave(before, channel);
        return;
      } catch (error) {
        if (attempt >= attempts || this.#closed) throw error;
        this.#cluster.refreshSlotsCache();
        await new Promise((resolve) => setTimeout(resolve, retryMs));
      }
    }
  }

  #nodeOf(channel: string): string | undefined {
    return this.#cluster.slots[calculateSlot(keyOf(channel))]?.[0];
  }

  #link(node: string): Redis {
    const known = this.#links.get(node);
    if (known) return known;
    const link = this.#connect(node);
    const dispatch = (channel: string, message: string) => this.#listeners.tell(channel, message);
    link.on("message", dispatch);
    link.on("smessage", dispatch);
    link.on("moved", () => this.#cluster.refreshSlotsCache(() => void this.#follow()));
    let started = false;
    link.on("ready", () => {
      if (started) void this.#resume(node);
      started = true;
    });
    this.#links.set(node, link);
    return link;
  }

  #leave(node: string, channel: string): void {
    const link = this.#links.get(node);
    if (link?.status !== "ready") return;
    (isKeyspace(channel) ? link.unsubscribe(channel) : link.sunsubscribe(channel)).catch(this.#onError);
  }

  /** The connection to a node came back: what was published meanwhile is unknown. */
  async #resume(node: string): Promise<void> {
    const channels = [...this.#places].filter(([, place]) => place === node).map(([channel]) => channel);
    await this.#move(channels);
  }

  /** Channels whose slot is elsewhere now are subscribed there. */
  async #follow(): Promise<void> {
    if (this.#mapping || this.#closed) return;
    this.#mapping = true;
    try {
      const moved = [...this.#places]
        .filter(([channel, node]) => (this.#nodeOf(channel) ?? node) !== node)
        .map(([channel]) => channel);
      await this.#move(moved);
      const used = new Set(this.#places.values());
      const nodes = new Set(this.#cluster.slots.flatMap((slot) => slot[0] ?? []));
      for (const [node, link] of this.#links) {
        if (used.has(node) || nodes.has(node)) continue;
        link.disconnect();
        this.#links.delete(node);
      }
    } finally {
      this.#mapping = false;
    }
  }

  async #move(channels: readonly string[]): Promise<void> {
    const told = new Set<Listener>();
    for (const channel of channels) {
      if (!this.#places.has(channel)) continue;
      try {
        await this.#place(channel);
      } catch (error) {
        // The next refresh of the slots, or the next check, tries again; feeds read from time to time meanwhile.
        this.#onError(error);
        continue;
      }
      for (const listener of this.#listeners.of(channel)) told.add(listener);
    }
    for (const listener of told) listener.onResumed();
  }

  async #check(): Promise<void> {
    let lost = false;
    for (const link of this.#links.values()) {
      if (link.status !== "ready") {
        lost = true;
        continue;
      }
      try {
        await link.ping();
      } catch (error) {
        this.#onError(error);
        link.disconnect(true);
        lost = true;
      }
    }
    if (lost) this.#cluster.refreshSlotsCache();
    await this.#follow();
  }
}

function isKeyspace(channel: string): boolean {
  return channel.startsWith("__keyspace@");
}

/** What decides a channel's slot: its own name, or the key that a keyspace channel is about. */
function keyOf(channel: string): string {
  return isKeyspace(channel) ? channel.slice(channel.indexOf(":") + 1) : channel;
}

function subscribeTo(link: Redis, channel: string): Promise<unknown> {
  return isKeyspace(channel) ? link.subscribe(channel) : link.ssubscribe(channel);
}
