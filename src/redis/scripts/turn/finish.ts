import { escapeFragment } from "../../../conversation/message/stored-message.ts";
import type { FinishedTurn, StartedTurn, TurnEnd } from "../../../conversation/ports/store.ts";
import { headOf } from "../replies.ts";
import { ownOp, type SessionCalls } from "../session-calls.ts";
import { writtenRun } from "./turn-answers.ts";

export async function finish(calls: SessionCalls, turn: StartedTurn, end: TurnEnd, op: string): Promise<FinishedTurn> {
  const { owner, historyKey: key, runId, token, inputRow } = turn;
  const { reply, usage } = end.kind === "completed" ? end : { reply: null, usage: null };
  const error = end.kind === "failed" ? end.error : null;
  const target = { owner: "*", key, op: ownOp(op), indexOf: owner };
  const answer = await calls.run("finish", target, {
    runId,
    token,
    status: end.kind === "completed" ? "COMPLETED" : "FAILED",
    replyHead: reply?.head ?? "",
    replyTail: reply?.tail ?? "",
    text: escapeFragment(end.text),
    inputTokens: usage?.inputTokens ?? "",
    outputTokens: usage?.outputTokens ?? "",
    totalTokens: usage?.totalTokens ?? "",
    errorCode: error?.code ?? "",
    errorMessage: error?.message ?? "",
    retryable: error?.retryable ? 1 : 0,
    retryAfter: error?.retryAfterSeconds ?? "",
    notes: end.notes?.join("\n") ?? "",
    log: end.log ?? "",
    structured: end.kind === "completed" && end.isStructured === true ? 1 : "",
  });
  if (answer.code === "NOT_FOUND") return { run: null, wantsTitle: false };
  const head = headOf(answer.head);
  calls.note(owner, key, head);
  const wantsTitle = answer.code !== "CLOSED" && answer.title === "1";
  // A repeat may come after others have changed the session: what is known of it then is not of this moment.
  if (answer.code !== "OK") return { run: null, wantsTitle };
  const parts = { input: inputRow, text: end.text, log: end.log ?? "", userRow: inputRow, reply };
  const run = writtenRun(calls, key, head, answer.run, parts);
  // Its newest reply is one of a step, or of a step that this has closed, and not here.
  const isElsewhere = reply === null && run.rows !== null;
  return { run: isElsewhere ? null : run, wantsTitle };
}
