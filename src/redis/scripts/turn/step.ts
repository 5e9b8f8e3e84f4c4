import type { OpenStep, LogBatch, StartedTurn, StepAnswer, StepReply } from "../../../conversation/ports/store.ts";
import { headOf, number } from "../replies.ts";
import { ownOp, type SessionCalls } from "../session-calls.ts";

export async function step(
  calls: SessionCalls,
  { historyKey, runId, token }: StartedTurn,
  { row, calls: called, next }: OpenStep,
  log: LogBatch,
): Promise<StepReply> {
  const { head, middle, tail } = next.partial;
  const answer = await calls.run(
    "step",
    { owner: "*", key: historyKey },
    {
      runId,
      token,
      rowHead: row.head,
      rowTail: row.tail,
      ...logArgs(log),
      leaseMs: calls.settings.leaseMs,
      nextLocalId: next.localId,
      nextHint: next.hint,
      template: `${head}\t${middle}\t${tail}`,
      calls: called.flatMap(({ callId, lost }) => [callId, lost.head, lost.tail]),
    },
  );
  if (answer.code === "OPEN") throw new Error(`Run ${runId} has a step open`);
  if (answer.code === "LENGTH") return { kind: "length", logLength: number(answer.logLength) };
  return { kind: answer.code === "OK" ? "ok" : "closed" };
}

export async function answer(
  calls: SessionCalls,
  { owner, historyKey: key, runId, token }: StartedTurn,
  { number: which, row }: StepAnswer,
  log: LogBatch,
  op: string,
): Promise<StepReply> {
  const target = { owner: "*", key, op: ownOp(op), indexOf: owner };
  const { leaseMs } = calls.settings;
  const args = { runId, token, number: which, rowHead: row.head, rowTail: row.tail, ...logArgs(log), leaseMs };
  const reply = await calls.run("answer", target, args);
  if (reply.code === "LENGTH") return { kind: "length", logLength: number(reply.logLength) };
  if (reply.code !== "OK") return { kind: "closed" };
  calls.note(owner, key, headOf(reply.head));
  return { kind: "ok" };
}

function logArgs({ offset, lines }: LogBatch) {
  return { logOffset: offset, lines, linesAdded: lines.length };
}
