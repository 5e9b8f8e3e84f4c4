import type { CallbackManagerForLLMRun } from "@langchain/core/callbacks/manager";
import { AIMessageChunk, type BaseMessage } from "@langchain/core/messages";
import type { ToolCallChunk } from "@langchain/core/messages/tool";
import { ChatGenerationChunk } from "@langchain/core/outputs";
import { tool } from "@langchain/core/tools";
import { interrupt } from "@langchain/langgraph";
import { ChatOpenAI } from "@langchain/openai";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { z } from "zod";

import type { Answer, WaitingStep } from "../../src/conversation/ports/model.ts";
import { defaultAgentLimits, type AgentLimits } from "../../src/langchain/agents/limits.ts";
import type { AgentSpec, ToolAgentSpec } from "../../src/langchain/agents/spec.ts";
import { unheard, watched } from "../../src/langchain/models/watched.ts";
import { calls, runAgent, type AgentRun, type AgentRunOptions } from "../support/model/agent-run.ts";
import { startOpenAI, type OpenAIServer } from "../support/model/openai-server.ts";
import {
  completedOf,
  human,
  model,
  repliesAt,
  requestOf,
  ScriptedModel,
  textOfPiece,
} from "../support/model/reply-requests.ts";

// An agent by the real createAgent over the real ChatOpenAI, without a gateway around it.

let server: OpenAIServer;

beforeAll(async () => {
  server = await startOpenAI();
});
afterAll(() => server.close());

const weather = tool(({ city }) => `Sunny in ${city}.`, {
  name: "weather",
  description: "The weather of a city.",
  schema: z.object({ city: z.string() }),
});

/** What LangChain gives a tool; its types say any. */
function signalOf(config: unknown): AbortSignal | undefined {
  return (config as { readonly signal?: AbortSignal }).signal;
}

interface Options extends AgentRunOptions {
  readonly tools?: readonly unknown[];
  readonly chat?: ToolAgentSpec["model"];
  readonly limits?: Partial<AgentLimits>;
  readonly responseFormat?: ToolAgentSpec["responseFormat"];
}

function answered({
  tools = [weather],
  chat = model,
  limits = {},
  responseFormat = null,
  ...options
}: Options = {}): Promise<AgentRun> {
  const spec = {
    ...{ kind: "agent", name: "helper", description: "Helps.", model: chat, instructions: "Be {brief}." },
    tools: () => Promise.resolve(tools.map((one) => ({ tool: one, needsApproval: false }))),
    limits: { ...defaultAgentLimits, ...limits },
    responseFormat,
  } as AgentSpec; // tools of this very copy of LangChain
  return runAgent(server.baseUrl, spec, options);
}

const lastRequest = () => server.requests.at(-1)?.messages ?? [];

test("a call in pieces, its answer and the reply: pieces, step, answer and outcome, and what the model is sent", async () => {
  server.next(calls(["c1", '{"city":"Rome"}']), { kind: "reply", text: "It is sunny." });
  const { pieces, opened, answers, outcome } = await answered();
  expect(completedOf(outcome).text).toBe("It is sunny.");
  expect(opened).toMatchObject([
    {
      data: { content: "", tool_calls: [{ id: "c1", name: "weather", args: { city: "Rome" } }] },
      calls: [{ callId: "c1", name: "weather" }],
    },
  ]);
  expect(answers).toMatchObject([
    {
      callId: "c1",
      data: { content: "Sunny in Rome.", tool_call_id: "c1", name: "weather", status: "success" },
      change: { status: "DONE", content: "Sunny in Rome." },
    },
  ]);
  const args = pieces.flatMap((piece) => (piece.kind === "arguments" ? [piece.text] : []));
  expect(args.join("")).toBe('{"city":"Rome"}');
  expect(pieces.map(({ kind }) => kind).filter((kind, i, all) => kind !== all[i - 1])).toEqual([
    ...["message", "call", "arguments", "change", "message", "text"],
  ]);
  expect(lastRequest()).toMatchObject([
    { role: "system", content: "Be {brief}." },
    { role: "user", content: "How is it in Rome?" },
    { role: "assistant", tool_calls: [{ id: "c1", function: { name: "weather", arguments: '{"city":"Rome"}' } }] },
    { role: "tool", tool_call_id: "c1", content: "Sunny in Rome." },
  ]);
  expect(lastRequest()[2]).not.toHaveProperty("name");
  const usage = completedOf(outcome).usage?.totalTokens ?? 0;
  const last = completedOf(outcome).data["usage_metadata"] as { readonly total_tokens: number };
  expect(usage).toBe((opened[0]?.usage?.totalTokens ?? 0) + last.total_tokens);
});

