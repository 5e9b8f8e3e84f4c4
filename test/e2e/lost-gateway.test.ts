import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { ask, eventsOf, follow, isRunEnd, outline, readRun, send, texts } from "../support/gateway/conversation.ts";
import { spawnGateway, startGateway } from "../support/gateway/gateway.ts";
import type { GatewayProcess, TestGateway } from "../support/gateway/gateway.ts";
import { execute } from "../support/gateway/graphql-client.ts";
import { startOpenAI } from "../support/model/openai-server.ts";
import type { OpenAIServer } from "../support/model/openai-server.ts";
import { waitUntil } from "../support/redis/redis-command.ts";
import { startTopology } from "../support/redis/project-topology.ts";
import type { TestTopology } from "../support/redis/topologies.ts";

// What becomes of a process' replies when it is killed, stopped for a while, or asked to leave. The lease is short, so
// that its end comes within the test.
const leaseMs = 1500;

let redis: TestTopology;
let openai: OpenAIServer;
let survivor: TestGateway;
let url: string;

beforeAll(async () => {
  [redis, openai] = await Promise.all([startTopology(), startOpenAI()]);
  survivor = await startGateway({
    redis: redis.redis,
    model: "openai:gpt-4o-mini",
    openai: { apiKey: "sk-x", baseUrl: openai.baseUrl },
    runLeaseMs: leaseMs,
  });
  ({ url } = survivor);
});
beforeEach(() => {
  openai.releaseAll();
  openai.behave(null);
});
afterAll(async () => {
  await survivor.close();
  await openai.close();
  await redis.stop();
});

/** A process that has answered once: the first turn imports LangChain, and a lease so short may not outlast that here. */
async function spawned(): Promise<GatewayProcess> {
  const gateway = await spawnGateway({
    ...redis.env,
    OPENAI_API_KEY: "sk-x",
    OPENAI_BASE_URL: openai.baseUrl,
    RUN_LEASE_MS: String(leaseMs),
    MODELS: "offline",
    LOG_LEVEL: "warn",
  });
  const first = `first of ${gateway.pid}`;
  await waitUntil("it has answered", async () => (await ask(gateway.url, first, "Hello")).run.status === "COMPLETED");
  return gateway;
}

/** A run of the process' that has written "So far " when this resolves. */
async function startHeld(victim: GatewayProcess, sessionId: string): Promise<string> {
  openai.next({ kind: "gated", tokens: ["So far ", "and on"] });
  const { run } = await send(victim.url, sessionId, "Go");
  openai.release();
  await waitUntil("its first text is stored", async () => (await readRun(url, run.id))?.text === "So far ");
  return run.id;
}

