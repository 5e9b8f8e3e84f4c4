import { gzipSync } from "node:zlib";

import { HumanMessage } from "@langchain/core/messages";
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from "vitest";

import { estimatedUsage } from "../../src/langchain/models/usage-estimate.ts";
import { startOpenAI, type OpenAIServer, type Raw } from "../support/model/openai-server.ts";
import { completedOf, human, model, repliesAt, runReply } from "../support/model/reply-requests.ts";
import { chunk as c, done, endOf, events, hello, json, record, usageChunk } from "../support/model/wire-records.ts";

// What servers send that speak OpenAI's chat format nearly: byte for byte, through the real ChatOpenAI.

let server: OpenAIServer;
beforeAll(async () => {
  server = await startOpenAI();
});
afterAll(() => server.close());
afterEach(() => server.behave(null));

const replyTo = (behaviour: Raw, timeoutMs = 20_000) => {
  server.behave(behaviour);
  return runReply(repliesAt(server.baseUrl, { timeoutMs }), {});
};
const cut = (raw: Raw): Raw => ({ ...raw, ending: "cut" });
const open = (raw: Raw): Raw => ({ ...raw, ending: "open" });
const stop = c({}, "stop");
const whole = { text: "Hello", finish: "stop" };
const cutOff = { code: "REPLY_CUT_OFF" };

describe("a chunk", () => {
  const note = { id: "", object: "", created: 0, model: "" };
  const azure = (finish_reason: string | null) => ({
    ...note,
    choices: [{ index: 0, finish_reason, content_filter_results: {}, content_filter_offsets: { check_offset: 65 } }],
  });
  it.each<[string, Raw, object]>([
    ["without a delta may have the finish reason", events(...hello, c(undefined, "stop"), done), whole],
    ["with a delta of null may have the finish reason", events(...hello, c(null, "stop"), done), whole],
    [
      "of Azure's filter may end the reply",
      events(...hello, azure("content_filter"), done),
      { text: "Hello", finish: "content_filter" },
    ],
    [
      "of Azure's filter may come anywhere",
      events({ ...note, choices: [], prompt_filter_results: [] }, ...hello, azure(null), stop, azure(null), done),
      whole,
    ],
    [
      "may have no choices",
      events({ ...c({}), choices: [] }, ...hello, { ...c({}), choices: null }, stop, done),
      whole,
    ],
    [
      "may have two choices",
      events(
        {
          ...c({}),
          choices: [
            { index: 0, delta: { content: "Hello" }, finish_reason: null },
            { index: 1, delta: { content: "Bye" }, finish_reason: null },
          ],
        },
        { ...c({}), choices: [{ index: 1, delta: { content: " now" }, finish_reason: "length" }] },
        stop,
        done,
      ),
      whole,
    ],
    [
      "may count its choices from 1",
      events(
        { ...c({}), choices: [{ index: 1, delta: { content: "Hello" } }] },
        { ...c({}), choices: [{ index: 1, delta: {}, finish_reason: "stop" }] },
        done,
      ),
      whole,
    ],
    [
      "may have a message for its delta",
      events(
        { ...c({}), choices: [{ index: 0, message: { role: "assistant", content: "Hello" }, finish_reason: "stop" }] },
        done,
      ),
      whole,
    ],
    [
      "may have a piece of a message for its delta, each",
      events(
        { ...c({}), choices: [{ index: 0, message: { role: "assistant", content: "Hel" }, finish_reason: null }] },
        { ...c({}), choices: [{ index: 0, message: { role: "assistant", content: "lo" }, finish_reason: null }] },
        { ...c({}), choices: [{ index: 0, message: { role: "assistant", content: "" }, finish_reason: "stop" }] },
        done,
      ),
      whole,
    ],
    [
      "may have the message so far for its delta, each",
      events(
        { ...c({}), choices: [{ index: 0, message: { role: "assistant", content: "Hel" }, finish_reason: null }] },
        { ...c({}), choices: [{ index: 0, message: { role: "assistant", content: "Hello" }, finish_reason: null }] },
        { ...c({}), choices: [{ index: 0, message: { role: "assistant", content: "Hello" }, finish_reason: "stop" }] },
        done,
      ),
      whole,
    ],
    [
      "may have the whole message behind all deltas",
      events(
        ...hello,
        { ...c({}), choices: [{ index: 0, message: { role: "assistant", content: "Hello" }, finish_reason: "stop" }] },
        done,
      ),
      whole,
    ],
    [
      "may have text for its delta",
      events({ ...c({}), choices: [{ index: 0, text: "Hello", finish_reason: null }] }, stop, done),
      whole,
    ],
    [
      "may lack everything but its choice",
      events({ choices: [{ delta: { content: "Hello" } }] }, { choices: [{ finish_reason: "stop" }] }, done),
      whole,
    ],
    ["may have null for its text", events(...hello, c({ content: null }), stop, done), whole],
  ])("%s", async (_title, behaviour, expected) => {
    const { outcome, tokens } = await replyTo(behaviour);
    expect(endOf(outcome)).toEqual(expected);
    expect(tokens.join("")).toBe("Hello");
  });

  it.each<[string, object[]]>([
    ["missing", [c({ content: "Hel" }), c({ content: "lo" })]],
    ["late", [c({ content: "Hel" }), c({ role: "assistant", content: "lo" })]],
    ["empty", [c({ role: "", content: "Hel" }), c({ role: "", content: "lo" })]],
    ["null", [c({ role: null, content: "Hel" }), c({ role: null, content: "lo" })]],
    ["repeated", [c({ role: "assistant", content: "Hel" }), c({ role: "assistant", content: "lo" })]],
    ["another", [c({ role: "model", content: "Hel" }), c({ role: "user", content: "lo" })]],
  ])("may have a role that is %s", async (_title, chunks) => {
    const { outcome } = await replyTo(events(...chunks, stop, done));
    expect(endOf(outcome)).toEqual(whole);
    expect(completedOf(outcome).data).toMatchObject({ content: "Hello", tool_calls: [] });
  });
});

