import type { Cluster, Redis } from "ioredis";

const tickMs = 100;
/** A primary that answers is asked again after so many ticks, one that does not is mute after so many. */
const calmTicks = 5;
const muteTicks = 2;

/** What is known of a node's connection: whether a PING is out, and for how many ticks none was answered. */
interface Silence {
  asking: boolean;
  ticks: number;
}

/**
 * A server that is frozen closes nothing and says nothing. While a primary is mute, the others are asked again and again
 * who has its slots now, and none that is mute itself: ioredis asks one after the other, and waits for each. Nothing is
 * taken from a primary that is only busy: its connection is dropped when the others say that its slots are elsewhere.
 *
 * Ticks are counted, not milliseconds: where this process was the one that stood still, answers are read before the
 * next tick.
 */
export class MuteNodes {
  readonly #cluster: Cluster;
  readonly #silences = new WeakMap<Redis, Silence>();
  readonly #timer: NodeJS.Timeout;
  #tick = 0;

  constructor(cluster: Cluster) {
    this.#cluster = cluster;
    for (const redis of cluster.nodes("all")) this.#skipWhileMute(redis);
    cluster.on("+node", (redis: Redis) => this.#skipWhileMute(redis));
    this.#timer = setInterval(() => this.#look(), tickMs);
    this.#timer.unref();
  }

  close(): void {
    clearInterval(this.#timer);
  }

  #look(): void {
    this.#tick++;
    const primaries = this.#cluster.nodes("master");
    for (const redis of primaries) this.#count(redis);
    const suspicious = primaries.some((redis) => this.#isMute(redis));
    if (suspicious) {
      // Whom ioredis may ask about the slots has to be known too; a replica is not connected otherwise.
      for (const redis of this.#cluster.nodes("slave")) this.#count(redis);
      for (const redis of this.#cluster.nodes("all")) this.#ask(redis);
      if (this.#tick % muteTicks === 0) this.#cluster.refreshSlotsCache();
      return;
    }
    for (const redis of primaries) {
      const unused = redis.status === "wait" || redis.status === "end";
      const silent = (this.#silences.get(redis)?.ticks ?? 0) > 0;
      if (!unused && (silent || this.#tick % calmTicks === 0)) this.#ask(redis);
    }
  }

  #count(redis: Redis): void {
    const silence = this.#silences.get(redis);
    if (silence?.asking) silence.ticks++;
  }

  #ask(redis: Redis): void {
    const silence = this.#silences.get(redis) ?? { asking: false, ticks: 0 };
    if (silence.asking) return;
    silence.asking = true;
    this.#silences.set(redis, silence);
    const answered = () => {
      silence.asking = false;
      silence.ticks = 0;
    };
    redis.ping().then(answered, (error: unknown) => {
      // Whatever a server says, it speaks; a PING that ran out of time says nothing.
      if (error instanceof Error && error.name === "ReplyError") answered();
      else silence.asking = false;
    });
  }

  #isMute(redis: Redis): boolean {
    return (this.#silences.get(redis)?.ticks ?? 0) >= muteTicks;
  }

  /** ioredis asks for the slots over a duplicate of a node's connection: that of a mute one is closed from the start. */
  #skipWhileMute(redis: Redis): void {
    const duplicate = redis.duplicate.bind(redis);
    redis.duplicate = (override) => {
      const others = this.#cluster.nodes("all").some((other) => other !== redis && !this.#isMute(other));
      if (!this.#isMute(redis) || !others) return duplicate(override);
      const closed = duplicate({ ...override, lazyConnect: true });
      closed.disconnect();
      return closed;
    }; // the same as it was for its callers: its type follows from its argument's
  }
}
