import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { quotaKeys } from "../../src/redis/store/keys.ts";
import { startGateway, type TestGateway } from "../support/gateway/gateway.ts";
import type { GatewayOptions } from "../../src/gateway.ts";
import { startOpenAI, type OpenAIServer } from "../support/model/openai-server.ts";
import { chunk, done, events, hello, usageChunk } from "../support/model/wire-records.ts";
import { waitUntil } from "../support/redis/redis-command.ts";
import { callerOf, type Caller } from "../support/gateway/tenant.ts";
import { topologies, type TestTopology } from "../support/redis/topologies.ts";
import { secret, tokenFor } from "../support/gateway/tokens.ts";

const send = `mutation ($sessionId: String!, $text: String!, $messageId: String) {
  sendMessage(input: { sessionId: $sessionId, text: $text, messageId: $messageId }) { run { id status } session { messageCount } }
}`;
const ask = send.replace("run {", "reply { text } run {");
const interrupt = send.replace("messageId: $messageId", "whenBusy: INTERRUPT").replace(", $messageId: String", "");
const count = `query ($sessionId: String!) { session(sessionId: $sessionId) { messageCount } }`;
const listed = `{ sessions { nodes { sessionId } } }`;

interface Sent {
  readonly sendMessage: { readonly run: { readonly id: string; readonly status: string } };
}
interface Refused {
  readonly code: string;
  readonly limit: string;
  readonly retryAfterSeconds: number;
}