describe("content as a list of parts", () => {
  const thinking = (text: string) => c({ content: [{ type: "thinking", thinking: [{ type: "text", text }] }] });

  it("loses no text, and what the model thinks is no text", async () => {
    const log = vi.spyOn(console, "log");
    const { outcome, tokens } = await replyTo(
      events(
        c({ role: "assistant", content: "" }),
        thinking("hm"),
        thinking(" so"),
        c({ content: [{ type: "text", text: "Hel" }, "l"] }),
        c({ content: { type: "text", text: "o" } }),
        stop,
        done,
      ),
    );
    expect(endOf(outcome)).toEqual(whole);
    expect(tokens.join("")).toBe("Hello");
    expect(completedOf(outcome).data["additional_kwargs"]).toEqual({ reasoning_content: "hm so" });
    expect(log).not.toHaveBeenCalled();
    log.mockRestore();
  });

  it("is a sign of life where it holds thoughts alone", async () => {
    const slow = Array.from({ length: 6 }, () => [{ waitMs: 200 }, thinking("hm")]).flat();
    expect(endOf((await replyTo(events(...slow, ...hello, stop, done), 700)).outcome)).toEqual(whole);
  });

  it.each(["reasoning", "reasoning_content"])("and thoughts in delta.%s, are kept beside the text", async (key) => {
    const { outcome } = await replyTo(events(c({ [key]: "hm" }), ...hello, stop, done));
    expect(completedOf(outcome)).toMatchObject({
      text: "Hello",
      data: { additional_kwargs: { reasoning_content: "hm" } },
    });
  });
});

