import { expect } from "vitest";
import { loadTokenCounter } from "../../src/langchain/models/tokens.ts";
import { HumanMessage } from "@langchain/core/messages";
import { tool } from "@langchain/core/tools";
import { addMessages, ask, readMessages } from "../support/gateway/conversation.ts";
import { chatTest } from "../support/gateway/chat-test.ts";
import { execute, refusal } from "../support/gateway/graphql-client.ts";
import type { RecordedRequest } from "../support/model/openai-server.ts";
import { waitUntil } from "../support/redis/redis-command.ts";

// What of a long history the model gets to see, by the session's memory strategy.

const test = chatTest({ systemPrompt: "Be kind.", memory: { strategy: "BUFFER", maxMessages: 60 } });

type Memory = Readonly<{ strategy: string; maxTurns?: number; maxTokens?: number }>;

/** A session with this memory and a history of `turns` turns, told by their numbers. */
async function startSession(url: string, sessionId: string, memory: Memory | null, turns: number): Promise<void> {
  const query = `mutation ($input: CreateSessionInput!) { createSession(input: $input) { session { id } } }`;
  await execute(url, query, { input: { sessionId, memory } });
  const messages = Array.from({ length: turns }, (_, i) => [
    { role: "USER", text: `Question number ${i}` },
    { role: "ASSISTANT", text: `Answer number ${i}` },
  ]).flat();
  await addMessages(url, sessionId, messages);
}

function contentOf(message: RecordedRequest["messages"][number] | undefined): string {
  return String(message?.["content"]);
}

function contents(request: RecordedRequest | undefined): readonly string[] {
  return (request?.messages ?? []).map(({ content }) => String(content));
}

async function memoryOf(url: string, sessionId: string): Promise<unknown> {
  const query = `query ($sessionId: String!) { session(sessionId: $sessionId) { memory { strategy maxTurns maxTokens summary } } }`;
  return (await execute<{ session: { memory: unknown } }>(url, query, { sessionId })).session.memory;
}

test("BUFFER sends all, up to the most messages that a turn reads", async ({ openai, url }) => {
  await startSession(url, "buffer", null, 20);
  await ask(url, "buffer", "Now");
  expect(contents(openai.requests.at(-1))).toEqual([
    "Be kind.",
    ...Array.from({ length: 20 }, (_, i) => [`Question number ${i}`, `Answer number ${i}`]).flat(),
    "Now",
  ]);
  await startSession(url, "buffer-long", null, 100);
  await ask(url, "buffer-long", "Now");
  const sent = contents(openai.requests.at(-1));
  expect(sent).toHaveLength(62);
  expect(sent.slice(0, 2)).toEqual(["Be kind.", "Question number 70"]);
});

test("WINDOW sends the last turns whole", async ({ openai, url }) => {
  await startSession(url, "window", { strategy: "WINDOW", maxTurns: 2 }, 50);
  expect(await memoryOf(url, "window")).toEqual({ strategy: "WINDOW", maxTurns: 2, maxTokens: null, summary: null });
  await ask(url, "window", "Now");
  expect(contents(openai.requests.at(-1))).toEqual([
    "Be kind.",
    "Question number 48",
    "Answer number 48",
    "Question number 49",
    "Answer number 49",
    "Now",
  ]);
});

test("WINDOW counts turns, however many tool rows they have", async ({ openai, url }) => {
  await startSession(url, "window-agent", { strategy: "WINDOW", maxTurns: 2 }, 3);
  const calls = Array.from({ length: 10 }, (_, i) => ({ callId: `c${i}`, name: "look", args: { at: i } }));
  const turn = (name: string) => [
    { role: "USER", text: `Look ${name} up` },
    { role: "ASSISTANT", text: "", toolCalls: calls },
    ...calls.map(({ callId }) => ({ role: "TOOL", text: "found", toolCallId: callId })),
    { role: "ASSISTANT", text: `${name} is there.` },
  ];
  await addMessages(url, "window-agent", [...turn("Ann"), ...turn("Bob")]);
  await ask(url, "window-agent", "Now");
  const tools = Array<string>(10).fill("tool");
  expect(openai.requests.at(-1)?.messages.map(({ role }) => role)).toEqual([
    ...["system", "user", "assistant", ...tools, "assistant", "user", "assistant", ...tools, "assistant", "user"],
  ]);
  expect(contents(openai.requests.at(-1))[1]).toBe("Look Ann up");
});

