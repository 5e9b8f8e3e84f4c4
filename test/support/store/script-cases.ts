import { expect } from "vitest";
import type { Session } from "../../../src/conversation/session.ts";
import type { Reading, StartedTurn } from "../../../src/conversation/ports/store.ts";
import { decodeStoredMessage } from "../../../src/conversation/message/stored-message.ts";
import { sessionKeys } from "../../../src/redis/store/keys.ts";
import type { SessionScript } from "../../../src/redis/scripts/contracts.ts";
import { completed, foreignRow, must, newMessage, newOp, newRecord, newTurn, owner, type TestStore } from "./store.ts";
import { answerTo, openStep, waitingStep } from "./steps.ts";

/** A session in which a script has something to do, and what it has done there when it has run: once, however often sent. */
export interface ScriptCase {
  readonly prepare: (at: TestStore, id: string) => Promise<(at: TestStore) => Promise<unknown>>;
  /** `resent`: the first answer was lost, and this is the second one's. */
  readonly effect: (at: TestStore, id: string, result: unknown, resent: boolean) => Promise<void>;
}

const page = { first: 200, after: null, last: null, before: null };

export async function readWhole(at: TestStore, id: string, runId?: string): Promise<Reading> {
  const request = runId === undefined ? { pages: [page] } : { pages: [page], runId };
  return must(await at.store.read(owner, id, request));
}

export function textsOf(session: Session): readonly string[] {
  const [first] = session.pages;
  if (first === undefined || first instanceof Error) throw first ?? new Error("No page was asked for");
  return first.rows.map((row) => decodeStoredMessage(row.raw).text);
}

async function textsAt(at: TestStore, id: string): Promise<readonly string[]> {
  return textsOf((await readWhole(at, id)).session);
}

async function filled(at: TestStore, id: string, ...texts: string[]): Promise<void> {
  const messages = texts.map((text) => newMessage(id, "USER", text, null));
  await at.store.append(owner, id, messages, newOp());
}

export async function started(at: TestStore, id: string, text: string | null): Promise<StartedTurn> {
  const answer = await at.store.begin(owner, id, newTurn(id, text));
  if (answer.kind !== "started") throw new Error(`Expected a turn, got ${answer.kind}`);
  return answer;
}

/** A running turn that has made text, and one that waits. */
async function busy(at: TestStore, id: string): Promise<StartedTurn> {
  await filled(at, id, "before");
  const turn = await started(at, id, "question");
  await at.store.progress(turn, 0, "half");
  expect((await at.store.begin(owner, id, newTurn(id, "next"))).kind).toBe("queued");
  return turn;
}

const statusOf = async (at: TestStore, id: string, runId: string) => (await readWhole(at, id, runId)).run?.status;
/** What a case's prepare() has to tell its effect(). */
const turns = new Map<string, StartedTurn>();

