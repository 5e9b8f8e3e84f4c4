import { readFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";

import { mapStoredMessagesToChatMessages } from "@langchain/core/messages";
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from "vitest";

import type { ReplyRequest } from "../../src/conversation/ports/model.ts";
import type { LangChainReplies, RepliesOptions } from "../../src/langchain/replies.ts";
import { startOpenAI, type OpenAIServer } from "../support/model/openai-server.ts";
import {
  ai,
  completedOf,
  human,
  model,
  repliesAt,
  requestOf,
  runReply,
  textOfPiece,
  system,
} from "../support/model/reply-requests.ts";

// The real ChatOpenAI in a real ConversationChain, against a server that speaks OpenAI's wire format. How replies fail
// and are stopped is in replies-ending.test.ts; models without that server are in replies-models.test.ts.

let server: OpenAIServer;
beforeAll(async () => {
  server = await startOpenAI();
});
afterAll(() => server.close());
afterEach(() => {
  server.behave(null);
  vi.unstubAllEnvs();
});

const repliesWith = (other: Partial<RepliesOptions> = {}): LangChainReplies => repliesAt(server.baseUrl, other);
const replyTo = (other: Partial<ReplyRequest> = {}, replies = repliesWith()) => runReply(replies, other);

function lastRequest() {
  const request = server.requests.at(-1);
  if (request === undefined) throw new Error("The server got no request");
  return request;
}

describe("the connection to the model", () => {
  it("is used again, also where the stream's end comes behind its last event", async () => {
    server.behave({ kind: "reply", text: "Once more", endDelayMs: 10 });
    const before = server.connections;
    const { aborted } = server;
    const replies = repliesWith();
    for (let i = 0; i < 6; i++) {
      expect(completedOf((await replyTo({}, replies)).outcome).text).toBe("Once more");
      await sleep(100);
    }
    // On a busy machine one may not be free in time; without any use of it again there would be six.
    expect(server.connections - before).toBeLessThan(4);
    expect(server.aborted).toBe(aborted);
  });

  it("is closed where that end does not come", async () => {
    server.behave({ kind: "reply", text: "And", endDelayMs: 20_000 });
    const { aborted } = server;
    expect(completedOf((await replyTo()).outcome).text).toBe("And");
    await server.waitForAbort(aborted + 1);
  });
});

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
      'Answer as {"json": {input}} }{\n\n{}',
      "{history} {{x}",
      "{input",
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
      rows: [human([{ type: "image", base64: "AAAA", mime_type: "image/png" }]), ai("Seen.")],
      input: human(content),
    });
    expect(lastRequest().messages.map((message) => message["content"])).toEqual([
      [{ type: "image_url", image_url: { url: "data:image/png;base64,AAAA" } }],
      "Seen.",
      content,
    ]);
  });

  it("has golden rows of every writer in a form that OpenAI takes", async () => {
    const files = ["langchain-js.jsonl", "langchain-python.jsonl"];
    const rows = files.flatMap((name) =>
      readFileSync(new URL(`../golden/${name}`, import.meta.url), "utf8").split("\n"),
    );
    await replyTo({ rows });
    const call = { id: "call_1", type: "function", function: { name: "t", arguments: '{"a":1}' } };
    expect(lastRequest().messages).toEqual([
      { role: "system", content: "be nice" },
      { role: "user", content: "hi é" },
      { role: "assistant", content: "hello" },
      { role: "user", content: "x", name: "bob" },
      {
        role: "user",
        content: [
          { type: "text", text: "look" },
          { type: "image_url", image_url: { url: "data:x" } },
        ],
      },
      // A tool's answer stands behind another message than its call, so both are left out: there is no text to keep.
      { role: "user", content: "meh", name: "critic" },
      { role: "user", content: "old" },
      { role: "user", content: "hi é" },
      { role: "assistant", content: "hello" },
      { role: "user", content: "older core" },
      { role: "user", content: "meh", name: "critic" },
      { role: "assistant", content: "streamed" },
      { role: "user", content: "hello" },
    ]);
    const answered = rows.filter((row) => !row.includes('"system"'));
    await replyTo({ rows: answered });
    expect(lastRequest().messages.slice(4, 6)).toEqual([
      { role: "assistant", content: "", name: "bot", tool_calls: [call] },
      { role: "tool", content: "42", tool_call_id: "call_1" },
    ]);
  });

  it("has the summary ahead of the newest rows that fit", async () => {
    const rows = [human("word ".repeat(500)), ai("old"), human("new")];
    const memory = { strategy: "SUMMARY_BUFFER", maxTurns: null, maxTokens: 100 } as const;
    await replyTo({ instructions: "Be kind.", memory, summary: "Jim likes {cats}.", rows });
    expect(lastRequest().messages.map(({ content }) => content)).toEqual([
      "Be kind.\n\nSummary of the conversation so far:\nJim likes {cats}.",
      "…",
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
        emit: (piece) => {
          tokens.push(textOfPiece(piece));
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

  it("is told apart from the reasoning that leads to it, whose pieces leave the model at once too", async () => {
    server.behave({ kind: "reply", reasoning: ["Hm", "."], tokens: ["Yes", "."] });
    const pieces: string[] = [];
    const outcome = await repliesWith().reply(
      requestOf({ emit: (piece) => pieces.push(`${piece.kind} ${textOfPiece(piece)}`) }),
    );
    expect(pieces).toEqual(["reasoning Hm", "reasoning .", "text Yes", "text ."]);
    expect(completedOf(outcome)).toMatchObject({
      text: "Yes.",
      data: { content: "Yes.", additional_kwargs: { reasoning_content: "Hm." } },
    });
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

  it("reasoning is in neither, of the model that makes them and of the replies that they are made of", async () => {
    const thought = "<think>\nThe user is secretive.\n</think>\n\n";
    const rows = Array.from({ length: 20 }, () => [human("word ".repeat(20)), ai(`${thought}fine`)]).flat();
    server.behave({ kind: "reply", text: `${thought}**Title:** "Jim's cats"` });
    expect(await repliesWith().title({ model, rows, signal })).toEqual({ title: "Jim's cats" });
    expect(JSON.stringify(lastRequest().messages)).not.toContain("secretive");

    server.behave({ kind: "reply", text: `${thought}Jim likes cats.` });
    const request = { model, maxTokens: 400, summary: `${thought}Jim was here.`, rows, signal };
    expect((await repliesWith().summarize(request))?.text).toBe("Jim likes cats.");
    const asked = JSON.stringify(lastRequest().messages);
    expect(asked).not.toContain("secretive");
    expect(asked).toContain("Jim was here.");
    expect(asked).toContain("AI: fine");
    // Cut off while it thought: no title, and the summary of before stays.
    server.behave({ kind: "reply", text: "<think>\nThe user" });
    expect(await repliesWith().title({ model, rows, signal })).toMatchObject({ error: { code: "OTHER" } });
    expect(await repliesWith().summarize(request)).toBeNull();
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
