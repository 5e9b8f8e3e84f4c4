import { ChatAnthropic } from "@langchain/anthropic";
import { tool } from "@langchain/core/tools";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { z } from "zod";

import { isObject, type JsonObject } from "../../src/conversation/message/json.ts";
import { defaultAgentLimits } from "../../src/langchain/agents/limits.ts";
import type { AgentSpec, ToolAgentSpec } from "../../src/langchain/agents/spec.ts";
import { execute } from "../support/gateway/graphql-client.ts";
import { startGateway, type TestGateway } from "../support/gateway/gateway.ts";
import { runAgent, type AgentRun } from "../support/model/agent-run.ts";
import { startAnthropic, type AnthropicReply, type AnthropicServer } from "../support/model/anthropic-server.ts";
import { startOpenAI, type OpenAIServer } from "../support/model/openai-server.ts";
import { ai, completedOf, human, repliesAt, requestOf } from "../support/model/reply-requests.ts";
import { respond, runOf } from "../support/model/waiting-run.ts";
import { startRedis, type TestRedis } from "../support/redis/redis-server.ts";

// Agents over the real ChatAnthropic, whose server streams blocks: thinking that is signed, calls in pieces, sources.

let server: AnthropicServer;
let openai: OpenAIServer;

beforeAll(async () => {
  [server, openai] = await Promise.all([startAnthropic(), startOpenAI()]);
});
afterAll(() => Promise.all([server.close(), openai.close()]));

const weather = tool(({ city }) => `Sunny in ${city}.`, {
  name: "weather",
  description: "The weather of a city.",
  schema: z.object({ city: z.string() }),
});

const claude = (): ChatAnthropic =>
  new ChatAnthropic({ model: "claude-test", apiKey: "k", anthropicApiUrl: server.url, maxRetries: 0 });

function answered(responseFormat: ToolAgentSpec["responseFormat"] = null): Promise<AgentRun> {
  const spec = {
    ...{ kind: "agent", name: "helper", description: null, model: claude(), instructions: "Be brief." },
    ...{ limits: defaultAgentLimits, responseFormat },
    tools: () => Promise.resolve([{ tool: weather, needsApproval: false }]),
  } as AgentSpec; // tools of this very copy of LangChain
  return runAgent(openai.baseUrl, spec);
}

const call = (id: string, ...pieces: readonly string[]) => ({ type: "tool_use", id, name: "weather", pieces }) as const;
const text = (...pieces: readonly string[]) => ({ type: "text", pieces }) as const;
const thinking = { type: "thinking", pieces: ["Hm", ", Rome."], signature: "sig==" } as const;
const thought = { type: "thinking", thinking: "Hm, Rome.", signature: "sig==" };
const asks = (...blocks: AnthropicReply["blocks"]): AnthropicReply => ({ blocks, stopReason: "tool_use" });
const says = (...blocks: AnthropicReply["blocks"]): AnthropicReply => ({ blocks, stopReason: "end_turn" });

const messagesOf = (request: JsonObject | undefined): readonly JsonObject[] =>
  Array.isArray(request?.["messages"]) ? request["messages"].filter(isObject) : [];

