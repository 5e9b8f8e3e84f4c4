import fc from "fast-check";
import { Redis } from "ioredis";
import { afterAll, afterEach, beforeAll, expect, test } from "vitest";

import { ReplyStream } from "../../src/conversation/conversations/reply-stream.ts";
import { RunSteps } from "../../src/conversation/conversations/run-steps.ts";
import { ParleyError } from "../../src/conversation/errors.ts";
import type { SessionEvent } from "../../src/conversation/events.ts";
import { partsOf } from "../../src/conversation/part-log.ts";
import type { StartedTurn } from "../../src/conversation/ports/store.ts";
import { sessionKeys } from "../../src/redis/store/keys.ts";
import { startRedis, type TestRedis } from "../support/redis/redis-server.ts";
import { openBackend, partsSeen, textOf, type LiveReader, type TestBackend } from "../support/store/feeds.ts";
import { checkProperty } from "../support/store/property.ts";
import { answerTo, openStep, waitingStep } from "../support/store/steps.ts";
import { completed, failed, must, newOp, newTurn, owner } from "../support/store/store.ts";

// The steps of an agent's run, from the process that makes them to the history and to readers of two gateways.

let server: TestRedis;
let redis: Redis;
let one: TestBackend;
let two: TestBackend;

beforeAll(async () => {
  server = await startRedis({ appendonly: false });
  redis = new Redis(server.port, "127.0.0.1");
  one = openBackend(server.port);
  two = openBackend(server.port);
});

afterAll(async () => {
  await Promise.all([one.backend.close(), two.backend.close()]);
  redis.disconnect();
  await server.stop();
});

afterEach(() => {
  one.abortAll();
  two.abortAll();
});

/** What is kept of a session's open step. */
async function stepFields(id: string): Promise<readonly string[]> {
  const [, , runs] = sessionKeys(id).all;
  const fields = await redis.hkeys(runs);
  // There are its runs.
  expect(fields).not.toEqual([]);
  return fields.filter((field) => /:(step|call|answer|said|wait|decision)/.test(field));
}

interface Running {
  readonly turn: StartedTurn;
  readonly stream: ReplyStream;
  readonly steps: RunSteps;
  say(text: string): void;
  /** Begins to call the tool "t" by these ids. */
  call(...callIds: readonly string[]): Promise<boolean>;
  answer(callId: string): Promise<boolean>;
}

async function running(id: string, text: string | null = "question", at = one): Promise<Running> {
  const turn = await at.backend.store.begin(owner, id, newTurn(id, text));
  if (turn.kind !== "started") throw new Error(turn.kind);
  const { store } = at.backend;
  const stream = new ReplyStream(
    (offset, piece, log) => store.progress(turn, offset, piece, log),
    () => undefined,
    100_000,
  );
  const steps = new RunSteps(turn, stream, store, () => Date.now());
  const begin = () => stream.add({ kind: "message" }, steps.message.localId);
  let isNew = true;
  const fresh = () => {
    if (isNew) begin();
    isNew = false;
  };
  return {
    turn,
    stream,
    steps,
    say(piece) {
      fresh();
      stream.add({ kind: "text", text: piece });
    },
    async call(...callIds) {
      fresh();
      for (const callId of callIds) {
        stream.add({ kind: "call", callId, name: "t" });
        stream.add({ kind: "arguments", callId, text: "{}" });
      }
      const calls = callIds.map((callId) => ({ callId, name: "t" }));
      const tool_calls = callIds.map((callId) => ({ id: callId, name: "t", args: {}, type: "tool_call" }));
      const isOpen = await steps.open({ data: { content: stream.text, tool_calls }, calls, usage: null });
      if (isOpen)
        for (const callId of callIds)
          stream.add({ kind: "change", callId, change: { status: "RUNNING", startedAt: 1 } });
      isNew = true;
      return isOpen;
    },
    answer: (callId) =>
      steps.answer({
        callId,
        data: { content: `answer ${callId}`, tool_call_id: callId, name: "t", status: "success" },
        change: { status: "DONE", finishedAt: 2, content: `answer ${callId}` },
      }),
  };
}

