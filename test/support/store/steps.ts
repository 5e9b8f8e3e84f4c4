import { sessionTag } from "../../../src/conversation/message/ids.ts";
import {
  templateOfAnswer,
  templateOfPartial,
  templateOfReply,
  type RowNote,
} from "../../../src/conversation/message/stored-message.ts";
import type { OpenStep, StartedTurn, StepAnswer, WaitingStep } from "../../../src/conversation/ports/store.ts";

function noteOf({ historyKey, runId }: StartedTurn, hint: number): RowNote {
  return { session: sessionTag(historyKey), runId, hint, createdAt: 1_700_000_000_000 };
}

/** A reply that calls the tool "t" by each of these ids. */
export function openStep(
  turn: StartedTurn,
  callIds: readonly string[],
  id = turn.state.replyMessageId,
  standIn = "lost",
): OpenStep {
  const { replyHint: hint } = turn.state;
  const calls = callIds.map((callId) => ({ id: callId, name: "t", args: {}, type: "tool_call" }));
  const lost = (callId: string) => {
    const data = { content: `${callId} ${standIn}`, tool_call_id: callId, name: "t", status: "error" };
    return templateOfAnswer(data, `${id}.${callId}`, noteOf(turn, hint + 1));
  };
  return {
    row: templateOfReply({ content: `calls ${callIds.join()}`, tool_calls: calls }, id, noteOf(turn, hint)),
    calls: callIds.map((callId) => ({ callId, lost: lost(callId) })),
    next: { localId: "~3~next", hint: 3, partial: templateOfPartial("next", noteOf(turn, 3)) },
  };
}

/** The same for a run that waits with it, with the text of its reply alone. */
export function waitingStep(turn: StartedTurn, callIds: readonly string[], standIn?: string): WaitingStep {
  const { head, middle, tail } = templateOfPartial(turn.state.replyMessageId, noteOf(turn, turn.state.replyHint));
  const open = openStep(turn, callIds, turn.state.replyMessageId, standIn);
  return { ...open, said: { head: `${head}said${middle}`, tail }, state: "{}" };
}

export function answerTo(turn: StartedTurn, number: number, callId: string): StepAnswer {
  const data = { content: `answer to ${callId}`, tool_call_id: callId, name: "t", status: "success" };
  return { number, row: templateOfAnswer(data, `answer.${callId}`, noteOf(turn, 2)) };
}
