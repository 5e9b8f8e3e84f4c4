import { once } from "node:events";
import type { IncomingMessage } from "node:http";
import { connect } from "node:net";
import type { Socket } from "node:net";

import { ApolloClient, gql, InMemoryCache } from "@apollo/client";
import { describe, expect, test } from "vitest";
import { WebSocket } from "ws";

import { unauthenticated } from "../../src/conversation/conversations/access.ts";
import { anonymous } from "../../src/conversation/session.ts";
import { silentTelemetry } from "../../src/conversation/ports/telemetry.ts";
import type { Telemetry } from "../../src/conversation/ports/telemetry.ts";
import { linkOverHttp } from "../clients/apollo.ts";
import { waitUntil } from "../support/redis/redis-command.ts";
import { openAcknowledged, openRaw, post, startTransport } from "../support/gateway/transport-server.ts";
import type { RawSocket } from "../support/gateway/transport-server.ts";

const ticks = "subscription { ticks { text } }";
const subscribe = (id: string, query = ticks) => ({ id, type: "subscribe", payload: { query } });

/** What operators see of it. */
function watched(): { readonly telemetry: Telemetry; readonly limits: string[]; readonly codes: string[] } {
  const limits: string[] = [];
  const codes: string[] = [];
  const telemetry = {
    ...silentTelemetry,
    limited: (limit: string) => void limits.push(limit),
    refused: (code: string) => void codes.push(code),
  };
  return { telemetry, limits, codes };
}

interface Answer {
  readonly data?: unknown;
  readonly errors?: readonly { readonly extensions: Readonly<Record<string, unknown>> }[];
}
const answerOf = async (response: Response) => (await response.json()) as Answer; // GraphQL's own form

const stream = (endpoint: string, headers: Record<string, string> = {}) =>
  post(endpoint, ticks, { accept: "text/event-stream", ...headers });

/** The status of a WebSocket's handshake, or 101; the socket is closed again only where `keep` is left out. */
async function handshake(endpoint: string, headers: Record<string, string> = {}): Promise<[number, WebSocket]> {
  const socket = new WebSocket(endpoint.replace("http", "ws"), ["graphql-transport-ws"], { headers });
  socket.on("error", () => undefined);
  const status = await new Promise<number>((resolve) => {
    socket.once("open", () => resolve(101));
    socket.once("unexpected-response", (_request, response) => resolve(response.statusCode ?? 0));
  });
  return [status, socket];
}

async function closeOf(raw: RawSocket): Promise<void> {
  raw.socket.close();
  await raw.closed;
}

describe("on one socket", () => {
  test("so many operations in progress; completing one makes room", async () => {
    const { telemetry, limits } = watched();
    await using server = await startTransport({ telemetry, maxSubscriptionsPerSocket: 2 });
    const raw = await openAcknowledged(server.endpoint);
    raw.send(subscribe("1", "{ waiting }"));
    for (const id of ["2", "3"]) raw.send(subscribe(id));
    expect(await raw.receive()).toMatchObject({
      id: "3",
      type: "error",
      payload: [{ extensions: { code: "LIMIT_REACHED", limit: "subscriptionsPerSocket" } }],
    });
    expect(limits).toEqual(["subscriptionsPerSocket"]);
    raw.send({ id: "1", type: "complete" });
    raw.send(subscribe("4", "{ hello }"));
    expect(await raw.receive()).toMatchObject({ id: "4", type: "next", payload: { data: { hello: "Hello world" } } });
    await closeOf(raw);
  });

  test.each([
    ["messages", (socket: WebSocket) => socket.send(JSON.stringify({ type: "ping" })), "message"],
    ["ping frames", (socket: WebSocket) => socket.ping(), "pong"],
  ])("a flood of %s is read at the pace of the limit; others are served", async (_what, shoot, answer) => {
    const { telemetry, limits } = watched();
    await using server = await startTransport({ telemetry, maxMessagesPerSecond: 1000 });
    const raw = await openAcknowledged(server.endpoint);
    let answered = 0;
    raw.socket.on(answer, () => (answered += 1));
    const count = 20_000;
    const startedAt = performance.now();
    for (let i = 0; i < count; i++) shoot(raw.socket);
    await waitUntil("it is held", () => Promise.resolve(limits.includes("messagesPerSocket")));
    expect(await answerOf(await post(server.endpoint, "{ hello }"))).toEqual({ data: { hello: "Hello world" } });
    // At once come four seconds' worth, and what one reading of the network brought along: 64 KiB.
    const seconds = (performance.now() - startedAt) / 1000;
    expect(answered).toBeLessThan(count);
    expect(answered).toBeLessThanOrEqual(4000 + 65_536 / 6 + 1000 * seconds);
    raw.socket.terminate();
  });

  test("61 pings in one packet are paced, and their sender is not taken for dead meanwhile", async () => {
    // Held for two seconds, in which four pings of the server's own are due.
    await using server = await startTransport({ keepAliveMs: 500, maxMessagesPerSecond: 10 });
    const raw = await openAcknowledged(server.endpoint);
    let pongs = 0;
    raw.socket.on("pong", () => (pongs += 1));
    for (let i = 0; i < 61; i++) raw.socket.ping();
    await waitUntil("all have come", () => Promise.resolve(pongs === 61));
    // It waits in the network until then.
    raw.send(subscribe("1", "{ hello }"));
    expect(await Promise.race([raw.receive(), raw.closed])).toMatchObject({ id: "1", type: "next" });
    await closeOf(raw);
  });

  test("messages that are slowed down are not lost", async () => {
    await using server = await startTransport({ maxMessagesPerSecond: 200 });
    const raw = await openAcknowledged(server.endpoint);
    for (let i = 0; i < 900; i++) raw.send({ type: "ping" });
    raw.send(subscribe("1", "{ hello }"));
    for (let i = 0; i < 900; i++) expect((await raw.receive())["type"]).toBe("pong");
    expect(await raw.receive()).toMatchObject({ id: "1", type: "next" });
    await closeOf(raw);
  });
});

