import type { BaseMessage } from "@langchain/core/messages";
import fc from "fast-check";
import { describe, expect, it } from "vitest";

import { selectRows, type SelectLimits } from "../../src/langchain/models/select.ts";
import { textOfMessage } from "../../src/langchain/text.ts";
import { checkProperty } from "../support/store/property.ts";

const row = (type: string, data: Record<string, unknown>): string => JSON.stringify({ type, data });
const human = (content: string): string => row("human", { content });
const ai = (content: string, ...ids: string[]): string =>
  row("ai", { content, tool_calls: ids.map((id) => ({ id, name: "t", args: {} })) });
const tool = (id: string): string => row("tool", { content: `answer ${id}`, tool_call_id: id });
const noMessage = "{not json";

/** One token a character, so that limits can be read off the texts. */
const countTokens = (message: BaseMessage): number => textOfMessage(message).length;

function select(rows: readonly string[], limits: Partial<SelectLimits> = {}): string[] {
  const messages = selectRows(rows, { strategy: "BUFFER", maxTurns: 10, maxTokens: 100, ...limits }, countTokens);
  return messages.map((message) => {
    const calls = "tool_calls" in message && Array.isArray(message.tool_calls) ? message.tool_calls.length : 0;
    return `${message.type}:${textOfMessage(message)}${calls > 0 ? `+${calls}` : ""}`;
  });
}

describe("BUFFER", () => {
  it("is all rows that are messages", () => {
    expect(select([human("a"), noMessage, ai("b"), row("function", { content: "f", name: "f" }), human("c")])).toEqual([
      "human:a",
      "ai:b",
      "human:c",
    ]);
    expect(select([])).toEqual([]);
  });
});

describe("WINDOW", () => {
  const rows = [
    ai("welcome"),
    human("a"),
    ai("A"),
    human("b"),
    noMessage,
    ai("B", "x"),
    tool("x"),
    ai("BB"),
    human("c"),
  ];
  const window = (maxTurns: number) => select(rows, { strategy: "WINDOW", maxTurns });

  it("is the last turns, each from its USER message on", () => {
    expect(window(1)).toEqual(["human:c"]);
    expect(window(2)).toEqual(["human:b", "ai:B+1", "tool:answer x", "ai:BB", "human:c"]);
    expect(window(3)).toEqual(["human:a", "ai:A", ...window(2)]);
  });

  it("is everything where there are fewer turns, and nothing of no turns", () => {
    expect(window(4)).toEqual(["ai:welcome", ...window(3)]);
    expect(window(0)).toEqual([]);
  });

  it("does not take another role's message for a turn", () => {
    const critic = row("chat", { content: "meh", role: "critic" });
    expect(select([human("a"), ai("A"), critic], { strategy: "WINDOW", maxTurns: 1 })).toEqual([
      "human:a",
      "ai:A",
      "human:meh",
    ]);
  });
});

describe.each(["TOKEN_BUFFER", "SUMMARY_BUFFER"] as const)("%s", (strategy) => {
  it("is the newest that fit, without a hole", () => {
    const rows = [human("1"), ai("22222"), human("333"), ai("44")];
    expect(select(rows, { strategy, maxTokens: 5 })).toEqual(["human:333", "ai:44"]);
    expect(select(rows, { strategy, maxTokens: 9 })).toEqual(["human:333", "ai:44"]);
    expect(select(rows, { strategy, maxTokens: 11 })).toHaveLength(4);
    expect(select(rows, { strategy, maxTokens: 1 })).toEqual([]);
  });

  it("begins on no tool answer", () => {
    const rows = [human("a"), ai("call", "x", "y"), tool("x"), tool("y"), ai("done")];
    expect(select(rows, { strategy, maxTokens: 20 })).toEqual(["ai:done"]);
    expect(select(rows, { strategy, maxTokens: 24 })).toHaveLength(4);
  });

  it("reads no further than it needs", () => {
    let counted = 0;
    const rows = Array.from({ length: 1000 }, () => human("12345"));
    selectRows(rows, { strategy, maxTurns: 1, maxTokens: 50 }, (message) => {
      counted += 1;
      return countTokens(message);
    });
    expect(counted).toBe(11);
  });
});

describe("tool calls", () => {
  it.each([
    ["all answered", [ai("", "x", "y"), tool("y"), tool("x")], ["ai:+2", "tool:answer x", "tool:answer y"]],
    ["one answer missing", [ai("text", "x", "y"), tool("x"), human("a")], ["ai:text", "human:a"]],
    ["none answered, no text", [ai("", "x"), human("a")], ["human:a"]],
    ["answered too late", [ai("text", "x"), human("a"), tool("x")], ["ai:text", "human:a"]],
    ["answered twice", [ai("", "x"), tool("x"), tool("x")], ["ai:+1", "tool:answer x"]],
    ["an answer to nothing among them", [ai("", "x"), tool("z"), tool("x")], ["ai:+1", "tool:answer x"]],
    ["an answer to nothing", [human("a"), tool("x"), ai("A")], ["human:a", "ai:A"]],
    ["at the end", [human("a"), ai("text", "x")], ["human:a", "ai:text"]],
  ])("%s", (_what, rows, expected) => {
    expect(select(rows)).toEqual(expected);
  });

  it("are never sent so that OpenAI refuses them, whatever the rows and the strategy", async () => {
    const id = fc.constantFrom("x", "y", "z");
    const anyRow = fc.oneof(
      fc.constantFrom(human("a"), human("bb"), ai("A"), noMessage),
      id.map(tool),
      fc.tuple(fc.constantFrom("", "text"), fc.uniqueArray(id)).map(([text, ids]) => ai(text, ...ids)),
    );
    const limits = fc.record({
      strategy: fc.constantFrom("BUFFER", "WINDOW", "TOKEN_BUFFER", "SUMMARY_BUFFER"),
      maxTurns: fc.nat(5),
      maxTokens: fc.nat(60),
    });
    await checkProperty(
      fc.property(fc.array(anyRow, { maxLength: 30 }), limits, (rows, limit) => {
        const open: string[] = [];
        for (const message of selectRows(rows, limit, countTokens)) {
          if ("tool_call_id" in message) {
            const answered = open.indexOf(String(message.tool_call_id));
            expect(answered).toBeGreaterThanOrEqual(0);
            open.splice(answered, 1);
            continue;
          }
          expect(open).toEqual([]);
          const calls: readonly unknown[] =
            "tool_calls" in message && Array.isArray(message.tool_calls) ? message.tool_calls : [];
          for (const call of calls)
            if (typeof call === "object" && call !== null && "id" in call) open.push(String(call.id));
          expect(textOfMessage(message) !== "" || calls.length > 0).toBe(true);
        }
        expect(open).toEqual([]);
      }),
    );
  });
});
