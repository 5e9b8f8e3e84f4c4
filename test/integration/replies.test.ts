import { getEventListeners } from "node:events";
import { createServer } from "node:net";

import type { CallbackManagerForLLMRun } from "@langchain/core/callbacks/manager";
import { AIMessage, AIMessageChunk, mapStoredMessagesToChatMessages, type BaseMessage } from "@langchain/core/messages";
import { BaseChatModel } from "@langchain/core/language_models/chat_models";
import { ChatGenerationChunk, type ChatResult } from "@langchain/core/outputs";
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from "vitest";

import type { ReplyOutcome, ReplyRequest } from "../../src/conversation/replies.ts";
import type { RunErrorCode } from "../../src/conversation/run.ts";
import { createReplies, type LangChainReplies, type RepliesOptions } from "../../src/langchain/replies.ts";
import { secretOfErrors, startOpenAI, type Behaviour, type OpenAIServer } from "../support/openai-server.ts";

// The real ChatOpenAI in a real ConversationChain, against a server that speaks OpenAI's wire format.

let server: OpenAIServer;
beforeAll(async () => {
  server = await startOpenAI();
});
afterAll(() => server.close());
afterEach(() => {
  server.behave(null);
  vi.unstubAllEnvs();
});

const model = "openai:gpt-test";
const human = (content: unknown): string => JSON.stringify({ type: "human", data: { content } });
const ai = (content: string): string => JSON.stringify({ type: "ai", data: { content } });
const system = (content: string): string => JSON.stringify({ type: "system", data: { content } });

function repliesWith(other: Partial<RepliesOptions> = {}): LangChainReplies {
  return createReplies({
    defaultModel: model,
    models: [],
    openai: { apiKey: secretOfErrors, baseUrl: server.baseUrl, temperature: null, maxRetries: 0 },
    timeoutMs: 20_000,
    memoryDefaults: { maxTurns: 10, maxTokens: 2000 },
    offlineWordDelayMs: 0,
    ...other,
  });
}

function requestOf(other: Partial<ReplyRequest> = {}): ReplyRequest {
  return {
    model,
    instructions: null,
    memory: { strategy: "BUFFER", maxTurns: null, maxTokens: null },
    summary: null,
    rows: [],
    input: human("hello"),
    signal: new AbortController().signal,
    onText: () => undefined,
    ...other,
  };
}

async function replyTo(other: Partial<ReplyRequest> = {}, replies = repliesWith()) {
  const tokens: string[] = [];
  const outcome = await replies.reply(requestOf({ onText: (text) => tokens.push(text), ...other }));
  return { outcome, tokens };
}

function lastRequest() {
  const request = server.requests.at(-1);
  if (request === undefined) throw new Error("The server got no request");
  return request;
}

function completedOf(outcome: ReplyOutcome) {
  if (outcome.kind !== "completed") throw new Error(`Not completed: ${JSON.stringify(outcome)}`);
  return outcome;
}

