import { Chat } from "@ai-sdk/react";
import { dispatchCustomEvent } from "@langchain/core/callbacks/dispatch";
import { tool } from "@langchain/core/tools";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { z } from "zod";

import type { SessionStore } from "../../packages/client/src/client.ts";
import { callsAreAnswered, createParleyTransport, toUIMessages } from "../../packages/client/src/kits/ai-sdk.ts";
import type { ParleyUIMessage } from "../../packages/client/src/kits/ai-sdk.ts";
import { lines, partsOf, shown, startTabs } from "../support/browser/client-tabs.ts";
import { startGateway } from "../support/gateway/gateway.ts";
import type { TestGateway } from "../support/gateway/gateway.ts";
import { payer } from "../support/model/agent-gateway.ts";
import { startOpenAI } from "../support/model/openai-server.ts";
import type { OpenAIServer } from "../support/model/openai-server.ts";
import { pays, startTools } from "../support/model/paid-tools.ts";
import type { Tools } from "../support/model/paid-tools.ts";
import { startRedis } from "../support/redis/redis-server.ts";
import type { TestRedis } from "../support/redis/redis-server.ts";

// An agent's calls of tools, and the approvals that they wait for, in parley-client and its transport for the AI SDK.

let openai: OpenAIServer;
let tools: Tools;
let redis: TestRedis;
let gateway: TestGateway;

beforeAll(async () => {
  [openai, redis, tools] = await Promise.all([startOpenAI(), startRedis({ appendonly: false }), startTools()]);
  gateway = await startGateway({
    ...{ redis: redis.url, model: "openai:small", openai: { apiKey: "sk-test", baseUrl: openai.baseUrl } },
    agents: { ...payer(tools.url), teller: { model: "openai:gpt-4o-mini", description: "Tells.", tools: [tells()] } },
  });
});
afterAll(async () => {
  tools.close();
  await gateway.close();
  await Promise.all([redis.stop(), openai.close()]);
});

/** Tells how far it is before and after it asks the address. */
function tells() {
  return tool(
    async ({ to }) => {
      await dispatchCustomEvent("progress", { percent: 50 });
      const answer = await (await fetch(`${tools.url}?to=${to}`)).text();
      await dispatchCustomEvent("paid", [to]);
      return answer;
    },
    { name: "pay", description: "Pays somebody.", schema: z.object({ to: z.string() }) },
  );
}

const tabs = startTabs(() => gateway.url);
const { clientOf, open } = tabs;
beforeEach(() => openai.behave(null));
afterEach(() => {
  openai.releaseAll();
  tabs.close();
});

const waits = (store: SessionStore) => expect.poll(() => store.getSnapshot().run?.status).toBe("WAITING");

