import { createClient } from "graphql-ws";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { WebSocket } from "ws";

import type { GatewayOptions } from "../../src/gateway.ts";
import { startGateway } from "../support/gateway/gateway.ts";
import type { TestGateway } from "../support/gateway/gateway.ts";
import { startOpenAI } from "../support/model/openai-server.ts";
import { waitUntil } from "../support/redis/redis-command.ts";
import { startRedis } from "../support/redis/redis-server.ts";
import type { TestRedis } from "../support/redis/redis-server.ts";
import { callerOf } from "../support/gateway/tenant.ts";
import { secret, tokenFor } from "../support/gateway/tokens.ts";
import { openRaw } from "../support/gateway/transport-server.ts";

const jwt = {
  kind: "jwt",
  key: { secret },
  issuer: null,
  audience: null,
  clockSkewSeconds: 5,
  cookie: "token",
} as const;
const page = "https://chat.example";
const add = `mutation Add($sessionId: String!, $text: String!) {
  addMessages(input: { sessionId: $sessionId, messages: [{ role: USER, text: $text }] }) { session { messageCount } }
}`;
const live = `subscription Live($sessionId: String!) { messageAdded(sessionId: $sessionId, after: "") { text } }`;
const whoAmI = "{ viewer { subject scopes sessions } }";

let redis: TestRedis;
let at: TestGateway;
const opened: TestGateway[] = [];

async function open(options: Partial<GatewayOptions>): Promise<TestGateway> {
  const gateway = await startGateway({ redis: redis.url, historyKeyPrefix: "chat:", ...options });
  opened.push(gateway);
  return gateway;
}

beforeAll(async () => {
  redis = await startRedis();
  at = await open({ auth: jwt, allowedOrigins: [page], production: true, graphiql: true });
});
afterAll(async () => {
  await Promise.all(opened.map((gateway) => gateway.close()));
  await redis.stop();
});

function get(token: string | null, headers: Record<string, string> = {}): Promise<Response> {
  return fetch(`${at.url}?query=${encodeURIComponent(whoAmI)}`, {
    headers: { ...(token === null ? {} : { authorization: `Bearer ${token}` }), ...headers },
  });
}

describe("over HTTP", () => {
  test("the viewer is the subject of the bearer token", async () => {
    const caller = callerOf(at.url, await tokenFor("jim", { scope: "chat:read" }));
    expect(await caller.execute(whoAmI)).toEqual({
      viewer: { subject: "jim", scopes: ["chat:read"], sessions: ["jim:*"] },
    });
  });

  const missing = 'This needs a token, and none was sent. Send it as the header "Authorization: Bearer …".';
  const wrong = "These credentials are not valid, or no longer. Sign in again.";

  test.each<readonly [string, string | null, string]>([
    ["none", null, missing],
    ["Bearer x", "Bearer x", wrong],
    ["another scheme", "Basic amltOmppbQ==", missing],
    ["nothing behind Bearer", "Bearer", missing],
  ])("401 for %s, before anything is read", async (_what, authorization, message) => {
    const headers = { "content-type": "application/json", ...(authorization === null ? {} : { authorization }) };
    const response = await fetch(at.url, { method: "POST", headers, body: "{ no json" });
    expect(response.status).toBe(401);
    expect(response.headers.get("www-authenticate")).toBe("Bearer");
    expect(await response.json()).toEqual({
      errors: [
        {
          message,
          extensions: { code: "UNAUTHENTICATED" },
        },
      ],
    });
  });

  test("the answer has the media type that was asked for, also to GET and to a stream", async () => {
    const modern = await get(null, { accept: "application/graphql-response+json" });
    expect([modern.status, modern.headers.get("content-type")]).toEqual([
      401,
      "application/graphql-response+json; charset=utf-8",
    ]);
    const stream = await get(null, { accept: "text/event-stream" });
    expect([stream.status, stream.headers.get("content-type")]).toEqual([401, "application/json; charset=utf-8"]);
  });

  test("a page elsewhere may read that it is not signed in", async () => {
    expect((await get(null, { origin: page })).headers.get("access-control-allow-origin")).toBe(page);
  });

  test("nobody without access can read the schema; health and GraphiQL's page are for all", async () => {
    expect(await callerOf(at.url, null).refusal("{ viewr { subject } }")).toMatch(/^401 /);
    expect((await fetch(at.url, { headers: { accept: "text/html" } })).status).toBe(200);
    for (const path of ["/healthz", "/readyz"]) expect((await fetch(new URL(path, at.url))).status).toBe(200);
  });

  test("FORBIDDEN without the scope, and nothing of the operation is executed", async () => {
    const reader = callerOf(at.url, await tokenFor("jim", { scope: "chat:read" }));
    const writer = callerOf(at.url, await tokenFor("jim", { scope: "chat:write" }));
    const nobody = callerOf(at.url, await tokenFor("jim", { scope: "openid profile" }));
    const admin = callerOf(at.url, await tokenFor("jim", { scope: "admin" }));
    const message = { sessionId: "jim:scopes", text: "x" };
    const forbidden = (scope: string) =>
      `403 {"code":"FORBIDDEN"} This needs the scope ${scope}, which your credentials do not have.`;
    for (const one of [reader, nobody]) expect(await one.refusal(add, message)).toBe(forbidden("chat:write"));
    for (const one of [writer, nobody]) expect(await one.refusal(whoAmI)).toBe(forbidden("chat:read"));
    expect(await admin.execute(`{ session(sessionId: "jim:scopes") { messageCount } }`)).toEqual({ session: null });
    expect(await writer.execute(add, message)).toEqual({ addMessages: { session: { messageCount: 1 } } });
    const streamed = await fetch(at.url, {
      method: "POST",
      headers: {
        "content-type": "application/json",
        accept: "text/event-stream",
        authorization: `Bearer ${await tokenFor("jim", { scope: "chat:write" })}`,
      },
      body: JSON.stringify({ query: live, variables: { sessionId: "jim:scopes" } }),
    });
    expect(streamed.status).toBe(403);
    expect(await streamed.text()).toContain("FORBIDDEN");
  });

  test("a cookie counts for a page that is known", async () => {
    const cookie = `a=b; token=${await tokenFor("jim")}`;
    expect((await get(null, { cookie, origin: page })).status).toBe(200);
    expect((await get(null, { cookie, origin: new URL(at.url).origin })).status).toBe(200);
    for (const headers of [{ cookie }, { cookie, origin: "https://evil.example" }, { cookie, origin: "null" }]) {
      expect((await get(null, headers)).status).toBe(401);
    }
    // What was given on purpose wins, also when it is bad.
    expect((await get("bad", { cookie, origin: page })).status).toBe(401);
  });
});

