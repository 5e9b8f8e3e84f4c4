import { readFileSync } from "node:fs";

import { getIntrospectionQuery } from "graphql";
import { describe, expect, test } from "vitest";

import { schema } from "../../src/graphql/schema.ts";
import { createMetrics } from "../../src/telemetry/metrics.ts";
import { FakeConversations } from "../support/store/fake-conversations.ts";
import { openAcknowledged, post, startTransport } from "../support/gateway/transport-server.ts";
import type { RawSocket, TestServer } from "../support/gateway/transport-server.ts";

interface Asked {
  readonly query: string;
  readonly variables?: unknown;
}

interface Answered {
  /** For application/json. */
  readonly status: number;
  /** For graphql-response+json. */
  readonly modern: number;
  /** Of the first error; "OK" where there is none. */
  readonly code: string;
}

interface Result {
  readonly errors?: readonly { readonly extensions?: { readonly code?: string } }[];
}

const codeOf = ({ errors }: Result) => (errors === undefined ? "OK" : (errors[0]?.extensions?.code ?? "(none)"));

type Plain = Omit<Answered, "modern">;

async function byHttp(url: string, body: string, accept: string): Promise<Plain> {
  const headers = { "content-type": "application/json", accept };
  const response = await fetch(url, { method: "POST", headers, body });
  return { status: response.status, code: codeOf((await response.json()) as Result) }; // GraphQL's answer
}

async function bySse(url: string, body: string): Promise<Plain> {
  const headers = { "content-type": "application/json", accept: "text/event-stream" };
  const response = await fetch(url, { method: "POST", headers, body });
  const text = await response.text();
  const [, data = ""] = /^data: (.*)$/m.exec(text) ?? [];
  return { status: response.status, code: codeOf(JSON.parse(data) as Result) }; // as above
}

/** As `body`, by one socket that must be there for the next one. */
async function bySocket(raw: RawSocket, payload: string): Promise<string> {
  raw.send(`{"id":"1","type":"subscribe","payload":${payload}}`);
  const message = await raw.receive();
  if (message["type"] === "error") return codeOf({ errors: message["payload"] as Result["errors"] & object }); // the protocol's
  expect((await raw.receive())["type"]).toBe("complete");
  return codeOf(message["payload"] as Result); // as above
}

/** By each way there is; all must agree. `body` as JSON text, for what JSON.stringify cannot write. */
async function ask(server: TestServer, raw: RawSocket, body: string): Promise<Answered> {
  const legacy = await byHttp(server.endpoint, body, "application/json");
  const modern = await byHttp(server.endpoint, body, "application/graphql-response+json");
  const sse = await bySse(server.endpoint, body);
  const socket = await bySocket(raw, body);
  expect({ modern: modern.code, sse, socket }).toEqual({ modern: legacy.code, sse: legacy, socket: legacy.code });
  return { ...legacy, modern: modern.status };
}

const tooComplex = { status: 400, modern: 400, code: "TOO_COMPLEX" };
const fine = { status: 200, modern: 200, code: "OK" };
const json = (asked: Asked) => JSON.stringify(asked);
const nested = (open: string, depth: number, inner: string, close: string) =>
  open.repeat(depth) + inner + close.repeat(depth);