async function end({ turn, stream, steps }: Running, text: string, at = one): Promise<void> {
  stream.stop();
  const done = completed(turn, text);
  if (done.kind !== "completed") throw new Error(done.kind);
  const { head, tail } = done.reply;
  const reply = { head: head.replace(turn.state.replyMessageId, steps.message.messageId), tail };
  await at.backend.store.finish(turn, { ...done, reply, text, log: stream.log }, newOp().id);
}

interface StoredRow {
  readonly type: string;
  readonly data: { readonly content: string; readonly tool_call_id?: string; readonly status?: string };
}

async function rowsOf(id: string): Promise<readonly StoredRow[]> {
  return (await redis.lrange(id, 0, -1)).reverse().map((row) => JSON.parse(row) as StoredRow);
}

/** Each row as its type and text, and with what came of a tool. */
async function listOf(id: string): Promise<readonly string[]> {
  return (await rowsOf(id)).map(({ type, data }) =>
    [type, data.content, data.tool_call_id, data.status].filter((part) => part !== undefined).join(" "),
  );
}

async function runAt(id: string, runId: string) {
  return must((await two.backend.store.read(owner, id, { pages: [], runId }))?.run);
}

const lost = "The call was begun and its result was lost: it may or may not have taken effect.";

const isOver = (reader: LiveReader, runId: string) =>
  reader.until("the end of the run", () =>
    reader.ofKind("run").some(({ run }) => run.runId === runId && run.finishedAt !== null),
  );

test("nothing of a step is in the history before its last answer, then all of it, in the order of its calls", async () => {
  const run = await running("order");
  run.say("Let me look. ");
  expect(await run.call("a", "b")).toBe(true);
  expect(await run.answer("b")).toBe(true);
  expect(await listOf("order")).toEqual(["human question"]);
  expect(await run.answer("a")).toBe(true);
  const step = ["ai Let me look. ", "tool answer a a success", "tool answer b b success"];
  expect(await listOf("order")).toEqual(["human question", ...step]);
  run.say("Done.");
  await end(run, "Done.");
  expect(await listOf("order")).toEqual(["human question", ...step, "ai Done."]);
  const { rows, replyRow, status } = await runAt("order", run.turn.runId);
  expect([status, rows, replyRow?.position]).toEqual(["COMPLETED", { first: 1, last: 4 }, 4]);
  expect(await stepFields("order")).toEqual([]);
});

test("each subscriber gets the parts, then the message that calls tools, the answers, and the rest", async () => {
  const readers: LiveReader[] = [];
  const run = await running("told");
  for (const at of [one, two]) readers.push(await at.open("told"));
  run.say("Let me look. ");
  await run.call("a");
  await run.answer("a");
  run.say("Done.");
  await end(run, "Done.");
  for (const reader of readers) {
    await isOver(reader, run.turn.runId);
    expect(reader.events.map((event) => nameOf(event)).slice(1)).toEqual([
      ...["progress 0 Let me look. ", "partAdded 1", "partChanged 1 RUNNING", "partChanged 1 DONE"],
      ...["message Let me look. ", "message answer a", "progress 2 Done.", "message Done.", "run COMPLETED"],
    ]);
    const told = await runAt("told", run.turn.runId);
    expect(partsSeen(reader.events, run.turn.runId)).toEqual(partsOf(told.log, told.text, told.replyLocalId));
  }
});

function nameOf(event: SessionEvent): string {
  switch (event.kind) {
    case "progress":
      return `progress ${event.index} ${event.text}`;
    case "partAdded":
      return `partAdded ${event.index}`;
    case "partChanged":
      return `partChanged ${event.index} ${event.part.status}`;
    case "message":
      return `message ${textOf(event.message.row.raw)}`;
    case "run":
      return `run ${event.run.status}`;
    default:
      return event.kind;
  }
}

