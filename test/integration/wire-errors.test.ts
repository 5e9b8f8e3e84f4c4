import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";

import type { ModelCallFailure } from "../../src/langchain/replies.ts";
import { secretOfErrors, startOpenAI, type OpenAIServer, type Raw } from "../support/model/openai-server.ts";
import { human, model, repliesAt, runReply } from "../support/model/reply-requests.ts";
import { chunk, done, endOf, events, hello, json } from "../support/model/wire-records.ts";

// Errors in the words of many providers, when a request is sent again, and what the log gets, through the real ChatOpenAI.

let server: OpenAIServer;
beforeAll(async () => {
  server = await startOpenAI();
});
afterAll(() => server.close());
afterEach(() => server.behave(null));

async function failing(behaviour: Raw, { maxRetries = 0, timeoutMs = 20_000 } = {}) {
  server.behave(behaviour);
  const logged: ModelCallFailure[] = [];
  const before = server.requests.length;
  const startedAt = performance.now();
  const openai = { apiKey: null, baseUrl: server.baseUrl, temperature: null, maxRetries };
  const replies = repliesAt(server.baseUrl, { openai, timeoutMs, onFailure: (failure) => logged.push(failure) });
  const { outcome } = await runReply(replies, {});
  const error = outcome.kind === "failed" ? outcome.error : null;
  return { error, logged, requests: server.requests.length - before, tookMs: performance.now() - startedAt };
}

describe("a history that is too long", () => {
  it.each<[string, unknown, number?]>([
    ["OpenAI", { error: { message: "too long", type: "invalid_request_error", code: "context_length_exceeded" } }],
    [
      "llama.cpp, by its code",
      { error: { code: 400, message: "try increasing it", type: "exceed_context_size_error" } },
    ],
    ["llama.cpp, 500", { error: { code: 500, message: "Context size has been exceeded.", type: "server_error" } }, 500],
    [
      "vLLM",
      {
        error: {
          message: "This model's maximum context length is 4096 tokens. However, you requested 5000 tokens.",
          type: "BadRequestError",
          code: 400,
        },
      },
    ],
    [
      "vLLM before 0.10",
      {
        object: "error",
        message: "This model's maximum context length is 4096 tokens.",
        type: "BadRequestError",
        param: null,
        code: 400,
      },
    ],
    [
      "vLLM's decoder",
      { error: { message: "The decoder prompt (length 40000) is longer than the maximum model length of 32768." } },
    ],
    [
      "SGLang",
      { object: "error", message: "Requested token count exceeds the model's maximum context length of 8192 tokens." },
    ],
    [
      "LM Studio",
      { error: "The number of tokens to keep from the initial prompt is greater than the context length." },
    ],
    ["Ollama", { error: { message: "prompt too long; exceeded max context length by 4 tokens", type: "api_error" } }],
    ["Ollama, input", { error: "the input length exceeds the context length" }],
    [
      "Gemini",
      [
        {
          error: {
            code: 400,
            message: "The input token count (1200000) exceeds the maximum number of tokens allowed (1048576).",
            status: "INVALID_ARGUMENT",
          },
        },
      ],
    ],
    [
      "xAI",
      {
        code: "Client specified an invalid argument",
        error: "This model's maximum prompt length is 131072 but the request contains 537812 tokens.",
      },
    ],
    [
      "Together",
      {
        error: {
          message:
            "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 4097. Given: 5000 `inputs` tokens",
          type: "invalid_request_error",
        },
      },
    ],
    [
      "Text Generation Inference, 422",
      {
        error: "Input validation error: `inputs` must have less than 1024 tokens. Given: 2000",
        error_type: "validation",
      },
      422,
    ],
    [
      "Bedrock",
      {
        error: {
          message: "BedrockException: Input is too long for requested model.",
          type: "invalid_request_error",
          code: "400",
        },
      },
    ],
    [
      "Mistral",
      {
        object: "error",
        message:
          "Prompt contains 40000 tokens and 0 draft tokens, too large for model with 32768 maximum context length",
        type: "invalid_request_error",
        code: "3051",
      },
    ],
    [
      "Mistral, in a list",
      { message: { detail: [{ loc: ["body"], msg: "Prompt contains 40000 tokens, too large for model" }] } },
      422,
    ],
    [
      "Anthropic",
      { error: { type: "invalid_request_error", message: "prompt is too long: 210000 tokens > 200000 maximum" } },
    ],
    ["Perplexity", { error: { message: "The total length of all messages is too long.", type: "bad_request" } }],
    [
      "Qwen",
      {
        error: {
          message: "Range of input length should be [1, 30720]",
          type: "invalid_request_error",
          code: "invalid_parameter_error",
        },
      },
    ],
    ["GLM, by its code", { error: { code: "1261", message: "Prompt 超长" } }],
    [
      "GLM at a hub",
      {
        error: {
          message: "Input length 877338 exceeds the maximum allowed input length of 639968 tokens",
          code: "400",
        },
      },
    ],
    [
      "Kimi",
      {
        error: {
          message: "Invalid request: Your request exceeded model token limit: 262144",
          type: "invalid_request_error",
        },
      },
    ],
    ["MiniMax", { error: { message: "invalid params, context window exceeds limit (2013)" } }],
    [
      "Groq",
      { error: { message: "Please reduce the length of the messages or completion.", type: "invalid_request_error" } },
    ],
    [
      "Groq's minute, 413",
      {
        error: {
          message: "Request too large for model `m` on tokens per minute (TPM): Limit 6000, Requested 9000",
          type: "tokens",
          code: "rate_limit_exceeded",
        },
      },
      413,
    ],
    [
      "OpenAI's minute, 429",
      {
        error: {
          message: "Request too large for gpt-4 on tokens per min (TPM): Limit 10000, Requested 15000.",
          type: "tokens",
          code: "rate_limit_exceeded",
        },
      },
      429,
    ],
    ["Cohere", { message: "too many tokens: total number of tokens in the prompt cannot exceed 4081" }],
    [
      "Copilot",
      {
        error: {
          message: "prompt token count of 200000 exceeds the limit of 128000",
          code: "model_max_prompt_tokens_exceeded",
        },
      },
    ],
    [
      "GitHub Models, 413",
      {
        error: {
          code: "tokens_limit_reached",
          message: "Request body too large for gpt-4o model. Max size: 8000 tokens.",
        },
      },
      413,
    ],
    [
      "OpenRouter, from upstream",
      {
        error: {
          message: "Provider returned error",
          code: 400,
          metadata: {
            raw: '{"error":{"message":"This endpoint\'s maximum context length is 8192"}}',
            provider_name: "X",
          },
        },
      },
    ],
    ["OpenRouter's own, in plain text", "This endpoint's maximum context length is 131072 tokens."],
  ])("%s", async (_title, body, status = 400) => {
    const { error, requests } = await failing(json(body, status), { maxRetries: 2 });
    expect(error).toMatchObject({ code: "CONTEXT_TOO_LONG", retryable: false });
    expect(requests).toBe(1);
  });
});

