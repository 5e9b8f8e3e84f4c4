import { hash } from "node:crypto";
import { writeFile } from "node:fs/promises";
import { get } from "node:http";
import type { IncomingHttpHeaders } from "node:http";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { gunzipSync, gzipSync } from "node:zlib";

import { beforeAll, describe, expect, test } from "vitest";

import { buildConsole } from "../../scripts/build-console.ts";
import { unauthenticated } from "../../src/conversation/conversations/access.ts";
import { anonymous } from "../../src/conversation/session.ts";
import type { Authenticate } from "../../src/operations/identity.ts";
import { tokenOf } from "../../src/transport/auth/token.ts";
import { answerConsole, createConsolePage } from "../../src/transport/http/pages/console.ts";
import { openRaw, post, startTransport } from "../support/gateway/transport-server.ts";
import type { TestServer } from "../support/gateway/transport-server.ts";
import { temporaryDirectory } from "../support/redis/server-process.ts";

const always = {
  "x-content-type-options": "nosniff",
  "referrer-policy": "no-referrer",
  "x-frame-options": "DENY",
  "cross-origin-resource-policy": "same-origin",
};
const plainPolicy = "default-src 'none'; frame-ancestors 'none'";

function shown(response: Response): Record<string, string | null> {
  return Object.fromEntries(
    [...Object.keys(always), "content-security-policy", "cache-control"].map((name) => [
      name,
      response.headers.get(name),
    ]),
  );
}

type Ask = (server: TestServer) => Promise<Response>;
const json = { "content-type": "application/json" };
const stream = { ...json, accept: "text/event-stream" };
const body = JSON.stringify({ query: "{ hello }" });

test.each<[string, number, Ask]>([
  ["an answer by the whole way", 200, (server) => fetch(`${server.endpoint}?query={hello}`)],
  [
    "an answer by the short way",
    200,
    async (server) => {
      await (await post(server.endpoint, "{ hello }")).text();
      return await post(server.endpoint, "{ hello }");
    },
  ],
  ["a syntax error", 400, (server) => post(server.endpoint, "{", { accept: "application/graphql-response+json" })],
  ["a stream", 200, (server) => fetch(server.endpoint, { method: "POST", headers: stream, body })],
  [
    "a multipart answer",
    200,
    (server) => fetch(server.endpoint, { method: "POST", headers: { ...json, accept: "multipart/mixed" }, body }),
  ],
  ["a body that is too long", 413, (server) => post(server.endpoint, `{ hello } #${"x".repeat(5000)}`)],
  ["a wrong media type", 415, (server) => fetch(server.endpoint, { method: "POST", body: "x" })],
  ["a wrong method", 405, (server) => fetch(server.endpoint, { method: "DELETE" })],
  ["nothing there", 404, (server) => fetch(`${server.url}/elsewhere`)],
  ["the way to a page", 302, (server) => fetch(server.url, { redirect: "manual" })],
  ["/healthz", 200, (server) => fetch(`${server.url}/healthz`)],
  ["/readyz", 200, (server) => fetch(`${server.url}/readyz`)],
  [
    "fetch()",
    200,
    (server) => server.transport.fetch(new Request(server.endpoint, { method: "POST", headers: json, body })),
  ],
  [
    "a preflight",
    204,
    (server) =>
      fetch(server.endpoint, {
        method: "OPTIONS",
        headers: { origin: "https://chat.example", "access-control-request-method": "POST" },
      }),
  ],
])("%s (%d) carries all headers", async (_name, status, ask) => {
  await using server = await startTransport({ maxBodyBytes: 4000, allowedOrigins: ["https://chat.example"] });
  const response = await ask(server);
  expect(response.status).toBe(status);
  const { "cache-control": caching, ...headers } = shown(response);
  expect(headers).toEqual({ ...always, "content-security-policy": plainPolicy });
  expect(caching).toMatch(/^no-store/);
  expect(response.headers.get("strict-transport-security")).toBeNull();
  await response.body?.cancel();
});

test("a 401 has all security headers too", async () => {
  await using server = await startTransport({
    authenticate() {
      throw unauthenticated();
    },
  });
  const response = await post(server.endpoint, "{ hello }");
  expect(response.status).toBe(401);
  expect(shown(response)).toEqual({ ...always, "content-security-policy": plainPolicy, "cache-control": "no-store" });
});

test("a failure of the gateway's own has them, and says nothing", async () => {
  await using server = await startTransport({
    metrics: { text: () => Promise.reject(new Error("secret")), contentType: "text/plain", token: null },
  });
  const response = await fetch(`${server.url}/metrics`);
  expect([response.status, await response.text()]).toEqual([500, ""]);
  expect(shown(response)).toEqual({ ...always, "content-security-policy": plainPolicy, "cache-control": "no-store" });
});