test("parallel calls: one step, both answered, in the order of the calls in the next request", async () => {
  const oslo = Promise.withResolvers<undefined>();
  const slow = tool(
    async ({ city }) => {
      if (city === "Rome") await oslo.promise;
      return `Sunny in ${city}.`;
    },
    { name: "weather", description: "The weather.", schema: z.object({ city: z.string() }) },
  );
  server.next(calls(["a", '{"city":"Rome"}'], ["b", '{"city":"Oslo"}']), { kind: "reply", text: "Fine." });
  const { opened, answers } = await answered({ tools: [slow], onAnswer: () => oslo.resolve(undefined) });
  expect(opened.map((step) => step.calls.map(({ callId }) => callId))).toEqual([["a", "b"]]);
  expect(answers.map(({ callId }) => callId)).toEqual(["b", "a"]);
  expect(lastRequest().slice(-2)).toMatchObject([{ tool_call_id: "a" }, { tool_call_id: "b" }]);
});

/** Calls the weather tool in these pieces, then says what it was answered. */
class CallingModel extends ScriptedModel {
  readonly #pieces: readonly (readonly ToolCallChunk[])[];

  constructor(pieces: readonly (readonly ToolCallChunk[])[]) {
    super(() => []);
    this.#pieces = pieces;
  }

  override bindTools(): this {
    return this;
  }

  override async *_streamResponseChunks(
    messages: BaseMessage[],
    _options: this["ParsedCallOptions"],
    runManager?: CallbackManagerForLLMRun,
  ): AsyncGenerator<ChatGenerationChunk> {
    const answers = messages.filter(({ type }) => type === "tool").map(({ text }) => text);
    const said =
      answers.length > 0
        ? [new AIMessageChunk(answers.join(" "))]
        : this.#pieces.map((tool_call_chunks) => new AIMessageChunk({ tool_call_chunks: [...tool_call_chunks] }));
    for (const message of said) {
      const chunk = new ChatGenerationChunk({ text: message.text, message });
      yield chunk;
      await runManager?.handleLLMNewToken(chunk.text, undefined, undefined, undefined, undefined, { chunk });
    }
  }
}

const callOf = (city: string, place: Pick<ToolCallChunk, "id" | "index">): ToolCallChunk => ({
  ...{ name: "weather", args: JSON.stringify({ city }), type: "tool_call_chunk" },
  ...place,
});

test.each([
  [
    "of one index, told apart by their ids",
    [[callOf("Rome", { id: "a", index: 0 }), callOf("Oslo", { id: "b", index: 0 })]],
  ],
  [
    "of one index, each in a piece of its own",
    [[callOf("Rome", { id: "a", index: 0 })], [callOf("Oslo", { id: "b", index: 0 })]],
  ],
  ["without index or id", [[callOf("Rome", {}), callOf("Oslo", {})]]],
])("whole calls %s: each is a call with an answer of its own", async (_how, pieces) => {
  const run = await answered({ chat: new CallingModel(pieces) });
  expect(completedOf(run.outcome).text).toBe("Sunny in Rome. Sunny in Oslo.");
  const ids = run.opened.flatMap((step) => step.calls.map(({ callId }) => callId));
  expect(new Set(ids).size).toBe(2);
  expect(run.answers.map(({ callId }) => callId).sort()).toEqual([...ids].sort());
  const argsTold = (callId: string) =>
    run.pieces.flatMap((piece) => (piece.kind === "arguments" && piece.callId === callId ? [piece.text] : [])).join("");
  expect(ids.map(argsTold)).toEqual(['{"city":"Rome"}', '{"city":"Oslo"}']);
});

