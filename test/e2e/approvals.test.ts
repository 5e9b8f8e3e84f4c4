import { fileURLToPath } from "node:url";

import { afterAll, beforeAll, beforeEach, expect, test } from "vitest";

import { ask, cancel, send } from "../support/gateway/conversation.ts";
import { spawnGateway, startGateway } from "../support/gateway/gateway.ts";
import { execute, subscribe, type Collector } from "../support/gateway/graphql-client.ts";
import { codeOf, respond, rowsOf, runFields, runOf, type Part, type WaitingRun } from "../support/model/waiting-run.ts";
import { payer, slowPayer } from "../support/model/agent-gateway.ts";
import { startAgentGateways, type AgentGateways } from "../support/model/agent-gateways.ts";
import { pays } from "../support/model/paid-tools.ts";
import { waitUntil } from "../support/redis/redis-command.ts";
import { quotaKeys } from "../../src/redis/store/keys.ts";

// An agent whose tool needs an approval, as a chat frontend sees it. The tool's effects are counted where they happen.

const model = "agent:careful";

let raw: AgentGateways["raw"];
let openai: AgentGateways["openai"];
let tools: AgentGateways["tools"];
let here: AgentGateways["here"];
let there: AgentGateways["there"];
let options: AgentGateways["options"];
let close: AgentGateways["close"];

beforeAll(async () => {
  const started = await startAgentGateways({ maxRunsPerSubject: 20 }, (given, { baseUrl }) =>
    slowPayer(given.url, baseUrl),
  );
  ({ raw, openai, tools, here, there, options, close } = started);
});
beforeEach(() => openai.behave(null));
afterAll(() => close());

type Event =
  | { readonly __typename: "StreamOpened"; readonly session: { readonly activeRun: WaitingRun | null } }
  | { readonly __typename: "MessageAdded"; readonly message: { readonly role: string; readonly text: string } }
  | { readonly __typename: "PartChanged"; readonly index: number; readonly part: Part }
  | { readonly __typename: "RunChanged"; readonly run: WaitingRun }
  | { readonly __typename: "StreamWaiting" | "SessionUpdated" };

async function follow(url: string, sessionId: string): Promise<Collector<Event>> {
  const query = `subscription ($sessionId: String!) { sessionEvents(sessionId: $sessionId) { __typename
    ... on StreamOpened { session { activeRun { ...R } } }
    ... on MessageAdded { message { role text } }
    ... on PartChanged { index part { ...T } }
    ... on RunChanged { run { ...R } }
  } } ${runFields}`;
  const stream = subscribe<Event>(url, query, { sessionId });
  await stream.waitFor(({ __typename }) => /^Stream/.test(__typename), "the beginning");
  return stream;
}

/** A run that waits with calls of "pay". */
async function waits(sessionId: string, names: readonly string[], options: object = {}): Promise<string> {
  openai.next(pays(...names));
  const { run } = await send(here.url, sessionId, "Pay them", { model, ...options });
  await isOf(run.id, "WAITING");
  return run.id;
}

const isOf = (id: string, status: string, url = there.url) =>
  waitUntil(`it is ${status}`, async () => (await runOf(url, id))?.status === status);

const approve = (to: string) => ({ approve: { callId: `call-${to}` } });

const toldOf = ({ events }: Collector<Event>): readonly string[] =>
  events.flatMap((event) => {
    switch (event.__typename) {
      case "MessageAdded":
        return `${event.message.role} ${event.message.text}`;
      case "RunChanged":
        return `run ${event.run.status}`;
      case "PartChanged":
        return `part ${event.index} ${event.part.status ?? ""} ${event.part.decided ?? ""}`.trim();
      default:
        return [];
    }
  });