describe("each limit holds over POST, SSE and WebSocket, with 400 in both media types", () => {
  test.each<[string, Asked]>([
    ["tokens", { query: `{ ${"__typename ".repeat(4000)} }` }],
    ["depth", { query: nested("{ forkedFrom ", 21, "{ id }", "}").replace("forkedFrom", 'session(sessionId: "a")') }],
    ["aliases", { query: `{ viewer { ${Array.from({ length: 31 }, (_, at) => `a${at}: subject`).join(" ")} } }` }],
    ["directives", { query: `{ viewer { subject ${"@include(if: true) ".repeat(51)} } }` }],
    ["root fields", { query: `mutation { ${'cancelRun(input: { runId: "x" }) { run { id } } '.repeat(21)} }` }],
    ["@defer", { query: `{ viewer { ${"... @defer { subject } ".repeat(11)} } }` }],
    ["cost", { query: "{ sessions(first: 100) { nodes { messages(first: 200) { nodes { id text role } } } } }" }],
    [
      "cost by variables",
      {
        query:
          "query ($n: Int, $m: Int) { sessions(first: $n) { nodes { messages(last: $m) { nodes { id text role } } } } }",
        variables: { n: 100, m: 200 },
      },
    ],
    [
      "cost of a subscription's events",
      {
        query: `subscription { sessionEvents(sessionId: "a") { ... on StreamOpened { session {
      ${Array.from({ length: 20 }, (_, at) => `a${at}: messages(first: 200) { nodes { session { messages(first: 200) { nodes { id } } } } }`).join(" ")}
    } } } }`,
      },
    ],
    [
      "a fragment bomb of lists",
      {
        query: `{ session(sessionId: "a") { ...F0 } } ${Array.from(
          { length: 6 },
          (_, at) => `fragment F${at} on Session { messages { nodes { session { ...F${at + 1} } } } }`,
        ).join(" ")} fragment F6 on Session { id }`,
      },
    ],
  ])("%s", async (_name, asked) => {
    const conversations = new FakeConversations();
    await using server = await startTransport({ schema, conversations });
    const raw = await openAcknowledged(server.endpoint);
    expect(await ask(server, raw, json(asked))).toEqual(tooComplex);
    expect(conversations.calls).toEqual([]);
    expect(await ask(server, raw, json({ query: "{ viewer { subject } }" }))).toEqual(fine);
    expect(server.probe.logged).toEqual([]);
  });

  test("each refusal is counted by the name of its limit, which the error gives", async () => {
    const metrics = createMetrics();
    await using server = await startTransport({ schema, telemetry: metrics.telemetry });
    const raw = await openAcknowledged(server.endpoint);
    const deep = nested("{ a ", 30, "{ id }", "}");
    const dear = "{ sessions(first: 100) { nodes { messages(first: 200) { nodes { id text role } } } } }";
    for (const [query, limit] of [
      [deep, "queryDepth"],
      [dear, "queryCost"],
    ] as const) {
      expect(await (await post(server.endpoint, query)).json()).toMatchObject({
        errors: [{ extensions: { code: "TOO_COMPLEX", limit } }],
      });
      expect(await bySocket(raw, json({ query }))).toBe("TOO_COMPLEX");
      const lines = (await metrics.text()).split("\n");
      expect(lines).toContain(`parley_limits_reached_total{limit="${limit}"} 2`);
    }
    expect((await metrics.text()).split("\n")).toContain('parley_rejections_total{code="TOO_COMPLEX"} 4');
  });

  test("the configured limit applies", async () => {
    await using server = await startTransport({ schema, queryLimits: { maxDepth: 1 } });
    expect((await post(server.endpoint, "{ __typename }")).status).toBe(200);
    expect((await post(server.endpoint, "{ viewer { subject } }")).status).toBe(400);
  });

  test("by GET too", async () => {
    await using server = await startTransport({ schema });
    const query = nested("{ a ", 200, "{ id }", "}");
    const response = await fetch(`${server.endpoint}?query=${encodeURIComponent(query)}`);
    expect(response.status).toBe(400);
    expect(codeOf((await response.json()) as Result)).toBe("TOO_COMPLEX");
  });

  test("the costs of one document go by the variables of each request", async () => {
    await using server = await startTransport({ schema, conversations: new FakeConversations() });
    const raw = await openAcknowledged(server.endpoint);
    const query =
      "query ($n: Int) { sessions(first: $n) { nodes { messages(last: 200) { nodes { id text role } } } } }";
    for (const [n, expected] of [
      [1, fine],
      [100, tooComplex],
      [2, fine],
      [100, tooComplex],
    ] as const) {
      expect(await ask(server, raw, json({ query, variables: { n } }))).toEqual(expected);
    }
  });
});

