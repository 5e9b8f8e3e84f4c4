import { tool } from "@langchain/core/tools";
import { createClient } from "graphql-ws";
import { Redis } from "ioredis";
import { afterAll, beforeAll, expect, test } from "vitest";
import { WebSocket } from "ws";
import { z } from "zod";

import type { GatewayOptions } from "../../src/gateway.ts";
import { McpServer } from "../../src/langchain/mcp/server.ts";
import { cancelRun } from "../support/gateway/conversation.ts";
import { startGateway, type TestGateway } from "../support/gateway/gateway.ts";
import { callerOf } from "../support/gateway/tenant.ts";
import { startMcpHttp, type McpHttpServer } from "../support/mcp/mcp-http.ts";
import { startRedis, type TestRedis } from "../support/redis/redis-server.ts";

// Tools that act as the user: a server of them over streamable HTTP is called with the token of who asks, or approves. And a
// server that comes when a page has given a tool of the same name.

const [first, second] = ["token-of-ann-at-noon", "token-of-ann-at-one"];

let redis: TestRedis;
let http: McpHttpServer;
let gateway: TestGateway;

beforeAll(async () => {
  [redis, http] = await Promise.all([startRedis(), startMcpHttp()]);
  const known = [first, second];
  gateway = await startGateway({
    ...optionsOf(),
    authenticate: ({ headers }) => {
      const token = headers.get("authorization")?.replace("Bearer ", "") ?? "";
      return known.includes(token) ? { subject: "ann", sessions: ["*"] } : null;
    },
  });
});

afterAll(async () => {
  await gateway.close();
  await Promise.all([redis.stop(), http.close()]);
});

function optionsOf(): GatewayOptions {
  const own = { url: http.url, headers: { Authorization: "Bearer of-the-service" }, passUserToken: true };
  const agent = { model: "offline", mcpServers: { own }, tools: ["own__echo"] };
  return {
    ...{ redis: redis.url, model: "offline", offlineWordDelayMs: 0 },
    agents: { direct: agent, careful: { ...agent, approvals: ["own__echo"] } },
  };
}

const sending = `mutation ($input: SendMessageInput!) { sendMessage(input: $input) { run { id status } } }`;

/** The run of a message that has the tool called with this text. */
async function send(token: string | null, model: string, sessionId: string, said: string, url = gateway.url) {
  const input = { sessionId, model: `agent:${model}`, text: `Use own__echo with {"text":"${said}"}` };
  type Sent = { sendMessage: { run: { id: string; status: string } } };
  return (await callerOf(url, token).execute<Sent>(sending, { input })).sendMessage.run;
}

interface Found {
  readonly status: string;
  readonly approvals: readonly { readonly callId: string }[];
  readonly messages: readonly { readonly role: string; readonly text: string; readonly toolFailed: boolean | null }[];
}

async function runOf(id: string, token: string | null = first, url = gateway.url): Promise<Found> {
  const query = `query ($id: ID!) { node(id: $id) { ... on Run { status approvals { callId } messages { role text toolFailed } } } }`;
  return (await callerOf(url, token).execute<{ node: Found }>(query, { id })).node;
}

const isOf = (id: string, status: string, token: string | null = first, url = gateway.url) =>
  expect.poll(async () => (await runOf(id, token, url)).status, { timeout: 30_000 }).toBe(status);

/** All that Redis holds, as text. */
async function stored(): Promise<string> {
  const client = new Redis(redis.url);
  const values = await Promise.all(
    (await client.keys("*")).map(async (key) => {
      const kind = await client.type(key);
      if (kind === "list") return await client.lrange(key, 0, -1);
      if (kind === "hash") return await client.hgetall(key);
      return kind === "zset" ? await client.zrange(key, "0", "-1") : await client.get(key);
    }),
  );
  client.disconnect();
  return JSON.stringify(values);
}

test("the one who asks, the one who approves, and the one whose message waited its turn here", async () => {
  const asked = await send(first, "direct", "asked", "hello");
  await isOf(asked.id, "COMPLETED");
  expect((await runOf(asked.id)).messages[1]).toMatchObject({
    role: "TOOL",
    text: "You said hello.",
    toolFailed: false,
  });
  expect(http.callers).toEqual([`Bearer ${first}`]);

  const waiting = await send(first, "careful", "approved", "yes");
  await isOf(waiting.id, "WAITING");
  const queued = await send(second, "direct", "approved", "queued");
  expect(queued.status).toBe("QUEUED");
  const [call] = (await runOf(waiting.id)).approvals;
  const input = { runId: waiting.id, decisions: [{ approve: { callId: call?.callId } }] };
  const approving = `mutation ($input: RespondToRunInput!) { respondToRun(input: $input) { run { id } } }`;
  await callerOf(gateway.url, second).execute(approving, { input });
  await isOf(queued.id, "COMPLETED");
  expect(http.callers).toEqual([first, second, second].map((token) => `Bearer ${token}`));
  // The token is nowhere but in the call, and what was opened for it is closed.
  const all = (await stored()) + JSON.stringify(gateway.logged);
  expect([all.includes("You said queued."), all.includes(first), all.includes(second)]).toEqual([true, false, false]);
  // The one that lists the tools.
  await expect.poll(() => http.sessions).toBeLessThanOrEqual(2);
});