test("approve, edit and reject, one after another at two gateways: nothing begins before the last, tabs see each, the model is told", async () => {
  const [tab, other] = await Promise.all([follow(here.url, "decided"), follow(there.url, "decided")]);
  const runId = await waits("decided", ["ann", "bob", "cid"]);
  expect(await rowsOf(raw, "decided")).toEqual(["human: Pay them"]);
  const waiting = await runOf(there.url, runId);
  expect(waiting?.approvals).toMatchObject(
    ["ann", "bob", "cid"].map((to) => ({
      ...{ callId: `call-${to}`, args: { to }, status: "NEEDS_APPROVAL" },
      ...{ allowed: ["APPROVE", "EDIT", "REJECT"], decided: null, failed: null },
    })),
  );
  expect(waiting?.waitsUntil).not.toBeNull();
  // Who comes now, or reloads.
  const late = await follow(there.url, "decided");
  expect(late.events).toMatchObject([
    { session: { activeRun: { id: runId, status: "WAITING", parts: waiting?.parts } } },
  ]);

  const edit = { edit: { callId: "call-bob", args: { to: "bill" } } };
  const first = await respond(there.url, runId, [approve("ann"), edit]);
  expect(first).toMatchObject({ status: "WAITING", approvals: [{ callId: "call-cid" }] });
  expect(first.parts.slice(1)).toMatchObject([
    { status: "NEEDS_APPROVAL", decided: "APPROVE", allowed: [] },
    { status: "NEEDS_APPROVAL", decided: "EDIT", args: { to: "bill" } },
    { status: "NEEDS_APPROVAL", decided: null },
  ]);
  // The first one on a call counts, and all or none are taken.
  expect(await codeOf(respond(here.url, runId, [{ reject: { callId: "call-cid" } }, approve("ann")]))).toBe(
    "BAD_USER_INPUT",
  );
  expect(tools.effects.filter((to) => ["ann", "bill", "bob", "cid"].includes(to))).toEqual([]);

  openai.next({ kind: "reply", text: "Done." });
  await respond(here.url, runId, [{ reject: { callId: "call-cid", reason: "too dear" } }]);
  await isOf(runId, "COMPLETED");
  const rejected = "tool: The call was rejected: too dear";
  const steps = ["ai: Let me see.", "tool: Paid ann.", "tool: Paid bill.", rejected, "ai: Done."];
  expect(await rowsOf(raw, "decided")).toEqual(["human: Pay them", ...steps]);
  expect(tools.effects.filter((to) => ["ann", "bill", "bob", "cid"].includes(to)).sort()).toEqual(["ann", "bill"]);
  const asked = JSON.stringify(openai.requests.at(-1)?.messages);
  expect([asked.includes("bill"), asked.includes("too dear"), asked.includes('\\"to\\":\\"bob')]).toEqual([
    true,
    true,
    false,
  ]);
  expect((await runOf(here.url, runId))?.parts.slice(1, 4)).toMatchObject([
    { status: "DONE", decided: "APPROVE", failed: false },
    { status: "DONE", decided: "EDIT", args: { to: "bill" } },
    { status: "REJECTED", decided: "REJECT", failed: true, result: [{ text: "The call was rejected: too dear" }] },
  ]);

  for (const stream of [tab, other]) {
    await stream.waitFor((event) => event.__typename === "RunChanged" && event.run.status === "COMPLETED", "the end");
    const told = toldOf(stream);
    expect(told.slice(0, 10)).toEqual([
      ...["run RUNNING", "USER Pay them"],
      ...["part 1 NEEDS_APPROVAL", "part 2 NEEDS_APPROVAL", "part 3 NEEDS_APPROVAL", "run WAITING"],
      ...["part 1 NEEDS_APPROVAL APPROVE", "part 2 NEEDS_APPROVAL EDIT", "part 3 REJECTED REJECT", "run RUNNING"],
    ]);
    expect(told.filter((one) => !one.startsWith("part")).slice(4)).toEqual([
      ...["ASSISTANT Let me see.", "TOOL Paid ann.", "TOOL Paid bill.", "TOOL The call was rejected: too dear"],
      ...["ASSISTANT Done.", "run COMPLETED"],
    ]);
  }
  await late.waitFor((event) => event.__typename === "RunChanged" && event.run.status === "COMPLETED", "the end");
  expect(toldOf(late)[0]).toBe("part 1 NEEDS_APPROVAL APPROVE");
});

