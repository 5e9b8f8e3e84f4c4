import { randomUUID } from "node:crypto";
import fc from "fast-check";
import { createClient } from "graphql-ws";
import type { Client } from "graphql-ws";
import { Redis } from "ioredis";
import { afterAll, beforeAll, expect, test } from "vitest";
import { WebSocket } from "ws";

import { startGateway } from "../support/gateway/gateway.ts";
import type { TestGateway } from "../support/gateway/gateway.ts";
import { checkProperty } from "../support/store/property.ts";
import { propertyRuns } from "../support/store/property-runs.ts";
import { waitUntil } from "../support/redis/redis-command.ts";
import { startRedis } from "../support/redis/redis-server.ts";
import type { TestRedis } from "../support/redis/redis-server.ts";
import { foreignRow, must } from "../support/store/store.ts";
import { callerOf } from "../support/gateway/tenant.ts";
import type { Caller } from "../support/gateway/tenant.ts";
import { secret, tokenFor } from "../support/gateway/tokens.ts";

// Many subscribers of two sessions at once, over real sockets, of whom most share executions and places in a feed. What
// each gets is held against what a query of its own, which shares nothing, gives for the same messages.

let server: TestRedis;
let redis: Redis;
let at: TestGateway;
let people: readonly Person[];

interface Person {
  readonly subject: string;
  readonly token: string;
  readonly caller: Caller;
}

beforeAll(async () => {
  server = await startRedis({ appendonly: false });
  redis = new Redis(server.url);
  at = await startGateway({
    redis: server.url,
    historyKeyPrefix: "chat:",
    auth: { kind: "jwt", key: { secret }, issuer: null, audience: null, clockSkewSeconds: 5, cookie: null },
    // What each gives is held against pages of everything that was written.
    maxAnswerBytes: 1_000_000_000,
    maxSocketsPerSubject: 1000,
    maxSocketsPerAddress: 1000,
  });
  const of = async (subject: string, scope: string): Promise<Person> => {
    const token = await tokenFor(subject, { scope });
    return { subject, token, caller: callerOf(at.url, token) };
  };
  // The same one twice, who may do less the second time: results are alike, and are not shared (P11).
  people = await Promise.all([
    of("ann", "chat:read chat:write"),
    of("bob", "chat:read chat:write"),
    of("ann", "chat:read"),
  ]);
});
afterAll(async () => {
  await at.close();
  redis.disconnect();
  await server.stop();
});

/** What an operation asks of each message; `all`: a variable that changes results. */
const selections = [
  "text position",
  "position text id cursor",
  "text position role @include(if: $all) createdAt @skip(if: $all)",
] as const;

type Form = "messageAdded" | "sessionEvents";

interface Plan {
  readonly selection: number;
  readonly form: Form;
  readonly all: boolean;
  readonly person: number;
  /** Whose socket it is on, of those of the same person. */
  readonly socket: number;
  /** Which of the messages that were there it begins behind; -1: at the beginning; null: from now on. */
  readonly after: number | null;
  /** Before which step it subscribes. */
  readonly from: number;
  /** Completes when it has got so many; null: stays. */
  readonly completesAt: number | null;
}

type Step =
  | { readonly kind: "append"; readonly count: number }
  | { readonly kind: "foreign"; readonly count: number }
  | { readonly kind: "title" }
  /** More than sockets hold, while some do not read. */
  | { readonly kind: "burst"; readonly slow: number };

const plan: fc.Arbitrary<Plan> = fc.record({
  selection: fc.nat({ max: selections.length - 1 }),
  form: fc.constantFrom<Form>("messageAdded", "sessionEvents"),
  all: fc.boolean(),
  person: fc.constantFrom(0, 0, 1, 2),
  socket: fc.nat({ max: 2 }),
  after: fc.oneof(fc.constant(null), fc.integer({ min: -1, max: 3 })),
  from: fc.constantFrom(0, 0, 0, 1, 2, 3),
  completesAt: fc.option(fc.integer({ min: 1, max: 12 }), { freq: 4 }),
});
const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 5, arbitrary: fc.record({ kind: fc.constant("append" as const), count: fc.integer({ min: 1, max: 4 }) }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant("foreign" as const), count: fc.integer({ min: 1, max: 3 }) }) },
  { weight: 1, arbitrary: fc.constant({ kind: "title" as const }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant("burst" as const), slow: fc.nat({ max: 2 }) }) },
);

