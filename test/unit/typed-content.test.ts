import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { ReadMessage } from "../../src/conversation/message/read-message.ts";
import type { TypedBlock } from "../../src/conversation/message/typed-content.ts";

const shown = (data: object): readonly TypedBlock[] => new ReadMessage(JSON.stringify({ type: "ai", data })).blocks;
const text = (one: string): TypedBlock => ({ kind: "text", text: one, citations: [] });
const citation = { url: null, title: null, quote: null, start: null, end: null };

/** The content of each row of langchain-blocks.jsonl that holds more than text, by its label. */
const golden: Readonly<Record<string, readonly TypedBlock[]>> = {
  "stream AIMessage": [{ kind: "reasoning", text: "Think." }, text("Let me.")],
  "v3 AIMessage": [{ kind: "reasoning", text: "Think." }, text("Let me.")],
  "anthropic thinking": [
    { kind: "reasoning", text: "hm" },
    { kind: "text", text: "Hi", citations: [{ ...citation, quote: "x" }] },
  ],
  "v1 all": [
    { kind: "reasoning", text: "hm" },
    {
      kind: "text",
      text: "See it.",
      citations: [{ url: "https://x.test", title: "X", quote: "See", start: 0, end: 3 }],
    },
    { kind: "serverTool", callId: "s1", name: "web_search", args: { q: "x" }, result: { hits: 1 } },
    { kind: "image", url: "data:image/png;base64,AAAA", detail: null },
    { kind: "file", url: "data:application/pdf;base64,AAAA", mimeType: "application/pdf", fileName: null },
    { kind: "other", type: "non_standard", data: { type: "non_standard", value: { odd: 1 } } },
  ],
  "openai responses raw": [
    { kind: "reasoning", text: "thought" },
    { kind: "text", text: "Hi", citations: [{ ...citation, url: "https://x.test", title: "X", start: 0, end: 2 }] },
  ],
  "human blocks": [text("look"), { kind: "image", url: "data:image/png;base64,AAAA", detail: null }],
};

describe("rows of langchain-blocks.jsonl", () => {
  const lines = readFileSync(new URL("../golden/langchain-blocks.jsonl", import.meta.url), "utf8")
    .trimEnd()
    .split("\n");
  const rows = lines.map((line) => JSON.parse(line) as { readonly label: string; readonly raw: string }); // our own file
  test.each(Object.entries(golden))("%s", (label, expected) => {
    const row = rows.find((one) => one.label === label);
    expect(new ReadMessage(row?.raw ?? "").blocks).toEqual(expected);
  });
});

describe("blocks", () => {
  test.each<[string, object, readonly TypedBlock[]]>([
    ["text alone", { content: "Hi" }, [text("Hi")]],
    [
      "a file of a browser's",
      {
        content: [
          { type: "file", source_type: "base64", mime_type: "text/plain", data: "QQ==", metadata: { name: "a.txt" } },
        ],
      },
      [{ kind: "file", url: "data:text/plain;base64,QQ==", mimeType: "text/plain", fileName: "a.txt" }],
    ],
    [
      "a sound in OpenAI's form",
      { content: [{ type: "input_audio", input_audio: { data: "QQ==", format: "wav" } }] },
      [{ kind: "audio", url: "data:audio/wav;base64,QQ==", mimeType: "audio/wav" }],
    ],
    [
      "a file that only the provider has",
      { content: [{ type: "file", file: { file_id: "f1" } }] },
      [{ kind: "other", type: "file", data: { type: "file", file: { file_id: "f1" } } }],
    ],
    [
      "a video",
      { content: [{ type: "video", url: "https://x/y.mp4" }] },
      [{ kind: "other", type: "video", data: { type: "video", url: "https://x/y.mp4" } }],
    ],
    [
      "reasoning of the Responses API in parts, and one without words",
      {
        content: [
          { type: "reasoning", summary: [{ text: "a" }, { text: "b" }] },
          { type: "reasoning", id: "r" },
        ],
      },
      [
        { kind: "reasoning", text: "ab" },
        { kind: "other", type: "reasoning", data: { type: "reasoning", id: "r" } },
      ],
    ],
    [
      "reasoning beside a content that has it too is shown once",
      { content: [{ type: "thinking", thinking: "hm" }], additional_kwargs: { reasoning_content: "hm" } },
      [{ kind: "reasoning", text: "hm" }],
    ],
    [
      "Anthropic's own search, and a result without its call",
      {
        content: [
          { type: "server_tool_use", id: "s1", name: "web_search", input: { q: "x" } },
          { type: "web_search_tool_result", tool_use_id: "s1", content: [{ url: "https://x" }] },
          { type: "web_search_tool_result", tool_use_id: "s2", content: [] },
        ],
      },
      [
        { kind: "serverTool", callId: "s1", name: "web_search", args: { q: "x" }, result: [{ url: "https://x" }] },
        {
          kind: "other",
          type: "web_search_tool_result",
          data: { type: "web_search_tool_result", tool_use_id: "s2", content: [] },
        },
      ],
    ],
    [
      "a call of Python's of which no result is there yet",
      { content_blocks: [{ type: "server_tool_call", id: "s1", name: "code", args: {} }] },
      [{ kind: "serverTool", callId: "s1", name: "code", args: {}, result: null }],
    ],
    [
      "sources that Anthropic streams behind their text",
      {
        content: [
          { type: "text", text: "Hi" },
          { type: "text", citations: [{ url: "https://x", title: "X", cited_text: "q" }] },
        ],
      },
      [{ kind: "text", text: "Hi", citations: [{ ...citation, url: "https://x", title: "X", quote: "q" }] }],
    ],
    [
      "sources whose fields are of another type",
      { content: [{ type: "text", text: "Hi", annotations: [7, { url: 7, start_index: "0", end_index: -1 }] }] },
      [{ kind: "text", text: "Hi", citations: [citation] }],
    ],
    [
      "blocks of no known form",
      { content: [7, {}, "x"] },
      [{ kind: "other", type: "unknown", data: 7 }, { kind: "other", type: "unknown", data: {} }, text("x")],
    ],
    ["calls of tools, which toolCalls shows", { content: [{ type: "tool_use", id: "t", name: "w", input: {} }] }, []],
    ["pieces of their arguments", { content: [{ type: "input_json_delta", index: 1, input: '{"q":1}' }] }, []],
  ])("%s", (_title, data, expected) => {
    expect(shown(data)).toEqual(expected);
  });
});
