import { once } from "node:events";
import { connect } from "node:net";
import type { Socket } from "node:net";

import { GraphQLObjectType, GraphQLSchema, GraphQLString } from "graphql";
import { expect, test } from "vitest";

import { waitUntil } from "../support/redis/redis-command.ts";
import { startTransport } from "../support/gateway/transport-server.ts";
import type { TestServer } from "../support/gateway/transport-server.ts";

/** As `count` requests in one go, without waiting for answers. */
const get = (query: string, count = 1) => `GET /graphql?query=${query} HTTP/1.1\r\nHost: x\r\n\r\n`.repeat(count);

function post(body: string): string {
  return `POST /graphql HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: ${body.length}\r\n\r\n${body}`;
}

async function open({ url }: TestServer): Promise<Socket> {
  const socket = connect(Number(new URL(url).port), "127.0.0.1").on("error", () => undefined);
  await once(socket, "connect");
  return socket;
}

test("a client that pipelines requests with small answers and reads none is cut off, and the rest of them is not executed", async () => {
  let executed = 0;
  const text = "x".repeat(60_000);
  const resolve = () => {
    executed += 1;
    return text;
  };
  const Query = new GraphQLObjectType({ name: "Query", fields: { text: { type: GraphQLString, resolve } } });
  const schema = new GraphQLSchema({ query: Query });
  // It has the only place until then, and no other limit ends it.
  const limits = { maxConnections: 1, headersTimeoutMs: 3_600_000, requestTimeoutMs: 3_600_000 };
  await using server = await startTransport({ schema, slowReaderMs: 200, ...limits });
  const socket = await open(server);
  socket.pause();
  socket.write(get("{text}", 2000));
  await waitUntil("there is room", async () => (await fetch(`${server.url}/healthz`).catch(() => null))?.ok === true);
  expect(executed).toBeGreaterThan(0);
  // What lies in the network between: without turns it is what 64 KiB ask for at least, 1300 of them.
  expect(executed).toBeLessThan(600);
  socket.destroy();
});

test("requests that come before their turn are executed one after another, and each is answered", async () => {
  await using server = await startTransport();
  const socket = await open(server);
  let text = "";
  socket.setEncoding("utf8").on("data", (data: string) => (text += data));
  const counts = () => [...text.matchAll(/"increment":(\d+)\}/g)].map(([, count]) => Number(count));
  const filler = "x".repeat(1000);
  // Some in one reading of the network, many over several.
  const one = post(JSON.stringify({ query: "mutation { increment }", extensions: { filler } }));
  socket.write(one.repeat(500));
  await waitUntil("all are answered", () => Promise.resolve(counts().length >= 500));
  socket.write(one);
  await waitUntil("the next is", () => Promise.resolve(counts().length >= 501));
  expect(counts()).toEqual(Array.from({ length: 501 }, (_, i) => i + 1));
  socket.destroy();
});

test("64 KiB behind a slow answer are answered behind it, whatever time a request may take to arrive", async () => {
  await using server = await startTransport({ headersTimeoutMs: 300, requestTimeoutMs: 300 });
  const socket = await open(server);
  let text = "";
  socket.setEncoding("utf8").on("data", (data: string) => (text += data));
  const one = post(JSON.stringify({ query: "mutation { increment }", extensions: { filler: "x".repeat(1000) } }));
  const count = Math.ceil(65_536 / one.length);
  socket.write(post(`{"query":"{ parts { deferred } }"}`) + one.repeat(count));
  // Node looks for requests that take too long each time that another connection's has: twice, with one to spare.
  for (let i = 0; i < 3; i++) {
    const other = await open(server);
    other.write("POST /graphql HTTP/1.1\r\n");
    await once(other.resume(), "close");
  }
  expect(text).toBe("");
  server.probe.release();
  await waitUntil("all are answered", () => Promise.resolve(text.includes(`"increment":${count}}`)));
  expect([...text.matchAll(/HTTP\/1\.1 (\d+)/g)].map(([, status]) => status)).toEqual(Array(count + 1).fill("200"));
  expect(text.indexOf("later")).toBeLessThan(text.indexOf(`"increment":1}`));
  socket.destroy();
});

test("while requests wait for their turn, what follows them stays in the network", async () => {
  await using server = await startTransport();
  const socket = await open(server);
  socket.write(get("{waiting}"));
  await server.probe.waiting;
  const one = post(JSON.stringify({ query: "{ hello }", extensions: { filler: "x".repeat(50_000) } }));
  let sent = 0;
  for (let i = 0; i < 1000; i++) socket.write(one, (error) => (sent += error == null ? 1 : 0));
  // Time enough to read all of it.
  for (let i = 0; i < 100; i++) await fetch(`${server.url}/healthz`);
  expect(sent).toBeLessThan(500);
  socket.destroy();
});
