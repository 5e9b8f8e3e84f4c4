import { readFileSync } from "node:fs";

import { describe, expect, it } from "vitest";

import type { ContentBlock, MessageContent } from "../../src/conversation/message/message.ts";
import { decodeStoredMessage } from "../../src/conversation/message/stored-message.ts";
import { nothing, says } from "../support/store/message-content.ts";

// Rows exactly as LangChain JS and Python wrote them: they stay readable for ever.

const other = (data: { readonly type: string; readonly [key: string]: unknown }): ContentBlock => ({
  kind: "other",
  type: data.type,
  data,
});
const used = { inputTokens: 11, outputTokens: 7, totalTokens: 18 };
const weather: Partial<MessageContent> = {
  role: "TOOL",
  ...says("Rome: sunny"),
  toolCallId: "c1",
  toolFailed: false,
  name: "weather",
};
const art: Partial<MessageContent> = {
  role: "TOOL",
  ...says("text for model"),
  toolCallId: "c2",
  toolFailed: false,
  name: "art",
};
const twoCalls = [
  { callId: "c1", name: "weather", args: { city: "Rome" } },
  { callId: "c2", name: "art", args: {} },
];

const golden: Record<string, readonly Partial<MessageContent>[]> = {
  "langchain-js.jsonl": [
    { role: "USER", ...says("hi é") },
    { role: "ASSISTANT", ...says("hello") },
    { role: "USER", ...says("x"), messageId: "m1", name: "bob" },
    {
      role: "USER",
      text: "look",
      content: [
        { kind: "text", text: "look" },
        { kind: "image", url: "data:x", detail: null },
      ],
    },
    {
      role: "ASSISTANT",
      messageId: "chatcmpl-1",
      name: "bot",
      toolCalls: [
        { callId: "call_1", name: "t", args: { a: 1 } },
        { callId: "call_2", name: "u", args: "{bad" },
      ],
      usage: { inputTokens: 1, outputTokens: 2, totalTokens: 3 },
      finishReason: "STOP",
    },
    { role: "SYSTEM", ...says("be nice") },
    { role: "TOOL", ...says("42"), toolCallId: "call_1", toolFailed: false, name: "t" },
    { role: "FUNCTION", ...says("r"), name: "fn" },
    { role: "OTHER", ...says("meh"), name: "critic" },
    { role: "USER", ...says("old") },
  ],
  "langchain-python.jsonl": [
    { role: "USER", ...says("hi é") },
    { role: "ASSISTANT", ...says("hello") },
    { role: "USER", ...says("older core") },
    { role: "TOOL", ...says("42"), toolCallId: "call_1", toolFailed: false },
    { role: "OTHER", ...says("meh"), name: "critic" },
    { role: "ASSISTANT", ...says("streamed"), messageId: "run-1" },
  ],
  // LangChain JS 1.x, as agents and providers fill it; each line has its label beside the row.
  "langchain-blocks.jsonl": [
    { role: "ASSISTANT", ...says("All good."), messageId: "cmpl-1", name: "model", finishReason: "STOP", usage: used },
    { ...weather, messageId: "806dbe52-d970-49cb-980d-0346bdac7a41" },
    { ...art, messageId: "f8fbca56-0f51-48f0-af76-0bf216cf0861" },
    {
      role: "ASSISTANT",
      ...says("Let me."),
      messageId: "chatcmpl-0",
      name: "model",
      toolCalls: twoCalls,
      usage: used,
    },
    { ...weather, messageId: "run-01a22c8e-6ef8-7531-8af3-88baa62b4096-tool-c1" },
    { ...art, messageId: "run-01a22c8e-6ef8-7531-8af3-8c9900a772b9-tool-c2" },
    { role: "ASSISTANT", ...says("All good."), messageId: "chatcmpl-1", name: "model", usage: used },
    {
      role: "ASSISTANT",
      messageId: "chatcmpl-0",
      name: "model",
      text: "Let me.",
      content: [
        other({ type: "reasoning", reasoning: "Think." }),
        { kind: "text", text: "Let me." },
        other({ type: "tool_call", id: "c1", name: "weather", args: { city: "Rome" } }),
        other({ type: "tool_call", id: "c2", name: "art", args: {} }),
      ],
      toolCalls: twoCalls,
      finishReason: "TOOL_CALLS",
      usage: used,
    },
    { ...weather, messageId: "dfa4bc61-9d1c-472f-8ca1-b8b4ca9ab4d0" },
    { ...art, messageId: "a72a0d50-1878-410f-8f5b-6c5f75abf913" },
    {
      role: "ASSISTANT",
      ...says("All good."),
      messageId: "chatcmpl-1",
      name: "model",
      finishReason: "STOP",
      usage: used,
    },
    {
      role: "ASSISTANT",
      messageId: "a1",
      text: "Hi",
      content: [
        other({ type: "thinking", thinking: "hm", signature: "sig" }),
        { kind: "text", text: "Hi" },
        other({ type: "tool_use", id: "t1", name: "w", input: { a: 1 } }),
      ],
      toolCalls: [{ callId: "t1", name: "w", args: { a: 1 } }],
    },
    {
      role: "ASSISTANT",
      messageId: "a2",
      text: "See it.",
      content: [
        other({ type: "reasoning", reasoning: "hm" }),
        { kind: "text", text: "See it." },
        other({ type: "server_tool_call", id: "s1", name: "web_search", args: { q: "x" } }),
        other({ type: "server_tool_call_result", toolCallId: "s1", status: "success", output: { hits: 1 } }),
        other({ type: "tool_call", id: "c9", name: "weather", args: { city: "Rome" } }),
        { kind: "image", url: "data:image/png;base64,AAAA", detail: null },
        other({ type: "file", mimeType: "application/pdf", data: "AAAA" }),
        other({ type: "non_standard", value: { odd: 1 } }),
      ],
      toolCalls: [{ callId: "c9", name: "weather", args: { city: "Rome" } }],
      usage: { inputTokens: 1, outputTokens: 2, totalTokens: 3 },
    },
    { role: "ASSISTANT", ...says("Hi"), messageId: "a3" },
    {
      role: "USER",
      text: "look",
      content: [
        { kind: "text", text: "look" },
        { kind: "image", url: "data:image/png;base64,AAAA", detail: null },
      ],
    },
    { role: "TOOL", ...says("bad"), toolCallId: "c1", toolFailed: true, name: "w" },
  ],
};

/** The rows of a golden file: the lines themselves, or what a line has as `raw`. */
function rowsIn(file: string): readonly string[] {
  const lines = readFileSync(new URL(`../golden/${file}`, import.meta.url), "utf8").split("\n");
  return lines
    .filter((line) => line !== "")
    .map((line) => {
      const { raw } = JSON.parse(line) as { readonly raw?: string }; // a file of the project's own
      return raw ?? line;
    });
}

describe.each(Object.entries(golden))("golden rows of %s", (file, expectations) => {
  const rows = rowsIn(file);

  it("have an expectation each", () => {
    expect(rows).toHaveLength(expectations.length);
  });

  it.each(expectations.map((expected, index) => ({ expected, index })))("row $index", ({ expected, index }) => {
    expect(decodeStoredMessage(rows[index] ?? "")).toEqual({ ...nothing, ...expected });
  });
});