describe("over WebSocket", () => {
  const answerTo = async (payload: unknown, headers: Record<string, string> = {}) => {
    const raw = await openRaw(at.url, undefined, headers);
    raw.send({ type: "connection_init", payload });
    const answer = await Promise.race([raw.receive(), raw.closed]);
    if (!("type" in answer)) return answer["code"];
    raw.send({ id: "1", type: "subscribe", payload: { query: whoAmI } });
    const { payload: result } = await raw.receive();
    raw.socket.close();
    return (result as { data: { viewer: { subject: string } } }).data.viewer.subject; // what whoAmI selects
  };

  test("the token comes in connection_init, in the upgrade's header or in its cookie, the first of these counts", async () => {
    const [jim, ann] = [await tokenFor("jim"), await tokenFor("ann")];
    expect(await answerTo({ authorization: `Bearer ${jim}` })).toBe("jim");
    expect(await answerTo({ Authorization: jim })).toBe("jim");
    expect(await answerTo({}, { authorization: `Bearer ${jim}` })).toBe("jim");
    expect(await answerTo({}, { cookie: `token=${jim}`, origin: page })).toBe("jim");
    expect(await answerTo({ authorization: ann }, { authorization: `Bearer ${jim}` })).toBe("ann");
    expect(await answerTo({}, { authorization: `Bearer ${ann}`, cookie: `token=${jim}`, origin: page })).toBe("ann");
  });

  test("4403 for a token that is valid but for its expiry, 4401 for any other that is refused", async () => {
    const cookie = `token=${await tokenFor("jim")}`;
    const old = { livesSeconds: -60 };
    expect(await answerTo({ authorization: await tokenFor("jim", old) })).toBe(4403);
    expect(await answerTo({}, { authorization: `Bearer ${await tokenFor("jim", old)}` })).toBe(4403);
    for (const [payload, headers] of [
      [undefined],
      [{ authorization: "Bearer x" }, { authorization: `Bearer ${await tokenFor("jim")}` }],
      [{}, { cookie }],
      [{ authorization: `${await tokenFor("jim", old)}x` }],
      [{ authorization: await tokenFor("jim", { ...old, claims: { nbf: 2 ** 33 } }) }],
      [{ authorization: await tokenFor("anonymous", old) }],
      [{ authorization: await tokenFor("jim", { ...old, claims: { sessions: 1 } }) }],
    ] as const) {
      expect([payload, await answerTo(payload, headers)]).toEqual([payload, 4401]);
    }
  });

  test("graphql-ws gives up at once without a good token", async () => {
    let connected = 0;
    const client = createClient({
      url: at.url.replace("http", "ws"),
      webSocketImpl: WebSocket,
      connectionParams: { authorization: "nobody's" },
      retryAttempts: Infinity,
      shouldRetry: () => true,
      on: { connecting: () => (connected += 1) },
    });
    const failure = client.iterate({ query: whoAmI }).next();
    await expect(failure).rejects.toMatchObject({ code: 4401, reason: "Forbidden" });
    expect(connected).toBe(1);
    await client.dispose();
  });

  test("FORBIDDEN is an error of that operation", async () => {
    const raw = await openRaw(at.url);
    raw.send({ type: "connection_init", payload: { authorization: await tokenFor("jim", { scope: "chat:read" }) } });
    await raw.receive();
    raw.send({ id: "1", type: "subscribe", payload: { query: add, variables: { sessionId: "jim:ws", text: "x" } } });
    expect(await raw.receive()).toMatchObject({
      type: "error",
      id: "1",
      payload: [{ extensions: { code: "FORBIDDEN" } }],
    });
    raw.send({ id: "1", type: "subscribe", payload: { query: whoAmI } });
    expect(await raw.receive()).toMatchObject({ type: "next", id: "1" });
    raw.socket.close();
  });
});