test("a window never begins with a tool's answer whose call is not in it", async ({ openai, url }) => {
  await startSession(url, "window-tools", { strategy: "WINDOW", maxTurns: 1 }, 3);
  await addMessages(url, "window-tools", [
    { role: "USER", text: "Look it up" },
    { role: "ASSISTANT", text: "", toolCalls: [{ callId: "c", name: "look", args: { at: 1 } }] },
    { role: "TOOL", text: "found", toolCallId: "c" },
    { role: "ASSISTANT", text: "It is there." },
  ]);
  await ask(url, "window-tools", "Now");
  expect(openai.requests.at(-1)?.messages.map(({ role }) => role)).toEqual([
    ...["system", "user", "assistant", "tool", "assistant", "user"],
  ]);
  // A lone answer is nothing that a provider would take.
  await addMessages(url, "window-tools", [{ role: "TOOL", text: "lost", toolCallId: "gone" }]);
  await ask(url, "window-tools", "And now");
  expect(openai.requests.at(-1)?.messages.map(({ role }) => role)).not.toContain("tool");
});

test("TOKEN_BUFFER sends the newest that fit", async ({ openai, url }) => {
  const { countMessage } = await loadTokenCounter();
  const cost = (text: string) => countMessage(new HumanMessage(text), 1000);
  await startSession(url, "tokens", { strategy: "TOKEN_BUFFER", maxTokens: 60 }, 50);
  await ask(url, "tokens", "Now");
  // Of a history that begins with an answer, the user begins with as good as nothing.
  const history = contents(openai.requests.at(-1))
    .slice(1, -1)
    .filter((text) => text !== "…");
  expect(history.at(-1)).toBe("Answer number 49");
  const tokens = history.reduce((sum, text) => sum + cost(text), 0);
  expect(tokens).toBeLessThanOrEqual(60);
  const next = 98 - history.length + 1;
  expect(
    tokens + cost(next % 2 === 0 ? `Question number ${next / 2}` : `Answer number ${(next - 1) / 2}`),
  ).toBeGreaterThan(60);
});

test("SUMMARY_BUFFER sums up what does not fit, keeps it with the session, and sends it ahead of the newest", async ({
  openai,
  start,
  url,
}) => {
  openai.behave(({ body, messages }) => {
    const asked = JSON.stringify(messages);
    if (asked.includes("Progressively summarize")) return { kind: "reply", text: "They counted up to forty." };
    return { kind: "reply", text: body["stream"] === true ? "Streamed." : "Whole." };
  });
  await startSession(url, "summary", { strategy: "SUMMARY_BUFFER", maxTokens: 100 }, 40);
  await ask(url, "summary", "First of ours");
  // Made behind the turn, off its path.
  await waitUntil("there is a summary", async () => JSON.stringify(await memoryOf(url, "summary")).includes("forty"));
  expect(await memoryOf(url, "summary")).toEqual({
    strategy: "SUMMARY_BUFFER",
    maxTurns: null,
    maxTokens: 100,
    summary: "They counted up to forty.",
  });

  const before = openai.requests.length;
  await ask(url, "summary", "Second of ours");
  const sent = contents(openai.requests[before]);
  expect(sent.filter((text) => text.includes("They counted up to forty."))).toHaveLength(1);
  expect(sent.length).toBeLessThan(15);
  expect(sent.slice(-3)).toEqual(["First of ours", "Streamed.", "Second of ours"]);
  // The stored history is whole.
  expect(await readMessages(url, "summary")).toHaveLength(84);

  // Another process reads the summary out of Redis.
  const other = await start();
  try {
    const asked = openai.requests.length;
    await ask(other.url, "summary", "Third of ours");
    expect(contents(openai.requests[asked]).join("\n")).toContain("They counted up to forty.");
  } finally {
    await other.close();
  }
});

