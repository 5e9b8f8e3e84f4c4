import type { Cluster, Redis } from "ioredis";
import { setTimeout as sleep } from "node:timers/promises";
import { waitUntil } from "../support/redis/redis-command.ts";
import { Prober, type ProbeOptions } from "./prober.ts";
import { Subscriber } from "./subscriber.ts";

export interface LoadOptions {
  /** /graphql of each gateway. They may be away for a while. */
  readonly urls: readonly string[];
  readonly sessionIds: readonly string[];
  /** A new client of the test's own, to look at what is stored. */
  readonly raw: () => Redis | Cluster;
  /** How Redis itself is asked whether it takes writes. */
  readonly probe: ProbeOptions;
  /** Characters in front of each message. */
  readonly padding?: number;
}

/** What a drill came to, counted exactly. */
export interface Count {
  readonly acknowledged: number;
  /** Acknowledged, and not stored at the end. */
  readonly lost: number;
  /** Of the lost: those of which nobody who had them was told, or whose cursor is taken as if nothing were missing. */
  readonly silent: number;
  /** Stored twice, or delivered twice. */
  readonly duplicated: number;
  /** Delivered anywhere but behind the one before, or stored in another order than their writer wrote them. */
  readonly outOfOrder: number;
  /** How often a subscriber was told that history is gone. */
  readonly resets: number;
  /** Answers that said "not now". */
  readonly refused: number;
  /** The longest time in which a session had nothing acknowledged, in ms. */
  readonly longestStallMs: number;
  /** The longest time from when Redis took writes again to the next acknowledgement in a session that waited, in ms. */
  readonly afterRedisMs: number;
  /** The longest time from an acknowledgement to a subscriber's having the message, in ms. */
  readonly longestDelayMs: number;
  /** What may never happen: other refusals, subscribers that hold what is not stored, or do not arrive at the end. */
  readonly wrong: readonly string[];
}

interface Acknowledged {
  readonly sessionId: string;
  readonly messageId: string;
  readonly cursor: string;
  readonly at: number;
}

const create = `mutation ($input: CreateSessionInput!) { createSession(input: $input) { session { id } } }`;
const add = `mutation ($input: AddMessagesInput!) { addMessages(input: $input) { messages { messageId cursor } } }`;
const turn = `mutation ($input: SendMessageInput!) {
  sendMessage(input: $input) { userMessage { messageId cursor } reply { messageId cursor } }
}`;
const read = `query ($sessionId: String!, $after: String) {
  session(sessionId: $sessionId) { messages(first: 1, after: $after) { nodes { position } } }
}`;

interface Written {
  readonly messageId: string;
  readonly cursor: string;
}

interface Answer {
  readonly data?: {
    readonly addMessages?: { readonly messages: readonly Written[] };
    readonly sendMessage?: { readonly userMessage: Written | null; readonly reply: Written | null };
  } | null;
  readonly errors?: readonly { readonly message: string; readonly extensions?: { readonly code?: string } }[];
}

const pauseMs = 10;
const requestLimitMs = 8000;

/**
 * In each session a writer at every gateway and a subscriber at every gateway; in one session of its own somebody who
 * asks and waits for the replies. Writers write one message after the other, each again and again with the same
 * messageId until it is acknowledged.
 */
export class Load {
  readonly #options: LoadOptions;
  readonly #acknowledged: Acknowledged[] = [];
  readonly #acksOf = new Map<string, number[]>();
  readonly #subscribers: readonly Subscriber[];
  readonly #writers: readonly Promise<void>[];
  readonly #prober: Prober;
  readonly #wrong: string[] = [];
  #refused = 0;
  #stopped = false;

  /** Resolves when the sessions are there and everybody writes and follows. */
  static async start(options: LoadOptions): Promise<Load> {
    const [url = ""] = options.urls;
    for (const sessionId of allOf(options)) {
      await waitUntil("the session is there", async () => {
        const answer = await send(url, create, { input: { sessionId, idempotencyKey: "drill" } });
        return answer?.data !== null && answer?.errors === undefined;
      });
    }
    return new Load(options);
  }

