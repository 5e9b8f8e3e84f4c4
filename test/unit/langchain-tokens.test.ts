import { AIMessage, HumanMessage } from "@langchain/core/messages";
import { beforeAll, describe, expect, it } from "vitest";

import { loadTokenCounter, type TokenCounter } from "../../src/langchain/models/tokens.ts";
import { cpuTimeOf } from "../support/cpu-time.ts";

let counter: TokenCounter;
beforeAll(async () => {
  counter = await loadTokenCounter();
});
const count = (text: string): number => counter.countText(text, Infinity);

describe("countText", () => {
  it("is exact for ordinary text, and takes special tokens for text", () => {
    expect(count("")).toBe(0);
    expect(count("hello world")).toBe(2);
    expect(count("<|endoftext|>")).toBeGreaterThan(1);
  });

  it.each([
    ["one letter", "a".repeat(1_000_000)],
    ["Chinese without a break", "漢字".repeat(200_000)],
    ["blanks", " ".repeat(1_000_000)],
    ["signs", "=".repeat(1_000_000)],
    ["half surrogate pairs", "\uD83C".repeat(100_000)],
  ])("of a long run of %s is not below the truth by much, and quick", (_what, text) => {
    let tokens = 0;
    const time = cpuTimeOf(() => (tokens = count(text)));
    expect(tokens).toBeGreaterThan(text.length / 80);
    // The encoder itself takes minutes for the least of them.
    expect(time).toBeLessThan(5000);
  });

  it("stops where it is clear that it is too much", () => {
    const text = "many words in a row ".repeat(50_000);
    const stopped = counter.countText(text, 100);
    expect(stopped).toBeGreaterThan(100);
    expect(stopped).toBeLessThan(2000);
  });
});

describe("countMessage", () => {
  it("counts text, blocks that are no text by a fixed number, and tool calls", () => {
    const url = `data:image/png;base64,${"A".repeat(100_000)}`;
    const text = counter.countMessage(new HumanMessage("hello world"), Infinity);
    expect(text).toBe(6);
    const content = [
      { type: "text", text: "hello world" },
      { type: "image_url", image_url: { url } },
    ];
    expect(counter.countMessage(new HumanMessage({ content }), Infinity)).toBe(6 + 765);
    const tool_calls = [{ id: "c", name: "weather", args: { city: "Bonn" } }];
    expect(counter.countMessage(new AIMessage({ content: "", tool_calls }), Infinity)).toBeGreaterThan(10);
  });
});

describe("clipText", () => {
  it.each([0, 1, 7, 100, 5000])("fits %i tokens and keeps the beginning", (limit) => {
    const text = "The quick brown fox 🦊 jumps. ".repeat(100);
    const clipped = counter.clipText(text, limit);
    expect(count(clipped)).toBeLessThanOrEqual(limit);
    expect(text.startsWith(clipped.replace(/…$/, ""))).toBe(true);
    expect(clipped.isWellFormed()).toBe(true);
    if (limit === 5000) expect(clipped).toBe(text);
    if (limit === 100) expect(count(clipped)).toBeGreaterThan(60);
  });
});
