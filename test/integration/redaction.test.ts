import { Redis } from "ioredis";
import { SignJWT } from "jose";
import { afterAll, beforeAll, expect, test } from "vitest";
import { WebSocket } from "ws";
import { spawnGateway } from "../support/gateway/gateway.ts";
import { startOpenAI, type OpenAIServer } from "../support/model/openai-server.ts";
import { json } from "../support/model/wire-records.ts";
import { waitUntil } from "../support/redis/redis-command.ts";
import { startRedis, type TestRedis } from "../support/redis/redis-server.ts";

// What the log of a whole gateway holds, at its most talkative, when everything goes wrong at once.

let server: TestRedis;
let redis: Redis;
let openai: OpenAIServer;
beforeAll(async () => {
  server = await startRedis({ appendonly: false, args: ["--requirepass", "canary-redis-password"] });
  redis = new Redis(server.url);
  openai = await startOpenAI();
});
afterAll(async () => {
  redis.disconnect();
  await Promise.all([server.stop(), openai.close()]);
});

const secret = "canary-jwt-secret-canary-jwt-secret";

function tokenOf(key: string): Promise<string> {
  return new SignJWT({ sub: "jim", scope: "chat:read chat:write", sessions: ["*"], note: "canary-claim" })
    .setProtectedHeader({ alg: "HS256" })
    .setExpirationTime("10m")
    .sign(new TextEncoder().encode(key));
}

const send = `mutation Ask($id: String!, $text: String!) {
  sendMessage(input: { sessionId: $id, text: $text }) { run { status error { message } } reply { text } }
}`;

/** As LangChain and OpenAI's client do where something is odd. */
const libraryThatPrints = `process.on("SIGUSR2", () => {
  for (const name of ["log", "info", "debug", "warn", "error"]) console[name]("canary-" + "library");
  process.emitWarning("A library is old.");
});`;

