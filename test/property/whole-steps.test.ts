import type { CallbackManagerForLLMRun } from "@langchain/core/callbacks/manager";
import { BaseChatModel } from "@langchain/core/language_models/chat_models";
import { AIMessage, AIMessageChunk, HumanMessage, ToolMessage, type BaseMessage } from "@langchain/core/messages";
import { ChatGenerationChunk, type ChatResult } from "@langchain/core/outputs";
import { tool } from "@langchain/core/tools";
import fc from "fast-check";
import { Redis } from "ioredis";
import { afterAll, beforeAll, expect, test } from "vitest";

import { sessionKeys } from "../../src/redis/store/keys.ts";
import { ask, cancel, readMessages, regenerate, send } from "../support/gateway/conversation.ts";
import { startGateway, type TestGateway } from "../support/gateway/gateway.ts";
import { execute } from "../support/gateway/graphql-client.ts";
import { respond, runOf, type WaitingRun } from "../support/model/waiting-run.ts";
import { startRedis, type TestRedis } from "../support/redis/redis-server.ts";
import { checkProperty } from "../support/store/property.ts";

// Whatever is done to a session with an agent: no request to a model and no list of ours holds an answer without its call, or a
// call without its answer.

const fork = `mutation ($input: ForkSessionInput!) { forkSession(input: $input) { session { sessionId } } }`;
const create = `mutation ($input: CreateSessionInput!) { createSession(input: $input) { session { id } } }`;
/** What is no longer there cannot be edited, forked or answered anew: with few rows kept that is often so. */
const expected = /CURSOR_EXPIRED|no USER message|NOT_FOUND/;

let server: TestRedis;
let redis: Redis;
/** What was wrong in a request to a model. */
let violations: string[] = [];
let answersSent = 0;
let hanging = Promise.withResolvers<undefined>();
/** A message that let a tool hang may be answered anew. */
let mayHang = false;

beforeAll(async () => {
  server = await startRedis({ appendonly: false });
  redis = new Redis(server.url);
});
afterAll(async () => {
  redis.disconnect();
  await server.stop();
});

interface Said {
  readonly calls: readonly string[];
  /** Of which call it is the answer. */
  readonly answers: string | null;
}

/** What is wrong with them; null: nothing. */
function problemOf(messages: readonly Said[]): string | null {
  const open = new Set<string>();
  for (const { calls, answers } of messages) {
    if (answers !== null && !open.delete(answers)) return `the answer ${answers} has no call`;
    if (answers === null && open.size > 0) return `no answer to ${[...open].join()}`;
    for (const call of calls) open.add(call);
  }
  return open.size > 0 ? `no answer to ${[...open].join()}` : null;
}

function saidOf(message: BaseMessage): Said {
  const calls = AIMessage.isInstance(message) ? (message.tool_calls ?? []).map(({ id }) => id ?? "") : [];
  return { calls, answers: ToolMessage.isInstance(message) ? message.tool_call_id : null };
}

let made = 0;

/** Calls as many tools in each step as the user's last message says ("2 1 hang"), then says so; and looks at what it is sent. */
class Worker extends BaseChatModel {
  constructor() {
    super({});
  }

  override _llmType(): string {
    return "worker";
  }

  override bindTools(): this {
    return this;
  }

  #reply(messages: readonly BaseMessage[]): AIMessageChunk {
    const problem = problemOf(messages.map(saidOf));
    if (problem !== null) violations.push(`${problem}: ${messages.map(({ type }) => type).join()}`);
    answersSent += messages.filter((message) => ToolMessage.isInstance(message)).length;
    const asked = messages.findLastIndex((message) => HumanMessage.isInstance(message));
    const words = messages[asked]?.text.split(" ") ?? [];
    const steps = messages.slice(asked).filter((message) => AIMessage.isInstance(message)).length;
    const count = Number(words[steps]);
    if (!(count > 0)) return new AIMessageChunk("Done with it.");
    const hangs = words[steps + 1] === "hang";
    return new AIMessageChunk({
      content: steps === 0 ? "Let me see. " : "",
      tool_call_chunks: Array.from({ length: count }, (_, index) => ({
        ...{ name: "work", id: `call-${(made += 1)}`, index, type: "tool_call_chunk" },
        args: JSON.stringify({ hangs: hangs && index === count - 1 }),
      })),
    });
  }

  override _generate(messages: BaseMessage[]): Promise<ChatResult> {
    const message = this.#reply(messages);
    return Promise.resolve({ generations: [{ text: message.text, message }] });
  }

  override async *_streamResponseChunks(
    messages: BaseMessage[],
    _options: this["ParsedCallOptions"],
    runManager?: CallbackManagerForLLMRun,
  ): AsyncGenerator<ChatGenerationChunk> {
    const message = this.#reply(messages);
    const chunk = new ChatGenerationChunk({ text: message.text, message });
    yield await Promise.resolve(chunk);
    await runManager?.handleLLMNewToken(message.text, undefined, undefined, undefined, undefined, { chunk });
  }
}