describe.each(["websocket", "sse"] as const)("over %s", (live) => {
  test("arguments stream, a tool works and answers, and the history shows the same", async () => {
    const to = `Eve-${live}`;
    tools.hold(to);
    const call = { id: "call-1", name: "pay", arguments: ['{"to":', `"${to}"}`] };
    openai.next({ kind: "gated", tokens: ["Wait."], toolCalls: [call] });
    const tabs = [open(`calls-${live}`, live), open(`calls-${live}`, live)] as const;
    for (const tab of tabs) await expect.poll(() => tab.getSnapshot().connection).toBe("new");
    await tabs[0].send("Pay.", { model: "agent:payer" });
    openai.release(2);
    for (const tab of tabs) {
      await shown(tab).toEqual(["USER stored: Pay.", 'ASSISTANT streaming: Wait. [WRITING {"to": -]']);
    }
    openai.release(2);
    for (const tab of [...tabs, open(`calls-${live}`, live)]) {
      await shown(tab).toEqual(["USER stored: Pay.", `ASSISTANT streaming: Wait. [RUNNING {"to":"${to}"} -]`]);
    }
    openai.behave({ kind: "reply", text: "It is paid." });
    tools.release(to);
    const end = [
      ...["USER stored: Pay.", `ASSISTANT stored: Wait. [DONE {"to":"${to}"} Paid ${to}.]`],
      ...[`TOOL stored: Paid ${to}.`, "ASSISTANT stored: It is paid."],
    ];
    for (const tab of [...tabs, open(`calls-${live}`, live)]) await shown(tab).toEqual(end);
  });

  test("what a tool tells while it works is `data` of the message that calls it, until the run ends", async () => {
    const to = `Una-${live}`;
    tools.hold(to);
    openai.next(pays(to));
    const tab = open(`data-${live}`, live);
    await expect.poll(() => tab.getSnapshot().connection).toBe("new");
    const { id } = await tab.send("Pay.", { model: "agent:teller" });
    const data = (store: SessionStore) =>
      store.getSnapshot().messages.flatMap((message) => message.data.map((one) => [message.text, one]));
    const callId = `call-${to}`;
    const half = ["Let me see.", { callId, name: "progress", data: { percent: 50 } }];
    await expect.poll(() => data(tab)).toEqual([half]);
    const late = open(`data-${live}`, live);
    await expect.poll(() => data(late)).toEqual([half]);
    await shown(late).toEqual(["USER stored: Pay.", `ASSISTANT streaming: Let me see. [RUNNING {"to":"${to}"} -]`]);
    openai.next({ kind: "gated", tokens: ["It is ", "paid."] });
    tools.release(to);
    openai.release(1);
    const calls = `[DONE {"to":"${to}"} Paid ${to}.]`;
    for (const store of [tab, late, open(`data-${live}`, live)]) {
      await expect.poll(() => data(store)).toEqual([half, ["Let me see.", { callId, name: "paid", data: [to] }]]);
      await expect.poll(() => lines(store)[1]).toBe(`ASSISTANT stored: Let me see. ${calls}`);
    }
    openai.releaseAll();
    expect(await tab.settled(id)).toMatchObject({ status: "COMPLETED" });
    for (const store of [tab, late, open(`data-${live}`, live)]) {
      await expect.poll(() => lines(store).at(-1)).toBe("ASSISTANT stored: It is paid.");
      await expect.poll(() => data(store)).toEqual([]);
    }
  });

  test("a call waits for an approval: one tab approves, the other one sees it, and so does a page that is loaded meanwhile", async () => {
    openai.next(pays("Ann", "Bob"));
    const id = `approved-${live}`;
    const tabs = [open(id, live), open(id, live)] as const;
    const run = await tabs[0].send("Pay them.", { model: "agent:careful" });
    const [ann, bob] = ['{"to":"Ann"}', '{"to":"Bob"}'];
    for (const tab of [...tabs, open(id, live)]) {
      await waits(tab);
      await shown(tab).toEqual([
        "USER stored: Pay them.",
        `ASSISTANT streaming: Let me see. [NEEDS_APPROVAL ${ann} -] [NEEDS_APPROVAL ${bob} -]`,
      ]);
      expect(tab.getSnapshot().run?.approvals.map(({ callId }) => callId)).toEqual(["call-Ann", "call-Bob"]);
      const [call] = tab.getSnapshot().messages.at(-1)?.toolCalls ?? [];
      expect(call?.allowed).toEqual(["APPROVE", "EDIT", "REJECT"]);
    }
    const answered = await tabs[1].respond([{ reject: { callId: "call-Bob", reason: "Not him." } }]);
    expect(answered).toMatchObject({ id: run.id, status: "WAITING" });
    for (const tab of tabs) {
      await expect.poll(() => tab.getSnapshot().run?.approvals.map(({ callId }) => callId)).toEqual(["call-Ann"]);
    }
    await shown(tabs[0]).toEqual([
      "USER stored: Pay them.",
      `ASSISTANT streaming: Let me see. [NEEDS_APPROVAL ${ann} -] [REJECTED ${bob} The call was rejected: Not him.]`,
    ]);
    await expect(tabs[0].respond([{ approve: { callId: "call-Bob" } }])).rejects.toMatchObject({
      code: "BAD_USER_INPUT",
    });
    openai.behave({ kind: "reply", text: "Done." });
    const args = { to: `Ada-${live}` };
    await tabs[0].respond([{ edit: { callId: "call-Ann", args } }]);
    const ada = JSON.stringify(args);
    for (const tab of [...tabs, open(id, live)]) {
      await shown(tab).toEqual([
        "USER stored: Pay them.",
        `ASSISTANT stored: Let me see. [DONE ${ada} Paid Ada-${live}.] [FAILED ${bob} The call was rejected: Not him.]`,
        ...[`TOOL stored: Paid Ada-${live}.`, "TOOL stored: The call was rejected: Not him."],
        "ASSISTANT stored: Done.",
      ]);
    }
    expect(await tabs[0].settled(run.id)).toMatchObject({ status: "COMPLETED", approvals: [] });
    expect(tools.effects.filter((to) => to === `Ada-${live}`)).toHaveLength(1);
    expect(tools.effects).not.toContain("Bob");
    await expect(tabs[0].respond([{ approve: { callId: "call-Ann" } }], run.id)).rejects.toMatchObject({
      code: "NOT_WAITING",
    });
  });
});

test("what is sent while a run waits interrupts it, unless it says otherwise", async () => {
  openai.next(pays("Tim"));
  const chat = open("interrupted");
  const first = await chat.send("Pay Tim.", { model: "agent:careful" });
  await waits(chat);
  const queued = await chat.send("Later.", { whenBusy: "QUEUE" });
  expect(queued.status).toBe("QUEUED");
  await chat.cancel(queued.id);
  await chat.send("Hi! I'm Jim.", { model: "openai:small" });
  expect(await chat.settled(first.id)).toMatchObject({ status: "CANCELLED" });
  await expect.poll(() => lines(chat).at(-1)).toBe("ASSISTANT stored: Hello Jim!");
  expect(tools.effects).not.toContain("Tim");
});