describe("a gateway that is killed with -9", () => {
  test("in mid-reply: the run is FAILED with RUN_LOST and its text, and the next turn goes on", async () => {
    const victim = await spawned();
    const runId = await startHeld(victim, "killed");
    const stream = await follow(url, "killed");
    const waiting = ask(url, "killed", "And you?");
    await waitUntil("it waits", async () => {
      type Data = { session: { queuedRuns: readonly unknown[] } };
      const { session } = await execute<Data>(url, `{ session(sessionId: "killed") { queuedRuns { id } } }`);
      return session.queuedRuns.length === 1;
    });
    await victim.kill();
    const next = await waiting;
    await stream.waitFor(isRunEnd(next.run.id));
    stream.close();
    expect(next.run.status).toBe("COMPLETED");
    expect(await readRun(url, runId)).toMatchObject({
      status: "FAILED",
      text: "So far ",
      reply: null,
      error: { code: "RUN_LOST", retryable: true },
    });
    expect(await texts(url, "killed")).toEqual(["USER: Go", "USER: And you?", "ASSISTANT: You said: And you?"]);
    expect(outline(stream).filter((step) => step !== "ReplyProgress")).toEqual([
      "StreamOpened",
      "RunChanged QUEUED",
      "RunChanged FAILED",
      "RunChanged RUNNING",
      "MessageAdded USER",
      "MessageAdded ASSISTANT",
      "RunChanged COMPLETED",
    ]);
  });

  test("with nobody waiting: followers hear of the end all the same, and answering again mends it", async () => {
    const victim = await spawned();
    const runId = await startHeld(victim, "killed-alone");
    const stream = await follow(url, "killed-alone");
    await victim.kill();
    await stream.waitFor(isRunEnd(runId));
    stream.close();
    expect(eventsOf(stream, "RunChanged").at(-1)?.run).toMatchObject({ text: "So far ", error: { code: "RUN_LOST" } });
    const query = `mutation { regenerateReply(input: { sessionId: "killed-alone" }) { reply { text } } }`;
    expect(await execute(url, query)).toEqual({ regenerateReply: { reply: { text: "You said: Go" } } });
  });

  test("the runs that waited in it are taken over, in order", async () => {
    const victim = await spawned();
    await startHeld(victim, "taken-over");
    const first = await send(victim.url, "taken-over", "First");
    const second = await send(victim.url, "taken-over", "Second", { messageId: "second" });
    expect([first.run.status, second.run.status]).toEqual(["QUEUED", "QUEUED"]);
    const third = await send(victim.url, "taken-over", "Third", { model: "offline" });
    await victim.kill();
    // Nobody reads or follows the session meanwhile: only the poll of what is due can find it.
    await openai.waitForRequests(openai.requests.length + 2);
    await waitUntil("the last has ended", async () => (await readRun(url, third.run.id))?.status === "FAILED");
    expect(await texts(url, "taken-over")).toEqual([
      "USER: Go",
      "USER: First",
      "ASSISTANT: You said: First",
      "USER: Second",
      "ASSISTANT: You said: Second",
      "USER: Third",
    ]);
    // No other gateway has the model that it asked for.
    expect(await readRun(url, third.run.id)).toMatchObject({ error: { code: "MODEL_UNAVAILABLE" }, text: "" });
    // The client of the dead one sends again what it got no answer to.
    const retry = await ask(url, "taken-over", "Second", { messageId: "second" });
    expect([retry.run.id, retry.reply?.text]).toEqual([second.run.id, "You said: Second"]);
  });

  test("a process that was only stopped for a while finds its run closed: nothing of it comes late, its model is let go", async () => {
    const stopped = await spawned();
    const runId = await startHeld(stopped, "stopped");
    process.kill(stopped.pid, "SIGSTOP");
    const next = await ask(url, "stopped", "And you?");
    expect(next.run.status).toBe("COMPLETED");
    const aborted = openai.aborted;
    process.kill(stopped.pid, "SIGCONT");
    await openai.waitForAbort(aborted + 1);
    // It serves on, and its late reply is nowhere.
    expect((await ask(stopped.url, "stopped", "Back?")).run.status).toBe("COMPLETED");
    expect(await texts(url, "stopped")).toEqual([
      "USER: Go",
      "USER: And you?",
      "ASSISTANT: You said: And you?",
      "USER: Back?",
      "ASSISTANT: You said: Back?",
    ]);
    expect(await readRun(url, runId)).toMatchObject({ status: "FAILED", text: "So far ", error: { code: "RUN_LOST" } });
    await stopped.kill();
  });
});

test("with SIGTERM instead it lets the reply end, says 1001 to its sockets, and exits with 0", async () => {
  const leaving = await spawned();
  openai.next({ kind: "gated", tokens: ["Good", "bye"] });
  const { run } = await send(leaving.url, "sigterm", "Leave");
  openai.release();
  const stream = await follow(leaving.url, "sigterm");
  await waitUntil("its first text is stored", async () => (await readRun(url, run.id))?.text === "Good");
  const stopped = leaving.stop();
  openai.releaseAll();
  expect(await stopped).toBe(0);
  await stream.waitForEnd();
  expect(await readRun(url, run.id)).toMatchObject({ status: "COMPLETED", text: "Goodbye" });
  expect(stream.error?.message ?? "completed").toMatch(/1001|completed/);
});
