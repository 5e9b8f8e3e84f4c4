import { describe, expect } from "vitest";
import {
  addMessages,
  ask,
  cancel,
  eventsOf,
  follow,
  isRunEnd,
  outline,
  readMessages,
  readRun,
  regenerate,
  send,
  sendOnly,
  texts,
} from "../support/gateway/conversation.ts";
import { chatTest } from "../support/gateway/chat-test.ts";
import { execute, refusal } from "../support/gateway/graphql-client.ts";
import { waitUntil } from "../support/redis/redis-command.ts";

const test = chatTest({ modelMaxRetries: 0 });

const regenerateOnly = `mutation ($input: RegenerateReplyInput!) { regenerateReply(input: $input) { run { id status } } }`;

async function cursorAt(url: string, sessionId: string, position: number): Promise<string> {
  const message = (await readMessages(url, sessionId)).find((one) => one.position === position);
  if (!message) throw new Error(`No message at ${position}`);
  return message.cursor;
}

/** Two turns: positions 0 to 3. */
async function twoTurns(url: string, sessionId: string): Promise<void> {
  await ask(url, sessionId, "First");
  await ask(url, sessionId, "Second");
}

async function ended(url: string, runId: string): Promise<void> {
  await waitUntil(`${runId} has ended`, async () => {
    const run = await readRun(url, runId);
    return run !== null && run.status !== "RUNNING" && run.status !== "QUEUED";
  });
}

