import { describe, expect } from "vitest";
import { objectOrEmpty } from "../../src/conversation/message/json.ts";
import {
  ask,
  eventsOf,
  follow,
  isRunEnd,
  outline,
  readMessages,
  readRun,
  regenerate,
  send,
} from "../support/gateway/conversation.ts";
import type { RunFields, Turn } from "../support/gateway/conversation.ts";
import { chatTest } from "../support/gateway/chat-test.ts";
import { execute, refusal, request, requestParts } from "../support/gateway/graphql-client.ts";
import { secretOfErrors } from "../support/model/openai-server.ts";
import type { Behaviour, OpenAIServer } from "../support/model/openai-server.ts";
import { waitUntil } from "../support/redis/redis-command.ts";
import { json } from "../support/model/wire-records.ts";

const apiKey = "sk-test-of-ours";

const test = chatTest({
  models: ["offline"],
  openai: { apiKey },
  systemPrompt: "You are {terse}.",
  modelMaxRetries: 0,
  modelTimeoutMs: 4000,
});

/** The body of the newest request, as pairs of role and content. */
function lastRequest(openai: OpenAIServer): readonly (readonly [unknown, unknown])[] {
  return (openai.requests.at(-1)?.messages ?? []).map(({ role, content }) => [role, content] as const);
}

const told = "Hi! I'm Jim.";
const asked = "What did I just say my name was?";

describe("Jim's conversation", () => {
  test("with the offline model, its reply arriving piece by piece", async ({ url }) => {
    await execute(
      url,
      `mutation { createSession(input: { sessionId: "jim-offline", model: "offline" }) { session { id } } }`,
    );
    const stream = await follow(url, "jim-offline");
    const first = await ask(url, "jim-offline", told);
    expect(first.reply?.text).toContain("Hello Jim!");
    const second = await ask(url, "jim-offline", asked);
    expect(second.reply?.text).toContain("You said your name is Jim.");
    await stream.waitFor(isRunEnd(second.run.id));
    stream.close();
    for (const { run, reply } of [first, second]) {
      const pieces = eventsOf(stream, "ReplyProgress").filter(({ runId }) => runId === run.id);
      expect(pieces.length).toBeGreaterThan(3);
      expect(pieces.map(({ text }) => text).join("")).toBe(reply?.text);
    }
  });

  test("with a server that speaks OpenAI's format: system prompt, history and input reach it in order", async ({
    openai,
    url,
  }) => {
    const before = openai.requests.length;
    const first = await ask(url, "jim-openai", told);
    const second = await ask(url, "jim-openai", asked);
    expect([first.reply?.text, second.reply?.text]).toEqual(["Hello Jim!", "Your name is Jim."]);
    expect(openai.requests.length).toBe(before + 2);
    expect(lastRequest(openai)).toEqual([
      ["system", "You are {terse}."],
      ["user", told],
      ["assistant", "Hello Jim!"],
      ["user", asked],
    ]);
    expect(openai.requests.at(-1)).toMatchObject({
      headers: { authorization: `Bearer ${apiKey}` },
      body: { model: "gpt-4o-mini", stream: true },
    });
  });

  test("the session's own instructions stand in for the configured ones", async ({ openai, url }) => {
    const input = { sessionId: "own-instructions", instructions: "Speak {{French}}." };
    await execute(url, `mutation ($input: CreateSessionInput!) { createSession(input: $input) { session { id } } }`, {
      input,
    });
    await ask(url, "own-instructions", "Bonjour");
    expect(lastRequest(openai)[0]).toEqual(["system", "Speak {{French}}."]);
  });

  test("braces in what is said are text, not a template", async ({ openai, url }) => {
    await ask(url, "braces", "{name} and {{x}} and {");
    await ask(url, "braces", "{input}{history}");
    expect(lastRequest(openai).slice(1)).toEqual([
      ["user", "{name} and {{x}} and {"],
      ["assistant", "You said: {name} and {{x}} and {"],
      ["user", "{input}{history}"],
    ]);
  });

  test("content blocks reach the model as blocks, now and as history", async ({ openai, url }) => {
    const image = "data:image/png;base64,iVBORw0KGgo=";
    const content = [{ text: "What is this?" }, { image: { url: image, detail: "low" } }];
    const query = `mutation ($input: SendMessageInput!) { sendMessage(input: $input) {
      reply { text }
      userMessage { text content { __typename ... on TextBlock { text } ... on ImageBlock { url detail } } }
    } }`;
    const { sendMessage } = await execute<{ sendMessage: object }>(url, query, {
      input: { sessionId: "blocks", content },
    });
    expect(sendMessage).toEqual({
      reply: { text: "You said: What is this?" },
      userMessage: {
        text: "What is this?",
        content: [
          { __typename: "TextBlock", text: "What is this?" },
          { __typename: "ImageBlock", url: image, detail: "low" },
        ],
      },
    });
    const sent = [
      "user",
      [
        { type: "text", text: "What is this?" },
        { type: "image_url", image_url: { url: image, detail: "low" } },
      ],
    ];
    expect(lastRequest(openai).at(-1)).toEqual(sent);
    await ask(url, "blocks", "And now?");
    expect(lastRequest(openai)[1]).toEqual(sent);
  });

  test("usage and finish reason of the reply, and the session's total", async ({ openai, url }) => {
    openai.behave({ kind: "reply", text: "one two three", finishReason: "length" });
    const query = `mutation ($input: SendMessageInput!) { sendMessage(input: $input) {
      reply { finishReason usage { inputTokens outputTokens totalTokens } }
      run { usage { totalTokens } }
      session { totalUsage { inputTokens outputTokens totalTokens } }
    } }`;
    const input = { sessionId: "usage", text: "four words of mine" };
    await execute(url, query, { input });
    const { sendMessage } = await execute<{ sendMessage: object }>(url, query, { input });
    // The server counts words: 3 of the prompt, 4 of the user; then also 3 and 4 of the first turn.
    expect(sendMessage).toEqual({
      reply: { finishReason: "LENGTH", usage: { inputTokens: 14, outputTokens: 3, totalTokens: 17 } },
      run: { usage: { totalTokens: 17 } },
      session: { totalUsage: { inputTokens: 21, outputTokens: 6, totalTokens: 27 } },
    });
  });

  test("a model for one reply alone; one that is not offered is refused", async ({ openai, url }) => {
    const before = openai.requests.length;
    const { run, reply } = await ask(url, "other-model", told, { model: "offline" });
    expect([run.model, openai.requests.length]).toEqual(["offline", before]);
    expect(reply?.text).toContain("Hello Jim!");
    expect((await ask(url, "other-model", asked)).run.model).toBe("openai:gpt-4o-mini");
    const refused = await refusal(
      url,
      `mutation { sendMessage(input: { sessionId: "other-model", text: "x", model: "openai:gpt-9" }) { run { id } } }`,
    );
    expect(refused.extensions).toMatchObject({ code: "BAD_USER_INPUT", field: "input.model" });
  });
});

