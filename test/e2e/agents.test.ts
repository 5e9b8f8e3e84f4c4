import { fileURLToPath } from "node:url";

import { ConversationChain } from "@langchain/classic/chains";
import { BufferMemory } from "@langchain/classic/memory";
import { tool } from "@langchain/core/tools";
import { MessagesAnnotation, StateGraph } from "@langchain/langgraph";
import { ToolNode, toolsCondition } from "@langchain/langgraph/prebuilt";
import { ChatOpenAI } from "@langchain/openai";
import { afterAll, beforeAll, beforeEach, expect, test } from "vitest";
import { z } from "zod";

import { ask, cancel, send, texts } from "../support/gateway/conversation.ts";
import { spawnGateway, startGateway } from "../support/gateway/gateway.ts";
import { execute, subscribe, type Collector } from "../support/gateway/graphql-client.ts";
import { payer } from "../support/model/agent-gateway.ts";
import { startAgentGateways, type AgentGateways } from "../support/model/agent-gateways.ts";
import { rowsOf } from "../support/model/waiting-run.ts";
import { pays } from "../support/model/paid-tools.ts";
import { waitUntil } from "../support/redis/redis-command.ts";
import { quotaKeys } from "../../src/redis/store/keys.ts";
import { IoRedisHistory } from "../support/store/ioredis-history.ts";

// An agent with a tool, as a chat frontend and a LangChain program see it. The tool's effects are counted where they happen.

/** Of the process that is killed: its end comes within the test. */
const leaseMs = 1500;
const model = "agent:payer";

let raw: AgentGateways["raw"];
let openai: AgentGateways["openai"];
let tools: AgentGateways["tools"];
let here: AgentGateways["here"];
let there: AgentGateways["there"];
let options: AgentGateways["options"];
let close: AgentGateways["close"];

beforeAll(async () => {
  const started = await startAgentGateways(
    { models: ["offline"], maxTokensPerDay: 1_000_000, offlineWordDelayMs: 0 },
    ({ url }) => ({ agents: payer(url) }),
  );
  ({ raw, openai, tools, here, there, options, close } = started);
});
beforeEach(() => openai.behave(null));
afterAll(() => close());

interface Part {
  readonly __typename: string;
  readonly name?: string;
  readonly argsText?: string;
  readonly args?: unknown;
  readonly status?: string;
  readonly result?: readonly { readonly text?: string }[];
  readonly text?: string;
}

interface AgentRun {
  readonly id: string;
  readonly status: string;
  readonly replyId: string;
  readonly text: string;
  readonly parts: readonly Part[];
  readonly messages: readonly { readonly role: string; readonly text: string }[];
  readonly reply: { readonly text: string } | null;
  readonly error: { readonly code: string } | null;
  readonly notes: readonly string[];
  readonly usage: { readonly totalTokens: number } | null;
}

type Event =
  | { readonly __typename: "StreamWaiting" }
  | { readonly __typename: "StreamOpened"; readonly session: { readonly activeRun: AgentRun | null } }
  | { readonly __typename: "MessageAdded"; readonly message: { readonly role: string; readonly text: string } }
  | { readonly __typename: "ReplyProgress"; readonly index: number; readonly offset: number; readonly text: string }
  | { readonly __typename: "PartAdded" | "PartChanged"; readonly index: number; readonly part: Part }
  | { readonly __typename: "PartProgress"; readonly index: number; readonly offset: number; readonly text: string }
  | { readonly __typename: "RunChanged"; readonly run: AgentRun }
  | { readonly __typename: "SessionUpdated" };

const partFields = `fragment P on RunPart { __typename
  ... on TextPart { text } ... on ReasoningPart { text }
  ... on ToolPart { name argsText args status result { ... on TextBlock { text } } }
}`;
const runFields = `fragment R on Run {
  id status replyId text parts { ...P } messages { role text } reply { text } error { code } notes usage { totalTokens }
} ${partFields}`;

async function follow(url: string, sessionId: string): Promise<Collector<Event>> {
  const query = `subscription ($sessionId: String!) { sessionEvents(sessionId: $sessionId) { __typename
    ... on StreamOpened { session { activeRun { ...R } } }
    ... on MessageAdded { message { role text } }
    ... on ReplyProgress { index offset text }
    ... on PartAdded { index part { ...P } }
    ... on PartChanged { index part { ...P } }
    ... on PartProgress { index offset text }
    ... on RunChanged { run { ...R } }
  } } ${runFields}`;
  const stream = subscribe<Event>(url, query, { sessionId });
  await stream.waitFor(({ __typename }) => /^Stream/.test(__typename), "the beginning");
  return stream;
}

