import { buildSchema, execute, GraphQLError, Kind, parse } from "graphql";
import type { DocumentNode, ExecutionResult, OperationDefinitionNode } from "graphql";
import { describe, expect, test } from "vitest";

import type { SessionEvent } from "../../src/conversation/events.ts";
import type { Live, LiveReader } from "../../src/conversation/ports/live.ts";
import { anonymous } from "../../src/conversation/session.ts";
import type { Viewer } from "../../src/conversation/session.ts";
import { Broadcast } from "../../src/operations/live/broadcast.ts";
import { nextMessage, Outcome } from "../../src/operations/live/outcome.ts";
import type { Frame } from "../../src/operations/live/outcome.ts";
import { Results } from "../../src/operations/live/results.ts";
import type { Sink } from "../../src/operations/live/results.ts";
import { ShareKeys } from "../../src/operations/live/share-key.ts";
import { FakeConversations } from "../support/store/fake-conversations.ts";

const mask = (error: unknown) => new GraphQLError(`masked: ${String(error)}`);

function outcomeOf(result: ExecutionResult): Outcome {
  return new Outcome(result, mask, null);
}

function bytesOf({ head, rest }: Frame): Buffer {
  return Buffer.concat(rest === null ? [head] : [head, rest]);
}

/** RFC 6455, 5.2, read anew: one whole text frame of a server, with nothing behind it. */
function textOf(frame: Buffer): { readonly text: string; readonly lengthBytes: 0 | 2 | 8 } {
  expect(frame[0]).toBe(0x81);
  const short = frame.readUInt8(1);
  const lengthBytes = short < 126 ? 0 : short === 126 ? 2 : 8;
  const length = short < 126 ? short : short === 126 ? frame.readUInt16BE(2) : Number(frame.readBigUInt64BE(2));
  const payload = frame.subarray(2 + lengthBytes);
  expect(payload.length).toBe(length);
  return { text: payload.toString("utf8"), lengthBytes };
}

describe("a frame", () => {
  const opening = nextMessage("1");
  const around = Buffer.byteLength(`${opening}{"data":{"t":""}}}`);

  for (const [length, lengthBytes] of [
    [125, 0],
    [126, 2],
    [65_535, 2],
    [65_536, 8],
  ] as const) {
    test(`of ${length} bytes has ${lengthBytes} bytes of length behind the first`, () => {
      const t = "x".repeat(length - around);
      const frame = textOf(bytesOf(outcomeOf({ data: { t } }).frame(opening)));
      expect(Buffer.byteLength(frame.text)).toBe(length);
      expect(frame.lengthBytes).toBe(lengthBytes);
      expect(JSON.parse(frame.text)).toEqual({ id: "1", type: "next", payload: { data: { t } } });
    });
  }

  const ids = ["1", "2", "10", "é", "ab", "€", "名前", "\u{1f600}", '"\\\n', "x".repeat(128), "\ud800", ""];
  for (const size of [10, 20_000, 70_000]) {
    test(`carries each operation's own id, whichever came before (${size} bytes of text)`, () => {
      const data = { t: `ü€${"x".repeat(size)}` };
      const outcome = outcomeOf({ data });
      for (const id of [...ids, ...ids.toReversed(), ...ids]) {
        const { text } = textOf(bytesOf(outcome.frame(nextMessage(id))));
        expect(JSON.parse(text)).toEqual({
          ...(JSON.parse(nextMessage(id) + "0}") as object),
          payload: { data },
        });
      }
    });
  }

  test("that is held does not change when the next is made", () => {
    const outcome = outcomeOf({ data: { t: "text" } });
    const held = outcome.frame(nextMessage("1"));
    held.held = true;
    const before = bytesOf(held).toString("utf8");
    const other = outcome.frame(nextMessage("2"));
    expect(other.head).not.toBe(held.head);
    expect(textOf(bytesOf(other)).text).toContain('"id":"2"');
    outcome.frame(nextMessage("3"));
    expect(bytesOf(held).toString("utf8")).toBe(before);
  });

  test("that is not held is used again: nothing is made for a socket that takes it at once", () => {
    const outcome = outcomeOf({ data: { t: "text" } });
    expect(outcome.frame(nextMessage("2"))).toBe(outcome.frame(nextMessage("1")));
  });

  test("of an error shows what the mask makes of it", () => {
    const { text } = textOf(bytesOf(outcomeOf({ errors: [new GraphQLError("secret")] }).frame(opening)));
    expect(text).toContain("masked: ");
  });
});