describe("a finish reason", () => {
  it.each<[string, string]>([
    ["stop", "stop"],
    ["eos", "eos"],
    ["eos_token", "eos_token"],
    ["end_turn", "end_turn"],
    ["stop_sequence", "stop_sequence"],
    ["STOP", "STOP"],
    ["length", "length"],
    ["max_tokens", "max_tokens"],
    ["model_length", "model_length"],
    ["model_context_window_exceeded", "model_context_window_exceeded"],
    ["content_filter", "content_filter"],
    ["safety", "safety"],
    ["sensitive", "sensitive"],
    ["tool_calls", "tool_calls"],
    ["function_call", "function_call"],
  ])("%s makes a reply whole, also where the connection is cut behind it", async (reason, finish) => {
    const parts = [...hello, c({}, reason)];
    expect(endOf((await replyTo(events(...parts, done))).outcome)).toEqual({ text: "Hello", finish });
    expect(endOf((await replyTo(cut(events(...parts)))).outcome)).toEqual({ text: "Hello", finish });
  });

  it.each([
    ["error", "MODEL_UNAVAILABLE"],
    ["insufficient_system_resource", "MODEL_UNAVAILABLE"],
    ["network_error", "MODEL_UNAVAILABLE"],
    ["abort", "REPLY_CUT_OFF"],
  ])("%s says that the reply has failed: %s", async (reason, code) => {
    const { outcome, tokens } = await replyTo(events(...hello, c({ content: "" }, reason), done));
    expect(endOf(outcome)).toEqual({ code });
    expect(tokens.join("")).toBe("Hello");
  });

  it("that nobody knows needs [DONE] or a proper end", async () => {
    const parts = [...hello, c({}, "recitation")];
    expect(endOf((await replyTo(events(...parts, done))).outcome)).toEqual({ text: "Hello", finish: "recitation" });
    expect(endOf((await replyTo(events(...parts))).outcome)).toEqual({ text: "Hello", finish: "recitation" });
    expect(endOf((await replyTo(cut(events(...parts)))).outcome)).toEqual(cutOff);
  });

  it.each([
    ["safety", "CONTENT_REFUSED"],
    ["sensitive", "CONTENT_REFUSED"],
    ["SAFETY", "CONTENT_REFUSED"],
    ["model_context_window_exceeded", "CONTEXT_TOO_LONG"],
  ])("%s without any text is a failure: %s", async (reason, code) => {
    expect(endOf((await replyTo(events(c({ content: "" }), c({}, reason), done))).outcome)).toEqual({ code });
  });

  it('of "null" means not yet', async () => {
    const always = [c({ content: "Hel" }, "null"), c({ content: "lo" }, "null")];
    expect(endOf((await replyTo(events(...always, c({}, "stop"), done))).outcome)).toEqual(whole);
    expect(endOf((await replyTo(events(...always, done))).outcome)).toEqual(cutOff);
    expect(endOf((await replyTo(events(...always))).outcome)).toEqual(cutOff);
  });

  it('of "" means not yet with every chunk, and the end where the others had null', async () => {
    const always = [c({ content: "Hel" }, ""), c({ content: "lo" }, "")];
    expect(endOf((await replyTo(events(...always, c({}, "stop"), done))).outcome)).toEqual(whole);
    expect(endOf((await replyTo(events(...always, done))).outcome)).toEqual(cutOff);
    expect(endOf((await replyTo(events(...hello, c({}, ""), done))).outcome)).toEqual(whole);
    expect(endOf((await replyTo(events(...hello, c({}, "")))).outcome)).toEqual(cutOff);
  });

  it("with every chunk needs a proper end, and is stored once", async () => {
    const always = [c({ content: "Hel" }, "stop"), c({ content: "lo" }, "stop")];
    expect(endOf((await replyTo(events(...always, done))).outcome)).toEqual(whole);
    expect(endOf((await replyTo(events(...always))).outcome)).toEqual(whole);
    expect(endOf((await replyTo(cut(events(...always)))).outcome)).toEqual(cutOff);
  });

  it("may have Google's own name", async () => {
    const end = { ...c({}), choices: [{ index: 0, delta: {}, finish_reason: null, finishReason: "STOP" }] };
    expect(endOf((await replyTo(events(...hello, end, done))).outcome)).toEqual({ text: "Hello", finish: "STOP" });
  });

  it("may come with the last text", async () => {
    expect(endOf((await replyTo(events(c({ content: "Hel" }), c({ content: "lo" }, "length"), done))).outcome)).toEqual(
      { text: "Hello", finish: "length" },
    );
  });

  it("without text makes an empty reply, thoughts or not", async () => {
    const empty = { text: "", finish: "stop" };
    expect(endOf((await replyTo(events(c({ role: "assistant", content: "" }), stop, done))).outcome)).toEqual(empty);
    expect(endOf((await replyTo(events(c({ reasoning: "hm" }), stop, done))).outcome)).toEqual(empty);
  });
});

