import type { SessionEvent } from "../../conversation/events.ts";
import type { LiveReader } from "../../conversation/ports/live.ts";
import type { Place } from "./place.ts";

/** A subscriber, seen from those who are in step with it. */
export interface Member {
  /** From now on it stands there alone. */
  goOn(place: Place): void;
}

/**
 * The subscribers of a feed who wait at the same place. What comes moves that place on once for all of them, and is handed
 * to each: a subscriber costs what handing costs, and keeps no place of its own while it waits.
 *
 *     alone ──(waits at the tip, told the same as those here)──▶ in step ──(takes an event)──▶ in step
 *       ▲                                                          │ └─(ends)──▶ gone
 *       ├──────(took an event, and takes no more for now)──────────┤
 *       └──────(what comes must be read, or the ring was left)─────┘
 */
export class InStep {
  #place: Place | null = null;
  #delivering = false;
  readonly #members = new Map<LiveReader<SessionEvent>, Member>();

  /** The place that it shares from now on; null: it has to wait alone. `place`: at the tip. */
  join(reader: LiveReader<SessionEvent>, member: Member, place: Place): Place | null {
    // Who came in now would be handed what it was told already.
    if (this.#delivering) return null;
    if (this.#place === null) this.#place = place;
    else if (!this.#place.isAtTip || !this.#place.isLike(place)) return null;
    this.#members.set(reader, member);
    return this.#place;
  }

  get size(): number {
    return this.#members.size;
  }

  leave(reader: LiveReader<SessionEvent>): void {
    this.#members.delete(reader);
    if (this.#members.size === 0) this.#place = null;
  }

  deliver(closed: boolean): void {
    const place = this.#place;
    if (place === null) return;
    this.#delivering = true;
    try {
      for (let event = this.#poll(place); event !== null; event = this.#poll(place)) this.#hand(event, place);
    } finally {
      this.#delivering = false;
    }
    if (closed || !place.isAtTip) this.#part(place);
    else if (this.#members.size === 0) this.#place = null;
  }

  /** What cannot be told is met by each alone, and ends its stream as it would have without others. */
  #poll(place: Place): SessionEvent | null {
    const before = place.copy();
    try {
      return place.poll();
    } catch {
      this.#part(before);
      return null;
    }
  }

  #hand(event: SessionEvent, place: Place): void {
    // Who ends meanwhile is not handed it any more: a Map's iteration leaves out what is deleted.
    for (const [reader, member] of this.#members) {
      if (reader.take(event)) continue;
      if (this.#members.delete(reader)) member.goOn(place.copy());
    }
  }

  /** Each goes on alone. */
  #part(place: Place): void {
    const members = [...this.#members];
    this.#members.clear();
    this.#place = null;
    // All stand alone before the first of them does anything: it may end others.
    for (const [, member] of members) member.goOn(place.copy());
    for (const [reader] of members) reader.wake();
  }
}
