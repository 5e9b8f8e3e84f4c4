import { connect } from "node:net";

import { createClient } from "graphql-ws";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { WebSocket } from "ws";

import { startGateway } from "../support/gateway/gateway.ts";
import type { TestGateway } from "../support/gateway/gateway.ts";
import { execute } from "../support/gateway/graphql-client.ts";
import { command, waitUntil } from "../support/redis/redis-command.ts";
import { startRedis } from "../support/redis/redis-server.ts";
import type { TestRedis } from "../support/redis/redis-server.ts";
import { foreignRow } from "../support/store/store.ts";
import { post } from "../support/gateway/transport-server.ts";

// Fifty rows of some 2.4 kB are read, in a gateway whose answers may hold four times as much.
const rows = 50;
const text = "é".repeat(1100);
const maxAnswerBytes = 500_000;

interface Answer {
  readonly data: Readonly<Record<string, unknown>> | null;
  readonly errors?: readonly {
    readonly path: readonly string[];
    readonly extensions: Readonly<Record<string, unknown>>;
  }[];
}

let redis: TestRedis;
let at: TestGateway;
const add = `mutation ($m: [MessageInput!]!) { addMessages(input: { sessionId: "s", messages: $m }) { SELECTION } }`;
const messages = Array.from({ length: rows }, () => ({ role: "USER", text }));

beforeAll(async () => {
  redis = await startRedis({ appendonly: false });
  at = await startGateway({ redis: redis.url, maxAnswerBytes, queryLimits: { maxCost: 1_000_000 } });
  await execute(at.url, add.replace("SELECTION", "session { id }"), { m: messages });
});
afterAll(async () => {
  await at.close();
  await redis.stop();
});

const aliased = (times: number, field: string) => Array.from({ length: times }, (_, i) => `a${i}: ${field}`).join(" ");
const ask = async (query: string): Promise<Answer> => (await (await post(at.url, query)).json()) as Answer; // GraphQL's

async function refusals(): Promise<number> {
  const lines = await (await fetch(new URL("/metrics", at.url))).text();
  return Number(/^parley_limits_reached_total\{limit="answerBytes"\} (\d+)$/m.exec(lines)?.[1] ?? 0);
}

/** The third time a document is known and its session recurs: it is answered by another way, that must count alike. */
async function always(query: string): Promise<Answer> {
  const answer = await ask(query);
  for (let i = 0; i < 3; i++) expect(await ask(query)).toEqual(answer);
  return answer;
}

const inSession = (selection: string) => `{ session(sessionId: "s") { ${selection} } }`;

describe("a query", () => {
  test("may hold as many bytes as are allowed", async () => {
    const before = await refusals();
    expect((await always(inSession(aliased(4, "messages { nodes { text } }")))).errors).toBeUndefined();
    expect(await refusals()).toBe(before);
  });

  test.each([
    ["pages under aliases", inSession(aliased(6, "messages { nodes { text } }"))],
    ["pages of which hardly anything is shown", inSession(aliased(6, "messages { nodes { role } }"))],
    ["texts under aliases", inSession(`messages { nodes { ${aliased(6, "text")} } }`)],
    ["rows as they are stored", inSession(`messages { nodes { ${aliased(6, "stored")} } }`)],
    ["blocks of content", inSession(`messages { nodes { ${aliased(6, "content { ... on TextBlock { text } }")} } }`)],
    ["sessions under aliases", `{ ${aliased(6, `session(sessionId: "s") { messages { nodes { text } } }`)} }`],
    ["the list of sessions", `{ sessions { nodes { ${aliased(6, "messages { nodes { text } }")} } } }`],
  ])("that would hold more fails with TOO_COMPLEX, each time, and is counted once: %s", async (_what, query) => {
    const before = await refusals();
    const { errors = [] } = await always(query);
    expect(errors[0]?.extensions).toEqual({ code: "TOO_COMPLEX", limit: "answerBytes" });
    expect(await refusals()).toBe(before + 4);
  });

  test("is refused for the field that exceeds the limit; the fields within the limit are answered", async () => {
    const { data, errors = [] } = await ask(
      `{ ${aliased(6, `session(sessionId: "s") { messages { nodes { text } } }`)} }`,
    );
    expect(errors.map(({ path }) => path[0])).toEqual(["a4", "a5"]);
    expect(data?.["a3"]).not.toBeNull();
    expect(data?.["a5"]).toBeNull();
  });
});

test("a mutation's answer fails alike; what it did is done", async () => {
  const selection = `session { messageCount ${aliased(6, "messages { nodes { text } }")} }`;
  const query = `mutation { markRead(input: { sessionId: "s" }) { ${selection} } }`;
  const { errors = [] } = await always(query);
  expect(errors[0]?.extensions).toEqual({ code: "TOO_COMPLEX", limit: "answerBytes" });
  expect(await ask(inSession("readCount"))).toEqual({ data: { session: { readCount: rows } } });
});

test("each event of a subscription has as much, and one that is too large ends nothing", async () => {
  const client = createClient({ url: at.url.replace(/^http/, "ws"), webSocketImpl: WebSocket, retryAttempts: 0 });
  const once = `session { messages(first: 50) { nodes { text } } }`;
  const query = (selection: string) =>
    `subscription { sessionEvents(sessionId: "s") { __typename ... on StreamOpened { ${selection} } ... on SessionUpdated { ${once} } } }`;
  for (const [selection, code] of [
    [once, undefined],
    [`session { ${aliased(6, "messages { nodes { text } }")} }`, "TOO_COMPLEX"],
  ] as const) {
    const events = client.iterate({ query: query(selection) });
    const opened = await events.next();
    expect((opened.value as Answer).errors?.[0]?.extensions["code"]).toBe(code);
    for (let i = 0; i < 8; i++) {
      await ask(`mutation { updateSession(input: { sessionId: "s", title: "${i}" }) { session { id } } }`);
      const next = await events.next();
      expect((next.value as Answer).errors).toBeUndefined();
    }
    await events.return?.();
  }
  await client.dispose();
});

