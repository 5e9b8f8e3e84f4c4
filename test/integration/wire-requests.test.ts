import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";

import { isObject, type JsonObject } from "../../src/conversation/message/json.ts";
import type { ReplyRequest } from "../../src/conversation/ports/model.ts";
import type { LangChainReplies } from "../../src/langchain/replies.ts";
import { startOpenAI, type OpenAIServer, type RecordedRequest } from "../support/model/openai-server.ts";
import { ai, completedOf, human, own, repliesAt, runReply, system } from "../support/model/reply-requests.ts";
import { endOf, json } from "../support/model/wire-records.ts";

// What servers get that speak OpenAI's format nearly: the order of roles, and requests without what was refused.

let server: OpenAIServer;
beforeAll(async () => {
  server = await startOpenAI();
});
afterAll(() => server.close());
afterEach(() => server.behave(null));

const repliesFor = (model: string, temperature: number | null = null, baseUrl = server.baseUrl): LangChainReplies =>
  repliesAt(baseUrl, {
    defaultModel: `openai:${model}`,
    openai: { apiKey: null, baseUrl, temperature, maxRetries: 2 },
  });

/** The requests that a turn makes, and how it ends. */
async function turn(replies: LangChainReplies, other: Partial<ReplyRequest> = {}) {
  const before = server.requests.length;
  const { outcome } = await runReply(replies, { model: replies.models[0]?.name ?? "", ...other });
  const bodies = server.requests.slice(before).map(({ body }) => body);
  return { outcome, bodies, last: bodies.at(-1) ?? {} };
}