test.each([
  ["cancelled", "CANCELLED", ({ turn }: Running) => one.backend.store.cancel(owner, turn.sessionId, turn.runId)],
  [
    "interrupted by another message",
    "CANCELLED",
    async ({ turn: { sessionId } }: Running) =>
      one.backend.store.begin(owner, sessionId, newTurn(sessionId, "next", { whenBusy: "INTERRUPT" })),
  ],
  [
    "failed",
    "FAILED",
    async ({ turn, stream }: Running) => one.backend.store.finish(turn, { ...failed(""), log: stream.log }, newOp().id),
  ],
] as const)("%s with a step open: it goes in, with what is known of its calls", async (how, status, close) => {
  const id = `open ${how}`;
  const run = await running(id);
  await run.call("a", "b");
  await run.answer("b");
  await close(run);
  const step = ["ai ", `tool ${lost} a error`, "tool answer b b success"];
  expect((await listOf(id)).slice(0, 4)).toEqual(["human question", ...step]);
  const { rows, replyRow, status: ended } = await runAt(id, run.turn.runId);
  expect([ended, rows, replyRow?.position]).toEqual([status, { first: 1, last: 3 }, 1]);
  expect(await run.answer("a")).toBe(false);
  expect((await listOf(id)).slice(1, 4)).toEqual(step);
});

test("a run whose process died with a step open is closed with it; a stale owner changes nothing any more", async () => {
  const brief = openBackend(server.port, { leaseMs: 1 });
  const run = await running("died", "question", brief);
  expect(await run.call("a")).toBe(true);
  const { store } = two.backend;
  await expect
    .poll(async () => (await store.attend("died", true), (await runAt("died", run.turn.runId)).status))
    .toBe("FAILED");
  const rows = ["human question", "ai ", `tool ${lost} a error`];
  expect(await listOf("died")).toEqual(rows);
  expect((await runAt("died", run.turn.runId)).error?.code).toBe("RUN_LOST");
  expect(await run.answer("a")).toBe(false);
  const next = await running("died", "next");
  const none = { offset: 0, lines: "" };
  expect(await store.step(run.turn, openStep(run.turn, ["x"]), none)).toEqual({ kind: "closed" });
  await next.call("x");
  expect(await store.answer(run.turn, answerTo(run.turn, 1, "x"), none, newOp().id)).toEqual({ kind: "closed" });
  await next.answer("x");
  expect(await listOf("died")).toEqual([...rows, "human next", "ai ", "tool answer x x success"]);
  await brief.backend.close();
});

test("where the history is lost an answer and a claim are refused, also when they are sent again", async () => {
  const { store } = one.backend;
  const none = { offset: 0, lines: "" };
  const { turn } = await running("lost answer");
  await store.step(turn, openStep(turn, ["a"]), none);
  await redis.del("lost answer");
  const op = newOp().id;
  for (const time of ["first", "again"]) {
    expect([time, await store.answer(turn, answerTo(turn, 1, "a"), none, op)]).toEqual([time, { kind: "closed" }]);
  }
  const waits = (await running("lost claim")).turn;
  await store.wait(waits, waitingStep(waits, ["a"]), none);
  const decisions = [{ number: 1, callId: "a", decision: "yes", row: null }];
  const response = { runId: waits.runId, left: 0, row: null, log: none, decisions };
  const resumed = await store.respond(owner, "lost claim", response, newOp());
  if (resumed.kind !== "started") throw new Error(resumed.kind);
  await redis.del("lost claim");
  const claim = newOp().id;
  expect(await store.claimCalls(resumed, openStep(waits, ["a"]).calls, claim)).toBe(false);
  expect(await store.claimCalls(resumed, openStep(waits, ["a"]).calls, claim)).toBe(false);
});

test("a call whose id holds tabs has the row that stands in for its answer", async () => {
  const run = await running("tabs");
  await run.call("a\tb", "\t");
  await run.answer("\t");
  await one.backend.store.cancel(owner, "tabs", run.turn.runId);
  const answers = [`tool ${lost} a\tb error`, "tool answer \t \t success"];
  expect(await listOf("tabs")).toEqual(["human question", "ai ", ...answers]);
});

test("a step of thousands of calls is closed in one write", async () => {
  const { turn } = await running("thousands");
  const { store } = one.backend;
  const callIds = Array.from({ length: 4500 }, (_, i) => `c${i}`);
  await store.step(turn, openStep(turn, callIds), { offset: 0, lines: "" });
  await store.cancel(owner, "thousands", turn.runId);
  expect((await runAt("thousands", turn.runId)).status).toBe("CANCELLED");
  expect(await redis.llen("thousands")).toBe(4502);
  expect(await stepFields("thousands")).toEqual([]);
});

