import { Redis } from "ioredis";
import { createClient, type Client } from "graphql-ws";
import { afterAll, beforeAll, expect, test } from "vitest";
import { WebSocket } from "ws";

import { encodeCursor, noGeneration } from "../../src/conversation/message/cursor.ts";
import { startGateway, type TestGateway } from "../support/gateway/gateway.ts";
import { waitingSubscriptions } from "../support/gateway/probes.ts";
import { expectAsFast } from "../support/compared-times.ts";
import { waitUntil } from "../support/redis/redis-command.ts";
import { startRedis, type TestRedis } from "../support/redis/redis-server.ts";
import { foreignRow } from "../support/store/store.ts";
import { callerOf, type Caller } from "../support/gateway/tenant.ts";
import { secret, tokenFor, type TokenOptions } from "../support/gateway/tokens.ts";

// Whoever may name a session may wait for it. What such a stream must not be: a way to find out what another has (P11), or
// to take more of the gateway than other streams do (P10).

const prefix = "chat:";
/** Of one length, so that nothing differs by the ids themselves. */
const theirs = "ann:private";
const nobodys = "ann:missing";
const send = `mutation Send($sessionId: String!, $text: String!) {
  sendMessage(input: { sessionId: $sessionId, text: $text }) { reply { id } } }`;

let server: TestRedis;
let redis: Redis;
let at: TestGateway;

beforeAll(async () => {
  server = await startRedis({ appendonly: false });
  redis = new Redis(server.url);
  at = await startGateway({
    redis: server.url,
    historyKeyPrefix: prefix,
    auth: { kind: "jwt", key: { secret }, issuer: null, audience: null, clockSkewSeconds: 5, cookie: null },
    maxSubscriptionsPerSocket: 100,
    maxSocketsPerSubject: 12,
  });
});
afterAll(async () => {
  await at.close();
  redis.disconnect();
  await server.stop();
});

const as = async (subject: string, options: TokenOptions = {}): Promise<Caller> =>
  callerOf(at.url, await tokenFor(subject, options));

/** A socket, and what each operation on it was told. */
class Socket {
  readonly client: Client;

  constructor(token: string) {
    this.client = createClient({
      url: at.url.replace("http", "ws"),
      webSocketImpl: WebSocket,
      lazy: false,
      retryAttempts: 0,
      connectionParams: { authorization: `Bearer ${token}` },
    });
  }

  listen(query: string, variables: Readonly<Record<string, unknown>>): string[] {
    const told: string[] = [];
    this.client.subscribe(
      { query, variables },
      {
        next: (result) => told.push(JSON.stringify(result)),
        error: (error) => told.push(JSON.stringify(error)),
        complete: () => told.push("complete"),
      },
    );
    return told;
  }
}

async function socketOf(subject: string, options: TokenOptions = {}): Promise<Socket> {
  return new Socket(await tokenFor(subject, options));
}

const events = `subscription Probe($id: String!) { sessionEvents(sessionId: $id) { __typename
  ... on StreamWaiting { cursor sessionId } ... on MessageAdded { message { text } } } }`;
const until = (what: string, holds: () => boolean) => waitUntil(what, () => Promise.resolve(holds()));

/** Comes over the same socket, behind all that was told before what happens here. */
async function fence(socket: Socket, owner: Caller, sessionId: string): Promise<void> {
  const told = socket.listen(events, { id: sessionId });
  await until("it waits", () => told.length === 1);
  await owner.execute(send, { sessionId, text: "fence" });
  await until("the fence", () => told.some((text) => text.includes("fence")));
}

test("another's session looks like none, also while it is written and when it goes", async () => {
  const ann = await as("ann");
  const mallory = await as("mallory", { sessions: ["ann:*", "mal:*"] });
  await ann.execute(send, { sessionId: theirs, text: "a secret" });
  const socket = await socketOf("mallory", { sessions: ["ann:*", "mal:*"] });
  const streams = [theirs, nobodys].map((id) =>
    waitingSubscriptions.map(({ query, variables }) => {
      const none = { id: "", messageIds: [], runId: "", cursor: "", messageId: "", idempotencyKey: "" };
      return socket.listen(query, variables({ ...none, sessionId: id }));
    }),
  );
  await until("both wait", () => streams.every((one) => one[1]?.length === 1));
  await ann.execute(send, { sessionId: theirs, text: "another secret" });
  await redis.lpush(prefix + theirs, foreignRow("a secret from LangChain"));
  await ann.execute(
    `mutation Set($id: String!) { updateSession(input: { sessionId: $id, title: "a secret" }) { session { messageCount } } }`,
    { id: theirs },
  );
  await fence(socket, mallory, "mal:1");
  await ann.execute(`mutation Go($id: String!) { deleteSession(input: { sessionId: $id }) { deletedId } }`, {
    id: theirs,
  });
  await fence(socket, mallory, "mal:2");
  const start = (id: string) => encodeCursor(prefix + id, { generation: noGeneration, position: -1, mark: "" });
  const waits = (id: string) => [
    [],
    [
      JSON.stringify({
        data: { sessionEvents: { __typename: "StreamWaiting", cursor: start(id), sessionId: id } },
      }),
    ],
  ];
  expect(streams).toEqual([waits(theirs), waits(nobodys)]);

  // Free now: who waited may start it, and is told of nothing but that.
  await mallory.execute(send, { sessionId: theirs, text: "mine" });
  await until("it begins", () => streams[0]?.[1]?.some((text) => text.includes("mine")) === true);
  expect(streams.flat(2).join("\n")).not.toContain("secret");
  await socket.client.dispose();
});

