import type { RawEvent, Store } from "../../../client/src/client.ts";

// What went over the wire, for the panel that shows it. Nothing here needs a page.

/** `session`: of the chat that is open · `list`: of the sidebar · `connection`: it came or went · `alive`: keep-alive. */
export type EventKind = "session" | "list" | "connection" | "alive";

export interface TapeEvent {
  readonly number: number;
  /** When it came, in ms. */
  readonly at: number;
  readonly kind: EventKind;
  /** The event's GraphQL type, else the protocol's message. */
  readonly name: string;
  /** null: nothing came over the wire, but the connection came or went. */
  readonly bytes: number | null;
  readonly cursor: string | null;
  /** How long it was on its way, where it tells when it was made. */
  readonly lagMs: number | null;
  readonly raw: string;
}

export interface Operation {
  readonly number: number;
  readonly at: number;
  readonly type: "query" | "mutation" | "subscription";
  readonly name: string;
  readonly query: string;
  readonly variables: unknown;
  /** Until its answer; null: there is none yet, or it is a subscription. */
  readonly ms: number | null;
  /** The code of the error that it was answered with. */
  readonly error: string | null;
}

export interface Recording {
  readonly events: readonly TapeEvent[];
  readonly operations: readonly Operation[];
}

/** What is older than so many is dropped. */
export const mostEvents = 2000;
const mostOperations = 500;
/** An event that is older than this when it comes was not made just now: it is from the history. */
const freshMs = 60_000;

const bytesOf = (text: string) => new TextEncoder().encode(text).length;

export class Recorder implements Pick<Store<Recording>, "subscribe" | "getSnapshot"> {
  #recording: Recording = { events: [], operations: [] };
  #count = 0;
  readonly #listeners = new Set<() => void>();
  readonly #now: () => number;

  constructor(now: () => number = Date.now) {
    this.#now = now;
  }

  readonly subscribe = (listener: () => void): (() => void) => {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  };
  readonly getSnapshot = (): Recording => this.#recording;

  readonly clear = (): void => this.#change({ events: [], operations: [] });

  event({ kind, text }: RawEvent): void {
    const at = this.#now();
    const event = {
      number: this.#count++,
      at,
      bytes: kind === "message" ? bytesOf(text) : null,
      raw: text,
      ...readEvent(kind, text, at),
    };
    const events = [...this.#recording.events, event];
    this.#change({ events: events.slice(-mostEvents) });
  }

  /** Of a request, or a subscription that was started. What is returned notes its answer. */
  operation(body: string): (error: string | null) => void {
    const at = this.#now();
    const { query, variables } = JSON.parse(body) as { readonly query: string; readonly variables?: unknown }; // the client's
    const [, type = "query", name = ""] = /^\s*(query|mutation|subscription)?\s*(\w*)/.exec(query) ?? [];
    const operation: Operation = {
      ...{ number: this.#count++, at, type: type as Operation["type"], name, query }, // one of the three
      ...{ variables: variables ?? {}, ms: null, error: null },
    };
    this.#change({ operations: [...this.#recording.operations, operation].slice(-mostOperations) });
    return (error) => {
      const done = { ...operation, error, ms: this.#now() - at };
      const { operations } = this.#recording;
      this.#change({ operations: operations.map((one) => (one.number === operation.number ? done : one)) });
    };
  }

  #change(change: Partial<Recording>): void {
    this.#recording = { ...this.#recording, ...change };
    for (const listener of this.#listeners) listener();
  }
}

interface Frame {
  readonly type?: string;
  readonly payload?: { readonly data?: Readonly<Record<string, EventData>>; readonly errors?: readonly unknown[] };
}

interface EventData {
  readonly __typename?: string;
  readonly cursor?: string;
  readonly message?: { readonly cursor: string; readonly role: string; readonly createdAt: string | null };
}

type Read = Pick<TapeEvent, "kind" | "name" | "cursor" | "lagMs">;

function readEvent(kind: RawEvent["kind"], text: string, at: number): Read {
  const nothing = { cursor: null, lagMs: null };
  if (kind === "open") return { ...nothing, kind: "connection", name: "Connected" };
  if (kind === "lost") return { ...nothing, kind: "connection", name: "Connection lost" };
  const { type = "", payload } = JSON.parse(text) as Frame; // the protocol's
  const [field, event] = Object.entries(payload?.data ?? {})[0] ?? [];
  if (event === undefined) {
    const isAlive = type === "ping" || type === "pong";
    return {
      ...nothing,
      kind: isAlive ? "alive" : "connection",
      name: payload?.errors === undefined ? type : "refused",
    };
  }
  const { message } = event;
  // A reply has its time from when it was begun, not from when it was stored.
  const made = message?.role === "USER" && message.createdAt !== null ? Date.parse(message.createdAt) : null;
  return {
    kind: field === "sessionChanged" ? "list" : "session",
    name: event.__typename ?? type,
    cursor: event.cursor ?? message?.cursor ?? null,
    lagMs: made === null || at - made > freshMs ? null : Math.max(0, at - made),
  };
}