const document = parse("subscription { name }");
const operation = document.definitions[0] as OperationDefinitionNode; // it is written so
const schema = buildSchema("type Query { a: String } type Subscription { name: String }");

/** What has happened in a session, for all streams of it. */
class Feed {
  readonly events: string[] = [];
  readonly waiting = new Set<LiveReader>();
  readonly streams = new Set<ScriptedLive>();

  /** Wakes those that wait, in the order in which they began to. */
  push(...names: readonly string[]): void {
    this.events.push(...names);
    this.wake();
  }

  wake(): void {
    const waiting = [...this.waiting];
    this.waiting.clear();
    for (const reader of waiting) reader.wake();
  }
}

/** A stream of a feed whose every answer the test gives. */
class ScriptedLive implements Live<SessionEvent> {
  subscribers = 1;
  origin: object | null = null;
  /** Before it can be polled it has to be awaited. */
  mustAwait = false;
  returned = 0;
  onPoll: (() => void) | null = null;
  readonly #feed: Feed;
  #at: number;
  #next: PromiseWithResolvers<IteratorResult<SessionEvent>> | null = null;
  readonly #origins: object[];

  constructor(feed: Feed, at = 0, origins: object[] = []) {
    this.#feed = feed;
    this.#at = at;
    this.#origins = origins;
    feed.streams.add(this);
  }

  poll(): SessionEvent | null {
    const hook = this.onPoll;
    this.onPoll = null;
    hook?.();
    const name = this.mustAwait ? undefined : this.#feed.events[this.#at];
    if (name === undefined) return null;
    this.origin = this.#origins[this.#at] ??= {};
    this.#at += 1;
    return removed(name);
  }

