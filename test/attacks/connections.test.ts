import { once } from "node:events";
import { connect, type Socket } from "node:net";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { WebSocket } from "ws";
import { spawnGateway, type GatewayProcess } from "../support/gateway/gateway.ts";
import { waitUntil } from "../support/redis/redis-command.ts";
import { startRedis, type TestRedis } from "../support/redis/redis-server.ts";
import { openAcknowledged } from "../support/gateway/transport-server.ts";
import { startWitness, type Witness } from "../support/redis/witness.ts";

let server: TestRedis;
let gateway: GatewayProcess;
let witness: Witness;
let port: number;

beforeAll(async () => {
  server = await startRedis({ appendonly: false });
  gateway = await spawnGateway({
    REDIS_URL: server.url,
    HEADERS_TIMEOUT_MS: "1000",
    REQUEST_TIMEOUT_MS: "2000",
    MAX_SOCKETS_PER_ADDRESS: "150",
    MAX_MESSAGES_PER_SECOND: "200",
    MAX_SUBSCRIPTIONS_PER_SOCKET: "50",
  });
  witness = await startWitness(gateway.url, "witness");
  port = Number(new URL(gateway.url).port);
});

afterAll(async () => {
  await witness.leave();
  await gateway.stop();
  await server.stop();
});

interface Raw {
  readonly socket: Socket;
  /** All that came so far. */
  readonly text: () => string;
  readonly closed: () => boolean;
}

async function open(): Promise<Raw> {
  const socket = connect(port, "127.0.0.1");
  let text = "";
  let closed = false;
  socket.setEncoding("latin1");
  socket.on("data", (chunk: string) => (text += chunk));
  socket.on("error", () => undefined);
  socket.once("close", () => (closed = true));
  await once(socket, "connect");
  return { socket, text: () => text, closed: () => closed };
}

/** What one connection gets for this, until the gateway closes it. */
async function exchange(bytes: string): Promise<string> {
  const raw = await open();
  raw.socket.write(bytes, "latin1");
  await waitUntil("it is closed, or open for good", () => Promise.resolve(raw.closed() || / 101 /.test(raw.text())));
  raw.socket.destroy();
  return raw.text();
}

const head = "POST /graphql HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n";

describe("connections that take their time are cut off, while others are served", () => {
  test.each([
    ["headers", "POST /graphql HTTP/1.1\r\nX-Slow: ", "a"],
    ["a body", `${head}Content-Length: 100000\r\n\r\n{"query":"`, "x"],
    ["chunks of a body", `${head}Transfer-Encoding: chunked\r\n\r\n`, "1\r\nx\r\n"],
  ])("%s", async (_what, beginning, piece) => {
    await witness.servedDuring(async () => {
      const all = await Promise.all(Array.from({ length: 100 }, open));
      for (const { socket } of all) socket.write(beginning);
      const drip = setInterval(() => {
        for (const { socket, closed } of all) if (!closed()) socket.write(piece);
      }, 100);
      await waitUntil("all are closed", () => Promise.resolve(all.every(({ closed }) => closed())));
      clearInterval(drip);
    });
  });
});

describe("requests that two parsers may read differently are refused", () => {
  test.each([
    ["both lengths", `${head}Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n`],
    ["two lengths", `${head}Content-Length: 4\r\nContent-Length: 5\r\n\r\n{}{}{`],
    ["a bare line feed in a chunk's size", `${head}Transfer-Encoding: chunked\r\n\r\n1\nx\r\n0\r\n\r\n`],
    ["a header's name with a space", "POST /graphql HTTP/1.1\r\nHost: localhost\r\nContent-Length : 2\r\n\r\n{}"],
    ["two hosts", `${head}Host: elsewhere\r\nContent-Length: 2\r\n\r\n{}`],
    ["headers without end", `GET /graphql HTTP/1.1\r\nHost: localhost\r\nX-Long: ${"x".repeat(100_000)}\r\n\r\n`],
  ])("%s", async (_what, bytes) => {
    expect(await exchange(bytes)).toMatch(/^HTTP\/1\.1 4\d\d /);
  });
});

describe("a request target is what it is, and a protocol that is not spoken is not there", () => {
  const body = '{"query":"{ __typename }"}';
  const ask = (target: string, more = "") =>
    exchange(
      `${head.replace("/graphql", target)}${more}${more.includes("Connection") ? "" : "Connection: close\r\n"}Content-Length: ${body.length}\r\n\r\n${body}`,
    );

  test("paths that a proxy in front reads otherwise are none", async () => {
    for (const target of ["/x/../graphql", "/./graphql", "/x/%2e%2e/graphql", "//graphql", "/%67raphql", "/graphql/"]) {
      expect(await ask(target), target).toMatch(/^HTTP\/1\.1 404 /);
    }
    for (const target of ["/x/../metrics", "/graphql/../metrics", "/graphql/..;/metrics"]) {
      const answer = await exchange(`GET ${target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n`);
      expect(answer, target).toMatch(/^HTTP\/1\.1 404 /);
    }
    expect(await ask("/graphql")).toContain('{"data":{"__typename":"Query"}}');
  });

  test("an offer of h2c, which Java's client makes, is passed over", async () => {
    const offer = "Connection: Upgrade, HTTP2-Settings, close\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n";
    expect(await ask("/graphql", offer)).toContain('{"data":{"__typename":"Query"}}');
  });
});