describe("a turn", () => {
  test("reads in this order: RUNNING, question, progress, reply, COMPLETED", async ({ openai, url }) => {
    await ask(url, "order", "Begin");
    const stream = await follow(url, "order");
    openai.behave({ kind: "reply", tokens: ["A ", "b\u00e4r \ud83d", "\udc3b", " walks", ""], delayMs: 40 });
    const { run, reply, userMessage } = await ask(url, "order", "Go");
    await stream.waitFor(isRunEnd(run.id));
    stream.close();
    expect(outline(stream)).toEqual([
      "StreamOpened",
      "RunChanged RUNNING",
      "MessageAdded USER",
      // The reply before was unread, and is not any more.
      "SessionUpdated",
      "ReplyProgress",
      "MessageAdded ASSISTANT",
      "RunChanged COMPLETED",
    ]);
    const [running, ended] = eventsOf(stream, "RunChanged").map((event) => event.run);
    const added = eventsOf(stream, "MessageAdded").map((event) => event.message);
    expect(running).toMatchObject({ id: run.id, userMessage: { id: userMessage?.id }, text: "", reply: null });
    expect(added.map(({ id }) => id)).toEqual([userMessage?.id, reply?.id]);
    expect(added.map((message) => message.run?.id)).toEqual([run.id, run.id]);
    expect(ended).toMatchObject({ id: run.id, text: reply?.text, reply: { id: reply?.id } });
    const pieces = eventsOf(stream, "ReplyProgress");
    let text = "";
    for (const piece of pieces) {
      expect(piece).toMatchObject({ runId: run.id, replyId: reply?.id, offset: text.length });
      expect(piece.text.isWellFormed()).toBe(true);
      text += piece.text;
    }
    expect(text).toBe("A b\u00e4r \ud83d\udc3b walks");
    expect(reply?.text).toBe(text);
    expect(run.replyId).toBe(reply?.id);
  });

  test("without `reply` the answer comes while the model still works; a late reader gets the text so far, then the rest", async ({
    openai,
    url,
  }) => {
    openai.behave({ kind: "gated", tokens: ["One ", "two ", "three"] });
    const begun = await send(url, "no-wait", "Count");
    expect(begun).toMatchObject({ run: { status: "RUNNING", reply: null }, userMessage: { text: "Count" } });
    openai.release(2);
    await waitUntil("two tokens are stored", async () => (await readRun(url, begun.run.id))?.text === "One two ");

    const late = await follow(url, "no-wait");
    const [opened] = eventsOf(late, "StreamOpened");
    expect(opened?.session.activeRun).toEqual({ id: begun.run.id, text: "One two " });
    openai.releaseAll();
    await late.waitFor(isRunEnd(begun.run.id));
    late.close();
    expect(outline(late)).toEqual(["StreamOpened", "ReplyProgress", "MessageAdded ASSISTANT", "RunChanged COMPLETED"]);
    const progress = eventsOf(late, "ReplyProgress");
    expect(progress[0]?.offset).toBe("One two ".length);
    expect(progress.map(({ text }) => text).join("")).toBe("three");
  });

  test("`reply` in @defer: the question first, the reply when it is there", async ({ openai, url }) => {
    openai.behave({ kind: "gated", tokens: ["Here ", "it is"] });
    const query = `mutation { sendMessage(input: { sessionId: "defer", text: "Bring it" }) {
      userMessage { text } run { status } ... @defer { reply { text } }
    } }`;
    const parts = requestParts(url, query);
    const first = await parts.next();
    expect(first.value).toMatchObject({
      data: { sendMessage: { userMessage: { text: "Bring it" }, run: { status: "RUNNING" } } },
      hasNext: true,
    });
    openai.releaseAll();
    const rest: unknown[] = [];
    for await (const part of parts) rest.push(part);
    expect(JSON.stringify(rest)).toContain(`{"reply":{"text":"Here it is"}}`);
  });

  test("goes on when its client is gone (P6)", async ({ openai, url }) => {
    openai.behave({ kind: "gated", tokens: ["Still ", "here"] });
    const before = openai.requests.length;
    const page = new AbortController();
    const query = `mutation { sendMessage(input: { sessionId: "left", text: "Bye" }) { reply { text } } }`;
    const left = request(url, query, {}, page.signal);
    await openai.waitForRequests(before + 1);
    const stream = await follow(url, "left");
    page.abort();
    await expect(left).rejects.toThrow();
    const aborted = openai.aborted;
    openai.releaseAll();
    await stream.waitFor(({ __typename }) => __typename === "MessageAdded");
    stream.close();
    expect((await readMessages(url, "left")).map(({ text }) => text)).toEqual(["Bye", "Still here"]);
    expect(openai.aborted).toBe(aborted);
  });

  test("a reply can be the whole of what was asked for: node and session agree with it", async ({ url }) => {
    const { run, reply, userMessage } = await ask(url, "nodes", "Hello", { messageId: "mine" });
    const query = `query ($ids: [ID!]!) { nodes(ids: $ids) {
      __typename id ... on Message { text run { id } } ... on Run { status reply { id } userMessage { id } }
    } }`;
    const { nodes } = await execute<{ nodes: unknown }>(url, query, {
      ids: [run.id, reply?.id, userMessage?.id, "bm8="],
    });
    expect(nodes).toEqual([
      {
        __typename: "Run",
        id: run.id,
        status: "COMPLETED",
        reply: { id: reply?.id },
        userMessage: { id: userMessage?.id },
      },
      { __typename: "Message", id: reply?.id, text: "You said: Hello", run: { id: run.id } },
      { __typename: "Message", id: userMessage?.id, text: "Hello", run: { id: run.id } },
      null,
    ]);
  });
});

