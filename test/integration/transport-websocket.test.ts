import { createClient } from "graphql-ws";
import { describe, expect, test } from "vitest";
import { WebSocket } from "ws";

import { CredentialsExpired } from "../../src/conversation/conversations/access.ts";
import { ParleyError } from "../../src/conversation/errors.ts";
import { anonymous } from "../../src/conversation/session.ts";
import { startGateway } from "../support/gateway/gateway.ts";
import { startRedis } from "../support/redis/redis-server.ts";
import { openAcknowledged, openRaw, post, startTransport } from "../support/gateway/transport-server.ts";
import type { RawSocket, TestServer } from "../support/gateway/transport-server.ts";

const ticks = "subscription { ticks { text } }";
const subscribe = (id: string, query: string) => ({ id, type: "subscribe", payload: { query } });

describe("graphql-ws' client", () => {
  test("runs queries, mutations, deferred queries and subscriptions", async () => {
    await using server = await startTransport();
    const client = createClient({ url: server.endpoint.replace("http", "ws"), webSocketImpl: WebSocket });
    const results = async (query: string) => {
      const received: unknown[] = [];
      for await (const result of client.iterate({ query })) received.push(result);
      return received;
    };
    expect(await results("{ hello }")).toEqual([{ data: { hello: "Hello world" } }]);
    expect(await results("mutation { increment }")).toEqual([{ data: { increment: 1 } }]);
    server.probe.release();
    expect(await results("{ parts { now ... @defer { deferred } } }")).toEqual([
      { data: { parts: { now: "now" } }, hasNext: true },
      { incremental: [{ data: { deferred: "later" }, path: ["parts"] }], hasNext: false },
    ]);
    server.probe.source.push({ text: "one" });
    server.probe.source.push({ text: "two" });
    server.probe.source.end();
    expect(await results(ticks)).toEqual([{ data: { ticks: { text: "one" } } }, { data: { ticks: { text: "two" } } }]);
    await client.dispose();
  });
});

describe("close codes", () => {
  test.each([
    ["4400 for what is no message", 4400, ["nonsense"]],
    [
      "4400 for an operation id that is too long",
      4400,
      [{ type: "connection_init" }, subscribe("x".repeat(200), ticks)],
    ],
    ["4401 for an operation before connection_init", 4401, [subscribe("1", "{ hello }")]],
    ["4429 for a second connection_init", 4429, [{ type: "connection_init" }, { type: "connection_init" }]],
    ["4409 for an id in use", 4409, [{ type: "connection_init" }, subscribe("1", ticks), subscribe("1", ticks)]],
    ["1009 for a message over the limit", 1009, [subscribe("1", `{ hello(name: "${"x".repeat(5000)}") }`)]],
  ])("%s", async (_name, code, messages) => {
    await using server = await startTransport({ maxBodyBytes: 5000 });
    const raw = await openRaw(server.endpoint);
    for (const message of messages) {
      raw.send(message);
      if (typeof message !== "string" && message.type === "connection_init") await Promise.resolve();
      if (message === messages[0] && messages.length > 1) expect((await raw.receive())["type"]).toBe("connection_ack");
    }
    expect((await raw.closed).code).toBe(code);
  });

  test("4408 when connection_init doesn't come", async () => {
    await using server = await startTransport({ initTimeoutMs: 20 });
    expect((await (await openRaw(server.endpoint)).closed).code).toBe(4408);
  });

  test("4406 for another protocol, or none", async () => {
    await using server = await startTransport();
    expect((await (await openRaw(server.endpoint, ["graphql-ws"])).closed).code).toBe(4406);
    expect((await (await openRaw(server.endpoint, [])).closed).code).toBe(4406);
  });

  test("4400 for what only servers say, which is no failure of the gateway", async () => {
    await using server = await startTransport();
    for (const type of ["next", "error", "connection_ack"]) {
      const raw = await openAcknowledged(server.endpoint);
      raw.send({ id: "1", type, payload: type === "error" ? [] : {} });
      expect((await raw.closed).code).toBe(4400);
    }
    const talker = await openAcknowledged(server.endpoint);
    talker.send(subscribe("1", `{ hello(name: "\\"type\\":\\"next\\"") }`));
    expect(await talker.receive()).toMatchObject({ type: "next", id: "1" });
    expect(server.probe.logged).toEqual([]);
  });

  test("4401 without access, 4403 after the token's expiry, in the same words; the reason for all else stays inside", async () => {
    await using server = await startTransport({
      authenticate({ connectionParams }) {
        if (connectionParams?.["token"] === "old") throw new CredentialsExpired();
        if (connectionParams?.["token"] === "bad") throw new ParleyError("UNAUTHENTICATED", "Sign in.");
        if (connectionParams?.["token"] === "broken") throw new Error("secret detail");
        return { viewer: { ...anonymous, subject: "jim" }, expiresAt: null };
      },
    });
    const refused = await openRaw(server.endpoint);
    refused.send({ type: "connection_init", payload: { token: "bad" } });
    expect(await refused.closed).toEqual({ code: 4401, reason: "Forbidden" });
    const old = await openRaw(server.endpoint);
    old.send({ type: "connection_init", payload: { token: "old" } });
    expect(await old.closed).toEqual({ code: 4403, reason: "Forbidden" });
    const broken = await openRaw(server.endpoint);
    broken.send({ type: "connection_init", payload: { token: "broken" } });
    expect(await broken.closed).toEqual({ code: 4500, reason: "Internal server error" });
    const allowed = await openRaw(server.endpoint);
    allowed.send({ type: "connection_init", payload: { token: "good" } });
    expect((await allowed.receive())["type"]).toBe("connection_ack");
  });

  test("1001 when the gateway stops", async () => {
    await using server = await startTransport();
    const raw = await openAcknowledged(server.endpoint);
    raw.send(subscribe("1", ticks));
    await server.transport.close();
    expect((await raw.closed).code).toBe(1001);
    await server.probe.source.returned;
  });
});