describe("what a server refuses", () => {
  const hasRole = (role: string) => (body: JsonObject) => messagesOf(body).some((message) => message["role"] === role);
  const hasName = (body: JsonObject) => messagesOf(body).some((message) => "name" in message);
  const hasList = (body: JsonObject) => messagesOf(body).some(({ content }) => Array.isArray(content));
  const named = JSON.stringify({ type: "human", data: { content: "hi", name: "bob" } });

  interface Refusal {
    readonly words: object;
    readonly status?: number;
    readonly has: (body: JsonObject) => boolean;
    readonly model?: string;
    readonly temperature?: number;
    readonly turn?: Partial<ReplyRequest>;
    readonly after: (body: JsonObject) => unknown;
    readonly expected: unknown;
  }
  const streamOptions = {
    has: (body: JsonObject) => "stream_options" in body,
    after: (body: JsonObject) => body["stream_options"],
    expected: undefined,
  };
  const temperature = {
    has: (body: JsonObject) => "temperature" in body,
    temperature: 0.2,
    after: (body: JsonObject) => body["temperature"],
    expected: undefined,
  };
  const developer = {
    has: hasRole("developer"),
    model: "o3",
    turn: { instructions: "Be kind." },
    after: messagesOf,
    expected: [
      { role: "system", content: "Be kind." },
      { role: "user", content: "hello" },
    ],
  };
  const name = {
    has: hasName,
    turn: { rows: [named, ai("yes?")] },
    after: messagesOf,
    expected: [
      { role: "user", content: "bob: hi" },
      { role: "assistant", content: "yes?" },
      { role: "user", content: "hello" },
    ],
  };
  const list = {
    has: hasList,
    turn: {
      input: human([
        { type: "text", text: "one" },
        { type: "text", text: "two" },
      ]),
    },
    after: messagesOf,
    expected: [{ role: "user", content: "one\n\ntwo" }],
  };
  const openai = (message: string, param: string | null = null) => ({
    error: { message, type: "invalid_request_error", param, code: null },
  });

  it.each<[string, Refusal]>([
    [
      "stream_options (Azure)",
      { ...streamOptions, words: openai("Unknown parameter: 'stream_options'.", "stream_options") },
    ],
    [
      "stream_options (vLLM)",
      {
        ...streamOptions,
        words: {
          object: "error",
          message:
            "[{'type': 'extra_forbidden', 'loc': ('body', 'stream_options'), 'msg': 'Extra inputs are not permitted'}]",
          code: 400,
        },
      },
    ],
    [
      "stream_options (Mistral, 422)",
      {
        ...streamOptions,
        status: 422,
        words: {
          detail: [
            {
              type: "extra_forbidden",
              loc: ["body", "stream_options", "include_usage"],
              msg: "Extra inputs are not permitted",
              input: true,
            },
          ],
        },
      },
    ],
    [
      "stream_options (in words)",
      { ...streamOptions, words: { detail: "Extra parameters ['stream_options'] are not allowed" } },
    ],
    [
      "temperature (OpenAI)",
      {
        ...temperature,
        words: openai(
          "Unsupported value: 'temperature' does not support 0.2 with this model. Only the default (1) value is supported.",
          "temperature",
        ),
      },
    ],
    [
      "temperature (Anthropic's endpoint)",
      { ...temperature, words: { error: { message: "`temperature` is deprecated for this model." } } },
    ],
    [
      "the role developer (OpenAI)",
      {
        ...developer,
        words: openai(
          "Unsupported value: 'messages[0].role' does not support 'developer' with this model.",
          "messages[0].role",
        ),
      },
    ],
    [
      "the role developer (DeepSeek, 422)",
      {
        ...developer,
        status: 422,
        words: openai(
          "Failed to deserialize the JSON body into the target type: messages[0].role: unknown variant `developer`, expected one of `system`, `user`, `assistant`, `tool`",
        ),
      },
    ],
    [
      "the role developer (a template)",
      { ...developer, words: openai("chat template rejected the request: Unexpected message role.") },
    ],
    [
      "name (Groq)",
      {
        ...name,
        words: openai(
          "'messages.0' : for 'role:user' the following must be satisfied[('messages.0' : property 'name' is unsupported)]",
        ),
      },
    ],
    [
      "name (Mistral, 422)",
      {
        ...name,
        status: 422,
        words: {
          detail: [
            {
              type: "extra_forbidden",
              loc: ["body", "messages", 0, "user", "name"],
              msg: "Extra inputs are not permitted",
              input: "bob",
            },
          ],
        },
      },
    ],
    [
      "content in a list (Text Generation Inference, 422)",
      {
        ...list,
        status: 422,
        words: {
          error:
            "Failed to deserialize the JSON body into the target type: messages[0].content: invalid type: sequence, expected a string at line 1 column 50",
        },
      },
    ],
    [
      "content in a list (FastAPI, 422)",
      {
        ...list,
        status: 422,
        words: {
          detail: [
            {
              type: "string_type",
              loc: ["body", "messages", 0, "content"],
              msg: "Input should be a valid string",
              input: [],
            },
          ],
        },
      },
    ],
    [
      "content in a list (Cerebras)",
      { ...list, words: openai("messages.0.content: value must be a string", "messages") },
    ],
    [
      "the role system (Gemma)",
      {
        has: hasRole("system"),
        turn: { instructions: "Be kind." },
        words: openai("System role not supported"),
        after: messagesOf,
        expected: [{ role: "user", content: "Be kind.\n\nhello" }],
      },
    ],
    [
      "the role system (Gemma on llama.cpp, 500)",
      {
        has: hasRole("system"),
        turn: { instructions: "Be kind." },
        status: 500,
        words: {
          error: { code: 500, message: "Error: Jinja Exception: System role not supported", type: "server_error" },
        },
        after: messagesOf,
        expected: [{ role: "user", content: "Be kind.\n\nhello" }],
      },
    ],
    [
      "the role system (a template that fails once the stream has begun, LM Studio)",
      {
        has: hasRole("system"),
        turn: { instructions: "Be kind." },
        status: 200,
        words: { error: { message: 'Error rendering prompt with jinja template: "System role not supported".' } },
        after: messagesOf,
        expected: [{ role: "user", content: "Be kind.\n\nhello" }],
      },
    ],
  ])("%s is left out in one more request, and from then on", async (_title, refusal) => {
    server.behave(({ body }) =>
      refusal.has(body) ? json(refusal.words, refusal.status ?? 400) : { kind: "reply", text: "fine" },
    );
    const replies = repliesFor(refusal.model ?? "gpt-test", refusal.temperature ?? null);
    const first = await turn(replies, refusal.turn);
    expect(endOf(first.outcome)).toEqual({ text: "fine", finish: "stop" });
    expect(first.bodies.length).toBe(2);
    expect(refusal.after(first.last)).toEqual(refusal.expected);
    // Everything else is as it was.
    expect(Object.keys(first.last)).toEqual(expect.arrayContaining(["model", "messages", "stream"]));

    const second = await turn(replies, refusal.turn);
    expect(second.bodies.length).toBe(1);
    expect(refusal.after(second.last)).toEqual(refusal.expected);
  });

  it("several things one after another are left out", async () => {
    server.behave(({ body }) => {
      if ("stream_options" in body) return json(openai("Unknown parameter: 'stream_options'."), 400);
      if ("temperature" in body) return json(openai("'temperature' is not supported."), 400);
      return { kind: "reply", text: "fine" };
    });
    const replies = repliesFor("gpt-test", 0.5);
    const first = await turn(replies);
    expect(first.bodies.length).toBe(3);
    expect(endOf(first.outcome)).toEqual({ text: "fine", finish: "stop" });
    expect((await turn(replies)).bodies.length).toBe(1);
  });

  it("is remembered as what it was: not what the words named beside it", async () => {
    const words = "Extra inputs are not permitted: property 'name'. Permitted are model, messages, temperature.";
    server.behave(({ body }) => (hasName(body) ? json(openai(words), 400) : { kind: "reply", text: "fine" }));
    const replies = repliesFor("gpt-test", 0.5);
    const first = await turn(replies, name.turn);
    expect(endOf(first.outcome)).toEqual({ text: "fine", finish: "stop" });
    const second = await turn(replies, name.turn);
    expect(second.bodies.length).toBe(1);
    expect(second.last).toHaveProperty("temperature", 0.5);
  });

  it("in the same words for two things at once is learnt all the same", async () => {
    server.behave(({ body }) =>
      "temperature" in body || "stream_options" in body
        ? json(openai("temperature and stream_options are not supported"), 400)
        : { kind: "reply", text: "fine" },
    );
    const replies = repliesFor("gpt-test", 0.5);
    expect(endOf((await turn(replies)).outcome)).toEqual({ text: "fine", finish: "stop" });
    expect(endOf((await turn(replies)).outcome)).toEqual({ text: "fine", finish: "stop" });
    expect((await turn(replies)).bodies.length).toBe(1);
  });

  it("is remembered of one server and one model", async () => {
    server.behave(({ body }) =>
      "stream_options" in body
        ? json(openai("Unknown parameter: 'stream_options'."), 400)
        : { kind: "reply", text: "fine" },
    );
    const other = "openai:other";
    const replies = repliesAt(server.baseUrl, { models: [other] });
    expect((await turn(replies)).bodies.length).toBe(2);
    expect((await turn(replies, { model: other })).bodies.length).toBe(2);
    expect((await turn(replies, { model: other })).bodies.length).toBe(1);
  });

  it("costs the usage, which is then estimated", async () => {
    server.behave(({ body }) =>
      "stream_options" in body
        ? json(openai("Unknown parameter: 'stream_options'."), 400)
        : { kind: "reply", text: "Hello" },
    );
    const { outcome } = await turn(repliesFor("gpt-test"));
    expect(completedOf(outcome).usage).toEqual({ inputTokens: 5, outputTokens: 1, totalTokens: 6 });
  });

  it.each<[string, number, object, number]>([
    ["another status", 500, openai("stream_options broke the server"), 3],
    ["another status of a limit", 429, openai("stream_options"), 1],
    ["words that name nothing", 400, openai("This request is invalid."), 1],
    ["what is not in the request", 400, openai("Unsupported parameter: 'temperature'", "temperature"), 1],
    ["a history that is too long", 400, openai("This model's maximum context length is 4096 tokens."), 1],
  ])("%s changes no request", async (_title, status, words, requests) => {
    server.behave(json(words, status));
    const { outcome, bodies } = await turn(repliesFor("gpt-test"));
    expect(outcome.kind).toBe("failed");
    expect(bodies.length).toBe(requests);
    expect(bodies.every((body) => "stream_options" in body)).toBe(true);
  });

  it("and goes on refusing is asked once more for each thing, and nothing is remembered", async () => {
    server.behave(json(openai("Unknown parameter: 'stream_options'."), 400));
    const replies = repliesFor("gpt-test");
    const { outcome, bodies } = await turn(replies);
    expect(outcome).toMatchObject({ kind: "failed", error: { code: "OTHER", retryable: false } });
    expect(bodies.length).toBe(2);
    server.behave(null);
    expect((await turn(replies)).last).toHaveProperty("stream_options");
  });

  it("behind the first byte of a reply is an error like any other: nothing is paid twice", async () => {
    server.behave({
      kind: "raw",
      parts: [
        'data: {"choices":[{"delta":{"content":"Hel"}}]}\n\n',
        'data: {"error":{"message":"Unknown parameter: \'stream_options\'.","code":400}}\n\n',
      ],
    });
    const { outcome, bodies } = await turn(repliesFor("gpt-test"));
    expect(endOf(outcome)).toEqual({ code: "OTHER" });
    expect(bodies.length).toBe(1);
  });
});

