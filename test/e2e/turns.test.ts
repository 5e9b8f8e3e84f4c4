import { describe, expect } from "vitest";
import {
  addMessages,
  ask,
  cancel,
  cancelRun,
  chosenId,
  eventsOf,
  follow,
  isRunEnd,
  outline,
  readMessages,
  readRun,
  send,
  sendAndWait,
  sendOnly,
  texts,
} from "../support/gateway/conversation.ts";
import { chatTest } from "../support/gateway/chat-test.ts";
import { execute, refusal } from "../support/gateway/graphql-client.ts";
import type { OpenAIServer } from "../support/model/openai-server.ts";
import { waitUntil } from "../support/redis/redis-command.ts";

const test = chatTest({ modelMaxRetries: 0, maxQueuedRuns: 3 });

/** Starts a run that has written "Part one " and waits at the model, with "and two" still to come. */
async function startHeld(openai: OpenAIServer, url: string, sessionId: string): Promise<string> {
  openai.next({ kind: "gated", tokens: ["Part one ", "and two"] });
  const { run } = await send(url, sessionId, "Hold");
  openai.release();
  await waitUntil("the first part is stored", async () => (await readRun(url, run.id))?.text === "Part one ");
  return run.id;
}

async function ended(url: string, runId: string): Promise<void> {
  await waitUntil(`${runId} has ended`, async () => {
    const run = await readRun(url, runId);
    return run !== null && run.status !== "RUNNING" && run.status !== "QUEUED";
  });
}

