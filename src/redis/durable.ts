import calculateSlot from "cluster-key-slot";
import type { Redis } from "ioredis";
import { storeUnavailable } from "../conversation/errors.ts";
import { Scripts, type Reply, type ScriptCall } from "./scripts.ts";
import type { Topology } from "./topology.ts";

export interface DurableSettings {
  /** How many replicas must hold a write before it is acknowledged. */
  readonly replicas: number;
  /** How long they may take, in ms. */
  readonly timeoutMs: number;
  /** How long a write may take over all its tries, in ms. */
  readonly commandTimeoutMs: number;
}

const retryMs = 50;
const hours25 = 90_000_000;

/**
 * Writes that are acknowledged when n replicas hold them. WAIT cannot stand in a script and blocks its connection, so
 * these have a connection of their own to each primary, and all that wait share one WAIT (group commit). WAIT answers
 * for what its own connection wrote: where that changed between script and WAIT, the new primary's yes would mean
 * nothing, so the script (idempotent by its op) runs again first.
 */
export class DurableScripts {
  readonly #topology: Topology;
  readonly #settings: DurableSettings;
  readonly #links = new Map<string, Link>();

  constructor(topology: Topology, settings: DurableSettings) {
    this.#topology = topology;
    this.#settings = settings;
  }

  /** Rejects with STORE_UNAVAILABLE where the replicas did not follow in time: then the write stands, and a retry gives its result. */
  async run(call: ScriptCall): Promise<readonly Reply[]> {
    const { commandTimeoutMs, replicas } = this.#settings;
    const deadline = performance.now() + commandTimeoutMs;
    const [first = ""] = call.keys;
    let asked: string | null = null;
    for (let attempt = 0; ; attempt++) {
      const link = this.#linkTo(calculateSlot(first), asked);
      try {
        if (!link) throw new Error("The primary of this key is not known");
        await link.ready(deadline - performance.now());
        const { epoch } = link;
        if (asked !== null) await link.answered(link.redis.call("ASKING"));
        const answer = await link.answered(link.scripts.run(call.name, call.keys, call.args));
        // A repeat may have written nothing, and WAIT only looks at what this connection wrote.
        const [, , , , , ops = ""] = call.keys;
        if (attempt > 0 && asked === null) await link.answered(link.redis.pexpire(ops, hours25));
        const acknowledged = await link.answered(link.wait());
        if (link.epoch !== epoch) throw new Error("The connection changed between a write and its WAIT");
        if (acknowledged >= replicas) return answer;
        throw storeUnavailable(new Error(`${acknowledged} of ${replicas} replicas followed in time`));
      } catch (error) {
        const message = error instanceof Error ? error.message : "";
        asked = /^ASK \d+ (\S+)/.exec(message)?.[1] ?? null;
        const final =
          error instanceof Error &&
          (error.name === "ParleyError" || (error.name === "ReplyError" && !moving.test(message)));
        if (final || performance.now() >= deadline) throw error;
        if (message.startsWith("MOVED")) this.#topology.refresh();
        if (asked === null) await new Promise((resolve) => setTimeout(resolve, retryMs));
      }
    }
  }

  close(): void {
    for (const link of this.#links.values()) link.redis.disconnect();
    this.#links.clear();
  }

  #linkTo(slot: number, node: string | null): Link | null {
    const place = this.#topology.place(slot, node);
    if (!place) return null;
    const known = this.#links.get(place.name);
    if (known) return known;
    const link = new Link(place.connect("durable"), this.#settings);
    this.#links.set(place.name, link);
    return link;
  }
}

/** Answers that say "somewhere else" or "later". */
const moving = /^(MOVED|ASK|TRYAGAIN|CLUSTERDOWN|READONLY|LOADING|MASTERDOWN|UNBLOCKED|ERR WAIT cannot)/;

class Link {
  readonly redis: Redis;
  readonly scripts: Scripts;
  /** Grows with each connection: what was written on one is not known to the next. */
  epoch = 0;
  readonly #settings: DurableSettings;
  /** Not sent yet: who comes now shares it. */
  #gathering: Promise<number> | null = null;
  #asking: Promise<number> | null = null;

  #lose: (error: Error) => void = () => undefined;
  #lost: Promise<never>;

  constructor(redis: Redis, settings: DurableSettings) {
    this.redis = redis;
    this.#lost = this.#nextLoss();
    this.scripts = new Scripts(redis);
    this.#settings = settings;
    redis.on("close", () => {
      this.epoch++;
      this.#lose(new Error("The connection was lost"));
      this.#lost = this.#nextLoss();
    });
  }

  /** An answer, or the loss of the connection: without resending, ioredis lets what was under way wait for its time-out. */
  answered<T>(answer: Promise<T>): Promise<T> {
    answer.catch(() => undefined);
    return Promise.race([answer, this.#lost]);
  }

  #nextLoss(): Promise<never> {
    const lost = new Promise<never>((_resolve, reject) => (this.#lose = reject));
    lost.catch(() => undefined);
    return lost;
  }

  async ready(withinMs: number): Promise<void> {
    if (this.redis.status === "ready") return;
    await new Promise<void>((resolve, reject) => {
      const onReady = () => {
        clearTimeout(timer);
        resolve();
      };
      const timer = setTimeout(
        () => {
          this.redis.off("ready", onReady);
          reject(new Error("The primary cannot be reached"));
        },
        Math.max(0, withinMs),
      );
      this.redis.once("ready", onReady);
    });
  }

  /** How many replicas have all that was written on this connection so far; those who ask in one turn of the loop share a WAIT. */
  wait(): Promise<number> {
    this.#gathering ??= (async () => {
      await this.#asking?.catch(() => undefined);
      await new Promise((resolve) => setImmediate(resolve));
      this.#gathering = null;
      this.#asking = this.redis.wait(this.#settings.replicas, this.#settings.timeoutMs);
      return await this.#asking;
    })();
    return this.#gathering;
  }
}
