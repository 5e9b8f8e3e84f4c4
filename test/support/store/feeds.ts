import { Redis } from "ioredis";
import { test as base } from "vitest";
import type { SessionChange, SessionEvent } from "../../../src/conversation/events.ts";
import { ParleyError } from "../../../src/conversation/errors.ts";
import { partsOf, type RunPart } from "../../../src/conversation/part-log.ts";
import type { WhenAbsent } from "../../../src/conversation/ports/feeds.ts";
import type { Live } from "../../../src/conversation/ports/live.ts";
import { decodeStoredMessage } from "../../../src/conversation/message/stored-message.ts";
import { RedisBackend, type BackendOptions } from "../../../src/redis/store/backend.ts";
import { Checks } from "../../../src/redis/feed/checks.ts";
import { startRedis, type TestRedis } from "../redis/redis-server.ts";
import { newMessage, newOp, owner } from "./store.ts";

/** All of a gateway that talks to Redis, without turns and GraphQL above it. */
export interface TestBackend extends AsyncDisposable {
  readonly backend: RedisBackend;
  readonly errors: readonly unknown[];
  /** Appends through the store, as addMessages does; one write for all. */
  append(sessionId: string, ...texts: readonly string[]): Promise<void>;
  /** A subscriber that pulls all the time, unless told otherwise; of a session that there is not it is NOT_FOUND, unless `absent` says more. */
  open(sessionId: string, after?: string | null, pulls?: "always" | "never", absent?: WhenAbsent): Promise<LiveReader>;
  changes(): Promise<Reader<SessionChange>>;
  /** Ends all that were opened. */
  abortAll(): void;
}

export function openBackend(port: number, options: Partial<BackendOptions> = {}): TestBackend {
  const errors: unknown[] = [];
  const backend = new RedisBackend({
    source: { kind: "url", url: `redis://127.0.0.1:${port}/0` },
    commandTimeoutMs: 5000,
    enableKeyspaceEvents: false,
    listEvents: true,
    // So long that nothing which a test waits for can come from the check.
    feedCheckMs: 600_000,
    historyKeyPrefix: "",
    adopts: true,
    sessionTtlSeconds: null,
    autoTitle: false,
    leaseMs: 60_000,
    approvalTimeoutMs: 60_000,
    maxQueuedRuns: 20,
    maxMessages: null,
    model: "offline",
    memory: { strategy: "BUFFER", maxTurns: null, maxTokens: null },
    memoryRows: 200,
    waitReplicas: 0,
    waitTimeoutMs: 1000,
    onError: (error) => errors.push(error),
    onAdvice: () => undefined,
    onRefusal: () => undefined,
    onTurnFree: () => undefined,
    onStarted: () => undefined,
    attend: () => Promise.resolve(null),
    ...options,
  });
  const read = { pages: [] };
  const opened: AbortController[] = [];
  const controller = () => {
    const one = new AbortController();
    opened.push(one);
    return one;
  };
  return {
    backend,
    errors,
    async append(sessionId, ...texts) {
      const rows = texts.map((text) => newMessage(sessionId, "USER", text, null));
      await backend.store.append(owner, sessionId, rows, newOp());
    },
    async open(sessionId, after = null, pulls = "always", absent = "refuse") {
      const stop = controller();
      const events = await backend.feeds.open(owner, sessionId, after, absent, read, stop.signal);
      return new Reader(events, stop, pulls) as LiveReader; // its source is the one that it was given
    },
    async changes() {
      const stop = controller();
      return new Reader(await backend.feeds.changes(owner, read, stop.signal), stop, "always");
    },
    abortAll() {
      for (const one of opened.splice(0)) one.abort();
    },
    [Symbol.asyncDispose]: () => backend.close(),
  };
}

/** For a feed whose session nothing compares. */
export function noChecks(): Checks {
  return new Checks({
    checkMs: () => 600_000,
    compare: () => Promise.resolve(new Map()),
    onError: () => undefined,
  });
}

const limitMs = 60_000;

export type LiveReader = Reader<SessionEvent> & { readonly source: Live<SessionEvent> };

/** Collects what an iterator gives. */
export class Reader<Event extends { readonly kind: string }> {
  readonly events: Event[] = [];
  readonly source: AsyncIterableIterator<Event>;
  readonly #stop: AbortController;
  readonly #looking = new Set<() => void>();
  #ended = false;
  #error: unknown = null;

