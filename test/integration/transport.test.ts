import { once } from "node:events";
import { get, request, type IncomingHttpHeaders, type IncomingMessage } from "node:http";
import { gunzipSync } from "node:zlib";

import { serverAudits } from "graphql-http";
import { describe, expect, test } from "vitest";

import { anonymous } from "../../src/conversation/session.ts";
import { openRaw, post, startTransport } from "../support/gateway/transport-server.ts";
import type { TestServer } from "../support/gateway/transport-server.ts";

interface ErrorBody {
  readonly data?: unknown;
  readonly errors: readonly { readonly message: string; readonly extensions: Readonly<Record<string, unknown>> }[];
}

/** Every refusal has a body of this form; the test fails on the first member that is missing. */
async function errorOf(response: Response): Promise<ErrorBody["errors"][number]> {
  const { errors } = (await response.json()) as ErrorBody;
  const [error] = errors;
  if (error === undefined || errors.length !== 1) throw new Error(`Expected one error, got ${JSON.stringify(errors)}`);
  return error;
}

const modern = { accept: "application/graphql-response+json" };

// Each audit, whether the specification says MUST, SHOULD or MAY. The second time the documents are known.
describe.each([true, false])("with compiled queries: %s", (compiled) => {
  test("the audit suite of graphql-http passes whole, and once more", async () => {
    await using server = await startTransport({ compiled });
    for (let round = 0; round < 2; round++) {
      const audits = serverAudits({ url: server.endpoint });
      const results = await Promise.all(audits.map((audit) => audit.fn()));
      const failed = results.filter((result) => result.status !== "ok");
      expect(failed.map((result) => `${result.status} ${result.name}`)).toEqual([]);
      expect(results).toHaveLength(audits.length);
      for (const level of ["MUST", "SHOULD", "MAY"]) {
        expect(results.filter(({ name }) => name.startsWith(`${level} `)).length).toBeGreaterThan(5);
      }
    }
  });
});

describe("requests", () => {
  test("queries by GET and POST, mutations by POST alone", async () => {
    await using server = await startTransport();
    const asked = await fetch(`${server.endpoint}?query={hello}`);
    expect(await asked.json()).toEqual({ data: { hello: "Hello world" } });
    const refused = await fetch(`${server.endpoint}?query=mutation{increment}`);
    expect(refused.status).toBe(405);
    expect(await (await post(server.endpoint, "mutation { increment }")).json()).toEqual({ data: { increment: 1 } });
  });

  test("what a browser sends across origins without a preflight is refused", async () => {
    await using server = await startTransport();
    const query = JSON.stringify({ query: "mutation { increment }" });
    const form = new FormData();
    form.set("operations", query);
    form.set("map", "{}");
    for (const [type, body] of [
      ["text/plain", query],
      ["application/graphql", "mutation { increment }"],
      ["application/x-www-form-urlencoded", `query=${encodeURIComponent("mutation { increment }")}`],
      [null, form],
    ] as const) {
      const response = await fetch(server.endpoint, {
        method: "POST",
        headers: type === null ? {} : { "content-type": type },
        body,
      });
      expect([type, response.status]).toEqual([type, 415]);
      expect((await errorOf(response)).extensions["code"]).toBe("UNSUPPORTED_MEDIA_TYPE");
    }
    expect(await (await post(server.endpoint, "mutation { increment }")).json()).toEqual({ data: { increment: 1 } });
  });

  test.each([
    ["no JSON", "{not json"],
    ["a batch", '[{"query":"{hello}"}]'],
    ["no query", "{}"],
    ["variables that are no object", '{"query":"{hello}","variables":[1]}'],
    ["nothing", ""],
  ])("%s is a bad request", async (_name, body) => {
    await using server = await startTransport();
    const response = await fetch(server.endpoint, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body,
    });
    expect(response.status).toBe(400);
    expect((await errorOf(response)).extensions).toEqual({ code: "BAD_REQUEST" });
  });

  test("parameters that GraphQL over HTTP doesn't know are ignored", async () => {
    await using server = await startTransport();
    const response = await fetch(server.endpoint, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ query: "{ hello }", id: "a Relay client's", doc_id: 1 }),
    });
    expect(await response.json()).toEqual({ data: { hello: "Hello world" } });
  });

  test("a body over the limit is refused, with and without a content-length, and the connection goes on", async () => {
    await using server = await startTransport({ maxBodyBytes: 1000 });
    const long = JSON.stringify({ query: `{ hello(name: "${"x".repeat(500_000)}") }` });
    const chunked = new ReadableStream({
      start(controller) {
        controller.enqueue(new TextEncoder().encode(long));
        controller.close();
      },
    });
    const headers = { "content-type": "application/json" };
    for (const body of [{ body: long }, { body: chunked, duplex: "half" as const }]) {
      const response = await fetch(server.endpoint, { method: "POST", headers, ...body });
      expect(response.status).toBe(413);
      expect((await errorOf(response)).extensions).toEqual({ code: "PAYLOAD_TOO_LARGE" });
    }
    const streamed = new Request(server.endpoint, { method: "POST", headers, body: long });
    expect((await server.transport.fetch(streamed)).status).toBe(413);
    expect(await (await post(server.endpoint, "{ hello }")).json()).toEqual({ data: { hello: "Hello world" } });
  });

  test("other paths are not there, other methods not allowed", async () => {
    await using server = await startTransport();
    expect((await fetch(`${server.url}/elsewhere/graphql`)).status).toBe(404);
    expect((await fetch(server.endpoint, { method: "DELETE" })).status).toBe(405);
    expect((await fetch(`${server.endpoint}?query={hello}&x=/health `)).status).toBe(200);
  });
});

