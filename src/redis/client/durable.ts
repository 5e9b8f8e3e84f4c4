import { setTimeout as sleep } from "node:timers/promises";
import type { Redis } from "ioredis";
import { ParleyError, storeUnavailable } from "../../conversation/errors.ts";
import { slotOf } from "../store/keys.ts";
import type { Reply } from "../scripts/contracts.ts";
import { Scripts, type ScriptCall } from "../scripts/scripts.ts";
import { Link } from "./link.ts";
import type { Topology } from "./topology.ts";

interface DurableSettings {
  /** How many replicas must hold a write before it is acknowledged. */
  readonly replicas: number;
  /** How long they may take, in ms. */
  readonly timeoutMs: number;
  /** How long a write may take over all its tries, in ms. */
  readonly commandTimeoutMs: number;
  /** Called with what a script failed with, beside its caller. */
  readonly onFailure?: (error: unknown) => void;
}

const retryMs = 50;
/** After that long without its connection, in ms, the slot is looked for again: it may have another primary by now. */
const patienceMs = 250;
const hours25 = 90_000_000;

/** STORE_UNAVAILABLE for the caller, although the primary has carried the script out. */
export class NotReplicated extends ParleyError {
  readonly answer: readonly Reply[];

  constructor(answer: readonly Reply[], cause: unknown) {
    const { code, message, details } = storeUnavailable(cause);
    super(code, message, details, { cause });
    this.answer = answer;
  }
}

/**
 * Writes that are acknowledged when n replicas hold them. WAIT cannot stand in a script and blocks its connection, so
 * these have a connection of their own to each primary, and all that wait share one WAIT (group commit). WAIT answers
 * for what its own connection wrote: where that changed between script and WAIT, the new primary's yes would mean
 * nothing, so the script (idempotent by its op) runs again first.
 */
export class DurableScripts {
  readonly #topology: Topology;
  readonly #settings: DurableSettings;
  readonly #links = new Map<string, DurableLink>();
  #closed = false;

  constructor(topology: Topology, settings: DurableSettings) {
    this.#topology = topology;
    this.#settings = settings;
  }