describe("whenBusy", () => {
  test("QUEUE: those that wait are answered in order, and are in the list only from their turn on", async ({
    openai,
    url,
  }) => {
    const first = await startHeld(openai, url, "queue");
    const second = await send(url, "queue", "Second");
    const third = await send(url, "queue", "Third", { messageId: "third" });
    expect([second, third].map(({ run, userMessage }) => [run.status, run.userMessage, userMessage])).toEqual([
      ["QUEUED", null, null],
      ["QUEUED", null, null],
    ]);
    type Data = { session: { queuedRuns: unknown; activeRun: unknown; messageCount: number } };
    const query = `{ session(sessionId: "queue") {
      messageCount activeRun { id } queuedRuns { id status startedAt input { ... on TextBlock { text } } }
    } }`;
    expect((await execute<Data>(url, query)).session).toEqual({
      messageCount: 1,
      activeRun: { id: first },
      queuedRuns: [
        { id: second.run.id, status: "QUEUED", startedAt: null, input: [{ text: "Second" }] },
        { id: third.run.id, status: "QUEUED", startedAt: null, input: [{ text: "Third" }] },
      ],
    });
    const stream = await follow(url, "queue");
    openai.releaseAll();
    await stream.waitFor(isRunEnd(third.run.id));
    stream.close();
    expect(await texts(url, "queue")).toEqual([
      "USER: Hold",
      "ASSISTANT: Part one and two",
      "USER: Second",
      "ASSISTANT: You said: Second",
      "USER: Third",
      "ASSISTANT: You said: Third",
    ]);
    expect((await readRun(url, third.run.id))?.userMessage?.id).toBe(chosenId("queue", "third"));
    expect(outline(stream).filter((step) => step !== "ReplyProgress")).toEqual([
      "StreamOpened",
      "MessageAdded ASSISTANT",
      "RunChanged COMPLETED",
      ...[
        "RunChanged RUNNING",
        "MessageAdded USER",
        "SessionUpdated",
        "MessageAdded ASSISTANT",
        "RunChanged COMPLETED",
      ],
      ...[
        "RunChanged RUNNING",
        "MessageAdded USER",
        "SessionUpdated",
        "MessageAdded ASSISTANT",
        "RunChanged COMPLETED",
      ],
    ]);
  });

  test.for([
    ["chosen by the caller", { messageId: "mine" }],
    ["made by the gateway", {}],
  ] as const)(
    "a queued run's userMessageId, %s, is the id that its message gets",
    async ([name, more], { openai, url }) => {
      const sessionId = `queued-input ${name}`;
      const query = `query ($id: ID!) { node(id: $id) { ... on Run { status userMessageId userMessage { id } } } }`;
      type Data = { node: { status: string; userMessageId: string; userMessage: { id: string } | null } };
      const read = async (id: string) => (await execute<Data>(url, query, { id })).node;
      const held = await startHeld(openai, url, sessionId);
      const queued = await send(url, sessionId, "Next", more);
      const waiting = await read(queued.run.id);
      expect(waiting).toMatchObject({ status: "QUEUED", userMessage: null });
      const going = await read(held);
      expect(going.userMessageId).toBe(going.userMessage?.id);
      openai.releaseAll();
      await ended(url, queued.run.id);
      const { userMessageId, userMessage } = await read(queued.run.id);
      expect([userMessageId, userMessage?.id]).toEqual([waiting.userMessageId, waiting.userMessageId]);
      expect((await readMessages(url, sessionId)).map(({ id }) => id)).toContain(waiting.userMessageId);
    },
  );

  test("a queued run's replyId is the id that its reply gets", async ({ openai, url }) => {
    await startHeld(openai, url, "queued-id");
    const queued = await send(url, "queued-id", "Next");
    openai.releaseAll();
    await ended(url, queued.run.id);
    expect((await readMessages(url, "queued-id")).at(-1)?.id).toBe(queued.run.replyId);
    expect((await readRun(url, queued.run.id))?.replyId).toBe(queued.run.replyId);
  });

  test("REJECT: SESSION_BUSY names the run, and leaves no trace", async ({ openai, url }) => {
    const first = await startHeld(openai, url, "reject");
    const input = { sessionId: "reject", text: "Now?", messageId: "now", whenBusy: "REJECT" };
    const { extensions } = await refusal(url, sendOnly, { input });
    expect(extensions).toMatchObject({ code: "SESSION_BUSY", runId: first });
    openai.releaseAll();
    await ended(url, first);
    expect(await texts(url, "reject")).toEqual(["USER: Hold", "ASSISTANT: Part one and two"]);
    // Refused, the messageId was not used.
    expect((await ask(url, "reject", "Another text", { messageId: "now", whenBusy: "REJECT" })).run.status).toBe(
      "COMPLETED",
    );
  });

  test("QUEUE_FULL, and it says when to come again", async ({ openai, url }) => {
    const first = await startHeld(openai, url, "full");
    const waiting = await Promise.all(["a", "b", "c"].map((text) => send(url, "full", text)));
    const { extensions } = await refusal(url, sendOnly, { input: { sessionId: "full", text: "d" } });
    expect(extensions?.code).toBe("QUEUE_FULL");
    expect(extensions?.retryAfterSeconds).toBeGreaterThan(0);
    openai.releaseAll();
    for (const runId of [first, ...waiting.map(({ run }) => run.id)]) await ended(url, runId);
    expect(await readMessages(url, "full")).toHaveLength(8);
  });

  test("INTERRUPT: the going run keeps its text as a message, the new one goes ahead of all that wait", async ({
    openai,
    url,
  }) => {
    const first = await startHeld(openai, url, "interrupt");
    const waiting = await send(url, "interrupt", "Waits");
    const aborted = openai.aborted;
    const stream = await follow(url, "interrupt");
    const { run, userMessage } = await ask(url, "interrupt", "Stop! This first", { whenBusy: "INTERRUPT" });
    expect([run.status, userMessage?.text]).toEqual(["COMPLETED", "Stop! This first"]);
    const seen = openai.requests.find(({ messages }) => messages.at(-1)?.["content"] === "Stop! This first");
    expect(seen?.messages.map(({ content }) => content)).toEqual(["Hold", "Part one ", "Stop! This first"]);
    await openai.waitForAbort(aborted + 1);
    await stream.waitFor(isRunEnd(waiting.run.id));
    stream.close();
    expect(await texts(url, "interrupt")).toEqual([
      "USER: Hold",
      "ASSISTANT: Part one ",
      "USER: Stop! This first",
      "ASSISTANT: You said: Stop! This first",
      "USER: Waits",
      "ASSISTANT: You said: Waits",
    ]);
    const partial = (await readMessages(url, "interrupt"))[1];
    expect(await readRun(url, first)).toMatchObject({
      status: "CANCELLED",
      text: "Part one ",
      error: null,
      reply: { id: partial?.id, finishReason: "CANCELLED" },
    });
    expect(outline(stream).slice(0, 5)).toEqual([
      "StreamOpened",
      "MessageAdded ASSISTANT",
      "RunChanged CANCELLED",
      "RunChanged RUNNING",
      "MessageAdded USER",
    ]);
  });

  test("INTERRUPT where nothing goes is a plain send", async ({ url }) => {
    expect((await ask(url, "interrupt-nothing", "Hello", { whenBusy: "INTERRUPT" })).reply?.text).toBe(
      "You said: Hello",
    );
  });
});

