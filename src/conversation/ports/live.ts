/**
 * A stream of events. Any consumer can await it event by event. A consumer that serves many subscribers polls instead: it
 * pays no promise for each event, and polls only while none of its next() is pending.
 *
 *     poll() gives an event ──▶ poll again
 *        └─ null ──▶ wait(reader) is true ──▶ idle ──(wake() is called)──▶ poll again
 *                        └─ false ──▶ poll again; where that gives null, await next(): catching up, a reading, an error, or the end
 */
export interface Live<Event extends object> extends AsyncIterableIterator<Event> {
  /** An event that is there already, or null. */
  poll(): Event | null;
  /** Wakes the reader, later and at least once, when there is or may be more. false: there is, or only next() leads on. */
  wait(reader: LiveReader): boolean;
  /** What the last event of poll() was made of, the same object in all streams of a session; null: it is in no other. */
  readonly origin: object | null;
  /** Whether both have delivered everything, and deliver the same from here on. */
  isLevelWith(other: Live<Event>): boolean;
  /** Another stream that goes on from where this one is. Not while a next() is pending. */
  fork(): Live<Event>;
  /** How many subscribers it is read for. Its consumer sets it, for the metric. */
  subscribers: number;
}

/** A consumer that waits for more. */
export interface LiveReader {
  /** There may be more. It waits no longer. */
  wake(): void;
  /** Whether its subscribers have taken all that it has read. */
  readonly isDone: boolean;
}