describe("sockets and streams", () => {
  test("so many from one address, of both kinds together", async () => {
    const { telemetry, limits, codes } = watched();
    await using server = await startTransport({ telemetry, maxSocketsPerAddress: 2 });
    const raw = await openRaw(server.endpoint);
    const streaming = await stream(server.endpoint);
    expect(streaming.status).toBe(200);
    const refused = await stream(server.endpoint);
    expect(refused.status).toBe(429);
    expect((await answerOf(refused)).errors?.[0]?.extensions).toMatchObject({ code: "LIMIT_REACHED" });
    expect((await handshake(server.endpoint))[0]).toBe(429);
    expect(limits).toEqual(["socketsPerAddress", "socketsPerAddress"]);
    expect(codes).toEqual(["LIMIT_REACHED", "LIMIT_REACHED"]);
    // A query is none.
    expect((await post(server.endpoint, "{ hello }")).status).toBe(200);
    await streaming.body?.cancel();
    await closeOf(raw);
    await waitUntil("places are free", async () => {
      const [status, socket] = await handshake(server.endpoint);
      socket.terminate();
      return status === 101;
    });
  });

  test("by the address that a trusted proxy tells", async () => {
    await using server = await startTransport({ maxSocketsPerAddress: 1, trustProxy: 1 });
    const from = (address: string) => handshake(server.endpoint, { "x-forwarded-for": address });
    const [first, second, invented] = [
      await from("192.0.2.1"),
      await from("192.0.2.2"),
      await from("9.9.9.9, 192.0.2.1"),
    ];
    expect([first[0], second[0], invented[0]]).toEqual([101, 101, 429]);
    for (const [, socket] of [first, second]) socket.terminate();
  });

  test("a subject may open only so many; `anonymous` is not limited", async () => {
    const { telemetry, limits } = watched();
    await using server = await startTransport({
      telemetry,
      maxSocketsPerSubject: 2,
      authenticate: ({ headers }) => {
        const subject = headers.get("x-subject");
        return { viewer: subject === null ? anonymous : { ...anonymous, subject }, expiresAt: null };
      },
    });
    const open = async (subject: string) => {
      const raw = await openRaw(server.endpoint, ["graphql-transport-ws"], { "x-subject": subject });
      raw.send({ type: "connection_init" });
      return raw;
    };
    const [one, two] = [await open("jim"), await open("jim")];
    for (const raw of [one, two]) expect((await raw.receive())["type"]).toBe("connection_ack");
    expect(await (await open("jim")).closed).toEqual({ code: 1013, reason: "Too many sockets" });
    expect((await stream(server.endpoint, { "x-subject": "jim" })).status).toBe(429);
    const other = await stream(server.endpoint, { "x-subject": "kim" });
    expect(other.status).toBe(200);
    expect(limits).toEqual(["socketsPerSubject", "socketsPerSubject"]);
    await closeOf(one);
    await waitUntil("a place is free", async () => {
      const answer = await stream(server.endpoint, { "x-subject": "jim" });
      await answer.body?.cancel();
      return answer.status === 200;
    });
    const everyone = await Promise.all([1, 2, 3].map(() => openAcknowledged(server.endpoint)));
    for (const raw of [...everyone, two]) await closeOf(raw);
    await other.body?.cancel();
  });
});

