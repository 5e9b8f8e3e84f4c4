import { HttpAgent as NewAgent } from "@ag-ui/client";
import { Chat } from "@ai-sdk/react";
import { HttpAgent as OldAgent } from "ag-ui-client-0";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";

import type { PageTool, SessionStore, ToolFunction } from "../../packages/client/src/client.ts";
import { callsAreAnswered, createParleyTransport } from "../../packages/client/src/kits/ai-sdk.ts";
import type { ParleyUIMessage } from "../../packages/client/src/kits/ai-sdk.ts";
import { lines, partsOf, shown, startTabs } from "../support/browser/client-tabs.ts";
import { startGateway } from "../support/gateway/gateway.ts";
import type { TestGateway } from "../support/gateway/gateway.ts";
import { payer } from "../support/model/agent-gateway.ts";
import { startOpenAI } from "../support/model/openai-server.ts";
import type { OpenAIServer, Reply } from "../support/model/openai-server.ts";
import { startTools } from "../support/model/paid-tools.ts";
import type { Tools } from "../support/model/paid-tools.ts";
import { startRedis } from "../support/redis/redis-server.ts";
import type { TestRedis } from "../support/redis/redis-server.ts";

// Tools of the page's own in parley-client, its kits and over AG-UI: the tab that has sent the message carries their calls out, others offer them.

let openai: OpenAIServer;
let paid: Tools;
let redis: TestRedis;
let gateway: TestGateway;

beforeAll(async () => {
  [openai, redis, paid] = await Promise.all([startOpenAI(), startRedis({ appendonly: false }), startTools()]);
  gateway = await startGateway({
    ...{ redis: redis.url, model: "openai:small", openai: { apiKey: "sk-test", baseUrl: openai.baseUrl } },
    ...{ agents: payer(paid.url), clientTools: true, autoTitle: false },
  });
});
afterAll(async () => {
  paid.close();
  await gateway.close();
  await Promise.all([redis.stop(), openai.close()]);
});

const tabs = startTabs(() => gateway.url);
const { clientOf, open } = tabs;
beforeEach(() => openai.behave(null));
afterEach(() => tabs.close());

/** The page's tool, which this function carries out; without one the user does. */
function map(run?: ToolFunction): readonly PageTool[] {
  const parameters = { type: "object", properties: { place: { type: "string" } } };
  const tool = { name: "show_map", description: "Shows a place on the map.", parameters };
  return [run === undefined ? tool : { ...tool, run }];
}
const paged = (run?: ToolFunction) => ({ model: "agent:paged", tools: map(run) });
/** The model calls the page's tool for each of these places. */
const shows = (...places: readonly string[]): Reply => ({
  ...{ kind: "reply", text: "Let me see.", finishReason: "tool_calls" },
  toolCalls: places.map((place) => ({ id: `map-${place}`, name: "show_map", arguments: JSON.stringify({ place }) })),
});
/** A call that waits for an approval, and one of the page's. */
const both: Reply = {
  ...{ kind: "reply", text: "Let me see.", finishReason: "tool_calls" },
  toolCalls: [
    { id: "call-Pia", name: "pay", arguments: '{"to":"Pia"}' },
    { id: "map-Rome", name: "show_map", arguments: '{"place":"Rome"}' },
  ],
};
/** What each call that the run waits for may be decided, in this tab. */
const asked = (store: SessionStore) =>
  store.getSnapshot().run?.approvals.map(({ callId, status, allowed }) => `${callId} ${status} ${allowed.join()}`);