describe("what would end the stack ends nothing", () => {
  const deep = 20_000;
  const metadata = (value: string) =>
    `{"query":"mutation ($input: CreateSessionInput!) { createSession(input: $input) { session { id } } }","variables":{"input":{"metadata":${value}}}}`;
  test.each<[string, string]>([
    ["selections", json({ query: nested("{a", deep, "", "}") })],
    ["inline fragments", json({ query: nested("{...", deep, "{id}", "}") })],
    ["lists in a literal", json({ query: `{session(sessionId:${nested("[", deep, "", "]")}){id}}` })],
    ["objects in a literal", json({ query: `{session(sessionId:${nested("{a:", deep, "1", "}")}){id}}` })],
    ["types of variables", json({ query: `query($a:${nested("[", deep, "Int", "]")}){viewer{subject}}` })],
    [
      "fragments",
      json({
        query: `{...F0}${Array.from({ length: deep }, (_, at) => `fragment F${at} on Query{...F${at + 1}}`).join("")}`,
      }),
    ],
  ])("%s nested 20,000 deep: 400, and the socket stays", async (_name, body) => {
    await using server = await startTransport({ schema });
    const raw = await openAcknowledged(server.endpoint);
    expect(await ask(server, raw, body)).toEqual(tooComplex);
    expect(await ask(server, raw, json({ query: "{ viewer { subject } }" }))).toEqual(fine);
    expect(server.probe.logged).toEqual([]);
  });

  test.each<[string, string]>([
    ["a JSON scalar of lists", metadata(nested("[", deep, "", "]"))],
    ["a JSON scalar of objects", metadata(nested('{"a":', deep, "1", "}"))],
    [
      "a text",
      `{"query":"query ($a: String!) { session(sessionId: $a) { id } }","variables":{"a":${nested("[", deep, "", "]")}}}`,
    ],
    [
      "a list of ids",
      `{"query":"query ($a: [ID!]!) { nodes(ids: $a) { id } }","variables":{"a":${nested("[", deep, '"x"', "]")}}}`,
    ],
    [
      "an input object",
      `{"query":"mutation ($a: CancelRunInput!) { cancelRun(input: $a) { run { id } } }","variables":{"a":${nested('{"runId":', deep, '"x"', "}")}}}`,
    ],
  ])("variables nested 20,000 deep as %s are refused", async (_name, body) => {
    await using server = await startTransport({ schema });
    const raw = await openAcknowledged(server.endpoint);
    const { status, modern, code } = await ask(server, raw, body);
    expect(code).toBe("BAD_USER_INPUT");
    expect([status, modern].every((one) => one < 500)).toBe(true);
    expect(server.probe.logged).toEqual([]);
  });

  test.each<[string, string]>([
    ["variables that nothing asks for", `"variables":{"a":${nested("[", deep, "", "]")}}`],
    ["extensions", `"extensions":{"a":${nested('{"a":', deep, "1", "}")}}`],
    ["something unknown", `"more":${nested('{"a":', deep, "1", "}")}`],
  ])("%s nested 20,000 deep are let be", async (_name, part) => {
    await using server = await startTransport({ schema });
    const raw = await openAcknowledged(server.endpoint);
    expect(await ask(server, raw, `{"query":"{ viewer { subject } }",${part}}`)).toEqual(fine);
  });
});

describe("floods of characters", () => {
  test("a comment of 5 MB does not get past the body's limit", async () => {
    await using server = await startTransport({ schema });
    const query = `#${"x".repeat(5_000_000)}\n{ viewer { subject } }`;
    const response = await post(server.endpoint, query);
    expect({ status: response.status, code: codeOf((await response.json()) as Result) }).toEqual({
      status: 413,
      code: "PAYLOAD_TOO_LARGE",
    });
    const raw = await openAcknowledged(server.endpoint);
    raw.send(json({ query }));
    expect((await raw.closed).code).toBe(1009);
  });

  test.each([
    ["one comment", `#${"x".repeat(900_000)}\n{ viewer { subject } }`, "OK"],
    ["comments", `${"#\n".repeat(300_000)}{ viewer { subject } }`, "GRAPHQL_PARSE_FAILED"],
    ["commas", `{ viewer ${",".repeat(900_000)} { subject } }`, "OK"],
    ["a literal", `{ session(sessionId: "${"x".repeat(900_000)}") { id } }`, "OK"],
    ["a name", `{ ${"x".repeat(900_000)} }`, "TOO_COMPLEX"],
    ["names", `{ ${"x ".repeat(400_000)} }`, "TOO_COMPLEX"],
  ])("%s of 900 KB: read, and no more", async (_name, query, code) => {
    await using server = await startTransport({ schema, conversations: new FakeConversations(), slowReaderMs: 60_000 });
    const raw = await openAcknowledged(server.endpoint);
    expect((await ask(server, raw, json({ query }))).code).toBe(code);
  });
});

describe("what validation could not bear", () => {
  test("a field thousands of times", async () => {
    await using server = await startTransport({ schema });
    const raw = await openAcknowledged(server.endpoint);
    const query = `{ viewer { ${"subject ".repeat(2900)} } }`;
    expect(await ask(server, raw, json({ query }))).toEqual({
      status: 200,
      modern: 400,
      code: "GRAPHQL_VALIDATION_FAILED",
    });
  });

  test("@stream, which Yoga would bring along", async () => {
    await using server = await startTransport({ schema });
    const raw = await openAcknowledged(server.endpoint);
    const query = "{ viewer { scopes @stream(initialCount: 0) } }";
    expect((await ask(server, raw, json({ query }))).code).toBe("GRAPHQL_VALIDATION_FAILED");
  });
});