describe("what the model gets", () => {
  it("is the system prompt, the history and the input, in order, and the name comes back", async () => {
    const rows = [human("Hi! I'm Jim."), ai("Hello Jim!")];
    const { outcome } = await replyTo({
      instructions: "Be kind.",
      rows,
      input: human("What did I just say my name was?"),
    });
    expect(lastRequest().messages).toEqual([
      { role: "system", content: "Be kind." },
      { role: "user", content: "Hi! I'm Jim." },
      { role: "assistant", content: "Hello Jim!" },
      { role: "user", content: "What did I just say my name was?" },
    ]);
    expect(completedOf(outcome).text).toBe("Your name is Jim.");
  });

  it("has braces as they are, wherever they stand", async () => {
    const rows = [human("{history} {{x}"), ai("{input"), system("{}")];
    await replyTo({ instructions: 'Answer as {"json": {input}} }{', rows, input: human("{instructions} }}") });
    expect(lastRequest().messages.map(({ content }) => content)).toEqual([
      'Answer as {"json": {input}} }{',
      "{history} {{x}",
      "{input",
      "{}",
      "{instructions} }}",
    ]);
  });

  it("has images as blocks", async () => {
    const url = "data:image/png;base64,iVBORw0KGgo=";
    const content = [
      { type: "text", text: "look {here}" },
      { type: "image_url", image_url: { url, detail: "low" } },
    ];
    await replyTo({
      rows: [human([{ type: "image", base64: "AAAA", mime_type: "image/png" }])],
      input: human(content),
    });
    expect(lastRequest().messages.map((message) => message["content"])).toEqual([
      [{ type: "image_url", image_url: { url: "data:image/png;base64,AAAA" } }],
      content,
    ]);
  });

  it("has the summary ahead of the newest rows that fit", async () => {
    const rows = [human("word ".repeat(500)), ai("old"), human("new")];
    const memory = { strategy: "SUMMARY_BUFFER", maxTurns: null, maxTokens: 100 } as const;
    await replyTo({ instructions: "Be kind.", memory, summary: "Jim likes {cats}.", rows });
    expect(lastRequest().messages.map(({ content }) => content)).toEqual([
      "Be kind.",
      "Summary of the conversation so far:\nJim likes {cats}.",
      "old",
      "new",
      "hello",
    ]);
  });

  it("is asked with the configured temperature and key, whatever the environment says", async () => {
    vi.stubEnv("OPENAI_API_KEY", "sk-environment");
    vi.stubEnv("OPENAI_BASE_URL", "http://127.0.0.1:1/v1");
    vi.stubEnv("OPENAI_ORG_ID", "org-environment");
    const openai = { apiKey: null, baseUrl: server.baseUrl, temperature: 0.25, maxRetries: 0 };
    completedOf((await replyTo({}, repliesWith({ openai }))).outcome);
    const { headers, body } = lastRequest();
    expect(headers.authorization).toBe("Bearer not-needed");
    expect(headers["openai-organization"]).toBeUndefined();
    expect(body).toMatchObject({ model: "gpt-test", temperature: 0.25, stream: true });
  });
});

describe("a whole reply", () => {
  it("streams, and is stored as LangChain stores it", async () => {
    server.behave({ kind: "reply", tokens: ["Good", " mor", "ning 🌞"] });
    const { outcome, tokens } = await replyTo();
    expect(tokens).toEqual(["Good", " mor", "ning 🌞"]);
    const { data, text, usage } = completedOf(outcome);
    expect(text).toBe("Good morning 🌞");
    expect(usage).toEqual({ inputTokens: 1, outputTokens: 3, totalTokens: 4 });
    expect(data).toEqual({
      content: "Good morning 🌞",
      tool_calls: [],
      invalid_tool_calls: [],
      usage_metadata: { input_tokens: 1, output_tokens: 3, total_tokens: 4 },
      additional_kwargs: {},
      response_metadata: {
        finish_reason: "stop",
        model_name: "gpt-test",
        model_provider: "openai",
        system_fingerprint: "fp_1",
      },
    });
    // Safe: the data that is tested is what a row holds.
    const [read] = mapStoredMessagesToChatMessages([{ type: "ai", data: data as never }]);
    expect(read?.text).toBe("Good morning 🌞");
  });

  it("leaves the model token by token", async () => {
    server.behave({ kind: "gated", tokens: ["one", " two"] });
    const tokens: string[] = [];
    const arrivals: (() => void)[] = [];
    const arrival = () => new Promise<void>((resolve) => arrivals.push(resolve));
    const first = arrival();
    const running = repliesWith().reply(
      requestOf({
        onText: (text) => {
          tokens.push(text);
          arrivals.shift()?.();
        },
      }),
    );
    server.release();
    await first;
    expect(tokens).toEqual(["one"]);
    const second = arrival();
    server.release();
    await second;
    expect(tokens).toEqual(["one", " two"]);
    server.release();
    expect(completedOf(await running).text).toBe("one two");
  });

  it("may consist of tool calls alone", async () => {
    const toolCalls = [{ id: "call_1", name: "weather", arguments: '{"city":"Bonn"}' }];
    server.behave({ kind: "reply", toolCalls, finishReason: "tool_calls" });
    const { data, text } = completedOf((await replyTo()).outcome);
    expect(text).toBe("");
    expect(data["tool_calls"]).toEqual([{ id: "call_1", name: "weather", args: { city: "Bonn" }, type: "tool_call" }]);
    expect(data["response_metadata"]).toMatchObject({ finish_reason: "tool_calls" });
  });

  it("is tried again before its first token", async () => {
    server.next("503");
    const before = server.requests.length;
    const openai = { apiKey: null, baseUrl: server.baseUrl, temperature: null, maxRetries: 1 };
    const { outcome, tokens } = await replyTo({}, repliesWith({ openai }));
    expect(completedOf(outcome).text).toBe("You said: hello");
    expect(tokens.join("")).toBe("You said: hello");
    expect(server.requests.length - before).toBe(2);
  });
});