describe("edit and resend (replaceFrom)", () => {
  test("drops that message and all after it; followers hear what is kept and what follows", async ({ openai, url }) => {
    await twoTurns(url, "edit");
    const stream = await follow(url, "edit");
    const replaceFrom = await cursorAt(url, "edit", 2);
    const { run, userMessage } = await ask(url, "edit", "Second, better", { replaceFrom });
    await stream.waitFor(isRunEnd(run.id));
    stream.close();
    expect(userMessage?.position).toBe(2);
    expect(await texts(url, "edit")).toEqual([
      "USER: First",
      "ASSISTANT: You said: First",
      "USER: Second, better",
      "ASSISTANT: You said: Second, better",
    ]);
    expect(openai.requests.at(-1)?.messages.map(({ content }) => content)).toEqual([
      "First",
      "You said: First",
      "Second, better",
    ]);
    expect(outline(stream)).toEqual([
      "StreamOpened",
      "HistoryReset",
      "RunChanged RUNNING",
      "MessageAdded USER",
      "ReplyProgress",
      "MessageAdded ASSISTANT",
      "RunChanged COMPLETED",
    ]);
    expect(eventsOf(stream, "HistoryReset")[0]?.kept).toBe(2);
    expect(eventsOf(stream, "MessageAdded").map(({ message }) => message.position)).toEqual([2, 3]);
  });

  test("from the first message on: all is new, and followers are told the turn in the promised order all the same", async ({
    url,
  }) => {
    await twoTurns(url, "edit-all");
    const stream = await follow(url, "edit-all");
    const { run } = await ask(url, "edit-all", "Other", { replaceFrom: await cursorAt(url, "edit-all", 0) });
    await stream.waitFor(isRunEnd(run.id));
    stream.close();
    expect(await texts(url, "edit-all")).toEqual(["USER: Other", "ASSISTANT: You said: Other"]);
    expect(outline(stream)).toEqual([
      "StreamOpened",
      "HistoryReset",
      "RunChanged RUNNING",
      "MessageAdded USER",
      "ReplyProgress",
      "MessageAdded ASSISTANT",
      "RunChanged COMPLETED",
    ]);
    expect(eventsOf(stream, "HistoryReset")[0]?.kept).toBe(0);
    expect(eventsOf(stream, "MessageAdded").map(({ message }) => message.position)).toEqual([0, 1]);
  });

  test("cursors of kept rows hold, those of what was cut have expired, and one that is none is INVALID_CURSOR", async ({
    url,
  }) => {
    await twoTurns(url, "edit-cursors");
    const [first, second, last] = await Promise.all(
      [0, 2, 3].map((position) => cursorAt(url, "edit-cursors", position)),
    );
    await ask(url, "edit-cursors", "Anew", { replaceFrom: second });
    for (const replaceFrom of [second, last]) {
      const input = { sessionId: "edit-cursors", text: "x", replaceFrom };
      expect((await refusal(url, sendOnly, { input })).extensions?.code).toBe("CURSOR_EXPIRED");
    }
    const elsewhere = await ask(url, "edit-elsewhere", "Hello");
    for (const replaceFrom of ["nonsense", "", elsewhere.userMessage?.cursor]) {
      const input = { sessionId: "edit-cursors", text: "x", replaceFrom };
      expect((await refusal(url, sendOnly, { input })).extensions?.code).toBe("INVALID_CURSOR");
    }
    expect(await texts(url, "edit-cursors")).toEqual([
      "USER: First",
      "ASSISTANT: You said: First",
      "USER: Anew",
      "ASSISTANT: You said: Anew",
    ]);
    await ask(url, "edit-cursors", "From the start", { replaceFrom: first });
    expect(await texts(url, "edit-cursors")).toEqual(["USER: From the start", "ASSISTANT: You said: From the start"]);
  });

  test("where it has to wait it cuts at its turn, and only then", async ({ openai, url }) => {
    await twoTurns(url, "edit-queued");
    openai.next({ kind: "gated", tokens: ["held"] });
    const held = await send(url, "edit-queued", "Third");
    const queued = await send(url, "edit-queued", "Second again", {
      replaceFrom: await cursorAt(url, "edit-queued", 2),
    });
    expect(queued.run.status).toBe("QUEUED");
    expect(await readMessages(url, "edit-queued")).toHaveLength(5);
    openai.releaseAll();
    await ended(url, queued.run.id);
    expect(await texts(url, "edit-queued")).toEqual([
      "USER: First",
      "ASSISTANT: You said: First",
      "USER: Second again",
      "ASSISTANT: You said: Second again",
    ]);
    expect(await readRun(url, held.run.id)).toMatchObject({ status: "COMPLETED", text: "held", reply: null });
  });

  test("where its place has gone until its turn, it fails and changes nothing", async ({ openai, url }) => {
    await twoTurns(url, "edit-late");
    openai.next({ kind: "gated", tokens: ["held"] });
    await send(url, "edit-late", "Third");
    const replaceFrom = await cursorAt(url, "edit-late", 2);
    const one = await send(url, "edit-late", "One", { replaceFrom });
    const two = await send(url, "edit-late", "Two", { replaceFrom });
    openai.releaseAll();
    await ended(url, one.run.id);
    await ended(url, two.run.id);
    expect(await readRun(url, two.run.id)).toMatchObject({
      status: "FAILED",
      text: "",
      userMessage: null,
      error: { retryable: true },
    });
    expect(await texts(url, "edit-late")).toEqual([
      "USER: First",
      "ASSISTANT: You said: First",
      "USER: One",
      "ASSISTANT: You said: One",
    ]);
  });

  test("a failed answer to the edited message leaves the edit", async ({ openai, url }) => {
    await twoTurns(url, "edit-fails");
    openai.next("500");
    const { run } = await ask(url, "edit-fails", "Edited", { replaceFrom: await cursorAt(url, "edit-fails", 2) });
    expect(run.status).toBe("FAILED");
    expect(await texts(url, "edit-fails")).toEqual(["USER: First", "ASSISTANT: You said: First", "USER: Edited"]);
  });
});

