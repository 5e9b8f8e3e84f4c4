import { describe, expect, it } from "vitest";

import { uuidv7 } from "../../src/conversation/message/ids.ts";
import type { MessageContent, NewMessage } from "../../src/conversation/message/message.ts";
import {
  contentFingerprint,
  decodeStoredMessage,
  escapeFragment,
  fillTemplate,
  joinFragments,
  templateOfMessage,
  templateOfPartial,
  templateOfReply,
  type RowNote,
} from "../../src/conversation/message/stored-message.ts";
import { nothing, says } from "../support/store/message-content.ts";

const rowOf = (data: unknown, type = "ai"): MessageContent => decodeStoredMessage(JSON.stringify({ type, data }));

describe("reading", () => {
  it.each(["", "junk", "null", "[]", "1", '"x"', "{}", '{"type":1}', '{"type":"human"}', '{"type":"ai","data":null}'])(
    "%s is no message",
    (raw) => {
      expect(decodeStoredMessage(raw)).toEqual(nothing);
    },
  );

  it.each([
    ["HumanMessageChunk", undefined, "USER", null],
    ["ToolMessageChunk", undefined, "TOOL", null],
    ["developer", undefined, "SYSTEM", null],
    ["remove", undefined, "OTHER", null],
    ["constructor", undefined, "OTHER", null],
    ["chat", "user", "USER", null],
    ["generic", "assistant", "ASSISTANT", null],
    ["ChatMessageChunk", "system", "SYSTEM", null],
    ["chat", "critic", "OTHER", "critic"],
    ["chat", { a: 1 }, "OTHER", null],
  ])("type %s with role %j is %s", (type, given, role, name) => {
    expect(rowOf({ content: "x", role: given }, type)).toMatchObject({ role, name, text: "x" });
  });

  const contents: readonly (readonly [unknown, unknown])[] = [
    [null, []],
    ["", []],
    [undefined, []],
    [[], []],
    [["a", { type: "text", text: "b" }], ["a", "b"].map((text) => ({ kind: "text", text }))],
    [[{ type: "image_url", image_url: "https://x/y" }], [{ kind: "image", url: "https://x/y", detail: null }]],
    [
      [{ type: "image_url", image_url: { url: "https://x/y", detail: "low" } }],
      [{ kind: "image", url: "https://x/y", detail: "low" }],
    ],
    [[{ type: "image", url: "https://x/y" }], [{ kind: "image", url: "https://x/y", detail: null }]],
    [
      [{ type: "image", data: "QUJD", mimeType: "image/png" }],
      [{ kind: "image", url: "data:image/png;base64,QUJD", detail: null }],
    ],
    [
      [{ type: "image", base64: "QUJD", mime_type: "image/gif" }],
      [{ kind: "image", url: "data:image/gif;base64,QUJD", detail: null }],
    ],
    ...[
      { type: "image", source: { type: "base64", media_type: "image/png", data: "QUJD" } },
      { type: "image", source_type: "base64", mime_type: "image/png", data: "QUJD" },
      { type: "input_image", image_url: "data:image/png;base64,QUJD" },
      { type: "media", mimeType: "image/png", data: "QUJD" },
    ].map((block) => [[block], [{ kind: "image", url: "data:image/png;base64,QUJD", detail: null }]] as const),
    [
      [{ type: "image", source: { type: "url", url: "https://x/y" } }],
      [{ kind: "image", url: "https://x/y", detail: null }],
    ],
    ...[
      { type: "image", source_type: "id", id: "file-1" },
      { type: "image", source: { type: "file", file_id: "file-1" } },
      { type: "media", mimeType: "video/mp4", fileUri: "https://x/y" },
      { type: "constructor" },
      { type: "image", data: "QUJD" },
      { type: "image_url", image_url: { url: "javascript:alert(1)" } },
      { type: "image", fileId: "f" },
      { type: "text", text: 1 },
      { type: "reasoning", reasoning: "hm" },
    ].map((block) => [[block], [{ kind: "other", type: block.type, data: block }]] as const),
    [[null, 7, {}], [7, {}].map((data) => ({ kind: "other", type: "unknown", data }))],
    [{ type: "text", text: "alone" }, [{ kind: "text", text: "alone" }]],
  ];
  it.each(contents)("content %j", (content, blocks) => {
    expect(rowOf({ content }).content).toEqual(blocks);
  });

  it("takes content_blocks where there is no content, as LangChain 1.x stores a message made of contentBlocks", () => {
    const content_blocks = [
      { type: "reasoning", reasoning: "a dog" },
      { type: "text", text: "Nice " },
      { type: "text", text: "dog." },
    ];
    const content = [
      { kind: "other", type: "reasoning", data: { type: "reasoning", reasoning: "a dog" } },
      { kind: "text", text: "Nice " },
      { kind: "text", text: "dog." },
    ];
    for (const empty of [{}, { content: "" }, { content: [] }, { content: null }]) {
      expect(rowOf({ ...empty, content_blocks })).toMatchObject({ text: "Nice dog.", content });
    }
    expect(rowOf({ content: "Nice", content_blocks })).toMatchObject(says("Nice"));
    expect(rowOf({ content_blocks: "Nice" })).toMatchObject(says("Nice"));
    expect(rowOf({ content_blocks: 3 }).content).toEqual([{ kind: "other", type: "unknown", data: 3 }]);
  });

  it("takes tool calls from blocks where they are nowhere else", () => {
    const blocks = [
      { type: "text", text: "Let me see" },
      { type: "tool_call", id: "c1", name: "f", args: { a: 1 } },
      { type: "tool_use", id: "c2", name: "g", input: {} },
      { type: "tool_call" },
    ];
    const calls = [
      { callId: "c1", name: "f", args: { a: 1 } },
      { callId: "c2", name: "g", args: {} },
      { callId: null, name: "", args: {} },
    ];
    expect(rowOf({ content: blocks }).toolCalls).toEqual(calls);
    expect(rowOf({ content_blocks: blocks, tool_calls: [] }).toolCalls).toEqual(calls);
    expect(rowOf({ content: blocks, tool_calls: [{ id: "c3", name: "h", args: {} }] }).toolCalls).toEqual([
      { callId: "c3", name: "h", args: {} },
    ]);
  });

  it("takes OpenAI's tool calls where LangChain's are missing", () => {
    const fn = (args: string): object => ({ id: "c1", type: "function", function: { name: "f", arguments: args } });
    const calls = (data: object): unknown => rowOf({ content: "", ...data }).toolCalls;
    expect(calls({ additional_kwargs: { tool_calls: [fn('{"a":1}'), fn("{bad"), null] } })).toEqual([
      { callId: "c1", name: "f", args: { a: 1 } },
      { callId: "c1", name: "f", args: "{bad" },
    ]);
    expect(calls({ tool_calls: [{ name: "g" }], additional_kwargs: { tool_calls: [fn("{}")] } })).toEqual([
      { callId: null, name: "g", args: {} },
    ]);
    expect(calls({ invalid_tool_calls: [{ name: null, args: null, id: 1 }, 3] })).toEqual([
      { callId: null, name: "", args: "" },
    ]);
    expect(calls({ tool_calls: "x", invalid_tool_calls: { a: 1 }, additional_kwargs: 3 })).toEqual([]);
  });

  it.each([
    [{ finish_reason: "stop" }, "STOP"],
    [{ stop_reason: "end_turn" }, "STOP"],
    [{ finishReason: "MAX_TOKENS" }, "LENGTH"],
    [{ finish_reason: "length" }, "LENGTH"],
    [{ finish_reason: "model_context_window_exceeded" }, "LENGTH"],
    [{ finish_reason: "sensitive" }, "CONTENT_FILTER"],
    [{ stop_reason: "tool_use" }, "TOOL_CALLS"],
    [{ stop_reason: "refusal" }, "CONTENT_FILTER"],
    [{ finish_reason: "cancelled" }, "CANCELLED"],
    [{ finish_reason: "weird" }, "OTHER"],
    [{ finish_reason: 3 }, null],
    [{}, null],
  ])("finish reason of %j is %s", (response_metadata, expected) => {
    expect(rowOf({ content: "x", response_metadata }).finishReason).toBe(expected);
    expect(rowOf({ content: "x", response_metadata }, "human").finishReason).toBeNull();
  });

  it.each([
    [{ usage_metadata: { input_tokens: 1, output_tokens: 2, total_tokens: 3 } }, [1, 2, 3]],
    [{ usage_metadata: { input_tokens: 1, output_tokens: 2 } }, null],
    [{ usage_metadata: { input_tokens: -1, output_tokens: 2, total_tokens: 1 } }, null],
    [
      { usage_metadata: { input_tokens: 1e300, output_tokens: 2.5, total_tokens: 2 ** 31 } },
      [2147483647, 2, 2147483647],
    ],
    [{ response_metadata: { tokenUsage: { promptTokens: 4, completionTokens: 5, totalTokens: 9 } } }, [4, 5, 9]],
    [{ response_metadata: { usage: { prompt_tokens: 4, completion_tokens: 5, total_tokens: 9 } } }, [4, 5, 9]],
    [{ usage_metadata: {}, response_metadata: { usage: { prompt_tokens: "4" } } }, null],
  ])("usage of %j", (data, counts) => {
    const [inputTokens, outputTokens, totalTokens] = counts ?? [];
    expect(rowOf({ content: "x", ...data }).usage).toEqual(
      counts === null ? null : { inputTokens, outputTokens, totalTokens },
    );
  });

  const v7 = uuidv7(1_790_000_000_123);
  it.each([
    [v7, undefined, 1_790_000_000_123],
    [v7, "2026-01-02T03:04:05.678Z", Date.UTC(2026, 0, 2, 3, 4, 5, 678)],
    [null, "2026-01-02 03:04:05+02:00", Date.UTC(2026, 0, 2, 1, 4, 5)],
    [null, "2026-01-02T03:04:05.123456", Date.UTC(2026, 0, 2, 3, 4, 5, 123)],
    [null, 1_790_000_000, 1_790_000_000_000],
    [null, 1_790_000_000.5, 1_790_000_000_500],
    [null, 1_790_000_000_123, 1_790_000_000_123],
    [null, 1e300, null],
    [null, -5, null],
    [null, "2026-99-99T00:00:00Z", null],
    [null, "1", null],
    [v7, "yesterday", 1_790_000_000_123],
    ["ffffffff-ffff-7fff-bfff-ffffffffffff", undefined, null],
    ["m1", undefined, null],
  ])("id %j with created_at %j was made at %j", (id, created_at, expected) => {
    expect(rowOf({ content: "x", id, response_metadata: { created_at } }).createdAt).toBe(expected);
  });

  it.each([
    [
      { session: "s", position: 3, run: "r", hint: 2 },
      { session: "s", position: 3, runId: "r", hint: 2 },
    ],
    [
      { session: "s", position: 0, run: null, hint: null },
      { session: "s", position: 0, runId: null, hint: null },
    ],
    [{ session: 1, position: 3, run: null, hint: null }, null],
    [{ session: "s", position: -1, run: null, hint: null }, null],
    [{ session: "s", position: 1.5, run: null, hint: null }, null],
    [{ session: "s", position: 1, run: 4, hint: null }, null],
    [{ session: "s", position: 1, run: null, hint: "1" }, null],
    ["s", null],
  ])("the note %j", (parley, expected) => {
    expect(rowOf({ content: "x", response_metadata: { parley } }).origin).toEqual(expected);
  });

  it("a failed tool says so", () => {
    expect(rowOf({ content: "x", status: "error", tool_call_id: "c" }, "tool").toolFailed).toBe(true);
    expect(rowOf({ content: "x", tool_call_id: "c" }, "tool").toolFailed).toBeNull();
    expect(rowOf({ content: "x", status: "error" }, "human").toolFailed).toBeNull();
  });

  it("is not polluted by keys with a meaning to JavaScript", () => {
    const raw =
      '{"type":"ai","__proto__":{"data":{"content":"evil"}},"data":{"content":"x","__proto__":{"id":"evil"}}}';
    expect(decodeStoredMessage(raw)).toEqual({ ...nothing, role: "ASSISTANT", ...says("x") });
    expect(Reflect.get({}, "id")).toBeUndefined();
  });

  it("survives nesting deeper than the stack", () => {
    const deep = "[".repeat(200_000) + "]".repeat(200_000);
    expect(decodeStoredMessage(`{"type":"ai","data":{"content":[{"type":"x","v":${deep}}]}}`).role).toBe("ASSISTANT");
  });
});