describe("errors", () => {
  test("an error of one operation does not affect the others", async () => {
    await using server = await startTransport();
    const raw = await openAcknowledged(server.endpoint);
    for (const [query, code] of [
      ["{ hello", "GRAPHQL_PARSE_FAILED"],
      ["{ nothing }", "GRAPHQL_VALIDATION_FAILED"],
      ["fragment F on Query { hello } query A { ...F } query B { ...F }", "OPERATION_RESOLUTION_FAILURE"],
      ["subscription ($on: Boolean!) { ticks @include(if: $on) { text } }", "GRAPHQL_VALIDATION_FAILED"],
      [
        "subscription ($on: Boolean!) { ...F } fragment F on Subscription { ... @skip(if: $on) { ticks { text } } }",
        "GRAPHQL_VALIDATION_FAILED",
      ],
      ["subscription { ticks @skip(if: true) { text } }", "GRAPHQL_VALIDATION_FAILED"],
      ["subscription { ticks { text } missing }", "GRAPHQL_VALIDATION_FAILED"],
    ] as const) {
      raw.send(subscribe("1", query));
      expect(await raw.receive()).toMatchObject({ type: "error", id: "1", payload: [{ extensions: { code } }] });
    }
    raw.send(subscribe("1", "{ hello }"));
    expect(await raw.receive()).toMatchObject({ type: "next", payload: { data: { hello: "Hello world" } } });
    expect(await raw.receive()).toEqual({ type: "complete", id: "1" });
  });

  test("refusals keep their code, the unexpected is masked, and no status for HTTP comes along", async () => {
    await using server = await startTransport();
    const raw = await openAcknowledged(server.endpoint);
    const errorOf = async (message: object) => {
      raw.send(message);
      const received = JSON.stringify(await raw.receive());
      expect((await raw.receive())["type"]).toBe("complete");
      return received;
    };
    expect(await errorOf(subscribe("1", "{ refused }"))).toContain('"extensions":{"code":"SESSION_BUSY"}');
    expect(await errorOf(subscribe("1", "subscription { missing }"))).toContain('"extensions":{"code":"NOT_FOUND"}');
    const broken = await errorOf(subscribe("1", "{ broken }"));
    expect(broken).toContain('"extensions":{"code":"INTERNAL_SERVER_ERROR"}');
    expect(broken).not.toContain("secret");
    const query = "query Q($name: String!) { hello(name: $name) }";
    const wrong = await errorOf({ id: "1", type: "subscribe", payload: { query, variables: { name: 1 } } });
    expect(wrong).toContain('"extensions":{"code":"BAD_USER_INPUT"}');
  });

  test("a source that fails on the way ends with `error`", async () => {
    await using server = await startTransport();
    const raw = await openAcknowledged(server.endpoint);
    server.probe.source.push({ text: "one" });
    server.probe.source.fail(new ParleyError("CURSOR_EXPIRED", "The history was reset."));
    raw.send(subscribe("1", ticks));
    expect(await raw.receive()).toMatchObject({ type: "next" });
    expect(await raw.receive()).toMatchObject({
      type: "error",
      id: "1",
      payload: [{ message: "The history was reset.", extensions: { code: "CURSOR_EXPIRED" } }],
    });
  });
});

