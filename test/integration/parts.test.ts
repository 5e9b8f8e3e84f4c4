import fc from "fast-check";
import { afterAll, afterEach, beforeAll, expect, test } from "vitest";

import { ReplyStream } from "../../src/conversation/conversations/reply-stream.ts";
import { partsOf } from "../../src/conversation/part-log.ts";
import { PartLog } from "../../src/conversation/part-writer.ts";
import type { LogBatch, StartedTurn } from "../../src/conversation/ports/store.ts";
import { grownText, openBackend, partsSeen, range, type LiveReader, type TestBackend } from "../support/store/feeds.ts";
import { checkProperty } from "../support/store/property.ts";
import { startRedis, type TestRedis } from "../support/redis/redis-server.ts";
import { completed, failed, newOp, newTurn, owner } from "../support/store/store.ts";

// What a run makes beside its text, from the process that makes it to readers of two gateways.

let server: TestRedis;
let one: TestBackend;
let two: TestBackend;

beforeAll(async () => {
  server = await startRedis({ appendonly: false });
  one = openBackend(server.port);
  two = openBackend(server.port);
});

afterAll(async () => {
  await Promise.all([one.backend.close(), two.backend.close()]);
  await server.stop();
});

afterEach(() => {
  one.abortAll();
  two.abortAll();
});

async function begun(sessionId: string, question = "question"): Promise<StartedTurn> {
  const turn = await one.backend.store.begin(owner, sessionId, newTurn(sessionId, question));
  if (turn.kind !== "started") throw new Error(turn.kind);
  return turn;
}

const isOver = (reader: LiveReader, runId: string) =>
  reader.until("the end of the run", () =>
    reader.ofKind("run").some(({ run }) => run.runId === runId && run.finishedAt !== null),
  );

test("reasoning, then text: PartAdded, PartProgress, ReplyProgress, in order, at each gateway", async () => {
  const { store } = one.backend;
  const turn = await begun("order");
  const readers = [await one.open("order"), await two.open("order")];
  const log = new PartLog(10_000);
  const send = async (offset: number, text: string, thought: string) => {
    const before = log.lines.length;
    if (thought !== "") log.reasoning(thought, offset);
    if (text !== "") log.text();
    const batch: LogBatch = { offset: before, lines: log.lines.slice(before) };
    expect(await store.progress(turn, offset, text, batch)).toEqual({ kind: "ok" });
    for (const reader of readers) await reader.until(text + thought, () => textSeen(reader).endsWith(text + thought));
  };
  await send(0, "", "Hm. ");
  await send(0, "", "Well. ");
  await send(0, "Yes", "");
  await send(3, "", "Or no?");
  await store.finish(turn, { ...completed(turn, "Yes."), log: log.whole }, newOp().id);
  for (const reader of readers) {
    await isOver(reader, turn.runId);
    const told = reader.events.flatMap((event) =>
      event.kind === "partAdded"
        ? [[event.kind, event.index, grownText(event.part)]]
        : event.kind === "partProgress" || event.kind === "progress"
          ? [[event.kind, event.index, event.offset, event.text]]
          : [],
    );
    expect(told).toEqual([
      ["partAdded", 0, "Hm. "],
      ["partProgress", 0, 4, "Well. "],
      ["progress", 1, 0, "Yes"],
      ["partAdded", 2, "Or no?"],
      ["progress", 3, 3, "."],
    ]);
    expect(reader.events.slice(-2).map(({ kind }) => kind)).toEqual(["message", "run"]);
  }
});

function textSeen(reader: LiveReader): string {
  return reader.events
    .map((event) => (event.kind === "partAdded" ? (grownText(event.part) ?? "") : "text" in event ? event.text : ""))
    .join("");
}

test("a batch sent again because its answer was lost adds nothing; of a log that is shorter than expected its length is told", async () => {
  const { store } = one.backend;
  const turn = await begun("again");
  const batch = { offset: 0, lines: '["r",0,0,0,"Hm"]\n' };
  expect(await store.progress(turn, 0, "", batch)).toEqual({ kind: "ok" });
  expect(await store.progress(turn, 0, "", batch)).toEqual({ kind: "length", length: 0, logLength: 17 });
  expect(await store.progress(turn, 0, "x", { offset: 20, lines: "" })).toEqual({
    kind: "length",
    length: 0,
    logLength: 17,
  });
  expect(await store.progress(turn, 0, "x")).toEqual({ kind: "length", length: 0, logLength: 17 });
  const reading = await two.backend.store.read(owner, "again", { pages: [], runId: turn.runId });
  expect([reading?.run?.log, reading?.run?.text]).toEqual([batch.lines, ""]);
});

