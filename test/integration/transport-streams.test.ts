import { once } from "node:events";
import { connect } from "node:net";

import { describe, expect, test } from "vitest";

import { ParleyError } from "../../src/conversation/errors.ts";
import { post, startTransport } from "../support/transport-server.ts";

const sse = { accept: "text/event-stream" };
const ticks = "subscription { ticks { text } }";

/** Reads a stream up to where `text` has come. */
async function readUntil(reader: ReadableStreamDefaultReader<Uint8Array>, text: string): Promise<string> {
  const decoder = new TextDecoder();
  let read = "";
  while (!read.includes(text)) {
    const { value, done } = await reader.read();
    if (done) throw new Error(`The stream ended before ${JSON.stringify(text)}: ${JSON.stringify(read)}`);
    read += decoder.decode(value, { stream: true });
  }
  return read;
}

function readerOf(response: Response): ReadableStreamDefaultReader<Uint8Array> {
  if (response.body === null) throw new Error("The response has no body.");
  return response.body.getReader();
}

describe("@defer", () => {
  test("the first part comes at once, the rest when it is there", async () => {
    await using server = await startTransport();
    const response = await post(server.endpoint, "{ parts { now ... @defer { deferred } } }", {
      accept: "multipart/mixed",
    });
    expect(response.headers.get("content-type")).toBe('multipart/mixed; boundary="-"');
    const reader = readerOf(response);
    expect(await readUntil(reader, "hasNext")).toContain('{"data":{"parts":{"now":"now"}},"hasNext":true}');
    server.probe.release();
    const rest = await readUntil(reader, "-----");
    expect(rest).toContain('"incremental":[{"data":{"deferred":"later"},"path":["parts"]}]');
    expect((await reader.read()).done).toBe(true);
  });

  test("errors in later parts are masked and logged like all others", async () => {
    await using server = await startTransport();
    server.probe.release();
    const response = await post(server.endpoint, "{ parts { ... @defer { brokenLater } } }", {
      accept: "multipart/mixed",
    });
    const body = await response.text();
    expect(body).toContain('"extensions":{"code":"INTERNAL_SERVER_ERROR"}');
    expect(body).not.toContain("secret");
    expect(server.probe.logged).toHaveLength(1);
  });

  test("without @defer one waits for all", async () => {
    await using server = await startTransport();
    const asked = post(server.endpoint, "{ parts { now deferred } }");
    server.probe.release();
    expect(await (await asked).json()).toEqual({ data: { parts: { now: "now", deferred: "later" } } });
  });
});

