import { GraphQLError, Kind, parse } from "graphql";
import type { ExecutionResult, OperationDefinitionNode } from "graphql";
import { describe, expect, test } from "vitest";

import { anonymous } from "../../src/conversation/session.ts";
import type { Viewer } from "../../src/conversation/session.ts";
import type { Live, LiveReader } from "../../src/conversation/ports/live.ts";
import { nextMessage, Outcome } from "../../src/operations/live/outcome.ts";
import type { Frame } from "../../src/operations/live/outcome.ts";
import { ShareKeys } from "../../src/operations/live/share-key.ts";
import { SharedResults } from "../../src/operations/live/shared-results.ts";
import type { DeliveryState, EventExecution, Sink } from "../../src/operations/live/shared-results.ts";

const mask = (error: unknown) => new GraphQLError(`masked: ${String(error)}`);

function outcomeOf(result: ExecutionResult): Outcome {
  return new Outcome(result, mask);
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
      const outcome = outcomeOf({ data: { t: `ü€${"x".repeat(size)}` } });
      for (const id of [...ids, ...ids.toReversed(), ...ids]) {
        const { text } = textOf(bytesOf(outcome.frame(nextMessage(id))));
        expect(JSON.parse(text)).toEqual({
          ...(JSON.parse(nextMessage(id) + "0}") as object),
          payload: outcome.result,
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

interface Named {
  readonly name: string;
}

/** A source whose every answer the test gives. */
class ScriptedSource implements Live<Named> {
  readonly queue: Named[] = [];
  /** What a wait is answered with where nothing is queued. */
  waits = true;
  returned = 0;
  reader: LiveReader<Named> | null = null;
  onPoll: (() => void) | null = null;
  #next: PromiseWithResolvers<IteratorResult<Named>> | null = null;

  poll(): Named | null {
    const hook = this.onPoll;
    this.onPoll = null;
    hook?.();
    return this.queue.shift() ?? null;
  }

  wait(reader: LiveReader<Named>): boolean {
    this.reader = reader;
    return this.waits;
  }

  next(): Promise<IteratorResult<Named>> {
    this.#next = Promise.withResolvers();
    return this.#next.promise;
  }

  get pending(): PromiseWithResolvers<IteratorResult<Named>> {
    if (this.#next === null) throw new Error("Nobody awaits the source");
    return this.#next;
  }

  return(): Promise<IteratorResult<Named>> {
    this.returned += 1;
    return Promise.resolve({ done: true, value: undefined });
  }

  [Symbol.asyncIterator](): this {
    return this;
  }
}

const operation = parse("subscription { messageAdded }").definitions[0] as OperationDefinitionNode; // it is written so

class Stage {
  readonly source = new ScriptedSource();
  readonly written: string[] = [];
  answer: ReturnType<Sink["write"]> = "taken";
  /** How an event is executed; default: at once. */
  execute: EventExecution["outcome"] = (event) => outcomeOf({ data: { name: (event as Named).name } }); // the source's
  readonly results: SharedResults;
  end: "pending" | "done" | "error" | "none" = "none";

  constructor() {
    const execution = { operation, outcome: (...args: Parameters<EventExecution["outcome"]>) => this.execute(...args) };
    const live = { events: this.source, parentOf: (event: object) => event, cursorOf: () => null };
    this.results = new SharedResults(execution, live, { lastEventId: null, cursor: null });
    this.results.deliverTo({
      write: (outcome) => {
        if (this.answer !== "closed") this.written.push(String(outcome.result.data?.["name"]));
        return this.answer;
      },
    });
  }

  next(): void {
    this.end = "pending";
    this.results.next().then(
      ({ done }) => (this.end = done === true ? "done" : "pending"),
      () => (this.end = "error"),
    );
  }

  queue(...names: readonly string[]): void {
    this.source.queue.push(...names.map((name) => ({ name })));
  }
}

async function settled(): Promise<void> {
  for (let i = 0; i < 10; i++) await Promise.resolve();
}

/** Brings a subscriber there; `act` is what happens to it then. */
const reach: Record<DeliveryState, (stage: Stage, act: () => void) => void> = {
  new: (_stage, act) => act(),
  delivering(stage, act) {
    stage.source.onPoll = act;
    stage.next();
  },
  idle(stage, act) {
    stage.next();
    act();
  },
  full(stage, act) {
    stage.answer = "waits";
    stage.queue("first");
    stage.next();
    stage.answer = "taken";
    act();
  },
  awaiting(stage, act) {
    stage.source.waits = false;
    stage.next();
    stage.source.waits = true;
    act();
  },
  ended(stage, act) {
    stage.next();
    void stage.results.return();
    act();
  },
};

type Happening =
  "next" | "take" | "take, full" | "take, closed" | "wake" | "go" | "return" | "source gives" | "source ends";

/** With "b" queued in the source. What take() answers is noted before what is written. */
const happen: Record<Happening, (stage: Stage, note: (answer: boolean) => void) => void> = {
  next: (stage) => stage.next(),
  take: ({ results }, note) => note(results.take({ name: "a" })),
  "take, full"(stage, note) {
    stage.answer = "waits";
    note(stage.results.take({ name: "a" }));
  },
  "take, closed"(stage, note) {
    stage.answer = "closed";
    note(stage.results.take({ name: "a" }));
    stage.answer = "taken";
  },
  wake: ({ results }) => results.wake(),
  go: ({ results }) => results.go(),
  return: ({ results }) => void results.return(),
  // Only who awaits the source can be told by it.
  "source gives": ({ source }) => source.pending.resolve({ done: false, value: { name: "c" } }),
  "source ends": ({ source }) => source.pending.resolve({ done: true, value: undefined }),
};

interface Expected {
  readonly written: string;
  readonly end: Stage["end"];
  readonly took?: boolean;
}

const still = (written: string, end: Stage["end"] = "pending"): Expected => ({ written, end });
const refused = (written: string, end: Stage["end"] = "pending"): Expected => ({ written, end, took: false });
/** It cannot happen: the source is awaited in one state alone. */
const never = null;

const table: Record<DeliveryState, Record<Happening, Expected | null>> = {
  new: {
    next: still("b"),
    take: refused("", "none"),
    "take, full": refused("", "none"),
    "take, closed": refused("", "none"),
    wake: still("", "none"),
    go: still("", "none"),
    return: still("", "none"),
    "source gives": never,
    "source ends": never,
  },
  delivering: {
    next: still("b"),
    // What it polls comes first: it takes nothing besides.
    take: refused("b"),
    "take, full": refused("b"),
    "take, closed": refused("b"),
    wake: still("b"),
    go: still("b"),
    return: still("", "done"),
    "source gives": never,
    "source ends": never,
  },
  idle: {
    next: still(""),
    take: { written: "a", end: "pending", took: true },
    "take, full": refused("a"),
    "take, closed": refused("", "error"),
    wake: still("b"),
    go: still(""),
    return: still("", "done"),
    "source gives": never,
    "source ends": never,
  },
  full: {
    next: still("first"),
    take: refused("first"),
    "take, full": refused("first"),
    "take, closed": refused("first"),
    wake: still("first"),
    go: still("first b"),
    return: still("first", "done"),
    "source gives": never,
    "source ends": never,
  },
  awaiting: {
    next: still(""),
    take: refused(""),
    "take, full": refused(""),
    "take, closed": refused(""),
    wake: still(""),
    go: still(""),
    return: still("", "done"),
    "source gives": still("c b"),
    "source ends": still("", "done"),
  },
  ended: {
    next: still("", "done"),
    take: refused("", "done"),
    "take, full": refused("", "done"),
    "take, closed": refused("", "done"),
    wake: still("", "done"),
    go: still("", "done"),
    return: still("", "done"),
    "source gives": never,
    "source ends": never,
  },
};

describe("a subscriber's results", () => {
  for (const [state, row] of Object.entries(table) as [DeliveryState, (typeof table)[DeliveryState]][]) {
    for (const [happening, expected] of Object.entries(row) as [Happening, Expected | null][]) {
      if (expected === null) continue;
      test(`${state}, ${happening}`, async () => {
        const stage = new Stage();
        let took: boolean | undefined;
        reach[state](stage, () => {
          stage.queue("b");
          happen[happening](stage, (answer) => (took = answer));
        });
        await settled();
        expect({ written: stage.written.join(" "), end: stage.end, took }).toEqual({ took: undefined, ...expected });
        // Its source is let go once, where it was not the source that ended.
        const ended = (stage.end === "done" || stage.end === "error") && happening !== "source ends";
        if (ended) expect(stage.source.returned).toBeGreaterThan(0);
      });
    }
  }

  test("an event whose execution takes time keeps its place before the next", async () => {
    const stage = new Stage();
    const slow = Promise.withResolvers<Outcome>();
    stage.execute = (event) =>
      (event as Named).name === "slow" ? slow.promise : outcomeOf({ data: { name: (event as Named).name } }); // as above
    stage.next();
    expect(stage.results.take({ name: "slow" })).toBe(false);
    stage.queue("next");
    stage.results.wake();
    await settled();
    expect(stage.written).toEqual([]);
    slow.resolve(outcomeOf({ data: { name: "slow" } }));
    await settled();
    expect(stage.written).toEqual(["slow", "next"]);
    expect(stage.results.take({ name: "then" })).toBe(true);
    expect(stage.written).toEqual(["slow", "next", "then"]);
  });

  test.each(["throws", "rejects"])("an execution that %s ends the stream with the operation's error", async (how) => {
    const stage = new Stage();
    stage.execute = () => {
      if (how === "throws") throw new Error("broken");
      return Promise.reject(new Error("broken"));
    };
    const end = stage.results.next();
    expect(stage.results.take({ name: "a" })).toBe(false);
    const error: unknown = await end.then(
      () => null,
      (thrown: unknown) => thrown,
    );
    expect(error).toBeInstanceOf(GraphQLError);
    expect((error as GraphQLError).nodes).toEqual([operation]); // checked above
    expect(stage.source.returned).toBe(1);
  });
});

describe("a share key", () => {
  const keys = new ShareKeys();
  const ann: Viewer = { subject: "ann", scopes: ["chat:read"], sessions: ["ann:*"], granted: false };

  function keyOf(text: string, variables: Readonly<Record<string, unknown>>, viewer: Viewer = ann): string | null {
    const document = parse(text);
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
    ["being nobody", anonymous],
  ])("another %s is another key (P11)", (_what, other) => {
    expect(keyOf(plain, { s: "a" }, other)).not.toBe(keyOf(plain, { s: "a" }));
  });

  test("the same viewer, told in another order, has the same key", () => {
    const { granted, sessions, scopes, subject } = ann;
    expect(keyOf(plain, { s: "a" }, { granted, sessions, scopes, subject })).toBe(keyOf(plain, { s: "a" }));
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
