import { afterAll, beforeAll, beforeEach, expect, test } from "vitest";

import { ask, cancel } from "../support/gateway/conversation.ts";
import { startGateway } from "../support/gateway/gateway.ts";
import { execute } from "../support/gateway/graphql-client.ts";
import { payer } from "../support/model/agent-gateway.ts";
import { startAgentGateways, type AgentGateways } from "../support/model/agent-gateways.ts";
import type { Reply } from "../support/model/openai-server.ts";
import { codeOf, respond, rowsOf, runFields, runOf, type WaitingRun } from "../support/model/waiting-run.ts";
import { waitUntil } from "../support/redis/redis-command.ts";

// Tools of the page: it gives them with its message, begins their calls and brings their results.

const model = "agent:paged";
const parameters = { type: "object", properties: { zoom: { type: "number" } }, required: ["zoom"] };
const tools = [{ name: "show_map", description: "Shows the map.", parameters }];

let raw: AgentGateways["raw"];
let openai: AgentGateways["openai"];
let paid: AgentGateways["tools"];
let here: AgentGateways["here"];
let there: AgentGateways["there"];
let options: AgentGateways["options"];
let close: AgentGateways["close"];

beforeAll(async () => {
  const started = await startAgentGateways({ clientTools: true }, ({ url }) => ({ agents: payer(url) }));
  ({ raw, openai, tools: paid, here, there, options, close } = started);
});
beforeEach(() => openai.behave(null));
afterAll(() => close());

const calls = (...asked: readonly (readonly [callId: string, name: string, args: object])[]): Reply => ({
  kind: "reply",
  text: "Let me see.",
  finishReason: "tool_calls",
  toolCalls: asked.map(([id, name, args]) => ({ id, name, arguments: JSON.stringify(args) })),
});

async function send(url: string, sessionId: string, more: object = {}): Promise<WaitingRun> {
  const query = `mutation ($input: SendMessageInput!) { sendMessage(input: $input) { run { ...R } } } ${runFields}`;
  const input = { sessionId, text: "Show it", model, tools, ...more };
  return (await execute<{ sendMessage: { run: WaitingRun } }>(url, query, { input })).sendMessage.run;
}

/** A run that waits with calls of "show_map" by these ids. */
async function waits(sessionId: string, ...callIds: readonly string[]): Promise<string> {
  openai.next(calls(...callIds.map((id) => [id, "show_map", { zoom: 3 }] as const)));
  const { id } = await send(here.url, sessionId);
  await isOf(id, "WAITING");
  return id;
}

const isOf = (id: string, status: string) =>
  waitUntil(`it is ${status}`, async () => (await runOf(there.url, id))?.status === status);

const begin = (callId: string) => ({ begin: { callId } });
const result = (callId: string, more: object = { text: "Shown." }) => ({ result: { callId, ...more } });

test("of two tabs one begins a call; its result goes to the model at another gateway; the next turn has the tools no more", async () => {
  const runId = await waits("map", "m1");
  expect(openai.requests.at(-1)?.body["tools"]).toMatchObject([
    { function: { name: "pay" } },
    { function: { name: "show_map", description: "Shows the map.", parameters } },
  ]);
  expect((await runOf(there.url, runId))?.approvals).toMatchObject([
    { callId: "m1", args: { zoom: 3 }, status: "NEEDS_RESULT", allowed: ["BEGIN"], decided: null },
  ]);
  expect(await codeOf(respond(here.url, runId, [result("m1")]))).toBe("BAD_USER_INPUT");
  const tabs = await Promise.all(
    [here, there, here, there].map(({ url }) => codeOf(respond(url, runId, [begin("m1")]))),
  );
  expect(tabs.sort()).toEqual([...Array<string>(3).fill("BAD_USER_INPUT"), "taken"]);
  await expect(respond(there.url, runId, [begin("m1")])).rejects.toThrow(/has been begun/);
  expect((await runOf(here.url, runId))?.approvals).toMatchObject([
    { callId: "m1", status: "RUNNING", allowed: ["RESULT"], decided: "BEGIN" },
  ]);

  openai.next(calls(["m2", "show_map", { zoom: 4 }]));
  await respond(there.url, runId, [result("m1")]);
  await waitUntil("it calls again", async () => (await runOf(here.url, runId))?.approvals[0]?.callId === "m2");
  await respond(here.url, runId, [begin("m2")]);
  openai.next({ kind: "reply", text: "There it is." });
  await respond(here.url, runId, [result("m2", { content: [{ text: "No map." }], failed: true })]);
  await isOf(runId, "COMPLETED");
  expect(await rowsOf(raw, "map")).toEqual([
    ...["human: Show it", "ai: Let me see.", "tool: Shown.", "ai: Let me see.", "tool: No map.", "ai: There it is."],
  ]);
  expect((await runOf(here.url, runId))?.parts.filter(({ callId }) => callId)).toMatchObject([
    { callId: "m1", status: "DONE", decided: "RESULT", failed: false, result: [{ text: "Shown." }] },
    { callId: "m2", status: "FAILED", decided: "RESULT", failed: true },
  ]);
  openai.next({ kind: "reply", text: "Bye." });
  await ask(there.url, "map", "Bye", { model });
  expect(openai.requests.at(-1)?.body["tools"]).toMatchObject([{ function: { name: "pay" } }]);
});