describe("SSE", () => {
  test("events carry the cursor they can be resumed from as their id", async () => {
    await using server = await startTransport();
    const { source } = server.probe;
    source.push({ text: "no cursor yet" });
    source.push({ text: "one", cursor: "c1" });
    source.push({ text: "two", cursor: "c2" });
    source.end();
    const response = await post(server.endpoint, ticks, sse);
    expect(response.headers.get("content-type")).toContain("text/event-stream");
    expect(await response.text()).toBe(
      [
        ":\n\n",
        'event: next\ndata: {"data":{"ticks":{"text":"no cursor yet"}}}\n\n',
        'id: c1\nevent: next\ndata: {"data":{"ticks":{"text":"one"}}}\n\n',
        'id: c2\nevent: next\ndata: {"data":{"ticks":{"text":"two"}}}\n\n',
        "event: complete\ndata:\n\n",
      ].join(""),
    );
    expect(server.probe.lastEventId).toBeNull();
  });

  test("Last-Event-ID reaches the subscription, by GET as EventSource sends it", async () => {
    await using server = await startTransport();
    server.probe.source.end();
    const url = `${server.endpoint}?query=${encodeURIComponent(ticks)}`;
    await (await fetch(url, { headers: { ...sse, "last-event-id": "c41" } })).text();
    expect(server.probe.lastEventId).toBe("c41");
  });

  test("nothing is pulled before its reader asks for it", async () => {
    await using server = await startTransport();
    const { source } = server.probe;
    for (const text of ["one", "two", "three"]) source.push({ text });
    const request = new Request(server.endpoint, {
      method: "POST",
      headers: { "content-type": "application/json", ...sse },
      body: JSON.stringify({ query: ticks }),
    });
    const reader = readerOf(await server.transport.fetch(request));
    await readUntil(reader, "one");
    expect(source.taken).toBe(1);
    await reader.cancel();
    await source.returned;
  });

  test("a client that goes away ends the source at once, also while it waits", async () => {
    await using server = await startTransport();
    const leaving = new AbortController();
    const response = await fetch(server.endpoint, {
      method: "POST",
      headers: { "content-type": "application/json", ...sse },
      body: JSON.stringify({ query: ticks }),
      signal: leaving.signal,
    });
    await readUntil(readerOf(response), ":\n\n");
    leaving.abort();
    await server.probe.source.returned;
  });

  test("a quiet stream is kept alive with comments", async () => {
    await using server = await startTransport({ keepAliveMs: 20 });
    const reader = readerOf(await post(server.endpoint, ticks, sse));
    expect(await readUntil(reader, ":\n\n:\n\n:\n\n")).toBe(":\n\n:\n\n:\n\n");
    await reader.cancel();
  });

  test("a refusal on the way ends the stream with its code, masked where it is none", async () => {
    for (const [failure, code] of [
      [new ParleyError("CURSOR_EXPIRED", "The history was reset."), "CURSOR_EXPIRED"],
      [new Error("secret detail"), "INTERNAL_SERVER_ERROR"],
    ] as const) {
      await using server = await startTransport();
      server.probe.source.push({ text: "one" });
      server.probe.source.fail(failure);
      const body = await (await post(server.endpoint, ticks, sse)).text();
      expect(body).toContain(`"extensions":{"code":"${code}"}`);
      expect(body).toContain("event: complete");
      expect(body).not.toContain("secret");
    }
  });

  test("a subscription that is refused, and a query, are one event", async () => {
    await using server = await startTransport();
    const refused = await (await post(server.endpoint, "subscription { missing }", sse)).text();
    expect(refused).toContain('"extensions":{"code":"NOT_FOUND"}');
    expect(refused).toContain("event: complete");
    const asked = await (await post(server.endpoint, "{ hello }", sse)).text();
    expect(asked).toContain('event: next\ndata: {"data":{"hello":"Hello world"}}\n\nevent: complete');
  });

  test("a client that accepts no stream gets 406, and no source is opened", async () => {
    await using server = await startTransport();
    const response = await post(server.endpoint, ticks, { accept: "application/json" });
    expect(response.status).toBe(406);
    expect(await response.json()).toMatchObject({ errors: [{ extensions: { code: "BAD_REQUEST" } }] });
    expect(server.probe.lastEventId).toBeUndefined();
  });

  test("closing cuts the stream off without `complete`, so that clients reconnect", async () => {
    await using server = await startTransport();
    server.probe.source.push({ text: "one" });
    const response = await post(server.endpoint, ticks, sse);
    const waiting = post(server.endpoint, "{ waiting }");
    const reader = readerOf(response);
    await readUntil(reader, "one");
    await server.probe.waiting;
    const closed = server.transport.close();
    expect((await reader.read()).done).toBe(true);
    expect(await (await waiting).json()).toEqual({ data: { waiting: "as far as it went" } });
    await server.probe.source.returned;
    await closed;
  });

  test("a reader that stops reading is cut off, and its source was pulled no further than it read", async () => {
    await using server = await startTransport({ slowReaderMs: 100 });
    const { source } = server.probe;
    const text = "x".repeat(1024 * 1024);
    for (let i = 0; i < 100; i += 1) source.push({ text });
    const { hostname, port } = new URL(server.url);
    const socket = connect(Number(port), hostname);
    await once(socket, "connect");
    socket.pause();
    const query = encodeURIComponent(ticks);
    socket.write(`GET /graphql?query=${query} HTTP/1.1\r\nHost: x\r\nAccept: text/event-stream\r\n\r\n`);
    await source.returned;
    expect(source.taken).toBeLessThan(50);
    socket.destroy();
  });
});

test("a query ends with its client", async () => {
  await using server = await startTransport();
  const leaving = new AbortController();
  const asked = fetch(`${server.endpoint}?query={waiting}`, { signal: leaving.signal }).catch(
    (error: unknown) => error,
  );
  await server.probe.waiting;
  leaving.abort();
  await server.probe.aborted;
  expect(await asked).toBeInstanceOf(DOMException);
});