describe.each(["websocket", "sse"] as const)("a page's tool over %s", (live) => {
  test("the tab that sent carries the call out once, the other one offers it and sees what came of it", async () => {
    const id = `paged-${live}`;
    const tabs = [open(id, live), open(id, live)] as const;
    for (const tab of tabs) await expect.poll(() => tab.getSnapshot().connection).toBe("new");
    let shownOnMap: (what: object) => void = () => undefined;
    const given: unknown[] = [];
    const there: unknown[] = [];
    tabs[1].setTools(map((args) => there.push(args)));
    openai.next(shows("Rome"));
    const run = await tabs[0].send(
      "Where is Rome?",
      paged((args, { callId, runId }) => {
        given.push([args, callId, runId]);
        return new Promise((done) => (shownOnMap = done));
      }),
    );
    const args = '{"place":"Rome"}';
    for (const tab of [...tabs, open(id, live)]) {
      await shown(tab).toEqual(["USER stored: Where is Rome?", `ASSISTANT streaming: Let me see. [RUNNING ${args} -]`]);
      expect(asked(tab)).toEqual(["map-Rome RUNNING RESULT"]);
      expect(tab.getSnapshot().acting).toEqual(tab === tabs[0] ? ["map-Rome"] : []);
    }
    expect(openai.requests.at(-1)?.body["tools"]).toMatchObject([
      { function: { name: "pay" } },
      { function: { name: "show_map", description: "Shows a place on the map." } },
    ]);
    await expect(tabs[1].runTool("map-Rome")).rejects.toMatchObject({ code: "BAD_USER_INPUT" });
    openai.behave({ kind: "reply", text: "There." });
    shownOnMap({ zoom: 3 });
    for (const tab of [...tabs, open(id, live)]) {
      await shown(tab).toEqual([
        ...["USER stored: Where is Rome?", `ASSISTANT stored: Let me see. [DONE ${args} {"zoom":3}]`],
        ...['TOOL stored: {"zoom":3}', "ASSISTANT stored: There."],
      ]);
      expect(tab.getSnapshot().acting).toEqual([]);
    }
    expect([given, there]).toEqual([[[{ place: "Rome" }, "map-Rome", run.id]], []]);
  });
});

test("what a page's tool throws tells the model that it failed, and of two calls each has its own result", async () => {
  const chat = open("thrown");
  const run: ToolFunction = ({ place }) => {
    if (place === "Atlantis") throw new Error("It is not on the map.");
  };
  openai.next(shows("Atlantis", "Rome"), { kind: "reply", text: "One is there." });
  await chat.send("Show them.", paged(run));
  await shown(chat).toEqual([
    "USER stored: Show them.",
    'ASSISTANT stored: Let me see. [FAILED {"place":"Atlantis"} It is not on the map.] [DONE {"place":"Rome"} ]',
    ...["TOOL stored: It is not on the map.", "TOOL stored: ", "ASSISTANT stored: One is there."],
  ]);
});

test("a page that is loaded again while its tool works begins the call no second time, and may tell what came of it", async () => {
  const first = clientOf();
  const before = first.session("reloaded");
  let calls = 0;
  openai.next(shows("Rome"));
  // Whoever gives tools with functions follows the run, also where no component does.
  await before.send(
    "Where is Rome?",
    paged(() => new Promise(() => (calls += 1))),
  );
  await expect.poll(() => [calls, asked(before)]).toEqual([1, ["map-Rome RUNNING RESULT"]]);
  first.close();
  const after = open("reloaded");
  after.setTools(map(() => (calls += 1)));
  await expect.poll(() => asked(after)).toEqual(["map-Rome RUNNING RESULT"]);
  await expect(after.runTool("map-Rome")).rejects.toThrow(/has been begun/);
  expect([calls, after.getSnapshot().acting]).toEqual([1, []]);
  openai.behave({ kind: "reply", text: "There." });
  await after.runTool("map-Rome", () => "The user sees it.");
  await expect
    .poll(() => lines(after).slice(2))
    .toEqual(["TOOL stored: The user sees it.", "ASSISTANT stored: There."]);
});