test("what is wrong with a decision is told, and changes nothing; a retry with its key is answered as the first", async () => {
  const runId = await waits("wrong", ["dan", "eli"]);
  const wrong = [
    [],
    [approve("nobody")],
    [approve("dan"), approve("dan")],
    [{ edit: { callId: "call-dan", args: { town: 1 } } }],
    [{ edit: { callId: "call-dan", args: "dan" } }],
    [{ reject: { callId: "call-dan", reason: "x".repeat(4001) } }],
  ];
  for (const decisions of wrong) expect(await codeOf(respond(here.url, runId, decisions))).toBe("BAD_USER_INPUT");
  expect((await runOf(here.url, runId))?.approvals.map(({ decided }) => decided)).toEqual([null, null]);
  const key = { idempotencyKey: "yes" };
  expect((await respond(here.url, runId, [approve("dan")], key)).approvals.length).toBe(1);
  expect((await respond(there.url, runId, [approve("dan")], key)).approvals.length).toBe(1);
  expect(await codeOf(respond(there.url, runId, [approve("eli")], key))).toBe("MESSAGE_ID_REUSED");
  openai.next({ kind: "reply", text: "Done." });
  await respond(here.url, runId, [approve("eli")]);
  await isOf(runId, "COMPLETED");
  expect(await codeOf(respond(here.url, runId, [approve("eli")]))).toBe("NOT_WAITING");
  expect((await respond(there.url, runId, [approve("dan")], key)).status).toBe("COMPLETED");
  expect(await codeOf(respond(here.url, Buffer.from("Run:wrong:none").toString("base64url"), [approve("eli")]))).toBe(
    "NOT_FOUND",
  );
});

test("many answer the same call at two gateways at once: one is taken, and the tool is begun once", async () => {
  const runId = await waits("raced", ["fay"]);
  openai.next({ kind: "reply", text: "Done." });
  const answers = await Promise.all(
    Array.from({ length: 8 }, (_, i) => codeOf(respond(i % 2 === 0 ? here.url : there.url, runId, [approve("fay")]))),
  );
  expect(answers.filter((code) => code === "taken")).toEqual(["taken"]);
  expect(answers.every((code) => ["taken", "NOT_WAITING", "BAD_USER_INPUT"].includes(code))).toBe(true);
  await isOf(runId, "COMPLETED");
  expect(tools.effects.filter((to) => to === "fay")).toEqual(["fay"]);
});

test("all are rejected: no tool runs, the step is stored, and the model goes on; a selected reply is null while it waits", async () => {
  openai.next(pays("gus"));
  const { run, reply } = await ask(here.url, "rejected", "Pay gus", { model });
  expect([run.status, reply]).toEqual(["WAITING", null]);
  openai.next({ kind: "reply", text: "Then not." });
  await respond(there.url, run.id, [{ reject: { callId: "call-gus" } }]);
  await isOf(run.id, "COMPLETED");
  const steps = ["ai: Let me see.", "tool: The call was rejected.", "ai: Then not."];
  expect(await rowsOf(raw, "rejected")).toEqual(["human: Pay gus", ...steps]);
  expect(tools.effects).not.toContain("gus");
});