describe("a failure", () => {
  const failures: readonly [Behaviour, RunErrorCode, boolean][] = [
    ["429", "MODEL_RATE_LIMITED", true],
    ["quota", "MODEL_RATE_LIMITED", false],
    ["401", "MODEL_UNAUTHORIZED", false],
    ["403", "MODEL_UNAUTHORIZED", false],
    ["404", "MODEL_UNAVAILABLE", false],
    ["500", "MODEL_UNAVAILABLE", true],
    ["503", "MODEL_UNAVAILABLE", true],
    ["400", "OTHER", false],
    ["context_length", "CONTEXT_TOO_LONG", false],
    ["contentFilter", "CONTENT_REFUSED", false],
    [
      { kind: "reply", finishReason: "content_filter", toolCalls: [{ id: "x", name: "x", arguments: "{}" }] },
      "CONTENT_REFUSED",
      false,
    ],
    ["errorFrame", "MODEL_UNAVAILABLE", true],
    [{ kind: "errorFrame", code: "rate_limit_exceeded" }, "MODEL_RATE_LIMITED", true],
    [{ kind: "errorFrame", code: "who_knows" }, "OTHER", true],
    ["cutMidStream", "REPLY_CUT_OFF", true],
    ["noFinishReason", "REPLY_CUT_OFF", true],
    ["empty", "REPLY_CUT_OFF", true],
  ];
  it.each(failures)("%j is %s", async (behaviour, code, retryable) => {
    server.behave(behaviour);
    const { outcome } = await replyTo();
    expect(outcome).toEqual({ kind: "failed", error: { code, retryable, message: expect.any(String) as string } });
    const shown = JSON.stringify(outcome);
    expect(shown).not.toContain(secretOfErrors);
    expect(shown).not.toContain("127.0.0.1");
  });

  it.each(["cutMidStream", "noFinishReason", "errorFrame"] as const)(
    "%s has given its text before",
    async (behaviour) => {
      server.behave(behaviour);
      expect((await replyTo()).tokens.join("")).toBe("Half a reply");
    },
  );

  it("of a server that nobody listens at is MODEL_UNAVAILABLE", async () => {
    const openai = {
      apiKey: null,
      baseUrl: `http://127.0.0.1:${await freePort()}/v1`,
      temperature: null,
      maxRetries: 0,
    };
    const { outcome } = await replyTo({}, repliesWith({ openai }));
    expect(outcome).toMatchObject({ kind: "failed", error: { code: "MODEL_UNAVAILABLE", retryable: true } });
  });

  it("of a provider whose package is missing names it", async () => {
    const { outcome } = await replyTo({ model: "anthropic:claude" }, repliesWith({ models: ["anthropic:claude"] }));
    expect(outcome).toMatchObject({
      error: {
        code: "MODEL_UNAVAILABLE",
        message: expect.stringContaining("npm install @langchain/anthropic") as string,
      },
    });
  });

  it("is a model that is not offered, none at all, or has no key", async () => {
    vi.stubEnv("OPENAI_API_KEY", "sk-environment");
    const openai = { apiKey: null, baseUrl: null, temperature: null, maxRetries: 0 };
    const replies = repliesWith({ models: ["nonsense", "nobody:x"], openai });
    expect((await replyTo({ model: "openai:other" }, replies)).outcome).toMatchObject({
      error: { code: "MODEL_UNAVAILABLE" },
    });
    expect((await replyTo({ model: "nonsense" }, replies)).outcome).toMatchObject({
      error: { code: "MODEL_UNAVAILABLE" },
    });
    expect((await replyTo({ model: "nobody:x" }, replies)).outcome).toMatchObject({
      error: { code: "MODEL_UNAVAILABLE" },
    });
    expect((await replyTo({}, replies)).outcome).toMatchObject({ error: { code: "MODEL_UNAUTHORIZED" } });
    expect(await replies.warm()).toMatchObject({ code: "MODEL_UNAUTHORIZED" });
  });

  it.each(["hang", "hangMidStream"] as const)(
    "%s is MODEL_TIMEOUT, and closes the provider's socket",
    async (behaviour) => {
      server.behave(behaviour);
      const before = server.aborted;
      const { outcome } = await replyTo({}, repliesWith({ timeoutMs: 300 }));
      expect(outcome).toMatchObject({ kind: "failed", error: { code: "MODEL_TIMEOUT", retryable: true } });
      await server.waitForAbort(before + 1);
    },
  );

  it("is no reply that takes long but goes on", async () => {
    server.behave({ kind: "reply", tokens: Array.from({ length: 8 }, () => "x"), delayMs: 100 });
    expect(completedOf((await replyTo({}, repliesWith({ timeoutMs: 400 }))).outcome).text).toBe("xxxxxxxx");
  });
});