  constructor(source: AsyncIterableIterator<Event>, stop: AbortController, pulls: "always" | "never") {
    this.source = source;
    this.#stop = stop;
    if (pulls === "always") this.startPulling();
  }

  startPulling(): void {
    void this.#pull();
  }

  get ended(): boolean {
    return this.#ended;
  }

  /** The code it failed with. */
  get error(): string | null {
    if (this.#error === null) return null;
    if (this.#error instanceof ParleyError) return this.#error.code;
    return this.#error instanceof Error ? this.#error.message : "no error";
  }

  /** Pulls one event by hand. */
  async next(): Promise<Event | null> {
    const result: IteratorResult<Event, undefined> = await this.source.next();
    if (result.done === true) return null;
    this.events.push(result.value);
    return result.value;
  }

  abort(): void {
    this.#stop.abort();
  }

  return(): Promise<unknown> {
    return this.source.return?.() ?? Promise.resolve();
  }

  ofKind<Kind extends Event["kind"]>(kind: Kind): readonly Extract<Event, { readonly kind: Kind }>[] {
    return this.events.filter((event): event is Extract<Event, { readonly kind: Kind }> => event.kind === kind);
  }

  /** Resolves when what has come so far fits; rejects after 60 s, or when the iterator has ended before. */
  until(what: string, holds: () => boolean): Promise<void> {
    return new Promise((resolve, reject) => {
      const settle = (settled: () => void) => {
        clearTimeout(limit);
        this.#looking.delete(look);
        settled();
      };
      const fail = (why: string) =>
        settle(() => {
          reject(new Error(`${why}: ${what}; error ${String(this.error)}; ${this.events.length} events`));
        });
      const look = () => {
        if (holds()) settle(resolve);
        else if (this.#ended) fail("It ended before");
      };
      const limit = setTimeout(() => {
        fail(`Not within ${limitMs / 1000} s`);
      }, limitMs);
      this.#looking.add(look);
      look();
    });
  }

  untilCount(kind: Event["kind"], count: number): Promise<void> {
    return this.until(`${count} of ${kind}`, () => this.events.filter((event) => event.kind === kind).length >= count);
  }

  async #pull(): Promise<void> {
    try {
      while ((await this.next()) !== null) this.#look();
    } catch (error) {
      this.#error = error;
    }
    this.#ended = true;
    this.#look();
  }

  #look(): void {
    for (const look of [...this.#looking]) look();
  }
}

export function textOf(raw: string): string {
  return decodeStoredMessage(raw).text;
}

export function textsOf(reader: Reader<SessionEvent>): readonly string[] {
  return reader.ofKind("message").map(({ message }) => textOf(message.row.raw));
}

/** What a client that follows the rules has in the end: positions, and the text at each. */
export function listOf(reader: Reader<SessionEvent>): readonly string[] {
  let list: string[] = [];
  for (const event of reader.events) {
    if (event.kind === "message") list[event.message.row.position] = textOf(event.message.row.raw);
    if (event.kind === "reset") list = list.slice(0, event.kept);
  }
  return list;
}

/** The newest cursor that an event brought: where a client resumes. */
export function cursorOf(reader: Reader<SessionEvent>): string {
  const cursor = reader.events.reduce<string | null>((last, event) => ("cursor" in event ? event.cursor : last), null);
  if (cursor === null) throw new Error("No event brought a cursor");
  return cursor;
}

/** The reply's text as a client puts it together from what a stream began with and from progress. Rejects a gap. */
export function replyOf(reader: Reader<SessionEvent>): string {
  const opened = reader.ofKind("opened")[0]?.session.activeRun ?? null;
  let text = opened?.text ?? "";
  for (const event of reader.ofKind("progress")) {
    if (event.offset !== text.length) throw new Error(`Text for ${event.offset}, but there are ${text.length}`);
    text += event.text;
  }
  return text;
}

export interface OwnServer extends AsyncDisposable {
  readonly server: TestRedis;
  readonly port: number;
  readonly redis: Redis;
}

/** A redis-server for one test, and a connection to it. */
export async function startServer(...args: readonly string[]): Promise<OwnServer> {
  const server = await startRedis({ appendonly: false, args });
  const redis = new Redis(server.port, "127.0.0.1");
  const stop = async () => {
    redis.disconnect();
    await server.stop();
  };
  return { server, port: server.port, redis, [Symbol.asyncDispose]: stop };
}

/** A test on a server that the file's tests share, and on two backends over it. Whom it lets listen listens no longer than it. */
export const test = base
  .extend("server", { scope: "file" }, async ({}, { onCleanup }) => {
    const server = await startServer();
    onCleanup(() => server[Symbol.asyncDispose]());
    return server;
  })
  .extend("redis", { scope: "file" }, ({ server }) => server.redis)
  .extend("one", { scope: "file" }, backendOf)
  .extend("two", { scope: "file" }, backendOf)
  .extend("leaving", { auto: true }, ({ one, two }, { onCleanup }) => {
    onCleanup(() => {
      one.abortAll();
      two.abortAll();
    });
  });

function backendOf({ server }: { readonly server: OwnServer }, { onCleanup }: Cleaning): TestBackend {
  const backend = openBackend(server.port);
  onCleanup(() => backend[Symbol.asyncDispose]());
  return backend;
}

interface Cleaning {
  readonly onCleanup: (end: () => PromiseLike<void>) => void;
}

/** How often Redis has carried out each command, within scripts too. */
export async function commandCounts(redis: Redis): Promise<ReadonlyMap<string, number>> {
  const info = await redis.info("commandstats");
  return new Map(
    [...info.matchAll(/^cmdstat_([^:]+):calls=(\d+)/gm)].map(([, name = "", calls]) => [name, Number(calls)]),
  );
}

/** What `work` made Redis do, without what was asked to find that out. */
export async function commandsOf(redis: Redis, work: () => Promise<void>): Promise<ReadonlyMap<string, number>> {
  const before = await commandCounts(redis);
  await work();
  const after = await commandCounts(redis);
  const counts = new Map<string, number>();
  for (const [name, calls] of after) {
    const more = calls - (before.get(name) ?? 0);
    if (more > 0 && name !== "info") counts.set(name, more);
  }
  return counts;
}

export function range(from: number, to: number, name = "m"): readonly string[] {
  return Array.from({ length: to - from }, (_, i) => `${name}${from + i}`);
}

/** What of a part grows; null: it does not. */
export function grownText(part: RunPart): string | null {
  if (part.kind === "data") return null;
  return part.kind === "tool" ? part.argsText : part.text;
}

/** The parts as a client puts them together that follows the rules of the schema. Rejects a gap, and what goes into a part of another kind. */
export function partsSeen(events: readonly SessionEvent[], runId: string): readonly RunPart[] {
  const parts: RunPart[] = [];
  const grow = (index: number, offset: number, text: string) => {
    const part = parts[index];
    const known = part === undefined ? null : grownText(part);
    if (part === undefined || known === null || offset > known.length)
      throw new Error(`Text for ${index} at ${offset}`);
    const grown = known + text.slice(known.length - offset);
    parts[index] = part.kind === "tool" ? { ...part, argsText: grown } : ({ ...part, text: grown } as RunPart);
  };
  for (const event of events) {
    const run = event.kind === "opened" || event.kind === "reset" ? event.session.activeRun : null;
    if (run?.runId === runId) parts.splice(0, parts.length, ...partsOf(run.log, run.text, run.replyLocalId));
    if (!("runId" in event) || event.runId !== runId) continue;
    if (event.kind === "partAdded") {
      if (event.index > parts.length) throw new Error(`Part ${event.index} behind ${parts.length}`);
      parts[event.index] ??= event.part;
    } else if (event.kind === "partChanged") {
      const known = parts[event.index];
      if (known?.kind !== "tool") throw new Error(`A change of ${event.index}`);
      if (event.part.revision >= known.revision) parts[event.index] = event.part;
    } else if (event.kind === "partProgress") grow(event.index, event.offset, event.text);
    else {
      const { index, offset, replyLocalId } = event;
      if (index > parts.length) throw new Error(`Text part ${index} behind ${parts.length}`);
      const part = (parts[index] ??= { kind: "text", messageLocalId: replyLocalId, start: offset, text: "" });
      if (part.kind !== "text") throw new Error(`Text for the ${part.kind} at ${index}`);
      grow(index, offset - part.start, event.text);
    }
  }
  return parts;
}