const work = tool(
  async ({ hangs }, config) => {
    const { signal } = config as { readonly signal?: AbortSignal }; // typed as any
    if (hangs && mayHang) {
      hanging.resolve(undefined);
      await new Promise((resolve) => signal?.addEventListener("abort", resolve, { once: true }));
    }
    return "It is done, as you see.";
  },
  {
    name: "work",
    description: "Works.",
    schema: { type: "object", properties: { hangs: { type: "boolean" } }, required: ["hangs"] } as const,
  },
);

const asked = fc.array(fc.integer({ min: 1, max: 3 }), { maxLength: 2 }).map((steps) => steps.join(" ") || "0");
const settings = fc.record({
  strategy: fc.constantFrom("BUFFER", "WINDOW", "TOKEN_BUFFER", "SUMMARY_BUFFER"),
  maxTurns: fc.integer({ min: 1, max: 3 }),
  maxTokens: fc.integer({ min: 10, max: 120 }),
  maxMessages: fc.integer({ min: 1, max: 12 }),
  kept: fc.integer({ min: 1, max: 12 }),
});
const command = fc.oneof(
  { weight: 4, arbitrary: fc.record({ kind: fc.constant("ask" as const), text: asked }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant("edit" as const), text: asked, at: fc.nat({ max: 9 }) }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant("again" as const) }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant("fork" as const), at: fc.nat({ max: 9 }) }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant("archive" as const) }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant("cancel" as const), text: asked }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant("crash" as const), text: asked }) },
  {
    weight: 3,
    arbitrary: fc.record({
      kind: fc.constant("wait" as const),
      text: asked,
      /** Of its calls, in turn; then it ends so. */
      decisions: fc.array(fc.constantFrom("approve", "edit", "reject"), { maxLength: 4 }),
      end: fc.constantFrom("approve", "cancel", "interrupt", "expire", "lose"),
    }),
  },
);
type Command = typeof command extends fc.Arbitrary<infer T> ? T : never;
type Settings = typeof settings extends fc.Arbitrary<infer T> ? T : never;

let worlds = 0;
/** How runs that waited have ended. */
const waited = new Map<string, number>();

/** Each way to decide, and each to end behind the first step. */
const waits = (["approve", "cancel", "interrupt", "expire", "lose"] as const).map((end): Command => ({
  ...{ kind: "wait", text: "3 2", decisions: ["approve", "edit", "reject", "reject"], end },
}));

class World {
  sessionId = `whole-${(worlds += 1)}`;
  #forks = 0;
  readonly #settings: Settings;
  #gateway: TestGateway | null = null;

  constructor(chosen: Settings) {
    this.#settings = chosen;
  }