describe("a quota that is used up", () => {
  it.each<[string, unknown, number]>([
    [
      "DeepSeek",
      { error: { message: "Insufficient Balance", type: "unknown_error", param: null, code: "invalid_request_error" } },
      402,
    ],
    [
      "OpenRouter",
      { error: { message: "Insufficient credits. Add more using https://openrouter.ai/settings/credits", code: 402 } },
      402,
    ],
    ["OpenRouter, with HTTP 200", { error: { message: "Insufficient credits.", code: 402 } }, 200],
    [
      "OpenAI",
      {
        error: {
          message: "You exceeded your current quota, please check your plan and billing details.",
          type: "insufficient_quota",
          code: "insufficient_quota",
        },
      },
      429,
    ],
    [
      "OpenAI, by words alone",
      { error: { message: "You exceeded your current quota, please check your plan and billing details." } },
      429,
    ],
    ["Moonshot", { error: { message: "Your account is suspended", type: "exceeded_current_quota_error" } }, 429],
    ["GLM", { error: { code: "1113", message: "您的账户已欠费" } }, 429],
    [
      "Qwen",
      {
        error: {
          code: "Arrearage",
          message: "Access denied, please make sure your account is in good standing.",
          type: "Arrearage",
        },
      },
      400,
    ],
    [
      "Anthropic",
      {
        error: {
          type: "invalid_request_error",
          message: "Your credit balance is too low to access the Anthropic API.",
        },
      },
      400,
    ],
    ["xAI", { code: "permission", error: "Your team has run out of credits" }, 402],
    ["MiniMax", { type: "error", error: { type: "api_error", message: "insufficient balance (1008)" } }, 500],
    ["sub2api", { code: "INSUFFICIENT_BALANCE", message: "Insufficient account balance" }, 403],
  ])("%s: no later time helps, and it is asked once", async (_title, body, status) => {
    const { error, requests } = await failing(json(body, status), { maxRetries: 2 });
    expect(error).toEqual({
      code: "MODEL_RATE_LIMITED",
      message: "The gateway's quota with the model's provider is used up.",
      retryable: false,
    });
    expect(requests).toBe(1);
  });
});