describe("writing", () => {
  const createdAt = 1_790_000_000_000;
  const note: RowNote = { session: "0a1b2c3d", runId: "r1", hint: null, createdAt };
  const user: NewMessage = {
    role: "USER",
    content: [{ kind: "text", text: "Hi" }],
    name: null,
    messageId: null,
    toolCallId: null,
    toolFailed: null,
    toolCalls: [],
  };

  it("a message, byte for byte", () => {
    const row = fillTemplate(templateOfMessage({ ...user, name: "jim" }, "m1", note), 12);
    expect(row).toBe(
      '{"type":"human","data":{"content":"Hi","id":"m1","name":"jim","additional_kwargs":{},"response_metadata":' +
        '{"created_at":"2026-09-21T14:13:20.000Z","parley":{"session":"0a1b2c3d","run":"r1","hint":null,"position":12}}}}',
    );
  });

  it("the time only where the id does not tell it", () => {
    const rowWithId = (id: string): string => fillTemplate(templateOfMessage(user, id, note), 0);
    const time = '"created_at":"2026-09-21T14:13:20.000Z"';
    expect(rowWithId("m1")).toContain(time);
    expect(rowWithId(uuidv7(createdAt - 60_000))).toContain(time);
    expect(rowWithId(uuidv7(createdAt - 500))).not.toContain("created_at");
  });

  it("a cancelled reply from fragments", () => {
    const { head, middle, tail } = templateOfPartial("m2", note);
    const text = 'He said "no\u{1F600}"\n\\';
    const fragments = [...Array(text.length).keys()].map((at) => escapeFragment(text.charAt(at)));
    const row = `${head}${fragments.join("")}${middle}9${tail}`;
    expect(decodeStoredMessage(row)).toEqual({
      ...nothing,
      role: "ASSISTANT",
      messageId: "m2",
      ...says(text),
      createdAt,
      finishReason: "CANCELLED",
      origin: { session: "0a1b2c3d", position: 9, runId: "r1", hint: null },
    });
  });

  it("a reply, without what other readers refuse", () => {
    const circular: Record<string, unknown> = { a: 1 };
    circular["self"] = circular;
    const data = {
      type: "AIMessageChunk",
      id: "run-7",
      content: null,
      tool_calls: [{ name: "t", args: { a: 1 }, extra: true }, { name: "u", args: "x", id: "c2" }, 4],
      usage_metadata: { input_tokens: 1, output_tokens: 2 },
      response_metadata: { created_at: "2020-01-01T00:00:00Z", raw: circular, big: 1n, ok: 1, parley: { position: 0 } },
      additional_kwargs: circular,
      custom: "kept",
    };
    const row: unknown = JSON.parse(fillTemplate(templateOfReply(data, "m3", { ...note, hint: 4 }), 5));
    expect(row).toEqual({
      type: "ai",
      data: {
        content: "",
        id: "m3",
        custom: "kept",
        tool_calls: [{ name: "t", args: { a: 1 }, extra: true, id: null, type: "tool_call" }],
        invalid_tool_calls: [
          { name: "u", args: "x", id: "c2", error: "The arguments are not a JSON object.", type: "invalid_tool_call" },
        ],
        additional_kwargs: {},
        response_metadata: {
          created_at: "2026-09-21T14:13:20.000Z",
          ok: 1,
          parley: { session: "0a1b2c3d", run: "r1", hint: 4, position: 5 },
        },
      },
    });
  });

  it("a reply's whole usage with its details", () => {
    const usage_metadata = {
      input_tokens: 1,
      output_tokens: 2,
      total_tokens: 3,
      input_token_details: { cache_read: 1 },
    };
    const row: unknown = JSON.parse(fillTemplate(templateOfReply({ content: "x", usage_metadata }, "m3", note), 5));
    expect(row).toMatchObject({ data: { usage_metadata } });
  });

  it("joins what is no JSON text as well as it can", () => {
    expect(joinFragments('a"b\\nc\\q\\u00e9\\')).toBe('a"b\nc\\qé\\');
    expect(joinFragments("a\nb")).toBe("a\nb");
  });

  it("fingerprints tell contents apart, whatever the order of keys", () => {
    const other = (data: unknown): NewMessage => ({ ...user, content: [{ kind: "other", type: "x", data }] });
    expect(contentFingerprint(user)).toMatch(/^[0-9a-f]{32}$/);
    expect(contentFingerprint({ ...user, messageId: "m9" })).toBe(contentFingerprint(user));
    expect(contentFingerprint(user.content)).toBe(contentFingerprint(user));
    expect(contentFingerprint(other({ a: { b: 1, c: 2 }, d: 3 }))).toBe(
      contentFingerprint(other({ d: 3, a: { c: 2, b: 1 } })),
    );
    const variants = [
      user,
      { ...user, role: "SYSTEM" as const },
      { ...user, name: "jim" },
      { ...user, content: [{ kind: "text" as const, text: "hi" }] },
      { ...user, toolCalls: [{ callId: null, name: "t", args: {} }] },
      other({ a: [1, 2] }),
      other({ a: [2, 1] }),
      other(JSON.parse('{"__proto__":1}')),
      other({}),
    ];
    expect(new Set(variants.map(contentFingerprint)).size).toBe(variants.length);
  });
});