test("cancelRun and INTERRUPT end it with its text alone; what was sent meanwhile waits its turn, REJECT says that it waits", async () => {
  const cancelled = await waits("cancel", ["hal"]);
  openai.behave(({ messages }) => {
    const last = messages.at(-1);
    return JSON.stringify(last).includes("Next") ? { kind: "reply", text: "Next." } : pays("hal");
  });
  const next = await send(there.url, "cancel", "Next", { model });
  expect(next.run.status).toBe("QUEUED");
  await expect(send(there.url, "cancel", "Busy", { model, whenBusy: "REJECT" })).rejects.toThrow(
    /SESSION_BUSY.*WAITING/s,
  );
  expect((await cancel(there.url, cancelled)).status).toBe("CANCELLED");
  await isOf(next.run.id, "COMPLETED");
  expect(await rowsOf(raw, "cancel")).toEqual(["human: Pay them", "ai: Let me see.", "human: Next", "ai: Next."]);
  expect((await runOf(here.url, cancelled))?.parts.at(-1)).toMatchObject({ status: "CANCELLED", allowed: [] });

  openai.behave(null);
  const interrupted = await waits("interrupt", ["ian"]);
  const { run } = await ask(there.url, "interrupt", "Stop", { model, whenBusy: "INTERRUPT" });
  expect([run.status, (await runOf(here.url, interrupted))?.status]).toEqual(["COMPLETED", "CANCELLED"]);
  expect((await rowsOf(raw, "interrupt")).slice(0, 3)).toEqual(["human: Pay them", "ai: Let me see.", "human: Stop"]);
  expect(tools.effects.filter((to) => ["hal", "ian"].includes(to))).toEqual([]);
  expect(await codeOf(respond(here.url, interrupted, [approve("ian")]))).toBe("NOT_WAITING");
});

test("its place among a subject's runs is held while it waits, and free when it has ended", async () => {
  const going = () => raw.zrange(quotaKeys("", "anonymous").going, "0", "-1");
  const before = await going();
  const waiting = [await waits("place 1", ["jim"]), await waits("place 2", ["jim"]), await waits("place 3", ["jim"])];
  await waitUntil("each has a place", async () => (await going()).length === before.length + 3);
  const [one = "", two = ""] = waiting;
  await cancel(there.url, one);
  openai.next({ kind: "reply", text: "Done." });
  await respond(there.url, two, [approve("jim")]);
  await isOf(two, "COMPLETED");
  const clear = `mutation { clearHistory(input: { sessionId: "place 3" }) { session { id } } }`;
  await execute(here.url, clear);
  await waitUntil("none has a place", async () => (await going()).length === before.length);
});

test("nobody decides in time: FAILED with APPROVAL_EXPIRED, nothing of the step is stored, and it can be tried again", async () => {
  const brief = await startGateway({ ...options, agents: payer(tools.url), approvalTimeoutSeconds: 1 });
  openai.next(pays("kim"));
  const { run } = await send(brief.url, "expired", "Pay kim", { model });
  await isOf(run.id, "FAILED");
  expect(await runOf(here.url, run.id)).toMatchObject({
    error: { code: "APPROVAL_EXPIRED", retryable: true },
    ...{ approvals: [], waitsUntil: null, reply: null },
    parts: [{ text: "Let me see." }, { status: "CANCELLED" }],
  });
  expect(await rowsOf(raw, "expired")).toEqual(["human: Pay kim"]);
  expect(await codeOf(respond(here.url, run.id, [approve("kim")]))).toBe("NOT_WAITING");
  const again = `mutation { regenerateReply(input: { sessionId: "expired", model: "${model}" }) { reply { text } } }`;
  openai.next({ kind: "reply", text: "Again." });
  expect(await execute(here.url, again)).toEqual({ regenerateReply: { reply: { text: "Again." } } });
  await brief.close();
});

test("kill -9 while it waits, and a gateway without the agent: another one goes on, once; without it MODEL_UNAVAILABLE", async () => {
  const program = fileURLToPath(new URL("../support/model/agent-gateway.ts", import.meta.url));
  const victim = await spawnGateway({ AGENT_GATEWAY: JSON.stringify({ ...options, toolUrl: tools.url }) }, program);
  openai.next(pays("lea"), pays("lea"));
  const first = await send(victim.url, "killed", "Pay lea", { model });
  const second = await send(victim.url, "without", "Pay lea", { model });
  await isOf(first.run.id, "WAITING");
  await isOf(second.run.id, "WAITING");
  await victim.kill();
  expect((await runOf(there.url, first.run.id))?.approvals).toMatchObject([
    { callId: "call-lea", args: { to: "lea" } },
  ]);
  openai.next({ kind: "reply", text: "Done." });
  await respond(there.url, first.run.id, [approve("lea")]);
  await isOf(first.run.id, "COMPLETED");
  expect(await rowsOf(raw, "killed")).toEqual(["human: Pay lea", "ai: Let me see.", "tool: Paid lea.", "ai: Done."]);
  expect(tools.effects.filter((to) => to === "lea")).toEqual(["lea"]);

  const bare = await startGateway(options);
  await respond(bare.url, second.run.id, [approve("lea")]);
  await isOf(second.run.id, "FAILED");
  expect((await runOf(here.url, second.run.id))?.error).toEqual({ code: "MODEL_UNAVAILABLE", retryable: false });
  expect(await rowsOf(raw, "without")).toEqual(["human: Pay lea"]);
  expect(tools.effects.filter((to) => to === "lea")).toEqual(["lea"]);
  await bare.close();
});

