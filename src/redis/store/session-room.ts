import type { ParleyError } from "../../conversation/errors.ts";
import { limitReached } from "../../conversation/ports/quotas.ts";
import type { Telemetry } from "../../conversation/ports/telemetry.ts";
import type { Client } from "../client/connection.ts";
import { guarded } from "../client/failure.ts";

/** How long a count is believed while there is room for half as many as there may be, in ms. */
const believedMs = 10_000;
/** And below that: the fewer more there may be, the shorter. */
const believedNearMs = 2000;
/** Where so few more may be, each is counted for: what others start meanwhile would be too many at once. */
const fewLeft = 100;
/** Owners that are remembered; one that is forgotten is counted again. */
const mostOwners = 10_000;

interface RoomSettings {
  /** The key of an owner's list. */
  readonly listOf: (owner: string) => string;
  readonly most: number;
  readonly telemetry: Telemetry;
  readonly onError: (error: unknown) => void;
}

interface Owned {
  /** As last counted, and when; -1: not yet. */
  sessions: number;
  at: number;
  /** What may have been started here since. */
  started: number;
  /** What is being started here, and may be listed or not. */
  readonly going: Set<Promise<unknown>>;
  /** Who must count does so one after the other. */
  last: Promise<unknown>;
}

/**
 * Whether an owner may start another session, by the length of its list. The count is remembered and what may have been
 * started here is added to it, so that a turn waits for no other key until the limit is near. One gateway keeps an owner
 * within the limit exactly; of several each may be one too many, where they start the last ones in the same moment.
 */
export class SessionRoom {
  readonly #redis: Client;
  readonly #settings: RoomSettings;
  readonly #owners = new Map<string, Owned>();

  constructor(redis: Client, settings: RoomSettings) {
    this.#redis = redis;
    this.#settings = settings;
  }

  /** Does what may start a session. `isFull`: it may not; what is there already is to be answered all the same. */
  async starting<T>(owner: string, act: (isFull: boolean) => Promise<T>): Promise<T> {
    const owned = this.#owned(owner);
    if (!this.#hasRoom(owner, owned)) {
      const asked = owned.last.then(() => this.#hasRoom(owner, owned) || this.#count(owner, owned));
      owned.last = asked.catch(() => undefined);
      if (!(await asked)) return await act(true);
    }
    owned.started++;
    const acting = act(false);
    owned.going.add(acting);
    return await acting.finally(() => owned.going.delete(acting));
  }

  refusal(): ParleyError {
    this.#settings.telemetry.limited("sessions");
    const message = `You may have at most ${this.#settings.most} sessions. Delete some to start others.`;
    return limitReached("sessions", message);
  }

  /** As far as is known here; a count that is old is believed where there was much room. */
  #hasRoom(owner: string, owned: Owned): boolean {
    if (owned.sessions < 0) return false;
    const { most, onError } = this.#settings;
    const left = most - owned.sessions - owned.started;
    if (left <= fewLeft) return false;
    const isNear = left < most / 2;
    if (performance.now() - owned.at <= (isNear ? (believedNearMs * left) / most : believedMs)) return true;
    if (isNear) return false;
    owned.at = performance.now();
    this.#count(owner, owned).catch(onError);
    return true;
  }

  async #count(owner: string, owned: Owned): Promise<boolean> {
    const before = owned.started;
    await Promise.allSettled(owned.going);
    owned.sessions = await guarded(this.#redis.zcard(this.#settings.listOf(owner)));
    owned.at = performance.now();
    owned.started -= before;
    return owned.sessions + owned.started < this.#settings.most;
  }

  #owned(owner: string): Owned {
    const known = this.#owners.get(owner);
    if (known) return known;
    const owned: Owned = { sessions: -1, at: 0, started: 0, going: new Set(), last: Promise.resolve() };
    this.#owners.set(owner, owned);
    if (this.#owners.size > mostOwners) {
      for (const [name, { going }] of this.#owners) {
        if (going.size > 0) continue;
        this.#owners.delete(name);
        break;
      }
    }
    return owned;
  }
}
