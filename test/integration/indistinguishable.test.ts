import { Redis } from "ioredis";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { createClient } from "graphql-ws";
import { WebSocket } from "ws";

import { encodeCursor, noGeneration, parseCursor } from "../../src/conversation/message/cursor.ts";
import { startGateway } from "../support/gateway/gateway.ts";
import type { TestGateway } from "../support/gateway/gateway.ts";
import { expectAsFast, timeOf } from "../support/compared-times.ts";
import { waitUntil } from "../support/redis/redis-command.ts";
import { elsewhere, probes, subscriptions, waitingSubscriptions } from "../support/gateway/probes.ts";
import type { Known, Probe } from "../support/gateway/probes.ts";
import { startRedis } from "../support/redis/redis-server.ts";
import type { TestRedis } from "../support/redis/redis-server.ts";
import { secret, tokenFor } from "../support/gateway/tokens.ts";

// Another's session, node, cursor, run, event and idempotency claim next to ones that there are not (P11): the same bytes,
// but for ids that the caller gave, and the same work. The work is what Redis is told, command by command, those within
// scripts too; how long it takes is compared coarsely, each pair in turn, and held to nothing absolute.

const prefix = "chat:";
/** Of one length, so that nothing differs by the ids themselves. */
const theirs = "ann:private";
const nobodys = "ann:missing";

let server: TestRedis;
let redis: Redis;
let monitor: Redis;
let gateway: TestGateway;
let known: Known;
let missing: Known;
const seen: (readonly string[])[] = [];

interface Sent {
  readonly data: {
    readonly sendMessage: {
      readonly run: { readonly id: string };
      readonly userMessage: { readonly id: string; readonly cursor: string };
      readonly reply: { readonly id: string };
      readonly session: { readonly id: string };
    };
  };
}

beforeAll(async () => {
  server = await startRedis({ appendonly: false });
  redis = new Redis(server.url);
  gateway = await startGateway({
    redis: server.url,
    historyKeyPrefix: prefix,
    auth: { kind: "jwt", key: { secret }, issuer: null, audience: null, clockSkewSeconds: 5, cookie: null },
  });
  const query = `mutation { sendMessage(input: { sessionId: "${theirs}", text: "a secret", messageId: "known" }) {
    run { id } userMessage { id cursor } reply { id } session { id }
  } }`;
  const { data } = JSON.parse((await ask(await tokenFor("ann"), { query, accept: json }, {})).body) as Sent; // what it selects
  const { session, userMessage, reply, run } = data.sendMessage;
  known = {
    sessionId: theirs,
    id: session.id,
    messageIds: [userMessage.id, reply.id],
    runId: run.id,
    cursor: userMessage.cursor,
    messageId: "known",
    idempotencyKey: "key",
  };
  const claim = `mutation { createSession(input: { idempotencyKey: "key", title: "claimed" }) { session { id } } }`;
  await ask(await tokenFor("ann"), { query: claim, accept: json }, {});
  const begun = `mutation { createSession(input: { sessionId: "eve:own" }) { session { id } } }`;
  await ask(await tokenFor("eve"), { query: begun, accept: json }, {});
  const cursor = parseCursor(prefix + theirs, known.cursor);
  if (!cursor) throw new Error("The gateway gave out no cursor");
  missing = elsewhere(known, nobodys, encodeCursor(prefix + nobodys, cursor));
  monitor = await redis.monitor();
  monitor.on("monitor", (_time: string, args: readonly string[], source: string) => {
    seen.push([source === "lua" ? within : "", ...args.map(String)]);
  });
});

afterAll(async () => {
  monitor.disconnect();
  await gateway.close();
  redis.disconnect();
  await server.stop();
});

interface Answer {
  readonly status: number;
  readonly headers: readonly (readonly [string, string])[];
  readonly body: string;
}