describe("behind the finish reason", () => {
  const begin = [...hello, stop];
  it.each<[string, Raw]>([
    ["the connection may be cut", cut(events(...begin))],
    ["nothing may come any more", open(events(...begin))],
    ["[DONE] may have a space behind it", events(...begin, "data: [DONE] \n\n")],
    ["[DONE] may have quotes", events(...begin, 'data: "[DONE]"\n\n')],
    ["[DONE] may be missing", events(...begin)],
    ["a record may be no JSON", events(...begin, 'data: {"usage": \n\n', done)],
    ["an error may come", events(...begin, { error: { message: "could not count the tokens", code: 500 } }, done)],
    ["a finish reason of an error may come", events(...begin, c({}, "error"), done)],
    ["an error may come as an event", events(...begin, 'event: error\ndata: {"message":"late"}\n\n', done)],
    ["a page may come", events(...begin, "<html><body>502 Bad Gateway</body></html>")],
    ["more chunks without text may come", events(...begin, c({}), c({ content: "" }, null), done)],
  ])("%s: a reply that is whole stays whole", async (_title, behaviour) => {
    expect(endOf((await replyTo(behaviour)).outcome)).toEqual(whole);
  });
});

describe("behind the finish reason, signs of life", () => {
  const pings = (ping: string) => Array.from({ length: 60 }, () => [{ waitMs: 200 }, ping]).flat();
  it.each([
    ["comments", ": ping\n\n"],
    ["chunks without text", `data: ${JSON.stringify(c({ content: "" }, null))}\n\n`],
  ])("keep nobody waiting: %s", async (_title, ping) => {
    const started = performance.now();
    const { parts } = events(...hello, stop);
    expect(endOf((await replyTo({ kind: "raw", parts: [...parts, ...pings(ping)] })).outcome)).toEqual(whole);
    // They come for 12 s.
    expect(performance.now() - started).toBeLessThan(10_000);
  });
});

describe("behind the finish reason, before that the silence is taken for a time-out", () => {
  it("a reply that is whole is whole", async () => {
    expect(endOf((await replyTo(open(events(...hello, stop)), 1000)).outcome)).toEqual(whole);
  });
});

describe("Azure's own client", () => {
  it("has the same wire", async () => {
    vi.stubEnv("AZURE_OPENAI_API_KEY", "key");
    vi.stubEnv("AZURE_OPENAI_API_VERSION", "2024-10-21");
    vi.stubEnv("AZURE_OPENAI_BASE_PATH", `${server.baseUrl}/openai/deployments`);
    vi.stubEnv("AZURE_OPENAI_API_DEPLOYMENT_NAME", "m");
    server.behave(events(...hello, c(undefined, "content_filter"), done));
    const azure = "azure_openai:m";
    const { outcome } = await runReply(repliesAt(server.baseUrl, { models: [azure] }), { model: azure });
    vi.unstubAllEnvs();
    expect(server.requests.at(-1)?.path).toContain("/openai/deployments/m/chat/completions");
    expect(endOf(outcome)).toEqual({ text: "Hello", finish: "content_filter" });
  });
});