  private constructor(options: LoadOptions) {
    this.#options = options;
    const { urls, sessionIds } = options;
    this.#prober = new Prober(options.probe);
    const all = allOf(options);
    for (const sessionId of all) this.#acksOf.set(sessionId, []);
    this.#subscribers = all.flatMap((sessionId) => urls.map((_, i) => new Subscriber(sessionId, urls, i)));
    this.#writers = [
      ...sessionIds.flatMap((sessionId) => urls.map((_, i) => this.#write(sessionId, i))),
      this.#ask(turnsOf(sessionIds)),
    ];
  }

  /** Resolves when so many more were acknowledged in each session of writers: also how long a drill goes on behind its fault. */
  async acknowledge(count: number): Promise<void> {
    const { sessionIds } = this.#options;
    const goal = new Map(sessionIds.map((id) => [id, this.#acks(id).length + count]));
    await waitUntil(`${count} more acknowledgements in each session`, () =>
      Promise.resolve(sessionIds.every((id) => this.#acks(id).length >= (goal.get(id) ?? 0))),
    );
  }

  get acknowledged(): number {
    return this.#acknowledged.length;
  }

  /** Ends the writers, lets the subscribers arrive, and counts. */
  async count(): Promise<Count> {
    this.#stopped = true;
    const ended = performance.now();
    await Promise.all(this.#writers);
    this.#prober.close();
    const stored = new Map<string, readonly string[]>();
    const raw = this.#options.raw();
    for (const sessionId of this.#acksOf.keys()) stored.set(sessionId, await storedIds(raw, sessionId));
    for (const one of this.#subscribers) {
      await waitUntil("every subscriber arrives", () =>
        Promise.resolve(one.next === (stored.get(one.sessionId) ?? []).length),
      ).catch(() =>
        this.#wrong.push(
          `A subscriber of ${one.sessionId} stands at ${one.next} of ${stored.get(one.sessionId)?.length}`,
        ),
      );
      one.close();
      this.#wrong.push(...one.unexpected);
    }
    const lost = this.#acknowledged.filter(({ sessionId, messageId }) => !stored.get(sessionId)?.includes(messageId));
    let silent = 0;
    for (const one of lost) if (!(await this.#wasTold(one))) silent++;
    for (const one of this.#subscribers) this.#holds(one, stored.get(one.sessionId) ?? []);
    const sum = (of: (one: Subscriber) => number) => this.#subscribers.reduce((total, one) => total + of(one), 0);
    return {
      acknowledged: this.#acknowledged.length,
      lost: lost.length,
      silent,
      duplicated: sum((one) => one.duplicated) + [...stored.values()].reduce((total, ids) => total + doubles(ids), 0),
      outOfOrder: sum((one) => one.outOfOrder) + [...stored.values()].reduce((total, ids) => total + disorder(ids), 0),
      resets: sum((one) => one.resets),
      refused: this.#refused,
      longestStallMs: this.#longestStall(ended),
      afterRedisMs: this.#afterRedis(ended),
      longestDelayMs: this.#longestDelay(),
      wrong: this.#wrong,
    };
  }

  async #write(sessionId: string, gateway: number): Promise<void> {
    const padding = "x".repeat(this.#options.padding ?? 0);
    for (let i = 0; !this.#stopped; i++) {
      const messageId = `w${gateway}-${i}`;
      const messages = [{ role: "USER", text: `${padding}${messageId}`, messageId }];
      const answer = await this.#until(gateway, add, { sessionId, messages });
      this.#note(sessionId, answer?.addMessages?.messages ?? []);
      await sleep(pauseMs);
    }
  }

  async #ask(sessionId: string): Promise<void> {
    for (let i = 0; !this.#stopped; i++) {
      const answer = await this.#until(i, turn, { sessionId, text: `Question ${i}`, messageId: `q-${i}` });
      const { userMessage, reply } = answer?.sendMessage ?? {};
      this.#note(
        sessionId,
        [userMessage, reply].flatMap((one) => one ?? []),
      );
      await sleep(pauseMs);
    }
  }

  /** Sends until it is answered, over to the next gateway each time that it is not. null: given up at the end. */
  async #until(gateway: number, query: string, input: object): Promise<NonNullable<Answer["data"]> | null> {
    const { urls } = this.#options;
    for (let attempt = 0; ; attempt++) {
      const answer = await send(urls[(gateway + attempt) % urls.length] ?? "", query, { input });
      const code = answer?.errors?.[0]?.extensions?.code;
      if (answer?.data && !answer.errors) return answer.data;
      if (code === "STORE_UNAVAILABLE") this.#refused++;
      // A turn whose begin was lost, or was never stored: its caller hears that there is no such run.
      else if (code === "NOT_FOUND" && query === turn) this.#refused++;
      else if (answer) {
        this.#wrong.push(JSON.stringify(answer.errors));
        return null;
      }
      if (this.#stopped) return null;
      await sleep(pauseMs * 2);
    }
  }

  #note(sessionId: string, written: readonly Written[]): void {
    const now = performance.now();
    for (const { messageId, cursor } of written) this.#acknowledged.push({ sessionId, messageId, cursor, at: now });
    if (written.length > 0) this.#acks(sessionId).push(now);
  }

  #acks(sessionId: string): number[] {
    return this.#acksOf.get(sessionId) ?? [];
  }

  /** Whoever had a lost message was made to drop it, and who comes back with its cursor is refused. */
  async #wasTold({ sessionId, messageId, cursor }: Acknowledged): Promise<boolean> {
    const holds = this.#subscribers.some(
      (one) => one.sessionId === sessionId && [...one.held.values()].some((held) => held.messageId === messageId),
    );
    if (holds) return false;
    for (const url of this.#options.urls) {
      const answer = await send(url, read, { sessionId, after: cursor });
      if (answer) return answer.errors?.[0]?.extensions?.code === "CURSOR_EXPIRED";
    }
    return false;
  }

  #holds({ sessionId, held }: Subscriber, stored: readonly string[]): void {
    const other = [...held].filter(([position, { messageId }]) => stored[position] !== messageId);
    if (other.length > 0) this.#wrong.push(`A subscriber of ${sessionId} holds ${other.length} that are not stored`);
  }

  #longestDelay(): number {
    const delays = this.#acknowledged.flatMap(({ sessionId, messageId, at }) =>
      this.#subscribers.map((one) => (one.sessionId === sessionId ? (one.cameAt.get(messageId) ?? at) - at : 0)),
    );
    return Math.round(Math.max(0, ...delays));
  }

  #longestStall(ended: number): number {
    const { sessionIds } = this.#options;
    const gaps = sessionIds.flatMap((id) => {
      const acks = this.#acks(id);
      return acks.slice(1).map((at, i) => Math.min(at, ended) - (acks[i] ?? at));
    });
    return Math.round(Math.max(0, ...gaps));
  }