describe("errors", () => {
  test("syntax and validation have their codes; the status goes by what the client accepts", async () => {
    await using server = await startTransport();
    for (const [query, code] of [
      ["{ hello", "GRAPHQL_PARSE_FAILED"],
      ["{ nothing }", "GRAPHQL_VALIDATION_FAILED"],
    ] as const) {
      const strict = await post(server.endpoint, query, modern);
      expect(strict.status).toBe(400);
      expect(strict.headers.get("content-type")).toContain("application/graphql-response+json");
      expect((await errorOf(strict)).extensions).toEqual({ code });
      const legacy = await post(server.endpoint, query, { accept: "application/json" });
      expect(legacy.status).toBe(200);
      expect((await errorOf(legacy)).extensions).toEqual({ code });
    }
  });

  test("wrong variables have one status and one code, with introspection and without", async () => {
    const body = JSON.stringify({ query: "query ($name: String) { hello(name: $name) }", variables: { name: 5 } });
    const answers = await Promise.all(
      [true, false].map(async (introspection) => {
        await using server = await startTransport({ production: true, introspection, graphiql: false });
        const statuses = [];
        for (const accept of ["application/json", modern.accept]) {
          // The second time the document is known, and comes by another way.
          for (let time = 0; time < 2; time++) {
            const headers = { "content-type": "application/json", accept };
            const answer = await fetch(server.endpoint, { method: "POST", headers, body });
            statuses.push([answer.status, (await errorOf(answer)).extensions]);
          }
        }
        return statuses;
      }),
    );
    const code = { code: "BAD_USER_INPUT" };
    for (const answer of answers) expect(answer).toEqual([200, 200, 400, 400].map((status) => [status, code]));
  });

  test("a refusal keeps its code; anything unexpected is masked, and logged whole", async () => {
    await using server = await startTransport();
    const refused = await errorOf(await post(server.endpoint, "{ refused }", modern));
    expect(refused).toMatchObject({ message: "Another reply is being made.", extensions: { code: "SESSION_BUSY" } });
    expect(server.probe.logged).toEqual([]);
    const broken = await post(server.endpoint, '{ broken hello(name: "private words") }', modern);
    expect(broken.status).toBe(200);
    const error = await errorOf(broken);
    expect(error.extensions).toEqual({ code: "INTERNAL_SERVER_ERROR" });
    expect(JSON.stringify(error)).not.toContain("secret");
    expect(server.probe.logged).toHaveLength(1);
    const { fields } = server.probe.logged[0] ?? { fields: {} };
    expect((fields as { err: Error }).err.message).toBe("secret detail"); // what createMask logs
    expect(JSON.stringify(fields)).not.toContain("private words");
  });

  test("a client without access gets 401 and nothing is executed", async () => {
    const { ParleyError } = await import("../../src/conversation/errors.ts");
    await using server = await startTransport({
      authenticate({ headers }) {
        if (headers.get("authorization") !== "Bearer good") throw new ParleyError("UNAUTHENTICATED", "Sign in.");
        return { viewer: { ...anonymous, subject: "jim" }, expiresAt: null };
      },
    });
    const refused = await post(server.endpoint, "mutation { increment }", modern);
    expect(refused.status).toBe(401);
    expect((await errorOf(refused)).extensions).toEqual({ code: "UNAUTHENTICATED" });
    const answered = await post(server.endpoint, "mutation { increment }", { authorization: "Bearer good" });
    expect(await answered.json()).toEqual({ data: { increment: 1 } });
  });
});