async function runOf(url: string, id: string): Promise<AgentRun | null> {
  const query = `query ($id: ID!) { node(id: $id) { ... on Run { ...R } } } ${runFields}`;
  return (await execute<{ node: AgentRun | null }>(url, query, { id })).node;
}

/** The tokens that have been counted today. */
async function spent(): Promise<number> {
  const counts = await raw.hvals(quotaKeys("", "anonymous").tokens);
  return counts.reduce((sum, count) => sum + Number(count), 0);
}

/** The events without how they are cut, a line each. */
function outline({ events }: Collector<Event>): readonly string[] {
  const lines = events.map((event) => {
    switch (event.__typename) {
      case "MessageAdded":
        return `${event.message.role} ${event.message.text}`;
      case "RunChanged":
        return `run ${event.run.status}`;
      case "PartAdded":
        return `part ${event.index} ${event.part.name ?? ""}`;
      case "PartChanged":
        return `part ${event.index} ${event.part.status ?? ""}`;
      case "ReplyProgress":
        return `text ${event.index}`;
      default:
        return event.__typename;
    }
  });
  const parts = lines.filter((line) => !/^(?:Stream|PartProgress|SessionUpdated)/.test(line));
  return parts.filter((line, i) => line !== parts[i - 1]);
}

const ended = (runId: string) => (event: Event) =>
  event.__typename === "RunChanged" &&
  event.run.id === runId &&
  event.run.error === null &&
  event.run.status !== "RUNNING";

test("`models` has the agent, with what it may call", async () => {
  const query = `{ models { name kind description tools { name description parameters needsApproval } } }`;
  const { models } = await execute<{ models: readonly object[] }>(here.url, query);
  expect(models).toMatchObject([
    { name: "openai:gpt-4o-mini", kind: "MODEL", description: null, tools: [] },
    { name: "offline", kind: "MODEL" },
    {
      ...{ name: model, kind: "AGENT", description: "Pays." },
      tools: [
        {
          ...{ name: "pay", description: "Pays somebody.", needsApproval: false },
          parameters: { type: "object", properties: { to: { type: "string" } }, required: ["to"] },
        },
      ],
    },
    { name: "agent:careful", kind: "AGENT", tools: [{ name: "pay", needsApproval: true }] },
    { name: "agent:paged", kind: "AGENT", tools: [{ name: "pay", needsApproval: true }] },
  ]);
});

test("two tabs at two gateways and one that comes late see each step; LangChain reads the list and goes on with it", async () => {
  const id = "seen";
  const tabs = [await follow(here.url, id), await follow(there.url, id)];
  const before = await spent();
  tools.hold("ann");
  openai.next(pays("ann", "bob"), { kind: "reply", text: "Both are paid." });
  const { run } = await send(here.url, id, "Pay ann and bob", { model });
  const running = (event: Event) => event.__typename === "PartChanged" && event.part.status === "DONE";
  for (const tab of tabs) await tab.waitFor(running, "bob is paid");
  // A step is in the history when it is whole.
  expect(await rowsOf(raw, id)).toEqual(["human: Pay ann and bob"]);
  // The first request to the model is counted while the run goes on.
  await expect.poll(async () => (await spent()) - before).toBeGreaterThan(0);
  const first = (await spent()) - before;
  const late = await follow(there.url, id);
  const [opened] = late.events;
  const soFar = opened?.__typename === "StreamOpened" ? opened.session.activeRun : null;
  expect(soFar?.parts).toMatchObject([
    { __typename: "TextPart", text: "Let me see." },
    { __typename: "ToolPart", name: "pay", args: { to: "ann" }, status: "RUNNING", result: [] },
    { __typename: "ToolPart", args: { to: "bob" }, status: "DONE", result: [{ text: "Paid bob." }] },
  ]);
  tools.release("ann");
  for (const tab of [...tabs, late]) await tab.waitFor(ended(run.id), "the end");
  const told = [
    ...["run RUNNING", "USER Pay ann and bob", "text 0", "part 1 pay", "part 2 pay"],
    ...["part 1 RUNNING", "part 2 RUNNING", "part 2 DONE", "part 1 DONE"],
    ...["ASSISTANT Let me see.", "TOOL Paid ann.", "TOOL Paid bob.", "text 3"],
    ...["ASSISTANT Both are paid.", "run COMPLETED"],
  ];
  for (const tab of tabs) expect(outline(tab)).toEqual(told);
  expect(outline(late)).toEqual(told.slice(8));
  expect(await rowsOf(raw, id)).toEqual([
    ...["human: Pay ann and bob", "ai: Let me see.", "tool: Paid ann.", "tool: Paid bob.", "ai: Both are paid."],
  ]);
  const made = await runOf(there.url, run.id);
  expect(made).toMatchObject({
    ...{ status: "COMPLETED", text: "Both are paid.", reply: { text: "Both are paid." } },
    parts: [
      { text: "Let me see." },
      { status: "DONE", result: [{ text: "Paid ann." }] },
      { status: "DONE" },
      { __typename: "TextPart", text: "Both are paid." },
    ],
    messages: [
      { role: "ASSISTANT", text: "Let me see." },
      { role: "TOOL", text: "Paid ann." },
      { role: "TOOL", text: "Paid bob." },
      { role: "ASSISTANT", text: "Both are paid." },
    ],
  });
  const total = made?.usage?.totalTokens ?? 0;
  expect(total).toBeGreaterThan(first);
  await expect.poll(async () => (await spent()) - before).toBe(total);
  expect(tools.effects.filter((to) => to === "ann" || to === "bob")).toEqual(["ann", "bob"]);
  for (const tab of [...tabs, late]) tab.close();

  // The conversation goes on with a model alone, with the offline model, with the agent, and in a LangChain program.
  expect((await ask(there.url, id, "Thanks")).run.status).toBe("COMPLETED");
  expect(openai.requests.at(-1)?.messages.map(({ role }) => role)).toEqual([
    ...["user", "assistant", "tool", "tool", "assistant", "user"],
  ]);
  expect((await ask(there.url, id, "My name is Eve", { model: "offline" })).run.status).toBe("COMPLETED");
  expect((await ask(here.url, id, "And now?", { model })).run.status).toBe("COMPLETED");
  const llm = new ChatOpenAI({ model: "x", apiKey: "sk-x", configuration: { baseURL: openai.baseUrl } });
  const memory = new BufferMemory({ returnMessages: true, chatHistory: new IoRedisHistory(raw, id) });
  await new ConversationChain({ llm, memory }).invoke({ input: "From LangChain" });
  expect((await texts(here.url, id)).at(-2)).toBe("USER: From LangChain");
});