test("no tool begins before its step is open; where the run is closed none begins, and the model is asked no more", async () => {
  let begun = 0;
  const counted = tool(() => String((begun += 1)), { name: "weather", description: "Counts.", schema: z.object({}) });
  const order: string[] = [];
  const controller = new AbortController();
  server.next(calls(["a", "{}"], ["b", "{}"]));
  const { length } = server.requests;
  const { outcome } = await answered({
    tools: [counted],
    signal: controller.signal,
    async open() {
      await new Promise((resolve) => setTimeout(resolve, 20));
      order.push(`begun ${begun}`);
      controller.abort();
      return false;
    },
  });
  expect([outcome.kind, order, begun, server.requests.length - length]).toEqual(["cancelled", ["begun 0"], 0, 1]);
});

describe("what a tool may not tell, and what never runs one", () => {
  const broken = tool(
    () => {
      throw new Error("secret sk-do-not-show");
    },
    { name: "weather", description: "Fails.", schema: z.object({ city: z.string() }) },
  );

  test.each([
    ["what a tool throws", [broken], "weather", '{"city":"Rome"}', "The tool failed."],
    [
      "arguments that miss the schema",
      [weather],
      "weather",
      '{"town":"Rome"}',
      "The arguments do not fit the tool's schema.",
    ],
    ["arguments that are torn", [weather], "weather", '{"city":"Ro', "The arguments are not valid JSON."],
    ["arguments that are no object", [weather], "weather", "[1]", "The arguments are not valid JSON."],
    ["a tool that there is not", [weather], "snow", "{}", 'There is no tool "snow". There are weather.'],
  ])("%s", async (what, tools, name, args, told) => {
    server.next(calls(["c1", args, name]), { kind: "reply", text: "Sorry." });
    const { opened, answers, outcome, failures } = await answered({ tools });
    expect(completedOf(outcome).text).toBe("Sorry.");
    expect(answers).toMatchObject([{ data: { content: told, status: "error" }, change: { status: "FAILED" } }]);
    // The call has a partner in the history and in the next request.
    expect(opened[0]?.data["tool_calls"]).toMatchObject([{ id: "c1", name }]);
    expect(lastRequest().slice(-2)).toMatchObject([
      { role: "assistant", tool_calls: [{ id: "c1" }] },
      { role: "tool", tool_call_id: "c1", content: told },
    ]);
    expect(failures.map(({ agent, tool: failed, err }) => [agent, failed, String(err)])).toEqual(
      what === "what a tool throws" ? [["helper", "weather", "Error: secret sk-do-not-show"]] : [],
    );
    if (args.startsWith('{"city":"Ro') && args.length < 15) {
      expect(opened[0]?.data).toMatchObject({
        tool_calls: [{ args: {} }],
        response_metadata: { broken_arguments: { c1: '{"city":"Ro' } },
      });
    }
  });
});

test("a tool that calls interrupt() ends the run as CANNOT_WAIT, and the log has why", async () => {
  const asks = tool(() => String(interrupt("Really?")), {
    name: "weather",
    description: "Asks.",
    schema: z.object({}),
  });
  server.next(calls(["c1", "{}"]));
  const { opened, answers, outcome, failures } = await answered({ tools: [asks] });
  expect(outcome).toMatchObject({ kind: "failed", error: { code: "CANNOT_WAIT", retryable: false } });
  expect([opened.length, answers.length]).toEqual([1, 0]);
  expect(failures).toMatchObject([{ agent: "helper", tool: "weather" }]);
});

test.each([["length"], [null]])("calls of a reply that was cut off (%s) never run", async (finishReason) => {
  server.next({ ...calls(["c1", '{"city":"Rome"}']), finishReason });
  const { opened, outcome } = await answered();
  expect(outcome).toMatchObject({ kind: "failed", error: { code: "REPLY_CUT_OFF" } });
  expect(opened).toEqual([]);
});

