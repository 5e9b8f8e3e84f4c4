import type { PlacedMessage } from "../events.ts";

/**
 * A stream of events for who serves many readers at once. Any consumer can await it event by event. One that polls
 * instead pays no promise for each event, and does so only while none of its next() waits:
 *
 *     poll() gives an event ──▶ poll again
 *        └─ null ──▶ wait(reader) is true ──▶ waits ──(take() answers true)──▶ waits
 *                        │                      └─(take() answers false, or wake() is called)──▶ poll again
 *                        └─ false ──▶ await next(): catching up, a reading, an error, or the end
 *
 * Readers who are in step are given the same object for the same event, so that what was made of it for one serves all.
 */
export interface Live<Event extends object> extends AsyncIterableIterator<Event> {
  /** An event that is there already, or null. */
  poll(): Event | null;
  /** Tells the reader, later and at least once, when there is or may be more; false: only next() leads on. */
  wait(reader: LiveReader<Event>): boolean;
}

/** The messages of one session. */
export interface LiveMessages extends Live<PlacedMessage> {
  /** A cursor: the stream is of all that comes behind it. null: it had ended before it could begin. */
  readonly start: string | null;
}

/** One who waits. */
export interface LiveReader<Event extends object> {
  /** The next event, where it is at hand. Whether it waits for more; if not it polls, but not before this has returned. */
  take(event: Event): boolean;
  /** There may be more. It waits no longer. */
  wake(): void;
}