describe("an event stream", () => {
  const records = [...hello, stop].map(record);
  const text = [...records, done].join("");
  it.each<[string, (string | Uint8Array)[]]>([
    ["CRLF", [text.replaceAll("\n", "\r\n")]],
    ["CR alone", [text.replaceAll("\n", "\r")]],
    ["a BOM", [`\uFEFF${text}`]],
    ["no space behind data:", [text.replaceAll("data: ", "data:")]],
    ["comments that keep it alive", [": OPENROUTER PROCESSING\n\n", text.replaceAll("\n\n", "\n\n: ping\n\n")]],
    ["names of events and ids", [text.replaceAll("data: ", "event: message\nid: 1\nretry: 10\ndata: ")]],
    ["events without data", [`event: ping\n\ndata:\n\ndata: \n\ndata: null\n\ndata: ping\n\n${text}`]],
    ["no empty line at its end", [text.trimEnd()]],
    ["no empty line at its end, nor [DONE]", [records.join("").trimEnd()]],
    ["no empty lines in between", [text.replaceAll("\n\n", "\n")]],
    [
      "a record over several lines",
      [`data: {"choices":\ndata: [{"delta":{"content":"Hello"}}]}\n\n${record(stop)}${done}`],
    ],
    [
      "one byte a packet",
      Array.from(Buffer.from(records.slice(0, 2).join("")))
        .map((byte) => Uint8Array.of(byte))
        .concat(Buffer.from(record(stop) + done)),
    ],
    ["white space ahead", [`\n\n  \n${text}`]],
    ["a length of several packets", [text.slice(0, 31), text.slice(31, 32), text.slice(32)]],
  ])("may have %s", async (_title, parts) => {
    expect(endOf((await replyTo(events(...parts))).outcome)).toEqual(whole);
  });

  it.each(["\n", "\r\n"])("without empty lines between its events is live all the same: %j", async (eol) => {
    const words = Array.from({ length: 12 }, (_, index) => `w${index} `);
    const lines = words.map((content) => `data: ${JSON.stringify(c({ content }))}${eol}`);
    const slow = lines.flatMap((line) => [line, { waitMs: 150 }]);
    const end = `data: ${JSON.stringify(stop)}${eol}data: [DONE]${eol}`;
    const { outcome, tokens } = await replyTo({ kind: "raw", parts: [...slow, end] }, 1000);
    expect(endOf(outcome)).toEqual({ text: words.join(""), finish: "stop" });
    expect(tokens.filter((token) => token !== "")).toEqual(words);
  });

  it("may have a record in several lines of data", async () => {
    const lines = JSON.stringify(c({ content: "Hello" }), null, 1).split("\n");
    const text = `${lines.map((line) => `data: ${line}\n`).join("")}\n`;
    expect(endOf((await replyTo(events(text, stop, done))).outcome)).toEqual(whole);
  });

  it("may cut a character in two", async () => {
    const bytes = Buffer.from(record(c({ content: "Good morning 🌞 é" })));
    const at = bytes.indexOf(Buffer.from("🌞")) + 2;
    const { outcome, tokens } = await replyTo(events(bytes.subarray(0, at), bytes.subarray(at), stop, done));
    expect(endOf(outcome)).toEqual({ text: "Good morning 🌞 é", finish: "stop" });
    expect(tokens.join("")).toBe("Good morning 🌞 é");
  });

  it("may be compressed, and of any content type", async () => {
    const headers = { "content-type": "text/plain", "content-encoding": "gzip" };
    expect(endOf((await replyTo({ kind: "raw", headers, parts: [gzipSync(text)] })).outcome)).toEqual(whole);
  });

  it.each<[string, Raw]>([
    ["in the middle", cut(events(...hello))],
    ["in the middle of a record", cut(events(...hello, 'data: {"choices":[{"index":0,"delta":{},"finish_rea'))],
    ["before its finish reason", events(...hello, done)],
    ["before its finish reason, without [DONE]", events(...hello)],
    ["in half a record", events(...hello, 'data: {"choices":[{"index":0,"del\n\n', stop, done)],
    ["before anything came", events()],
  ])("that ends %s is no whole reply", async (_title, behaviour) => {
    expect(endOf((await replyTo(behaviour)).outcome)).toEqual(cutOff);
  });
});

describe("an error in a stream", () => {
  const upstream = { message: "Provider disconnected", code: 502 };
  it.each<[string, Raw, string]>([
    [
      "beside the choices",
      events(...hello, { ...c({ content: "" }, "error"), error: upstream }, done),
      "MODEL_UNAVAILABLE",
    ],
    [
      "beside the choices, of a limit",
      events(...hello, { ...c({}, "error"), error: { code: 429, message: "slow down" } }),
      "MODEL_RATE_LIMITED",
    ],
    [
      "in the choice",
      events(...hello, { ...c({}), choices: [{ index: 0, delta: {}, finish_reason: "error", error: upstream }] }, done),
      "MODEL_UNAVAILABLE",
    ],
    ["as a record", events(...hello, { error: upstream }), "MODEL_UNAVAILABLE"],
    [
      "as a record of words",
      events(...hello, {
        error: "The number of tokens to keep from the initial prompt is greater than the context length.",
      }),
      "CONTEXT_TOO_LONG",
    ],
    [
      "as an event of its own",
      events(...hello, 'event: error\ndata: {"message":"overloaded","type":"overloaded_error"}\n\n'),
      "MODEL_UNAVAILABLE",
    ],
    [
      "of vLLM's kind",
      events(...hello, { object: "error", message: "boom", type: "InternalServerError", code: 500 }),
      "MODEL_UNAVAILABLE",
    ],
    [
      "as a line of JSON",
      events(...hello, '{"error":{"message":"boom","code":"rate_limit_exceeded"}}\n\n'),
      "MODEL_RATE_LIMITED",
    ],
    ["in place of the first record", events({ error: { message: "slow down", code: 429 } }), "MODEL_RATE_LIMITED"],
    [
      "in place of the stream, as a line of JSON",
      events('{"error":{"message":"no such model","code":404}}\n\ndata: [DONE]\n\n'),
      "MODEL_UNAVAILABLE",
    ],
    [
      "that is empty is none",
      events(
        { ...c({ content: "Hello" }), error: {} },
        { ...c({}, "length"), error: { message: "", code: null } },
        done,
      ),
      "none",
    ],
    [
      "that is null is none",
      events({ ...c({ content: "Hello" }), error: null }, { ...c({}, "length"), error: null }, done),
      "none",
    ],
  ])("%s", async (_title, behaviour, code) => {
    const { outcome } = await replyTo(behaviour);
    expect(endOf(outcome)).toEqual(code === "none" ? { text: "Hello", finish: "length" } : { code });
  });
});