describe("what must get through", () => {
  test("introspection and GraphiQL's", async () => {
    await using server = await startTransport({ schema });
    const raw = await openAcknowledged(server.endpoint);
    const query = getIntrospectionQuery({
      specifiedByUrl: true,
      directiveIsRepeatable: true,
      schemaDescription: true,
      inputValueDeprecation: true,
      oneOf: true,
    });
    expect(await ask(server, raw, json({ query }))).toEqual(fine);
  });

  test("all of a type's fields", async () => {
    // What a generator of clients writes: each object whole, connections and objects within it by their ids.
    const { buildSchema, isObjectType, isScalarType, isEnumType, getNamedType } = await import("graphql");
    const text = buildSchema(readFileSync(new URL("../../schema.graphql", import.meta.url), "utf8"));
    const plain = (name: string) => {
      const type = text.getType(name);
      if (!isObjectType(type)) throw new Error(name);
      return Object.values(type.getFields())
        .filter(({ type: given }) => isScalarType(getNamedType(given)) || isEnumType(getNamedType(given)))
        .map((field) => field.name)
        .join(" ");
    };
    await using server = await startTransport({ schema, conversations: new FakeConversations() });
    const raw = await openAcknowledged(server.endpoint);
    const query = `query Chats { sessions(first: 50) { edges { cursor node { ...S messages(last: 1) { nodes { ...M } } } } } session(sessionId: "a") { ...S messages(last: 200) { edges { cursor node { ...M } } } activeRun { ...R } lastRun { ...R } queuedRuns { ...R } } }
      fragment S on Session { ${plain("Session")} memory { ${plain("MemorySettings")} } totalUsage { ${plain("TokenUsage")} } }
      fragment M on Message { ${plain("Message")} content { __typename ... on TextBlock { text } ... on ImageBlock { url detail } ... on OtherBlock { type data } } toolCalls { ${plain("ToolCall")} } usage { ${plain("TokenUsage")} } run { id status } }
      fragment R on Run { ${plain("Run")} error { code message retryable } reply { ...M } }`;
    expect(await ask(server, raw, json({ query }))).toEqual(fine);
  });
});

describe("production tells no names", () => {
  test.each<[string, Asked]>([
    ["of fields", { query: "{ viewr { subject } }" }],
    ["of arguments", { query: '{ session(sesionId: "a") { id } }' }],
    ["of types", { query: '{ node(id: "a") { ... on Sesion { id } } }' }],
    [
      "of enum values in literals",
      { query: 'mutation { sendMessage(input: { sessionId: "a", text: "b", whenBusy: QUEU }) { run { id } } }' },
    ],
    [
      "of input fields in variables",
      {
        query: "mutation ($input: CancelRunInput!) { cancelRun(input: $input) { run { id } } }",
        variables: { input: { runI: "a" } },
      },
    ],
    [
      "of enum values in variables",
      {
        query:
          'mutation ($busy: WhenBusy!) { sendMessage(input: { sessionId: "a", text: "b", whenBusy: $busy }) { run { id } } }',
        variables: { busy: "QUEU" },
      },
    ],
  ])("%s: by POST, GET and WebSocket", async (_name, asked) => {
    for (const production of [false, true]) {
      await using server = await startTransport({ schema, production, graphiql: false });
      const raw = await openAcknowledged(server.endpoint);
      raw.send({ id: "1", type: "subscribe", payload: asked });
      const shown = [JSON.stringify(await raw.receive())];
      // Twice: what is kept of a document, or compiled, must not tell more.
      for (let i = 0; i < 2; i += 1) {
        const headers = { "content-type": "application/json" };
        shown.push(await (await fetch(server.endpoint, { method: "POST", headers, body: json(asked) })).text());
      }
      if (asked.query.startsWith("{")) {
        shown.push(await (await fetch(`${server.endpoint}?query=${encodeURIComponent(asked.query)}`)).text());
      }
      for (const text of shown) {
        expect(text).toContain('"message"');
        if (production) expect(text).not.toContain("Did you mean");
        else expect(text).toContain("Did you mean");
      }
    }
  });
});