test("cleared or deleted with a step open: nothing of it is left", async () => {
  const run = await running("cleared");
  await run.call("a");
  await one.backend.store.clear(owner, "cleared");
  expect(await listOf("cleared")).toEqual([]);
  expect(await run.answer("a")).toBe(false);
  const other = await running("deleted");
  await other.call("a");
  await one.backend.store.remove(owner, "deleted");
  expect(await other.answer("a")).toBe(false);
  expect(await redis.exists("deleted")).toBe(0);
});

test("a reply that is made anew stays until the first step is whole; what others appended meanwhile stays behind it", async () => {
  const first = await running("anew");
  first.say("Old.");
  await end(first, "Old.");
  const run = await running("anew", null);
  await run.call("a");
  await two.append("anew", "aside");
  expect(await listOf("anew")).toEqual(["human question", "ai Old.", "human aside"]);
  await run.answer("a");
  expect(await listOf("anew")).toEqual(["human question", "ai ", "tool answer a a success", "human aside"]);
  run.say("New.");
  await end(run, "New.");
  expect((await listOf("anew")).slice(-2)).toEqual(["human aside", "ai New."]);
});

test("a text that was begun behind a step is the next message's where the run is cancelled", async () => {
  const run = await running("partial");
  await run.call("a");
  await run.answer("a");
  run.say("Half");
  await expect.poll(async () => (await runAt("partial", run.turn.runId)).text).toBe("Half");
  await one.backend.store.cancel(owner, "partial", run.turn.runId);
  expect(await listOf("partial")).toEqual(["human question", "ai ", "tool answer a a success", "ai Half"]);
  const { replyRow, replyLocalId } = await runAt("partial", run.turn.runId);
  expect(replyRow?.raw).toContain(`"id":"${run.turn.state.replyMessageId}.1"`);
  expect(replyLocalId).toBe("~3~" + run.turn.state.replyMessageId + ".1");
});

test("a step waits while the store is away, and is written once; any other error is passed on", async () => {
  const { turn, stream } = await running("away");
  const { store } = one.backend;
  let failures = 2;
  const steps = new RunSteps(
    turn,
    stream,
    {
      async step(...args) {
        const reply = await store.step(...args);
        // It was written, and the answer lost.
        if (failures-- > 0) throw new ParleyError("STORE_UNAVAILABLE", "Away.");
        return reply;
      },
      wait: () => Promise.reject(new Error("A bug")),
      claimCalls: () => Promise.reject(new Error("A bug")),
      answer: () => Promise.reject(new Error("A bug")),
    },
    () => Date.now(),
  );
  const calls = [{ callId: "a", name: "t" }];
  const tool_calls = [{ id: "a", name: "t", args: {}, type: "tool_call" }];
  expect(await steps.open({ data: { content: "", tool_calls }, calls, usage: null })).toBe(true);
  expect(failures).toBe(-1);
  const answer = { callId: "a", data: { content: "x", tool_call_id: "a" }, change: { status: "DONE" } } as const;
  await expect(steps.answer(answer)).rejects.toThrow("A bug");
  await one.backend.store.cancel(owner, "away", turn.runId);
  expect(await listOf("away")).toEqual(["human question", "ai ", `tool ${lost} a error`]);
});

/** A run that has waited, and goes on behind the last decision: none of its calls is claimed yet. */
async function unclaimed(id: string, at: TestBackend) {
  const { store } = at.backend;
  const { turn } = await running(id, "question", at);
  expect(await store.wait(turn, waitingStep(turn, ["a"]), { offset: 0, lines: "x\n" })).toEqual({ kind: "ok" });
  // Whoever had the run has it no more.
  expect(await store.progress(turn, 0, "stale")).toEqual({ kind: "closed" });
  expect(await store.renew(turn)).toBe(false);
  const decisions = [{ number: 1, callId: "a", decision: "yes", row: null }];
  const response = { runId: turn.runId, left: 0, row: null, log: { offset: 2, lines: "y\n" }, decisions };
  const resumed = await store.respond(owner, id, response, newOp());
  if (resumed.kind !== "started") throw new Error(resumed.kind);
  return { turn, resumed, calls: openStep(turn, ["a"]).calls };
}