describe("regenerateReply", () => {
  test("the old reply stays until the new one is complete, then followers hear of the exchange", async ({
    openai,
    url,
  }) => {
    await twoTurns(url, "regenerate");
    const old = (await readMessages(url, "regenerate")).at(-1);
    const stream = await follow(url, "regenerate");
    openai.next({ kind: "gated", tokens: ["Something ", "else"] });
    const pending = regenerate(url, "regenerate");
    openai.release();
    await stream.waitFor(({ __typename }) => __typename === "ReplyProgress");
    expect((await readMessages(url, "regenerate")).at(-1)).toEqual(old);
    openai.releaseAll();
    const { run, reply } = await pending;
    await stream.waitFor(isRunEnd(run.id));
    stream.close();
    // What of the text was not on its way yet comes with the end.
    expect(outline(stream).filter((step) => step !== "ReplyProgress")).toEqual([
      "StreamOpened",
      "RunChanged RUNNING",
      "HistoryReset",
      "MessageAdded ASSISTANT",
      "RunChanged COMPLETED",
    ]);
    expect(
      eventsOf(stream, "ReplyProgress")
        .map(({ text }) => text)
        .join(""),
    ).toBe("Something else");
    const [reset] = eventsOf(stream, "HistoryReset");
    expect(reset?.kept).toBe(3);
    expect(eventsOf(stream, "MessageAdded").map(({ message }) => [message.position, message.id])).toEqual([
      [3, reply?.id],
    ]);
    expect(run).toMatchObject({ status: "COMPLETED", userMessage: { text: "Second" }, text: "Something else" });
    expect(run.replyId).toBe(reply?.id);
    expect(reply?.id).not.toBe(old?.id);
    expect(await texts(url, "regenerate")).toEqual([
      "USER: First",
      "ASSISTANT: You said: First",
      "USER: Second",
      "ASSISTANT: Something else",
    ]);
    // The model was asked as the first time, without the old reply.
    expect(openai.requests.at(-1)?.messages.map(({ content }) => content)).toEqual([
      "First",
      "You said: First",
      "Second",
    ]);
  });

  test("input is empty, userMessage is the message it answers", async ({ url }) => {
    await ask(url, "regenerate-input", "Hello", { messageId: "hello" });
    const query = `mutation { regenerateReply(input: { sessionId: "regenerate-input" }) { run { input { __typename } userMessage { messageId } } } }`;
    expect(await execute(url, query)).toEqual({
      regenerateReply: { run: { input: [], userMessage: { messageId: "hello" } } },
    });
  });

  test("FAILED keeps the old reply, and followers see no reset", async ({ openai, url }) => {
    await twoTurns(url, "regenerate-fails");
    const before = await readMessages(url, "regenerate-fails");
    const stream = await follow(url, "regenerate-fails");
    openai.next("noFinishReason");
    const { run, reply } = await regenerate(url, "regenerate-fails");
    await stream.waitFor(isRunEnd(run.id));
    stream.close();
    expect(run).toMatchObject({
      status: "FAILED",
      text: "Half a reply",
      error: { code: "REPLY_CUT_OFF" },
      reply: null,
    });
    expect(reply).toBeNull();
    expect(await readMessages(url, "regenerate-fails")).toEqual(before);
    expect(eventsOf(stream, "HistoryReset")).toEqual([]);
  });

  test("cancelled, it keeps the old reply, and its own text in the run alone", async ({ openai, url }) => {
    await twoTurns(url, "regenerate-cancel");
    const before = await readMessages(url, "regenerate-cancel");
    openai.next({ kind: "gated", tokens: ["Half ", "done"] });
    const input = { sessionId: "regenerate-cancel" };
    type Data = { regenerateReply: { run: { id: string } } };
    const { run } = (await execute<Data>(url, regenerateOnly, { input })).regenerateReply;
    openai.release();
    await waitUntil("its first text is stored", async () => (await readRun(url, run.id))?.text === "Half ");
    expect(await cancel(url, run.id)).toMatchObject({ status: "CANCELLED", text: "Half ", reply: null });
    expect(await readMessages(url, "regenerate-cancel")).toEqual(before);
  });

  test("of a reply in the middle: it and all after it go", async ({ url }) => {
    await twoTurns(url, "regenerate-middle");
    const { reply } = await regenerate(url, "regenerate-middle", {
      replaceFrom: await cursorAt(url, "regenerate-middle", 1),
    });
    expect(reply?.position).toBe(1);
    expect(await texts(url, "regenerate-middle")).toEqual(["USER: First", "ASSISTANT: You said: First"]);
  });

  test("what others added meanwhile stays behind the new reply, under its ids", async ({ openai, url }) => {
    await twoTurns(url, "regenerate-behind");
    openai.next({ kind: "gated", tokens: ["Made ", "anew"] });
    const replaceFrom = await cursorAt(url, "regenerate-behind", 1);
    const input = { sessionId: "regenerate-behind", replaceFrom };
    const { run } = (await execute<{ regenerateReply: { run: { id: string } } }>(url, regenerateOnly, { input }))
      .regenerateReply;
    const added = [
      { role: "SYSTEM", text: "Named", messageId: "mine" },
      { role: "SYSTEM", text: "Unnamed" },
      { role: "SYSTEM", text: '{"parley":{"position":4}}', messageId: "quoted" },
    ];
    const key = { idempotencyKey: "behind" };
    const first = await addMessages(url, "regenerate-behind", added, key);
    expect(first.map(({ position }) => position)).toEqual([4, 5, 6]);
    openai.releaseAll();
    await ended(url, run.id);
    const moved = await readMessages(url, "regenerate-behind");
    expect(moved.map(({ text, position }) => [position, text])).toEqual([
      [0, "First"],
      [1, "Made anew"],
      [2, "Named"],
      [3, "Unnamed"],
      [4, '{"parley":{"position":4}}'],
    ]);
    const ids = moved.slice(2).map(({ id }) => id);
    expect(ids).toEqual(first.map(({ id }) => id));
    const nodes = `query ($ids: [ID!]!) { nodes(ids: $ids) { ... on Message { id position } } }`;
    expect(await execute(url, nodes, { ids })).toEqual({ nodes: ids.map((id, i) => ({ id, position: i + 2 })) });
    // A retry finds them where they are now.
    const again = await addMessages(url, "regenerate-behind", added, key);
    expect(again.map(({ id, position }) => [id, position])).toEqual(ids.map((id, i) => [id, i + 2]));
    const own = await addMessages(url, "regenerate-behind", added.slice(0, 1));
    expect(own.map(({ id, position }) => [id, position])).toEqual([[ids[0], 2]]);
  });

  test("drops a tool's rows of the old answer too", async ({ url }) => {
    await addMessages(url, "regenerate-tools", [
      { role: "USER", text: "Weather?" },
      { role: "ASSISTANT", text: "", toolCalls: [{ callId: "c", name: "weather", args: {} }] },
      { role: "TOOL", text: "rain", toolCallId: "c" },
      { role: "ASSISTANT", text: "It rains." },
    ]);
    await regenerate(url, "regenerate-tools");
    expect(await texts(url, "regenerate-tools")).toEqual(["USER: Weather?", "ASSISTANT: You said: Weather?"]);
  });

  test.for([
    [
      "of Python's chat",
      String.raw`{"type": "chat", "data": {"content": "Sec\u006fnd \ud83d", "type": "chat", "role": "user"}}`,
    ],
    ["with its keys in another order", `{"data":{"content":"Second","additional_kwargs":{}},"type":"human"}`],
    ["in LangChain's old form", `{"type":"generic","role":"user","text":"Second"}`],
  ] as const)("a question %s is one too", async ([name, question], { redis, url }) => {
    const sessionId = `regenerate-foreign ${name}`;
    await addMessages(url, sessionId, [
      { role: "USER", text: "First" },
      { role: "ASSISTANT", text: "One" },
    ]);
    const raw = redis.raw();
    await raw.lpush(sessionId, question, `{"type":"human"}`, `{"type":"ai","data":{"content":"human user"}}`);
    const before = await texts(url, sessionId);
    await regenerate(url, sessionId);
    const after = await texts(url, sessionId);
    expect(before[2]).toMatch(/^USER: Second/);
    expect(after.slice(0, -1)).toEqual(before.slice(0, 3));
    expect(after[3]).toMatch(/^ASSISTANT: You said: Second/);
  });

  test("the same idempotencyKey gives back the first call's run", async ({ openai, url }) => {
    await ask(url, "regenerate-key", "Hello");
    const first = await regenerate(url, "regenerate-key", { idempotencyKey: "k1" });
    const before = openai.requests.length;
    expect(await regenerate(url, "regenerate-key", { idempotencyKey: "k1" })).toEqual(first);
    expect(openai.requests.length).toBe(before);
    const second = await regenerate(url, "regenerate-key", { idempotencyKey: "k2" });
    expect(second.run.id).not.toBe(first.run.id);
    expect(await readMessages(url, "regenerate-key")).toHaveLength(2);
  });

  test("where no USER message is, or no session, it is refused", async ({ url }) => {
    await addMessages(url, "regenerate-nothing", [{ role: "SYSTEM", text: "Rules" }]);
    const code = async (sessionId: string) =>
      (await refusal(url, regenerateOnly, { input: { sessionId } })).extensions?.code;
    expect([await code("regenerate-nothing"), await code("regenerate-nowhere")]).toEqual([
      "BAD_USER_INPUT",
      "NOT_FOUND",
    ]);
  });

  test("an old reader resumes behind the exchange: what it misses is a reset with what is kept, and all behind that", async ({
    url,
  }) => {
    await twoTurns(url, "resume");
    const cursor = await cursorAt(url, "resume", 3);
    const kept = await cursorAt(url, "resume", 2);
    await regenerate(url, "resume");
    await ask(url, "resume", "Third");
    const stream = await follow(url, "resume", cursor);
    const holding = await follow(url, "resume", kept);
    await stream.waitFor(({ __typename }) => __typename === "HistoryReset");
    await ask(url, "resume", "Fourth");
    for (const one of [stream, holding]) {
      await one.waitFor((event) => event.__typename === "MessageAdded" && event.message.text === "You said: Fourth");
      one.close();
    }
    expect(eventsOf(stream, "HistoryReset").map((reset) => reset.kept)).toEqual([3]);
    expect(eventsOf(holding, "HistoryReset")).toEqual([]);
    const behind = (await readMessages(url, "resume")).slice(3).map(({ id }) => id);
    for (const one of [stream, holding]) {
      expect(eventsOf(one, "MessageAdded").map(({ message }) => message.id)).toEqual(behind);
    }
  });

  test("cursors of kept messages go on through edits and answers made anew: edit, page, fork, markRead", async ({
    url,
  }) => {
    await ask(url, "kept", "Zero");
    const old = await cursorAt(url, "kept", 0);
    const reply = await cursorAt(url, "kept", 1);
    await twoTurns(url, "kept");
    for (const text of ["A", "B"]) await ask(url, "kept", text, { replaceFrom: await cursorAt(url, "kept", 4) });
    await regenerate(url, "kept");
    type Paged = { session: { messages: { nodes: { text: string }[] } } };
    const page = `query ($before: String) { session(sessionId: "kept") { messages(last: 9, before: $before) { nodes { text } } } }`;
    expect((await execute<Paged>(url, page, { before: reply })).session.messages.nodes).toEqual([{ text: "Zero" }]);
    const fork = `mutation ($through: String) { forkSession(input: { sessionId: "kept", through: $through }) { session { messageCount } } }`;
    expect(await execute(url, fork, { through: reply })).toEqual({ forkSession: { session: { messageCount: 2 } } });
    const read = `mutation ($through: String) { markRead(input: { sessionId: "kept", through: $through }) { session { readCount } } }`;
    // It never goes back.
    expect(await execute(url, read, { through: reply })).toEqual({ markRead: { session: { readCount: 5 } } });
    await ask(url, "kept", "C", { replaceFrom: await cursorAt(url, "kept", 4) });
    expect((await ask(url, "kept", "Anew", { replaceFrom: old })).userMessage?.position).toBe(0);
    expect(await texts(url, "kept")).toEqual(["USER: Anew", "ASSISTANT: You said: Anew"]);
  });
});