test("a tool without a function waits for the user in each tab: of two that answer one does; none waits for a call that is over", async () => {
  const tabs = [open("asked"), open("asked")] as const;
  openai.next(shows("Rome"));
  await tabs[0].send("Where is Rome?", paged());
  for (const tab of tabs) await expect.poll(() => asked(tab)).toEqual(["map-Rome NEEDS_RESULT BEGIN"]);
  await expect(tabs[0].runTool("map-Rome")).rejects.toThrow(/no function for the tool "show_map"/);
  openai.behave({ kind: "reply", text: "There." });
  const done: number[] = [];
  const answers = await Promise.allSettled(tabs.map((tab, at) => tab.runTool("map-Rome", () => done.push(at))));
  expect(answers.map(({ status }) => status).sort()).toEqual(["fulfilled", "rejected"]);
  expect(done).toHaveLength(1);
  for (const tab of tabs) await expect.poll(() => lines(tab).at(-1)).toBe("ASSISTANT stored: There.");
  await expect(tabs[0].runTool("map-Rome", () => "")).rejects.toMatchObject({ code: "NOT_WAITING" });
});

test("a session's tools go with what is sent, edited and made anew, and the newest functions carry out; the end of a run aborts them", async () => {
  const chat = open("session-tools");
  const seen: string[] = [];
  chat.setTools(map(() => seen.push("old")));
  openai.next(shows("Rome"));
  const run = await chat.send("Rome?", { model: "agent:paged", whenBusy: "REJECT" });
  expect(run.status).toBe("RUNNING");
  await chat.settled(run.id);
  // A component that renders again has other functions.
  chat.setTools(map(({ place }) => `new ${String(place)}`));
  openai.next(shows("Bonn"), { kind: "reply", text: "There." });
  await chat.settled((await chat.regenerate(undefined, { model: "agent:paged" })).id);
  await expect.poll(() => lines(chat).slice(2)).toEqual(["TOOL stored: new Bonn", "ASSISTANT stored: There."]);
  const [message] = chat.getSnapshot().messages;
  openai.next(shows("Oslo"));
  let aborted = false;
  chat.setTools(
    map((_args, { signal }) => {
      seen.push("begun");
      signal.addEventListener("abort", () => (aborted = true));
      return new Promise(() => undefined);
    }),
  );
  const last = await chat.edit(message?.id ?? "", "Oslo?", { model: "agent:paged" });
  await expect.poll(() => seen.at(-1)).toBe("begun");
  await chat.cancel(last.id);
  await expect.poll(() => aborted).toBe(true);
  expect(seen).toEqual(["old", "begun"]);
  await expect(chat.send("Rome?", { model: "openai:small" })).rejects.toThrow(/takes no tools of a page/);
  await chat.send("Rome?", { model: "openai:small", tools: [] });
});

test("behind the last approval of a step the page's call waits in each tab, at once", async () => {
  const tabs = [open("mixed"), open("mixed")] as const;
  openai.next(both);
  await tabs[0].send("Do it.", paged());
  for (const tab of tabs) await expect.poll(() => asked(tab)).toEqual(["call-Pia NEEDS_APPROVAL APPROVE,EDIT,REJECT"]);
  await tabs[0].respond([{ approve: { callId: "call-Pia" } }]);
  for (const tab of tabs) await expect.poll(() => asked(tab)).toEqual(["map-Rome NEEDS_RESULT BEGIN"]);
  await tabs[1].respond([{ begin: { callId: "map-Rome" } }]);
  for (const tab of tabs) await expect.poll(() => asked(tab)).toEqual(["map-Rome RUNNING RESULT"]);
  openai.behave({ kind: "reply", text: "Done." });
  await tabs[0].respond([{ result: { callId: "map-Rome", text: "Shown." } }]);
  for (const tab of tabs)
    await expect
      .poll(() => lines(tab).slice(2))
      .toEqual([...["TOOL stored: Paid Pia.", "TOOL stored: Shown.", "ASSISTANT stored: Done."]]);
});

/** A page with the AI SDK's own Chat; it sends what is answered once all is. */
function page(id: string, client = clientOf()): Chat<ParleyUIMessage> {
  return new Chat({ id, transport: createParleyTransport(client), sendAutomaticallyWhen: callsAreAnswered });
}
const body = { model: "agent:paged" };