describe("stop", () => {
  it("closes the provider's socket, and no text comes after it", async () => {
    server.behave({ kind: "gated", tokens: ["one", " two"] });
    const before = server.aborted;
    const controller = new AbortController();
    const tokens: string[] = [];
    const running = repliesWith().reply(
      requestOf({
        signal: controller.signal,
        onText: (text) => {
          tokens.push(text);
          controller.abort();
        },
      }),
    );
    server.release();
    expect(await running).toEqual({ kind: "cancelled" });
    await server.waitForAbort(before + 1);
    expect(tokens).toEqual(["one"]);
    expect(getEventListeners(controller.signal, "abort")).toEqual([]);
  });

  it("stops while the provider has not answered yet, and before it is asked", async () => {
    server.behave("hang");
    const before = server.requests.length;
    const controller = new AbortController();
    const running = repliesWith().reply(requestOf({ signal: controller.signal }));
    await server.waitForRequests(before + 1);
    controller.abort();
    expect(await running).toEqual({ kind: "cancelled" });
    expect(await repliesWith().reply(requestOf({ signal: controller.signal }))).toEqual({ kind: "cancelled" });
    expect(server.requests.length).toBe(before + 1);
  });

  it("does not wait for a model that ignores its signal", async () => {
    const deaf = new ScriptedModel(function* () {
      yield "one";
      yield new Promise<string>(() => undefined);
    });
    const controller = new AbortController();
    const replies = repliesWith({ custom: { deaf } });
    const outcome = await replies.reply(
      requestOf({ model: "deaf", signal: controller.signal, onText: () => controller.abort() }),
    );
    expect(outcome).toEqual({ kind: "cancelled" });
  });
});