describe("a model's failure", () => {
  const cases: readonly (readonly [Behaviour, string, string])[] = [
    ["429", "MODEL_RATE_LIMITED", ""],
    ["500", "MODEL_UNAVAILABLE", ""],
    ["401", "MODEL_UNAUTHORIZED", ""],
    ["context_length", "CONTEXT_TOO_LONG", ""],
    ["cutMidStream", "REPLY_CUT_OFF", "Half a reply"],
    ["errorFrame", "MODEL_UNAVAILABLE", "Half a reply"],
    ["noFinishReason", "REPLY_CUT_OFF", "Half a reply"],
    ["hang", "MODEL_TIMEOUT", ""],
    ["hangMidStream", "MODEL_TIMEOUT", "Half a reply"],
  ];

  test.for(cases)(
    "%s is data: a FAILED run, the question stays, the text is kept",
    async ([behaviour, code, text], { openai, url }) => {
      const sessionId = `fails-${JSON.stringify(behaviour)}`;
      await ask(url, sessionId, "First");
      const stream = await follow(url, sessionId);
      openai.next(behaviour);
      const { run, reply, userMessage } = await ask(url, sessionId, "Second");
      await stream.waitFor(isRunEnd(run.id));
      stream.close();
      expect(run).toMatchObject({ status: "FAILED", text, reply: null, error: { code } });
      expect(reply).toBeNull();
      expect(userMessage?.text).toBe("Second");
      for (const hidden of [secretOfErrors, apiKey, "127.0.0.1", "http"])
        expect(run.error?.message).not.toContain(hidden);
      expect(outline(stream).filter((step) => step !== "ReplyProgress")).toEqual([
        "StreamOpened",
        "RunChanged RUNNING",
        "MessageAdded USER",
        "SessionUpdated",
        "RunChanged FAILED",
      ]);
      expect((await readMessages(url, sessionId)).map((message) => message.text)).toEqual([
        "First",
        "You said: First",
        "Second",
      ]);

      // It is what `lastRun` shows after a reload, and answering again mends it.
      type Data = { session: { activeRun: null; lastRun: RunFields } };
      const reload = `query ($sessionId: String!) { session(sessionId: $sessionId) { activeRun { id } lastRun { id status text } } }`;
      expect((await execute<Data>(url, reload, { sessionId })).session).toEqual({
        activeRun: null,
        lastRun: { id: run.id, status: "FAILED", text },
      });
      const again = await regenerate(url, sessionId);
      expect(again).toMatchObject({ run: { status: "COMPLETED", error: null }, reply: { text: "You said: Second" } });
    },
  );

  test("says how long the provider wants to be left alone, also to those who read it later, and is logged without words", async ({
    openai,
    gateway,
    url,
  }) => {
    const sessionId = "limited";
    const headers = { "retry-after": "86400", "x-request-id": "req_limited" };
    openai.next(json({ error: { message: `slow down, ${secretOfErrors}` } }, 429, headers));
    const { run } = await ask(url, sessionId, "Hello");
    const error = { code: "MODEL_RATE_LIMITED", retryable: true, retryAfterSeconds: 86_400 };
    expect(run.error).toMatchObject(error);
    expect((await readRun(url, run.id))?.error).toMatchObject(error);
    const lines = gateway.logged
      .map(({ level, fields }) => ({ level, fields: objectOrEmpty(fields) }))
      .filter(({ fields }) => fields["providerRequestId"] === "req_limited");
    expect(lines).toMatchObject([
      { level: "warn", fields: { purpose: "reply", code: "MODEL_RATE_LIMITED", providerStatus: 429 } },
    ]);
    expect(Buffer.from(run.id, "base64url").toString()).toContain(String(lines[0]?.fields["runId"]));
    expect(JSON.stringify(lines)).not.toContain(secretOfErrors);

    const other = await ask(url, sessionId, "Hello");
    expect(other.run).toMatchObject({ status: "COMPLETED", error: null });
    openai.next("401");
    expect((await ask(url, sessionId, "Hello")).run.error).toMatchObject({ retryAfterSeconds: null });
  });

  test("neither keys nor addresses are logged at a level that is on by default", ({ gateway }) => {
    const loud = gateway.logged.filter(({ level }) => level !== "debug");
    expect(
      loud.filter((line) => line.message.includes(apiKey) || JSON.stringify(line.fields).includes(apiKey)),
    ).toEqual([]);
  });
});