test("useChat with the transport: the stream goes on while this tab carries a call out", async () => {
  const client = clientOf();
  client.session("ai-carried").setTools(map(({ place }) => `${String(place)} is shown.`));
  openai.next(shows("Rome"), { kind: "reply", text: "There." });
  const chat = page("ai-carried", client);
  await chat.sendMessage({ text: "Where is Rome?" }, { body });
  expect([chat.status, ...partsOf(chat)]).toEqual([
    ...["ready", "user: Where is Rome?"],
    'assistant: Let me see. [output-available {"place":"Rome"} Rome is shown.] There.',
  ]);
});

test("useChat with the transport: the stream ends where the user is asked, and goes on with addToolOutput; so behind an approval", async () => {
  const client = clientOf();
  client.session("ai-asked").setTools(map());
  const chat = page("ai-asked", client);
  openai.next(shows("Bonn", "Oslo"), { kind: "reply", text: "One is there." });
  await chat.sendMessage({ text: "Show them." }, { body });
  const available = 'assistant: Let me see. [input-available {"place":"Bonn"} -] [input-available {"place":"Oslo"} -]';
  expect([chat.status, partsOf(chat).at(-1)]).toEqual(["ready", available]);
  await chat.addToolOutput({ tool: "show_map", toolCallId: "map-Bonn", output: "Shown." });
  const failed = { state: "output-error", errorText: "No such place." } as const;
  await chat.addToolOutput({ tool: "show_map", toolCallId: "map-Oslo", ...failed });
  await expect
    .poll(() => [chat.status, partsOf(chat).at(-1)])
    .toEqual([
      "ready",
      'assistant: Let me see. [output-available {"place":"Bonn"} Shown.] [output-error {"place":"Oslo"} No such place.] One is there.',
    ]);
  openai.next(both, { kind: "reply", text: "Done." });
  await chat.sendMessage({ text: "Do it." }, { body });
  const early = 'assistant: Let me see. [approval-requested {"to":"Pia"} -] [input-streaming {"place":"Rome"} -]';
  expect(partsOf(chat).at(-1)).toBe(early);
  await chat.addToolApprovalResponse({ id: "call-Pia", approved: true });
  const late = 'assistant: Let me see. [approval-responded {"to":"Pia"} -] [input-available {"place":"Rome"} -]';
  await expect.poll(() => [chat.status, partsOf(chat).at(-1)]).toEqual(["ready", late]);
  await chat.addToolOutput({ tool: "show_map", toolCallId: "map-Rome", output: "Shown." });
  const end =
    'assistant: Let me see. [output-available {"to":"Pia"} Paid Pia.] [output-available {"place":"Rome"} Shown.] Done.';
  await expect.poll(() => [chat.status, partsOf(chat).at(-1)]).toEqual(["ready", end]);
});

interface Event {
  readonly type: string;
  readonly [field: string]: unknown;
}
/** As much of both versions' HttpAgent as is used here. */
interface Agent {
  readonly messages: readonly { readonly role: string; readonly content?: unknown }[];
  addMessage(message: object): void;
  runAgent(parameters: object, subscriber: { onEvent(given: { readonly event: unknown }): void }): Promise<unknown>;
}
type AgentClass = new (config: { readonly url: string; readonly threadId: string }) => Agent;

