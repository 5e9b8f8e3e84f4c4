import { AIMessage } from "@langchain/core/messages";
import { StringOutputParser } from "@langchain/core/output_parsers";
import { RunnableLambda, RunnableSequence } from "@langchain/core/runnables";
import { tool } from "@langchain/core/tools";
import { interrupt, MemorySaver, MessagesAnnotation, StateGraph } from "@langchain/langgraph";
import { ToolNode } from "@langchain/langgraph/prebuilt";
import { ChatOpenAI } from "@langchain/openai";
import { createAgent, humanInTheLoopMiddleware } from "langchain";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { z } from "zod";

import { agentProblems } from "../../src/langchain/agents/agent-options.ts";
import { defaultAgentLimits, type AgentLimits } from "../../src/langchain/agents/limits.ts";
import type { FlowSpec } from "../../src/langchain/agents/spec.ts";
import { calls, runAgent, type AgentRun, type AgentRunOptions } from "../support/model/agent-run.ts";
import { startOpenAI, type OpenAIServer } from "../support/model/openai-server.ts";
import { ai, completedOf, human, repliesAt, textOfPiece } from "../support/model/reply-requests.ts";

// Graphs of the real LangGraph and Runnables over the real ChatOpenAI, without a gateway around them.

let server: OpenAIServer;
let chat: ChatOpenAI;

beforeAll(async () => {
  server = await startOpenAI();
  const configuration = { baseURL: server.baseUrl };
  // What is imported with a turn counts as silence of its model.
  await repliesAt(server.baseUrl).warm();
  chat = new ChatOpenAI({ model: "gpt-test", apiKey: "sk-x", maxRetries: 0, configuration });
});
beforeEach(() => server.behave(null));
afterAll(() => server.close());

const weather = tool(({ city }) => `Sunny in ${city}.`, {
  name: "weather",
  description: "The weather of a city.",
  schema: z.object({ city: z.string() }),
});

/** As LangGraph's own guides have it: a model, its tools by a ToolNode, and back. */
function loop(tools: ConstructorParameters<typeof ToolNode>[0] = [weather]) {
  return new StateGraph(MessagesAnnotation)
    .addNode("model", async ({ messages }) => ({ messages: [await chat.bindTools(tools).invoke(messages)] }))
    .addNode("tools", new ToolNode(tools))
    .addEdge("__start__", "model")
    .addConditionalEdges("model", ({ messages }) => {
      const last = messages.at(-1);
      return AIMessage.isInstance(last) && (last.tool_calls ?? []).length > 0 ? "tools" : "__end__";
    })
    .addEdge("tools", "model")
    .compile();
}

const asksUser = tool(() => String(interrupt("Really?")), {
  name: "ask",
  description: "Asks the user.",
  schema: z.object({}),
});

const asking = () =>
  new StateGraph(MessagesAnnotation)
    .addNode("ask", () => ({ messages: [new AIMessage(String(interrupt("Really?")))] }))
    .addEdge("__start__", "ask");

const around = (within: ReturnType<ReturnType<typeof asking>["compile"]>) =>
  new StateGraph(MessagesAnnotation).addNode("within", within).addEdge("__start__", "within").compile();

interface Options extends AgentRunOptions {
  readonly kind?: "graph" | "runnable";
  readonly limits?: Partial<AgentLimits>;
}

function answered(runs: unknown, { kind = "graph", limits = {}, ...options }: Options = {}): Promise<AgentRun> {
  const spec = {
    ...{ kind, runs, name: "flow", description: null, instructions: "Be {brief}." },
    limits: { ...defaultAgentLimits, ...limits },
  } as FlowSpec; // of this very copy of LangChain
  return runAgent(server.baseUrl, spec, options);
}

const lastRequest = () => server.requests.at(-1)?.messages ?? [];
const textOf = ({ pieces }: AgentRun) =>
  pieces.map((piece) => (piece.kind === "text" ? textOfPiece(piece) : "")).join("");
const kindsOf = ({ pieces }: AgentRun) => pieces.map(({ kind }) => kind).filter((kind, i, all) => kind !== all[i - 1]);