test("a cancel at another gateway reaches the tool; the history says what had begun", async () => {
  tools.hold("cid");
  openai.next(pays("cid"));
  const { run } = await send(here.url, "cancelled", "Pay cid", { model });
  await waitUntil("cid is paid", () => Promise.resolve(tools.effects.includes("cid")));
  const before = tools.abandoned;
  expect((await cancel(there.url, run.id)).status).toBe("CANCELLED");
  await waitUntil("the tool's request is given up", () => Promise.resolve(tools.abandoned > before));
  expect(await rowsOf(raw, "cancelled")).toEqual([
    ...["human: Pay cid", "ai: Let me see."],
    "tool: The call was begun and its result was lost: it may or may not have taken effect.",
  ]);
  expect((await runOf(here.url, run.id))?.parts).toMatchObject([{ __typename: "TextPart" }, { status: "UNKNOWN" }]);
  expect((await ask(here.url, "cancelled", "Go on", { model })).run.status).toBe("COMPLETED");
});

test("SIGKILL while the model writes a call, in a tool, and between two answers: no tool begins twice, what was begun is told", async () => {
  const program = fileURLToPath(new URL("../support/model/agent-gateway.ts", import.meta.url));
  const victim = await spawnGateway(
    { AGENT_GATEWAY: JSON.stringify({ ...options, runLeaseMs: leaseMs, toolUrl: tools.url }) },
    program,
  );
  // The first turn imports LangChain, which a lease so short may not outlast.
  const first = async () => (await ask(victim.url, "first", "Hello", { model })).run.status === "COMPLETED";
  await waitUntil("it has answered", first);
  for (const to of ["dan", "eli"]) tools.hold(to);
  openai.behave(({ messages }) => {
    const text = JSON.stringify(messages.at(-1));
    if (text.includes("in a tool")) return pays("dan");
    if (text.includes("between")) return pays("fay", "eli");
    return { kind: "gated", tokens: ["Let me ", "see."] };
  });
  const writing = await send(victim.url, "killed 1", "while it writes", { model });
  const running = await send(victim.url, "killed 2", "in a tool", { model });
  const between = await send(victim.url, "killed 3", "between", { model });
  const statuses = async (id: string) => (await runOf(there.url, id))?.parts.map(({ status }) => status) ?? [];
  await waitUntil("both tools are begun, one has answered", async () => {
    return (await statuses(running.run.id)).includes("RUNNING") && (await statuses(between.run.id)).includes("DONE");
  });
  await waitUntil("each is paid", () => Promise.resolve(["dan", "eli"].every((to) => tools.effects.includes(to))));
  await victim.kill();
  const runs = [writing, running, between];
  for (const { run } of runs) {
    await waitUntil("it is closed", async () => (await runOf(there.url, run.id))?.error?.code === "RUN_LOST");
  }
  const lost = "tool: The call was begun and its result was lost: it may or may not have taken effect.";
  expect(await rowsOf(raw, "killed 1")).toEqual(["human: while it writes"]);
  expect(await rowsOf(raw, "killed 2")).toEqual(["human: in a tool", "ai: Let me see.", lost]);
  expect(await rowsOf(raw, "killed 3")).toEqual(["human: between", "ai: Let me see.", "tool: Paid fay.", lost]);
  expect(tools.effects.filter((to) => ["dan", "eli", "fay"].includes(to)).sort()).toEqual(["dan", "eli", "fay"]);
  openai.behave(null);
  expect((await ask(there.url, "killed 3", "And now?", { model })).run.status).toBe("COMPLETED");
});

