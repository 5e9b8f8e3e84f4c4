import type { Attended } from "../../../conversation/ports/store.ts";
import { packMemory, ownOp, type SessionCalls } from "../session-calls.ts";
import { headOf } from "../replies.ts";
import { resumedTurn, startedTurn } from "./turn-answers.ts";

export async function attend(calls: SessionCalls, key: string, takeAny: boolean): Promise<Attended> {
  const { leaseMs, memory, memoryRows, processId } = calls.settings;
  const answer = await calls.run(
    "attend",
    { owner: "*", key, op: ownOp() },
    {
      processId,
      graceMs: calls.leaseGraceMs,
      takeAny: takeAny ? 1 : 0,
      leaseMs,
      memory: packMemory(memory),
      memoryRows,
    },
  );
  if (answer.code === "NOT_FOUND") return { turn: null, dueAt: 0 };
  const dueAt = headOf(answer.head).due;
  if (answer.code === "IDLE") return { turn: null, dueAt };
  const hasWaited = answer.state !== undefined;
  return { turn: (hasWaited ? resumedTurn : startedTurn)(calls, key, answer), dueAt };
}
