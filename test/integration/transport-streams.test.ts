import { once } from "node:events";
import { connect } from "node:net";

import { describe, expect, test } from "vitest";

import { ParleyError } from "../../src/conversation/errors.ts";
import { post, startTransport } from "../support/gateway/transport-server.ts";

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

async function restOf(reader: ReadableStreamDefaultReader<Uint8Array>): Promise<string> {
  let read = "";
  for (let next = await reader.read(); !next.done; next = await reader.read())
    read += Buffer.from(next.value).toString();
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
});

const spec = "multipart/mixed;subscriptionSpec=1.0";
/** As Apollo Client's HttpLink sends it. */
const apollo = {
  accept: `multipart/mixed;boundary=graphql;subscriptionSpec=1.0,application/graphql-response+json,application/json;q=0.9`,
};

/** A part of a subscription's stream, with the boundary behind it. */
const part = (json: string) => `\r\nContent-Type: application/json\r\n\r\n${json}\r\n--graphql`;

describe("multipart subscriptions", () => {
  test("events are payloads with the cursor they can be resumed from, behind a heartbeat", async () => {
    await using server = await startTransport();
    const { source } = server.probe;
    source.push({ text: "no cursor yet" });
    source.push({ text: "one", cursor: "c1" });
    source.end();
    const response = await post(server.endpoint, ticks, apollo);
    expect(response.status).toBe(200);
    // Apollo iOS looks for the specification in the type, and for these very headers in the parts.
    expect(response.headers.get("content-type")).toBe('multipart/mixed;boundary="graphql";subscriptionSpec=1.0');
    expect(await response.text()).toBe(
      [
        "\r\n--graphql",
        part("{}"),
        part('{"payload":{"data":{"ticks":{"text":"no cursor yet"}}}}'),
        part('{"payload":{"data":{"ticks":{"text":"one"}},"extensions":{"lastEventId":"c1"}}}'),
        "--\r\n",
      ].join(""),
    );
  });

  test("Last-Event-ID reaches the subscription, by POST and by GET", async () => {
    await using server = await startTransport();
    server.probe.source.end();
    await (await post(server.endpoint, ticks, { ...apollo, "last-event-id": "c41" })).text();
    expect(server.probe.lastEventId).toBe("c41");
    const url = `${server.endpoint}?query=${encodeURIComponent(ticks)}`;
    await (await fetch(url, { headers: { ...apollo, "last-event-id": "c42" } })).text();
    expect(server.probe.lastEventId).toBe("c42");
  });

  test("a quiet stream is kept alive with heartbeats", async () => {
    await using server = await startTransport({ keepAliveMs: 20 });
    const reader = readerOf(await post(server.endpoint, ticks, apollo));
    const beats = part("{}").repeat(3);
    expect(await readUntil(reader, beats)).toBe(`\r\n--graphql${beats}`);
    await reader.cancel();
  });

  test("what ends the stream on the way stands beside an empty payload, masked where it is no refusal", async () => {
    for (const [failure, code] of [
      [new ParleyError("CURSOR_EXPIRED", "The history was reset."), "CURSOR_EXPIRED"],
      [new Error("secret detail"), "INTERNAL_SERVER_ERROR"],
    ] as const) {
      await using server = await startTransport();
      server.probe.source.push({ text: "one" });
      server.probe.source.fail(failure);
      const body = await (await post(server.endpoint, ticks, apollo)).text();
      expect(body).toContain(part('{"payload":{"data":{"ticks":{"text":"one"}}}}'));
      expect(body).toMatch(new RegExp(`\\{"payload":null,"errors":\\[.*"extensions":\\{"code":"${code}"\\}`));
      expect(body.endsWith("\r\n--graphql--\r\n")).toBe(true);
      expect(body).not.toContain("secret");
    }
  });

  test("a client that accepts this form alone gets a refusal, an invalid document and a query in it", async () => {
    await using server = await startTransport();
    for (const [query, json] of [
      ["subscription { missing }", /^\{"payload":null,"errors":\[.*"code":"NOT_FOUND"\}\}\]\}$/],
      ["subscription { nothing }", /^\{"payload":null,"errors":\[.*"code":"GRAPHQL_VALIDATION_FAILED"\}\}\]\}$/],
      ["{ hello }", /^\{"payload":\{"data":\{"hello":"Hello world"\}\}\}$/],
    ] as const) {
      const response = await post(server.endpoint, query, { accept: spec });
      expect(response.headers.get("content-type")).toContain("subscriptionSpec=1.0");
      const [, , heartbeat, , , event, rest] = (await response.text()).split("\r\n").filter((line) => line !== "");
      expect([heartbeat, rest]).toEqual(["{}", "--graphql--"]);
      expect(event).toMatch(json);
    }
  });

  test("they count as streams: one too many is refused, and a place is free when one ends", async () => {
    await using server = await startTransport({ maxSocketsPerAddress: 1 });
    const first = readerOf(await post(server.endpoint, ticks, apollo));
    await readUntil(first, "{}");
    const second = await post(server.endpoint, ticks, apollo);
    expect([second.status, second.headers.get("content-type")]).toEqual([
      429,
      "application/graphql-response+json; charset=utf-8",
    ]);
    await first.cancel();
    await server.probe.source.returned;
    await expect.poll(async () => (await post(server.endpoint, "{ hello }", apollo)).status).toBe(200);
  });
});