test("cancelled behind the last decision, before its calls are claimed: nothing of the step is stored but its text", async () => {
  const { turn, resumed, calls } = await unclaimed("unclaimed", one);
  const { store } = one.backend;
  await store.cancel(owner, "unclaimed", turn.runId);
  expect((await runAt("unclaimed", turn.runId)).status).toBe("CANCELLED");
  expect(await listOf("unclaimed")).toEqual(["human question", "ai said"]);
  expect(await store.claimCalls(resumed, calls, "i:late")).toBe(false);
  expect(await stepFields("unclaimed")).toEqual([]);
});

test("its process dies behind the last decision, before its calls are claimed: another carries it on, and the first may claim no more", async () => {
  const brief = openBackend(server.port, { leaseMs: 1 });
  const { store } = brief.backend;
  const { turn, resumed, calls } = await unclaimed("taken", brief);
  const next = async () => {
    const taken: StartedTurn[] = [];
    await expect
      .poll(async () => {
        const { turn: found } = await store.attend("taken", true);
        if (found !== null) taken.push(found);
        return taken.length;
      })
      .toBe(1);
    return must(taken[0]);
  };
  const taken = await next();
  const { runId, token } = resumed;
  const goesOn = { log: "x\ny\n", state: "{}", decisions: ["yes"] };
  expect(taken).toMatchObject({ runId, token: token + 1, resumed: goesOn, inputRow: resumed.inputRow });
  // What is sent meanwhile waits its turn, also where this lease has ended.
  const behind = await store.begin(owner, "taken", newTurn("taken", "next"));
  expect(behind.kind).toBe("queued");
  expect((await runAt("taken", runId)).status).toBe("RUNNING");
  expect(await store.claimCalls(resumed, calls, "i:stale")).toBe(false);

  // Each that tries may die of it.
  expect(await next()).toMatchObject({ token: token + 2, resumed: goesOn });
  const last = await next();
  expect(last).toMatchObject({ token: token + 3, resumed: goesOn });
  await expect
    .poll(async () => {
      await store.attend("taken", false);
      return (await runAt("taken", runId)).status;
    })
    .toBe("FAILED");
  expect(await store.claimCalls(last, calls, "i:late")).toBe(false);
  expect((await listOf("taken"))[0]).toBe("human question");
  expect(await listOf("taken")).not.toContain("ai calls a");
  expect(turn.runId).toBe(runId);
  await brief.backend.close();
});

test("its process dies behind the claim: the run is closed, and what was begun is told", async () => {
  const brief = openBackend(server.port, { leaseMs: 1 });
  const { store } = brief.backend;
  const { turn, resumed, calls } = await unclaimed("claimed", brief);
  expect(await store.claimCalls(resumed, calls, "i:claim")).toBe(true);
  await expect
    .poll(async () => {
      expect((await store.attend("claimed", true)).turn).toBeNull();
      return (await runAt("claimed", turn.runId)).status;
    })
    .toBe("FAILED");
  expect(await listOf("claimed")).toEqual(["human question", "ai calls a", "tool a lost a error"]);
  await brief.backend.close();
});

test.each(["CANCELLED", "FAILED"])(
  "%s while a page carries a call out: the step is stored with what is known of each call",
  async (status) => {
    const { store } = one.backend;
    const id = `begun ${status}`;
    const { turn } = await running(id);
    const waiting = waitingStep(turn, ["a", "b", "c"], "not begun");
    await store.wait(turn, waiting, { offset: 0, lines: "" });
    const [lost] = openStep(turn, ["a"]).calls;
    if (lost === undefined) throw new Error("There is a call");
    const decisions = [
      { number: 1, callId: "a", decision: "begun", row: { is: "call", row: lost.lost } },
      { number: 2, callId: "b", decision: "result", row: { is: "answer", row: answerTo(turn, 2, "b").row } },
    ] as const;
    const log = { offset: 0, lines: "" };
    const response = { runId: turn.runId, left: 2, row: null, log, decisions };
    expect(await store.respond(owner, id, response, newOp())).toEqual({ kind: "ok" });
    if (status === "CANCELLED") await store.cancel(owner, id, turn.runId);
    // Its time is over.
    else await redis.hset(sessionKeys(id).session, "until", 1);
    await store.attend(id, true);
    expect((await runAt(id, turn.runId)).status).toBe(status);
    expect(await listOf(id)).toEqual([
      ...["human question", "ai calls a,b,c", "tool a lost a error", "tool answer to b b success"],
      "tool c not begun c error",
    ]);
    expect(await stepFields(id)).toEqual([]);
  },
);

