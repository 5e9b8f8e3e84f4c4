import type { BeginAnswer, BeginTurn } from "../../../conversation/ports/store.ts";
import { NotReplicated } from "../../client/durable.ts";
import { refusalOf, uncounted } from "../../store/quotas.ts";
import { packMemory, recordFields, callersOp, foreign, type SessionCalls } from "../session-calls.ts";
import { headOf, text } from "../replies.ts";
import { answerOf } from "../scripts.ts";
import { startedTurn, writtenRun } from "./turn-answers.ts";

export async function begin(calls: SessionCalls, owner: string, key: string, turn: BeginTurn): Promise<BeginAnswer> {
  const { index, settings } = calls;
  const { leaseMs, quotas } = settings;
  const quota = (await quotas?.ofTurn(owner, turn.runId, turn.whenBusy === "INTERRUPT")) ?? uncounted;
  // Where the script writes the index itself, nothing can come between the two.
  const ahead = index.keysOf(owner) === null;
  const mayBeNew = turn.existingOnly !== true;
  if (ahead) index.expect(owner, key, leaseMs, mayBeNew);
  const { head, middle, tail } = turn.partial;
  const mode = mayBeNew ? undefined : foreign.existingOnly;
  const target = { owner, key, op: callersOp(turn.op), mode, counted: quota.keys, indexOf: owner };
  const beginning = calls.run("begin", target, {
    runJson: runJson(calls, owner, turn),
    inputHead: turn.input?.head ?? "",
    inputTail: turn.input?.tail ?? "",
    template: `${head}\t${middle}\t${tail}`,
    whenBusy: turn.whenBusy,
    maxQueued: settings.maxQueuedRuns,
    leaseMs,
    graceMs: calls.leaseGraceMs,
    memory: packMemory(settings.memory),
    memoryRows: settings.memoryRows,
    model: settings.model,
    limits: quota.limits,
    refused: quota.refused,
    keyOp: turn.keyOp ? calls.opId(owner, turn.keyOp.id) : "",
    keyFingerprint: turn.keyOp?.fingerprint ?? "",
    tools: turn.tools?.length ? JSON.stringify(turn.tools) : "",
    record: recordFields(turn.newSession ?? {}),
  });
  const answer = await beginning.catch((error: unknown) => {
    // It stands, and a retry asks for its reply: somebody has to make that.
    if (error instanceof NotReplicated) {
      const stands = answerOf("begin", error.answer);
      if (stands.code === "STARTED") settings.onStarted(startedTurn(calls, key, stands));
    }
    throw error;
  });
  if (answer.code !== "STARTED" && answer.code !== "QUEUED") {
    quotas?.refund(owner, turn.runId);
    if (ahead && mayBeNew) index.withdraw(owner, key);
  }
  switch (answer.code) {
    case "STARTED":
      if (answer.interrupted !== undefined) quotas?.interrupted(owner, text(answer.interrupted));
      return startedTurn(calls, key, answer);
    case "LIMITED":
      return { kind: "limited", refusal: refusalOf(answer.limit, answer.seconds) };
    case "QUEUED": {
      const now = headOf(answer.head);
      calls.note(owner, key, now);
      const input = turn.input ? `${turn.input.head}\t${turn.input.tail}` : "";
      const run = writtenRun(calls, key, now, answer.run, { input, text: "", log: "", userRow: "", reply: null });
      return { kind: "queued", runId: run.runId, run };
    }
    case "KNOWN": {
      const result = text(answer.result);
      const runId = result.startsWith("run:") ? result.slice(4) : null;
      return { kind: "known", fingerprint: text(answer.fingerprint), runId };
    }
    case "BUSY":
      return { kind: "busy", runId: text(answer.runId), status: answer.status === "WAITING" ? "WAITING" : "RUNNING" };
    case "FULL":
      return { kind: "full" };
    case "KEYLESS":
      return { kind: "keyless" };
    case "EXPIRED":
      return { kind: "expired" };
    case "NOTHING":
      return { kind: "nothing" };
    case "NOT_FOUND":
      return { kind: "notFound" };
  }
}

/** The run as begin.lua stores it. */
function runJson(calls: SessionCalls, owner: string, turn: BeginTurn): string {
  const { inputId, origin, replaceFrom } = turn;
  const [cg, cp, cm] = calls.anchorArgs(owner, replaceFrom);
  return JSON.stringify({
    id: turn.runId,
    own: calls.settings.processId,
    rid: turn.replyMessageId,
    ...(turn.model === null ? {} : { model: turn.model }),
    ...(inputId ? { uid: inputId.messageId, ...(inputId.chosen ? { uc: 1 } : {}) } : { re: 1 }),
    ...(origin ? { tp: origin } : {}),
    ...(replaceFrom ? { cg, cp, cm } : {}),
  });
}
