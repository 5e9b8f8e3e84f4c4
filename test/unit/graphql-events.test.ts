import { describe, expect, test } from "vitest";

import { encodeCursor } from "../../src/conversation/message/cursor.ts";
import { ParleyError } from "../../src/conversation/errors.ts";
import { FakeConversations, noted, runningRun, stored } from "../support/store/fake-conversations.ts";
import { contextOf, listen } from "../support/gateway/graphql-operation.ts";

const everything = `
  __typename
  ... on StreamOpened { cursor session { messageCount } }
  ... on MessageAdded { message { text position } }
  ... on ReplyProgress { runId replyId index offset text }
  ... on PartAdded { runId index part { __typename ... on ReasoningPart { messageId text } ... on TextPart { messageId start text } } }
  ... on PartProgress { runId index offset text }
  ... on RunChanged { run { status session { sessionId } } }
  ... on SessionUpdated { session { title } }
  ... on HistoryReset { kept cursor session { messages(last: 2) { nodes { text } } } }
  ... on SessionRemoved { removedId sessionId }
  ... on StreamWaiting { cursor waitsFor: sessionId }
`;
const sessionEvents = `subscription ($after: String) { sessionEvents(sessionId: "jim", after: $after) { ${everything} } }`;
const messageAdded = `subscription ($after: String) { messageAdded(sessionId: "jim", after: $after) { text cursor } }`;

const base64 = (text: string): string => Buffer.from(text).toString("base64");
const lastTwo = [{ first: null, after: null, last: 2, before: null }];

function conversation(): FakeConversations {
  const fake = new FakeConversations();
  fake.put("jim", [noted("jim", 0, "m1", null, "Hi! I'm Jim."), stored("ai", "Hello, Jim.")], { title: "Jim" });
  return fake;
}

describe("sessionEvents", () => {
  test("gives each event its type, with nodes made of it", async () => {
    const fake = conversation();
    const run = runningRun("jim");
    const session = fake.session("jim", lastTwo);
    fake.events.push({ kind: "waiting", cursor: "c0", sessionId: "jim" });
    fake.events.push({ kind: "opened", cursor: "c1", session });
    fake.events.push({ kind: "message", cursor: "c2", message: fake.placed("jim", 0) });
    fake.events.push({
      kind: "progress",
      sessionId: "jim",
      runId: run.runId,
      replyLocalId: "~1~r",
      index: 1,
      offset: 3,
      text: "lo",
    });
    const part = { kind: "reasoning", messageLocalId: "~1~r", text: "Hm" } as const;
    fake.events.push({ kind: "partAdded", sessionId: "jim", runId: run.runId, index: 0, part });
    fake.events.push({ kind: "partProgress", sessionId: "jim", runId: run.runId, index: 0, offset: 2, text: "." });
    fake.events.push({ kind: "run", run });
    fake.events.push({ kind: "updated", session });
    fake.events.push({ kind: "reset", kept: 1, cursor: "c3", session });
    fake.events.push({ kind: "removed", sessionId: "jim" });
    fake.events.end();
    const stream = await listen(contextOf(fake), sessionEvents);

    const delivered: unknown[] = [];
    for (let answer = await stream.next(); answer !== null; answer = await stream.next()) {
      expect(answer.errors).toEqual([]);
      delivered.push(answer.data);
    }
    expect(delivered).toEqual(
      [
        { __typename: "StreamWaiting", cursor: "c0", waitsFor: "jim" },
        { __typename: "StreamOpened", cursor: "c1", session: { messageCount: 2 } },
        { __typename: "MessageAdded", message: { text: "Hi! I'm Jim.", position: 0 } },
        {
          __typename: "ReplyProgress",
          runId: base64(`Run:jim:${run.runId}`),
          replyId: base64("Message:jim:~1~r"),
          index: 1,
          offset: 3,
          text: "lo",
        },
        {
          __typename: "PartAdded",
          runId: base64(`Run:jim:${run.runId}`),
          index: 0,
          part: { __typename: "ReasoningPart", messageId: base64("Message:jim:~1~r"), text: "Hm" },
        },
        { __typename: "PartProgress", runId: base64(`Run:jim:${run.runId}`), index: 0, offset: 2, text: "." },
        { __typename: "RunChanged", run: { status: "RUNNING", session: { sessionId: "jim" } } },
        { __typename: "SessionUpdated", session: { title: "Jim" } },
        {
          __typename: "HistoryReset",
          kept: 1,
          cursor: "c3",
          session: { messages: { nodes: [{ text: "Hi! I'm Jim." }, { text: "Hello, Jim." }] } },
        },
        { __typename: "SessionRemoved", removedId: base64("Session:jim"), sessionId: "jim" },
      ].map((event) => ({ sessionEvents: event })),
    );
    expect(fake.callsOf("sessionEvents")[0]?.[4]).toEqual({ pages: lastTwo });
  });

  test("notes what each event can be resumed from, the last one where an event brings none", async () => {
    const fake = conversation();
    const context = contextOf(fake);
    const session = fake.session("jim", lastTwo);
    const stream = await listen(context, sessionEvents);
    expect(context.resume.cursor).toBe(null);
    const cursors: (string | null)[] = [];
    const deliver = async (event: Parameters<typeof fake.events.push>[0]) => {
      fake.events.push(event);
      await stream.next();
      cursors.push(context.resume.cursor);
    };
    await deliver({ kind: "waiting", cursor: "c0", sessionId: "jim" });
    await deliver({ kind: "opened", cursor: "c1", session });
    await deliver({ kind: "run", run: runningRun("jim") });
    await deliver({ kind: "message", cursor: "c2", message: fake.placed("jim", 0) });
    await deliver({ kind: "updated", session });
    await deliver({ kind: "reset", kept: 0, cursor: "c3", session });
    expect(cursors).toEqual(["c0", "c1", "c1", "c2", "c2", "c3"]);
  });

  test("ends its source at once when the client goes, also while it waits for an event", async () => {
    const fake = conversation();
    const stream = await listen(contextOf(fake), sessionEvents);
    const waiting = stream.next();
    await stream.stop();
    await fake.events.returned;
    expect(await waiting).toBe(null);
  });
});