  /** Rejects with STORE_UNAVAILABLE where the replicas did not follow in time: then the write stands, and a retry gives its result. */
  run(call: ScriptCall): Promise<readonly Reply[]> {
    const progress: Progress = { answer: null };
    return this.#repeated(
      call.keys,
      (link) => this.#write(link, call, progress),
      (cause) => (progress.answer ? new NotReplicated(progress.answer, cause) : storeUnavailable(cause)),
    );
  }

  /**
   * Resolves when n replicas hold what was written under these keys (a session's, in the scripts' order) before the call,
   * by whatever process. WAIT only looks at what its own connection wrote, so that writes something too: all that was
   * written before goes to the replicas ahead of it. Rejects with STORE_UNAVAILABLE where they did not follow in time.
   */
  settle(keys: readonly string[]): Promise<void> {
    return this.#repeated(
      keys,
      async (link) => {
        const [acknowledged, known] = await this.#waited(link, this.#touch(link, keys));
        // Without ops nothing was written in 25 hours, and nothing now.
        if (known === 1 && acknowledged < this.#settings.replicas) throw storeUnavailable(this.#tooFew(acknowledged));
      },
      storeUnavailable,
    );
  }

  close(): void {
    this.#closed = true;
    for (const link of this.#links.values()) link.redis.disconnect();
    this.#links.clear();
  }

  /** Does it on the connection to the keys' primary; again where that was lost, or is elsewhere by now, until the time is over. */
  async #repeated<T>(
    [key = ""]: readonly string[],
    attempt: (link: DurableLink) => Promise<T>,
    failure: (cause: unknown) => ParleyError,
  ): Promise<T> {
    const deadline = performance.now() + this.#settings.commandTimeoutMs;
    for (;;) {
      try {
        const link = this.#linkTo(slotOf(key));
        if (!link) throw new Error("The primary of this key is not known");
        link.users++;
        try {
          await link.ready(patienceMs);
          return await attempt(link);
        } finally {
          link.users--;
        }
      } catch (error) {
        if (error instanceof ParleyError) throw error;
        const reply = error instanceof Error && error.name === "ReplyError" ? error.message : null;
        if (reply !== null && !moving.test(reply)) throw error;
        if (this.#closed || performance.now() >= deadline) throw failure(error);
        if (reply === null || !onItsWay.test(reply)) this.#topology.refresh();
      }
      await sleep(retryMs);
    }
  }

  async #write(link: DurableLink, call: ScriptCall, progress: Progress): Promise<readonly Reply[]> {
    const { epoch } = link;
    const again = progress.answer !== null;
    const answer = await link.answered(link.scripts.run(call));
    progress.answer = answer;
    // Nothing was written now, but by an earlier attempt, over any connection: WAIT only looks at what this one wrote.
    const touched = again || answer[0] === "KNOWN" ? this.#touch(link, call.keys) : Promise.resolve(0);
    const [acknowledged] = await this.#waited(link, touched, epoch);
    if (acknowledged >= this.#settings.replicas) return answer;
    throw new NotReplicated(answer, this.#tooFew(acknowledged));
  }

  /** A write that changes nothing of weight. 0: there is nothing to touch. */
  #touch(link: DurableLink, [, , , , , ops = ""]: readonly string[]): Promise<number> {
    return link.answered(link.redis.pexpire(ops, hours25));
  }

  /** How many replicas have what was written on this connection since `epoch`, and what `written` came to. */
  async #waited(
    link: DurableLink,
    written: Promise<number>,
    epoch = link.epoch,
  ): Promise<readonly [acknowledged: number, written: number]> {
    const answers = await Promise.all([link.answered(link.wait()), written]);
    if (link.epoch !== epoch) throw new Error("The connection changed between a write and its WAIT");
    return answers;
  }

  #tooFew(acknowledged: number): Error {
    return new Error(`${acknowledged} of ${this.#settings.replicas} replicas followed in time`);
  }

  #linkTo(slot: number): DurableLink | null {
    const place = this.#closed ? null : this.#topology.place(slot);
    if (!place) return null;
    const known = this.#links.get(place.name);
    if (known && known.redis.status !== "end") return known;
    // The slots of a server that is gone are elsewhere now: nobody is to look for it for ever.
    for (const [name, link] of this.#links) {
      if (link.users > 0 || link.redis.status === "ready") continue;
      link.redis.disconnect();
      this.#links.delete(name);
    }
    const link = new DurableLink(place.connect("durable"), this.#settings);
    this.#links.set(place.name, link);
    return link;
  }
}

/** What the primary answered, whichever it was, before the replicas were asked. */
interface Progress {
  answer: readonly Reply[] | null;
}

/**
 * Answers that say "somewhere else" or "later". ASK counts as later: the other server refuses a script while keys are
 * missing (TRYAGAIN), and some key always is, as a channel is none. So a slot's writes wait until it has arrived.
 */
const moving = /^(MOVED|ASK|TRYAGAIN|CLUSTERDOWN|READONLY|LOADING|MASTERDOWN|UNBLOCKED|ERR WAIT cannot)/;
const onItsWay = /^(ASK|TRYAGAIN)/;

class DurableLink extends Link {
  readonly scripts: Scripts;
  /** Writes that are on their way over it. */
  users = 0;
  readonly #settings: DurableSettings;
  /** Not sent yet: who comes now shares it. */
  #gathering: Promise<number> | null = null;
  #asking: Promise<number> | null = null;

  constructor(redis: Redis, settings: DurableSettings) {
    super(redis, { onClosed: () => (this.#gathering = this.#asking = null) });
    this.scripts = new Scripts(redis, settings.onFailure);
    this.#settings = settings;
  }

  /** How many replicas have all that was written on this connection so far; those who ask while one WAIT is out share the next. */
  wait(): Promise<number> {
    this.#gathering ??= this.#gather(this.epoch);
    return this.#gathering;
  }

  async #gather(epoch: number): Promise<number> {
    await this.#asking?.catch(() => undefined);
    await new Promise((resolve) => setImmediate(resolve));
    if (this.epoch !== epoch) throw new Error("The connection was lost");
    this.#gathering = null;
    this.#asking = this.answered(this.redis.wait(this.#settings.replicas, this.#settings.timeoutMs));
    return await this.#asking;
  }
}