test("over a WebSocket the token of connection_init", async () => {
  const before = http.callers.length;
  const client = createClient({
    ...{ url: gateway.url.replace(/^http/, "ws"), webSocketImpl: WebSocket, retryAttempts: 0 },
    connectionParams: { authorization: `Bearer ${second}` },
  });
  const input = { sessionId: "socket", model: "agent:direct", text: 'Use own__echo with {"text":"socket"}' };
  const sent = client.iterate({ query: sending, variables: { input } });
  expect((await sent.next()).value).toMatchObject({ data: { sendMessage: { run: { status: "RUNNING" } } } });
  await expect.poll(() => http.callers.slice(before), { timeout: 30_000 }).toEqual([`Bearer ${second}`]);
  await client.dispose();
});

test("a run without a user tells the model that the tool needs one, and does not call it", async () => {
  const open = await startGateway(optionsOf());
  const before = http.callers.length;
  const run = await send(null, "direct", "nobody", "hello", open.url);
  await isOf(run.id, "COMPLETED", null, open.url);
  expect((await runOf(run.id, null, open.url)).messages[1]).toMatchObject({
    ...{ role: "TOOL", toolFailed: true },
    text: "The tool needs the user: the run goes on without one. It was not called.",
  });
  expect(http.callers.length).toBe(before);
  await open.close();
});

test("another gateway takes a run over that waited its turn: it has no token, so the tool says that it needs the user", async () => {
  const known = { authenticate: () => ({ subject: "ann", sessions: ["*"] }) };
  const other = await startGateway({ ...optionsOf(), ...known });
  const waiting = await send(first, "careful", "taken over", "never", other.url);
  await isOf(waiting.id, "WAITING");
  const queued = await send(first, "direct", "taken over", "hello", other.url);
  expect(queued.status).toBe("QUEUED");
  const before = http.callers.length;
  await other.close();
  await callerOf(gateway.url, second).execute(cancelRun, { runId: waiting.id });
  await isOf(queued.id, "COMPLETED");
  expect((await runOf(queued.id)).messages[1]).toMatchObject({
    ...{ role: "TOOL", toolFailed: true },
    text: "The tool needs the user: the run goes on without one. It was not called.",
  });
  expect(http.callers.length).toBe(before);
});

test("a page's tool that was taken while a server was away, which has one of its name, ends the run with that, before anything is called", async () => {
  const late = await startMcpHttp();
  late.redirect("http://127.0.0.1:9/mcp");
  const echo = tool(({ text }) => text, {
    name: "echo",
    description: "Echoes.",
    schema: z.object({ text: z.string() }),
  });
  const open = await startGateway({
    ...{ ...optionsOf(), clientTools: true, mcpConnectTimeoutMs: 60_000 },
    agents: {
      direct: { model: "offline", mcpServers: { own: { url: late.url } }, tools: ["own__echo"], clientTools: true },
      careful: { model: "offline", tools: [echo], approvals: ["echo"] },
    },
  });
  const caller = callerOf(open.url, null);
  type Sent = { sendMessage: { run: { id: string; status: string } } };
  const asked = { sessionId: "clash", model: "agent:careful", text: 'Use echo with {"text":"hi"}' };
  const waiting = (await caller.execute<Sent>(sending, { input: asked })).sendMessage.run;
  await isOf(waiting.id, "WAITING", null, open.url);
  const tools = [{ name: "own__echo", description: "The page's.", parameters: { type: "object", properties: {} } }];
  const input = { sessionId: "clash", model: "agent:direct", text: 'Use own__echo with {"text":"hi"}', tools };
  const queued = (await caller.execute<Sent>(sending, { input })).sendMessage.run;
  expect(queued.status).toBe("QUEUED");

  late.redirect(null);
  type Models = { models: { name: string; tools: { name: string }[] }[] };
  const names = async () =>
    (await caller.request<Models>("{ models { name tools { name } } }")).data?.models.map((one) =>
      one.tools.map(({ name }) => name),
    );
  await expect.poll(names, { timeout: 30_000 }).toContainEqual(["own__echo"]);
  await caller.execute(cancelRun, { runId: waiting.id });
  await isOf(queued.id, "FAILED", null, open.url);
  const query = `query ($id: ID!) { node(id: $id) { ... on Run { error { code message } messages { role } } } }`;
  expect(await caller.execute(query, { id: queued.id })).toEqual({
    node: {
      error: { code: "OTHER", message: 'The page has given a tool "own__echo", and the agent has one of this name.' },
      messages: [],
    },
  });
  // Now that it is there, it is told at once.
  expect(await caller.refusal(sending, { input: { ...input, sessionId: "clash 2" } })).toMatch(
    /BAD_USER_INPUT.*The agent has a tool of this name/,
  );
  expect(late.callers).toEqual([]);
  await open.close();
  await late.close();
});

test("what a server says of the token again holds it no more", async () => {
  const server = new McpServer({
    ...{ name: "own", endpoint: { kind: "http", url: http.url, headers: {} }, connectTimeoutMs: 10_000 },
    ...{ onFailure: () => undefined, onLine: () => undefined },
  });
  const { signal } = new AbortController();
  const { content } = await server.callAs(first, "echo", { text: `${first}!` }, signal);
  expect(content).toEqual([{ type: "text", text: "You said (token)!." }]);
  await server.close();
});