type Fields = Readonly<Record<string, unknown>> & { readonly position: number; readonly text: string };

interface Pushed {
  readonly messageAdded?: Fields;
  readonly sessionEvents?: { readonly __typename: string; readonly message?: Fields };
}

/** One operation of a client's, and all that came of it. */
interface Subscriber {
  readonly plan: Plan;
  readonly got: Fields[];
  begun: boolean;
  completed: boolean;
  ended: string | null;
}

/** A client as a frontend has it. All its operations are on one socket. */
class Sockets {
  readonly client: Client;
  socket: WebSocket | null = null;
  /** Ids that the server named and no operation of this client had. */
  readonly strange: string[] = [];
  readonly #ids = new Set<string>();

  constructor({ token }: Person, n: number) {
    this.client = createClient({
      url: at.url.replace("http", "ws"),
      webSocketImpl: WebSocket,
      lazy: false,
      retryAttempts: 0,
      connectionParams: { authorization: token },
      // No two alike, many of one length, some not ASCII: written over one another wrongly, they would be another's.
      generateID: () => {
        const id = `${n % 4 === 3 ? "é" : ""}${n}${this.#ids.size}`;
        this.#ids.add(id);
        return id;
      },
      on: {
        opened: (socket) => (this.socket = socket as WebSocket), // of the class above
        message: (message) => {
          if ("id" in message && !this.#ids.has(message.id)) this.strange.push(message.id);
        },
      },
    });
  }
}

function documentOf({ selection, form }: Plan): string {
  const fields = must(selections[selection]);
  const variables = `$sessionId: String!, $after: String${fields.includes("$all") ? ", $all: Boolean!" : ""}`;
  const field = `${form}(sessionId: $sessionId, after: $after)`;
  return form === "messageAdded"
    ? `subscription (${variables}) { ${field} { ${fields} } }`
    : `subscription (${variables}) { ${field} { __typename ... on MessageAdded { message { ${fields} } } } }`;
}

/** The same of messages that were read in a query of their own. */
async function unshared({ selection, all, person }: Plan, sessionId: string): Promise<readonly Fields[]> {
  const fields = must(selections[selection]);
  const declares = fields.includes("$all") ? ", $all: Boolean!" : "";
  const query = `query ($sessionId: String!, $after: String${declares}) { session(sessionId: $sessionId) {
    messages(first: 100, after: $after) { nodes { ${fields} } pageInfo { hasNextPage endCursor } } } }`;
  const nodes: Fields[] = [];
  let page: Page["pageInfo"] = { hasNextPage: true, endCursor: null };
  while (page.hasNextPage) {
    const variables = { sessionId, after: page.endCursor, all };
    const { session } = await must(people[person]).caller.execute<{ session: { messages: Page } }>(query, variables);
    nodes.push(...session.messages.nodes);
    page = session.messages.pageInfo;
  }
  return nodes;
}

interface Page {
  readonly nodes: readonly Fields[];
  readonly pageInfo: { readonly hasNextPage: boolean; readonly endCursor: string | null };
}

/** Two sessions, each with an owner and a word that is in all its texts. */
class World {
  readonly ids = ["ann", "bob"].map((subject) => `${subject}:${randomUUID()}`);
  readonly cursors: string[][] = [[], []];
  readonly #counts = [0, 0];
  readonly #sockets = new Map<string, Sockets>();
  readonly subscribers: Subscriber[] = [];

