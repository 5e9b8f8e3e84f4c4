import type {
  LogBatch,
  LostCall,
  OpenStep,
  StartedTurn,
  StepAnswer,
  StepReply,
  WaitingStep,
} from "../../../conversation/ports/store.ts";
import { headOf, number } from "../replies.ts";
import { ownOp, type SessionCalls } from "../session-calls.ts";

/** Opens a step; one that waits lets the run wait. */
export async function step(
  calls: SessionCalls,
  { owner, historyKey: key, runId, token }: StartedTurn,
  opened: OpenStep | WaitingStep,
  log: LogBatch,
): Promise<StepReply> {
  const { row, calls: called, next } = opened;
  const waits = "state" in opened ? opened : null;
  const { head, middle, tail } = next.partial;
  const answer = await calls.run(
    "step",
    { owner: "*", key, ...(waits === null ? {} : { indexOf: owner }) },
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
      waitMs: waits === null ? "" : calls.settings.approvalTimeoutMs,
      said: waits?.said ? `${waits.said.head}\t${waits.said.tail}` : "",
      state: waits?.state ?? "",
      calls: called.flatMap(callArgs),
    },
  );
  if (answer.code === "OPEN") throw new Error(`Run ${runId} has a step open`);
  if (answer.code === "LENGTH") return { kind: "length", logLength: number(answer.logLength) };
  if (answer.code === "WAITING") calls.note(owner, key, headOf(answer.head));
  return { kind: answer.code === "OK" || answer.code === "WAITING" ? "ok" : "closed" };
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

export function callArgs({ callId, lost }: LostCall): readonly string[] {
  return [callId, lost.head, lost.tail];
}

function logArgs({ offset, lines }: LogBatch) {
  return { logOffset: offset, lines, linesAdded: lines.length };
}