describe("an error means what it says", () => {
  const page = (status: number): Raw => ({
    ...json("<html><body><h1>502 Bad Gateway</h1></body></html>", status),
    headers: { "content-type": "text/html" },
  });
  it.each<[string, Raw, string, boolean]>([
    [
      "a throttled Bedrock",
      json({ error: { message: "ThrottlingException: Too many tokens, please wait before trying again." } }, 400),
      "MODEL_RATE_LIMITED",
      true,
    ],
    [
      "a limit by its status in words",
      json({ error: { code: "429", message: "Too many requests" } }, 200),
      "MODEL_RATE_LIMITED",
      true,
    ],
    [
      "Gemini's limit, which says when it ends",
      json(
        [
          {
            error: {
              code: 429,
              message: "You exceeded your current quota. Please retry in 33.2s.",
              status: "RESOURCE_EXHAUSTED",
              details: [{ retryDelay: "33s" }],
            },
          },
        ],
        429,
      ),
      "MODEL_RATE_LIMITED",
      true,
    ],
    [
      "moderation at OpenRouter",
      json({ error: { code: 403, message: "The input was flagged", metadata: { reasons: ["violence"] } } }, 403),
      "CONTENT_REFUSED",
      false,
    ],
    [
      "Qwen's inspection",
      json(
        { error: { code: "data_inspection_failed", message: "Input data may contain inappropriate content." } },
        400,
      ),
      "CONTENT_REFUSED",
      false,
    ],
    [
      "Azure's filter",
      json(
        { error: { code: "content_filter", message: "…", innererror: { code: "ResponsibleAIPolicyViolation" } } },
        400,
      ),
      "CONTENT_REFUSED",
      false,
    ],
    ["a key", json({ error: { message: "no" } }, 401), "MODEL_UNAUTHORIZED", false],
    ["a model that is not there", json({ error: "model 'm' not found" }, 404), "MODEL_UNAVAILABLE", false],
    [
      "a request that is no good, 422",
      json({ detail: [{ loc: ["body", "x"], msg: "field required" }] }, 422),
      "OTHER",
      false,
    ],
    ["a request that is no good, 409", json({ error: { message: "conflict" } }, 409), "OTHER", false],
    ["a page of a proxy", page(502), "MODEL_UNAVAILABLE", true],
    ["a page of a proxy, 404", page(404), "MODEL_UNAVAILABLE", false],
    ["an empty answer", json("", 503), "MODEL_UNAVAILABLE", true],
    [
      "Anthropic's overload",
      json({ type: "error", error: { type: "overloaded_error", message: "Overloaded" } }, 529),
      "MODEL_UNAVAILABLE",
      true,
    ],
  ])("%s", async (_title, behaviour, code, retryable) => {
    const { error } = await failing(behaviour);
    expect(error).toMatchObject({ code, retryable });
  });
});

describe("a failed request", () => {
  it.each([400, 401, 402, 403, 404, 409, 413, 422])("with the status %d is not sent again", async (status) => {
    expect((await failing(json({ error: { message: "no" } }, status), { maxRetries: 2 })).requests).toBe(1);
  });

  it("is sent again where that may help", async () => {
    expect((await failing(json({ error: { message: "boom" } }, 500), { maxRetries: 1 })).requests).toBe(2);
    expect((await failing(events({ error: { message: "boom", code: 502 } }), { maxRetries: 1 })).requests).toBe(2);
  });

  it("is not sent again once there was text, or half a reply", async () => {
    expect(
      (await failing(events(...hello, { error: { message: "boom", code: 500 } }), { maxRetries: 2 })).requests,
    ).toBe(1);
    expect((await failing({ ...events(...hello), ending: "cut" }, { maxRetries: 2 })).requests).toBe(1);
    expect((await failing(events(chunk({ role: "assistant", content: "" })), { maxRetries: 2 })).requests).toBe(1);
  });

  it("at a limit that ends soon waits for that", async () => {
    const ok = events(...hello, chunk({}, "stop"), done);
    server.behave(ok);
    server.next(json({ error: { message: "slow down" } }, 429, { "retry-after": "1" }));
    const openai = { apiKey: null, baseUrl: server.baseUrl, temperature: null, maxRetries: 1 };
    const { outcome } = await runReply(repliesAt(server.baseUrl, { openai }), {});
    expect(endOf(outcome)).toEqual({ text: "Hello", finish: "stop" });
  });

  const inAnHour = () => new Date(Date.now() + 3_600_000).toUTCString();
  it.each<[string, Raw, number]>([
    ["seconds", json({ error: { message: "slow down" } }, 429, { "retry-after": "30" }), 30],
    ["a day", json({ error: { message: "slow down" } }, 429, { "retry-after": "86400" }), 86_400],
    [
      "more than anybody counts",
      json({ error: { message: "slow down" } }, 429, { "retry-after": "1e30" }),
      2 ** 31 - 1,
    ],
    [
      "milliseconds",
      json({ error: { message: "slow down" } }, 429, { "retry-after-ms": "29500", "retry-after": "1" }),
      30,
    ],
    [
      "words",
      json({ error: { message: "Rate limit reached. Please try again in 1m12.5s. Visit https://x" } }, 429),
      73,
    ],
    ["words in seconds", json({ error: { message: "Please try again in 25s." } }, 429), 25],
    [
      "Gemini's details",
      json(
        [
          {
            error: { code: 429, message: "Slow down.", status: "RESOURCE_EXHAUSTED", details: [{ retryDelay: "33s" }] },
          },
        ],
        429,
      ),
      33,
    ],
  ])("at a limit that lasts longer than anybody waits ends at once: %s", async (_title, behaviour, seconds) => {
    const { error, requests } = await failing(behaviour, { maxRetries: 2, timeoutMs: 15_000 });
    expect(error).toMatchObject({ code: "MODEL_RATE_LIMITED", retryable: true, retryAfterSeconds: seconds });
    expect(requests).toBe(1);
  });

  it("at a limit until a date tells the seconds to it", async () => {
    const { error, requests } = await failing(
      json({ error: { message: "slow down" } }, 429, { "retry-after": inAnHour() }),
      { maxRetries: 2 },
    );
    expect(requests).toBe(1);
    expect(error?.retryAfterSeconds).toBeGreaterThan(3500);
    expect(error?.retryAfterSeconds).toBeLessThanOrEqual(3600);
  });

  it("waits for no second limit that what is left of the patience cannot hold", async () => {
    // Twice 6 s would be within 10 s each, and beyond them together.
    const { error, requests } = await failing(json({ error: { message: "slow down" } }, 429, { "retry-after": "6" }), {
      maxRetries: 2,
      timeoutMs: 10_000,
    });
    expect(error).toMatchObject({ code: "MODEL_RATE_LIMITED", retryAfterSeconds: 6 });
    expect(requests).toBe(2);
  });

  it("of a server that is down says when to come back, too", async () => {
    const { error, requests } = await failing(json({ error: { message: "starting" } }, 503, { "retry-after": "120" }), {
      maxRetries: 2,
    });
    expect(error).toMatchObject({ code: "MODEL_UNAVAILABLE", retryable: true, retryAfterSeconds: 120 });
    expect(requests).toBe(1);
  });
});

