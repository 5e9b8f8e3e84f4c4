import { notFound } from "../../../conversation/errors.ts";
import type {
  LostCall,
  Op,
  RespondAnswer,
  RunResponse,
  StartedTurn,
  Waiting,
} from "../../../conversation/ports/store.ts";
import { randomUUID } from "node:crypto";
import { NotReplicated } from "../../client/durable.ts";
import { headOf, stateOf, text } from "../replies.ts";
import { answerOf } from "../scripts.ts";
import { callersOp, ownOp, packMemory, type SessionCalls } from "../session-calls.ts";
import { callArgs } from "./step.ts";
import { resumedTurn } from "../turn/turn-answers.ts";

export async function waiting(
  calls: SessionCalls,
  owner: string,
  key: string,
  runId: string,
  opId: string,
): Promise<Waiting> {
  const answer = await calls.run("waiting", { owner, key, op: ownOp(opId) }, { runId });
  switch (answer.code) {
    case "OK": {
      const decisions = answer.decisions.map((one) => text(one) || null);
      const run = stateOf(text(answer.run));
      return { kind: "waiting", run, log: text(answer.log), state: text(answer.state), decisions };
    }
    case "KNOWN":
      return { kind: "known", fingerprint: text(answer.fingerprint) };
    case "NOT_WAITING":
      return { kind: "notWaiting" };
    case "NOT_FOUND":
      throw notFound("run");
  }
}

export async function respond(
  calls: SessionCalls,
  owner: string,
  key: string,
  { runId, left, row, log, decisions }: RunResponse,
  op: Op,
): Promise<RespondAnswer> {
  const { leaseMs, memory, memoryRows, processId, onStarted } = calls.settings;
  const responding = calls.run(
    "respond",
    { owner, key, op: callersOp(op), indexOf: owner },
    {
      ...{ runId, processId, left, leaseMs, memoryRows },
      attempt: randomUUID(),
      rowHead: row?.head ?? "",
      rowTail: row?.tail ?? "",
      logOffset: log.offset,
      lines: log.lines,
      linesAdded: log.lines.length,
      memory: packMemory(memory),
      decisions: decisions.flatMap(({ number, decision, row: own, callId }) => {
        if (own === null) return [number, decision, "", "", ""];
        const { head, tail } = own.row;
        return own.is === "answer"
          ? [number, decision, "answer", head, tail]
          : [number, decision, "call", `${callId}\t${head}`, tail];
      }),
    },
  );
  const answer = await responding.catch((error: unknown) => {
    // It stands: somebody has to carry the run on.
    if (error instanceof NotReplicated) {
      const stands = answerOf("respond", error.answer);
      if (stands.code === "STARTED") onStarted(resumedTurn(calls, key, stands));
    }
    throw error;
  });
  switch (answer.code) {
    case "STARTED":
      return resumedTurn(calls, key, answer);
    case "OK":
      calls.note(owner, key, headOf(answer.head));
      return { kind: "ok" };
    case "KNOWN":
      return { kind: "known", fingerprint: text(answer.fingerprint) };
    case "LENGTH":
      return { kind: "changed" };
    case "NOT_WAITING":
      return { kind: "notWaiting" };
    case "NOT_FOUND":
      throw notFound("run");
  }
}

export async function claimCalls(
  calls: SessionCalls,
  { owner, historyKey: key, runId, token }: StartedTurn,
  lost: readonly LostCall[],
  op: string,
): Promise<boolean> {
  const { leaseMs } = calls.settings;
  const answer = await calls.run(
    "claim",
    { owner: "*", key, op: ownOp(op), indexOf: owner },
    { runId, token, leaseMs, calls: lost.flatMap(callArgs) },
  );
  if (answer.code === "OK") calls.note(owner, key, headOf(answer.head));
  return answer.code === "OK";
}