  get #url(): string {
    return this.#gateway?.url ?? "";
  }

  async open(): Promise<void> {
    const { kept: maxMessagesPerSession, maxMessages } = this.#settings;
    this.#gateway = await startGateway({
      ...{ redis: server.url, maxMessagesPerSession, model: "agent:worker", memory: { maxMessages } },
      agents: {
        worker: { model: new Worker(), tools: [work] },
        careful: { model: new Worker(), tools: [work], approvals: ["work"] },
      },
    });
  }

  async begin(): Promise<void> {
    await this.open();
    const { strategy, maxTurns, maxTokens } = this.#settings;
    const memory = {
      strategy,
      ...(strategy === "WINDOW" ? { maxTurns } : {}),
      ...(strategy.endsWith("_BUFFER") ? { maxTokens } : {}),
    };
    await execute(this.#url, create, { input: { sessionId: this.sessionId, memory } });
  }

  close(): Promise<void> {
    return this.#gateway?.close() ?? Promise.resolve();
  }

  async #messageAt(at: number): Promise<string | null> {
    const messages = await readMessages(this.#url, this.sessionId);
    return messages[at % Math.max(1, messages.length)]?.id ?? null;
  }

  /** Until its last tool hangs. */
  async #hang(text: string): Promise<string> {
    hanging = Promise.withResolvers();
    mayHang = true;
    const { run } = await send(this.#url, this.sessionId, `${text === "0" ? "1" : text} hang`);
    await hanging.promise;
    mayHang = false;
    return run.id;
  }

  /** What waits, once nothing of the run is going on. */
  async #settled(runId: string): Promise<WaitingRun["approvals"]> {
    let run: WaitingRun | null = null;
    const isGoing = async () => (run = await runOf(this.#url, runId))?.status === "RUNNING";
    await expect.poll(isGoing, { interval: 10, timeout: 60_000 }).toBe(false);
    return (run as WaitingRun | null)?.approvals ?? []; // the compiler does not see that it was set
  }

  async #wait({ text, decisions, end }: Command & { readonly kind: "wait" }): Promise<void> {
    const { run } = await ask(this.#url, this.sessionId, text, { model: "agent:careful" });
    if (run.status !== "WAITING") return;
    const left = [...decisions];
    for (let calls = await this.#settled(run.id); calls.length > 0; calls = await this.#settled(run.id)) {
      const decision = left.shift() ?? (end === "approve" ? end : null);
      if (decision === null) break;
      const { callId } = calls[0] ?? {};
      const given = decision === "edit" ? { callId, args: { hangs: false } } : { callId };
      await respond(this.#url, run.id, [{ [decision]: given }]);
    }
    const isLeft = (await this.#settled(run.id)).length > 0;
    if (isLeft) waited.set(end, (waited.get(end) ?? 0) + 1);
    // A next message finds that its time is over.
    if (isLeft && end === "expire") await redis.hset(sessionKeys(this.sessionId).session, "until", 1);
    if (isLeft && end === "cancel") await cancel(this.#url, run.id);
    if (isLeft && end === "lose") {
      // The gateway that has it ends; another one takes the next message, which ends the wait.
      await this.close();
      await this.open();
    }
    const whenBusy = isLeft && (end === "interrupt" || end === "lose") ? { whenBusy: "INTERRUPT" as const } : {};
    const next = await ask(this.#url, this.sessionId, "1", whenBusy);
    expect(next.run.status).toBe("COMPLETED");
    const over = {
      cancel: "CANCELLED",
      interrupt: "CANCELLED",
      lose: "CANCELLED",
      expire: "FAILED",
      approve: "COMPLETED",
    };
    const { status } = (await runOf(this.#url, run.id)) ?? {};
    expect(status).toBe(isLeft ? over[end] : "COMPLETED");
  }

  async run(one: Command): Promise<void> {
    switch (one.kind) {
      case "ask":
        await ask(this.#url, this.sessionId, one.text);
        return;
      case "edit": {
        const replaceFrom = await this.#messageAt(one.at);
        if (replaceFrom !== null) await ask(this.#url, this.sessionId, one.text, { replaceFrom });
        return;
      }
      case "again":
        await regenerate(this.#url, this.sessionId);
        return;
      case "fork": {
        const through = await this.#messageAt(one.at);
        const newSessionId = `${this.sessionId}-${(this.#forks += 1)}`;
        await execute(this.#url, fork, { input: { sessionId: this.sessionId, newSessionId, through } });
        this.sessionId = newSessionId;
        return;
      }
      case "archive": {
        const { gateway } = this.#gateway ?? {};
        const pieces: string[] = [];
        for await (const piece of gateway?.exportSessions({ sessionId: this.sessionId }) ?? []) pieces.push(piece);
        const archive = async function* () {
          yield await Promise.resolve(Buffer.from(pieces.join("")));
        };
        await gateway?.importSessions(archive(), { replace: true });
        return;
      }
      case "cancel": {
        const runId = await this.#hang(one.text);
        await cancel(this.#url, runId);
        return;
      }
      case "wait":
        await this.#wait(one);
        return;
      case "crash":
        await this.#hang(one.text);
        await this.close();
        await this.open();
        return;
    }
  }

  async check(done: readonly Command[]): Promise<void> {
    const rows = (await redis.lrange(this.sessionId, 0, -1)).reverse().map((row) => {
      const { data } = JSON.parse(row) as { data: { tool_calls?: readonly { id: string }[]; tool_call_id?: string } };
      return { calls: (data.tool_calls ?? []).map(({ id }) => id), answers: data.tool_call_id ?? null };
    });
    const story = JSON.stringify([this.#settings, done]);
    expect([problemOf(rows), violations, story]).toEqual([null, [], story]);
  }
}

test("no request to a model and no list holds an answer without its call, or a call without its answer", async () => {
  answersSent = 0;
  const property = fc.asyncProperty(
    settings,
    fc.array(command, { minLength: 1, maxLength: 8 }),
    async (chosen, commands) => {
      violations = [];
      const world = new World(chosen);
      await world.begin();
      try {
        for (const [i, one] of commands.entries()) {
          await world.run(one).catch((error: unknown) => {
            if (!expected.test(String(error))) throw error;
          });
          await world.check(commands.slice(0, i + 1));
        }
      } finally {
        await world.close();
      }
    },
  );
  const chosen: Settings = { strategy: "BUFFER", maxTurns: 1, maxTokens: 10, maxMessages: 12, kept: 12 };
  await checkProperty(property, { runs: 8, endOnFailure: true, cases: [[chosen, waits]] });
  expect(answersSent).toBeGreaterThan(10);
  expect([...waited.keys()].sort()).toEqual(["cancel", "expire", "interrupt", "lose"]);
});