test.each([
  ["model calls", { modelCalls: 2 }, 2],
  ["tool calls", { toolCalls: 3 }, 3],
] as const)("TOOL_LIMIT: %s", async (_what, limits, steps) => {
  server.behave(() => calls(["c", '{"city":"Rome"}']));
  const { opened, answers, outcome } = await answered({ limits });
  server.behave(null);
  expect(outcome).toMatchObject({ kind: "failed", error: { code: "TOOL_LIMIT" } });
  expect([opened.length, answers.length]).toEqual([steps, steps]);
  // The model gave each the same id.
  const ids = opened.flatMap((step) => step.calls.map(({ callId }) => callId));
  expect(new Set(ids).size).toBe(steps);
  expect(ids[0]).toBe("c");
});

const forever = tool(
  (_args, config) =>
    new Promise((_, reject) => signalOf(config)?.addEventListener("abort", () => reject(new Error("aborted")))),
  {
    name: "weather",
    description: "Never ends by itself.",
    schema: z.object({}),
  },
);

test("a tool that takes too long is given up, its signal is aborted, and the model goes on", async () => {
  let aborted = false;
  const late = tool(
    (_args, config) => new Promise(() => signalOf(config)?.addEventListener("abort", () => (aborted = true))),
    { name: "weather", description: "Ignores its signal.", schema: z.object({}) },
  );
  server.next(calls(["c1", "{}"]), { kind: "reply", text: "Sorry." });
  const { answers, outcome } = await answered({ tools: [late], limits: { toolTimeoutMs: 30 } });
  expect(completedOf(outcome).text).toBe("Sorry.");
  expect(answers).toMatchObject([{ data: { content: "The tool took too long.", status: "error" } }]);
  expect(aborted).toBe(true);
});

test("a model does not time out while a tool runs", async () => {
  const { signal } = new AbortController();
  const slow = () => new Promise<string>((resolve) => setTimeout(() => resolve("done"), 300));
  expect(await watched(signal, 50, () => unheard(slow))).toEqual({ kind: "done", value: "done" });
  expect(await watched(signal, 50, slow)).toEqual({ kind: "timedOut" });
});

test("RUN_TIMEOUT ends the run, and its tool", async () => {
  server.behave(() => calls(["c1", "{}"]));
  const { answers, outcome } = await answered({ tools: [forever], limits: { runTimeoutMs: 300 } });
  server.behave(null);
  expect(outcome).toMatchObject({ kind: "failed", error: { code: "RUN_TIMEOUT" } });
  expect(answers).toEqual([]);
});

test("a run that fails beside a tool which still works ends that too", async () => {
  const begun = Promise.withResolvers<undefined>();
  const ended = Promise.withResolvers<undefined>();
  const waits = tool(
    async ({ city }, config) => {
      if (city === "Oslo") return await begun.promise.then(() => "Rain.");
      begun.resolve(undefined);
      signalOf(config)?.addEventListener("abort", () => ended.resolve(undefined), { once: true });
      return await ended.promise.then(() => "Nobody waits for it.");
    },
    { name: "weather", description: "Waits.", schema: z.object({ city: z.string() }) },
  );
  server.next(calls(["a", '{"city":"Rome"}'], ["b", '{"city":"Oslo"}']));
  const { outcome } = await answered({
    tools: [waits],
    onAnswer() {
      throw new Error("The store holds something else");
    },
  });
  expect(outcome).toMatchObject({ kind: "failed", error: { code: "OTHER" } });
  await ended.promise;
});

test("cancel reaches the tool's signal", async () => {
  server.next(calls(["c1", "{}"]));
  const controller = new AbortController();
  let told = false;
  const cancelled = tool(
    (_args, config) =>
      new Promise((_, reject) => {
        signalOf(config)?.addEventListener("abort", () => {
          told = true;
          reject(new Error("aborted"));
        });
        controller.abort();
      }),
    { name: "weather", description: "Is cancelled.", schema: z.object({}) },
  );
  const { outcome, answers, failures } = await answered({ tools: [cancelled], signal: controller.signal });
  expect(outcome.kind).toBe("cancelled");
  await expect.poll(() => told).toBe(true);
  expect([answers, failures]).toEqual([[], []]);
});