test("RUN_PARTS_BYTES: a longer result and longer arguments are left out of the run's parts, a note says so, and the rows have them", async () => {
  const brief = await startGateway({ ...options, agents: payer(tools.url), runPartsBytes: 1500 });
  const long = "x".repeat(2000);
  const toolCalls = [long, "gil"].map((to, i) => ({ id: `c${i}`, name: "pay", arguments: JSON.stringify({ to }) }));
  openai.next({ kind: "reply", text: "Let me see.", finishReason: "tool_calls", toolCalls });
  openai.next({ kind: "reply", reasoning: ["Both."], text: "Done." });
  const { run } = await ask(brief.url, "long result", "Pay them", { model });
  const read = await runOf(there.url, run.id);
  expect(read?.parts.slice(1)).toMatchObject([
    { argsText: "", args: null, status: "DONE", result: [] },
    { args: { to: "gil" }, status: "DONE", result: [{ text: "Paid gil." }] },
    { __typename: "ReasoningPart", text: "Both." },
    { text: "Done." },
  ]);
  expect(read?.notes).toEqual([
    "Of what tools were given and have answered not all is among the run's parts: it was too long.",
  ]);
  expect(read?.messages.slice(1, 3)).toMatchObject([{ text: `Paid ${long}.` }, { text: "Paid gil." }]);
  await brief.close();
});

test("a compiled graph answers as an agent does: its steps are live and in the list, and the conversation goes on", async () => {
  const id = "graph";
  const pay = tool(({ to }) => `Paid ${to}.`, {
    name: "pay",
    description: "Pays.",
    schema: z.object({ to: z.string() }),
  });
  const chat = new ChatOpenAI({
    model: "x",
    apiKey: "sk-x",
    maxRetries: 0,
    configuration: { baseURL: openai.baseUrl },
  });
  const graph = new StateGraph(MessagesAnnotation)
    .addNode("model", async ({ messages }) => ({ messages: [await chat.bindTools([pay]).invoke(messages)] }))
    .addNode("tools", new ToolNode([pay]))
    .addEdge("__start__", "model")
    .addConditionalEdges("model", toolsCondition)
    .addEdge("tools", "model")
    .compile();
  const agents = { clerk: { graph, description: "Pays by a graph." }, plain: { runnable: chat } };
  const gateway = await startGateway({ ...options, agents });
  try {
    const { models } = await execute<{ models: readonly object[] }>(
      gateway.url,
      "{ models { name kind description tools { name } } }",
    );
    expect(models.slice(2)).toEqual([
      { name: "agent:clerk", kind: "AGENT", description: "Pays by a graph.", tools: [] },
      { name: "agent:plain", kind: "AGENT", description: null, tools: [] },
    ]);
    const tab = await follow(gateway.url, id);
    openai.next(pays("ann"), { kind: "reply", text: "She is paid." });
    const { run } = await send(gateway.url, id, "Pay ann", { model: "agent:clerk" });
    await tab.waitFor(ended(run.id), "the end");
    expect(outline(tab)).toEqual([
      ...["run RUNNING", "USER Pay ann", "text 0", "part 1 pay", "part 1 RUNNING", "part 1 DONE"],
      ...["ASSISTANT Let me see.", "TOOL Paid ann.", "text 2", "ASSISTANT She is paid.", "run COMPLETED"],
    ]);
    tab.close();
    expect((await ask(gateway.url, id, "Thanks", { model: "agent:plain" })).run.status).toBe("COMPLETED");
    expect((await ask(gateway.url, id, "Bye", { model: "openai:gpt-4o-mini" })).run.status).toBe("COMPLETED");
    expect(openai.requests.at(-1)?.messages.map(({ role }) => role)).toEqual([
      ...["user", "assistant", "tool", "assistant", "user", "assistant", "user"],
    ]);
    expect((await rowsOf(raw, id)).slice(0, 4)).toEqual([
      ...["human: Pay ann", "ai: Let me see.", "tool: Paid ann.", "ai: She is paid."],
    ]);
  } finally {
    await gateway.close();
  }
});