test("kill -9 in a tool that was approved: it is told that it was begun, and it is not begun again", async () => {
  const program = fileURLToPath(new URL("../support/model/agent-gateway.ts", import.meta.url));
  const given = { ...options, toolUrl: tools.url, runLeaseMs: 1500 };
  const victim = await spawnGateway({ AGENT_GATEWAY: JSON.stringify(given) }, program);
  const warm = async () => (await ask(victim.url, "warm", "Hello", { model })).run.status === "COMPLETED";
  await waitUntil("it has answered", warm);
  const inTool = await waits("killed in a tool", ["max", "ned"]);
  tools.hold("max");
  await respond(victim.url, inTool, [approve("max"), { reject: { callId: "call-ned" } }]);
  await waitUntil("max is paid", () => Promise.resolve(tools.effects.includes("max")));
  await victim.kill();
  await isOf(inTool, "FAILED");
  expect((await runOf(here.url, inTool))?.error?.code).toBe("RUN_LOST");
  const lost = "tool: The call was begun and its result was lost: it may or may not have taken effect.";
  const rejected = "tool: The call was rejected.";
  expect(await rowsOf(raw, "killed in a tool")).toEqual(["human: Pay them", "ai: Let me see.", lost, rejected]);
  expect(tools.effects.filter((to) => ["max", "ned"].includes(to))).toEqual(["max"]);
  openai.next({ kind: "reply", text: "Go on." });
  expect((await ask(there.url, "killed in a tool", "And now?", { model })).run.status).toBe("COMPLETED");
});

test("kill -9 behind the last decision, before a call is claimed: the other gateway carries the run on, and the tool begins once", async () => {
  const program = fileURLToPath(new URL("../support/model/agent-gateway.ts", import.meta.url));
  const given = { ...options, toolUrl: tools.url, runLeaseMs: 1500 };
  const victim = await spawnGateway({ AGENT_GATEWAY: JSON.stringify(given) }, program);
  const runId = await waits("killed between", ["ute", "vic"], { model: "agent:slow" });
  const model = `the model of ${victim.pid}`;
  tools.hold(model);
  const decisions = [approve("ute"), { reject: { callId: "call-vic" } }];
  expect((await respond(victim.url, runId, decisions)).status).toBe("RUNNING");
  await waitUntil("it waits for its model", () => Promise.resolve(tools.effects.includes(model)));
  expect(await rowsOf(raw, "killed between")).toEqual(["human: Pay them"]);
  const tab = await follow(there.url, "killed between");
  openai.next({ kind: "reply", text: "Done." });
  await victim.kill();
  await isOf(runId, "COMPLETED");
  const rejected = "tool: The call was rejected.";
  const steps = ["ai: Let me see.", "tool: Paid ute.", rejected, "ai: Done."];
  expect(await rowsOf(raw, "killed between")).toEqual(["human: Pay them", ...steps]);
  expect(tools.effects.filter((to) => ["ute", "vic"].includes(to))).toEqual(["ute"]);
  await tab.waitFor((event) => event.__typename === "RunChanged" && event.run.status === "COMPLETED", "the end");
  const told = ["ASSISTANT Let me see.", "TOOL Paid ute.", "TOOL The call was rejected.", "ASSISTANT Done."];
  expect(toldOf(tab).filter((one) => !one.startsWith("part"))).toEqual([...told, "run COMPLETED"]);
});