test("a result that is too long is cut off for model, row and part alike", async () => {
  const long = tool(() => "é".repeat(100), { name: "weather", description: "Long.", schema: z.object({}) });
  server.next(calls(["c1", "{}"]), { kind: "reply", text: "Done." });
  const { answers } = await answered({ tools: [long], limits: { resultBytes: 11 } });
  const content = "ééééé… (cut off: it was too long)";
  expect(answers).toMatchObject([{ data: { content }, change: { content } }]);
  expect(lastRequest().at(-1)).toMatchObject({ content });
});

test("only so many tools run at a time", async () => {
  let going = 0;
  let most = 0;
  const two = Promise.withResolvers<undefined>();
  const counted = tool(
    async () => {
      most = Math.max(most, (going += 1));
      if (going === 2) two.resolve(undefined);
      await two.promise;
      await new Promise(setImmediate);
      going -= 1;
      return "done";
    },
    { name: "weather", description: "Counts.", schema: z.object({}) },
  );
  server.next(calls(["a", "{}"], ["b", "{}"], ["c", "{}"], ["d", "{}"]), { kind: "reply", text: "Done." });
  const { answers } = await answered({ tools: [counted], limits: { parallelTools: 2 } });
  expect([most, answers.length]).toEqual([2, 4]);
});

test("what a tool writes while it works is delivered as data of its call", async () => {
  const telling = tool(
    (_args, config) => {
      // Typed by none of LangChain's configs.
      (config as { writer?: (data: unknown) => void }).writer?.({ percent: 50 });
      return "done";
    },
    { name: "weather", description: "Tells.", schema: z.object({}) },
  );
  server.next(calls(["c1", "{}"]), { kind: "reply", text: "Done." });
  const { pieces } = await answered({ tools: [telling] });
  expect(pieces.filter(({ kind }) => kind === "data")).toEqual([
    { kind: "data", callId: "c1", name: "custom", data: { percent: 50 } },
  ]);
});

test("a failure of the model behind a step is the run's, in the same words as of a model alone", async () => {
  server.next(calls(["c1", '{"city":"Rome"}']), "429");
  const { answers, outcome } = await answered();
  expect(outcome).toMatchObject({ kind: "failed", error: { code: "MODEL_RATE_LIMITED" } });
  expect(answers.length).toBe(1);
});