describe("Accept", () => {
  const modern = "application/graphql-response+json";

  test.each([
    [null, "application/json"],
    ["*/*", "application/json"],
    ["application/*", "application/json"],
    [modern, modern],
    [`${modern}, application/json`, modern],
    [`application/json, ${modern}`, "application/json"],
    [`application/json;q=0.1, ${modern};q=0.9`, modern],
    [`application/json; q=0, ${modern}`, modern],
    [`${modern};q=0, */*;q=0.1`, "application/json"],
    [`application/json;q=0, application/*`, modern],
    [`application/json;charset=latin1, ${modern};charset=UTF-8`, modern],
    ["text/html, */*;q=0.8", "application/json"],
  ])("%s is answered with %s", async (accept, type) => {
    await using server = await startTransport();
    // A document that is new, one that is known, and one that is refused before it is validated.
    for (const query of ["{ hello }", "{ hello }", "{ hello"]) {
      const response = await post(server.endpoint, query, accept === null ? {} : { accept });
      expect(response.headers.get("content-type")).toBe(`${type}; charset=utf-8`);
    }
  });

  test.each(["text/html", "image/png", "application/json;q=0", "application/json;charset=latin1"])(
    "%s is answered with 406, and nothing is executed",
    async (accept) => {
      await using server = await startTransport();
      for (let i = 0; i < 2; i++) {
        const response = await post(server.endpoint, "mutation { increment }", { accept });
        expect(response.status).toBe(406);
        expect((await errorOf(response)).extensions).toEqual({ code: "BAD_REQUEST" });
      }
      expect(await (await post(server.endpoint, "mutation { increment }")).json()).toEqual({ data: { increment: 1 } });
    },
  );

  test("a client that accepts only one result gets deferred fields with the rest", async () => {
    await using server = await startTransport();
    server.probe.release();
    const query =
      "{ parts { now ...Later @defer ... @defer(if: true) { again: now } } } fragment Later on Parts { deferred }";
    for (let i = 0; i < 2; i++) {
      const response = await post(server.endpoint, query, { accept: "application/json" });
      expect(response.status).toBe(200);
      expect(await response.json()).toEqual({ data: { parts: { now: "now", deferred: "later", again: "now" } } });
    }
  });
});