test("SUMMARY_BUFFER counts what an agent's tools have answered, and sums it up with the rest", async ({
  openai,
  start,
}) => {
  const found = Array.from({ length: 60 }, (_, i) => `fact ${i}`).join(", ");
  const look = tool(() => found, {
    name: "look",
    description: "Looks it up.",
    schema: { type: "object", properties: {} },
  });
  const agent = { model: "openai:gpt-4o-mini", tools: [look] };
  const own = await start({ agents: { finder: agent } });
  const { url } = own;
  openai.behave(({ messages }) => {
    if (JSON.stringify(messages).includes("Progressively summarize"))
      return { kind: "reply", text: "They found facts." };
    if (messages.at(-1)?.["role"] === "tool" || contentOf(messages.at(-1)) !== "Look")
      return { kind: "reply", text: "Here." };
    return {
      kind: "reply",
      text: "",
      finishReason: "tool_calls",
      toolCalls: [{ id: "c", name: "look", arguments: "{}" }],
    };
  });
  const begun = openai.requests.length;
  await startSession(url, "summary-agent", { strategy: "SUMMARY_BUFFER", maxTokens: 200 }, 1);
  await ask(url, "summary-agent", "Look", { model: "agent:finder" });
  await waitUntil("there is a summary", async () =>
    JSON.stringify(await memoryOf(url, "summary-agent")).includes("They found facts."),
  );
  const summing = openai.requests
    .slice(begun)
    .filter(({ messages }) => contentOf(messages[0]).startsWith("Progressively"));
  expect(JSON.stringify(summing[0]?.messages)).toContain("fact 59");
  const before = openai.requests.length;
  await ask(url, "summary-agent", "And now");
  const sent = contents(openai.requests[before]);
  expect(sent.join("\n")).toContain("They found facts.");
  expect(sent.slice(-2)).toEqual(["Here.", "And now"]);
  expect(openai.requests[before]?.messages.map(({ role }) => role)).not.toContain("tool");
  await own.close();
});

test("a summary of what was dropped is used no more", async ({ openai, url }) => {
  openai.behave(({ messages }) =>
    JSON.stringify(messages).includes("Progressively summarize")
      ? { kind: "reply", text: "The secret is 42." }
      : { kind: "reply", text: "Fine." },
  );
  await startSession(url, "forget", { strategy: "SUMMARY_BUFFER", maxTokens: 80 }, 30);
  await ask(url, "forget", "Go on");
  await waitUntil("there is a summary", async () => JSON.stringify(await memoryOf(url, "forget")).includes("42"));
  await execute(url, `mutation { clearHistory(input: { sessionId: "forget" }) { session { id } } }`);
  expect(await memoryOf(url, "forget")).toMatchObject({ summary: null });
  const before = openai.requests.length;
  await ask(url, "forget", "What do you know?");
  expect(contents(openai.requests[before])).toEqual(["Be kind.", "What do you know?"]);
});

test("a summary that was made of replaced messages is used no more", async ({ openai, url }) => {
  openai.behave(({ messages }) =>
    JSON.stringify(messages).includes("Progressively summarize")
      ? { kind: "reply", text: "The secret is 42." }
      : { kind: "reply", text: "Fine." },
  );
  await startSession(url, "rewound", { strategy: "SUMMARY_BUFFER", maxTokens: 80 }, 30);
  await ask(url, "rewound", "Go on");
  await waitUntil("there is a summary", async () => JSON.stringify(await memoryOf(url, "rewound")).includes("42"));
  const [first] = await readMessages(url, "rewound");
  const before = openai.requests.length;
  await ask(url, "rewound", "From the start", { replaceFrom: first?.cursor });
  expect(contents(openai.requests[before])).toEqual(["Be kind.", "From the start"]);
  expect(await memoryOf(url, "rewound")).toMatchObject({ summary: null });
});

test("settings that do not fit the strategy are refused", async ({ url }) => {
  const query = `mutation ($input: CreateSessionInput!) { createSession(input: $input) { session { id } } }`;
  for (const memory of [
    { strategy: "WINDOW", maxTurns: 0 },
    { strategy: "TOKEN_BUFFER", maxTokens: -1 },
  ]) {
    expect((await refusal(url, query, { input: { memory } })).extensions?.code).toBe("BAD_USER_INPUT");
  }
});