test("a call that needs an approval lets the run wait; what it goes on with asks the model as if it had not", async () => {
  const asking: AgentSpec = {
    ...{ kind: "agent", name: "asking", description: null, model, instructions: null, limits: defaultAgentLimits },
    responseFormat: null,
    tools: () => Promise.resolve([{ tool: weather, needsApproval: true }]),
  };
  const replies = repliesAt(server.baseUrl, { agents: [asking] });
  const waited: WaitingStep[] = [];
  const answers: Answer[] = [];
  let claims = 0;
  const steps = {
    open: () => Promise.reject(new Error("A step that does not wait")),
    wait: (step: WaitingStep) => Promise.resolve(waited.push(step) > 0),
    claim: () => Promise.resolve(++claims > 0),
    answer: (answer: Answer) => Promise.resolve(answers.push(answer) > 0),
  };
  const request = requestOf({ model: "agent:asking", input: human("How is it in Rome and Pisa?"), steps });
  server.next(
    calls(["c1", '{"city":"Rome"}'], ["c2", '{"city":"Pisa"}'], ["c3", '{"city":"Bar'], ["c4", "{}", "none"]),
  );
  expect(await replies.reply(request)).toEqual({ kind: "waiting" });
  const [step] = waited;
  if (step === undefined) throw new Error("It does not wait");
  // Nobody is asked about what cannot be carried out.
  expect(step.calls.map(({ callId, asks }) => [callId, asks?.args])).toEqual([
    ["c1", { city: "Rome" }],
    ["c2", { city: "Pisa" }],
    ["c3", undefined],
    ["c4", undefined],
  ]);
  const asks = step.calls[0]?.asks;
  const schema = asks?.for === "approval" ? asks.schema : null;
  expect([await replies.takes(schema, { city: "Bari" }), await replies.takes(schema, { town: "Bari" })]).toEqual([
    true,
    false,
  ]);

  const rejected = { content: "The call was rejected.", tool_call_id: "c2", name: "weather", status: "error" };
  const resumed = {
    rows: [JSON.stringify({ type: "ai", data: { ...step.data, additional_kwargs: {}, response_metadata: {} } })],
    answers: new Map([["c2", rejected]]),
    // As it comes out of a store.
    state: JSON.parse(JSON.stringify(step.state)) as WaitingStep["state"],
  };
  server.next({ kind: "reply", text: "It is sunny." });
  const outcome = completedOf(await replies.reply({ ...request, resumed }));
  expect(outcome.text).toBe("It is sunny.");
  expect(claims).toBe(1);
  expect(answers.map(({ callId, data }) => [callId, data["content"]]).sort()).toEqual([
    ["c1", "Sunny in Rome."],
    ["c3", "The arguments are not valid JSON."],
    ["c4", 'There is no tool "none". There are weather.'],
  ]);
  expect(lastRequest().slice(1)).toMatchObject([
    { role: "assistant", tool_calls: [{ id: "c1" }, { id: "c2" }, { id: "c3" }, { id: "c4" }] },
    { role: "tool", tool_call_id: "c1", content: "Sunny in Rome." },
    { role: "tool", tool_call_id: "c2", content: "The call was rejected." },
    { role: "tool", tool_call_id: "c3" },
    { role: "tool", tool_call_id: "c4" },
  ]);
  // Of both requests.
  expect(outcome.usage?.totalTokens).toBeGreaterThan(step.usage?.totalTokens ?? 0);
});

test("the limits of a run that has waited count all of it, but not the time that it waited", async () => {
  const spec: AgentSpec = {
    ...{ kind: "agent", name: "asking", description: null, model, instructions: null },
    responseFormat: null,
    limits: { ...defaultAgentLimits, modelCalls: 1 },
    tools: () => Promise.resolve([{ tool: weather, needsApproval: true }]),
  };
  const waited: WaitingStep[] = [];
  const steps = {
    open: () => Promise.reject(new Error("A step that does not wait")),
    wait: (step: WaitingStep) => Promise.resolve(waited.push(step) > 0),
    claim: () => Promise.resolve(true),
    answer: () => Promise.resolve(true),
  };
  const request = requestOf({ model: "agent:asking", steps });
  server.next(calls(["c1", '{"city":"Rome"}']));
  expect(await repliesAt(server.baseUrl, { agents: [spec] }).reply(request)).toEqual({ kind: "waiting" });
  const [step] = waited;
  if (step === undefined) throw new Error("It does not wait");
  const { data, state } = step;
  const rows = [JSON.stringify({ type: "ai", data: { ...data, additional_kwargs: {}, response_metadata: {} } })];
  const goesOn = (elapsedMs: number, limits: Partial<AgentLimits>) =>
    repliesAt(server.baseUrl, { agents: [{ ...spec, limits: { ...defaultAgentLimits, ...limits } }] }).reply({
      ...request,
      resumed: { rows, answers: new Map(), state: { ...state, elapsedMs } },
    });
  expect(await goesOn(0, { modelCalls: 1 })).toMatchObject({ kind: "failed", error: { code: "TOOL_LIMIT" } });
  server.next({ kind: "gated", tokens: ["It ", "is."] });
  expect(await goesOn(900_000, {})).toMatchObject({ kind: "failed", error: { code: "RUN_TIMEOUT" } });
});