test("of arguments that a run's parts do not keep, who decides sees all the same", async () => {
  const none = await startGateway({ ...options, agents: payer(tools.url), runPartsBytes: 0 });
  openai.next(pays("ola"));
  const { run } = await send(none.url, "no parts", "Pay ola", { model });
  await isOf(run.id, "WAITING");
  expect((await runOf(none.url, run.id))?.approvals).toMatchObject([{ callId: "call-ola", args: { to: "ola" } }]);
  await cancel(none.url, run.id);
  await none.close();
});

test("a run waits twice, with whole steps between: the model sees all of it, once each", async () => {
  const runId = await waits("twice", ["pam"]);
  openai.next(pays("quin"));
  await respond(there.url, runId, [approve("pam")]);
  await waitUntil("it waits again", async () => (await runOf(here.url, runId))?.approvals[0]?.callId === "call-quin");
  expect(await rowsOf(raw, "twice")).toEqual(["human: Pay them", "ai: Let me see.", "tool: Paid pam."]);
  openai.next({ kind: "reply", text: "Both." });
  await respond(here.url, runId, [approve("quin")]);
  await isOf(runId, "COMPLETED");
  const steps = ["ai: Let me see.", "tool: Paid pam.", "ai: Let me see.", "tool: Paid quin.", "ai: Both."];
  expect(await rowsOf(raw, "twice")).toEqual(["human: Pay them", ...steps]);
  const roles = openai.requests.at(-1)?.messages.map(({ role }) => role);
  expect(roles?.slice(-5)).toEqual(["user", "assistant", "tool", "assistant", "tool"]);
  expect((await runOf(here.url, runId))?.messages.map(({ text }) => text)).toEqual([
    ...["Let me see.", "Paid pam.", "Let me see.", "Paid quin.", "Both."],
  ]);
  expect(tools.effects.filter((to) => ["pam", "quin"].includes(to))).toEqual(["pam", "quin"]);
});

test("its session expires while it waits: it is gone with it, no tool begins, and its list is not begun anew", async () => {
  const runId = await waits("short", ["tom"]);
  const brief = `mutation { updateSession(input: { sessionId: "short", ttlSeconds: 1 }) { session { id } } }`;
  await execute(here.url, brief);
  await waitUntil("it is gone", async () => (await runOf(there.url, runId)) === null);
  expect(await codeOf(respond(there.url, runId, [approve("tom")]))).toBe("NOT_FOUND");
  expect([await raw.exists("short"), tools.effects.includes("tom")]).toEqual([0, false]);
});

test("deleted while it waits: nothing is left of it; a reply that is made anew stays until the step is whole", async () => {
  const deleted = await waits("deleted", ["ray"]);
  await execute(here.url, `mutation { deleteSession(input: { sessionId: "deleted" }) { deletedId } }`);
  expect(await runOf(here.url, deleted)).toBeNull();
  expect(await codeOf(respond(here.url, deleted, [approve("ray")]))).toBe("NOT_FOUND");

  openai.next({ kind: "reply", text: "Old." });
  await ask(here.url, "anew", "Pay sue", { model });
  openai.next(pays("sue"));
  const again = `mutation { regenerateReply(input: { sessionId: "anew", model: "${model}" }) { run { id status } reply { text } } }`;
  const { regenerateReply } = await execute<{ regenerateReply: { run: { id: string; status: string } } }>(
    here.url,
    again,
  );
  expect([regenerateReply.run.status, await rowsOf(raw, "anew")]).toEqual(["WAITING", ["human: Pay sue", "ai: Old."]]);
  openai.next({ kind: "reply", text: "New." });
  await respond(there.url, regenerateReply.run.id, [approve("sue")]);
  await isOf(regenerateReply.run.id, "COMPLETED");
  expect(await rowsOf(raw, "anew")).toEqual(["human: Pay sue", "ai: Let me see.", "tool: Paid sue.", "ai: New."]);
});
