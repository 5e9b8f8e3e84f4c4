import { readFile, writeFile } from "node:fs/promises";
import { stripTypeScriptTypes } from "node:module";
import { join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";

import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";

import { createParleyClient } from "../../packages/client/src/client.ts";
import type { ParleyClient } from "../../packages/client/src/client.ts";
import { ParleyAgent as NewAgent } from "../../packages/client/src/kits/ag-ui.ts";
import { startGateway } from "../support/gateway/gateway.ts";
import type { TestGateway } from "../support/gateway/gateway.ts";
import { secret, tokenFor } from "../support/gateway/tokens.ts";
import { payer } from "../support/model/agent-gateway.ts";
import { startOpenAI } from "../support/model/openai-server.ts";
import type { OpenAIServer } from "../support/model/openai-server.ts";
import { pays, startTools } from "../support/model/paid-tools.ts";
import type { Tools } from "../support/model/paid-tools.ts";
import { startRedis } from "../support/redis/redis-server.ts";
import { temporaryDirectory } from "../support/redis/server-process.ts";
import type { TestRedis } from "../support/redis/redis-server.ts";

// parley-client/ag-ui with each version of @ag-ui/client that it is for.

let openai: OpenAIServer;
let tools: Tools;
let redis: TestRedis;
let gateway: TestGateway;

beforeAll(async () => {
  [openai, tools, redis] = await Promise.all([startOpenAI(), startTools(), startRedis({ appendonly: false })]);
  gateway = await startGateway({
    ...{ redis: redis.url, model: "agent:careful", agents: payer(tools.url), clientTools: true },
    openai: { apiKey: "sk-test", baseUrl: openai.baseUrl },
    auth: { kind: "jwt", key: { secret }, issuer: null, audience: null, clockSkewSeconds: 0, cookie: null },
  });
});
afterAll(async () => {
  tools.close();
  await gateway.close();
  await Promise.all([redis.stop(), openai.close()]);
});

const closing: (() => void)[] = [];
beforeEach(() => openai.behave(null));
afterEach(() => {
  openai.releaseAll();
  for (const close of closing.splice(0)) close();
});

async function clientOf(): Promise<ParleyClient> {
  const token = await tokenFor("ada");
  const client = createParleyClient({ url: gateway.url, token: () => token });
  closing.push(() => client.close());
  return client;
}

/** The very same source, over that package. */
async function agentOf(name: string): Promise<typeof NewAgent> {
  const source = fileURLToPath(new URL("../../packages/client/src/kits/ag-ui.ts", import.meta.url));
  const code = stripTypeScriptTypes(await readFile(source, "utf8"));
  const file = join(await temporaryDirectory(), "ag-ui.mjs");
  await writeFile(file, code.replace('"@ag-ui/client"', JSON.stringify(import.meta.resolve(name))));
  return ((await import(pathToFileURL(file).href)) as { ParleyAgent: typeof NewAgent }).ParleyAgent;
}

describe.each(["1.0.0", "0.0.59"] as const)("with @ag-ui/client %s", (version) => {
  let ParleyAgent: typeof NewAgent;
  beforeAll(async () => {
    const { HttpAgent } = version === "0.0.59" ? await import("ag-ui-client-0") : await import("@ag-ui/client");
    ParleyAgent = version === "0.0.59" ? await agentOf("ag-ui-client-0") : NewAgent;
    expect(Object.getPrototypeOf(ParleyAgent)).toBe(HttpAgent);
  });

  /** A page with an agent; with `follow` it shows what others write. */
  async function open(thread: string, follow = true) {
    const client = await clientOf();
    const agent = new ParleyAgent({ client, threadId: `ada:${version}-${thread}` });
    if (follow) closing.push(agent.follow());
    const say = (id: string, content: string) => {
      agent.addMessage({ id, role: "user", content });
      return agent.runAgent();
    };
    const lines = () =>
      agent.messages.map(({ role, content = "" }) => `${role}: ${typeof content === "string" ? content : "?"}`);
    return { agent, client, say, lines };
  }

  test("a reply streams in each page that follows, one that is loaded meanwhile connects, and abortRun stops it for all", async () => {
    const pages = [await open("follows"), await open("follows")] as const;
    openai.behave({ kind: "gated", tokens: ["one", " two"] });
    const said = pages[0].say("q", "Count.");
    openai.release();
    for (const { lines } of pages) await expect.poll(lines).toEqual(["user: Count.", "assistant: one"]);
    const late = await open("follows", false);
    const connected = late.agent.connectAgent();
    await expect.poll(late.lines).toEqual(["user: Count.", "assistant: one"]);
    const { aborted } = openai;
    late.agent.abortRun();
    await openai.waitForAbort(aborted + 1);
    await Promise.all([said, connected]);
    const all = [...pages, late];
    for (const { agent } of all) await expect.poll(() => agent.isRunning).toBe(false);
    for (const { lines } of all) expect(lines()).toEqual(["user: Count.", "assistant: one"]);
    // Another one's next turn comes to who follows, whole.
    openai.behave({ kind: "reply", text: "Hello." });
    await pages[1].say("q-2", "Hi!");
    const end = ["user: Count.", "assistant: one", "user: Hi!", "assistant: Hello."];
    for (const { lines } of pages) await expect.poll(lines).toEqual(end);
    expect(late.lines()).toHaveLength(2);
  });

  test("a call of the page's tool ends the page's run, which goes on with the result; another page that follows sees it", async () => {
    const page = await open("tools");
    await page.client.create({ sessionId: page.agent.threadId, model: "agent:paged" });
    const other = await open("tools");
    const call = { id: "call-map", name: "show_map", arguments: '{"place":"Rome"}' };
    openai.next(
      { kind: "reply", text: "Let me see.", finishReason: "tool_calls", toolCalls: [call] },
      { kind: "reply", text: "There." },
    );
    const given = { tools: [{ name: "show_map", description: "Shows it.", parameters: { type: "object" } }] };
    page.agent.addMessage({ id: "q", role: "user", content: "Where is Rome?" });
    await page.agent.runAgent(given);
    await expect.poll(other.lines).toEqual(["user: Where is Rome?", "assistant: Let me see."]);
    await expect.poll(() => other.agent.isRunning).toBe(false);
    // Who follows may have joined the run before it waited; from then on nothing more is joined for it.
    const store = page.client.session(page.agent.threadId);
    await expect.poll(() => [store.getSnapshot().run?.status, page.agent.isRunning]).toEqual(["WAITING", false]);
    page.agent.addMessage({ id: "r", role: "tool", toolCallId: "call-map", content: "Shown." });
    await page.agent.runAgent(given);
    const end = ["user: Where is Rome?", "assistant: Let me see.", "tool: Shown.", "assistant: There."];
    for (const { lines } of [page, other]) await expect.poll(lines).toEqual(end);
  });

  test("a call that waits is approved in another page, and a copy of the agent works as it does", async () => {
    const page = await open("waits");
    const other = await open("waits");
    openai.next(pays("Ann"));
    await page.say("q", "Pay Ann.");
    for (const { agent } of [page, other]) {
      await expect.poll(() => agent.pendingInterrupts.map(({ id }) => id)).toEqual(["call-Ann"]);
      await expect.poll(() => agent.isRunning).toBe(false);
    }
    openai.next({ kind: "reply", text: "It is paid." });
    const copy = other.agent.clone();
    expect(copy).toBeInstanceOf(ParleyAgent);
    copy.pendingInterrupts = [...other.agent.pendingInterrupts];
    await copy.runAgent({ resume: [{ interruptId: "call-Ann", status: "resolved", payload: { approved: true } }] });
    const end = ["user: Pay Ann.", "assistant: Let me see.", "tool: Paid Ann.", "assistant: It is paid."];
    for (const { lines } of [page, other]) await expect.poll(lines).toEqual(end);
  });
});