describe("requests", () => {
  test("so many from one address in a minute, with the time to wait", async () => {
    const { telemetry, limits } = watched();
    await using server = await startTransport({ telemetry, maxRequestsPerMinute: 2, trustProxy: 1 });
    const from = (address: string) => post(server.endpoint, "mutation { increment }", { "x-forwarded-for": address });
    expect([(await from("192.0.2.1")).status, (await from("192.0.2.1")).status]).toEqual([200, 200]);
    const refused = await from("192.0.2.1");
    expect(refused.status).toBe(429);
    expect(Number(refused.headers.get("retry-after"))).toBeGreaterThan(0);
    expect((await answerOf(refused)).errors?.[0]?.extensions).toEqual({
      code: "RATE_LIMITED",
      limit: "requestsPerAddress",
      retryAfterSeconds: Number(refused.headers.get("retry-after")),
    });
    expect(limits).toEqual(["requestsPerAddress"]);
    // What was refused was not done.
    expect(await answerOf(await from("192.0.2.2"))).toEqual({ data: { increment: 3 } });
    expect((await fetch(`${server.url}/healthz`)).status).toBe(200);
  });

  test("an upgrade is one of them", async () => {
    const { telemetry, limits, codes } = watched();
    await using server = await startTransport({ telemetry, maxRequestsPerMinute: 2 });
    const sockets = [await openRaw(server.endpoint), await openRaw(server.endpoint)];
    const refused = new WebSocket(server.endpoint.replace("http", "ws"), ["graphql-transport-ws"]);
    refused.on("error", () => undefined);
    const [, response] = (await once(refused, "unexpected-response")) as [unknown, IncomingMessage];
    expect(response.statusCode).toBe(429);
    expect(Number(response.headers["retry-after"])).toBeGreaterThan(0);
    expect([limits, codes]).toEqual([["requestsPerAddress"], ["RATE_LIMITED"]]);
    expect((await post(server.endpoint, "{ hello }")).status).toBe(429);
    for (const raw of sockets) await closeOf(raw);
  });

  test("a refusal at connection_init is counted like one over HTTP", async () => {
    const { telemetry, codes } = watched();
    const authenticate = () => {
      throw unauthenticated();
    };
    await using server = await startTransport({ telemetry, authenticate });
    const raw = await openRaw(server.endpoint);
    raw.send({ type: "connection_init" });
    expect((await raw.closed).code).toBe(4401);
    expect(codes).toEqual(["UNAUTHENTICATED"]);
    expect((await post(server.endpoint, "{ hello }")).status).toBe(401);
    expect(codes).toEqual(["UNAUTHENTICATED", "UNAUTHENTICATED"]);
  });

  const head = "POST /graphql HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n";
  const open = (url: string): Socket => connect(Number(new URL(url).port), "127.0.0.1").on("error", () => undefined);
  const all = async (socket: Socket) => {
    let text = "";
    socket.on("data", (data: Buffer) => (text += data.toString()));
    await new Promise((resolve) => socket.once("close", resolve));
    return text;
  };

  test.each([
    ["headers that do not come to an end", 408, head, "X-A: b\r\n"],
    ["a body that does not come to an end", 408, `${head}Content-Length: 1000\r\n\r\n`, "x"],
    ["nothing at all", 408, "", ""],
    ["headers without measure", 431, `${head}X-A: ${"x".repeat(20_000)}\r\n\r\n`, ""],
  ])("%s: %i, and the connection is closed", async (_what, status, first, more) => {
    await using server = await startTransport({ headersTimeoutMs: 300, requestTimeoutMs: 600 });
    const slowly = async () => {
      const socket = open(server.url);
      if (first !== "") socket.write(first);
      const drip = setInterval(() => more !== "" && socket.write(more), 50);
      return await all(socket).finally(() => clearInterval(drip));
    };
    let answer = await slowly();
    // A connection that is closed just as more comes is reset by the kernel, and what was said goes with it.
    for (let i = 0; answer === "" && i < 5; i++) answer = await slowly();
    expect(answer).toContain(`HTTP/1.1 ${status}`);
    expect(server.probe.logged).toEqual([]);
  });

  test("a connection without a request is kept longer than load balancers keep theirs, and no longer than it may be", async () => {
    await using usual = await startTransport();
    expect((await fetch(`${usual.url}/healthz`)).headers.get("keep-alive")).toBe("timeout=65");
    await using server = await startTransport({ keepAliveTimeoutMs: 100 });
    const socket = open(server.url);
    socket.write("GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n");
    expect(await all(socket)).toContain("HTTP/1.1 200");
  });

  const upgrade = (path: string, more = "") =>
    `GET ${path} HTTP/1.1\r\nHost: x\r\n${more}Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n`;

  test.each([
    ["another path", 404, upgrade("/nothing")],
    ["a foreign origin", 403, upgrade("/graphql", "Origin: http://evil.example\r\n")],
    ["a version that is not spoken", 400, upgrade("/graphql").replace("Version: 13", "Version: 99")],
  ])(
    "an upgrade that is refused (%s: %i) holds no connection, however long its client stays",
    async (_what, status, bytes) => {
      await using server = await startTransport({ maxConnections: 1, production: true });
      const stays = connect({ port: Number(new URL(server.url).port), host: "127.0.0.1", allowHalfOpen: true });
      stays.write(bytes);
      const [answer] = (await once(stays, "data")) as [Buffer];
      expect(answer.toString()).toContain(`HTTP/1.1 ${status}`);
      // It has the only place until then.
      await waitUntil("there is room", async () => {
        const socket = open(server.url);
        socket.write("GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        return (await all(socket)).includes("200 OK");
      });
      stays.destroy();
    },
  );

  test("connections beyond the limit are closed at once, and others are served again when some are gone", async () => {
    const { telemetry, limits } = watched();
    await using server = await startTransport({ telemetry, maxConnections: 2 });
    const held = [open(server.url), open(server.url)];
    await Promise.all(held.map((socket) => once(socket, "connect")));
    // Accepted, not only waiting to be: answers come over both.
    for (const socket of held) {
      socket.write("GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n");
      await once(socket, "data");
    }
    expect(await all(open(server.url))).toBe("");
    expect(limits).toEqual(["connections"]);
    for (const socket of held) socket.destroy();
    await waitUntil("there is room", async () => (await fetch(`${server.url}/healthz`)).ok);
  });
});

describe("more than can be executed", () => {
  test("is refused at once with 503 and OVERLOADED, /readyz says so, and it recovers", async () => {
    const { telemetry, limits, codes } = watched();
    await using server = await startTransport({ telemetry, maxConcurrentOperations: 1 });
    const raw = await openAcknowledged(server.endpoint);
    raw.send(subscribe("1", "{ waiting }"));
    await server.probe.waiting;
    const refused = await post(server.endpoint, "mutation { increment }");
    expect([refused.status, refused.headers.get("retry-after")]).toEqual([503, "1"]);
    const extensions = { code: "OVERLOADED", limit: "operations", retryAfterSeconds: 1 };
    expect((await answerOf(refused)).errors?.[0]?.extensions).toEqual(extensions);
    expect((await stream(server.endpoint)).status).toBe(503);
    raw.send(subscribe("2", "mutation { increment }"));
    expect(await raw.receive()).toMatchObject({ id: "2", type: "error", payload: [{ extensions }] });
    for (const path of ["healthz", "readyz"]) expect((await fetch(`${server.url}/${path}`)).status).toBe(200);
    expect([new Set(limits), new Set(codes)]).toEqual([new Set(["operations"]), new Set(["OVERLOADED"])]);

    raw.send({ id: "1", type: "complete" });
    await server.probe.aborted;
    expect(await answerOf(await post(server.endpoint, "mutation { increment }"))).toEqual({ data: { increment: 1 } });
    // Open streams are not being executed.
    raw.send(subscribe("3"));
    const streaming = await stream(server.endpoint);
    expect(streaming.status).toBe(200);
    expect((await post(server.endpoint, "{ hello }")).status).toBe(200);
    await streaming.body?.cancel();
    await closeOf(raw);
  });
});

test("Apollo over plain HTTP retries when it is refused for now, and is served when there is room", async () => {
  const { telemetry, codes } = watched();
  await using server = await startTransport({ telemetry, maxConcurrentOperations: 1 });
  const leaving = new AbortController();
  const holding = fetch(`${server.endpoint}?query={waiting}`, { signal: leaving.signal }).catch(() => undefined);
  await server.probe.waiting;
  const client = new ApolloClient({ link: linkOverHttp(server.endpoint), cache: new InMemoryCache() });
  const received: unknown[] = [];
  const following = client.subscribe({ query: gql(ticks), fetchPolicy: "no-cache" }).subscribe((result) => {
    received.push(result);
  });
  await waitUntil("it is refused", () => Promise.resolve(codes.includes("OVERLOADED")));
  leaving.abort();
  await holding;
  server.probe.source.push({ text: "one" });
  await waitUntil("it is served", () => Promise.resolve(received.length > 0));
  expect(received).toEqual([{ data: { ticks: { __typename: "Tick", text: "one" } } }]);
  following.unsubscribe();
  await server.probe.source.returned;
  client.stop();
});
