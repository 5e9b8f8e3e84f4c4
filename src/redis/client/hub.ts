import type { Redis } from "ioredis";
import { guarded } from "./failure.ts";
import { isReplica, runIdOf } from "./role.ts";

export interface Listener {
  /** What was published; for keyspace channels the name of the event. */
  readonly onMessage: (channel: string, message: string) => void;
  /** The connection was away and all is subscribed again: what was published meanwhile is unknown. */
  readonly onResumed: () => void;
}

export interface PubSub {
  /** Whether all that is subscribed is heard right now. */
  readonly ready: boolean;
  /** Resolves when Redis has acknowledged: what is published from then on is heard. */
  subscribe(channels: readonly string[], listener: Listener): Promise<void>;
  unsubscribe(channels: readonly string[], listener: Listener): void;
  /** Resolves when all that was published before is heard, or cannot be. */
  settled(): Promise<void>;
  close(): void;
}

/** Who listens to which channel. */
export class ChannelListeners {
  readonly #listeners = new Map<string, Set<Listener>>();

  get channels(): readonly string[] {
    return [...this.#listeners.keys()];
  }

  of(channel: string): Iterable<Listener> {
    return this.#listeners.get(channel) ?? [];
  }

  all(): ReadonlySet<Listener> {
    return new Set([...this.#listeners.values()].flatMap((one) => [...one]));
  }

  has(channel: string): boolean {
    return this.#listeners.has(channel);
  }

  tell(channel: string, message: string): void {
    for (const listener of this.of(channel)) {
      try {
        listener.onMessage(channel, message);
      } catch {
        // Anybody may publish anything; what cannot be understood is as good as missed, and must not end the process.
        listener.onResumed();
      }
    }
  }

  add(channels: readonly string[], listener: Listener): void {
    for (const channel of channels) {
      const listeners = this.#listeners.get(channel);
      if (listeners) listeners.add(listener);
      else this.#listeners.set(channel, new Set([listener]));
    }
  }

  /** Gives the channels that nobody listens to any more. */
  remove(channels: readonly string[], listener: Listener): readonly string[] {
    return channels.filter((channel) => {
      const listeners = this.#listeners.get(channel);
      listeners?.delete(listener);
      if (listeners?.size !== 0) return false;
      this.#listeners.delete(channel);
      return true;
    });
  }
}

/**
 * All pub/sub of a process on one connection. Resubscribing is done here and not by ioredis, because a feed must read
 * behind the acknowledgement, not before it. A mute connection is found by asking it for its role, and dropped.
 *
 * A server that is demoted while it lives keeps its subscribers, and may hear of nothing any more. The connection for
 * commands learns of it by its first write (READONLY) and leads to the new primary when it is ready again, so then this
 * one is compared with it. Where nothing is written, the role tells both of them.
 */
export class Hub implements PubSub {
  readonly #redis: Redis;
  /** The connection for commands. */
  readonly #client: Redis;
  readonly #listeners = new ChannelListeners();
  readonly #onError: (error: unknown) => void;
  readonly #watch: NodeJS.Timeout;
  /** Let go while the connection was away: a SUBSCRIBE that waited in it may be sent all the same. */
  readonly #stray = new Set<string>();
  #started = false;
  #looking = false;
  #closed = false;

  constructor(redis: Redis, client: Redis, lookEveryMs: number, onError: (error: unknown) => void) {
    this.#redis = redis;
    this.#client = client;
    this.#onError = onError;
    redis.on("message", (channel: string, message: string) => {
      this.#listeners.tell(channel, message);
    });
    redis.on("ready", () => void this.#resume());
    client.on("ready", this.#compare);
    this.#watch = setInterval(() => void this.#look(), lookEveryMs);
    this.#watch.unref();
  }

  get ready(): boolean {
    return this.#redis.status === "ready";
  }

  async subscribe(channels: readonly string[], listener: Listener): Promise<void> {
    this.#listeners.add(channels, listener);
    try {
      // Sent also for a channel that is subscribed already: the answer says that it really is, after a reconnect too.
      await guarded(this.#redis.subscribe(...channels));
    } catch (error) {
      this.unsubscribe(channels, listener);
      throw error;
    }
  }

  unsubscribe(channels: readonly string[], listener: Listener): void {
    const unused = this.#listeners.remove(channels, listener);
    if (unused.length === 0 || this.#closed) return;
    if (this.#redis.status === "ready") this.#redis.unsubscribe(...unused).catch(this.#onError);
    else for (const channel of unused) this.#stray.add(channel);
  }

  /** What Redis had to deliver stands on the connection before the answer. */
  async settled(): Promise<void> {
    if (this.ready) await this.#redis.ping().catch(this.#onError);
  }

  close(): void {
    this.#closed = true;
    clearInterval(this.#watch);
    this.#client.off("ready", this.#compare);
    this.#redis.disconnect();
  }

  async #resume(): Promise<void> {
    const stray = [...this.#stray].filter((channel) => !this.#listeners.has(channel));
    this.#stray.clear();
    if (stray.length > 0) this.#redis.unsubscribe(...stray).catch(this.#onError);
    if (!this.#started) {
      this.#started = true;
      if (this.#listeners.channels.length === 0) return;
    }
    try {
      const { channels } = this.#listeners;
      for (let i = 0; i < channels.length; i += 500) {
        const some = channels.slice(i, i + 500).filter((channel) => this.#listeners.has(channel));
        if (some.length > 0) await this.#redis.subscribe(...some);
      }
      for (const listener of this.#listeners.all()) listener.onResumed();
    } catch (error) {
      // The connection went again in the meantime; the next "ready" comes back here.
      this.#reconnect(error);
    }
  }

  async #look(): Promise<void> {
    if (this.#looking || this.#redis.status !== "ready") return;
    this.#looking = true;
    try {
      // Asked at a time: their answers wake the process once.
      const [demoted, clientDemoted] = await Promise.all([
        isReplica(this.#redis),
        this.#client.status === "ready" && isReplica(this.#client).catch(() => false),
      ]);
      // Only a new connection tells where the primary is now. Commands that are on their way are sent again.
      if (clientDemoted) {
        this.#client.disconnect(true);
      } else if (demoted) {
        this.#reconnect(new Error("The subscriber connection's server is no longer the primary"));
      }
    } catch (error) {
      this.#reconnect(error);
    } finally {
      this.#looking = false;
    }
  }

  /** The connection for commands is a new one: where it leads to another server, that is where publications are made. */
  readonly #compare = (): void => {
    if (this.#redis.status !== "ready") return;
    Promise.all([runIdOf(this.#client), runIdOf(this.#redis)]).then(
      ([theirs, ours]) => {
        if (theirs === ours || theirs === null || ours === null) return;
        this.#reconnect(new Error("The subscriber connection's server is another than that of the commands"));
      },
      // A connection that is lost or mute is found by the next look.
      () => undefined,
    );
  };

  #reconnect(error: unknown): void {
    this.#onError(error);
    if (!this.#closed && this.#redis.status === "ready") this.#redis.disconnect(true);
  }
}