describe("custom models", () => {
  it("are offered by name, made once, and need no finish reason", async () => {
    const make = vi.fn(() => Promise.resolve(new ScriptedModel(() => ["Hello ", "there"])));
    const replies = repliesWith({ models: ["offline"], custom: { mine: make } });
    expect(replies.models.map(({ name }) => name)).toEqual([model, "offline", "mine"]);
    const { outcome, tokens } = await replyTo({ model: "mine" }, replies);
    expect(completedOf(outcome)).toMatchObject({ text: "Hello there", usage: null });
    expect(completedOf(outcome).data).not.toHaveProperty("usage_metadata");
    expect(tokens).toEqual(["Hello ", "there"]);
    await replyTo({ model: "mine" }, replies);
    expect(make).toHaveBeenCalledTimes(1);
  });

  it("get another chance when their factory fails, and fail with our words", async () => {
    const make = vi.fn<() => BaseChatModel>().mockImplementationOnce(() => {
      throw new Error(`no ${secretOfErrors}`);
    });
    make.mockImplementation(() => new ScriptedModel(() => ["fine"]));
    const replies = repliesWith({ custom: { mine: make } });
    const { outcome } = await replyTo({ model: "mine" }, replies);
    expect(outcome).toMatchObject({ kind: "failed", error: { code: "MODEL_UNAVAILABLE" } });
    expect(JSON.stringify(outcome)).not.toContain(secretOfErrors);
    completedOf((await replyTo({ model: "mine" }, replies)).outcome);
  });

  it("that cannot stream give their reply whole", async () => {
    const { outcome, tokens } = await replyTo({ model: "mine" }, repliesWith({ custom: { mine: new WholeModel() } }));
    expect(completedOf(outcome).text).toBe("all at once");
    expect(tokens).toEqual([]);
  });

  it("store what was streamed, whatever they say in the end", async () => {
    const mine = new ScriptedModel(() => ["what was", " seen"], "something else");
    const { data, text } = completedOf((await replyTo({ model: "mine" }, repliesWith({ custom: { mine } }))).outcome);
    expect(text).toBe("what was seen");
    expect(data["content"]).toBe("what was seen");
  });
});

describe("offline", () => {
  const offline = () => repliesWith({ defaultModel: "offline" });

  it("says what it is, streams, and finds the name in the history", async () => {
    const { outcome, tokens } = await replyTo({ model: "offline", input: human("Hi! I'm Jim.") }, offline());
    const { text, usage, data } = completedOf(outcome);
    expect(text).toContain("offline model");
    expect(tokens.length).toBeGreaterThan(5);
    expect(tokens.join("")).toBe(text);
    expect(usage?.totalTokens).toBeGreaterThan(5);
    expect(data["response_metadata"]).toEqual({ finish_reason: "stop", model_name: "offline" });

    const rows = [human("Hi! I'm Jim."), ai(text)];
    const input = human("What did I just say my name was?");
    expect(completedOf((await replyTo({ model: "offline", rows, input }, offline())).outcome).text).toContain("Jim");
    expect(completedOf((await replyTo({ model: "offline", input }, offline())).outcome).text).toContain(
      "haven't told me",
    );
  });

  it("stops in the middle", async () => {
    const controller = new AbortController();
    const replies = repliesWith({ defaultModel: "offline", offlineWordDelayMs: 1 });
    const request = requestOf({ model: "offline", signal: controller.signal, onText: () => controller.abort() });
    expect(await replies.reply(request)).toEqual({ kind: "cancelled" });
  });
});