  wait(reader: LiveReader): boolean {
    if (this.mustAwait || this.#at < this.#feed.events.length) return false;
    this.#feed.waiting.add(reader);
    return true;
  }

  isLevelWith(other: Live<SessionEvent>): boolean {
    return other instanceof ScriptedLive && this.#at === this.#feed.events.length && other.#at === this.#at;
  }

  fork(): ScriptedLive {
    return new ScriptedLive(this.#feed, this.#at, this.#origins);
  }

  next(): Promise<IteratorResult<SessionEvent>> {
    this.#next = Promise.withResolvers();
    return this.#next.promise;
  }

  get pending(): PromiseWithResolvers<IteratorResult<SessionEvent>> {
    if (this.#next === null) throw new Error("Nobody awaits the stream");
    return this.#next;
  }

  return(): Promise<IteratorResult<SessionEvent>> {
    this.returned += 1;
    this.#feed.streams.delete(this);
    return Promise.resolve({ done: true, value: undefined });
  }

  [Symbol.asyncIterator](): this {
    return this;
  }
}

const removed = (sessionId: string): SessionEvent => ({ kind: "removed", sessionId });

/** A broadcast of a feed, and what its subscribers got. */
class Stage {
  readonly feed = new Feed();
  readonly subscribers: Subscriber[] = [];
  executed = 0;
  ended = 0;
  /** What the field of an event is resolved from; default: at once. */
  resolve: (name: string) => string | Promise<string> = (name) => name;
  readonly #broadcast: Broadcast;

  constructor() {
    const context = { viewer: anonymous, conversations: new FakeConversations() };
    const executing = (contextValue: object, rootValue: object) =>
      execute({ schema, document, contextValue, rootValue });
    const parentOf = (event: SessionEvent) => {
      const { sessionId } = event as SessionEvent & { readonly kind: "removed" }; // all events here are
      this.executed += 1;
      if (sessionId === "throws") throw new Error("broken");
      return sessionId === "nothing" ? null : { name: this.resolve(sessionId) };
    };
    this.#broadcast = new Broadcast(operation, context, executing, parentOf, mask, () => (this.ended += 1));
  }

  subscribe(mode: "pushed" | "pulled" = "pushed"): Subscriber {
    const live = new ScriptedLive(this.feed, this.feed.events.length);
    const subscriber = new Subscriber(live);
    if (mode === "pushed") subscriber.results.deliverTo(subscriber);
    this.#broadcast.join(subscriber.results, live);
    this.subscribers.push(subscriber);
    return subscriber;
  }

  get got(): readonly string[] {
    return this.subscribers.map(({ written }) => written.join(" "));
  }
}

class Subscriber implements Sink {
  readonly results = new Results({ lastEventId: null, cursor: null });
  readonly live: ScriptedLive;
  readonly written: string[] = [];
  answer: ReturnType<Sink["write"]> = "taken";
  onWrite: () => void = () => undefined;
  end: "pending" | "done" | "error" | "none" = "none";
  error: unknown = null;

  constructor(live: ScriptedLive) {
    this.live = live;
  }

  write(outcome: Outcome): ReturnType<Sink["write"]> {
    if (this.answer !== "closed") this.#note(outcome);
    this.onWrite();
    return this.answer;
  }

  next(): void {
    this.end = "pending";
    this.results.next().then(
      ({ done, value }: IteratorResult<ExecutionResult, undefined>) => {
        if (done === true) this.end = "done";
        else this.#note(value);
      },
      (error: unknown) => {
        this.end = "error";
        this.error = error;
      },
    );
  }

  #note({ data, errors }: ExecutionResult): void {
    this.written.push(errors === undefined ? String(data?.["name"]) : "error");
  }
}

async function settled(): Promise<void> {
  for (let i = 0; i < 10; i++) await Promise.resolve();
}

/** When those that are busy have been given the time to be free at once. */
async function gathered(): Promise<void> {
  await new Promise((resolve) => setImmediate(resolve));
  await settled();
}

type DeliveryState = "new" | "reading" | "idle" | "blocked" | "awaiting" | "ended";

/** Brings the reader of a lone subscriber there; `act` is what happens to it then. */
const reach: Record<DeliveryState, (stage: Stage, one: Subscriber, act: () => void) => void> = {
  new: (_stage, _one, act) => act(),
  reading(stage, one, act) {
    stage.feed.events.push("first");
    one.live.onPoll = act;
    one.next();
  },
  idle(_stage, one, act) {
    one.next();
    act();
  },
  blocked(stage, one, act) {
    one.answer = "waits";
    one.next();
    stage.feed.push("first");
    one.answer = "taken";
    act();
  },
  awaiting(_stage, one, act) {
    one.live.mustAwait = true;
    one.next();
    one.live.mustAwait = false;
    act();
  },
  ended(_stage, one, act) {
    one.next();
    void one.results.return();
    act();
  },
};

type Happening =
  | "next"
  | "event"
  | "event, full"
  | "event, closed"
  | "go"
  | "return"
  | "stream gives"
  | "stream ends"
  | "stream fails";

const happen: Record<Happening, (stage: Stage, one: Subscriber) => void> = {
  next: (_stage, one) => one.next(),
  event: ({ feed }) => feed.push("a"),
  "event, full"({ feed }, one) {
    one.answer = "waits";
    feed.push("a", "b");
  },
  "event, closed"({ feed }, one) {
    one.answer = "closed";
    feed.push("a");
  },
  go: (_stage, { results }) => results.go(),
  return: (_stage, { results }) => void results.return(),
  // Only while the stream is awaited.
  "stream gives": (_stage, { live }) => live.pending.resolve({ done: false, value: removed("c") }),
  "stream ends": (_stage, { live }) => live.pending.resolve({ done: true, value: undefined }),
  "stream fails": (_stage, { live }) => live.pending.reject(new Error("broken")),
};

interface Expected {
  readonly written: string;
  readonly end: Subscriber["end"];
}

const still = (written: string, end: Subscriber["end"] = "pending"): Expected => ({ written, end });
/** It cannot happen: the stream is awaited in one state alone. */
const never = null;
const notAwaited = { "stream gives": never, "stream ends": never, "stream fails": never };

const table: Record<DeliveryState, Record<Happening, Expected | null>> = {
  new: {
    next: still(""),
    event: still("", "none"),
    "event, full": still("", "none"),
    "event, closed": still("", "none"),
    go: still("", "none"),
    return: still("", "none"),
    ...notAwaited,
  },
  reading: {
    next: still("first"),
    event: still("first a"),
    "event, full": still("first"),
    "event, closed": still("", "error"),
    go: still("first"),
    return: still("", "done"),
    ...notAwaited,
  },
  idle: {
    next: still(""),
    event: still("a"),
    "event, full": still("a"),
    "event, closed": still("", "error"),
    go: still(""),
    return: still("", "done"),
    ...notAwaited,
  },
  blocked: {
    next: still("first"),
    event: still("first"),
    "event, full": still("first"),
    "event, closed": still("first"),
    go: still("first"),
    return: still("first", "done"),
    ...notAwaited,
  },
  awaiting: {
    next: still(""),
    event: still(""),
    "event, full": still(""),
    "event, closed": still(""),
    go: still(""),
    return: still("", "done"),
    "stream gives": still("c"),
    "stream ends": still("", "done"),
    "stream fails": still("", "error"),
  },
  ended: {
    next: still("", "done"),
    event: still("", "done"),
    "event, full": still("", "done"),
    "event, closed": still("", "done"),
    go: still("", "done"),
    return: still("", "done"),
    ...notAwaited,
  },
};

describe("one subscriber of a broadcast", () => {
  for (const [state, row] of Object.entries(table) as [DeliveryState, (typeof table)[DeliveryState]][]) {
    for (const [happening, expected] of Object.entries(row) as [Happening, Expected | null][]) {
      if (expected === null) continue;
      test(`${state}, ${happening}`, async () => {
        const stage = new Stage();
        const one = stage.subscribe();
        reach[state](stage, one, () => happen[happening](stage, one));
        await settled();
        expect({ written: one.written.join(" "), end: one.end }).toEqual(expected);
        // What has ended leaves nothing behind.
        const ended = one.end === "done" || one.end === "error" || (state === "new" && happening === "return");
        expect(stage.ended).toBe(ended ? 1 : 0);
        expect(one.live.returned).toBe(ended ? 1 : 0);
      });
    }
  }

  test("goes on where it was full, once it has sent all", () => {
    const stage = new Stage();
    const one = stage.subscribe();
    one.next();
    one.answer = "waits";
    stage.feed.push("a", "b", "c");
    expect(stage.got).toEqual(["a"]);
    one.answer = "taken";
    one.results.go();
    expect(stage.got).toEqual(["a b c"]);
    stage.feed.push("d");
    expect(stage.got).toEqual(["a b c d"]);
  });

  test("an event whose execution takes time keeps its place before the next", async () => {
    const stage = new Stage();
    const slow = Promise.withResolvers<string>();
    stage.resolve = (name) => (name === "slow" ? slow.promise : name);
    const one = stage.subscribe();
    one.next();
    stage.feed.push("slow", "next");
    await settled();
    expect(stage.got).toEqual([""]);
    slow.resolve("slow");
    await settled();
    expect(stage.got).toEqual(["slow next"]);
    stage.feed.push("then");
    expect(stage.got).toEqual(["slow next then"]);
  });

  test("an event that cannot be told ends the stream with the operation's error", async () => {
    const stage = new Stage();
    const one = stage.subscribe();
    one.next();
    stage.feed.push("throws");
    await settled();
    expect(one.error).toBeInstanceOf(GraphQLError);
    expect((one.error as GraphQLError).nodes).toEqual([operation]); // checked above
    expect((one.error as GraphQLError).message).toBe("broken");
    expect(one.live.returned).toBe(1);
  });

  test("an event that is passed by is not written", () => {
    const stage = new Stage();
    stage.subscribe().next();
    stage.feed.push("a", "nothing", "b");
    expect(stage.got).toEqual(["a b"]);
  });

  test("that pulls gets one result for each next(), in order, and the end", async () => {
    const stage = new Stage();
    const one = stage.subscribe("pulled");
    one.next();
    one.next();
    stage.feed.push("a", "b", "c");
    await gathered();
    expect(stage.got).toEqual(["a b"]);
    one.next();
    await settled();
    expect(stage.got).toEqual(["a b c"]);
    one.next();
    await one.results.return();
    await settled();
    expect(one.end).toBe("done");
    one.next();
    await settled();
    expect(one.end).toBe("done");
  });

  test("that pulls gets an error that came before it asked", async () => {
    const stage = new Stage();
    const [one, other] = [stage.subscribe("pulled"), stage.subscribe("pulled")];
    for (const each of [one, other]) each.next();
    one.results.end(new GraphQLError("broken"));
    await settled();
    expect(one.end).toBe("error");
    other.live.mustAwait = true;
    const asked = stage.subscribe("pulled");
    asked.results.end(new GraphQLError("broken"));
    asked.next();
    await settled();
    expect(asked.end).toBe("error");
    asked.next();
    await settled();
    expect(asked.end).toBe("done");
  });
});

describe("several subscribers of a broadcast", () => {
  function level(count: number, mode: "pushed" | "pulled" = "pushed") {
    const stage = new Stage();
    for (let i = 0; i < count; i++) stage.subscribe(mode).next();
    return stage;
  }

  test("share one stream and one execution of each event", () => {
    const stage = level(3);
    expect(stage.feed.streams.size).toBe(1);
    expect([...stage.feed.streams][0]?.subscribers).toBe(3);
    stage.feed.push("a", "b");
    expect(stage.got).toEqual(["a b", "a b", "a b"]);
    expect(stage.executed).toBe(2);
  });

  test("also where they pull", async () => {
    const stage = level(3, "pulled");
    for (const name of ["a", "b"]) {
      stage.feed.push(name);
      await gathered();
      for (const one of stage.subscribers) one.next();
    }
    expect(stage.got).toEqual(["a b", "a b", "a b"]);
    expect(stage.executed).toBe(2);
    expect(stage.feed.streams.size).toBe(1);
  });

  test("one that is full gets a stream of its own, the same outcomes, and joins the others again", () => {
    const stage = level(3);
    const [, slow] = stage.subscribers;
    if (slow === undefined) throw new Error("There are three");
    slow.answer = "waits";
    stage.feed.push("a", "b");
    stage.feed.push("c");
    expect(stage.got).toEqual(["a b c", "a", "a b c"]);
    expect(stage.feed.streams.size).toBe(2);
    slow.answer = "taken";
    slow.results.go();
    expect(stage.got).toEqual(["a b c", "a b c", "a b c"]);
    expect(stage.executed).toBe(3);
    expect(stage.feed.streams.size).toBe(1);
    stage.feed.push("d");
    expect(stage.got).toEqual(["a b c d", "a b c d", "a b c d"]);
    expect(stage.executed).toBe(4);
  });

  test("one that was full and has sent all before the next event never leaves", () => {
    const stage = level(2);
    const [slow] = stage.subscribers;
    if (slow === undefined) throw new Error("There are two");
    slow.answer = "waits";
    stage.feed.push("a");
    slow.answer = "taken";
    slow.results.go();
    stage.feed.push("b");
    expect(stage.got).toEqual(["a b", "a b"]);
    expect(stage.feed.streams.size).toBe(1);
    expect(stage.executed).toBe(2);
  });

  test("where all are full, those that are free again in time stay together", async () => {
    const stage = level(3);
    for (const one of stage.subscribers) one.answer = "waits";
    stage.feed.push("a", "b");
    for (const one of stage.subscribers) one.answer = "taken";
    for (const { results } of stage.subscribers.slice(0, 2)) results.go();
    await gathered();
    expect(stage.got).toEqual(["a b", "a b", "a"]);
    expect(stage.feed.streams.size).toBe(2);
    expect(stage.executed).toBe(2);
  });

  test("what ends the stream ends all of them", async () => {
    const stage = level(3);
    const [stream] = stage.feed.streams;
    if (stream === undefined) throw new Error("There is one");
    stream.mustAwait = true;
    stage.feed.wake();
    stream.pending.resolve({ done: true, value: undefined });
    await settled();
    expect(stage.subscribers.map(({ end }) => end)).toEqual(["done", "done", "done"]);
    expect(stage.ended).toBe(1);
    expect(stage.feed.streams.size).toBe(0);
  });

  test("what cannot be told ends all of them with the error", async () => {
    const stage = level(3);
    stage.feed.push("a", "throws", "b");
    await settled();
    expect(stage.got).toEqual(["a", "a", "a"]);
    expect(stage.subscribers.map(({ end }) => end)).toEqual(["error", "error", "error"]);
  });

  test("one that ends while others are handed an event is not handed it any more", () => {
    const stage = level(3);
    const [first, , last] = stage.subscribers;
    if (first !== undefined && last !== undefined) first.onWrite = () => void last.results.return();
    stage.feed.push("a");
    expect(stage.got).toEqual(["a", "a", ""]);
  });

  test("one that comes while an event is handed out gets none twice, and none too few", () => {
    const stage = level(2);
    const [first] = stage.subscribers;
    let late: Subscriber | null = null;
    if (first !== undefined) {
      first.onWrite = () => {
        if (late !== null) return;
        late = stage.subscribe();
        late.next();
      };
    }
    stage.feed.push("a");
    stage.feed.push("b");
    expect(stage.got).toEqual(["a b", "a b", "b"]);
    // It came to the newest event before the others had: by the next one they are together.
    expect(stage.feed.streams.size).toBe(1);
    stage.feed.push("c");
    expect(stage.got).toEqual(["a b c", "a b c", "b c"]);
    expect(stage.executed).toBeLessThanOrEqual(4);
  });

  test("the last that leaves ends the stream and the broadcast", async () => {
    const stage = level(2);
    const [first, second] = stage.subscribers;
    await first?.results.return();
    expect(stage.ended).toBe(0);
    expect(stage.feed.streams.size).toBe(1);
    await second?.results.return();
    expect(stage.ended).toBe(1);
    expect(stage.feed.streams.size).toBe(0);
  });
});

describe("a share key", () => {
  const keys = new ShareKeys();
  const documents = new Map<string, DocumentNode>();
  const ann: Viewer = { subject: "ann", scopes: ["chat:read"], sessions: ["ann:*"], granted: false, models: null };

  function keyOf(text: string, variables: Readonly<Record<string, unknown>>, viewer: Viewer = ann): string | null {
    const document = documents.get(text) ?? parse(text);
    documents.set(text, document);
    const found = document.definitions.find((one) => one.kind === Kind.OPERATION_DEFINITION);
    if (found === undefined) throw new Error("There is no operation");
    return keys.of(document, found, variables, viewer);
  }

  const plain = "subscription ($s: String!, $after: String) { messageAdded(sessionId: $s, after: $after) { text } }";

  test.each<[string, Viewer]>([
    ["subject", { ...ann, subject: "bob" }],
    ["scopes", { ...ann, scopes: ["chat:read", "chat:write"] }],
    ["order of scopes", { ...ann, scopes: ["chat:write", "chat:read"] }],
    ["patterns", { ...ann, sessions: ["ann:*", "team:*"] }],
    ["freedom of ids", { ...ann, sessions: null }],
    ["grant", { ...ann, granted: true }],
    ["choice of models", { ...ann, models: ["offline"] }],
    ["being nobody", anonymous],
  ])("another %s is another key (P11)", (_what, other) => {
    expect(keyOf(plain, { s: "a" }, other)).not.toBe(keyOf(plain, { s: "a" }));
  });

  test("another operation is another key, whatever its text", () => {
    const key = keyOf(plain, { s: "a" });
    documents.clear();
    expect(keyOf(plain, { s: "a" })).not.toBe(key);
  });

  test("the same viewer, told in another order, has the same key", () => {
    const { granted, models, sessions, scopes, subject } = ann;
    expect(keyOf(plain, { s: "a" }, { granted, models, sessions, scopes, subject })).toBe(keyOf(plain, { s: "a" }));
  });

  test("where a stream begins tells nothing apart; any other variable does", () => {
    expect(keyOf(plain, { s: "a", after: "one" })).toBe(keyOf(plain, { s: "a", after: "two" }));
    expect(keyOf(plain, { s: "a", after: null })).toBe(keyOf(plain, { s: "a" }));
    expect(keyOf(plain, { s: "a" })).not.toBe(keyOf(plain, { s: "b" }));
  });

  test.each(["n", "constructor"])("$%s that is null, which gets no default, is not one that is left out", (name) => {
    const defaulted = `subscription ($s: String!, $${name}: Int = 1) {
      messageAdded(sessionId: $s) { session { messages(last: $${name}) { nodes { id } } } } }`;
    expect(keyOf(defaulted, { s: "a", [name]: null })).not.toBe(keyOf(defaulted, { s: "a" }));
  });

  test("an `after` that also serves something else counts", () => {
    const reused = `subscription ($s: String!, $after: String) {
      messageAdded(sessionId: $s, after: $after) { session { messages(first: 1, after: $after) { nodes { id } } } } }`;
    expect(keyOf(reused, { s: "a", after: "one" })).not.toBe(keyOf(reused, { s: "a", after: "two" }));
    const inner = `subscription ($s: String!, $after: String) {
      messageAdded(sessionId: $s) { session { messages(first: 1, after: $after) { nodes { id } } } } }`;
    expect(keyOf(inner, { s: "a", after: "one" })).not.toBe(keyOf(inner, { s: "a", after: "two" }));
    const inFragment = `subscription ($s: String!, $after: String) { messageAdded(sessionId: $s, after: $after) { ...F } }
      fragment F on Message { session { messages(first: 1, after: $after) { nodes { id } } } }`;
    expect(keyOf(inFragment, { s: "a", after: "one" })).not.toBe(keyOf(inFragment, { s: "a", after: "two" }));
  });

  test("objects are the same in any order of their keys, lists are not", () => {
    const query = "subscription ($s: String!, $o: In) { messageAdded(sessionId: $s) { text(o: $o) } }";
    expect(keyOf(query, { s: "a", o: { x: 1, y: [1, 2] } })).toBe(keyOf(query, { o: { y: [1, 2], x: 1 }, s: "a" }));
    expect(keyOf(query, { s: "a", o: [1, 2] })).not.toBe(keyOf(query, { s: "a", o: [2, 1] }));
    expect(keyOf(query, { s: "a", o: "1" })).not.toBe(keyOf(query, { s: "a", o: 1 }));
  });

  test.each(["defer", "stream"])("results in parts (@%s) are nobody else's", (directive) => {
    expect(keyOf(`subscription { messageAdded(sessionId: "a") { ... @${directive} { text } } }`, {})).toBeNull();
  });
});