async function ask(token: string, { query, accept }: { query: string; accept: string }, variables: object) {
  const response = await fetch(gateway.url, {
    method: "POST",
    headers: { "content-type": "application/json", accept, authorization: `Bearer ${token}` },
    body: JSON.stringify({ query, variables }),
  });
  const headers = [...response.headers].filter(([name]) => name !== "date" && name !== "x-request-id");
  return { status: response.status, headers, body: await response.text() } satisfies Answer;
}

const json = "application/json";

/** Over a WebSocket: the messages that come before the operation is over, or with `first` has an event. */
async function told(
  token: string,
  query: string,
  variables: Readonly<Record<string, unknown>>,
  first = false,
): Promise<string> {
  const received: string[] = [];
  const client = createClient({
    url: gateway.url.replace("http", "ws"),
    webSocketImpl: WebSocket,
    connectionParams: { authorization: `Bearer ${token}` },
    retryAttempts: 0,
    on: { message: (message) => received.push(JSON.stringify({ ...message, id: "" })) },
  });
  await new Promise<void>((resolve) => {
    const next = () => {
      if (first) resolve();
    };
    client.subscribe({ query, variables }, { next, error: () => resolve(), complete: resolve });
  });
  await client.dispose();
  return received.join("\n");
}

let fences = 0;

/** What Redis was told of these sessions on behalf of this: commands and keys, in order. */
async function workOf(token: string, act: () => Promise<unknown>): Promise<readonly string[]> {
  seen.splice(0);
  await act();
  // Goes over the gateway's own connection, behind all that the operation has sent without waiting for it.
  const fence = `eve:fence-${++fences}`;
  await ask(token, { query: `{ session(sessionId: "${fence}") { id } }`, accept: json }, {});
  await waitUntil("the fence", () => Promise.resolve(seen.some((args) => args.some((arg) => arg.includes(fence)))));
  return seen
    .filter((args) => args.some((arg) => arg.includes(theirs) || arg.includes(nobodys)))
    .map(([where = "", command = "", ...args]) => {
      const isScript = /^evalsha$|^eval$/i.test(command);
      const keys = isScript ? args.slice(2, 2 + Number(args[1])) : args.slice(0, 1);
      const what = isScript ? (args[0] ?? "") : "";
      return [where, command.toLowerCase(), what, ...keys].join(" ").replaceAll(nobodys, theirs);
    });
}

const within = "within a script";

/**
 * Each round trip is the same, and the steps of each script. Of what is not there a script may look once more whether it was
 * deleted (one HGET, about a microsecond of some hundred): the deletion's tombstone answers retries. What goes over the
 * connection of subscriptions keeps its order, and so does what goes over that of commands; which of two connections Redis
 * reads first is chance.
 */
function expectSameWork(taken: readonly string[], free: readonly string[]): void {
  const listens = (step: string) => /^ (un)?subscribe /.test(step);
  const roundTrips = (work: readonly string[]) => work.filter((step) => !step.startsWith(within));
  expect(roundTrips(taken).filter(listens)).toEqual(roundTrips(free).filter(listens));
  const commands = (work: readonly string[]) => work.filter((step) => !listens(step));
  expect(roundTrips(commands(taken))).toEqual(roundTrips(commands(free)));
  const tombstone = `${within} hget  parley:{chat:${theirs}}:ops:chat:${theirs}`;
  const butTombstone = (work: readonly string[]) => commands(work).filter((step) => step !== tombstone);
  expect(butTombstone(taken)).toEqual(butTombstone(free));
  expect(Math.abs(taken.length - free.length)).toBeLessThanOrEqual(1);
}