describe.each(["standalone", "Cluster"] as const)("quotas on %s", (shape) => {
  let topology: TestTopology;
  let openai: OpenAIServer;
  let gateways: TestGateway[] = [];
  let subjects = 0;

  beforeAll(async () => {
    [topology, openai] = await Promise.all([topologies[shape](), startOpenAI()]);
  });
  afterEach(async () => {
    openai.behave(null);
    await Promise.all(gateways.map((gateway) => gateway.close()));
    gateways = [];
  });
  afterAll(async () => {
    await topology.stop();
    await openai.close();
  });

  async function start(options: Partial<GatewayOptions>): Promise<TestGateway> {
    const gateway = await startGateway(
      {
        redis: topology.redis,
        historyKeyPrefix: "chat:",
        auth: {
          kind: "jwt",
          key: { secret },
          issuer: null,
          audience: null,
          clockSkewSeconds: 0,
          cookie: null,
        },
        model: "openai:small",
        openai: { apiKey: "key", baseUrl: openai.baseUrl },
        metrics: true,
        ...options,
      },
      // A title waits for nobody.
      0,
    );
    gateways.push(gateway);
    await waitUntil("it is ready", async () => (await fetch(new URL("/readyz", gateway.url))).ok);
    return gateway;
  }

  /** A subject that nobody was before, over two gateways. */
  async function newcomer(options: Partial<GatewayOptions>): Promise<{
    readonly here: Caller;
    readonly there: Caller;
    readonly subject: string;
    readonly of: (subject: string) => Promise<Caller>;
  }> {
    const [one, two] = await Promise.all([start(options), start(options)]);
    // Braces are what a hash tag is made of.
    const subject = `jim{${shape}}-${++subjects}`;
    const token = await tokenFor(subject);
    return {
      here: callerOf(one.url, token),
      there: callerOf(two.url, token),
      subject,
      of: async (other) => callerOf(one.url, await tokenFor(other)),
    };
  }

  async function refusedBy(caller: Caller, query: string, variables: Record<string, unknown>): Promise<Refused> {
    const { errors } = await caller.request(query, variables);
    return errors?.[0]?.extensions as unknown as Refused; // what a refusal carries
  }

  test("limits sends per minute over two gateways; a refused send has no effect, a retry is not counted", async () => {
    const { here, there, subject, of } = await newcomer({ maxSendsPerMinute: 3, maxRunsPerSubject: null });
    const sessionId = `${subject}:a`;
    const first = await here.execute<Sent>(ask, { sessionId, text: "1", messageId: "one" });
    await there.execute(ask, { sessionId, text: "2" });
    // A retry behind the limit's half, and at its end, counts for nothing.
    const again = await there.execute<Sent>(send, { sessionId, text: "1", messageId: "one" });
    expect(again.sendMessage.run.id).toBe(first.sendMessage.run.id);
    await here.execute(ask, { sessionId, text: "3" });
    const asked = openai.requests.length;

    const refused = await refusedBy(there, send, { sessionId, text: "4", messageId: "four" });
    expect(refused).toMatchObject({ code: "RATE_LIMITED", limit: "sendsPerMinute" });
    expect(refused.retryAfterSeconds).toBeGreaterThan(0);
    expect(refused.retryAfterSeconds).toBeLessThanOrEqual(60);
    expect(await here.execute(count, { sessionId })).toEqual({ session: { messageCount: 6 } });
    const last = await here.execute<Sent>(send, { sessionId, text: "1", messageId: "one" });
    expect(last.sendMessage.run.id).toBe(first.sendMessage.run.id);
    expect(openai.requests.length).toBe(asked);

    // A new session is not started, nor listed, and other calls of a model are refused alike.
    expect(await refusedBy(here, send, { sessionId: `${subject}:b`, text: "5" })).toMatchObject({
      code: "RATE_LIMITED",
    });
    expect(await here.execute(count, { sessionId: `${subject}:b` })).toEqual({ session: null });
    expect(await here.execute(listed)).toEqual({ sessions: { nodes: [{ sessionId }] } });
    const regenerate = `mutation ($sessionId: String!) { regenerateReply(input: { sessionId: $sessionId }) { run { id } } }`;
    expect(await refusedBy(here, regenerate, { sessionId })).toMatchObject({ code: "RATE_LIMITED" });
    const title = `mutation ($sessionId: String!) { generateTitle(input: { sessionId: $sessionId }) { session { title } } }`;
    expect(await refusedBy(there, title, { sessionId })).toMatchObject({
      code: "RATE_LIMITED",
      limit: "sendsPerMinute",
    });
    // Somebody else is not held back by it.
    const other = await of(`${subject}-other`);
    await other.execute(send, { sessionId: `${subject}-other:a`, text: "hello" });
    const metrics = await (await fetch(new URL("/metrics", gateways[0]?.url))).text();
    expect(metrics).toMatch(/parley_limits_reached_total\{limit="sendsPerMinute"\} [1-9]/);
  });

  test("a send that is refused for another reason is not counted", async () => {
    const { here, subject } = await newcomer({ maxSendsPerMinute: 2 });
    openai.behave({ kind: "gated", tokens: ["a"] });
    const sessionId = `${subject}:a`;
    await here.execute(send, { sessionId, text: "1" });
    const reject = send.replace("messageId: $messageId", "whenBusy: REJECT").replace(", $messageId: String", "");
    for (let i = 0; i < 3; i++) {
      expect(await refusedBy(here, reject, { sessionId, text: "2" })).toMatchObject({ code: "SESSION_BUSY" });
    }
    openai.releaseAll();
    await here.execute(send, { sessionId, text: "3" });
    expect(await refusedBy(here, send, { sessionId, text: "4" })).toMatchObject({ code: "RATE_LIMITED" });
  });

  test("a burst over both is let in up to the limit, exactly", async () => {
    const { here, there, subject } = await newcomer({ maxSendsPerMinute: 7 });
    const burst = Array.from({ length: 40 }, (_, i) =>
      (i % 2 === 0 ? here : there).request<Sent>(send, { sessionId: `${subject}:${i % 5}`, text: String(i) }),
    );
    const answers = await Promise.all(burst);
    expect(answers.filter(({ errors }) => errors === undefined)).toHaveLength(7);
    const codes = answers.flatMap(({ errors }) => errors?.[0]?.extensions?.code ?? []);
    expect(new Set(codes)).toEqual(new Set(["RATE_LIMITED"]));
  });

  test("replies at a time: waiting ones count, and their places come free with their end", async () => {
    const { here, there, subject } = await newcomer({
      maxRunsPerSubject: 2,
      maxSendsPerMinute: null,
      runLeaseMs: 1000,
    });
    openai.behave({ kind: "gated", tokens: ["a"] });
    const { sendMessage: one } = await here.execute<Sent>(send, { sessionId: `${subject}:a`, text: "1" });
    await there.execute(send, { sessionId: `${subject}:a`, text: "2" });
    const third = { sessionId: `${subject}:b`, text: "3" };
    expect(await refusedBy(here, send, third)).toMatchObject({ code: "RATE_LIMITED", limit: "runs" });
    // Longer than a lease: they are held.
    const { going } = quotaKeys("chat:", subject);
    const raw = topology.raw();
    const until = async () =>
      Math.min(...(await raw.zrange(going, 0, "-1", "WITHSCORES")).map(Number).filter((n) => n > 1e12));
    const before = await until();
    await waitUntil("both are held anew", async () => (await until()) > before + 1000);
    expect(await refusedBy(there, send, third)).toMatchObject({ code: "RATE_LIMITED", limit: "runs" });
    const cancel = `mutation ($runId: ID!) { cancelRun(input: { runId: $runId }) { run { status } } }`;
    await there.execute(cancel, { runId: one.run.id });
    await waitUntil("a place is free", async () => (await here.request(send, third)).errors === undefined);
    openai.releaseAll();
    await waitUntil("all places are free", async () => (await raw.exists(going)) === 0);
  });

  test("an interrupted reply leaves its place to the one that interrupts it, and to no other", async () => {
    const { here, there, subject } = await newcomer({ maxRunsPerSubject: 1, maxSendsPerMinute: null });
    openai.behave({ kind: "gated", tokens: ["a"] });
    const sessionId = `${subject}:a`;
    const elsewhere = { sessionId: `${subject}:b`, text: "elsewhere" };
    const { going } = quotaKeys("chat:", subject);
    const raw = topology.raw();
    await here.execute(send, { sessionId, text: "0" });
    for (let i = 1; i <= 6; i++) {
      const { sendMessage } = await (i % 2 === 0 ? here : there).execute<Sent>(interrupt, {
        sessionId,
        text: String(i),
      });
      // There is nothing that this one would interrupt.
      expect(await refusedBy(here, interrupt, elsewhere)).toMatchObject({ code: "RATE_LIMITED", limit: "runs" });
      const local = Buffer.from(sendMessage.run.id, "base64url").toString().split(":").at(-1);
      await waitUntil("one place is taken", async () => (await raw.zrange(going, 0, "-1")).join() === local);
    }
    openai.releaseAll();
    await waitUntil("all places are free", async () => (await raw.exists(going)) === 0);
    expect((await here.request(send, elsewhere)).errors).toBeUndefined();
  });

  test("senders that interrupt each other at once are all let in where one place is left", async () => {
    const { here, there, subject } = await newcomer({ maxRunsPerSubject: 2, maxSendsPerMinute: null });
    openai.behave({ kind: "gated", tokens: ["a"] });
    const sessionId = `${subject}:a`;
    await here.execute(send, { sessionId: `${subject}:b`, text: "goes on" });
    await here.execute(send, { sessionId, text: "first" });
    const burst = Array.from({ length: 12 }, (_, i) =>
      (i % 2 === 0 ? here : there).request<Sent>(interrupt, { sessionId, text: String(i) }),
    );
    for (const { errors } of await Promise.all(burst)) expect(errors).toBeUndefined();
    openai.releaseAll();
    const { going } = quotaKeys("chat:", subject);
    const raw = topology.raw();
    await waitUntil("all places are free", async () => (await raw.exists(going)) === 0);
  });

  test("a waiting run whose session expires leaves its place, and the caller that waits for its reply gets an error", async () => {
    const { here, there, subject } = await newcomer({ maxRunsPerSubject: 2, runLeaseMs: 1000 });
    openai.behave({ kind: "gated", tokens: ["a"] });
    const sessionId = `${subject}:a`;
    const { sendMessage: running } = await here.execute<Sent>(send, { sessionId, text: "1" });
    const { sendMessage: queued } = await there.execute<Sent>(send, { sessionId, text: "2", messageId: "two" });
    expect([running, queued].map(({ run }) => run.status)).toEqual(["RUNNING", "QUEUED"]);
    // Of the two that wait for its reply one waits where the run does, the other elsewhere.
    const replies = [here, there].map((caller) => caller.refusal(ask, { sessionId, text: "2", messageId: "two" }));
    const raw = topology.raw();
    await raw.pexpire(`chat:${sessionId}`, 1000);
    await here.execute(count, { sessionId });
    for (const reply of await Promise.all(replies)) expect(reply).toContain("NOT_FOUND");
    const { going } = quotaKeys("chat:", subject);
    await waitUntil("all places are free", async () => (await raw.exists(going)) === 0);
    openai.releaseAll();
  });

  test("a gateway that died holds no places after its lease", async () => {
    const { here, subject } = await newcomer({ maxRunsPerSubject: 1, runLeaseMs: 1000 });
    const raw = topology.raw();
    const { going } = quotaKeys("chat:", subject);
    // As a process leaves it that was killed right behind begin.
    const holdUntil = (time: number) => raw.zadd(going, time, "of-a-dead-process");
    await holdUntil(Date.now() + 60_000);
    const message = { sessionId: `${subject}:a`, text: "1" };
    expect(await refusedBy(here, send, message)).toMatchObject({ limit: "runs" });
    // Its time is over.
    await holdUntil(Date.now() - 1);
    expect((await here.request(send, message)).errors).toBeUndefined();
  });

  test("a turn that was counted and never began counts a lease long as going, and for its minute", async () => {
    // In a Cluster it is counted ahead: begin may time out behind that, and nobody is there to give its place back.
    const { here, subject } = await newcomer({ maxRunsPerSubject: 1, maxSendsPerMinute: 2, runLeaseMs: 1000 });
    const raw = topology.raw();
    const { going, sends } = quotaKeys("chat:", subject);
    const message = { sessionId: `${subject}:a`, text: "1" };
    const before = Date.now();
    expect((await here.request(ask, message)).errors).toBeUndefined();
    // How it is counted: each with the moment from which it counts no more, whoever is still there.
    const counted = await raw.zrange(sends, "0", "-1", "WITHSCORES");
    expect(Number(counted[1])).toBeGreaterThanOrEqual(before - 1000);
    expect(Number(counted[1])).toBeLessThanOrEqual(Date.now() + 1000);
    await raw.zadd(going, Date.now() + 1000, "never-begun");
    await raw.zadd(sends, Date.now() - 58_000, "never-begun");
    const refusals = new Set<string>();
    await waitUntil("it counts no more", async () => {
      const { errors } = await here.request(send, { ...message, text: "2" });
      for (const { extensions } of errors ?? []) refusals.add((extensions as unknown as Refused).limit); // of a refusal
      return errors === undefined;
    });
    expect(refusals.size).toBeGreaterThan(0);
    expect([...refusals].every((limit) => limit === "runs" || limit === "sendsPerMinute")).toBe(true);
  });

  test("tokens a day: what runs have cost is counted once, also that of stopped ones", async () => {
    const { here, there, subject } = await newcomer({ maxTokensPerDay: 20, maxSendsPerMinute: null });
    const { tokens } = quotaKeys("chat:", subject);
    const raw = topology.raw();
    const spent = async () => Number(Object.values(await raw.hgetall(tokens))[0] ?? 0);
    const sessionId = `${subject}:a`;
    openai.behave({ kind: "gated", tokens: ["a word", "another"] });
    const { sendMessage: sent } = await here.execute<Sent>(send, { sessionId, text: "Hello, this is a text." });
    openai.release(1);
    await waitUntil("it has text", async () => {
      const run = `query ($id: ID!) { node(id: $id) { ... on Run { text } } }`;
      const { node } = await here.execute<{ node: { text: string } }>(run, { id: sent.run.id });
      return node.text !== "";
    });
    await there.execute(`mutation ($runId: ID!) { cancelRun(input: { runId: $runId }) { run { status } } }`, {
      runId: sent.run.id,
    });
    await waitUntil("it is counted, as estimated", async () => (await spent()) > 0);
    const estimated = await spent();
    openai.behave(null);
    const asked = await here.execute<{ sendMessage: { run: { usage: { totalTokens: number } } } }>(
      ask.replace("id status", "id status usage { totalTokens }"),
      { sessionId, text: "And now?" },
    );
    const { totalTokens } = asked.sendMessage.run.usage;
    expect(await spent()).toBe(estimated + totalTokens);
    await raw.hset(tokens, String(Math.floor(Date.now() / 86_400_000)), 20);
    const refused = await refusedBy(there, send, { sessionId, text: "More" });
    expect(refused).toMatchObject({ code: "RATE_LIMITED", limit: "tokensPerDay" });
    expect(refused.retryAfterSeconds).toBeLessThanOrEqual(86_400);
  });

  describe("titles that come by themselves", () => {
    const titlesAsked = () => openai.requests.filter(({ body }) => body["stream"] !== true).length;
    const title = `query ($sessionId: String!) { session(sessionId: $sessionId) { title } }`;
    const titleOf = async (caller: Caller, sessionId: string) =>
      (await caller.execute<{ session: { title: string | null } }>(title, { sessionId })).session.title;

    test("count to the owner's tokens, and neither as a send nor as a reply that is going", async () => {
      const { here, subject } = await newcomer({
        autoTitle: true,
        maxTokensPerDay: 1000,
        maxSendsPerMinute: 3,
        maxRunsPerSubject: 1,
      });
      openai.behave(({ body }) => ({
        kind: "reply",
        text: body["stream"] === true ? "One two three four" : "Numbers",
      }));
      const { tokens } = quotaKeys("chat:", subject);
      const used = async () => (await topology.raw().hvals(tokens)).map(Number);
      const sessionId = `${subject}:a`;
      await here.execute(ask, { sessionId, text: "Count to four" });
      await waitUntil("it has a title", async () => (await titleOf(here, sessionId)) === "Numbers");
      // Three words sent and four received; then 13 and 18 characters for the title, of which four are a token.
      await waitUntil("both are counted", async () => (await used()).join() === String(3 + 4 + 8));
      await here.execute(ask, { sessionId, text: "2" });
      await here.execute(ask, { sessionId, text: "3" });
      expect(await refusedBy(here, ask, { sessionId, text: "4" })).toMatchObject({ limit: "sendsPerMinute" });
    });

    test("are not made where they would bring an owner beyond a limit, and others get theirs", async () => {
      // Eight are used then, and a title would cost seven; of the other one five, and five.
      const { here, subject, of } = await newcomer({ autoTitle: true, maxTokensPerDay: 12, maxSendsPerMinute: null });
      openai.behave(({ body }) => ({
        kind: "reply",
        text: body["stream"] === true ? "One two three four" : "Numbers",
      }));
      const asked = titlesAsked();
      const sessionId = `${subject}:a`;
      await here.execute(ask, { sessionId, text: "A b c d" });
      const other = await of(`${subject}-other`);
      await other.execute(ask, { sessionId: `${subject}-other:a`, text: "Hi" });
      await waitUntil("the other has a title", async () => (await titleOf(other, `${subject}-other:a`)) === "Numbers");
      expect(titlesAsked() - asked).toBe(1);
      expect(await titleOf(here, sessionId)).toBeNull();
    });
  });

  test.each([
    ["without a total", { prompt_tokens: 30, completion_tokens: 2 }],
    ["with a total of 0", { prompt_tokens: 30, completion_tokens: 2, total_tokens: 0 }],
    ["with none at all, which is estimated", null],
  ])("tokens a day: a usage %s is counted", async (_title, usage) => {
    const { here, subject } = await newcomer({ maxTokensPerDay: 20, maxSendsPerMinute: null });
    openai.behave(events(...hello, chunk({}, "stop"), usageChunk(usage), done));
    const variables = { sessionId: `${subject}:a`, text: "word ".repeat(30) };
    const { sendMessage } = await here.execute<Sent>(ask, variables);
    expect(sendMessage.run.status).toBe("COMPLETED");
    expect(await refusedBy(here, send, variables)).toMatchObject({ code: "RATE_LIMITED", limit: "tokensPerDay" });
  });
});

describe("without authentication", () => {
  test("there is no limit unless one is set, and then all callers share it", async () => {
    const topology = await topologies.standalone();
    const free = await startGateway({ redis: topology.redis });
    const limited = await startGateway({ redis: topology.redis, maxSendsPerMinute: 2 });
    const sent = Array.from({ length: 5 }, (_, i) =>
      callerOf(free.url, null).execute(send, { sessionId: `free${i}`, text: "hello" }),
    );
    await Promise.all(sent);
    const caller = callerOf(limited.url, null);
    await caller.execute(send, { sessionId: "a", text: "1" });
    await caller.execute(send, { sessionId: "b", text: "2" });
    expect(await caller.refusal(send, { sessionId: "c", text: "3" })).toContain("RATE_LIMITED");
    await Promise.all([free.close(), limited.close()]);
    await topology.stop();
  });
});
