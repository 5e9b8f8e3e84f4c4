import { once } from "node:events";
import { request } from "node:http";
import { connect } from "node:net";
import { text as readText } from "node:stream/consumers";
import { afterAll, beforeAll, expect, test } from "vitest";
import { spawnGateway, type GatewayProcess } from "../support/gateway/gateway.ts";
import { secret, tokenFor } from "../support/gateway/tokens.ts";
import { openRaw, type RawSocket } from "../support/gateway/transport-server.ts";
import { waitUntil } from "../support/redis/redis-command.ts";
import { startRedis, type TestRedis } from "../support/redis/redis-server.ts";

// A limit that one process counts must hold for all workers together: who spreads what it does over them gains nothing.

/** Connections of the tests before may still be closing: there is room for many more than a test opens, but for one. */
const limits = { connections: 40, address: 6, subject: 4, operations: 2, requests: 200 };

let redis: TestRedis;
let gateway: GatewayProcess;
let url: string;
let token: string;

beforeAll(async () => {
  redis = await startRedis({ appendonly: false });
  gateway = await spawnGateway({
    ...{ WORKERS: "2", REDIS_URL: redis.url, AUTH: "jwt", AUTH_JWT_SECRET: secret, HISTORY_KEY_PREFIX: "chat:" },
    // What waits for Redis does so until the test lets it go.
    REDIS_COMMAND_TIMEOUT_MS: "120000",
    MAX_CONNECTIONS: String(limits.connections),
    MAX_SOCKETS_PER_ADDRESS: String(limits.address),
    MAX_SOCKETS_PER_SUBJECT: String(limits.subject),
    MAX_CONCURRENT_OPERATIONS: String(limits.operations),
    MAX_REQUESTS_PER_MINUTE: String(limits.requests),
  });
  ({ url } = gateway);
  token = await tokenFor("a");
});
afterAll(async () => {
  await gateway.stop();
  await redis.stop();
});

type Outcome = "answered" | "refused" | "cut";

async function ask(query: string): Promise<Outcome> {
  const headers = { "content-type": "application/json", authorization: `Bearer ${token}` };
  const asked = request(url, { method: "POST", agent: false, headers });
  asked.end(JSON.stringify({ query }));
  try {
    const [response] = (await once(asked, "response")) as [NodeJS.ReadableStream]; // node:http gives it
    return /"(OVERLOADED|RATE_LIMITED)"/.test(await readText(response)) ? "refused" : "answered";
  } catch {
    return "cut";
  }
}

function count(outcomes: readonly Outcome[], wanted: Outcome): number {
  return outcomes.filter((outcome) => outcome === wanted).length;
}

/** null: it was not let in. */
async function openSocket(subject: string): Promise<RawSocket | null> {
  try {
    const raw = await openRaw(url);
    raw.send({ type: "connection_init", payload: { authorization: `Bearer ${await tokenFor(subject)}` } });
    const first = await Promise.race([raw.receive(), raw.closed]);
    return "type" in first && first["type"] === "connection_ack" ? raw : null;
  } catch (error) {
    expect(String(error)).toContain("Unexpected server response: 429");
    return null;
  }
}

async function socketsOf(subjects: readonly string[]): Promise<number> {
  const sockets: RawSocket[] = [];
  for (const subject of subjects) {
    const socket = await openSocket(subject);
    if (socket !== null) sockets.push(socket);
  }
  for (const { socket, closed } of sockets) {
    socket.terminate();
    await closed;
  }
  return sockets.length;
}

test("MAX_CONCURRENT_OPERATIONS: of operations that all wait for Redis no more than the limit are let in", async () => {
  const outcomes: Outcome[] = [];
  redis.pause();
  const asked = Array.from({ length: 10 }, async () => {
    outcomes.push(await ask('{ session(sessionId: "a:1") { id } }'));
  });
  const most = limits.operations;
  await waitUntil("the others are refused", () => Promise.resolve(outcomes.length >= asked.length - most));
  redis.resume();
  await Promise.all(asked);
  expect(count(outcomes, "answered")).toBeLessThanOrEqual(most);
  expect(count(outcomes, "answered")).toBeGreaterThan(0);
});

test("MAX_SOCKETS_PER_SUBJECT", async () => {
  const open = await socketsOf(Array.from({ length: limits.address }, () => "a"));
  expect(open).toBeLessThanOrEqual(limits.subject);
  expect(open).toBeGreaterThan(0);
});

test("MAX_SOCKETS_PER_ADDRESS", async () => {
  const open = await socketsOf(Array.from({ length: limits.address + 3 }, (_, i) => `s${i}`));
  expect(open).toBeLessThanOrEqual(limits.address);
  expect(open).toBeGreaterThan(0);
});

test("MAX_CONNECTIONS: further ones are closed at once, and not handed on from worker to worker", async () => {
  const { hostname, port } = new URL(url);
  const outcomes: Outcome[] = [];
  const sockets = Array.from({ length: 3 * limits.connections }, () => {
    const socket = connect(Number(port), hostname);
    socket.write("GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let text = "";
    socket.on("data", (chunk: Buffer) => {
      if (text === "") outcomes.push("answered");
      text += chunk.toString();
    });
    socket.on("error", () => undefined);
    socket.once("close", () => text === "" && outcomes.push("cut"));
    return socket;
  });
  await waitUntil("each is answered or closed", () => Promise.resolve(outcomes.length === sockets.length));
  expect(count(outcomes, "answered")).toBeLessThanOrEqual(limits.connections);
  expect(count(outcomes, "answered")).toBeGreaterThan(0);
  for (const socket of sockets) socket.destroy();
});

test("MAX_REQUESTS_PER_MINUTE", async () => {
  const startedAt = performance.now();
  const outcomes: Outcome[] = [];
  for (let i = 0; i < 3 * limits.requests; i++) outcomes.push(await ask("{ viewer { subject } }"));
  // What has come back to the buckets meanwhile, of which each worker has one.
  const seconds = (performance.now() - startedAt) / 1000;
  expect(count(outcomes, "answered")).toBeLessThanOrEqual(limits.requests + (seconds * limits.requests) / 60 + 1);
  expect(count(outcomes, "refused")).toBeGreaterThan(0);
});