describe("the order of roles for a server of OPENAI_BASE_URL", () => {
  const sent = async (rows: readonly string[], other: Partial<ReplyRequest> = {}) =>
    messagesOf((await turn(repliesFor("gpt-test"), { rows: rows.map(own), ...other })).last);
  const named = (content: unknown, name: string) => JSON.stringify({ type: "human", data: { content, name } });

  it("has one system message, first, with all that was said as system, in order", async () => {
    const rows = [
      system("The user lives in Oslo."),
      human("hi"),
      ai("hello"),
      system("From now on speak French."),
      human("so"),
      ai("oui"),
    ];
    expect(await sent(rows, { instructions: "Be brief." })).toEqual([
      { role: "system", content: "Be brief.\n\nThe user lives in Oslo.\n\nFrom now on speak French." },
      { role: "user", content: "hi" },
      { role: "assistant", content: "hello" },
      { role: "user", content: "so" },
      { role: "assistant", content: "oui" },
      { role: "user", content: "hello" },
    ]);
  });

  it("joins what one role said twice, by an empty line, and the question with it", async () => {
    expect(await sent([human("a"), human("b"), system("s"), human("c"), ai("d"), ai("e"), human("f")])).toEqual([
      { role: "system", content: "s" },
      { role: "user", content: "a\n\nb\n\nc" },
      { role: "assistant", content: "d\n\ne" },
      { role: "user", content: "f\n\nhello" },
    ]);
  });

  it("puts blocks one behind another", async () => {
    const image = { type: "image_url", image_url: { url: "data:image/png;base64,AAAA" } };
    expect(await sent([human("look"), human([{ type: "text", text: "here" }, image])])).toEqual([
      {
        role: "user",
        content: [
          { type: "text", text: "look" },
          { type: "text", text: "here" },
          image,
          { type: "text", text: "hello" },
        ],
      },
    ]);
  });

  it("keeps one name as it is, and different ones ahead of what they said", async () => {
    expect(await sent([named("a", "bob"), named("b", "bob"), ai("c")])).toEqual([
      { role: "user", content: "a\n\nb", name: "bob" },
      { role: "assistant", content: "c" },
      { role: "user", content: "hello" },
    ]);
    expect(await sent([named("a", "bob"), named("b", "ann"), human("c"), named("d", "ann")])).toEqual([
      { role: "user", content: "bob: a\n\nann: b\n\nc\n\nann: d\n\nhello" },
    ]);
  });

  it("lets the user begin", async () => {
    expect(await sent([ai("Welcome!"), human("thanks"), ai("So?")], { instructions: "Be kind." })).toEqual([
      { role: "system", content: "Be kind." },
      { role: "user", content: "…" },
      { role: "assistant", content: "Welcome!" },
      { role: "user", content: "thanks" },
      { role: "assistant", content: "So?" },
      { role: "user", content: "hello" },
    ]);
  });

  it("leaves what other programs wrote as it is, until a server refuses that", async () => {
    const rows = [human("a"), own(human("b")), ai("c"), ai("d")];
    const alone = await turn(repliesFor("gpt-test"), { rows });
    expect(messagesOf(alone.last).map(({ content }) => content)).toEqual(["a", "b", "c", "d", "hello"]);

    const words = "Conversation roles must alternate user/assistant/user/assistant/...";
    server.behave(({ body }) => {
      const roles = messagesOf(body).map(({ role }) => role);
      const alternate = roles.every((role, index) => index === 0 || role !== roles[index - 1]);
      return alternate ? { kind: "reply", text: "fine" } : json({ object: "error", message: words, code: 400 }, 400);
    });
    const replies = repliesFor("gpt-test");
    const first = await turn(replies, { rows });
    expect(first.bodies.length).toBe(2);
    expect(messagesOf(first.last)).toEqual([
      { role: "user", content: "a\n\nb" },
      { role: "assistant", content: "c\n\nd" },
      { role: "user", content: "hello" },
    ]);
    expect((await turn(replies, { rows })).bodies.length).toBe(1);
  });

  it("joins nothing with calls of tools and their answers", async () => {
    const calls = JSON.stringify({
      type: "ai",
      data: {
        content: "let me see",
        tool_calls: [
          { id: "1", name: "t", args: {} },
          { id: "2", name: "t", args: {} },
        ],
      },
    });
    const answer = (id: string) => JSON.stringify({ type: "tool", data: { content: id, tool_call_id: id } });
    const roles = (await sent([human("a"), ai("one"), calls, answer("1"), answer("2"), ai("two"), ai("three")])).map(
      ({ role, content }) => [role, content],
    );
    expect(roles).toEqual([
      ["user", "a"],
      ["assistant", "one"],
      ["assistant", "let me see"],
      ["tool", "1"],
      ["tool", "2"],
      ["assistant", "two\n\nthree"],
      ["user", "hello"],
    ]);
  });
});

function messagesOf(body: JsonObject): readonly JsonObject[] {
  const { messages } = body as Partial<RecordedRequest["body"]>;
  return Array.isArray(messages) ? messages.filter(isObject) : [];
}