describe("cancelRun", () => {
  test("a running one: the provider's request ends, the text so far is a message with finishReason CANCELLED", async ({
    openai,
    url,
  }) => {
    const runId = await startHeld(openai, url, "cancel");
    const aborted = openai.aborted;
    const stream = await follow(url, "cancel");
    const run = await cancel(url, runId);
    await openai.waitForAbort(aborted + 1);
    expect(run).toMatchObject({
      status: "CANCELLED",
      text: "Part one ",
      error: null,
      reply: { text: "Part one ", finishReason: "CANCELLED" },
    });
    expect(run.reply?.id).toBe(run.replyId);
    await stream.waitFor(isRunEnd(runId));
    stream.close();
    expect(outline(stream)).toEqual(["StreamOpened", "MessageAdded ASSISTANT", "RunChanged CANCELLED"]);
    // The model sees what the user saw.
    await ask(url, "cancel", "Go on");
    expect(openai.requests.at(-1)?.messages.map(({ content }) => content)).toEqual(["Hold", "Part one ", "Go on"]);
  });

  test("with no text yet there is no message", async ({ openai, url }) => {
    openai.next("hang");
    const before = openai.requests.length;
    const { run } = await send(url, "cancel-empty", "Hello?");
    await openai.waitForRequests(before + 1);
    expect(await cancel(url, run.id)).toMatchObject({ status: "CANCELLED", text: "", reply: null, error: null });
    expect(await texts(url, "cancel-empty")).toEqual(["USER: Hello?"]);
  });

  test("a waiting one leaves the line, and never enters the history", async ({ openai, url }) => {
    const first = await startHeld(openai, url, "cancel-queued");
    const waiting = await send(url, "cancel-queued", "Never mind");
    const stream = await follow(url, "cancel-queued");
    expect(await cancel(url, waiting.run.id)).toMatchObject({
      status: "CANCELLED",
      userMessage: null,
      reply: null,
      text: "",
    });
    openai.releaseAll();
    await stream.waitFor(isRunEnd(first));
    stream.close();
    expect(outline(stream).filter((step) => step.startsWith("RunChanged"))).toEqual([
      "RunChanged CANCELLED",
      "RunChanged COMPLETED",
    ]);
    expect(await texts(url, "cancel-queued")).toEqual(["USER: Hold", "ASSISTANT: Part one and two"]);
  });

  test("a mutation that waits for a cancelled reply gets the partial message", async ({ openai, url }) => {
    const stream = await follow(url, (await ask(url, "cancel-waiting", "Hello")).session.sessionId);
    openai.next({ kind: "gated", tokens: ["Some ", "more"] });
    const waiting = ask(url, "cancel-waiting", "Tell me");
    openai.release();
    const piece = await stream.waitFor(({ __typename }) => __typename === "ReplyProgress");
    stream.close();
    expect(piece).toMatchObject({ text: "Some " });
    await cancel(url, eventsOf(stream, "ReplyProgress")[0]?.runId ?? "");
    expect(await waiting).toMatchObject({
      run: { status: "CANCELLED" },
      reply: { text: "Some ", finishReason: "CANCELLED" },
    });
  });

  test("one that has ended is given back as it is; one that never was is NOT_FOUND", async ({ url }) => {
    const { run } = await ask(url, "cancel-ended", "Done");
    expect(await cancel(url, run.id)).toEqual(run);
    expect(await texts(url, "cancel-ended")).toEqual(["USER: Done", "ASSISTANT: You said: Done"]);
    const unknown = Buffer.from("Run:cancel-ended:0190a5f0-0000-7000-8000-000000000000").toString("base64");
    expect((await refusal(url, cancelRun, { runId: unknown })).extensions?.code).toBe("NOT_FOUND");
  });
});

test("a mutation that has waited for the configured time answers with what there is; the run goes on", async ({
  start,
  openai,
  url,
}) => {
  const hasty = await start({ replyWaitMs: 100 });
  try {
    openai.next({ kind: "gated", tokens: ["In ", "time"] });
    const { run, reply } = await ask(hasty.url, "hasty", "Quick!");
    expect([run.status, reply]).toEqual(["RUNNING", null]);
    openai.releaseAll();
    await ended(url, run.id);
    expect(await texts(url, "hasty")).toEqual(["USER: Quick!", "ASSISTANT: In time"]);
  } finally {
    await hasty.close();
  }
});