test("thinking, text and parallel calls in pieces: parts, step, and what the model is sent back, its signature too", async () => {
  server.next(asks(thinking, text("Let me ", "see."), call("a", '{"ci', 'ty":"Rome"}'), call("b", '{"city":"Oslo"}')));
  server.next(says(text("It is ", "sunny.")));
  const { pieces, opened, answers, outcome } = await answered();
  const told = pieces.flatMap((piece) => {
    if (piece.kind === "reasoning" || piece.kind === "text") return [`${piece.kind} ${piece.text}`];
    return piece.kind === "call" || piece.kind === "arguments" ? [`${piece.kind} of ${piece.callId}`] : [];
  });
  expect(told).toEqual([
    ...["reasoning Hm", "reasoning , Rome.", "text Let me ", "text see."],
    ...["call of a", "arguments of a", "arguments of a", "call of b", "arguments of b", "text It is ", "text sunny."],
  ]);
  expect(opened.map(({ data }) => data)).toMatchObject([
    {
      // Without the calls, which are beside it, and without what the pieces were told apart by.
      content: [thought, { type: "text", text: "Let me see." }],
      tool_calls: [
        { id: "a", args: { city: "Rome" } },
        { id: "b", args: { city: "Oslo" } },
      ],
      response_metadata: { model_name: "claude-test", finish_reason: "tool_use" },
    },
  ]);
  expect(opened[0]?.data["content"]).toEqual([thought, { type: "text", text: "Let me see." }]);
  expect(answers.map(({ callId, data }) => [callId, data["content"]]).sort()).toEqual([
    ["a", "Sunny in Rome."],
    ["b", "Sunny in Oslo."],
  ]);
  expect(messagesOf(server.requests.at(-1)).slice(1)).toEqual([
    {
      role: "assistant",
      content: [
        thought,
        { type: "text", text: "Let me see." },
        { type: "tool_use", id: "a", name: "weather", input: { city: "Rome" } },
        { type: "tool_use", id: "b", name: "weather", input: { city: "Oslo" } },
      ],
    },
    {
      role: "user",
      content: [
        { type: "tool_result", tool_use_id: "a", content: "Sunny in Rome." },
        { type: "tool_result", tool_use_id: "b", content: "Sunny in Oslo." },
      ],
    },
  ]);
  const { data, usage } = completedOf(outcome);
  expect([data["content"], usage?.totalTokens]).toEqual(["It is sunny.", 62]);
});

test("broken arguments never run the tool, and a call whose id was there before gets one of its own: each has its result", async () => {
  server.next(asks(call("a", '{"city":"Ro')), asks(call("a", '{"city":"Oslo"}')), says(text("Fine.")));
  const { opened, answers } = await answered();
  const [first, second] = opened.map((step) => step.calls[0]?.callId);
  expect(first).toBe("a");
  expect(second).not.toBe("a");
  expect(answers.map(({ callId, data }) => [callId, data["content"]])).toEqual([
    ["a", "The arguments are not valid JSON."],
    [second, "Sunny in Oslo."],
  ]);
  expect(opened[0]?.data["response_metadata"]).toMatchObject({ broken_arguments: { a: '{"city":"Ro' } });
  expect(messagesOf(server.requests.at(-1)).slice(1)).toMatchObject([
    { role: "assistant", content: [{ type: "tool_use", id: "a", input: {} }] },
    {
      role: "user",
      content: [{ type: "tool_result", tool_use_id: "a", content: "The arguments are not valid JSON." }],
    },
    { role: "assistant", content: [{ type: "tool_use", id: second, input: { city: "Oslo" } }] },
    { role: "user", content: [{ type: "tool_result", tool_use_id: second, content: "Sunny in Oslo." }] },
  ]);
});

test.each([
  ["a connection cut between two pieces of arguments", { ...asks(call("a", '{"city":')), ending: "cut" }],
  ["a stream that just ends between them", { ...asks(call("a", '{"city":')), ending: "silent" }],
  ["a stream that just ends behind whole arguments", { ...asks(call("a", '{"city":"Rome"}')), ending: "silent" }],
  ["a stream that just ends in a text", { ...says(text("It is ")), ending: "silent" }],
  ["arguments that were ended by their length", { ...asks(call("a", '{"city":"Rome"}')), stopReason: "max_tokens" }],
] as const)("%s: REPLY_CUT_OFF, and no tool begins", async (_what, reply) => {
  server.next(reply);
  const { outcome, opened, answers } = await answered();
  expect(outcome).toMatchObject({ kind: "failed", error: { code: "REPLY_CUT_OFF", retryable: true } });
  expect([opened, answers]).toEqual([[], []]);
});