// All at once, each with a subject of its own: they wait for the same seconds.
describe.concurrent("a token that expires in mid-stream", () => {
  /** The token's end, in ms, is at least so far away: long enough to subscribe and to be heard once. */
  const shortLived = async (subject: string) => {
    const exp = Math.ceil(Date.now() / 1000) + 7;
    return { token: await tokenFor(subject, { claims: { exp } }), end: exp * 1000 };
  };
  /** Each message is the time at which it was sent. */
  const writeUntil = async (sessionId: string, token: string, over: () => boolean) => {
    const writer = callerOf(at.url, token);
    while (!over()) {
      await writer.execute(add, { sessionId, text: `at ${Date.now()}` });
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  };

  /** What was delivered in time may arrive much later on a busy machine, but was not written after the end. */
  const lastWritten = (received: string) => {
    return Math.max(...[...received.matchAll(/"text":"at (\d+)"/g)].map(([, time]) => Number(time)));
  };

  test("ends the socket with 4403, and nothing comes after", async () => {
    const { token, end } = await shortLived("wanda");
    const writing = await tokenFor("wanda");
    await callerOf(at.url, writing).execute(add, { sessionId: "wanda:1", text: "first" });
    const raw = await openRaw(at.url);
    const arrivals: string[] = [];
    let code: number | null = null;
    void raw.closed.then((closed) => (code = closed.code));
    raw.send({ type: "connection_init", payload: { authorization: token } });
    await raw.receive();
    raw.socket.on("message", (data: Buffer) => arrivals.push(data.toString()));
    raw.send({ id: "1", type: "subscribe", payload: { query: live, variables: { sessionId: "wanda:1" } } });
    await waitUntil("the first message", () => Promise.resolve(arrivals.length > 0));
    await writeUntil("wanda:1", writing, () => code !== null);
    expect(code).toBe(4403);
    expect(arrivals.length).toBeGreaterThan(2);
    expect(lastWritten(arrivals.join("\n"))).toBeLessThan(end);
  });

  test("ends the waiting for a reply, which tells nothing more; the reply goes on", async () => {
    const openai = await startOpenAI();
    const waiting = await open({
      auth: jwt,
      model: "openai:small",
      openai: { apiKey: "key", baseUrl: openai.baseUrl },
    });
    openai.behave({ kind: "gated", tokens: ["There ", "at last"] });
    const { token, end } = await shortLived("vera");
    const send = `mutation { sendMessage(input: { sessionId: "vera:1", text: "Hi" }) { reply { text } } }`;
    const headers = { "content-type": "application/json", authorization: `Bearer ${token}` };
    const answer = await fetch(waiting.url, { method: "POST", headers, body: JSON.stringify({ query: send }) });
    expect(await answer.json()).toMatchObject({ data: null, errors: [{ extensions: { code: "UNAUTHENTICATED" } }] });
    expect(Date.now()).toBeGreaterThanOrEqual(end);
    openai.releaseAll();
    const later = callerOf(waiting.url, await tokenFor("vera"));
    const read = `{ session(sessionId: "vera:1") { messages { nodes { text } } } }`;
    await waitUntil("the reply is there", async () => {
      const { session } = await later.execute<{ session: { messages: { nodes: { text: string }[] } } }>(read);
      return session.messages.nodes.at(-1)?.text === "There at last";
    });
    await waiting.close();
    await openai.close();
  });

  test("graphql-ws comes again with a new token, and goes on", async () => {
    const { token } = await shortLived("willy");
    const next = await tokenFor("willy");
    await callerOf(at.url, next).execute(add, { sessionId: "willy:1", text: "first" });
    const tokens = [token, next];
    const codes: unknown[] = [];
    const client = createClient({
      url: at.url.replace("http", "ws"),
      webSocketImpl: WebSocket,
      connectionParams: () => ({ authorization: tokens.shift() ?? "" }),
      retryWait: () => Promise.resolve(),
      on: { closed: (event) => codes.push((event as { code: number }).code) }, // a CloseEvent
    });
    const texts: unknown[] = [];
    for await (const { data } of client.iterate({ query: live, variables: { sessionId: "willy:1" } })) {
      texts.push(data?.["messageAdded"]);
      if (texts.length === 2) break;
    }
    expect(codes).toEqual([4403]);
    expect(texts).toEqual([{ text: "first" }, { text: "first" }]);
    await client.dispose();
  });

  test("ends an SSE stream without `complete`; coming again is 401", async () => {
    const { token, end } = await shortLived("sally");
    const writing = await tokenFor("sally");
    await callerOf(at.url, writing).execute(add, { sessionId: "sally:1", text: "first" });
    const headers = {
      "content-type": "application/json",
      accept: "text/event-stream",
      authorization: `Bearer ${token}`,
    };
    const body = JSON.stringify({ query: live, variables: { sessionId: "sally:1" } });
    const response = await fetch(at.url, { method: "POST", headers, body });
    let text = "";
    let over = false;
    const reading = (async () => {
      for await (const chunk of response.body?.pipeThrough(new TextDecoderStream()) ?? []) {
        text += chunk;
      }
      over = true;
    })();
    await writeUntil("sally:1", writing, () => over);
    await reading;
    expect(text.match(/event: next/g)?.length).toBeGreaterThan(2);
    expect(text).not.toContain("event: complete");
    expect(lastWritten(text)).toBeLessThan(end);
    const expired = await tokenFor("sally", { livesSeconds: -60 });
    expect(await callerOf(at.url, expired).refusal(live)).toMatch(/^401 /);
  });
});

describe("a program's own authenticate()", () => {
  test("decides who the viewer is, over HTTP and WebSocket alike", async () => {
    const own = await open({
      authenticate({ headers }) {
        const name = /^Bearer (\w+)$/.exec(headers.get("authorization") ?? "")?.[1];
        if (name === "broken") throw new Error("secret detail");
        return name === undefined ? null : { subject: name, expiresAt: Date.now() + 60_000 };
      },
    });
    expect(await callerOf(own.url, "ann").execute(whoAmI)).toEqual({
      viewer: { subject: "ann", scopes: ["chat:read", "chat:write"], sessions: ["ann:*"] },
    });
    expect(await callerOf(own.url, null).refusal(whoAmI)).toMatch(/^401 {"code":"UNAUTHENTICATED"}/);
    const broken = await callerOf(own.url, "broken").refusal(whoAmI);
    expect(broken).toMatch(/^401 {"code":"UNAUTHENTICATED"}/);
    expect(broken).not.toContain("secret");
    expect(own.logged.filter(({ level }) => level === "warn")).toHaveLength(1);
    const raw = await openRaw(own.url);
    raw.send({ type: "connection_init", payload: { authorization: "Bearer ann" } });
    expect((await raw.receive())["type"]).toBe("connection_ack");
    raw.socket.close();
  });

  test("is refused if it gives the name of the gateway itself, or an expiresAt in the past", async () => {
    const own = await open({
      authenticate: ({ headers }) =>
        headers.get("x-late") === null ? { subject: "*" } : { subject: "jim", expiresAt: new Date(Date.now() - 1) },
    });
    expect(await callerOf(own.url, "x").refusal(whoAmI)).toMatch(/^401 /);
    const late = await fetch(`${own.url}?query=${encodeURIComponent(whoAmI)}`, { headers: { "x-late": "1" } });
    expect(late.status).toBe(401);
  });
});