describe("a refusal", () => {
  it.each<[string, Raw]>([
    [
      "in deltas",
      events(
        c({ role: "assistant", content: "", refusal: null }),
        c({ refusal: "I can't" }),
        c({ refusal: " do that." }),
        stop,
        done,
      ),
    ],
    [
      "as a part of the content",
      events(c({ content: [{ type: "refusal", refusal: "I can't do that." }] }), stop, done),
    ],
    [
      "in one object",
      json({
        choices: [
          {
            index: 0,
            message: { role: "assistant", content: null, refusal: "I can't do that." },
            finish_reason: "stop",
          },
        ],
      }),
    ],
    ["that is cut off", cut(events(c({ refusal: "I can't do that." })))],
  ])("%s is CONTENT_REFUSED, and its text is shown", async (_title, behaviour) => {
    const { outcome, tokens } = await replyTo(behaviour);
    expect(outcome).toMatchObject({ kind: "failed", error: { code: "CONTENT_REFUSED", retryable: false } });
    expect(tokens.join("")).toBe("I can't do that.");
  });
});

describe("one object in place of a stream", () => {
  const usage = { prompt_tokens: 3, completion_tokens: 2, total_tokens: 5 };
  const message = { role: "assistant", content: "Hello" };
  const completion = (choice: object, more: object = {}) => ({
    id: "c",
    object: "chat.completion",
    model: "m",
    choices: [{ index: 0, ...choice }],
    ...more,
  });

  it("is a reply where it is one", async () => {
    const { outcome, tokens } = await replyTo(json(completion({ message, finish_reason: "stop" }, { usage })));
    expect(completedOf(outcome)).toMatchObject({
      text: "Hello",
      usage: { inputTokens: 3, outputTokens: 2, totalTokens: 5 },
    });
    expect(tokens).toEqual(["Hello"]);
  });

  it.each<[string, Raw, object]>([
    ["without a finish reason", json(completion({ message })), whole],
    ["cut by its length", json(completion({ message, finish_reason: "length" })), { text: "Hello", finish: "length" }],
    ["called an event stream", events(JSON.stringify(completion({ message, finish_reason: "stop" }))), whole],
    ["over several lines", json(JSON.stringify(completion({ message, finish_reason: "stop" }), null, 2)), whole],
    [
      "with content in parts",
      json(completion({ message: { content: [{ type: "text", text: "Hello" }] }, finish_reason: "stop" })),
      whole,
    ],
    ["JSON lines without data:", json([...hello, stop].map((one) => JSON.stringify(one)).join("\n")), whole],
    ["half of it", cut(json('{"choices":[{"message":{"content":"Hello')), { code: "MODEL_UNAVAILABLE" }],
    ["a limit", json({ error: { message: "Rate limit exceeded", code: 429 } }), { code: "MODEL_RATE_LIMITED" }],
    [
      "a model that is not there",
      json({ error: { message: "No endpoints found for m.", code: 404 } }),
      { code: "MODEL_UNAVAILABLE" },
    ],
    ["an error of words", json({ error: "model is overloaded, code 503" }), { code: "OTHER" }],
    [
      "an error in Google's list",
      json([{ error: { code: 503, message: "overloaded", status: "UNAVAILABLE" } }]),
      { code: "MODEL_UNAVAILABLE" },
    ],
    ["no choice at all", json(completion({}, { choices: [] })), cutOff],
    ["something else", json({ hello: "world" }), { code: "MODEL_UNAVAILABLE" }],
    [
      "a page",
      { ...json("<!doctype html><html></html>"), headers: { "content-type": "text/html" } },
      { code: "MODEL_UNAVAILABLE" },
    ],
  ])("%s", async (_title, behaviour, expected) => {
    expect(endOf((await replyTo(behaviour)).outcome)).toEqual(expected);
  });

  it("that is a page will be one again, so it is not retryable", async () => {
    const { outcome } = await replyTo(json("<html></html>"));
    expect(outcome).toMatchObject({
      error: { retryable: false, message: expect.stringContaining("OpenAI's format") as string },
    });
  });

  it("a stream in place of the object that a title asks for is a title too", async () => {
    server.behave(events(...hello, stop, done));
    const request = { model, rows: [human("hi")], signal: new AbortController().signal };
    expect(await repliesAt(server.baseUrl).title(request)).toEqual({ title: "Hello" });
    server.behave(events({ error: { message: "slow down", code: 429 } }));
    expect(await repliesAt(server.baseUrl).title(request)).toMatchObject({ error: { code: "MODEL_RATE_LIMITED" } });
    server.behave(json({ error: { message: "slow down", code: 429 } }));
    expect(await repliesAt(server.baseUrl).title(request)).toMatchObject({ error: { code: "MODEL_RATE_LIMITED" } });
  });
});

