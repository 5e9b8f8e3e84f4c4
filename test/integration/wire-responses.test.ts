import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";

import type { OpenAIOptions } from "../../src/langchain/models/models.ts";
import { startOpenAI, type OpenAIServer, type Raw } from "../support/model/openai-server.ts";
import { completedOf, human, repliesAt, runReply } from "../support/model/reply-requests.ts";
import { endOf, events, json } from "../support/model/wire-records.ts";

// OpenAI's Responses API, through the real ChatOpenAIResponses, and what chooses it.

let server: OpenAIServer;
beforeAll(async () => {
  server = await startOpenAI();
});
afterAll(() => server.close());
afterEach(() => server.behave(null));

const openai = (api: OpenAIOptions["api"] = "responses"): OpenAIOptions => ({
  apiKey: null,
  baseUrl: server.baseUrl,
  api: api ?? null,
  temperature: null,
  maxRetries: 0,
});
const replyTo = (behaviour: Raw, timeoutMs = 20_000) => {
  server.behave(behaviour);
  return runReply(repliesAt(server.baseUrl, { openai: openai(), timeoutMs }), {});
};

const place = { item_id: "msg_1", output_index: 0, content_index: 0 };
const response = (more: object = {}) => ({
  id: "resp_1",
  object: "response",
  created_at: 1,
  model: "m",
  status: "in_progress",
  output: [],
  ...more,
});
const created = { type: "response.created", response: response() };
const said = (delta: string) => ({ type: "response.output_text.delta", ...place, delta });
const message = (...content: object[]) => ({
  type: "message",
  id: "msg_1",
  role: "assistant",
  status: "completed",
  content,
});
const text = (words: string) => ({ type: "output_text", text: words, annotations: [] });
const usage = { input_tokens: 3, output_tokens: 2, total_tokens: 5 };
const completed = (more: object = {}) => ({
  type: "response.completed",
  response: response({ status: "completed", output: [message(text("Hello"))], usage, ...more }),
});
const hello = [created, said("Hel"), said("lo")];
const whole = { text: "Hello", finish: "stop" };