test.each([
  [
    "COMPLETED",
    async (turn: StartedTurn, log: string) =>
      one.backend.store.finish(turn, { ...completed(turn, "Yes, I do."), log }, newOp().id),
  ],
  [
    "FAILED",
    async (turn: StartedTurn, log: string) => one.backend.store.finish(turn, { ...failed("Yes, I"), log }, newOp().id),
  ],
  ["CANCELLED", async (turn: StartedTurn) => one.backend.store.cancel(owner, turn.sessionId, turn.runId)],
] as const)("%s: the parts stay with the run, and its end tells them", async (status, end) => {
  const id = `ended ${status}`;
  const turn = await begun(id);
  const reader = await two.open(id);
  const log = '["r",0,0,0,"Hm."]\n';
  await one.backend.store.progress(turn, 0, "Yes, ", { offset: 0, lines: log });
  await end(turn, log);
  await isOver(reader, turn.runId);
  const run = (await two.backend.store.read(owner, id, { pages: [], runId: turn.runId }))?.run;
  expect([run?.status, run?.log]).toEqual([status, log]);
  const told = reader.ofKind("run").find((event) => event.run.finishedAt !== null)?.run;
  expect([told?.log, told?.text]).toEqual([log, run?.text]);
  expect(partsSeen(reader.events, turn.runId)).toEqual(partsOf(log, run?.text ?? "", turn.run.replyLocalId));
});

test("a reader that does not read for long gets what it missed as one event a part", async () => {
  const { store } = one.backend;
  const turn = await begun("slow");
  const reader = await two.open("slow", null, "never");
  expect((await reader.next())?.kind).toBe("opened");
  const log = new PartLog(1_000_000);
  // More than the ring holds.
  for (const word of range(0, 600, "thought ")) {
    const { length } = log.lines;
    log.reasoning(word, 0);
    await store.progress(turn, 0, "", { offset: length, lines: log.lines.slice(length) });
  }
  await store.progress(turn, 0, "Yes", { offset: log.lines.length, lines: "" });
  expect(await reader.next()).toMatchObject({
    kind: "partAdded",
    index: 0,
    part: { text: range(0, 600, "thought ").join("") },
  });
  expect(await reader.next()).toMatchObject({ kind: "progress", index: 1, offset: 0, text: "Yes" });
});

const piece = fc.record({
  kind: fc.constantFrom("text" as const, "reasoning" as const),
  text: fc.string({ unit: "grapheme", minLength: 1, maxLength: 5 }),
  /** What happens before it. */
  first: fc.constantFrom("", "", "wait", "join", "resend", "foreign"),
});

test("whatever is thought and said, whoever comes when: every reader has the run's parts (P3, P6)", async () => {
  let count = 0;
  const property = fc.asyncProperty(fc.array(piece, { minLength: 1, maxLength: 25 }), async (pieces) => {
    const id = `property ${count++}`;
    const turn = await begun(id);
    const readers = [await one.open(id)];
    let loses = false;
    const stream = new ReplyStream(
      async (offset, text, log) => {
        const answer = await one.backend.store.progress(turn, offset, text, log);
        // As ioredis does where the answer was lost.
        if (!loses) return answer;
        loses = false;
        return await one.backend.store.progress(turn, offset, text, log);
      },
      () => undefined,
      300,
    );
    for (const { kind, text, first } of pieces) {
      if (first === "wait") await new Promise(setImmediate);
      if (first === "join") readers.push(await (readers.length % 2 === 0 ? one : two).open(id));
      if (first === "resend") loses = true;
      if (first === "foreign") await two.append(id, "aside");
      stream.add({ kind, text });
    }
    stream.stop();
    const { text, log } = stream;
    await one.backend.store.finish(turn, { ...completed(turn, text), log }, newOp().id);
    readers.push(await two.open(id));
    const expected = partsOf(log, text, turn.run.replyLocalId);
    for (const reader of readers.slice(0, -1)) {
      await isOver(reader, turn.runId);
      expect(partsSeen(reader.events, turn.runId)).toEqual(expected);
      // Applied twice, events change nothing.
      const twice = reader.events.flatMap((event) => [event, event]);
      expect(partsSeen(twice, turn.runId)).toEqual(expected);
    }
    one.abortAll();
    two.abortAll();
  });
  await checkProperty(property, { runs: 40 });
});