describe("ends", () => {
  /** With a subscription "1" that has got its first event and waits for more. */
  async function openTicking(server: TestServer): Promise<RawSocket> {
    const raw = await openAcknowledged(server.endpoint);
    server.probe.source.push({ text: "one" });
    raw.send(subscribe("1", ticks));
    expect(await raw.receive()).toMatchObject({ type: "next" });
    return raw;
  }

  test("`complete` ends a waiting source at once, and its id can be used again", async () => {
    await using server = await startTransport();
    const raw = await openTicking(server);
    raw.send({ id: "1", type: "complete" });
    await server.probe.source.returned;
    raw.send(subscribe("1", "{ hello }"));
    expect(await raw.receive()).toMatchObject({ type: "next", payload: { data: { hello: "Hello world" } } });
  });

  test("nothing of a completed operation comes under its id when that is used again at once", async () => {
    await using server = await startTransport();
    const raw = await openTicking(server);
    raw.send({ id: "1", type: "complete" });
    // An answer that comes of its abortion.
    raw.send(subscribe("1", "{ waiting }"));
    await server.probe.waiting;
    raw.send({ id: "1", type: "complete" });
    // Completed before it could begin.
    raw.send(subscribe("1", "{ refused }"));
    raw.send({ id: "1", type: "complete" });
    raw.send(subscribe("1", "{ parts { now ... @defer { deferred } } }"));
    expect(await raw.receive()).toMatchObject({ id: "1", payload: { data: { parts: { now: "now" } }, hasNext: true } });
    server.probe.release();
    expect(await raw.receive()).toMatchObject({ id: "1", type: "next", payload: { hasNext: false } });
    expect(await raw.receive()).toEqual({ id: "1", type: "complete" });
  });

  test("4409 for an id that waits for the end of an operation already", async () => {
    await using server = await startTransport();
    const raw = await openAcknowledged(server.endpoint);
    raw.send(subscribe("1", "{ parts { deferred } }"));
    raw.send({ id: "1", type: "complete" });
    raw.send(subscribe("1", "{ hello }"));
    raw.send(subscribe("1", "{ hello }"));
    expect((await raw.closed).code).toBe(4409);
  });

  test("a socket that is gone ends its sources and aborts its queries", async () => {
    await using server = await startTransport();
    const raw = await openAcknowledged(server.endpoint);
    server.probe.source.push({ text: "one" });
    raw.send(subscribe("1", ticks));
    raw.send(subscribe("2", "{ waiting }"));
    expect(await raw.receive()).toMatchObject({ type: "next" });
    raw.socket.terminate();
    await server.probe.source.returned;
    await server.probe.aborted;
  });

  test("`complete` aborts a query under way", async () => {
    await using server = await startTransport();
    const raw = await openAcknowledged(server.endpoint);
    raw.send(subscribe("1", "{ waiting }"));
    raw.send({ id: "1", type: "complete" });
    await server.probe.aborted;
    raw.send(subscribe("2", "{ hello }"));
    expect(await raw.receive()).toMatchObject({ type: "next", id: "2" });
  });
});