describe("floods of sockets", () => {
  test("upgrades that never say connection_init are closed; more than an address may have are refused", async () => {
    await witness.servedDuring(async () => {
      const ends: number[] = [];
      for (let i = 0; i < 300; i++) {
        const socket = new WebSocket(gateway.url.replace("http", "ws"), ["graphql-transport-ws"]);
        socket.on("error", () => undefined);
        socket.once("unexpected-response", (_request, { statusCode = 0 }) => {
          ends.push(statusCode);
          socket.terminate();
        });
        socket.once("close", (code) => ends.push(code));
      }
      await waitUntil("all have ended", () => Promise.resolve(ends.filter((end) => end !== 1006).length >= 300));
      expect(ends.filter((end) => end === 429).length).toBeGreaterThanOrEqual(150);
      expect(ends.filter((end) => end === 4408).length).toBeGreaterThan(0);
      expect(new Set(ends.filter((end) => end !== 1006))).toEqual(new Set([429, 4408]));
    });
  });

  test("subscriptions over the limit of a socket, and messages faster than they are read", async () => {
    const raw = await openAcknowledged(gateway.url);
    let refused = 0;
    // By id: who is let in hears of the witness's session, too.
    const served = new Set<unknown>();
    raw.socket.on("message", (data: Buffer) => {
      if (data.toString().includes("LIMIT_REACHED")) refused += 1;
      else served.add((JSON.parse(data.toString()) as { readonly id?: unknown }).id); // of a message of the protocol
    });
    await witness.servedDuring(async () => {
      const query = "subscription { sessionChanged { __typename } }";
      for (let i = 0; i < 2000; i++) raw.send({ id: `s${i}`, type: "subscribe", payload: { query } });
      for (let i = 0; i < 20_000; i++) raw.socket.ping();
      await waitUntil("most are refused", () => Promise.resolve(refused > 500));
      expect(served.size).toBeLessThanOrEqual(50);
    });
    raw.socket.terminate();
  });

  test("a WebSocket frame longer than a body may be closes its socket", async () => {
    const raw = await openAcknowledged(gateway.url);
    await witness.servedDuring(async () => {
      raw.socket.send("x".repeat(3_000_000));
      expect((await raw.closed).code).toBe(1009);
    });
  });
});

describe("what a name may not be made to mean", () => {
  const ask = (host: string, more = "") =>
    exchange(
      `${head.replace("localhost", host)}${more}Connection: close\r\nContent-Length: 26\r\n\r\n{"query":"{ __typename }"}`,
    );

  test("a page whose name resolves to this machine is a stranger here (DNS rebinding)", async () => {
    for (const host of ["evil.example", `evil.example:${port}`, "127.0.0.1.evil.example", "localhost.evil.example"]) {
      const answer = await ask(host, `Origin: http://${host}\r\n`);
      expect(answer).toMatch(/^HTTP\/1\.1 403 /);
      expect(answer).toContain("FORBIDDEN");
    }
    for (const host of ["localhost", `localhost:${port}`, "127.0.0.1", "[::1]:4000", "app.localhost"]) {
      expect(await ask(host)).toContain('{"data":{"__typename":"Query"}}');
    }
  });

  test("a request for a whole URL, as a proxy gets it, is one for its path, and names the host that its header names", async () => {
    const get = (target: string, host = "localhost") =>
      exchange(`GET ${target} HTTP/1.1\r\nHost: ${host}\r\nConnection: close\r\n\r\n`);
    expect(await get("http://localhost/healthz")).toMatch(/^HTTP\/1\.1 200 /);
    expect(await get("HTTP://LOCALHOST/graphql?query=%7B__typename%7D")).toContain('"__typename":"Query"');
    const [bare, root] = [await get("http://localhost"), await get("/")].map((answer) => answer.split("\r\n", 1)[0]);
    expect(bare).toBe(root);
    expect(await get("http://localhost/nothing")).toMatch(/^HTTP\/1\.1 404 /);
    for (const [target, host] of [
      ["http://localhost/healthz", "127.0.0.1"],
      ["http://evil.example/healthz", "localhost"],
      ["http://user@localhost/healthz", "localhost"],
    ] as const) {
      expect(await get(target, host)).toMatch(/^HTTP\/1\.1 400 /);
    }
    expect(await get("http://evil.example/healthz", "evil.example")).toMatch(/^HTTP\/1\.1 403 /);
  });

  test("nor may it open a WebSocket", async () => {
    const upgrade =
      "GET /graphql HTTP/1.1\r\nHost: evil.example\r\nOrigin: http://evil.example\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: graphql-transport-ws\r\n\r\n";
    expect(await exchange(upgrade)).toMatch(/^HTTP\/1\.1 403 /);
    expect(await exchange(upgrade.replaceAll("evil.example", `localhost:${port}`))).toMatch(/^HTTP\/1\.1 101 /);
  });

  test("a request id cannot add headers or lines to a log", async () => {
    expect(await ask("localhost", "X-Request-Id: a\u001b[2J\r\n")).toMatch(/^HTTP\/1\.1 400 /);
    const answer = await ask("localhost", "X-Request-Id: <script>a\r\n");
    expect(answer).toContain("HTTP/1.1 200");
    expect(/^x-request-id: (.*)$/im.exec(answer)?.[1]).toMatch(/^[\w-]{36}\r?$/);
    // eslint-disable-next-line no-control-regex -- that is what is looked for
    expect(gateway.output).not.toMatch(/\u001b\[2J|<script>/);
  });
});