describe("title and summary", () => {
  const signal = new AbortController().signal;

  it("a title is asked for with the beginning only, and cleaned", async () => {
    server.behave({ kind: "reply", text: '"Jim\'s\n  cats."\n' });
    const rows = [human("x".repeat(10_000)), ai("fine"), ...Array.from({ length: 50 }, () => human("more"))];
    expect(await repliesWith().title({ model, rows, signal })).toEqual({ title: "Jim's cats" });
    expect(JSON.stringify(lastRequest().messages).length).toBeLessThan(2000);
  });

  it("a title that fails is an error, and offline is made of the first words", async () => {
    server.behave("429");
    const rows = [ai("Welcome!"), human("How do I   feed\nmy cat on a boat in the winter?")];
    expect(await repliesWith().title({ model, rows, signal })).toMatchObject({ error: { code: "MODEL_RATE_LIMITED" } });
    const replies = repliesWith({ defaultModel: "offline" });
    expect(await replies.title({ model: "offline", rows, signal })).toEqual({ title: "How do I feed my cat on a…" });
    expect(await replies.title({ model: "offline", rows: [], signal })).toMatchObject({ error: { code: "OTHER" } });
  });

  it("a summary is made when the rows no longer fit, and covers so many that the rest does", async () => {
    const rows = Array.from({ length: 20 }, (_, turn) => [human(`{question} ${turn}`), ai("word ".repeat(20))]).flat();
    const request = { model, maxTokens: 400, summary: "Jim likes cats.", rows, signal };
    expect(await repliesWith().summarize({ ...request, rows: rows.slice(0, 10) })).toBeNull();

    server.behave({ kind: "reply", text: "Jim likes cats and asks." });
    const made = await repliesWith().summarize(request);
    expect(made?.text).toBe("Jim likes cats and asks.");
    const covered = made?.covered ?? 0;
    expect(rows[covered]).toContain("{question}");
    expect(covered).toBeGreaterThan(20);
    expect(covered).toBeLessThan(rows.length);
    const asked = JSON.stringify(lastRequest().messages);
    expect(asked).toContain("Jim likes cats.");
    expect(asked).toContain("{question} 0");
    expect(asked).not.toContain("{question} 19");
    // What is left fits, so that the next turn makes none.
    expect(
      await repliesWith().summarize({ ...request, summary: made?.text ?? "", rows: rows.slice(covered) }),
    ).toBeNull();

    server.behave("500");
    expect(await repliesWith().summarize(request)).toBeNull();
  });

  it("the offline model's summary keeps the name that was told", async () => {
    const rows = [human("Hi! I'm Jim."), ...Array.from({ length: 30 }, () => ai("word ".repeat(20)))];
    const replies = repliesWith({ defaultModel: "offline" });
    const made = await replies.summarize({ model: "offline", maxTokens: 200, summary: null, rows, signal });
    const memory = { strategy: "SUMMARY_BUFFER", maxTurns: null, maxTokens: 200 } as const;
    const rest = rows.slice(made?.covered);
    const request = {
      model: "offline",
      memory,
      summary: made?.text ?? null,
      rows: rest,
      input: human("What is my name?"),
    };
    expect(completedOf((await replyTo(request, replies)).outcome).text).toContain("Jim");
  });
});

async function freePort(): Promise<number> {
  const probe = createServer();
  await new Promise<void>((resolve) => probe.listen(0, "127.0.0.1", resolve));
  const address = probe.address();
  await new Promise((resolve) => probe.close(resolve));
  return typeof address === "object" && address !== null ? address.port : 0;
}

/** Streams the pieces. With `whole`, that is what its message holds in the end instead. */
class ScriptedModel extends BaseChatModel {
  readonly #pieces: () => Iterable<string | Promise<string>>;
  readonly #whole: string | null;

  constructor(pieces: () => Iterable<string | Promise<string>>, whole: string | null = null) {
    super({});
    this.#pieces = pieces;
    this.#whole = whole;
  }

  override _llmType(): string {
    return "scripted";
  }

  override _generate(): Promise<ChatResult> {
    return Promise.reject(new Error("not streamed"));
  }

  override async *_streamResponseChunks(
    _messages: BaseMessage[],
    _options: this["ParsedCallOptions"],
    runManager?: CallbackManagerForLLMRun,
  ): AsyncGenerator<ChatGenerationChunk> {
    for (const piece of this.#pieces()) {
      const text = await piece;
      const chunk = new ChatGenerationChunk({ text, message: new AIMessageChunk(text) });
      if (this.#whole === null) yield chunk;
      await runManager?.handleLLMNewToken(text, undefined, undefined, undefined, undefined, { chunk });
    }
    if (this.#whole !== null)
      yield new ChatGenerationChunk({ text: this.#whole, message: new AIMessageChunk(this.#whole) });
  }
}

class WholeModel extends BaseChatModel {
  override _llmType(): string {
    return "whole";
  }

  constructor() {
    super({});
  }

  override _generate(): Promise<ChatResult> {
    const text = "all at once";
    return Promise.resolve({ generations: [{ text, message: new AIMessage(text) }] });
  }
}