describe("production", () => {
  test("tells the schema neither by introspection nor by suggestions, and has no GraphiQL", async () => {
    await using server = await startTransport({ production: true, graphiql: false });
    const introspected = await post(server.endpoint, "{ __schema { description } }", modern);
    expect((await errorOf(introspected)).extensions).toEqual({ code: "GRAPHQL_VALIDATION_FAILED" });
    const guessed = await errorOf(await post(server.endpoint, "{ helo }", modern));
    expect(guessed.message).toBe('Cannot query field "helo" on type "Query".');
    const page = await fetch(server.endpoint, { headers: { accept: "text/html" } });
    expect(page.status).toBe(406);
    expect((await fetch(server.url, { redirect: "manual" })).status).toBe(404);
  });

  test("both can be switched on", async () => {
    await using server = await startTransport({ production: true, introspection: true, graphiql: false });
    const introspected = await post(server.endpoint, "{ __schema { queryType { name } } }");
    expect(await introspected.json()).toEqual({ data: { __schema: { queryType: { name: "Query" } } } });
  });
});

test("GraphiQL comes whole from here, with the examples", async () => {
  await using server = await startTransport();
  const response = await fetch(server.url, { headers: { accept: "text/html" } });
  expect(response.url).toBe(server.endpoint);
  const page = await response.text();
  expect(page).toContain("subscription Live");
  expect(page).not.toMatch(/<script[^>]+src=|<link[^>]+href="https?:/);
});

test("the GraphiQL examples fit the schema", async () => {
  const { parse, validate } = await import("graphql");
  const { schema } = await import("../../src/graphql/schema.ts");
  const { graphiqlExamples } = await import("../../src/transport/http/pages/graphiql.ts");
  expect(validate(schema, parse(graphiqlExamples))).toEqual([]);
});

describe("CORS", () => {
  const origin = "https://chat.example";
  const local = "http://localhost:5173";
  const granted = (response: Response) => [
    response.headers.get("access-control-allow-origin"),
    response.headers.get("access-control-allow-credentials"),
  ];
  const preflight = (url: string, from: string) =>
    fetch(url, {
      method: "OPTIONS",
      headers: {
        origin: from,
        "access-control-request-method": "POST",
        "access-control-request-headers": "content-type, authorization",
      },
    });

  test("without a list in production there are no headers, and a preflight is refused", async () => {
    await using server = await startTransport({ production: true, graphiql: false });
    for (const from of [origin, local, server.url]) {
      for (const response of [
        await post(server.endpoint, "{ hello }", { origin: from }),
        await preflight(server.endpoint, from),
      ]) {
        expect([...response.headers.keys()].filter((name) => name.startsWith("access-control"))).toEqual([]);
        expect([200, 403]).toContain(response.status);
      }
      expect((await preflight(server.endpoint, from)).status).toBe(403);
    }
  });

  test("without a list in development this machine's pages have them, as they have a WebSocket", async () => {
    await using server = await startTransport();
    for (const from of [local, "https://localhost", "http://127.0.0.1:8080", "http://[::1]:3000"]) {
      expect(granted(await post(server.endpoint, "{ hello }", { origin: from }))).toEqual([from, "true"]);
      const allowed = await preflight(server.endpoint, from);
      expect([allowed.status, ...granted(allowed)]).toEqual([204, from, "true"]);
      expect(allowed.headers.get("access-control-allow-headers")).toBe("content-type, authorization");
      // What is wrong is told to the page, too.
      expect(granted(await post(server.endpoint, "{ hello", { origin: from }))).toEqual([from, "true"]);
    }
    for (const from of [origin, "null", "http://localhost.evil.example", "http://evil.example/localhost", ""]) {
      const response = await post(server.endpoint, "{ hello }", { origin: from });
      expect([from, ...granted(response), response.headers.get("vary")]).toEqual([from, null, null, "origin"]);
      expect((await preflight(server.endpoint, from)).status).toBe(403);
    }
  });

  test("a listed origin is echoed, another is not, also one of this machine", async () => {
    await using server = await startTransport({ allowedOrigins: [origin] });
    const allowed = await post(server.endpoint, "{ hello }", { origin });
    expect(granted(allowed)).toEqual([origin, "true"]);
    expect(allowed.headers.get("vary")).toContain("origin");
    for (const from of ["https://evil.example", local]) {
      expect(granted(await post(server.endpoint, "{ hello }", { origin: from }))).toEqual([null, null]);
    }
  });

  test("preflights", async () => {
    await using server = await startTransport({ allowedOrigins: [origin] });
    const allowed = await preflight(server.endpoint, origin);
    expect(allowed.status).toBe(204);
    expect(allowed.headers.get("access-control-allow-headers")).toBe("content-type, authorization");
    expect(allowed.headers.get("access-control-allow-methods")).toBe("GET, HEAD, POST, OPTIONS");
    expect((await preflight(server.endpoint, "https://evil.example")).status).toBe(403);
  });

  test("OPTIONS that is no preflight gets the allowed methods", async () => {
    await using server = await startTransport();
    const response = await fetch(server.endpoint, { method: "OPTIONS" });
    expect([response.status, response.headers.get("allow")]).toEqual([204, "GET, HEAD, POST, OPTIONS"]);
    // A 204 that has a length is none to strict proxies.
    expect(response.headers.get("content-length")).toBeNull();
  });
});

describe("HEAD", () => {
  // fetch asks for a connection of its own when it asks by HEAD.
  const ofTheMoment = ["date", "x-request-id", "connection", "keep-alive"];
  const headersOf = (response: Response) =>
    Object.fromEntries([...response.headers].filter(([name]) => !ofTheMoment.includes(name)));

  test.each([
    ["/", "text/html", 302],
    ["/graphql", "text/html", 200],
    ["/graphql?query={hello}", "application/json", 200],
    ["/graphql?query={hello", "application/graphql-response+json", 400],
    ["/graphql?query={hello}", "image/png", 406],
    ["/healthz", "*/*", 200],
    ["/readyz", "*/*", 200],
    ["/elsewhere", "*/*", 404],
  ])("%s with Accept: %s: what GET says, without its body", async (path, accept, status) => {
    await using server = await startTransport();
    const init = { headers: { accept }, redirect: "manual" } as const;
    const got = await fetch(`${server.url}${path}`, init);
    const asked = await fetch(`${server.url}${path}`, { ...init, method: "HEAD" });
    expect(asked.status).toBe(status);
    expect([asked.status, headersOf(asked)]).toEqual([got.status, headersOf(got)]);
    expect(await asked.text()).toBe("");
    const within = await server.transport.fetch(new Request(`${server.url}${path}`, { ...init, method: "HEAD" }));
    expect([within.status, within.body]).toEqual([status, null]);
  });

  test("HEAD of a stream opens no stream: the answer ends at once", async () => {
    await using server = await startTransport({ maxSocketsPerAddress: 1 });
    const url = `${server.endpoint}?query=${encodeURIComponent("subscription { ticks { text } }")}`;
    for (const accept of ["text/event-stream", "multipart/mixed;subscriptionSpec=1.0"]) {
      const response = await fetch(url, { method: "HEAD", headers: { accept } });
      expect([response.status, await response.text()]).toEqual([200, ""]);
      await server.probe.source.returned;
      await server.transport.fetch(new Request(url, { method: "HEAD", headers: { accept } }));
    }
  });
});

describe("GraphiQL's page", () => {
  const page = (server: TestServer, encoding: string | null, method = "GET") =>
    new Promise<{ headers: IncomingHttpHeaders; body: Buffer }>((resolve, reject) => {
      const headers = { accept: "text/html", ...(encoding === null ? {} : { "accept-encoding": encoding }) };
      const asked = request(server.endpoint, { method, headers }, (response) => {
        const parts: Buffer[] = [];
        response.on("data", (part: Buffer) => parts.push(part));
        response.on("end", () => resolve({ headers: response.headers, body: Buffer.concat(parts) }));
      });
      asked.on("error", reject).end();
    });

  test("goes out compressed to clients that accept gzip, and as it is to others", async () => {
    await using server = await startTransport();
    const plain = await page(server, null);
    expect([plain.headers["content-encoding"], plain.headers.vary]).toEqual([undefined, "origin, accept-encoding"]);
    for (const encoding of ["gzip", "gzip, deflate, br, zstd", "br;q=1.0, gzip;q=0.8, *;q=0.1", "*"]) {
      const { headers, body } = await page(server, encoding);
      expect([headers["content-encoding"], headers["content-length"]]).toEqual(["gzip", String(body.length)]);
      expect(body.length).toBeLessThan(plain.body.length / 3);
      expect(gunzipSync(body).equals(plain.body)).toBe(true);
      expect(headers["content-security-policy"]).toBe(plain.headers["content-security-policy"]);
    }
    for (const encoding of ["br", "gzip;q=0", "identity", "*;q=0", "xgzip"]) {
      expect((await page(server, encoding)).headers["content-encoding"]).toBeUndefined();
    }
    const head = await page(server, "gzip", "HEAD");
    expect([head.headers["content-encoding"], head.body.length]).toEqual(["gzip", 0]);
  });
});

test.each([
  ["chat.example", 200],
  ["chat.example:8080", 200],
  ["localhost", 200],
  ["app.localhost", 200],
  ["10.0.0.7:4000", 200],
  ["[::1]:4000", 200],
  ["page.example", 200],
  ["evil.example", 403],
  ["chat.example.evil.example", 403],
])("with ALLOWED_HOSTS, a request with the host %s gets %i", async (host, status) => {
  const lists = { allowedHosts: ["chat.example"], allowedOrigins: ["https://page.example"] };
  await using server = await startTransport(lists);
  const answers = [];
  for (const path of ["/healthz", "/graphql?query={hello}"]) {
    const [response] = (await once(get(server.url + path, { headers: { host } }), "response")) as [IncomingMessage];
    answers.push(response.statusCode);
    response.resume();
  }
  expect(answers).toEqual([status, status]);
  const upgrading = openRaw(server.endpoint, ["graphql-transport-ws"], { host });
  if (status === 403) await expect(upgrading).rejects.toThrow("403");
  else (await upgrading).socket.terminate();
});

describe("health", () => {
  test("ready, not ready, and a check that fails", async () => {
    const states = [
      () => Promise.resolve({ ok: false, reason: "Redis is away" }),
      () => Promise.reject(new Error("x")),
    ];
    await using ready = await startTransport();
    expect(await (await fetch(`${ready.url}/healthz`)).json()).toEqual({ status: "ok" });
    expect((await fetch(`${ready.url}/readyz`)).status).toBe(200);
    const reasons: unknown[] = [];
    for (const state of states) {
      await using server = await startTransport({ ready: state });
      const response = await fetch(`${server.url}/readyz`);
      expect(response.status).toBe(503);
      expect((await fetch(`${server.url}/healthz`)).status).toBe(200);
      reasons.push(await response.json());
    }
    expect(reasons).toEqual([
      { status: "unavailable", reason: "Redis is away" },
      { status: "unavailable", reason: "the readiness check failed" },
    ]);
  });

  test("while draining new clients are refused, running operations go on, and probes are answered", async () => {
    await using server = await startTransport();
    const running = post(server.endpoint, "{ parts { deferred } }");
    await post(server.endpoint, "{ hello }");
    server.transport.drain();
    // Each over a connection of its own, as probes come.
    const probe = async (path: string, init: RequestInit = {}): Promise<readonly unknown[]> => {
      const headers = { "content-type": "application/json", connection: "close" };
      const response = await fetch(server.url + path, { ...init, headers });
      return [response.status, response.headers.get("connection"), (await response.json()) as unknown];
    };
    expect(await probe("/healthz")).toEqual([200, "close", { status: "ok" }]);
    const unready = { status: "unavailable", reason: "shutting down" };
    expect(await probe("/readyz")).toEqual([503, "close", unready]);
    const operation = { method: "POST", body: `{"query":"{ hello }"}` };
    expect(await probe("/graphql", operation)).toMatchObject([
      503,
      "close",
      { errors: [{ extensions: { code: "OVERLOADED" } }] },
    ]);
    server.probe.release();
    expect(await (await running).json()).toEqual({ data: { parts: { deferred: "later" } } });
  });
});