test("Strict-Transport-Security where it is configured", async () => {
  await using server = await startTransport({ hstsSeconds: 31_536_000 });
  for (const url of [`${server.url}/healthz`, server.endpoint]) {
    const response = await fetch(url, { headers: { accept: "text/html" } });
    expect(response.headers.get("strict-transport-security")).toBe("max-age=31536000");
    await response.body?.cancel();
  }
});

describe("GraphiQL's page", () => {
  test("may run the scripts that it brings, and no other", async () => {
    await using server = await startTransport();
    const response = await fetch(server.endpoint, { headers: { accept: "text/html" } });
    const html = await response.text();
    const policy = response.headers.get("content-security-policy") ?? "";
    const [, allowed = ""] = /script-src ([^;]*);/.exec(policy) ?? [];
    const scripts = [...html.matchAll(/<script[^>]*>([\s\S]*?)<\/script>/g)].map(
      ([, script = ""]) => `'sha256-${hash("sha256", script, "base64")}'`,
    );
    expect(scripts.length).toBeGreaterThan(0);
    expect(allowed.split(" ")).toEqual(scripts);
    const host = new URL(server.url).host;
    expect(policy).toContain(`connect-src 'self' ws://${host} wss://${host};`);
    expect(policy).toContain("default-src 'none'");
    expect(policy).toContain("frame-ancestors 'none'");
    expect(shown(response)).toMatchObject(always);
  });

  test("a Host header adds nothing but itself", async () => {
    await using server = await startTransport();
    for (const host of ["evil.example; script-src *", "a, b", "a b"]) {
      const request = new Request("http://localhost/graphql", { headers: { accept: "text/html" } });
      const headers = new Headers(request.headers);
      headers.set("host", host);
      const response = await server.transport.fetch(new Request(request, { headers }));
      expect(response.headers.get("content-security-policy")).toContain("connect-src 'self'; base-uri 'none'");
      await response.body?.cancel();
    }
  });
});

