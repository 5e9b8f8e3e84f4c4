import { describe, expect, it } from "vitest";

import { withoutReasoning } from "../../src/langchain/reasoning.ts";
import { cleanTitle } from "../../src/langchain/title.ts";
import { cpuTimeOf } from "../support/cpu-time.ts";

const norway = "Holidays in Norway";

describe("a title is the same", () => {
  it.each([
    norway,
    `"${norway}"`,
    `'${norway}'`,
    `“${norway}”`,
    `„${norway}“`,
    `«${norway}»`,
    `‘${norway}’`,
    `「${norway}」`,
    `"${norway}`,
    `${norway}"`,
    `${norway}.`,
    `"${norway}."`,
    `"${norway}".`,
  ])("without quotes and full stop: %j", (answer) => {
    expect(cleanTitle(answer)).toBe(norway);
  });

  it.each([
    `# ${norway}`,
    `##${norway}`,
    `## ${norway} ##`,
    `> ${norway}`,
    `- ${norway}`,
    `*${norway}*`,
    `_${norway}_`,
    `**${norway}**`,
    `__${norway}__`,
    `***${norway}***`,
    `**${norway}`,
    `${norway}**`,
    `\`${norway}\``,
    `Holidays in **Norway**`,
    `[${norway}](https://example.com)`,
    `\`\`\`\n${norway}\n\`\`\``,
    `1. ${norway}\n2. Trip to Oslo\n3. Fjords`,
    `<title>${norway}</title>`,
    `\\boxed{\\text{${norway}}}`,
  ])("without markup: %j", (answer) => {
    expect(cleanTitle(answer)).toBe(norway);
  });

  it.each([
    `Title: ${norway}`,
    `TITLE:${norway}`,
    `Title: Title: ${norway}`,
    `Title - ${norway}`,
    `Chat Title: ${norway}`,
    `Suggested title for this conversation: ${norway}`,
    `Sure! Here's a concise title for the conversation: ${norway}`,
    `Here’s a title:\n\n${norway}`,
    `Sure!\n\n${norway}`,
    `${norway}\n\nThis title says what the conversation is about: travel.`,
    `Titel: ${norway}`,
    `Titre de la conversation : ${norway}`,
    `标题：${norway}`,
    `会話のタイトル: ${norway}`,
    `{"title": "${norway}"}`,
    `\`\`\`json\n{ "title": "${norway}" }\n\`\`\``,
    `"title": "${norway}"`,
  ])("without labels: %j", (answer) => {
    expect(cleanTitle(answer)).toBe(norway);
  });

  it.each([
    `"**Title: ${norway}**"`,
    `**"Title: ${norway}"**`,
    `# **Title:** "${norway}"`,
    `Title: "# ${norway}"`,
    `**Title**: _"${norway}."_`,
    `Here is a title for the conversation:\n\n**« ${norway} »**`,
    `<think>A title?</think>\n\n**Title:** "${norway}."`,
  ])("without all of them, in any order: %j", (answer) => {
    expect(cleanTitle(answer)).toBe(norway);
  });
});

it.each([
  "What is C++?",
  "C# Basics",
  "*args and **kwargs in Python",
  "Understanding __init__",
  "snake_case_names",
  "Algorithm A*",
  "2 * 3 * 4",
  "#MeToo Movement",
  "1. FC Köln",
  "Rock 'n' Roll",
  "Don't Panic",
  "'90s Music",
  'TV of 55"',
  '"Hello" and "Bye"',
  "Plan 9: the Film",
  "Book Title Ideas: Fantasy",
  "Topic Modelling: LDA",
  "The U.S.",
  "And then...",
  "How <think> Works",
  "Analysis of Assistant Final Exams",
  "Okay",
  "🎉",
])("what belongs to a title stays: %j", (title) => {
  expect(cleanTitle(title)).toBe(title);
});

it.each([
  "",
  " \n",
  '""',
  '"""',
  "**",
  "Title:",
  "**Title:**",
  "<think>\nOkay, the user wants a title",
  "<think></think>",
])("nothing is left of %j", (answer) => {
  expect(cleanTitle(answer)).toBe("");
});

describe("withoutReasoning", () => {
  it.each([
    ["<think>\nhm\n</think>\n\nYes.", "Yes."],
    ["<think></think>Yes.", "Yes."],
    ["<THINK>hm</THINK>Yes.", "Yes."],
    ["<thinking>hm</thinking>\n<answer>Yes.</answer>", "Yes."],
    ["<think>a</think>Yes, <think>b</think>no.", "Yes, no."],
    ["<think>a <think>b</think> c</think> Yes.", "Yes."],
    ["<think>a </thinking> b</think> Yes.", "Yes."],
    ["[THINK]hm[/THINK]Yes.", "Yes."],
    ["◁think▷hm◁/think▷Yes.", "Yes."],
    ["<seed:think>hm</seed:think>Yes.", "Yes."],
    ["<|begin_of_thought|>hm<|end_of_thought|><|begin_of_solution|>Yes.<|end_of_solution|>", "Yes."],
    ["<|START_THINKING|>hm<|END_THINKING|><|START_RESPONSE|>Yes.<|END_RESPONSE|>", "Yes."],
    ['<details type="reasoning" done="true">\n<summary>Thought</summary>\nhm\n</details>\nYes.', "Yes."],
    ["<|channel|>analysis<|message|>hm<|end|><|start|>assistant<|channel|>final<|message|>Yes.<|return|>", "Yes."],
    ["analysisThe user asks.assistantfinalYes.", "Yes."],
  ])("takes it out of %j", (text, rest) => {
    expect(withoutReasoning(text)).toBe(rest);
  });

  it("takes it out up to its end where its beginning is missing", () => {
    expect(withoutReasoning("Okay, the user asks.\n</think>\n\nYes.")).toBe("Yes.");
  });

  it.each(["<think>\nOkay, the user", "\n <think> Okay", "<|channel|>analysis<|message|>The user"])(
    "takes it whole where it never ends: %j",
    (text) => {
      expect(withoutReasoning(text)).toBe("");
    },
  );

  it.each([
    "a < b and c > d",
    "The tag `<think>` begins it, and `</think>` ends it.",
    "It writes <think> and goes on.",
    "<details><summary>More</summary>…</details> Yes.",
    "analysis of data",
    "  as it is  ",
  ])("leaves %j", (text) => {
    expect(withoutReasoning(text)).toBe(text);
  });

  it("takes time in proportion to the text, whatever is in it", () => {
    const hostile = ["<think>", "</think>", "<details type=", "<|channel|>final", "analysis", "[", "<", "◁"];
    const timeOf = (text: string) =>
      cpuTimeOf(() => {
        withoutReasoning(text);
        cleanTitle(text);
      });
    for (const part of hostile) expect(timeOf(part.repeat(100_000))).toBeLessThan(5000);
    for (const part of ["*", "_", '"', "`", "# ", "title ", "[a](", " \n"]) {
      expect(timeOf(part.repeat(100_000))).toBeLessThan(5000);
    }
  });
});
