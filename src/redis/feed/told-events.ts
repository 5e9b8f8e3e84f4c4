import type { ReadRequest } from "../../conversation/conversations/api.ts";
import type { SessionEvent } from "../../conversation/events.ts";
import type { Entry } from "./follower.ts";

/** Of so many of the newest entries; who is farther behind makes its own, which go when it is done with them. */
export const sharedEntries = 64;

interface Told {
  /** Where the text of a progress begins; 0 for all else. */
  readonly offset: number;
  readonly event: SessionEvent;
}

/** Events that show the session as it is. */
export type ReadEvent = Extract<SessionEvent, { readonly kind: "opened" | "updated" | "reset" }>;

/**
 * What subscribers are told of a feed's newest entries. Who is in step is told the same object, which is how a transport
 * knows that one execution serves them all; and what must be read for an entry is read once.
 */
export class ToldEvents {
  readonly #events = new Map<Entry, Told>();
  readonly #read = new Map<Entry, Map<string, Promise<ReadEvent | null>>>();

  /** undefined: nobody was told of it yet, or nobody from this offset on. */
  find(entry: Entry, offset: number): SessionEvent | undefined {
    const told = this.#events.get(entry);
    return told?.offset === offset ? told.event : undefined;
  }

  keep(entry: Entry, offset: number, event: SessionEvent): void {
    if (this.#events.has(entry)) return;
    this.#events.set(entry, { offset, event });
    dropOldest(this.#events);
  }

  /** By what is asked of the reading. null: the session is gone. One that failed is asked for anew by the next. */
  read(entry: Entry, { pages }: ReadRequest, ask: () => Promise<ReadEvent | null>): Promise<ReadEvent | null> {
    const ofEntry = this.#read.get(entry) ?? new Map<string, Promise<ReadEvent | null>>();
    this.#read.set(entry, ofEntry);
    dropOldest(this.#read);
    const key = JSON.stringify(pages);
    const known = ofEntry.get(key);
    if (known !== undefined) return known;
    const event = ask();
    ofEntry.set(key, event);
    event.catch(() => ofEntry.delete(key));
    return event;
  }
}

function dropOldest(entries: Map<Entry, unknown>): void {
  if (entries.size <= sharedEntries) return;
  for (const oldest of entries.keys()) {
    entries.delete(oldest);
    return;
  }
}
