import { readFileSync } from "node:fs";

import type { BaseMessage } from "@langchain/core/messages";
import { describe, expect, it } from "vitest";

import { messageOfRow } from "../../src/langchain/history/rows.ts";

const golden = (name: string): string[] =>
  readFileSync(new URL(`../golden/${name}`, import.meta.url), "utf8")
    .split("\n")
    .filter((line) => line !== "");
const goldenBlocks = (): string[] =>
  golden("langchain-blocks.jsonl").map((line) => (JSON.parse(line) as { readonly raw: string }).raw); // our own file

/** What a message says to a model, without what LangChain's classes add. */
function seen(message: BaseMessage | undefined): unknown {
  if (message === undefined) return null;
  const { type, content, name } = message;
  const calls = "tool_calls" in message && Array.isArray(message.tool_calls) ? message.tool_calls.length : 0;
  return {
    type,
    content,
    ...(name === undefined ? {} : { name }),
    ...(calls === 0 ? {} : { calls }),
    ...("tool_call_id" in message ? { answers: message.tool_call_id } : {}),
  };
}

const read = (raw: string): unknown => seen(messageOfRow(raw)?.message);

describe("golden rows", () => {
  it("of LangChain JS are what their writer said", () => {
    expect(golden("langchain-js.jsonl").map(read)).toEqual([
      { type: "human", content: "hi é" },
      { type: "ai", content: "hello" },
      { type: "human", content: "x", name: "bob" },
      {
        type: "human",
        content: [
          { type: "text", text: "look" },
          { type: "image_url", image_url: { url: "data:x" } },
        ],
      },
      { type: "ai", content: "", name: "bot", calls: 1 },
      { type: "system", content: "be nice" },
      { type: "tool", content: "42", answers: "call_1" },
      null,
      { type: "human", content: "meh", name: "critic" },
      { type: "human", content: "old" },
    ]);
  });

  it("of LangChain Python are what their writer said", () => {
    expect(golden("langchain-python.jsonl").map(read)).toEqual([
      { type: "human", content: "hi é" },
      { type: "ai", content: "hello" },
      { type: "human", content: "older core" },
      { type: "tool", content: "42", answers: "call_1" },
      { type: "human", content: "meh", name: "critic" },
      { type: "ai", content: "streamed" },
    ]);
  });
});

it("golden rows of LangChain 1.x are what their writer said, without its reasoning and its tools' calls of before", () => {
  const image = { type: "image_url", image_url: { url: "data:image/png;base64,AAAA" } };
  const file = { type: "file", mimeType: "application/pdf", data: "AAAA" };
  const weather = { type: "tool", content: "Rome: sunny", answers: "c1" };
  const art = { type: "tool", content: "text for model", answers: "c2" };
  expect(goldenBlocks().map(read)).toEqual([
    { type: "ai", content: "All good.", name: "model" },
    weather,
    art,
    { type: "ai", content: "Let me.", name: "model", calls: 2 },
    weather,
    art,
    { type: "ai", content: "All good.", name: "model" },
    { type: "ai", content: "Let me.", name: "model", calls: 2 },
    weather,
    art,
    { type: "ai", content: "All good.", name: "model" },
    { type: "ai", content: "Hi", calls: 1 },
    { type: "ai", content: [{ type: "text", text: "See it." }, image, file], calls: 1 },
    { type: "ai", content: "Hi" },
    { type: "human", content: [{ type: "text", text: "look" }, image] },
    { type: "tool", content: "bad", answers: "c1" },
  ]);
});

describe("rows of careless writers", () => {
  const row = (type: string, data: unknown): string => JSON.stringify({ type, data });

  it.each([
    ["not JSON", "{nope"],
    ["empty", ""],
    ["another program's", '{"job":1}'],
    ["null", "null"],
    ["an unknown type", row("remove", { id: "x" })],
    ["data that is no object", row("human", "hi")],
    ["null content", row("human", { content: null })],
    ["an empty reply", row("ai", { content: "", tool_calls: [] })],
    ["a tool answer to nothing", row("tool", { content: "42" })],
    ["a function row without a name", row("function", { content: "r" })],
    ["a block that is none", row("human", { content: [{ no: "type" }] })],
  ])("%s: nothing for a model", (_what, raw) => {
    expect(messageOfRow(raw)).toBeNull();
  });

  it("keep of a reply its text, and of its calls those that are complete", () => {
    const data = {
      content: [
        { type: "thinking", thinking: "hm", signature: "s" },
        { type: "text", text: "Let me see" },
        { type: "tool_use", id: "c1", name: "t", input: {} },
      ],
      tool_calls: [
        { id: "c1", name: "t", args: { a: 1 } },
        { id: null, name: "u", args: {} },
      ],
      invalid_tool_calls: [{ id: "c2", name: "v", args: "{bad" }],
      additional_kwargs: { function_call: { name: "old" } },
    };
    const message = messageOfRow(row("ai", data))?.message;
    expect(seen(message)).toEqual({ type: "ai", content: "Let me see", calls: 1 });
    expect(message?.additional_kwargs).toEqual({});
  });

  it("have names that a provider takes", () => {
    expect(read(row("human", { content: "x", name: "Bob <the builder>" }))).toMatchObject({ name: "Bob_the_builder_" });
    expect(read(row("generic", { content: "x", role: "assistant" }))).toEqual({ type: "ai", content: "x" });
  });
});