const step = ["ai", "tool", "tool"];

test.each([
  // A step that is longer than the history may be goes whole.
  [1, [], []],
  [2, [], []],
  [3, step, step],
  [4, ["human", ...step], step],
  [6, ["human", ...step], [...step, ...step]],
])(
  "MAX_MESSAGES_PER_SESSION %i: never an answer without its call, nor a call without its answers; the run goes on",
  async (maxMessages, first, second) => {
    const small = openBackend(server.port, { maxMessages });
    const id = `small ${maxMessages}`;
    const run = await running(id, "question", small);
    for (const [callId, types] of [["a", first] as const, ["b", second] as const]) {
      expect(await run.call(callId, `${callId}2`)).toBe(true);
      expect(await run.answer(callId)).toBe(true);
      expect(await run.answer(`${callId}2`)).toBe(true);
      expect((await rowsOf(id)).map(({ type }) => type)).toEqual(types);
    }
    await end(run, "Done.", small);
    expect((await runAt(id, run.turn.runId)).status).toBe("COMPLETED");
    expect((await listOf(id)).at(-1)).toBe("ai Done.");
    await small.backend.close();
  },
);

const action = fc.oneof(
  {
    weight: 3,
    arbitrary: fc.record({ kind: fc.constant("say" as const), text: fc.string({ minLength: 1, maxLength: 4 }) }),
  },
  {
    weight: 1,
    arbitrary: fc.record({ kind: fc.constant("think" as const), text: fc.string({ minLength: 1, maxLength: 4 }) }),
  },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant("step" as const), calls: fc.integer({ min: 1, max: 3 }) }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant("pause" as const) }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant("join" as const) }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant("foreign" as const) }) },
);

test("whatever an agent does, whoever comes when: every reader has the run's parts, and the history whole steps", async () => {
  let count = 0;
  const property = fc.asyncProperty(fc.array(action, { minLength: 1, maxLength: 16 }), async (actions) => {
    const id = `agent ${count++}`;
    const run = await running(id);
    const readers = [await one.open(id), await two.open(id)];
    const idle = await two.open(id, null, "never");
    let calls = 0;
    let steps = 0;
    for (const each of actions) {
      if (each.kind === "say") run.say(each.text);
      if (each.kind === "think") {
        run.say("");
        run.stream.add({ kind: "reasoning", text: each.text });
      }
      if (each.kind === "pause") await new Promise(setImmediate);
      if (each.kind === "join") readers.push(await (readers.length % 2 === 0 ? one : two).open(id));
      if (each.kind === "foreign") await two.append(id, "aside");
      if (each.kind === "step") {
        const ids = Array.from({ length: each.calls }, () => `c${calls++}`);
        steps += 1;
        expect(await run.call(...ids)).toBe(true);
        await Promise.all(ids.toReversed().map((callId) => run.answer(callId)));
      }
    }
    const { text } = run.stream;
    await end(run, text);
    idle.startPulling();
    readers.push(idle);
    const made = await runAt(id, run.turn.runId);
    const expected = partsOf(made.log, made.text, made.replyLocalId, true);
    for (const reader of readers) {
      await isOver(reader, run.turn.runId);
      expect(partsSeen(reader.events, run.turn.runId)).toEqual(expected);
      const twice = reader.events.flatMap((event) => [event, event]);
      expect(partsSeen(twice, run.turn.runId)).toEqual(expected);
    }
    const rows = await rowsOf(id);
    const answers = rows.filter(({ type }) => type === "tool").map(({ data }) => data.tool_call_id);
    expect(answers).toEqual(Array.from({ length: calls }, (_, i) => `c${i}`));
    expect(rows.filter(({ type }) => type === "ai").length).toBe(steps + 1);
    one.abortAll();
    two.abortAll();
  });
  await checkProperty(property, { runs: 25 });
});