describe("tool calls", () => {
  const call = (more: object, name = "weather", args: unknown = '{"city":"Bonn"}') => ({
    type: "function",
    function: { name, arguments: args },
    ...more,
  });
  const callsOf = async (...deltas: object[][]) => {
    const chunks = deltas.map((tool_calls) => c({ role: "assistant", content: null, tool_calls }));
    const { outcome } = await replyTo(events(...chunks, c({}, "tool_calls"), done));
    return completedOf(outcome).data["tool_calls"];
  };
  const bonn = { name: "weather", args: { city: "Bonn" }, type: "tool_call" };
  const any = expect.stringMatching(/^call_/) as string;

  it.each<[string, object[][], object[]]>([
    [
      "in pieces",
      [
        [call({ index: 0, id: "a" }, "weather", "")],
        [{ index: 0, function: { arguments: '{"city":' } }],
        [{ index: 0, function: { arguments: '"Bonn"}' } }],
      ],
      [{ ...bonn, id: "a" }],
    ],
    [
      "without an index",
      [[call({ id: "a" }, "weather", '{"city"')], [{ function: { arguments: ':"Bonn"}' } }]],
      [{ ...bonn, id: "a" }],
    ],
    [
      "two without an index",
      [[call({ id: "a" })], [call({ id: "b" })]],
      [
        { ...bonn, id: "a" },
        { ...bonn, id: "b" },
      ],
    ],
    [
      "all of index 0",
      [[call({ index: 0, id: "a" }), call({ index: 0, id: "b" }, "time", "{}")]],
      [
        { ...bonn, id: "a" },
        { name: "time", args: {}, type: "tool_call", id: "b" },
      ],
    ],
    [
      "with an index from 1",
      [[call({ index: 1, id: "a" }, "weather", '{"city":')], [{ index: 1, function: { arguments: '"Bonn"}' } }]],
      [{ ...bonn, id: "a" }],
    ],
    ["without an id", [[call({ index: 0 })]], [{ ...bonn, id: any }]],
    ["with an empty id", [[call({ index: 0, id: "" })]], [{ ...bonn, id: any }]],
    [
      "with the id in each piece",
      [
        [call({ index: 0, id: "a" }, "weather", '{"city":')],
        [{ index: 0, id: "a", function: { arguments: '"Bonn"}' } }],
      ],
      [{ ...bonn, id: "a" }],
    ],
    [
      "with the name in each piece",
      [
        [call({ index: 0, id: "a" }, "weather", '{"city":')],
        [{ index: 0, function: { name: "weather", arguments: '"Bonn"}' } }],
      ],
      [{ ...bonn, id: "a" }],
    ],
    [
      "with arguments as an object",
      [[call({ index: 0, id: "a" }, "weather", { city: "Bonn" })]],
      [{ ...bonn, id: "a" }],
    ],
  ])("%s are whole", async (_title, deltas, expected) => {
    expect(await callsOf(...deltas)).toEqual(expected);
  });

  it("of null are none", async () => {
    const { outcome } = await replyTo(
      events(c({ content: "Hello", tool_calls: null }), c({ tool_calls: [] }), stop, done),
    );
    expect(completedOf(outcome)).toMatchObject({ text: "Hello", data: { tool_calls: [], invalid_tool_calls: [] } });
  });
});