describe("messageId", () => {
  test("sent again it gives back the first call's message and run, whatever became of it", async ({ openai, url }) => {
    const before = openai.requests.length;
    const first = await ask(url, "again", "Once", { messageId: "one" });
    const again = await ask(url, "again", "Once", { messageId: "one" });
    expect(again).toEqual(first);
    expect(first.userMessage).toMatchObject({ id: chosenId("again", "one"), messageId: "one" });
    openai.next("500");
    const failed = await ask(url, "again", "Fails", { messageId: "two" });
    expect((await ask(url, "again", "Fails", { messageId: "two" })).run).toEqual(failed.run);
    expect(failed.run.status).toBe("FAILED");
    expect(openai.requests.length).toBe(before + 2);
  });

  test("while it still waits, the retry waits with it", async ({ openai, url }) => {
    await startHeld(openai, url, "again-queued");
    const input = { messageId: "q" };
    const waiting = await send(url, "again-queued", "In line", input);
    const retry = ask(url, "again-queued", "In line", { ...input, whenBusy: "REJECT" });
    openai.releaseAll();
    expect(await retry).toMatchObject({
      run: { id: waiting.run.id, status: "COMPLETED" },
      reply: { text: "You said: In line" },
    });
  });

  test("with other content it is refused, and with other characters too", async ({ url }) => {
    await ask(url, "reused", "This", { messageId: "r" });
    const code = async (input: object) =>
      (await refusal(url, sendOnly, { input: { sessionId: "reused", ...input } })).extensions;
    expect((await code({ text: "That", messageId: "r" }))?.code).toBe("MESSAGE_ID_REUSED");
    expect((await code({ content: [{ image: { url: "https://x.example/y" } }], messageId: "r" }))?.code).toBe(
      "MESSAGE_ID_REUSED",
    );
    expect(await code({ text: "This", messageId: "no spaces" })).toMatchObject({
      code: "BAD_USER_INPUT",
      field: "input.messageId",
    });
    // In another session it is free.
    expect((await ask(url, "reused-elsewhere", "That", { messageId: "r" })).run.status).toBe("COMPLETED");
  });

  test("after the session was deleted a retry is NOT_FOUND, and no second model call (P8)", async ({ openai, url }) => {
    await ask(url, "deleted", "Once", { messageId: "d" });
    await execute(url, `mutation { deleteSession(input: { sessionId: "deleted" }) { deletedId } }`);
    const before = openai.requests.length;
    const input = { sessionId: "deleted", text: "Once", messageId: "d" };
    expect((await refusal(url, sendAndWait, { input })).extensions?.code).toBe("NOT_FOUND");
    expect(openai.requests.length).toBe(before);
    expect(await execute(url, `{ session(sessionId: "deleted") { id } }`)).toEqual({ session: null });
    // A new message starts the session anew.
    expect((await ask(url, "deleted", "Twice", { messageId: "e" })).session.messageCount).toBe(2);
  });
});

describe("a turn's end in its session", () => {
  test("clear cancels what goes and waits, and the provider hears of it", async ({ openai, url }) => {
    const active = await startHeld(openai, url, "clear");
    const waiting = await send(url, "clear", "Waits");
    const aborted = openai.aborted;
    const stream = await follow(url, "clear");
    type Data = { clearHistory: { session: object } };
    const query = `mutation { clearHistory(input: { sessionId: "clear" }) {
      session { messageCount activeRun { id } queuedRuns { id } messages { nodes { id } } }
    } }`;
    expect((await execute<Data>(url, query)).clearHistory.session).toEqual({
      messageCount: 0,
      activeRun: null,
      queuedRuns: [],
      messages: { nodes: [] },
    });
    await openai.waitForAbort(aborted + 1);
    await stream.waitFor(isRunEnd(active));
    await stream.waitFor(isRunEnd(waiting.run.id));
    const reset = await stream.waitFor(({ __typename }) => __typename === "HistoryReset");
    expect(reset).toMatchObject({ kept: 0, session: { messageCount: 0 } });
    expect(await readRun(url, active)).toMatchObject({ status: "CANCELLED", text: "Part one ", reply: null });
    const next = await ask(url, "clear", "Anew");
    await stream.waitFor(isRunEnd(next.run.id));
    stream.close();
    expect((await readMessages(url, "clear")).map(({ position, text }) => [position, text])).toEqual([
      [0, "Anew"],
      [1, "You said: Anew"],
    ]);
  });

  test("delete cancels what goes; followers hear SessionRemoved and their streams end", async ({ openai, url }) => {
    await startHeld(openai, url, "delete");
    const aborted = openai.aborted;
    const stream = await follow(url, "delete");
    type Data = { deleteSession: { deletedId: string; sessionId: string } };
    const { deleteSession } = await execute<Data>(
      url,
      `mutation { deleteSession(input: { sessionId: "delete" }) { deletedId sessionId } }`,
    );
    const id = Buffer.from("Session:delete").toString("base64");
    expect(deleteSession).toEqual({ deletedId: id, sessionId: "delete" });
    await openai.waitForAbort(aborted + 1);
    await stream.waitForEnd();
    expect(stream.error).toBeNull();
    expect(stream.events.at(-1)).toEqual({ __typename: "SessionRemoved", removedId: id, sessionId: "delete" });
    expect(await execute(url, `{ session(sessionId: "delete") { id } }`)).toEqual({ session: null });
  });

  test("a system message added while the reply is made does not end it", async ({ openai, url }) => {
    const runId = await startHeld(openai, url, "meanwhile");
    await addMessages(url, "meanwhile", [{ role: "SYSTEM", text: "Be short." }]);
    openai.releaseAll();
    await ended(url, runId);
    expect(await texts(url, "meanwhile")).toEqual(["USER: Hold", "SYSTEM: Be short.", "ASSISTANT: Part one and two"]);
  });
});