describe("the console's page", () => {
  beforeAll(buildConsole);

  test("may use its script and its style, writes no HTML from text, and asks nobody but this gateway", async () => {
    await using server = await startTransport({ console: true });
    const response = await fetch(`${server.url}/console`);
    const html = await response.text();
    const hashOf = (element: string) => {
      const [, text = ""] = new RegExp(`<${element}>([^]*?)</${element}>`).exec(html) ?? [];
      return `'sha256-${hash("sha256", text, "base64")}'`;
    };
    const host = new URL(server.url).host;
    expect(shown(response)).toEqual({
      ...always,
      "cache-control": "no-store",
      "content-security-policy": [
        "default-src 'none'",
        `script-src ${hashOf("script")}`,
        `style-src ${hashOf("style")}`,
        "img-src data:",
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",
        `connect-src 'self' ws://${host} wss://${host}`,
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
      ].join("; "),
    });
    expect(response.headers.get("cross-origin-opener-policy")).toBe("same-origin");
    // Nothing of it comes from elsewhere.
    expect(html.replace(/<(script|style)>[^]*?<\/\1>/g, "")).not.toMatch(/(src|href)="(?!data:)/);
  });

  test("is one document of at most 45 KB on the wire, and knows where GraphiQL is", async () => {
    await using server = await startTransport({ console: true });
    const { headers, body } = await new Promise<{ headers: IncomingHttpHeaders; body: Buffer }>((resolve, reject) => {
      get(`${server.url}/console`, { headers: { "accept-encoding": "gzip" } }, (response) => {
        const parts: Buffer[] = [];
        response.on("data", (part: Buffer) => parts.push(part));
        response.on("end", () => resolve({ headers: response.headers, body: Buffer.concat(parts) }));
      }).on("error", reject);
    });
    expect(headers["content-encoding"]).toBe("gzip");
    const html = gunzipSync(body);
    expect(gzipSync(html, { level: 9 }).length).toBeLessThanOrEqual(45 * 1024);
    expect(html.toString()).toContain('<html lang="en" data-endpoint="/graphql" data-graphiql="on">');
  });

  test("is where / leads; without it GraphiQL is, and without both there is nothing", async () => {
    const at = async (pages: { readonly console: boolean; readonly graphiql: boolean }) => {
      await using server = await startTransport(pages);
      const start = await fetch(server.url, { redirect: "manual" });
      const page = await fetch(`${server.url}/console`);
      await page.body?.cancel();
      return [start.status, start.headers.get("location"), page.status];
    };
    expect(await at({ console: true, graphiql: true })).toEqual([302, "/console", 200]);
    expect(await at({ console: true, graphiql: false })).toEqual([302, "/console", 200]);
    expect(await at({ console: false, graphiql: true })).toEqual([302, "/graphql", 404]);
    expect(await at({ console: false, graphiql: false })).toEqual([404, null, 404]);
  });

  test("is got by GET and HEAD", async () => {
    await using server = await startTransport({ console: true });
    const head = await fetch(`${server.url}/console`, { method: "HEAD" });
    expect([head.status, head.headers.get("content-type"), await head.text()]).toEqual([
      ...[200, "text/html; charset=utf-8", ""],
    ]);
    const post = await fetch(`${server.url}/console`, { method: "POST" });
    expect([post.status, post.headers.get("allow")]).toEqual([405, "GET, HEAD"]);
  });

  test("that was not built says how to build it, until it is there", async () => {
    const folder = await temporaryDirectory();
    const file = join(folder, "console.html");
    const page = createConsolePage(false, pathToFileURL(file));
    const missing = await answerConsole(page, "GET");
    expect([missing.status, await missing.text()]).toEqual([
      ...[503, "The console is not built yet. In the checkout, run: npm run build:console\n"],
    ]);
    await writeFile(file, '<html lang="en"></html>');
    const there = await answerConsole(page, "GET");
    expect(await there.text()).toBe('<html lang="en" data-endpoint="/graphql" data-graphiql="off"></html>');
  });
});

describe("the cookie that holds a token", () => {
  const byCookie: Authenticate = (credentials) => {
    if (tokenOf(credentials, "token") !== "good") throw unauthenticated();
    return { viewer: anonymous, expiresAt: null };
  };
  const cookie = "other=1; token=good";

  /** What fetch() of Node refuses to set. */
  const ask = async (server: TestServer, headers: Record<string, string>, method = "POST") => {
    const url = method === "GET" ? `${server.endpoint}?query={hello}` : server.endpoint;
    const given = new Headers({ ...json, ...headers });
    const incoming = {
      method,
      url,
      headers: given,
      body: method === "POST" ? new Blob([body]).stream() : null,
      signal: new AbortController().signal,
    };
    // As much of a Request as fetch() asks for.
    return (await server.transport.fetch(incoming as unknown as Request)).status;
  };

  test("counts for pages of the own origin and of the listed ones alone", async () => {
    await using server = await startTransport({
      production: true,
      graphiql: false,
      allowedOrigins: ["https://chat.example"],
      authenticate: byCookie,
    });
    const host = "api.example";
    expect(await ask(server, { cookie, origin: "https://chat.example", host })).toBe(200);
    expect(await ask(server, { cookie, origin: "https://api.example", host })).toBe(200);
    for (const origin of [
      "https://evil.example",
      "null",
      "http://localhost:3000",
      "https://chat.example.evil.example",
    ]) {
      expect([origin, await ask(server, { cookie, origin, host })]).toEqual([origin, 401]);
    }
    // No page: a program shows its token in the header.
    expect(await ask(server, { cookie, host })).toBe(401);
    expect(await ask(server, { authorization: "Bearer good", host })).toBe(200);
    expect(await ask(server, { cookie: "token=bad", origin: "https://chat.example", host })).toBe(401);
    // Another scheme beside it is no token, and the cookie is no way around it.
    expect(await ask(server, { cookie, authorization: "Basic good", origin: "https://chat.example", host })).toBe(401);
  });

  test("by GET browsers name no origin, but say whether the page is of the same one", async () => {
    await using server = await startTransport({ production: true, graphiql: false, authenticate: byCookie });
    expect(await ask(server, { cookie, "sec-fetch-site": "same-origin" }, "GET")).toBe(200);
    for (const site of ["cross-site", "same-site", "none"]) {
      expect([site, await ask(server, { cookie, "sec-fetch-site": site }, "GET")]).toEqual([site, 401]);
    }
    const crossing = { cookie, "sec-fetch-site": "same-origin", origin: "https://evil.example" };
    expect(await ask(server, crossing, "GET")).toBe(401);
  });

  test("of a WebSocket: an upgrade from an unknown page is refused, without a page the cookie does not count", async () => {
    await using server = await startTransport({
      production: true,
      graphiql: false,
      allowedOrigins: ["https://chat.example"],
      authenticate: byCookie,
    });
    const open = (headers: Record<string, string>) => openRaw(server.endpoint, ["graphql-transport-ws"], headers);
    await expect(open({ cookie, origin: "https://evil.example" })).rejects.toThrow("403");
    const known = await open({ cookie, origin: "https://chat.example" });
    known.send({ type: "connection_init" });
    expect((await known.receive())["type"]).toBe("connection_ack");
    const program = await open({ cookie });
    program.send({ type: "connection_init" });
    expect((await program.closed).code).toBe(4401);
  });
});