describe("around the model", () => {
  test("models and viewer", async ({ url }) => {
    expect(await execute(url, `{ models { name isDefault } viewer { subject scopes } }`)).toEqual({
      models: [
        { name: "openai:gpt-4o-mini", isDefault: true },
        { name: "offline", isDefault: false },
      ],
      viewer: { subject: "anonymous", scopes: ["chat:read", "chat:write", "admin"] },
    });
  });

  test("generateTitle asks the model, stores the title and takes no turn; a failure leaves the title", async ({
    openai,
    url,
  }) => {
    await ask(url, "titled", "Tell me of bears");
    openai.next({ kind: "reply", text: "Bears and more" });
    const query = `mutation { generateTitle(input: { sessionId: "titled" }) { session { title messageCount } error { code } } }`;
    expect(await execute(url, query)).toEqual({
      generateTitle: { session: { title: "Bears and more", messageCount: 2 }, error: null },
    });
    openai.next("500");
    expect(await execute(url, query)).toEqual({
      generateTitle: { session: { title: "Bears and more", messageCount: 2 }, error: { code: "MODEL_UNAVAILABLE" } },
    });
  });

  test("generateTitle goes on beside a running turn", async ({ openai, url }) => {
    openai.next({ kind: "gated", tokens: ["slow"] }, { kind: "reply", text: "Quick title" });
    const { run } = await send(url, "busy-title", "Take your time");
    type Data = { generateTitle: { session: { title: string; activeRun: Turn["run"] | null } } };
    const query = `mutation { generateTitle(input: { sessionId: "busy-title" }) { session { title activeRun { id } } } }`;
    await waitUntil("the turn's request is there first", () =>
      Promise.resolve(lastRequest(openai).at(-1)?.[1] === "Take your time"),
    );
    const { session } = (await execute<Data>(url, query)).generateTitle;
    expect(session).toEqual({ title: "Quick title", activeRun: { id: run.id } });
    openai.releaseAll();
    await waitUntil("the turn ends", async () => (await readRun(url, run.id))?.status === "COMPLETED");
  });
});
