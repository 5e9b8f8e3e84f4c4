import fc from "fast-check";
import { expect, test } from "vitest";

import { partsOf, recordAt, textAt, textIndexAt, toolPartAt, type RunPart } from "../../src/conversation/part-log.ts";
import { PartLog } from "../../src/conversation/part-writer.ts";
import { checkProperty } from "../support/store/property.ts";

interface Piece {
  readonly kind: "text" | "reasoning";
  readonly text: string;
}

const textOf = (part: RunPart | undefined): string => (part !== undefined && "text" in part ? part.text : "");

/** What is made of the pieces, with a line ended behind each piece of which `flush` says so. */
function written(pieces: readonly Piece[], mostBytes = 1_000_000, flush: (i: number) => boolean = () => false) {
  const log = new PartLog(mostBytes);
  let text = "";
  for (const [i, piece] of pieces.entries()) {
    if (piece.kind === "reasoning") log.reasoning(piece.text, text.length);
    else {
      log.text();
      text += piece.text;
    }
    if (flush(i)) expect(log.lines.isWellFormed()).toBe(true);
  }
  return { text, log: log.whole, leftOut: [...log.leftOut] };
}

const reasoning = (text: string): Piece => ({ kind: "reasoning", text });
const text = (piece: string): Piece => ({ kind: "text", text: piece });

test("reasoning, text and reasoning in mid-message are parts of their own, text with its start", () => {
  const made = written([
    reasoning("Hm"),
    reasoning("."),
    text("One "),
    text("two "),
    reasoning("Wait."),
    text("three"),
  ]);
  expect(made.log.split("\n")).toEqual(['["r",0,0,0,"Hm."]', '["r",2,0,8,"Wait."]', ""]);
  expect(partsOf(made.log, made.text, "~1~r")).toEqual([
    { kind: "reasoning", messageLocalId: "~1~r", text: "Hm." },
    { kind: "text", messageLocalId: "~1~r", start: 0, text: "One two " },
    { kind: "reasoning", messageLocalId: "~1~r", text: "Wait." },
    { kind: "text", messageLocalId: "~1~r", start: 8, text: "three" },
  ]);
});

test("a run without reasoning has one part, its text, and no log", () => {
  const made = written([text("Hello "), text("Jim")]);
  expect(made).toEqual({ text: "Hello Jim", log: "", leftOut: [] });
  expect(partsOf("", made.text, "r")).toEqual([{ kind: "text", messageLocalId: "r", start: 0, text: "Hello Jim" }]);
  expect(partsOf("", "", "r")).toEqual([]);
});

test("lines of a later version are passed over", () => {
  const log = '["x",0,{"a":1}]\n["r",0,0,0,"Hm"]\nno JSON\n["r",0,2,0,"."]\n';
  expect(partsOf(log, "Hi", "r").map(textOf)).toEqual(["Hm.", "Hi"]);
});

test("a line never ends inside a surrogate pair, and the last line takes the rest", () => {
  const log = new PartLog(1000);
  log.reasoning("a\u{1d11e}".slice(0, 2), 0);
  expect(log.lines).toBe('["r",0,0,0,"a"]\n');
  log.reasoning("\u{1d11e}".slice(1), 0);
  expect(log.lines).toBe('["r",0,0,0,"a"]\n["r",0,1,0,"\u{1d11e}"]\n');
  log.reasoning("\u{1d11e}".slice(0, 1), 0);
  expect(log.whole.endsWith('["r",0,3,0,"\\ud834"]\n')).toBe(true);
});

const piece = fc.record({
  kind: fc.constantFrom("text" as const, "reasoning" as const),
  text: fc.string({ unit: "grapheme", minLength: 1, maxLength: 6 }),
});

test("whatever comes, however it is cut into lines: pieces of one kind in a row are one part", async () => {
  const property = fc.property(
    fc.array(piece, { maxLength: 30 }),
    fc.infiniteStream(fc.boolean()),
    (pieces, flushes) => {
      const made = written(pieces, 1_000_000, () => flushes.next().value === true);
      const expected: { kind: string; text: string; start?: number }[] = [];
      let length = 0;
      for (const one of pieces) {
        const last = expected.at(-1);
        if (last?.kind === one.kind) last.text += one.text;
        else expected.push(one.kind === "text" ? { ...one, start: length } : { ...one });
        if (one.kind === "text") length += one.text.length;
      }
      const parts = partsOf(made.log, made.text, "r");
      expect(parts).toEqual(expected.map((one) => ({ ...one, messageLocalId: "r" })));
      // Each record names the place of its part, and the text behind it that of the next.
      for (let record = recordAt(made.log, 0); record !== null; record = recordAt(made.log, record.next)) {
        if (record.kind !== "reasoning") throw new Error(record.kind);
        const whole = textOf(parts[record.index]);
        expect(whole.slice(record.offset, record.offset + record.text.length)).toBe(record.text);
        expect(textIndexAt(made.log, record.next)).toBe(record.index + 1);
      }
    },
  );
  await checkProperty(property, { runs: 200 });
});