describe("a subscription that is refused", () => {
  test.each([
    ["NOT_FOUND", 404],
    ["CURSOR_EXPIRED", 410],
    ["INVALID_CURSOR", 400],
    ["BAD_USER_INPUT", 400],
    ["LIMIT_REACHED", 429],
    ["STORE_UNAVAILABLE", 503],
    ["INTERNAL_SERVER_ERROR", 500],
  ] as const)("has the status of its code where it is one result: %s %i", async (code, status) => {
    await using server = await startTransport();
    server.probe.refuseWith(code);
    for (const accept of ["*/*", apollo.accept, "application/json, text/event-stream"]) {
      const response = await post(server.endpoint, "subscription { missing }", { accept });
      const { errors } = (await response.json()) as { errors: object[] };
      expect([accept, response.status, errors]).toMatchObject([accept, status, [{ extensions: { code } }]]);
      expect(errors).toMatchObject([{ path: ["missing"] }]);
    }
    // A stream is there to be read: EventSource tells nothing of a body whose status is not 200.
    const streamed = await post(server.endpoint, "subscription { missing }", sse);
    expect([streamed.status, await streamed.text()]).toEqual([200, expect.stringContaining(`"code":"${code}"`)]);
  });
});

describe("how a subscription is streamed", () => {
  const sse = "text/event-stream; charset=utf-8";
  const multipart = 'multipart/mixed;boundary="graphql";subscriptionSpec=1.0';
  test.each([
    ["multipart/mixed;subscriptionSpec=1.0", multipart],
    ['multipart/mixed;boundary="graphql";subscriptionSpec="1.0", application/json', multipart], // Apollo iOS
    ["multipart/mixed; boundary=graphql; subscriptionSpec=1.0, application/graphql-response+json", multipart], // Kotlin
    ["Multipart/Mixed;SUBSCRIPTIONSPEC=1.0", multipart],
    ["multipart/mixed;subscriptionSpec=1.0, */*", multipart],
    ['multipart/mixed;boundary=",;";subscriptionSpec=1.0', multipart],
    ['multipart/mixed;subscriptionSpec="1.0";boundary="never closed, text/event-stream', multipart],
    ["text/event-stream, multipart/mixed;subscriptionSpec=1.0", sse],
    ["text/event-stream;q=0.5, multipart/mixed;subscriptionSpec=1.0", multipart],
    ["multipart/mixed;subscriptionSpec=1.0;q=0.5, text/event-stream", sse],
    ["multipart/mixed;subscriptionSpec=1.0;q=0, text/event-stream", sse],
    ["multipart/mixed;deferSpec=20220824, multipart/mixed;subscriptionSpec=1.0, application/json", multipart],
    ["multipart/mixed, */*", sse],
    ["*/*", sse],
    ["multipart/mixed, application/json", null],
    ["multipart/mixed;subscriptionSpec=2.0, application/json", null],
  ])("Accept: %s", async (accept, type) => {
    await using server = await startTransport();
    server.probe.source.end();
    const response = await post(server.endpoint, ticks, { accept });
    await response.text();
    if (type === null) expect(response.status).toBe(406);
    else expect([response.status, response.headers.get("content-type")]).toEqual([200, type]);
  });

  test("a deferred query keeps its own form whatever else its client takes", async () => {
    await using server = await startTransport();
    server.probe.release();
    const response = await post(server.endpoint, "{ parts { now ... @defer { deferred } } }", { accept: spec });
    expect(response.headers.get("content-type")).toBe('multipart/mixed; boundary="-"');
    expect(await response.text()).toContain('"incremental":[{"data":{"deferred":"later"}');
  });
});

describe.each([
  ["SSE", "text/event-stream", ":\n\n", "event: complete"],
  ["multipart", spec, "{}", "--graphql--"],
])("a stream over %s", (_name, accept, opening, closing) => {
  test("nothing is pulled before its reader asks for it", async () => {
    await using server = await startTransport();
    const { source } = server.probe;
    for (const text of ["one", "two", "three"]) source.push({ text });
    const request = new Request(server.endpoint, {
      method: "POST",
      headers: { "content-type": "application/json", accept },
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
      headers: { "content-type": "application/json", accept },
      body: JSON.stringify({ query: ticks }),
      signal: leaving.signal,
    });
    await readUntil(readerOf(response), opening);
    leaving.abort();
    await server.probe.source.returned;
  });

  test("closing cuts the stream off without its closing text, so that clients reconnect", async () => {
    await using server = await startTransport();
    server.probe.source.push({ text: "one" });
    const response = await post(server.endpoint, ticks, { accept });
    const waiting = post(server.endpoint, "{ waiting }");
    const reader = readerOf(response);
    await readUntil(reader, "one");
    await server.probe.waiting;
    const closed = server.transport.close();
    expect(await restOf(reader)).not.toContain(closing);
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
    socket.write(`GET /graphql?query=${query} HTTP/1.1\r\nHost: x\r\nAccept: ${accept}\r\n\r\n`);
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