describe("a reply by the Responses API", () => {
  it("streams, and is stored with its usage", async () => {
    const { outcome, tokens } = await replyTo(events(...hello, completed()));
    expect(endOf(outcome)).toEqual(whole);
    expect(tokens.filter((token) => token !== "")).toEqual(["Hel", "lo"]);
    expect(completedOf(outcome).usage).toEqual({ inputTokens: 3, outputTokens: 2, totalTokens: 5 });
    expect(server.requests.at(-1)?.path).toBe("/v1/responses");
  });

  const incomplete = (reason: string) => ({
    type: "response.incomplete",
    response: response({
      status: "incomplete",
      incomplete_details: { reason },
      output: [message(text("Hello"))],
      usage,
    }),
  });
  const thought = { type: "reasoning", id: "rs_1", summary: [] };
  it.each<[string, Raw, object]>([
    [
      "named by its events only",
      events(
        ...[...hello, completed()].map(({ type, ...rest }) => `event: ${type}\ndata: ${JSON.stringify(rest)}\n\n`),
      ),
      whole,
    ],
    [
      "with text at the end of a part only",
      events(created, { type: "response.output_text.done", ...place, text: "Hello" }, completed()),
      whole,
    ],
    [
      "whose deltas count their parts otherwise than its last event",
      events(...hello, completed({ output: [thought, message(text("Hello"))] })),
      whole,
    ],
    [
      "whose deltas count their parts otherwise than the end of a part",
      events(
        ...hello,
        { type: "response.output_text.done", ...place, output_index: 1, text: "Hello" },
        completed({ output: [thought, message(text("Hello"))] }),
      ),
      whole,
    ],
    [
      "with its last part in its last event only",
      events(...hello, completed({ output: [message(text("Hello"), text(" you"))] })),
      { text: "Hello you", finish: "stop" },
    ],
    ["with text in its last event only", events(created, completed()), whole],
    ["without output in its last event", events(...hello, completed({ output: undefined })), whole],
    [
      "without annotations",
      events(...hello, completed({ output: [message({ type: "output_text", text: "Hello" })] })),
      whole,
    ],
    ["in one object", json(completed().response), whole],
    ["that goes on behind its end", events(...hello, completed(), { type: "error", message: "late" }), whole],
    ["that is cut behind its end", { ...events(...hello, completed()), ending: "cut" }, whole],
    ["cut by its length", events(...hello, incomplete("max_output_tokens")), { text: "Hello", finish: "length" }],
    [
      "stopped by a filter",
      events(...hello, incomplete("content_filter")),
      { text: "Hello", finish: "content_filter" },
    ],
    ["that just ends", events(...hello), { code: "REPLY_CUT_OFF" }],
    ["that just ends with [DONE]", events(...hello, "data: [DONE]\n\n"), { code: "REPLY_CUT_OFF" }],
    ["that is cut", { ...events(...hello), ending: "cut" }, { code: "REPLY_CUT_OFF" }],
    [
      "that failed",
      events(...hello, {
        type: "response.failed",
        response: response({ status: "failed", error: { code: "server_error", message: "boom" } }),
      }),
      { code: "MODEL_UNAVAILABLE" },
    ],
    [
      "that failed at once, at a limit",
      events(created, {
        type: "response.failed",
        response: response({ status: "failed", error: { code: "rate_limit_exceeded", message: "boom" } }),
      }),
      { code: "MODEL_RATE_LIMITED" },
    ],
    [
      "that failed without a reason",
      events(...hello, { type: "response.failed", response: response({ status: "failed", error: null }) }),
      { code: "MODEL_UNAVAILABLE" },
    ],
    [
      "that an error ends",
      events(...hello, { type: "error", code: "server_error", message: "boom", param: null }),
      { code: "MODEL_UNAVAILABLE" },
    ],
    [
      "that is an error in one object",
      json(response({ status: "failed", error: { code: "server_error", message: "boom" } })),
      { code: "MODEL_UNAVAILABLE" },
    ],
  ])("%s", async (_title, behaviour, expected) => {
    expect(endOf((await replyTo(behaviour)).outcome)).toEqual(expected);
  });

  it.each<[string, Raw]>([
    [
      "in deltas",
      events(
        created,
        { type: "response.refusal.delta", ...place, delta: "I can't" },
        { type: "response.refusal.delta", ...place, delta: " do that." },
        { type: "response.refusal.done", ...place, refusal: "I can't do that." },
        completed({ output: [message({ type: "refusal", refusal: "I can't do that." })] }),
      ),
    ],
    [
      "at the end of its part",
      events(
        created,
        { type: "response.refusal.done", ...place, refusal: "I can't do that." },
        completed({ output: [] }),
      ),
    ],
    [
      "in its last event",
      events(created, completed({ output: [message({ type: "refusal", refusal: "I can't do that." })] })),
    ],
    [
      "in one object",
      json(completed({ output: [message({ type: "refusal", refusal: "I can't do that." })] }).response),
    ],
  ])("that is a refusal %s is CONTENT_REFUSED, and its text is shown", async (_title, behaviour) => {
    const { outcome, tokens } = await replyTo(behaviour);
    expect(outcome).toMatchObject({ kind: "failed", error: { code: "CONTENT_REFUSED", retryable: false } });
    expect(tokens.join("")).toBe("I can't do that.");
  });

  it.each<[string, unknown, object]>([
    ["without a total", { input_tokens: 3, output_tokens: 2 }, { inputTokens: 3, outputTokens: 2, totalTokens: 5 }],
    ["with a total of 0", { ...usage, total_tokens: 0 }, { inputTokens: 3, outputTokens: 2, totalTokens: 5 }],
    ["that is lost", null, { inputTokens: 5, outputTokens: 1, totalTokens: 6 }],
  ])("adds a usage up %s", async (_title, given, expected) => {
    expect(completedOf((await replyTo(events(...hello, completed({ usage: given })))).outcome).usage).toEqual(expected);
  });

  it("is no silence while the model thinks", async () => {
    const thinking = {
      type: "response.reasoning_text.delta",
      item_id: "rs_1",
      output_index: 0,
      content_index: 0,
      delta: "hm",
    };
    const slow = Array.from({ length: 6 }, () => [{ waitMs: 200 }, thinking]).flat();
    expect(endOf((await replyTo(events(created, ...slow, said("Hello"), completed()), 700)).outcome)).toEqual(whole);
  });

  it("may be the answer to a title", async () => {
    server.behave(json(completed().response));
    const replies = repliesAt(server.baseUrl, { openai: openai() });
    const request = { model: "openai:gpt-test", rows: [human("hi")], signal: new AbortController().signal };
    expect(await replies.title(request)).toEqual({ title: "Hello" });
  });
});

describe("which API is spoken", () => {
  const pathFor = async (name: string, api: OpenAIOptions["api"]) => {
    const model = `openai:${name}`;
    await runReply(repliesAt(server.baseUrl, { defaultModel: model, openai: openai(api ?? null) }), { model });
    return server.requests.at(-1)?.path;
  };

  it.each(["gpt-test", "gpt-5.6", "gpt-5-codex", "gpt-5.2-pro", "o3"])(
    "with a base URL: completions, whatever the model's name is (%s)",
    async (name) => {
      expect(await pathFor(name, null)).toBe("/v1/chat/completions");
    },
  );

  it("with a base URL: what is chosen", async () => {
    expect(await pathFor("gpt-test", "responses")).toBe("/v1/responses");
    expect(await pathFor("gpt-5.6", "completions")).toBe("/v1/chat/completions");
  });
});
