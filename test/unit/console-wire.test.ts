import { parse, print } from "graphql";
import { expect, test } from "vitest";

import * as documents from "../../packages/client/src/documents.ts";
import { formatDocument } from "../../packages/console/src/wire/graphql-text.ts";
import { mostEvents, Recorder } from "../../packages/console/src/wire/recorder.ts";

const frame = (event: object, field = "sessionEvents") =>
  JSON.stringify({ id: "0", type: "next", payload: { data: { [field]: event } } });

test("an event has its kind, size, cursor and, where it tells when it was made, its lag", () => {
  const recorder = new Recorder(() => Date.parse("2026-01-01T00:00:01.000Z"));
  const message = { cursor: "c", role: "USER", createdAt: "2026-01-01T00:00:00.986Z" };
  const texts = [
    frame({ __typename: "MessageAdded", message }),
    // A reply has the time at which it was begun.
    frame({ __typename: "MessageAdded", message: { ...message, role: "ASSISTANT" } }),
    // From the history.
    frame({ __typename: "MessageAdded", message: { ...message, createdAt: "2025-12-31T00:00:00.000Z" } }),
    frame({ __typename: "StreamOpened", cursor: "o", note: "é" }),
    frame({ __typename: "SessionAdded" }, "sessionChanged"),
    '{"type":"ping"}',
    '{"type":"connection_ack"}',
    '{"id":"0","type":"next","payload":{"errors":[{"message":"no"}]}}',
  ];
  recorder.event({ kind: "open", text: "ws://h" });
  for (const text of texts) recorder.event({ kind: "message", text });
  recorder.event({ kind: "lost", text: "1006 " });
  const rows = recorder.getSnapshot().events.map((one) => [one.kind, one.name, one.cursor, one.lagMs]);
  expect(rows).toEqual([
    ["connection", "Connected", null, null],
    ["session", "MessageAdded", "c", 14],
    ["session", "MessageAdded", "c", null],
    ["session", "MessageAdded", "c", null],
    ["session", "StreamOpened", "o", null],
    ["list", "SessionAdded", null, null],
    ["alive", "ping", null, null],
    ["connection", "connection_ack", null, null],
    ["connection", "refused", null, null],
    ["connection", "Connection lost", null, null],
  ]);
  const sizes = recorder.getSnapshot().events.map(({ bytes }) => bytes);
  expect(sizes).toEqual([null, ...texts.map((text) => Buffer.byteLength(text)), null]);
});

test("the newest 2,000 events are kept", () => {
  const recorder = new Recorder();
  for (let count = 0; count < 2100; count++)
    recorder.event({ kind: "message", text: frame({ __typename: `E${count}` }) });
  const { events } = recorder.getSnapshot();
  expect([mostEvents, events.length, events[0]?.name, events.at(-1)?.name]).toEqual([2000, 2000, "E100", "E2099"]);
});

test("an operation has its type, name, variables, time and the code of its error", () => {
  let now = 1000;
  const recorder = new Recorder(() => now);
  const answered = recorder.operation(JSON.stringify({ query: documents.send, variables: { input: 1 } }));
  recorder.operation(JSON.stringify({ query: "{ viewer { subject } }" }));
  now = 1042;
  answered("RATE_LIMITED");
  expect(recorder.getSnapshot().operations).toMatchObject([
    { type: "mutation", name: "ParleySend", variables: { input: 1 }, at: 1000, ms: 42, error: "RATE_LIMITED" },
    { type: "query", name: "", variables: {}, ms: null, error: null },
  ]);
});

test.each(Object.entries(documents))(
  "the document %s says the same when it is shown with line breaks",
  (_name, text) => {
    const shown = formatDocument(text);
    expect(print(parse(shown))).toBe(print(parse(text)));
    expect(shown.split("\n").length).toBeGreaterThan(2);
  },
);