const eve = () => tokenFor("eve");
/** Whose token names these sessions too, so that the record alone says no. */
const mallory = () => tokenFor("mallory", { sessions: ["ann:*", "eve:*"] });
const own = (name: string, query: string, variables: Probe["variables"]): Probe => ({ name, query, variables });
const more: readonly Probe[] = [
  own(
    "a cursor of theirs in a session of one's own",
    `query Probe($after: String) { session(sessionId: "eve:own") { messages(after: $after) { nodes { id } } } }`,
    ({ cursor: after }) => ({ after }),
  ),
  own(
    "a claim of theirs, made by somebody else",
    `mutation Probe($key: String) { createSession(input: { idempotencyKey: $key }) { session { title } } }`,
    // Hers is "key"; nobody has claimed the other.
    ({ sessionId, idempotencyKey }) => ({ key: sessionId === theirs ? idempotencyKey : "kez" }),
  ),
  own("several nodes", `query Probe($ids: [ID!]!) { nodes(ids: $ids) { id } }`, ({ id, messageIds, runId }) => ({
    ids: [id, ...messageIds, runId],
  })),
];
/** Whoever may name a session that there is not starts it by these: that this one is taken cannot be hidden from them. */
const startsOne = new Set(["sendMessage", "addMessages", "createSession"]);
const cases = [
  ...[...probes, ...more].map((probe) => ["eve", eve, probe] as const),
  ...[...probes, ...more.slice(2)]
    .filter(({ name }) => !startsOne.has(name))
    .map((probe) => ["mallory", mallory, probe] as const),
];

describe("another's is answered as nobody's", () => {
  test.each(cases.map(([who, token, probe]) => [who, probe.name, token, probe] as const))(
    "to %s: %s",
    async (_who, _name, tokenOf, { query, variables }) => {
      const token = await tokenOf();
      const answers: Answer[] = [];
      const put = (of: Known) => async () => {
        answers.push(await ask(token, { query, accept: json }, variables(of)));
      };
      // Once before: what is done for a document, or a caller, that is seen for the first time is done by then.
      await workOf(token, put(missing));
      const [taken, free] = [await workOf(token, put(known)), await workOf(token, put(missing))];
      const [, first, second] = answers;
      expect(first).toEqual(second);
      expectSameWork(taken, free);
    },
  );

  test.each(subscriptions.map((probe) => [probe.name, probe] as const))(
    "to who would listen: %s",
    async (_name, { query, variables }) => {
      for (const token of [await eve(), await mallory()]) {
        const answers: unknown[] = [];
        const put = (of: Known) => async () => {
          answers.push(await ask(token, { query, accept: "text/event-stream" }, variables(of)));
          answers.push(await told(token, query, variables(of)));
        };
        await workOf(token, put(missing));
        const [taken, free] = [await workOf(token, put(known)), await workOf(token, put(missing))];
        expect(answers.slice(2, 4)).toEqual(answers.slice(4, 6));
        expect(JSON.stringify(answers)).toContain("NOT_FOUND");
        expectSameWork(taken, free);
      }
    },
  );
});

test("a viewer who may name both waits for both alike (the events of such a stream: attacks/waiting-streams)", async () => {
  const [, probe] = waitingSubscriptions;
  if (!probe) throw new Error("There is no such probe");
  const token = await mallory();
  const answers: string[] = [];
  const put = (of: Known) => async () => {
    const answer = await told(token, probe.query, probe.variables(of), true);
    await waitUntil("nobody listens", async () => {
      return !(await redis.pubsub("CHANNELS", "*:events:*")).some((channel) => String(channel).includes(of.sessionId));
    });
    // But for the ids that it gave, which a cursor holds as well.
    const start = encodeCursor(prefix + of.sessionId, { generation: noGeneration, position: -1, mark: "" });
    answers.push(answer.replaceAll(of.sessionId, "the id").replaceAll(start, "the start"));
  };
  await workOf(token, put(missing));
  const [taken, free] = [await workOf(token, put(known)), await workOf(token, put(missing))];
  expect(answers[0]).toContain("StreamWaiting");
  expect(answers.slice(1)).toEqual(answers.slice(0, 2));
  expectSameWork(taken, free);
});

test("answers for both take about the same time", { timeout: 600_000 }, async () => {
  const ofKinds = ["session", "nodes of its messages", "node of its run", "markRead", "cancelRun"];
  const token = await mallory();
  for (const { query, variables } of probes.filter((probe) => ofKinds.includes(probe.name))) {
    const asking = (of: Known) => () => timeOf(() => ask(token, { query, accept: json }, variables(of)));
    await expectAsFast(150, 1.5, asking(known), asking(missing));
  }
});