export const scriptCases: Readonly<Record<SessionScript, ScriptCase>> = {
  begin: {
    prepare: async (at, id) => {
      await filled(at, id, "before");
      const turn = newTurn(id, "question");
      return (by) => by.store.begin(owner, id, turn);
    },
    effect: async (at, id, result) => {
      const { session } = await readWhole(at, id);
      expect(textsOf(session)).toEqual(["before", "question"]);
      expect(result).toMatchObject({ kind: "started", runId: session.activeRun?.runId, token: 1, low: 0 });
      expect((result as StartedTurn).rows.map((row) => decodeStoredMessage(row).text)).toEqual(["before"]); // checked to be one above
      expect(session.queuedRuns).toEqual([]);
    },
  },
  attend: {
    prepare: async (at, id) => {
      const turn = await busy(at, id);
      await at.store.finish(turn, completed(turn, "answer"), "i:1");
      return async (by) => (await by.store.attend(id, false)).turn;
    },
    effect: async (at, id, result) => {
      const { session } = await readWhole(at, id);
      expect(textsOf(session)).toEqual(["before", "question", "answer", "next"]);
      expect(result).toMatchObject({ kind: "started", owner, runId: session.activeRun?.runId, token: 2 });
      expect(session.queuedRuns).toEqual([]);
    },
  },
  progress: {
    prepare: async (at, id) => {
      const turn = await started(at, id, "question");
      return (by) => by.store.progress(turn, 0, 'H"é', { offset: 0, lines: '["r",0,0,0,"Hm"]\n' });
    },
    effect: async (at, id, result, resent) => {
      expect(result).toEqual(resent ? { kind: "length", length: 3, logLength: 17 } : { kind: "ok" });
      const { activeRun } = (await readWhole(at, id)).session;
      expect([activeRun?.text, activeRun?.log]).toEqual(['H"é', '["r",0,0,0,"Hm"]\n']);
    },
  },
  renew: {
    prepare: async (at, id) => {
      const turn = await started(at, id, "question");
      return (by) => by.store.renew(turn);
    },
    effect: async (at, id, result) => {
      expect(result).toBe(true);
      expect((await readWhole(at, id)).session.activeRun?.status).toBe("RUNNING");
    },
  },
  finish: {
    prepare: async (at, id) => {
      const turn = await busy(at, id);
      turns.set(id, turn);
      const usage = { inputTokens: 3, outputTokens: 4, totalTokens: 7 };
      return (by) => by.store.finish(turn, completed(turn, "answer", usage), "i:1");
    },
    effect: async (at, id) => {
      const { session, run } = await readWhole(at, id, turns.get(id)?.runId);
      expect(textsOf(session)).toEqual(["before", "question", "answer"]);
      expect(session.usage).toEqual({ inputTokens: 3, outputTokens: 4, totalTokens: 7 });
      expect([run?.status, session.activeRun, session.queuedRuns.length]).toEqual(["COMPLETED", null, 1]);
    },
  },
  step: {
    prepare: async (at, id) => {
      const turn = await started(at, id, "question");
      turns.set(id, turn);
      return (by) => by.store.step(turn, openStep(turn, ["c1"]), { offset: 0, lines: "x\n" });
    },
    effect: async (at, id, result) => {
      expect(result).toEqual({ kind: "ok" });
      const { session } = await readWhole(at, id);
      expect(textsOf(session)).toEqual(["question"]);
      expect([session.activeRun?.log, session.activeRun?.replyLocalId]).toEqual(["x\n", "~3~next"]);
    },
  },
  answer: {
    prepare: async (at, id) => {
      const turn = await started(at, id, "question");
      turns.set(id, turn);
      await at.store.step(turn, openStep(turn, ["c1"]), { offset: 0, lines: "x\n" });
      return (by) => by.store.answer(turn, answerTo(turn, 1, "c1"), { offset: 2, lines: "y\n" }, "i:1");
    },
    effect: async (at, id, result) => {
      expect(result).toEqual({ kind: "ok" });
      const { session } = await readWhole(at, id);
      expect(textsOf(session)).toEqual(["question", "calls c1", "answer to c1"]);
      expect(session.activeRun?.log).toBe("x\ny\n");
    },
  },
  waiting: {
    prepare: async (at, id) => {
      const turn = await started(at, id, "question");
      await at.store.wait(turn, waitingStep(turn, ["c1", "c2"]), { offset: 0, lines: "x\n" });
      return (by) => by.store.waiting(owner, id, turn.runId, "i:none");
    },
    effect: async (at, id, result) => {
      expect(result).toMatchObject({ kind: "waiting", log: "x\n", state: "{}", decisions: [null, null] });
      expect(await textsAt(at, id)).toEqual(["question"]);
    },
  },
  respond: {
    prepare: async (at, id) => {
      const turn = await started(at, id, "question");
      turns.set(id, turn);
      await at.store.wait(turn, waitingStep(turn, ["c1"]), { offset: 0, lines: "x\n" });
      const decisions = [{ number: 1, callId: "c1", decision: "yes", row: null }];
      const log = { offset: 2, lines: "y\n" };
      const op = newOp();
      return (by) => by.store.respond(owner, id, { runId: turn.runId, left: 0, row: null, log, decisions }, op);
    },
    effect: async (at, id, result, resent) => {
      // Who sends it again is another process, or does so as another attempt.
      if (!resent) {
        const { runId, token } = must(turns.get(id));
        const resumed = { log: "x\ny\n", state: "{}", decisions: ["yes"] };
        expect(result).toMatchObject({ kind: "started", runId, token: token + 2, resumed });
      }
      const { session } = await readWhole(at, id);
      expect([session.activeRun?.status, session.activeRun?.log]).toEqual(["RUNNING", "x\ny\n"]);
      expect(textsOf(session)).toEqual(["question"]);
    },
  },
  claim: {
    prepare: async (at, id) => {
      const turn = await started(at, id, "question");
      await at.store.wait(turn, waitingStep(turn, ["c1"]), { offset: 0, lines: "" });
      const { row } = answerTo(turn, 1, "c1");
      const decisions = [{ number: 1, callId: "c1", decision: "no", row: { is: "answer", row } as const }];
      const log = { offset: 0, lines: "" };
      const response = { runId: turn.runId, left: 0, row: null, log, decisions };
      const resumed = await at.store.respond(owner, id, response, newOp());
      if (resumed.kind !== "started") throw new Error(resumed.kind);
      return (by) => by.store.claimCalls(resumed, openStep(turn, ["c1"]).calls, "i:claim");
    },
    effect: async (at, id, result) => {
      expect(result).toBe(true);
      expect(await textsAt(at, id)).toEqual(["question", "calls c1", "answer to c1"]);
    },
  },
  cancel: {
    prepare: async (at, id) => {
      const turn = await busy(at, id);
      turns.set(id, turn);
      return (by) => by.store.cancel(owner, id, turn.runId);
    },
    effect: async (at, id) => {
      expect(await textsAt(at, id)).toEqual(["before", "question", "half"]);
      expect(await statusOf(at, id, turns.get(id)?.runId ?? "")).toBe("CANCELLED");
    },
  },
  append: {
    prepare: async (at, id) => {
      await filled(at, id, "before");
      const own = newMessage(id, "ASSISTANT", "two", { id: `m:chosen-${id}`, fingerprint: "2" });
      const messages = [newMessage(id, "USER", "one", null), own];
      const op = newOp();
      return (by) => by.store.append(owner, id, messages, op);
    },
    effect: async (at, id, result) => {
      const { session } = await readWhole(at, id);
      expect(textsOf(session)).toEqual(["before", "one", "two"]);
      expect(result).toMatchObject([{ position: 1 }, { position: 2, mark: session.tipMark }]);
    },
  },
  checkpoint: {
    prepare: async (at, id) => {
      await filled(at, id, "before");
      const put = (by: TestStore, name: string, parent: string | null) => {
        const messages = [{ id: name, row: newMessage(id, "USER", name, null).row }];
        const fields = [[`c/${name}`, "{}"] as const];
        const own = { name, parent, fields, messages, unchanged: parent === null ? [] : ["one"] };
        return by.store.checkpoint(owner, id, { ...own, keep: 1, livesMs: null });
      };
      await put(at, "/1", null);
      return (by) => put(by, "/2", "/1");
    },
    effect: async (at, id, result) => {
      expect(result).toBe(true);
      expect(await textsAt(at, id)).toEqual(["before", "/1", "/2"]);
      const [, order] = sessionKeys(id).checkpoints;
      expect(await at.redis.zrange(order, 0, "-1")).toEqual(["c//2"]);
    },
  },
  create: {
    prepare: (_at, id) => {
      const op = newOp();
      return Promise.resolve((by) => by.store.create(owner, id, newRecord("Title", 900), op));
    },
    effect: async (at, id) => {
      const { session } = await readWhole(at, id);
      expect(session).toMatchObject({ title: "Title", ttlSeconds: 900, messageCount: 0 });
    },
  },
  update: {
    prepare: async (at, id) => {
      await filled(at, id, "before");
      return (by) => by.store.update(owner, id, { title: "New", archived: true });
    },
    effect: async (at, id) => {
      expect((await readWhole(at, id)).session).toMatchObject({ title: "New", archived: true, messageCount: 1 });
    },
  },
  title: {
    prepare: async (at, id) => {
      await filled(at, id, "before");
      const { generation } = (await readWhole(at, id)).session;
      return (by) => by.store.giveTitle(owner, id, generation, "Made");
    },
    effect: async (at, id) => {
      expect((await readWhole(at, id)).session).toMatchObject({ title: "Made", messageCount: 1 });
    },
  },
  "mark-read": {
    prepare: async (at, id) => {
      await filled(at, id, "one", "two", "three");
      const { session } = must(await at.store.read(owner, id, { pages: [page] }));
      const [first] = session.pages;
      if (first === undefined || first instanceof Error) throw new Error("No page");
      const { position, mark } = must(first.rows[1]);
      return (by) => by.store.markRead(owner, id, { generation: session.generation, position, mark });
    },
    effect: async (at, id) => {
      expect((await readWhole(at, id)).session.readCount).toBe(2);
    },
  },
  summary: {
    prepare: async (at, id) => {
      await filled(at, id, "one");
      const { generation, tipMark } = (await readWhole(at, id)).session;
      return (by) => by.store.saveSummary(id, { generation, position: 0, mark: tipMark }, "Said one.");
    },
    effect: async (at, id) => {
      expect((await readWhole(at, id)).session.summary).toBe("Said one.");
    },
  },
  clear: {
    prepare: async (at, id) => {
      turns.set(id, await busy(at, id));
      return (by) => by.store.clear(owner, id);
    },
    effect: async (at, id) => {
      const { session } = await readWhole(at, id);
      expect(session).toMatchObject({ messageCount: 0, activeRun: null, queuedRuns: [] });
      expect(session.generation).toBeGreaterThan(0);
      expect(await statusOf(at, id, turns.get(id)?.runId ?? "")).toBe("CANCELLED");
    },
  },
  remove: {
    prepare: async (at, id) => {
      await busy(at, id);
      return (by) => by.store.remove(owner, id);
    },
    effect: async (at, id) => {
      expect(await at.store.read(owner, id, { pages: [] })).toBeNull();
      expect(await at.redis.exists(id)).toBe(0);
    },
  },
  fork: {
    prepare: async (at, id) => {
      await filled(at, `${id}-source`, "one", "two", "three");
      const { session } = await readWhole(at, `${id}-source`);
      const [first] = session.pages;
      if (first === undefined || first instanceof Error) throw new Error("No page");
      const { position, mark } = must(first.rows[1]);
      const op = newOp();
      const through = { generation: session.generation, position, mark };
      return (by) => by.store.fork(owner, session, through, id, "Copy", op);
    },
    effect: async (at, id) => {
      const { session } = await readWhole(at, id);
      expect(textsOf(session)).toEqual(["one", "two"]);
      expect(session).toMatchObject({ title: "Copy", readCount: 2, forkedFrom: `${id}-source` });
    },
  },
  restore: {
    prepare: async (at, id) => {
      await filled(at, id, "in the way");
      const staging = sessionKeys(id).staging("1");
      const rows = ["one", "two"].map((text) => foreignRow(text));
      await at.redis.lpush(staging, ...rows);
      const record = { title: "Archived", updated: "1700000000000", read: "9" };
      const session = { sessionId: id, owner, generation: 7, base: 7, expiresAt: null, record };
      const copy = { staging, rows: 2, digest: "d", replace: true, livesUntil: null, sameAt: null };
      return (by) => by.store.restore(owner, session, copy);
    },
    effect: async (at, id, result) => {
      expect(result).toBe("restored");
      const { session } = await readWhole(at, id);
      expect(textsOf(session)).toEqual(["one", "two"]);
      expect(session).toMatchObject({ title: "Archived", base: 7, end: 9, readCount: 9, updatedAt: 1700000000000 });
      expect(session.generation).toBeGreaterThan(7);
    },
  },
  give: {
    prepare: async (at, id) => {
      await busy(at, id);
      return (by) => by.store.give(owner, "ann", id);
    },
    effect: async (at, id, result) => {
      expect(result).toBe(true);
      expect(await at.store.read(owner, id, { pages: [] })).toBeNull();
      const { session } = must(await at.store.read("ann", id, { pages: [page] }));
      expect(textsOf(session)).toEqual(["before", "question"]);
      expect([session.activeRun?.text, session.queuedRuns.length]).toEqual(["half", 1]);
      await at.store.give("ann", owner, id);
    },
  },
  touch: {
    prepare: async (at, id) => {
      await filled(at, id, "before");
      await at.redis.lpush(id, foreignRow("foreign"));
      return (by) => by.store.touch(owner, id, null);
    },
    effect: async (at, id, result) => {
      expect(result).toBe(true);
      expect(await at.redis.hget(sessionKeys(id).session, "len")).toBe("2");
      expect(await textsAt(at, id)).toEqual(["before", "foreign"]);
    },
  },
  view: {
    prepare: async (at, id) => {
      await busy(at, id);
      return (by) => by.store.read(owner, id, { pages: [page] });
    },
    effect: async (_at, _id, result) => {
      const { session } = must(result as Reading | null); // what read() gives
      expect(textsOf(session)).toEqual(["before", "question"]);
      expect(session.activeRun?.text).toBe("half");
      await Promise.resolve();
    },
  },
};
