import type { Cluster, Redis } from "ioredis";

/** Primaries that all answer are asked so often, in ms. */
const calmMs = 500;
/** Behind a question it is seen after so many ms whether there is an answer, and so on while there is none. */
const tickMs = 100;
/** A primary that has not answered for so many ticks is mute. */
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
  #timer: NodeJS.Timeout | null = null;
  #tick = 0;

  constructor(cluster: Cluster) {
    this.#cluster = cluster;
    for (const redis of cluster.nodes("all")) this.#skipWhileMute(redis);
    cluster.on("+node", (redis: Redis) => this.#skipWhileMute(redis));
    this.#askSoon(calmMs);
  }

  close(): void {
    if (this.#timer !== null) clearTimeout(this.#timer);
  }

  #askSoon(afterMs: number): void {
    this.#timer = setTimeout(() => {
      for (const redis of this.#cluster.nodes("master")) if (isUsed(redis)) this.#ask(redis);
      this.#lookSoon();
    }, afterMs).unref();
  }

  #lookSoon(): void {
    this.#timer = setTimeout(() => this.#look(), tickMs).unref();
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
      this.#lookSoon();
      return;
    }
    const silent = primaries.filter((redis) => isUsed(redis) && (this.#silences.get(redis)?.ticks ?? 0) > 0);
    for (const redis of silent) this.#ask(redis);
    if (silent.length > 0) this.#lookSoon();
    else this.#askSoon(calmMs - tickMs);
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

function isUsed({ status }: Redis): boolean {
  return status !== "wait" && status !== "end";
}
