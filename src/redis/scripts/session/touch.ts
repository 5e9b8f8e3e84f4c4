import type { Cursor } from "../../../conversation/message/cursor.ts";
import { cursorArgs } from "../session-calls.ts";
import type { SessionCalls, Target } from "../session-calls.ts";
import { headOf, type Head } from "../replies.ts";

/** Records what foreign code did to the list, or that a place a reader knows is gone. null: no such session. */
export async function touch(calls: SessionCalls, target: Target, witness: Cursor | null = null): Promise<Head | null> {
  const [generation, position, rowMark] = cursorArgs(witness);
  const answer = await calls.run("touch", target, { generation, position, rowMark });
  if (answer.code === "NOT_FOUND") return null;
  const head = headOf(answer.head);
  calls.note(target.owner, target.key, head);
  return head;
}