describe("where a stream starts", () => {
  const starts: [Record<string, unknown>, string | null, string | null][] = [
    [{}, null, null],
    [{ after: null }, null, null],
    [{ after: "" }, null, ""],
    [{ after: "c1" }, null, "c1"],
    [{ after: "c1" }, "c7", "c7"],
    [{}, "c7", "c7"],
    [{ after: "c1" }, "", "c1"],
  ];

  test.each(starts)("with variables %j and Last-Event-ID %j: after %j", async (variables, lastEventId, after) => {
    const fake = conversation();
    await listen(contextOf(fake, lastEventId), sessionEvents, variables);
    await listen(contextOf(fake, lastEventId), messageAdded, variables);
    expect(fake.callsOf("sessionEvents").map(([, , given]) => given)).toEqual([after, after]);
  });
});

test("where there is no such session a stream waits, unless it is to be refused", async () => {
  const fake = conversation();
  for (const field of ['sessionEvents(sessionId: "jim"', 'messageAdded(sessionId: "jim"']) {
    for (const rest of ["", ", ifMissing: WAIT", ", ifMissing: REFUSE"]) {
      await listen(contextOf(fake), `subscription { ${field}${rest}) { __typename } }`);
    }
  }
  const given = ["WAIT", "WAIT", "REFUSE"];
  expect(fake.callsOf("sessionEvents").map(([, , , ifMissing]) => ifMissing)).toEqual([...given, ...given]);
});

describe("messageAdded", () => {
  test("gives messages, each with the cursor to resume from, and passes all else by", async () => {
    const fake = conversation();
    const context = contextOf(fake);
    const message = fake.placed("jim", 1);
    const cursor = encodeCursor("jim", { generation: 1, position: 1, mark: message.row.mark });
    fake.events.push({ kind: "opened", cursor: "c1", session: fake.session("jim", []) });
    const stream = await listen(context, messageAdded);
    expect(context.resume.cursor).toBe("c1");
    fake.events.push({ kind: "run", run: runningRun("jim") });
    fake.events.push({ kind: "message", cursor, message });
    expect(await stream.next()).toEqual({ data: { messageAdded: { text: "Hello, Jim.", cursor } }, errors: [] });
    expect(context.resume.cursor).toBe(cursor);
  });

  test.each([
    ["CURSOR_EXPIRED", "a reset", { kind: "reset", kept: 0, cursor: "c2" }],
    ["NOT_FOUND", "the session's end", { kind: "removed", sessionId: "jim" }],
  ] as const)("ends with %s at %s", async (code, _what, event) => {
    const fake = conversation();
    const stream = await listen(contextOf(fake), messageAdded);
    fake.events.push(event.kind === "reset" ? { ...event, session: fake.session("jim", []) } : event);
    await expect(stream.next()).rejects.toMatchObject({ code });
  });

  test("is refused with NOT_FOUND where the session is gone, and lets its source go", async () => {
    const fake = conversation();
    fake.events.push({ kind: "removed", sessionId: "jim" });
    await expect(listen(contextOf(fake), messageAdded)).rejects.toThrow("NOT_FOUND");
    await fake.events.returned;
  });

  test("ends with the error that ended its source", async () => {
    const fake = conversation();
    fake.events.fail(new ParleyError("CURSOR_EXPIRED", "The history was cleared."));
    const stream = await listen(contextOf(fake), messageAdded);
    await expect(stream.next()).rejects.toMatchObject({ code: "CURSOR_EXPIRED" });
  });
});

test("sessionChanged gives the list's events, with the pages that their sessions are asked for", async () => {
  const fake = conversation();
  const session = fake.session("jim", lastTwo);
  fake.changes.push({ kind: "opened", openedAt: 0 });
  fake.changes.push({ kind: "added", session });
  fake.changes.push({ kind: "updated", session });
  fake.changes.push({ kind: "removed", sessionId: "jim" });
  const stream = await listen(
    contextOf(fake),
    `subscription { sessionChanged {
      __typename
      ... on SessionListOpened { openedAt }
      ... on SessionAdded { session { messages(last: 2) { nodes { position } } } }
      ... on SessionUpdated { session { sessionId } }
      ... on SessionRemoved { sessionId }
    } }`,
  );
  const delivered = [await stream.next(), await stream.next(), await stream.next(), await stream.next()];
  expect(delivered.map((answer) => answer?.data)).toEqual([
    { sessionChanged: { __typename: "SessionListOpened", openedAt: "1970-01-01T00:00:00.000Z" } },
    {
      sessionChanged: {
        __typename: "SessionAdded",
        session: { messages: { nodes: [{ position: 0 }, { position: 1 }] } },
      },
    },
    { sessionChanged: { __typename: "SessionUpdated", session: { sessionId: "jim" } } },
    { sessionChanged: { __typename: "SessionRemoved", sessionId: "jim" } },
  ]);
  expect(fake.callsOf("sessionChanged")[0]?.[1]).toEqual({ pages: lastTwo });
});