  #afterRedis(ended: number): number {
    const { sessionIds, probe } = this.#options;
    const delays = this.#prober.back.flatMap(({ key, at }) => {
      if (at > ended) return [];
      // With one key for all, all waited for it.
      const waited = probe.keys.length > 1 ? [key] : sessionIds;
      return waited.map((id) => (this.#acks(id).find((ack) => ack > at) ?? ended) - at);
    });
    return Math.round(Math.max(0, ...delays));
  }
}

function allOf({ sessionIds }: LoadOptions): readonly string[] {
  return [...sessionIds, turnsOf(sessionIds)];
}

/** Ids by position. The gateway's own rows: all have data.id. */
async function storedIds(raw: Redis | Cluster, sessionId: string): Promise<readonly string[]> {
  const rows = (await raw.lrange(sessionId, 0, -1)).reverse();
  return rows.map((row) => (JSON.parse(row) as { data: { id: string } }).data.id); // see above
}

function turnsOf(sessionIds: readonly string[]): string {
  return `${sessionIds[0] ?? ""}-turns`;
}

/** null: nobody there, or no answer in time. */
async function send(url: string, query: string, variables: object): Promise<Answer | null> {
  try {
    const response = await fetch(url, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ query, variables }),
      signal: AbortSignal.timeout(requestLimitMs),
    });
    return (await response.json()) as Answer; // what the operations above select
  } catch {
    return null;
  }
}

function doubles(ids: readonly string[]): number {
  return ids.length - new Set(ids).size;
}

/** How often a writer's message lies behind a later one of the same writer. */
function disorder(ids: readonly string[]): number {
  const newest = new Map<string, number>();
  let wrong = 0;
  for (const id of ids) {
    const [, writer = "", number] = /^(w\d+|q)-(\d+)$/.exec(id) ?? [];
    if (number === undefined) continue;
    if (Number(number) < (newest.get(writer) ?? -1)) wrong++;
    newest.set(writer, Math.max(Number(number), newest.get(writer) ?? -1));
  }
  return wrong;
}