describe("a page whose rows hold more than an answer may", () => {
  const rowBytes = 100_000;
  const many = 30;
  const inLarge = (selection: string) => `{ session(sessionId: "large") { ${selection} } }`;
  const sent = async () => {
    const stats = await command<string>(redis, "info", "stats");
    return Number(/^total_net_output_bytes:(\d+)/m.exec(stats)?.[1]);
  };

  beforeAll(async () => {
    for (let i = 0; i < many; i++) await command(redis, "lpush", "large", foreignRow(`${i} `.padEnd(rowBytes, "x")));
    expect(await ask(inLarge("messageCount"))).toEqual({ data: { session: { messageCount: many } } });
  });

  test("is refused before Redis sends them, each time, and is counted once", async () => {
    const query = inLarge(`messages(last: ${many}) { nodes { role } }`);
    const [sentBefore, refusedBefore] = [await sent(), await refusals()];
    const { errors = [] } = await always(query);
    expect(errors).toMatchObject([
      {
        message: `The answer would hold more than ${maxAnswerBytes} bytes. Ask for fewer messages or fields at a time.`,
        path: ["session", "messages"],
        extensions: { code: "TOO_COMPLEX", limit: "answerBytes" },
      },
    ]);
    expect(await refusals()).toBe(refusedBefore + 4);
    expect((await sent()) - sentBefore).toBeLessThan((many * rowBytes) / 10);
  });

  test("is refused beside one that fits", async () => {
    const sentBefore = await sent();
    const page = (last: number) => `session(sessionId: "large") { messages(last: ${last}) { nodes { role } } }`;
    const { data, errors = [] } = await ask(`{ fits: ${page(1)} large: ${page(many)} }`);
    expect(data).toEqual({ fits: { messages: { nodes: [{ role: "USER" }] } }, large: null });
    expect(errors).toMatchObject([{ path: ["large", "messages"], extensions: { limit: "answerBytes" } }]);
    expect((await sent()) - sentBefore).toBeLessThan((many * rowBytes) / 10);
  });

  test("is one of several: those that are not in the answer do not count", async () => {
    const client = createClient({ url: at.url.replace(/^http/, "ws"), webSocketImpl: WebSocket, retryAttempts: 0 });
    const page = (which: string) => `session { messages(${which}: 3) { nodes { role } } }`;
    const query = `subscription { sessionEvents(sessionId: "large") {
      __typename ... on StreamOpened { ${page("last")} } ... on SessionUpdated { ${page("first")} }
    } }`;
    const events = client.iterate({ query });
    const messages = { nodes: Array.from({ length: 3 }, () => ({ role: "USER" })) };
    for (const __typename of ["StreamOpened", "SessionUpdated"]) {
      const { value } = (await events.next()) as { value: unknown };
      expect(value).toEqual({ data: { sessionEvents: { __typename, session: { messages } } } });
      await ask(`mutation { updateSession(input: { sessionId: "large", title: "t" }) { session { id } } }`);
    }
    await events.return?.();
    await client.dispose();
  });

  test("keeps no subscriber from what it missed", async () => {
    const client = createClient({ url: at.url.replace(/^http/, "ws"), webSocketImpl: WebSocket, retryAttempts: 0 });
    const query = `subscription { sessionEvents(sessionId: "large", after: "") {
      __typename ... on StreamOpened { session { messages(last: ${many}) { nodes { role } } } }
    } }`;
    const events = client.iterate({ query });
    const opened = (await events.next()).value as Answer;
    expect(opened.errors?.[0]?.extensions).toEqual({ code: "TOO_COMPLEX", limit: "answerBytes" });
    for (let i = 0; i < many; i++) {
      expect((await events.next()).value).toEqual({ data: { sessionEvents: { __typename: "MessageAdded" } } });
    }
    await events.return?.();
    await client.dispose();
  });
});

test("while answers are not read, other operations are refused; then there is room", async () => {
  const small = await startGateway({
    redis: redis.url,
    maxPendingAnswerBytes: 1_000_000,
    maxAnswerBytes: 100_000_000,
    queryLimits: { maxAliases: 50 },
  });
  const answered = async () => (await post(small.url, "{ __typename }")).status;
  // 66 MB: more than a kernel keeps for a reader that does not read.
  const fragment = `fragment Texts on MessageConnection { nodes { ${aliased(30, "text")} } }`;
  const body = JSON.stringify({ query: `${inSession(aliased(20, "messages { ...Texts }"))} ${fragment}` });
  const { hostname, port, pathname } = new URL(small.url);
  const request = `POST ${pathname} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: ${body.length}\r\n\r\n${body}`;
  const reader = connect(Number(port), hostname).pause();
  reader.on("error", () => undefined);
  expect(await answered()).toBe(200);
  reader.write(request);
  await waitUntil("it is full", async () => (await answered()) === 503);
  const refused = await post(small.url, "{ __typename }");
  expect(refused.headers.get("retry-after")).toBe("1");
  expect(((await refused.json()) as Answer).errors?.[0]?.extensions).toMatchObject({ limit: "pendingAnswerBytes" });
  reader.destroy();
  await waitUntil("there is room again", async () => (await answered()) === 200);
  await small.close();
});