describe("usage", () => {
  const full = { inputTokens: 3, outputTokens: 2, totalTokens: 5 };
  const end = (usage: unknown) => events(c({ content: "Hello" }), stop, usageChunk(usage), done);
  const three = { prompt_tokens: 3, completion_tokens: 2 };
  it.each<[string, Raw, object]>([
    ["whole", end({ ...three, total_tokens: 5 }), full],
    ["without a total", end(three), full],
    ["with a total of 0", end({ ...three, total_tokens: 0 }), full],
    ["with a total of null", end({ ...three, total_tokens: null }), full],
    ["with a total that is too small", end({ ...three, total_tokens: 4 }), full],
    [
      "with a total above the sum, as with Gemini's thoughts",
      end({ ...three, total_tokens: 9 }),
      { ...full, totalTokens: 9 },
    ],
    ["of a total alone", end({ total_tokens: 5 }), { inputTokens: 5, outputTokens: 0, totalTokens: 5 }],
    ["in the words of the other API", end({ input_tokens: 3, output_tokens: 2 }), full],
    [
      "with every chunk",
      events(
        c({ content: "Hel" }, null, { usage: { prompt_tokens: 3, completion_tokens: 1, total_tokens: 4 } }),
        c({ content: "lo" }, "stop", { usage: { ...three, total_tokens: 5 } }),
        done,
      ),
      full,
    ],
    [
      "in two parts",
      events(
        c({ content: "Hello" }, null, { usage: { prompt_tokens: 3, completion_tokens: 0 } }),
        c({}, "stop", { usage: { prompt_tokens: 0, completion_tokens: 2 } }),
        done,
      ),
      full,
    ],
    [
      "in the chunk of the finish reason",
      events(c({ content: "Hello" }), c({}, "stop", { usage: { ...three, total_tokens: 5 } }), done),
      full,
    ],
    [
      "of null with the others",
      events(c({ content: "Hello" }, null, { usage: null }), c({}, "stop", { usage: null }), usageChunk(three), done),
      full,
    ],
    ["in x_groq", events(c({ content: "Hello" }), c({}, "stop", { x_groq: { id: "r", usage: three } }), done), full],
    [
      "in the choice",
      events(
        c({ content: "Hello" }),
        { ...c({}), choices: [{ index: 0, delta: {}, finish_reason: "stop", usage: three }] },
        done,
      ),
      full,
    ],
  ])("%s adds up", async (_title, behaviour, expected) => {
    const { usage, data } = completedOf((await replyTo(behaviour)).outcome);
    expect(usage).toEqual(expected);
    expect(data["response_metadata"]).not.toHaveProperty("usage_estimated");
    const {
      inputTokens: input_tokens,
      outputTokens: output_tokens,
      totalTokens: total_tokens,
    } = expected as typeof full;
    expect(data["usage_metadata"]).toMatchObject({ input_tokens, output_tokens, total_tokens });
  });

  it.each<[string, Raw]>([
    ["is missing", events(c({ content: "Hello" }), stop, done)],
    ["is null", end(null)],
    ["counts nothing", end({ prompt_tokens: 0, completion_tokens: 0, total_tokens: 0 })],
    ["is lost with the connection", cut(events(c({ content: "Hello" }), stop))],
  ])("that %s is estimated, and the row says so", async (_title, behaviour) => {
    const { usage, data } = completedOf((await replyTo(behaviour)).outcome);
    // "hello" and what a message adds, "Hello".
    expect(usage).toEqual({ inputTokens: 5, outputTokens: 1, totalTokens: 6 });
    expect(data["usage_metadata"]).toEqual({ input_tokens: 5, output_tokens: 1, total_tokens: 6 });
    expect(data["response_metadata"]).toMatchObject({ usage_estimated: true });
  });

  it("of a long history is estimated by its length, which takes no time", async () => {
    // Counted, "word " is one token; by its length it is one and a quarter.
    const messages = Array.from({ length: 100 }, () => new HumanMessage("word ".repeat(20_000)));
    expect((await estimatedUsage(messages, "Hello")).inputTokens).toBe(2_500_000);
    const few = Array.from({ length: 3 }, () => new HumanMessage("word ".repeat(1000)));
    expect((await estimatedUsage(few, "Hello")).inputTokens).toBeLessThan(3100);
  });
});