test("the log never holds more bytes than it may; text goes on, and parts keep their places", async () => {
  const property = fc.property(fc.array(piece, { maxLength: 60 }), fc.nat({ max: 600 }), (pieces, mostBytes) => {
    const made = written(pieces, mostBytes, (i) => i % 3 === 0);
    expect(Buffer.byteLength(made.log)).toBeLessThanOrEqual(mostBytes);
    const texts = pieces.filter(({ kind }) => kind === "text").map((one) => one.text);
    expect(made.text).toBe(texts.join(""));
    const parts = partsOf(made.log, made.text, "r");
    const joined = (kind: string) => parts.flatMap((part) => (part.kind === kind ? [textOf(part)] : [])).join("");
    expect(joined("text")).toBe(made.text);
    const thoughts = pieces.filter(({ kind }) => kind === "reasoning").map((one) => one.text);
    expect(thoughts.join("").startsWith(joined("reasoning"))).toBe(true);
    const isCut = mostBytes > 0 && joined("reasoning") !== thoughts.join("");
    expect(made.leftOut).toEqual(isCut ? ["reasoning"] : []);
    for (let record = recordAt(made.log, 0); record !== null; record = recordAt(made.log, record.next)) {
      expect(parts[record.index]?.kind).toBe("reasoning");
    }
  });
  await checkProperty(property, { runs: 200 });
});

test("an agent's run: calls with their arguments, what becomes of them, data, and the next message", () => {
  const log = new PartLog(10_000);
  log.message("m0");
  log.text();
  log.call("c1", "weather", 5);
  log.args("c1", '{"ci', 5);
  log.call("c2", "time", 5);
  log.args("c1", 'ty":"Rome"}', 5);
  log.ended("Look.");
  log.change("c1", { status: "RUNNING", startedAt: 1 }, 0);
  log.data("c1", "percent", 50, 0);
  log.change("c1", { status: "DONE", finishedAt: 2, content: "Sunny." }, 0);
  log.message("m1");
  log.text();
  const parts = partsOf(log.whole, "Fine", "m1", true);
  expect(parts).toEqual([
    { kind: "text", messageLocalId: "m0", start: 0, text: "Look." },
    {
      ...{
        kind: "tool",
        messageLocalId: "m0",
        callId: "c1",
        name: "weather",
        argsText: '{"city":"Rome"}',
        revision: 2,
      },
      ...{ status: "DONE", startedAt: 1, finishedAt: 2, content: "Sunny." },
    },
    // Of a run that is over, what has not begun never will.
    { kind: "tool", messageLocalId: "m0", callId: "c2", name: "time", argsText: "", revision: 0, status: "CANCELLED" },
    { kind: "data", messageLocalId: "m0", callId: "c1", name: "percent", data: 50 },
    { kind: "text", messageLocalId: "m1", start: 0, text: "Fine" },
  ]);
  expect(toolPartAt(log.whole, 1, log.whole.length, "none")).toEqual(parts[1]);
  expect([textAt(log.whole, 0, "Fine"), textIndexAt(log.whole, log.whole.length)]).toEqual(["Look.", 4]);
});

test("what is too much for the log is left out of it: arguments, results and data, never a call or its status", () => {
  const log = new PartLog(200);
  log.call("c1", "weather", 0);
  log.args("c1", "x".repeat(300), 0);
  log.change("c1", { status: "DONE", content: "y".repeat(300) }, 0);
  log.data("c1", "big", "z".repeat(300), 0);
  const part = { kind: "tool", messageLocalId: "m0", callId: "c1", name: "weather", argsText: "", revision: 1 };
  expect(partsOf(log.whole, "", "m0")).toEqual([{ ...part, status: "DONE", isCut: true, args: null }]);
  expect([...log.leftOut]).toEqual(["tools"]);
  // Of a run that goes on elsewhere it is known, too; and where nothing is to be kept there is nothing to say.
  expect([...new PartLog(200, log.whole).leftOut]).toEqual(["tools"]);
  const none = new PartLog(0);
  none.call("c1", "weather", 0);
  none.args("c1", "x", 0);
  none.change("c1", { status: "DONE", content: "y" }, 0);
  expect([...none.leftOut]).toEqual([]);
});

test("arguments that are too long are kept whole for a call that needs a decision; for other calls they are left out", () => {
  const log = new PartLog(400);
  const args = { to: "x".repeat(500) };
  for (const callId of ["c1", "c2"]) log.call(callId, "pay", 0);
  for (const callId of ["c1", "c2"]) log.args(callId, JSON.stringify(args), 0);
  log.change("c1", { status: "NEEDS_APPROVAL", args }, 0);
  log.change("c1", { status: "RUNNING" }, 0);
  log.change("c2", { status: "RUNNING" }, 0);
  expect(partsOf(log.whole, "", "m0")).toMatchObject([
    { argsText: "", args, status: "RUNNING" },
    { argsText: "", args: null, status: "RUNNING" },
  ]);
});

test("a result with an image that is too long keeps its text, and what is short enough behind it is kept whole", () => {
  const log = new PartLog(600);
  const image = { type: "image", mimeType: "image/png", data: "A".repeat(1000) };
  log.call("c1", "look", 0);
  log.call("c2", "look", 0);
  log.change("c1", { status: "DONE", content: [{ type: "text", text: "A bear" }, image] }, 0);
  log.change("c2", { status: "DONE", content: "Nothing" }, 0);
  log.reasoning("So a bear.", 0);
  const [first, second, thought] = partsOf(log.whole, "", "m0");
  expect(first).toMatchObject({ status: "DONE", content: [{ type: "text", text: "A bear" }], isCut: true });
  expect(second).toMatchObject({ status: "DONE", content: "Nothing" });
  expect(second).not.toHaveProperty("isCut");
  expect(thought).toMatchObject({ kind: "reasoning", text: "So a bear." });
  expect([...log.leftOut]).toEqual(["tools"]);
});