describe("the operator hears of a failure", () => {
  const words = `${secretOfErrors} said hello`;

  it.each<[string, Raw, object]>([
    [
      "an HTTP error",
      json({ error: { message: words } }, 503, { "x-request-id": "req_1" }),
      { code: "MODEL_UNAVAILABLE", providerStatus: 503, providerRequestId: "req_1" },
    ],
    [
      "Azure's id",
      json({ error: { message: words } }, 401, { "apim-request-id": "req_2" }),
      { code: "MODEL_UNAUTHORIZED", providerStatus: 401, providerRequestId: "req_2" },
    ],
    [
      "an error in the stream",
      { ...events(...hello, { error: { message: words, code: 502 } }), headers: { "x-request-id": "req_3" } },
      { code: "MODEL_UNAVAILABLE", providerStatus: 502, providerRequestId: "req_3" },
    ],
    [
      "an end that was none",
      { ...events(...hello), headers: { "x-request-id": "req_4" } },
      { code: "REPLY_CUT_OFF", providerStatus: null, providerRequestId: "req_4" },
    ],
    [
      "a history that is too long",
      json({ error: { message: `maximum context length ${words}` } }, 400, { "x-request-id": "req_5" }),
      { code: "CONTEXT_TOO_LONG", providerStatus: 400, providerRequestId: "req_5" },
    ],
    [
      "no answer at all",
      { ...events(), ending: "open" },
      { code: "MODEL_TIMEOUT", providerStatus: null, providerRequestId: null },
    ],
  ])("by run, code, status and request id, without a word: %s", async (_title, behaviour, expected) => {
    const { logged } = await failing(behaviour, { timeoutMs: 1000 });
    expect(logged).toEqual([{ purpose: "reply", runId: "a-run", model, ...expected }]);
  });

  it("also for titles and summaries, and not for what went well", async () => {
    const logged: ModelCallFailure[] = [];
    const replies = repliesAt(server.baseUrl, { onFailure: (failure) => logged.push(failure) });
    const signal = new AbortController().signal;
    await replies.title({ model, rows: [human("hi")], signal });
    expect(logged).toEqual([]);
    server.behave(json({ error: { message: words } }, 404));
    await replies.title({ model, rows: [human("hi")], signal });
    const rows = Array.from({ length: 20 }, () => human("word ".repeat(50)));
    await replies.summarize({ model, rows, summary: null, maxTokens: 400, signal });
    expect(logged).toMatchObject([
      { purpose: "title", runId: null, code: "MODEL_UNAVAILABLE", providerStatus: 404 },
      { purpose: "summary", runId: null, code: "MODEL_UNAVAILABLE", providerStatus: 404 },
    ]);
  });
});