test("and is answered as fast", { timeout: 300_000 }, async () => {
  const ann = await as("ann");
  await ann.execute(send, { sessionId: "ann:timed-1", text: "a secret" });
  const socket = await socketOf("mallory", { sessions: ["ann:*"] });
  /** Until its first event. */
  const opening = (id: string) => async () => {
    const startedAt = performance.now();
    let took = Number.NaN;
    await new Promise<void>((resolve, reject) => {
      const stop = socket.client.subscribe(
        { query: events, variables: { id } },
        {
          next: () => {
            took = performance.now() - startedAt;
            stop();
          },
          error: reject,
          complete: () => (Number.isNaN(took) ? reject(new Error("It ended without an event")) : resolve()),
        },
      );
    });
    return took;
  };
  await expectAsFast(100, 1.5, opening("ann:timed-1"), opening("ann:timed-2"));
  await socket.client.dispose();
});

test("a list without a record stays invisible, and the wait goes on until it is somebody's", async () => {
  const kim = await as("kim");
  const mia = await as("mia", { sessions: ["old-*", "mia:*"] });
  const [kims, mias] = [await socketOf("kim"), await socketOf("mia", { sessions: ["old-*", "mia:*"] })];
  const [waits, granted] = [kims.listen(events, { id: "kim:foreign" }), mias.listen(events, { id: "old-1" })] as const;
  await until("both wait", () => waits.length === 1 && granted.length === 1);
  for (const id of ["kim:foreign", "old-1"]) await redis.lpush(prefix + id, foreignRow("written by LangChain"));
  // One that comes later finds no more than who was there; a key that is no history is none for anybody.
  const later = kims.listen(events, { id: "kim:foreign" });
  await redis.lpush(`${prefix}kim:jobs`, JSON.stringify({ job: 1 }));
  const jobs = kims.listen(events, { id: "kim:jobs" });
  await until("the later ones", () => later.length === 1 && jobs.at(-1) === "complete");
  expect(jobs[0]).toContain("NOT_FOUND");
  await fence(kims, kim, "kim:fence");
  await fence(mias, mia, "mia:fence");
  for (const told of [waits, later, granted]) {
    expect(told).toHaveLength(1);
    expect(told[0]).toContain("StreamWaiting");
  }
  await at.gateway.adopt({ owner: "kim", match: "chat:kim:foreign" });
  // Credentials that name it bring it along, with the first thing that is done to it.
  await mia.execute(`{ session(sessionId: "old-1") { id } }`);
  for (const told of [waits, later, granted]) {
    await until("its message", () => told.length === 3);
    expect(told.slice(1).join()).toMatch(/StreamOpened.*MessageAdded.*written by LangChain/);
  }
  for (const { client } of [kims, mias]) await client.dispose();
});

test("they count in every limit of streams", async () => {
  const socket = await socketOf("ned");
  const told = Array.from({ length: 101 }, (_, i) => socket.listen(events, { id: `ned:${i}` }));
  await until("all are answered", () => told.every((one) => one.length > 0));
  expect(told.slice(0, 100).every(([first]) => first?.includes("StreamWaiting"))).toBe(true);
  expect(told[100]?.join()).toMatch(/LIMIT_REACHED/);

  const token = await tokenFor("ned");
  const streams = await Promise.all(
    Array.from({ length: 12 }, (_, i) =>
      fetch(at.url, {
        method: "POST",
        headers: { "content-type": "application/json", accept: "text/event-stream", authorization: `Bearer ${token}` },
        body: JSON.stringify({ query: events, variables: { id: `ned:sse-${i}` } }),
      }),
    ),
  );
  // Eleven beside the socket.
  const codes = streams.map(({ status }) => status).sort();
  expect(codes).toEqual([...Array.from({ length: 11 }, () => 200), 429]);
  for (const { body } of streams) await body?.cancel();
  await socket.client.dispose();
});

test("a thousand of them write nothing, and leave nothing behind", async () => {
  const sockets = await Promise.all(Array.from({ length: 10 }, () => socketOf("max")));
  const told = sockets.flatMap((socket, i) =>
    Array.from({ length: 100 }, (_, n) => socket.listen(events, { id: `max:${(i * 100 + n) % 500}` })),
  );
  await until("all wait", () => told.every((one) => one.length === 1));
  expect(await redis.keys("*max*")).toEqual([]);
  const max = await as("max");
  for (const n of [0, 250, 499]) await max.execute(send, { sessionId: `max:${n}`, text: `hello ${n}` });
  await until("who waited for these has the messages", () =>
    [0, 250, 499].every((n) => [n, n + 500].every((i) => told[i]?.some((text) => text.includes(`hello ${n}`)))),
  );
  expect(told.filter((one) => one.length > 1)).toHaveLength(6);
  for (const { client } of sockets) await client.dispose();
  await waitUntil("nobody listens", async () => (await redis.pubsub("CHANNELS", "*max:*")).length === 0);
});