test("beside an approval: the page begins when that is there, and the agent's tool when the page's result is", async () => {
  openai.next(calls(["p1", "pay", { to: "ann" }], ["m1", "show_map", { zoom: 3 }]));
  const { id } = await send(here.url, "mixed");
  await isOf(id, "WAITING");
  expect((await runOf(here.url, id))?.approvals.map(({ callId }) => callId)).toEqual(["p1"]);
  await expect(respond(here.url, id, [begin("m1")])).rejects.toThrow(/wait for an approval/);
  await expect(respond(here.url, id, [{ approve: { callId: "m1" } }])).rejects.toThrow(
    /may not be decided|may not begin/,
  );
  const approved = await respond(there.url, id, [{ approve: { callId: "p1" } }]);
  expect(approved.approvals).toMatchObject([{ callId: "m1", status: "NEEDS_RESULT", allowed: ["BEGIN"] }]);
  await respond(here.url, id, [begin("m1")]);
  expect(paid.effects).not.toContain("ann");
  openai.next({ kind: "reply", text: "Both." });
  const long = "x".repeat(5000);
  await respond(here.url, id, [result("m1", { text: long })]);
  await isOf(id, "COMPLETED");
  expect(paid.effects.filter((to) => to === "ann")).toEqual(["ann"]);
  const cut = `tool: ${"x".repeat(1000)}… (cut off: it was too long)`;
  expect(await rowsOf(raw, "mixed")).toEqual([
    ...["human: Show it", "ai: Let me see.", "tool: Paid ann.", cut, "ai: Both."],
  ]);
});

test("a run that ends while a page acts: what was begun is told as unknown, the rest as not begun; one that nobody began leaves no step", async () => {
  const begun = await waits("cancelled", "m1", "m2");
  await respond(here.url, begun, [begin("m1")]);
  await cancel(there.url, begun);
  const lost = "tool: The call was begun and its result was lost: it may or may not have taken effect.";
  expect(await rowsOf(raw, "cancelled")).toEqual([
    ...["human: Show it", "ai: Let me see.", lost, "tool: The call was not begun: the run ended before."],
  ]);
  expect((await runOf(here.url, begun))?.parts.slice(1)).toMatchObject([
    { callId: "m1", status: "UNKNOWN", allowed: [] },
    { callId: "m2", status: "CANCELLED", allowed: [] },
  ]);
  expect(await codeOf(respond(here.url, begun, [result("m1")]))).toBe("NOT_WAITING");

  const brief = await startGateway({ ...options, agents: payer(paid.url), approvalTimeoutSeconds: 1 });
  openai.next(calls(["m1", "show_map", { zoom: 3 }]));
  const late = await send(brief.url, "late");
  await isOf(late.id, "FAILED");
  expect((await runOf(here.url, late.id))?.error).toEqual({ code: "APPROVAL_EXPIRED", retryable: true });
  expect(await rowsOf(raw, "late")).toEqual(["human: Show it"]);
  await brief.close();
});

test("tools stay with a message that waits its turn, and with a reply that is made anew", async () => {
  const first = await waits("queued", "m1");
  const queued = await send(there.url, "queued", { text: "And then" });
  expect(queued.status).toBe("QUEUED");
  openai.behave(() => calls(["m2", "show_map", { zoom: 5 }]));
  await cancel(here.url, first);
  await isOf(queued.id, "WAITING");
  expect((await runOf(here.url, queued.id))?.approvals).toMatchObject([{ callId: "m2", status: "NEEDS_RESULT" }]);
  await cancel(here.url, queued.id);
  const again = `mutation ($input: RegenerateReplyInput!) { regenerateReply(input: $input) { run { id } } }`;
  const input = { sessionId: "queued", model, tools };
  const { regenerateReply } = await execute<{ regenerateReply: { run: { id: string } } }>(here.url, again, { input });
  await isOf(regenerateReply.run.id, "WAITING");
  await cancel(here.url, regenerateReply.run.id);
});

test("what is wrong with tools is told by its place, and nothing is stored", async () => {
  const one = tools[0];
  const wrong: readonly (readonly [object, RegExp])[] = [
    [{ model: "openai:gpt-4o-mini" }, /takes no tools of a page/],
    [{ model: "agent:careful" }, /takes no tools of a page/],
    [{ model: undefined }, /openai:gpt-4o-mini takes no tools of a page/],
    [{ tools: [{ ...one, name: "show map" }] }, /input\.tools\[0\]\.name/],
    [{ tools: [one, one] }, /input\.tools\[1\]\.name/],
    [{ tools: [{ ...one, name: "pay" }] }, /The agent has a tool of this name/],
    [{ tools: [{ ...one, parameters: [] }] }, /input\.tools\[0\]\.parameters/],
    [{ tools: [{ ...one, parameters: { type: "string" } }] }, /input\.tools\[0\]\.parameters/],
    [{ tools: [{ ...one, parameters: { type: "object", properties: { a: 1 } } }] }, /input\.tools\[0\]\.parameters/],
    [{ tools: [{ ...one, parameters: { type: "object", required: "a" } }] }, /input\.tools\[0\]\.parameters/],
    [{ tools: Array.from({ length: 33 }, (_, i) => ({ ...one, name: `t${i}` })) }, /at most 32/],
    [{ tools: [{ ...one, description: "x".repeat(65_536) }] }, /at most 65536 bytes/],
  ];
  for (const [more, words] of wrong) await expect(send(here.url, "wrong", more)).rejects.toThrow(words);
  const off = await startGateway({ ...options, agents: payer(paid.url), clientTools: false });
  await expect(send(off.url, "wrong")).rejects.toThrow(/CLIENT_TOOLS is off/);
  await off.close();
  expect(await rowsOf(raw, "wrong")).toEqual([]);
});