describe.each<readonly [string, AgentClass]>([
  ["1.0.0", NewAgent],
  ["0.0.59", OldAgent],
])("over AG-UI with @ag-ui/client %s", (name, version) => {
  /** A page, and what came in its newest run. */
  function openAgent(threadId: string) {
    const agent = new version({ url: new URL("/ag-ui", gateway.url).href, threadId });
    let events: Event[] = [];
    const run = async (more: object = {}): Promise<readonly Event[]> => {
      events = [];
      await agent.runAgent({ tools: map(), ...more }, { onEvent: ({ event }) => void events.push(event as Event) });
      return events;
    };
    const say = (id: string, content: string) => {
      agent.addMessage({ id, role: "user", content });
      return run();
    };
    const tell = (toolCallId: string, content: string, more: object = {}) =>
      agent.addMessage({ id: `result-${toolCallId}`, role: "tool", toolCallId, content, ...more });
    const shownNow = () => agent.messages.map(({ role, content = "" }) => `${role}: ${String(content)}`);
    return { agent, run, say, tell, shownNow };
  }
  const pagedThread = async (id: string) => {
    await clientOf().create({ sessionId: id, model: "agent:paged" });
    return openAgent(id);
  };
  test("a call of the page's tool ends the run; its results come as messages, once, and the next run has the rest", async () => {
    const id = `${name}-called`;
    const page = await pagedThread(id);
    openai.next(shows("Rome", "Oslo"), { kind: "reply", text: "One is there." });
    const called = await page.say("q", "Show them.");
    const types = called.map(({ type }) => type);
    expect(types.filter((type) => type === "TOOL_CALL_END")).toHaveLength(2);
    expect(types.at(-1)).toBe("RUN_FINISHED");
    expect(called.filter(({ type }) => type === "CUSTOM")).toEqual([]);
    // Who is there already knows of them: nothing has been begun yet.
    const tab = open(id);
    await expect.poll(() => asked(tab)).toEqual(["map-Rome NEEDS_RESULT BEGIN", "map-Oslo NEEDS_RESULT BEGIN"]);
    page.tell("map-Rome", "Shown.");
    page.tell("map-Oslo", "No such place.", { error: "No such place." });
    const rest = await page.run({ runId: `${id}-2` });
    expect(rest.at(-1)).toMatchObject({ type: "RUN_FINISHED" });
    const end = ["user: Show them.", "assistant: Let me see.", "tool: Shown.", "tool: No such place."];
    expect([...page.shownNow()].sort()).toEqual([...end, "assistant: One is there."].sort());
    await shown(tab).toEqual([
      "USER stored: Show them.",
      'ASSISTANT stored: Let me see. [DONE {"place":"Rome"} Shown.] [FAILED {"place":"Oslo"} No such place.]',
      ...["TOOL stored: Shown.", "TOOL stored: No such place.", "ASSISTANT stored: One is there."],
    ]);
    // The same request once more, after its answer was lost, and another page with the same list: nothing is sent.
    const requests = openai.requests.length;
    for (const runId of [`${id}-2`, `${id}-3`]) {
      const late = openAgent(id);
      late.agent.addMessage({ id: "q", role: "user", content: "Show them." });
      late.tell("map-Rome", "Shown.");
      late.tell("map-Oslo", "No such place.", { error: "No such place." });
      await late.run({ runId });
      expect(late.shownNow()).toEqual([...end, "assistant: One is there."]);
    }
    expect(openai.requests).toHaveLength(requests);
  });

  test("what an agent's own tools answered is no result of the page's; of a run that is over results are refused", async () => {
    const page = await pagedThread(`${name}-over`);
    const lost = openAgent(`${name}-over`);
    lost.agent.addMessage({ id: "q", role: "user", content: "Show it." });
    lost.tell("map-Rome", "Shown.");
    await expect(lost.run()).rejects.toThrow(/404/);
    openai.next(shows("Rome"), { kind: "reply", text: "Hello." });
    await page.say("q", "Show it.");
    await page.say("q-2", "Never mind.");
    expect(page.shownNow().at(-1)).toBe("assistant: Hello.");
    page.tell("map-Rome", "Shown.");
    await expect(page.run()).rejects.toThrow(/409/);
  });

  test("tools that do not reach the model are named, and wrong ones are told by their place", async () => {
    openai.next({ kind: "reply", text: "Hello." });
    const page = openAgent(`${name}-plain`);
    const events = await page.say("q", "Hi!");
    expect(events.find(({ type }) => type === "CUSTOM")).toMatchObject({ name: "parley_ignored", value: ["tools"] });
    const paged = await pagedThread(`${name}-wrong`);
    paged.agent.addMessage({ id: "q", role: "user", content: "Hi!" });
    await expect(paged.run({ tools: [...map(), { name: "show map", description: "x" }] })).rejects.toThrow(/400/);
    openai.next({ kind: "reply", text: "Hello." });
    await paged.run({ tools: [] });
    expect(paged.shownNow()).toEqual(["user: Hi!", "assistant: Hello."]);
  });
});