describe("a response format", () => {
  const format = z.object({ city: z.string(), degrees: z.number() });

  test("the model is asked for it by output_config, and what comes in several blocks is read as one", async () => {
    server.next(says(thinking, text('{"city":', '"Rome",'), text('"degrees":21}')));
    const { outcome } = await answered(format);
    expect(outcome).toMatchObject({ kind: "completed", text: '{"city":"Rome","degrees":21}', isStructured: true });
    expect(server.requests.at(-1)).toMatchObject({
      output_config: { format: { type: "json_schema", schema: { required: ["city", "degrees"] } } },
    });
  });

  test("an object that is only in one of the blocks is not the reply's form", async () => {
    server.next(says(text('{"city":"Rome","degrees":21}'), text("Enjoy!")));
    expect((await answered(format)).outcome).toMatchObject({ kind: "failed", error: { code: "OTHER" } });
  });
});

describe("behind a gateway", () => {
  let redis: TestRedis;
  let gateway: TestGateway;

  beforeAll(async () => {
    redis = await startRedis({ appendonly: false });
    const agent = { model: claude(), tools: [weather] };
    gateway = await startGateway({
      ...{
        redis: redis.url,
        model: "agent:claude",
        models: ["openai:small", "offline"],
        customModels: { plain: claude },
      },
      openai: { apiKey: "sk-x", baseUrl: openai.baseUrl },
      agents: { claude: agent, careful: { ...agent, approvals: ["weather"] } },
    });
  });
  afterAll(async () => {
    await gateway.close();
    await redis.stop();
  });

  interface Sent {
    readonly sendMessage: {
      readonly run: { readonly id: string; readonly status: string };
      readonly reply: { readonly content: readonly JsonObject[] } | null;
    };
  }

  async function send(sessionId: string, said: string, model: string): Promise<Sent["sendMessage"]> {
    const query = `mutation ($input: SendMessageInput!) { sendMessage(input: $input) { run { id status } reply { content {
      __typename ... on TextBlock { text citations { title quote start } } ... on ReasoningBlock { text } } } } }`;
    return (await execute<Sent>(gateway.url, query, { input: { sessionId, text: said, model } })).sendMessage;
  }

  const source = { type: "char_location", cited_text: "Sunny", document_index: 0, document_title: "Weather" };

  test("a reply shows its reasoning and the sources of its text, and goes on with any other model", async () => {
    server.next(asks(thinking, call("a", '{"city":"Rome"}')));
    server.next(
      says(thinking, { ...text("It is sunny."), citations: [{ ...source, start_char_index: 0, end_char_index: 5 }] }),
    );
    const { run, reply } = await send("sources", "How is it?", "agent:claude");
    expect(run.status).toBe("COMPLETED");
    expect(reply?.content).toMatchObject([
      { __typename: "ReasoningBlock", text: "Hm, Rome." },
      { __typename: "TextBlock", text: "It is sunny.", citations: [{ title: "Weather", quote: "Sunny", start: null }] },
    ]);
    expect((await runOf(gateway.url, run.id))?.messages).toMatchObject([
      { role: "ASSISTANT", text: "" },
      { role: "TOOL", text: "Sunny in Rome." },
      { role: "ASSISTANT", text: "It is sunny." },
    ]);

    openai.next({ kind: "reply", text: "As I said." });
    expect((await send("sources", "Really?", "openai:small")).run.status).toBe("COMPLETED");
    // The thinking of one provider is nothing for another.
    expect(openai.requests.at(-1)?.messages).toMatchObject([
      { role: "user", content: "How is it?" },
      { role: "assistant", tool_calls: [{ id: "a", function: { name: "weather", arguments: '{"city":"Rome"}' } }] },
      { role: "tool", tool_call_id: "a", content: "Sunny in Rome." },
      { role: "assistant", content: "It is sunny." },
      { role: "user", content: "Really?" },
    ]);
    expect(JSON.stringify(openai.requests.at(-1)?.body)).not.toContain("Hm, Rome.");
  });

  test("a tool that the provider calls itself is shown with its arguments and its result, and is nobody else's to call", async () => {
    const search = { type: "server_tool_use", id: "s1", name: "web_search", pieces: ['{"query":', '"Rome"}'] } as const;
    const found = [{ type: "web_search_result", url: "https://rome.test", title: "Rome" }];
    const result = { type: "web_search_tool_result", tool_use_id: "s1", content: found } as const;
    server.next(says(text("I look. "), search, result, text("Sunny.")));
    const { run } = await send("searched", "How is it?", "agent:claude");
    expect(run.status).toBe("COMPLETED");
    const query = `{ session(sessionId: "searched") { messages(last: 1) { nodes { toolCalls { callId } content {
      __typename ... on TextBlock { text } ... on ServerToolBlock { callId name args result } } } } } }`;
    const shown = { callId: "s1", name: "web_search", args: { query: "Rome" }, result: found };
    expect(await execute(gateway.url, query)).toEqual({
      session: {
        messages: {
          nodes: [
            {
              toolCalls: [],
              content: [
                { __typename: "TextBlock", text: "I look. " },
                { __typename: "ServerToolBlock", ...shown },
                { __typename: "TextBlock", text: "Sunny." },
              ],
            },
          ],
        },
      },
    });
  });

  test("a run that has waited goes on with the signed thinking and the arguments that were approved", async () => {
    server.next(asks(thinking, call("a", '{"city":"Rome"}'), call("b", '{"city":"Oslo"}')), says(text("Fine.")));
    const { run } = await send("waited", "How is it?", "agent:careful");
    expect(run.status).toBe("WAITING");
    await respond(gateway.url, run.id, [
      { edit: { callId: "a", args: { city: "Bari" } } },
      { reject: { callId: "b" } },
    ]);
    await expect.poll(async () => (await runOf(gateway.url, run.id))?.status, { timeout: 30_000 }).toBe("COMPLETED");
    expect(messagesOf(server.requests.at(-1)).slice(1)).toMatchObject([
      {
        role: "assistant",
        content: [thought, { id: "a", input: { city: "Bari" } }, { id: "b", input: { city: "Oslo" } }],
      },
      {
        role: "user",
        content: [
          { type: "tool_result", tool_use_id: "a", content: "Sunny in Bari." },
          { type: "tool_result", tool_use_id: "b", content: "The call was rejected." },
        ],
      },
    ]);
  });

  test("histories with tool rows go on through ConversationChain at each provider's adapter", async () => {
    const rows = [
      human("How is it in Rome and Oslo?"),
      JSON.stringify({
        type: "ai",
        data: {
          content: [thought, { type: "text", text: "Let me see." }],
          tool_calls: ["a", "b"].map((id) => ({ id, name: "weather", args: { city: id }, type: "tool_call" })),
        },
      }),
      ...["a", "b"].map((id) =>
        JSON.stringify({ type: "tool", data: { content: `Sunny in ${id}.`, tool_call_id: id, status: "success" } }),
      ),
      ai("It is sunny."),
    ];
    const replies = repliesAt(openai.baseUrl, { models: ["offline"], custom: { plain: claude } });
    server.next(says(text("Again.")));
    openai.behave({ kind: "reply", text: "Again." });
    for (const model of ["openai:gpt-test", "plain", "offline"]) {
      const outcome = completedOf(await replies.reply(requestOf({ model, rows, input: human("And now?") })));
      expect(outcome.text, model).not.toBe("");
    }
    openai.behave(null);
    const results = ["a", "b"].map((id) => ({ type: "tool_result", tool_use_id: id, content: `Sunny in ${id}.` }));
    expect(messagesOf(server.requests.at(-1))).toMatchObject([
      { role: "user", content: "How is it in Rome and Oslo?" },
      {
        role: "assistant",
        content: [
          { type: "text", text: "Let me see." },
          { type: "tool_use", id: "a" },
          { type: "tool_use", id: "b" },
        ],
      },
      { role: "user", content: results },
      { role: "assistant", content: "It is sunny." },
      { role: "user", content: "And now?" },
    ]);
    expect(openai.requests.at(-1)?.messages.map(({ role }) => role)).toEqual([
      ...["user", "assistant", "tool", "tool", "assistant", "user"],
    ]);
  });
});