test("a client that disconnects during a stream causes no log line", async () => {
  const server = await startRedis({ appendonly: false });
  const gateway = await startGateway({ redis: server.url });
  const add = `mutation { addMessages(input: { sessionId: "s", messages: [{ role: USER, text: "x" }] }) { session { id } } }`;
  await post(gateway.url, add);
  for (let round = 0; round < 5; round++) {
    const raw = await openAcknowledged(gateway.url);
    for (let i = 0; i < 20; i++)
      raw.send(subscribe(`${i}`, `subscription { sessionEvents(sessionId: "s") { __typename } }`));
    await raw.receive();
    // Its close frame is answered while others of its subscriptions still begin, and have their first event to tell.
    for (let i = 20; i < 60; i++)
      raw.send(subscribe(`${i}`, `subscription { sessionEvents(sessionId: "s") { __typename } }`));
    raw.socket.close(1000);
    await Promise.all([raw.closed, ...Array.from({ length: 10 }, () => post(gateway.url, add))]);
  }
  expect(gateway.logged.filter(({ level }) => level === "error")).toEqual([]);
  await gateway.close();
  await server.stop();
});

describe("readers that don't read", () => {
  test("one whose bytes wait is cut off, and its source was pulled no further than it read", async () => {
    await using server = await startTransport({ slowReaderMs: 100 });
    const { source } = server.probe;
    const text = "x".repeat(1024 * 1024);
    for (let i = 0; i < 100; i += 1) source.push({ text });
    const raw = await openAcknowledged(server.endpoint);
    raw.send(subscribe("1", ticks));
    raw.socket.pause();
    await source.returned;
    expect(source.taken).toBeLessThan(50);
    raw.socket.terminate();
  });

  test("one that asks and asks is not read from while answers wait", async () => {
    await using server = await startTransport({ slowReaderMs: 1500 });
    const raw = await openAcknowledged(server.endpoint);
    raw.socket.pause();
    const ping = JSON.stringify({ type: "ping", payload: { filler: "x".repeat(100_000) } });
    const sent = Array.from({ length: 300 }, () => new Promise((resolve) => raw.socket.send(ping, resolve)));
    const failed = (await Promise.all(sent)).filter((error) => error instanceof Error);
    // The server stopped reading, so most of the pings never left this process.
    expect(failed.length).toBeGreaterThan(100);
    raw.socket.terminate();
  });

  test("one that answers no ping is cut off; one that does stays", async () => {
    await using server = await startTransport({ keepAliveMs: 1000 });
    const alive = await openAcknowledged(server.endpoint);
    const dead = await openRaw(server.endpoint);
    dead.socket.pong = () => undefined;
    dead.send({ type: "connection_init" });
    expect((await dead.closed).code).toBe(1006);
    alive.send(subscribe("1", "{ hello }"));
    expect(await alive.receive()).toMatchObject({ type: "next" });
  });
});

describe("Origin", () => {
  const upgrade = async (endpoint: string, origin: string) => {
    try {
      const raw = await openRaw(endpoint, ["graphql-transport-ws"], { origin });
      raw.socket.terminate();
      return "open";
    } catch (error) {
      return String(error);
    }
  };
  const forbidden = "Error: Unexpected server response: 403";

  test("during development: this machine's pages", async () => {
    await using server = await startTransport();
    expect(await upgrade(server.endpoint, "http://localhost:3000")).toBe("open");
    expect(await upgrade(server.endpoint, server.url)).toBe("open");
    expect(await upgrade(server.endpoint, "https://evil.example")).toBe(forbidden);
    expect(await upgrade(server.endpoint, "null")).toBe(forbidden);
  });

  test("in production, or with a list: the own host and the listed", async () => {
    await using server = await startTransport({ production: true, allowedOrigins: ["https://chat.example"] });
    expect(await upgrade(server.endpoint, "https://chat.example")).toBe("open");
    expect(await upgrade(server.endpoint, server.url)).toBe("open");
    expect(await upgrade(server.endpoint, "http://localhost:3000")).toBe(forbidden);
    expect(await upgrade(server.endpoint, "https://chat.example.evil.example")).toBe(forbidden);
  });
});

test("upgrades on other paths and while draining are refused", async () => {
  await using server = await startTransport();
  await expect(openRaw(`${server.url}/elsewhere`)).rejects.toThrow("404");
  const raw = await openAcknowledged(server.endpoint);
  server.transport.drain();
  raw.send(subscribe("1", "{ hello }"));
  expect(await raw.receive()).toMatchObject({ type: "next" });
});