test("two messages with the same id in the history are two messages for the model", async () => {
  const row = (text: string) => JSON.stringify({ type: "human", data: { content: text, id: "same" } });
  server.next({ kind: "reply", text: "Hello." });
  await answered({
    rows: [row("one"), JSON.stringify({ type: "ai", data: { content: "ok", id: "same" } }), row("two")],
  });
  expect(JSON.stringify(lastRequest())).toContain("one");
  expect(lastRequest().filter(({ role }) => role === "assistant").length).toBe(1);
});

test("a model that a tool asks is the tool's affair: what it says is no text of the reply", async () => {
  const configuration = { baseURL: server.baseUrl };
  const inner = new ChatOpenAI({ model: "gpt-test", apiKey: "sk-x", maxRetries: 0, configuration });
  const asking = tool(async () => (await inner.invoke("Translate.")).text, {
    name: "weather",
    description: "Asks a model.",
    schema: z.object({}),
  });
  server.next(calls(["c1", "{}"]), { kind: "reply", text: "Inner." }, { kind: "reply", text: "Outer." });
  const { pieces, outcome } = await answered({ tools: [asking] });
  expect(pieces.map(textOfPiece).join("")).toBe("Outer.");
  expect(completedOf(outcome).data["content"]).toBe("Outer.");
});

describe("a response format", () => {
  const zod = z.object({ city: z.string(), degrees: z.number() });
  const json = {
    ...{ type: "object", title: "Weather", properties: { city: { type: "string" }, degrees: { type: "number" } } },
    ...{ required: ["city", "degrees"], additionalProperties: false },
  };
  const text = '{"city": "Rome", "degrees": 21}';

  test.each([
    ["zod", zod],
    ["JSON Schema", json],
  ])(
    "%s: the model is asked for it with its tools, and its reply is the object, live as its text",
    async (_what, responseFormat) => {
      server.next(calls(["c1", '{"city":"Rome"}']), { kind: "reply", text });
      const { outcome, opened, pieces } = await answered({ responseFormat });
      expect(outcome).toMatchObject({ kind: "completed", text, isStructured: true, data: { content: text } });
      // No call that there was not.
      expect(opened.map((step) => step.calls.map(({ name }) => name))).toEqual([["weather"]]);
      expect(pieces.filter(({ kind }) => kind === "text").length).toBeGreaterThan(1);
      const asked = server.requests.at(-1)?.body;
      expect(asked).toMatchObject({
        tools: [{ function: { name: "weather" } }],
        response_format: { type: "json_schema", json_schema: { strict: true, schema: { type: "object" } } },
      });
      const { response_format: format } = asked as { response_format: { json_schema: { schema: object } } }; // as just seen
      expect(format.json_schema.schema).toMatchObject({ properties: json.properties, required: json.required });
    },
  );

  test.each(["It is sunny.", '{"city":"Rome"}', '{"city":"Rome","degrees":"warm"}', "", "[]"])(
    "a reply of another form fails the run: %j",
    async (wrong) => {
      server.next({ kind: "reply", text: wrong });
      const { outcome } = await answered({ responseFormat: json });
      expect(outcome).toMatchObject({
        kind: "failed",
        error: {
          code: "OTHER",
          message: "The reply does not have the form that the agent was to give.",
          retryable: true,
        },
      });
    },
  );

  test.each([
    ["length", '{"city":"Ro', "REPLY_CUT_OFF"],
    // What was written by then is whole.
    ["length", text, null],
    ["content_filter", '{"city":"Ro', "CONTENT_REFUSED"],
  ])("a reply that ends for %s: %j", async (finishReason, said, code) => {
    server.next({ kind: "reply", text: said, finishReason });
    const { outcome } = await answered({ responseFormat: json });
    expect(outcome).toMatchObject(
      code === null ? { kind: "completed", isStructured: true } : { kind: "failed", error: { code } },
    );
  });

  test("without one a reply that happens to be JSON is a text", async () => {
    server.next({ kind: "reply", text });
    const { outcome } = await answered();
    expect(outcome).not.toHaveProperty("isStructured");
    expect(server.requests.at(-1)?.body).not.toHaveProperty("response_format");
  });
});