test("without a run there is nothing to decide on", async () => {
  const chat = open("nothing");
  await expect(chat.respond([{ approve: { callId: "x" } }])).rejects.toMatchObject({ code: "NOT_WAITING" });
});

/** A page with the AI SDK's own Chat; it sends what is decided once all is. */
function page(id: string, client = clientOf(), messages: ParleyUIMessage[] = []) {
  const transport = createParleyTransport(client);
  return new Chat<ParleyUIMessage>({ id, transport, messages, sendAutomaticallyWhen: callsAreAnswered });
}

test("useChat: arguments stream, the stream ends where a call waits, and goes on once it is approved", async () => {
  const call = { id: "call-Ann", name: "pay", arguments: ['{"to":', '"Ann"}'] };
  openai.next({ kind: "gated", tokens: ["Let me see."], toolCalls: [call] });
  const chat = page("ai-approved");
  const sent = chat.sendMessage({ text: "Pay Ann." }, { body: { model: "agent:careful" } });
  openai.release(2);
  await expect
    .poll(() => partsOf(chat))
    .toEqual(["user: Pay Ann.", 'assistant: Let me see. [input-streaming {"to": -]']);
  expect(chat.status).toBe("streaming");
  openai.release(2);
  await sent;
  const waiting = ["user: Pay Ann.", 'assistant: Let me see. [approval-requested {"to":"Ann"} -]'];
  expect([chat.status, ...partsOf(chat)]).toEqual(["ready", ...waiting]);
  // A page that is loaded meanwhile has the same, and may decide as well.
  const client = clientOf();
  const seed = await client.load("ai-approved");
  const late = page("ai-approved", client, toUIMessages(client.session("ai-approved", seed).getSnapshot().messages));
  expect(partsOf(late)).toEqual(waiting);
  await late.resumeStream();
  expect([late.status, ...partsOf(late)]).toEqual(["ready", ...waiting]);
  openai.behave({ kind: "reply", text: "It is paid." });
  await late.addToolApprovalResponse({ id: "call-Ann", approved: true });
  const end = ["user: Pay Ann.", 'assistant: Let me see. [output-available {"to":"Ann"} Paid Ann.] It is paid.'];
  await expect.poll(() => [late.status, ...partsOf(late)]).toEqual(["ready", ...end]);
  const after = await client.load("ai-approved");
  const reloaded = toUIMessages(clientOf().session("ai-approved", after).getSnapshot().messages);
  expect(partsOf(page("ai-approved", client, reloaded))).toEqual(end);
  expect(reloaded.map(({ id }) => id).slice(1)).toEqual([late.messages[1]?.id]);
  // Made anew as a whole, with all of its steps.
  openai.behave({ kind: "reply", text: "No more." });
  await late.regenerate();
  expect(partsOf(late)).toEqual(["user: Pay Ann.", "assistant: No more."]);
});

test("useChat: one call is rejected, one approved, and the rejected one says why; a reply that waits is stopped", async () => {
  openai.next(pays("Lea", "Mia"));
  const chat = page("ai-rejected");
  await chat.sendMessage({ text: "Pay them." }, { body: { model: "agent:careful" } });
  await chat.addToolApprovalResponse({ id: "call-Lea", approved: false, reason: "Not her." });
  expect(chat.status).toBe("ready");
  openai.next({ kind: "reply", text: "One is paid." });
  await chat.addToolApprovalResponse({ id: "call-Mia", approved: true });
  await expect
    .poll(() => [chat.status, partsOf(chat)[1]])
    .toEqual([
      "ready",
      'assistant: Let me see. [output-error {"to":"Lea"} The call was rejected: Not her.] [output-available {"to":"Mia"} Paid Mia.] One is paid.',
    ]);
  openai.next(pays("Zoe"));
  await chat.sendMessage({ text: "Pay Zoe." }, { body: { model: "agent:careful" } });
  expect(partsOf(chat).at(-1)).toContain("approval-requested");
  const client = clientOf();
  await client.session("ai-rejected").cancel((await client.load("ai-rejected")).session?.activeRun?.id);
  await expect.poll(async () => (await client.load("ai-rejected")).session?.activeRun ?? null).toBeNull();
  await chat.addToolApprovalResponse({ id: "call-Zoe", approved: true });
  await expect.poll(() => [chat.status, chat.error?.message]).toEqual(["error", "There is nothing that waits for it."]);
  expect(tools.effects).not.toContain("Zoe");
});