describe("a graph", () => {
  test("a turn with a tool: pieces, step, answer and outcome are those of an agent", async () => {
    server.next(calls(["c1", '{"city":"Rome"}']), { kind: "reply", text: "It is sunny.", reasoning: ["Hm."] });
    const run = await answered(loop(), { rows: [human("Hi."), ai("Hello.")] });
    expect(completedOf(run.outcome).text).toBe("It is sunny.");
    expect(run.opened).toMatchObject([
      {
        data: { content: "", tool_calls: [{ id: "c1", name: "weather", args: { city: "Rome" } }] },
        calls: [{ callId: "c1", name: "weather" }],
      },
    ]);
    expect(run.answers).toMatchObject([
      {
        callId: "c1",
        data: { content: "Sunny in Rome.", tool_call_id: "c1", name: "weather", status: "success" },
        change: { status: "DONE", content: "Sunny in Rome." },
      },
    ]);
    expect(kindsOf(run)).toEqual(["message", "call", "arguments", "change", "message", "reasoning", "text"]);
    expect(textOf(run)).toBe("It is sunny.");
    expect(lastRequest()).toMatchObject([
      { role: "system", content: "Be {brief}." },
      { role: "user", content: "Hi." },
      { role: "assistant", content: "Hello." },
      { role: "user", content: "How is it in Rome?" },
      { role: "assistant", tool_calls: [{ id: "c1" }] },
      { role: "tool", tool_call_id: "c1", content: "Sunny in Rome." },
    ]);
    const { data, usage } = completedOf(run.outcome);
    const last = data["usage_metadata"] as { readonly total_tokens: number };
    expect(usage?.totalTokens).toBe((run.opened[0]?.usage?.totalTokens ?? 0) + last.total_tokens);
    expect(data["response_metadata"]).toMatchObject({ finish_reason: "stop" });
  });

  test("no tool begins before its step is open; where the run is closed none begins, and the model is asked no more", async () => {
    let begun = 0;
    const counted = tool(() => String((begun += 1)), { name: "weather", description: "Counts.", schema: z.object({}) });
    const order: string[] = [];
    server.next(calls(["a", "{}"], ["b", "{}"]));
    const { length } = server.requests;
    const controller = new AbortController();
    const { outcome } = await answered(loop([counted]), {
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

  test("a model that gives each call and message one id: two steps, each call with an id of its own", async () => {
    server.next(calls(["c", '{"city":"Rome"}']), calls(["c", '{"city":"Oslo"}']), { kind: "reply", text: "Fine." });
    const { opened, answers, outcome } = await answered(loop());
    expect(completedOf(outcome).text).toBe("Fine.");
    const ids = opened.flatMap((step) => step.calls.map(({ callId }) => callId));
    expect([ids.length, new Set(ids).size, answers.map(({ callId }) => callId)]).toEqual([2, 2, ids]);
    expect(
      lastRequest()
        .filter(({ role }) => role === "tool")
        .map(({ tool_call_id: id }) => id),
    ).toEqual(ids);
  });

  const broken = tool(
    () => {
      throw new Error("secret sk-do-not-show");
    },
    { name: "weather", description: "Fails.", schema: z.object({ city: z.string() }) },
  );
  test.each([
    ["what a tool throws", broken, "weather", '{"city":"Rome"}', "The tool failed.", 1],
    ["arguments that miss the schema", weather, "weather", '{"town":"Rome"}', "The tool failed.", 1],
    ["a tool that there is not", weather, "snow", "{}", "The tool failed.", 1],
    ["arguments that are torn", weather, "weather", '{"city":"Ro', "The arguments are not valid JSON.", 0],
  ])("%s is told to the log alone, and has its answer in the step", async (_what, one, name, args, told, failed) => {
    server.next(calls(["c1", args, name]), { kind: "reply", text: "Sorry." });
    const { opened, answers, failures, outcome } = await answered(loop([one]));
    expect(completedOf(outcome).text).toBe("Sorry.");
    expect(opened[0]?.calls).toMatchObject([{ callId: "c1", name }]);
    expect(answers).toMatchObject([
      { callId: "c1", data: { content: told, status: "error" }, change: { status: "FAILED" } },
    ]);
    expect([failures.length, answers.length]).toEqual([failed, 1]);
    expect(JSON.stringify([opened, answers])).not.toContain("sk-do-not-show");
  });

  test.each([
    ["model calls", { modelCalls: 2 }, 2],
    ["tool calls", { toolCalls: 3 }, 3],
  ] as const)("TOOL_LIMIT: %s", async (_what, limits, steps) => {
    server.behave(() => calls(["c", '{"city":"Rome"}']));
    const { opened, answers, outcome } = await answered(loop(), { limits });
    expect(outcome).toMatchObject({ kind: "failed", error: { code: "TOOL_LIMIT" } });
    expect([opened.length, answers.length]).toEqual([steps, steps]);
  });

  test("RUN_TIMEOUT ends a graph that waits for something else", async () => {
    const graph = new StateGraph(MessagesAnnotation)
      .addNode("wait", () => new Promise<never>(() => undefined))
      .addEdge("__start__", "wait")
      .compile();
    const { outcome } = await answered(graph, { limits: { runTimeoutMs: 100 } });
    expect(outcome).toMatchObject({ kind: "failed", error: { code: "RUN_TIMEOUT" } });
  });

  test.each([
    ["a node", () => asking().compile(), 0],
    [
      "a graph within, with a checkpointer of its own",
      () => around(asking().compile({ checkpointer: new MemorySaver() })),
      0,
    ],
    ["a tool", () => loop([asksUser]), 1],
  ] as const)("interrupt() in %s ends the run as CANNOT_WAIT, and tells what can wait", async (_where, made, steps) => {
    server.next(calls(["c1", "{}", "ask"]));
    const { opened, answers, outcome } = await answered(made());
    expect(outcome).toMatchObject({ kind: "failed", error: { code: "CANNOT_WAIT", retryable: false } });
    expect(outcome.kind === "failed" && outcome.error.message).toBe(
      "The agent asked for an answer in the middle of its work (LangGraph's interrupt()), and cannot wait for one. Only calls of tools that need an approval can wait.",
    );
    expect([opened.length, answers.length]).toEqual([steps, 0]);
  });

  test("models one after another are one text, without those tagged nostream; what they cost is added up", async () => {
    const quiet = chat.withConfig({ tags: ["nostream"] });
    const graph = new StateGraph(MessagesAnnotation)
      .addNode("route", async ({ messages }) => {
        await quiet.invoke(messages);
        return {};
      })
      .addNode("draft", async ({ messages }) => ({ messages: [await chat.invoke(messages)] }))
      // A message of its own, as many nodes make one.
      .addNode("final", async ({ messages }) => ({ messages: [new AIMessage((await chat.invoke(messages)).text)] }))
      .addEdge("__start__", "route")
      .addEdge("route", "draft")
      .addEdge("draft", "final")
      .compile();
    server.next(
      { kind: "reply", text: "To draft." },
      { kind: "reply", text: "A draft." },
      { kind: "reply", text: "Done." },
    );
    const run = await answered(graph);
    const { text, data, usage } = completedOf(run.outcome);
    expect([textOf(run), text, data["content"]]).toEqual(Array(3).fill("A draft.\n\nDone."));
    const last = data["usage_metadata"] as { readonly total_tokens: number };
    expect(usage?.totalTokens).toBeGreaterThan(2 * (last.total_tokens - 10));
    expect(run.opened).toEqual([]);
  });

  test("a reply that no model was heard to give is told whole", async () => {
    const graph = new StateGraph(MessagesAnnotation)
      .addNode("say", () => ({ messages: [new AIMessage("From a rule.")] }))
      .addEdge("__start__", "say")
      .compile();
    const run = await answered(graph);
    expect([textOf(run), completedOf(run.outcome).text]).toEqual(["From a rule.", "From a rule."]);
  });

  test("a graph within a graph: its steps are stored when its node has ended, each with its answers", async () => {
    const graph = new StateGraph(MessagesAnnotation)
      .addNode("team", createAgent({ model: chat, tools: [weather] }).graph)
      .addEdge("__start__", "team")
      .compile();
    server.next(calls(["c1", '{"city":"Rome"}']), { kind: "reply", text: "It is sunny." });
    const run = await answered(graph);
    expect([textOf(run), completedOf(run.outcome).text]).toEqual(["It is sunny.", "It is sunny."]);
    expect(run.opened.map((step) => step.calls)).toMatchObject([[{ callId: "c1", name: "weather" }]]);
    expect(run.answers).toMatchObject([{ callId: "c1", data: { content: "Sunny in Rome." } }]);
  });

  test("two messages that call tools at the same time fail by name: a history cannot hold them", async () => {
    const began = Promise.withResolvers<undefined>();
    const slow = tool(
      async () => {
        began.resolve(undefined);
        await new Promise(() => undefined);
      },
      { name: "slow", description: "Never ends.", schema: z.object({}) },
    );
    const asking = (id: string) => async (input: unknown) => {
      const message = await chat.bindTools([slow]).invoke(JSON.stringify(input));
      if (id === "b") await began.promise;
      await new ToolNode([slow]).invoke({ messages: [message] });
      return {};
    };
    const graph = new StateGraph(MessagesAnnotation)
      .addNode("a", asking("a"))
      .addNode("b", async (input) => {
        await began.promise;
        return await asking("b")(input);
      })
      .addEdge("__start__", "a")
      .addEdge("__start__", "b")
      .compile();
    server.next(calls(["c1", "{}", "slow"]), calls(["c2", "{}", "slow"]));
    const { outcome, opened } = await answered(graph);
    expect(outcome).toMatchObject({ kind: "failed", error: { code: "OTHER", retryable: false } });
    expect(JSON.stringify(outcome)).toContain("Two messages of the graph call tools at the same time");
    expect(opened.length).toBe(1);
  });

  test("a node may be silent for longer than a model; a model may not", async () => {
    const silent = (ms: number) =>
      new StateGraph(MessagesAnnotation)
        .addNode("wait", async () => {
          await new Promise((resolve) => setTimeout(resolve, ms));
          return { messages: [new AIMessage("Done.")] };
        })
        .addEdge("__start__", "wait")
        .compile();
    const waited = await answered(silent(1500), { replies: { timeoutMs: 1000 } });
    expect(completedOf(waited.outcome).text).toBe("Done.");
    server.next("hang");
    const { outcome } = await answered(loop(), { replies: { timeoutMs: 1000 } });
    expect(outcome).toMatchObject({ kind: "failed", error: { code: "MODEL_TIMEOUT" } });
  });

  test.each([
    ["no reply", () => ({ messages: [] }), "The graph ended without a reply of its model."],
    [
      "calls that have no answer",
      () => ({ messages: [new AIMessage({ content: "", tool_calls: [{ id: "x", name: "weather", args: {} }] })] }),
      "The graph ended with calls of tools that have no answer.",
    ],
  ])("a graph that ends with %s fails by name", async (_what, node, message) => {
    const graph = new StateGraph(MessagesAnnotation).addNode("n", node).addEdge("__start__", "n").compile();
    const { outcome, opened } = await answered(graph);
    expect(outcome).toMatchObject({ kind: "failed", error: { code: "OTHER", message, retryable: false } });
    expect(opened).toEqual([]);
  });
});

describe("a runnable", () => {
  test.each([
    ["a model", () => chat],
    ["a model and a parser", () => RunnableSequence.from([chat, new StringOutputParser()])],
    [
      "a function that asks a model",
      () => RunnableLambda.from(async (given: never) => (await chat.invoke(given)).text),
    ],
  ])("%s: its text is live once, and the reply has the model's finish reason and usage", async (_what, made) => {
    server.next({ kind: "reply", text: "Hello Ada." });
    const run = await answered(made(), { kind: "runnable" });
    const { text, data, usage } = completedOf(run.outcome);
    expect([textOf(run), text]).toEqual(["Hello Ada.", "Hello Ada."]);
    expect(run.pieces.filter((piece) => textOfPiece(piece) !== "").length).toBeGreaterThan(1);
    expect(data).toMatchObject({ response_metadata: { finish_reason: "stop" } });
    expect(usage?.totalTokens).toBeGreaterThan(0);
    expect(lastRequest()).toMatchObject([{ role: "system", content: "Be {brief}." }, { role: "user" }]);
  });

  test("a failure of its model has the same words as that of a model alone", async () => {
    server.next("429");
    const { outcome } = await answered(chat, { kind: "runnable" });
    expect(outcome).toMatchObject({ kind: "failed", error: { code: "MODEL_RATE_LIMITED" } });
  });

  test("what is neither a message of a model nor a text fails by name", async () => {
    const { outcome } = await answered(
      RunnableLambda.from(() => ({ answer: 42 })),
      { kind: "runnable" },
    );
    expect(outcome).toMatchObject({ error: { message: "The runnable ended without a reply of its model." } });
  });
});

test("what of a flow cannot be supported is refused at the start, by its place", () => {
  const asking = humanInTheLoopMiddleware({ interruptOn: { weather: true } } as never);
  // Its types do not fit its own package's with exactOptionalPropertyTypes.
  const { graph } = createAgent({ model: chat, tools: [weather], middleware: [asking as never] });
  const kept = new StateGraph(MessagesAnnotation)
    .addNode("n", () => ({}))
    .addEdge("__start__", "n")
    .compile({ checkpointer: new MemorySaver(), interruptBefore: ["n"] });
  const problems = agentProblems(
    {
      good: {
        graph: loop(),
        description: "Knows.",
        instructions: "Be brief.",
        limits: { modelCalls: 3, runTimeoutMs: null },
      },
      plain: { runnable: chat },
      asks: { graph },
      kept: { graph: kept },
      agent: { graph: createAgent({ model: chat, tools: [] }) },
      other: { runnable: loop() },
      none: { runnable: 1, graph: 1 },
      more: { graph: loop(), model: "offline", limits: { toolTimeoutMs: 5, modelCalls: 0 } },
    },
    () => true,
    "",
  );
  expect(problems).toEqual([
    "agents.asks.graph must not have humanInTheLoopMiddleware: give its model and tools as an agent with approvals",
    "agents.kept.graph must be compiled without a checkpointer: its history is the session's",
    "agents.kept.graph must have neither interruptBefore nor interruptAfter: its run cannot wait for an answer",
    "agents.agent.graph must be a compiled LangGraph graph (of createAgent's agent: its graph)",
    "agents.other.runnable is a LangGraph graph: give it as graph",
    "agents.none.runnable has no place beside graph",
    "agents.none.graph must be a compiled LangGraph graph (of createAgent's agent: its graph)",
    "agents.more.model has no place beside graph",
    "agents.more.limits.modelCalls must be a whole number from 1 to 2147483647",
    "agents.more.limits.toolTimeoutMs has no place beside graph: it runs its tools itself",
  ]);
});
