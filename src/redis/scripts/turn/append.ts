import { messageIdReused, notFound } from "../../../conversation/errors.ts";
import type { AppendMessage, Op, Place } from "../../../conversation/ports/store.ts";
import { headOf, text } from "../replies.ts";
import { callersOp, foreign, type SessionCalls } from "../session-calls.ts";
import type { SessionRoom } from "../../store/session-room.ts";

/** `full`: the owner may start no other session. */
export async function append(
  calls: SessionCalls,
  owner: string,
  key: string,
  given: readonly AppendMessage[],
  op: Op,
  existingOnly: boolean,
  full: SessionRoom | null,
): Promise<readonly Place[]> {
  const messages = given.flatMap(({ op: own, row }) => {
    return [calls.opId(owner, own?.id ?? ""), own?.fingerprint ?? "", row.head, row.tail];
  });
  const mode = existingOnly || full ? foreign.existingOnly : undefined;
  const answer = await calls.run("append", { owner, key, op: callersOp(op), mode }, { messages });
  if (answer.code === "NOT_FOUND") throw full?.refusal() ?? notFound();
  if (answer.code === "REUSED") throw messageIdReused();
  calls.note(owner, key, headOf(answer.head));
  return answer.places.map((place) => {
    const [position, mark = ""] = text(place).split(" ");
    return { position: Number(position), mark };
  });
}