  static sessionOf(person: number): number {
    return person === 1 ? 1 : 0;
  }

  get sockets(): readonly Sockets[] {
    return [...this.#sockets.values()];
  }

  async append(session: number, count: number): Promise<void> {
    const messages = Array.from({ length: count }, () => ({ role: "USER", text: this.#text(session) }));
    const { addMessages } = await must(people[session]).caller.execute<{
      addMessages: { messages: { cursor: string }[] };
    }>(`mutation ($input: AddMessagesInput!) { addMessages(input: $input) { messages { cursor } } }`, {
      input: { sessionId: this.ids[session], messages },
    });
    must(this.cursors[session]).push(...addMessages.messages.map(({ cursor }) => cursor));
  }

  async push(session: number, count: number, chars: number): Promise<void> {
    const rows = Array.from({ length: count }, () => foreignRow(this.#text(session) + "x".repeat(chars)));
    const pipeline = redis.pipeline();
    for (const row of rows) pipeline.lpush(`chat:${this.ids[session]}`, row);
    await pipeline.exec();
  }

  async title(session: number): Promise<void> {
    await must(people[session]).caller.execute(
      `mutation ($input: UpdateSessionInput!) { updateSession(input: $input) { session { id } } }`,
      { input: { sessionId: this.ids[session], title: randomUUID() } },
    );
  }

  subscribe(plan: Plan): void {
    const session = World.sessionOf(plan.person);
    const name = `${plan.person} ${plan.socket}`;
    const sockets = this.#sockets.get(name) ?? new Sockets(must(people[plan.person]), this.#sockets.size);
    this.#sockets.set(name, sockets);
    const subscriber: Subscriber = { plan, got: [], begun: false, completed: false, ended: null };
    this.subscribers.push(subscriber);
    const { after } = plan;
    const variables = {
      sessionId: this.ids[session],
      after: after === null ? null : after < 0 ? "" : must(this.cursors[session])[after],
      all: plan.all,
    };
    const complete = sockets.client.subscribe<Pushed>(
      { query: documentOf(plan), variables },
      {
        next: ({ data, errors }) => {
          subscriber.begun = true;
          if (errors !== undefined) subscriber.ended = JSON.stringify(errors);
          const message = data?.messageAdded ?? data?.sessionEvents?.message;
          if (message === undefined || subscriber.completed) return;
          subscriber.got.push(message);
          if (subscriber.got.length !== plan.completesAt) return;
          subscriber.completed = true;
          complete();
        },
        error: (error) => (subscriber.ended = String(error instanceof Error ? error : JSON.stringify(error))),
        complete: () => (subscriber.ended ??= subscriber.completed ? null : "complete"),
      },
    );
  }

  #text(session: number): string {
    const count = must(this.#counts[session]);
    this.#counts[session] = count + 1;
    return `${must(this.ids[session])} #${count} `;
  }
}

/** Where a stream must begin; null: only it knows (messageAdded from now on). */
function beginningOf({ plan }: Subscriber, messages: readonly Fields[]): number | null {
  if (plan.after === null) return null;
  return plan.after < 0 ? 0 : must(messages[plan.after]).position + 1;
}

async function holds(world: World, subscriber: Subscriber): Promise<void> {
  const { plan, got, completed } = subscriber;
  const all = await unshared(plan, must(world.ids[World.sessionOf(plan.person)]));
  const begins = beginningOf(subscriber, all) ?? got[0]?.position ?? all.length;
  const expected = all.slice(begins, completed ? begins + (plan.completesAt ?? 0) : undefined);
  expect(got).toEqual(expected);
}

async function run(plans: readonly Plan[], steps: readonly Step[]): Promise<void> {
  const world = new World();
  for (const session of [0, 1]) await world.append(session, 4);
  try {
    for (const [i, step] of steps.entries()) {
      for (const plan of plans) if (plan.from === i) world.subscribe(plan);
      // Whoever can tell that it has begun has, most times; the others come at any moment.
      if (i % 2 === 0) await allHaveBegun(world);
      for (const session of [0, 1]) {
        if (step.kind === "append") await world.append(session, step.count);
        else if (step.kind === "foreign") await world.push(session, step.count, 0);
        else if (step.kind === "title") await world.title(session);
        else {
          const { slow: third } = step;
          const slow = world.sockets.filter((_, n) => n % 3 === third);
          for (const { socket } of slow) if (socket?.readyState === WebSocket.OPEN) socket.pause();
          // Each push fits into the ring, so that who is in step fills up in step; together they fill any socket's buffers.
          for (let i = 0; i < 3 && session === 0; i++) {
            await world.push(session, 10, 300_000);
            await world.append(session, 1);
          }
          for (const { socket } of slow) socket?.resume();
        }
      }
    }
    // By the last message, which comes behind all others, each is known to have all: unless it began behind that.
    await allHaveBegun(world);
    for (const session of [0, 1]) await world.append(session, 1);
    const lasts = [await lastPosition(world, 0), await lastPosition(world, 1)];
    await waitUntil("all have the last message", () =>
      Promise.resolve(
        world.subscribers.every(
          ({ plan, got, completed, begun, ended }) =>
            completed ||
            ended !== null ||
            (!begun && plan.after === null) ||
            got.at(-1)?.position === lasts[World.sessionOf(plan.person)],
        ),
      ),
    );
    for (const subscriber of world.subscribers) {
      expect(subscriber.ended).toBeNull();
      await holds(world, subscriber);
    }
    expect(world.sockets.flatMap(({ strange }) => strange)).toEqual([]);
  } finally {
    await Promise.all(world.sockets.map(async ({ client }) => client.dispose()));
  }
}

/** All that can tell. */
async function allHaveBegun({ subscribers }: World): Promise<void> {
  const told = subscribers.filter(({ plan }) => plan.form === "sessionEvents" || plan.after !== null);
  await waitUntil("streams have begun", () => Promise.resolve(told.every(hasBegun)));
}

/** One that begins behind the tip is told nothing before there is something. */
function hasBegun({ plan, begun, ended }: Subscriber): boolean {
  return begun || ended !== null || (plan.form === "messageAdded" && plan.after === 3);
}

async function lastPosition(world: World, session: number): Promise<number> {
  const query = `query ($id: String!) { session(sessionId: $id) { messages(last: 1) { nodes { position } } } }`;
  const { messages } = (
    await must(people[session]).caller.execute<{ session: { messages: { nodes: { position: number }[] } } }>(query, {
      id: world.ids[session],
    })
  ).session;
  return must(messages.nodes[0]).position;
}

/** Six in step on three sockets, of which one does not read for a while: always tried, and first. */
const slowInStep = Array.from({ length: 6 }, (_, i): Plan => ({
  ...{ selection: 0, form: "sessionEvents", all: true, person: 0, after: null, from: 0, completesAt: null },
  socket: i % 3,
}));
const burstAmongAppends: readonly Step[] = [
  { kind: "append", count: 1 },
  { kind: "burst", slow: 0 },
  { kind: "append", count: 2 },
];

test(
  "each subscriber gets what an execution of its own would give: every message once, in order (P3, P11)",
  async () => {
    await checkProperty(
      fc.asyncProperty(
        fc.array(plan, { minLength: 3, maxLength: 12 }) as fc.Arbitrary<readonly Plan[]>, // so that examples may be constant
        fc.array(step, { minLength: 1, maxLength: 7 }) as fc.Arbitrary<readonly Step[]>,
        run,
      ),
      { runs: 11, endOnFailure: true, cases: [[slowInStep, burstAmongAppends]] },
    );
    await waitUntil("nothing is left of them", async () => {
      const channels = (await redis.pubsub("CHANNELS", "*chat:*")) as readonly string[]; // names
      return channels.length === 0;
    });
  },
  180_000 * propertyRuns,
);