test("no message text, no token and no secret is in the log, whatever fails", async () => {
  const good = await tokenOf(secret);
  const bad = await tokenOf("canary-another-secret-canary-another");
  const gateway = await spawnGateway({
    LOG_LEVEL: "trace",
    NODE_ENV: "production",
    REDIS_URL: server.url,
    HISTORY_KEY_PREFIX: "chat:",
    REDIS_COMMAND_TIMEOUT_MS: "1000",
    AUTH: "jwt",
    AUTH_JWT_SECRET: secret,
    METRICS_TOKEN: "canary-metrics-token",
    MODEL: "openai:gpt-4o-mini",
    OPENAI_API_KEY: "sk-canary-model-key",
    OPENAI_BASE_URL: openai.baseUrl,
    MODEL_MAX_RETRIES: "0",
    SYSTEM_PROMPT: "canary-system-prompt",
    NODE_OPTIONS: `--import "data:text/javascript,${encodeURIComponent(libraryThatPrints)}"`,
  });
  const post = async (body: unknown, token: string | null = good) => {
    const response = await fetch(gateway.url, {
      method: "POST",
      headers: { "content-type": "application/json", ...(token === null ? {} : { authorization: `Bearer ${token}` }) },
      body: typeof body === "string" ? body : JSON.stringify(body),
    });
    return response.text();
  };
  const ask = (id: string, text = "canary-message-text") => post({ query: send, variables: { id, text } });
  const url = new URL(gateway.url);
  try {
    // What goes well, and how models fail.
    expect(await ask("canary-session")).toContain("COMPLETED");
    for (const failure of ["401", "500", "contentFilter", "cutMidStream", "context_length"] as const) {
      openai.next(failure);
      expect(await ask("canary-session")).toContain("FAILED");
    }
    openai.next(json({ error: { message: "canary-message-of-provider" } }, 503, { "x-request-id": "req_503" }));
    expect(await ask("canary-session")).toContain("FAILED");
    process.kill(gateway.pid, "SIGUSR2");
    await waitUntil("the warning is a line of the log", () =>
      Promise.resolve(gateway.output.includes("A library is old.")),
    );
    // What cannot be read, and who may not.
    await post('{"query": "canary-broken-json');
    await post({ query: "{ canary-broken-document" });
    await post({ query: '{ canaryField(text: "canary-argument") }' });
    await post({ query: send, variables: { id: { canary: "canary-variable" }, text: ["canary-variable"] } });
    await post({ query: "{ viewer { subject } }" }, bad);
    await post({ query: "{ viewer { subject } }" }, "canary-no-token-at-all");
    await fetch(`${gateway.url}?query=${encodeURIComponent('{ session(sessionId: "canary-in-the-url") { title } }')}`, {
      headers: { authorization: `Bearer ${good}`, cookie: "session=canary-cookie" },
    });
    await fetch(new URL("/metrics", url), { headers: { authorization: "Bearer canary-metrics-token-wrong" } });
    for (const authorization of [`Bearer ${good}`, `Bearer ${bad}`]) {
      const socket = new WebSocket(gateway.url.replace("http", "ws"), "graphql-transport-ws");
      const closed = new Promise((resolve) => socket.once("close", resolve));
      await new Promise((resolve) => socket.once("open", resolve));
      socket.send(JSON.stringify({ type: "connection_init", payload: { authorization } }));
      await Promise.race([closed, new Promise((resolve) => socket.once("message", resolve))]);
      socket.send(JSON.stringify({ type: "subscribe", id: "1", payload: { query: "{ canary-over-websocket" } }));
      socket.send('{"canary-no-message');
      await closed;
    }
    // Our own state broken: logged whole, as unexpected.
    await redis.set("parley:{chat:canary-broken}:session:chat:canary-broken", "canary-value");
    expect(await ask("canary-broken")).toContain("INTERNAL_SERVER_ERROR");
    expect(await ask("canary-broken")).toContain("INTERNAL_SERVER_ERROR");
    // A row that no LangChain wrote.
    await redis.lpush("chat:canary-session", "canary-row-that-is-no-json");
    await ask("canary-session");
    // Redis fails in the middle of writes, whose arguments hang on ioredis' errors.
    const going = Promise.all(Array.from({ length: 20 }, (_, i) => ask(`canary-${i}`)));
    for (let i = 0; i < 5; i++) await redis.call("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes");
    await going;
    server.pause();
    expect(await ask("canary-paused")).toContain("STORE_UNAVAILABLE");
    server.resume();
    await waitUntil("it is back", async () => (await fetch(new URL("/readyz", url))).ok);
    await redis.config("SET", "maxmemory", "1");
    expect(await ask("canary-full")).toContain("STORE_UNAVAILABLE");
    await redis.config("SET", "maxmemory", "0");
  } finally {
    server.resume();
    await gateway.stop();
  }
  const lines = gateway.output.split("\n").filter((line) => line !== "");
  expect(lines.filter((line) => !line.startsWith("{"))).toEqual([]);
  const failures = lines.filter((line) => line.includes('"purpose":"reply"'));
  expect(failures.length).toBe(6);
  expect(JSON.parse(failures.find((line) => line.includes("req_503")) ?? "null")).toMatchObject({
    level: 40,
    code: "MODEL_UNAVAILABLE",
    providerStatus: 503,
    requestId: expect.any(String) as string,
    runId: expect.stringMatching(/^[0-9a-f-]{36}$/) as string,
  });
  // It did have something to say.
  expect(lines.length).toBeGreaterThan(5);
  expect(lines.filter((line) => line.includes('"requestId"')).length).toBeGreaterThan(0);
  for (const leaked of [
    "canary-message",
    "canary-broken-",
    "canary-argument",
    "canary-variable",
    "canary-over",
    "canary-library",
  ]) {
    expect(gateway.output, leaked).not.toContain(leaked);
  }
  const secrets = [
    good,
    bad,
    "sk-canary",
    "canary-jwt",
    "canary-redis",
    "canary-metrics",
    "canary-cookie",
    "canary-system",
  ];
  for (const leaked of [
    ...secrets,
    "canary-no-token",
    "canary-row",
    "canary-value",
    "canary-claim",
    "canary-in-the-url",
  ]) {
    expect(gateway.output, leaked).not.toContain(leaked);
  }
});
