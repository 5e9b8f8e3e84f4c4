import { notFound } from "../../../conversation/errors.ts";
import type { RowTemplate } from "../../../conversation/message/stored-message.ts";
import { headOf, text } from "../replies.ts";
import type { SessionCalls } from "../session-calls.ts";

/** A checkpoint as it is stored, and the messages that are finished with it. Names and fields are those of store/checkpoints.ts. */
interface CheckpointWrite {
  readonly name: string;
  /** How many checkpoints of a namespace stay; null: all. */
  readonly keep: number | null;
  /** Milliseconds; null: they never expire by themselves. */
  readonly livesMs: number | null;
  /** The checkpoint that has the values of the channels that did not change; null: there are none, or all are given. */
  readonly parent: string | null;
  readonly unchanged: readonly string[];
  readonly fields: readonly (readonly [field: string, value: string])[];
  readonly messages: readonly { readonly id: string; readonly row: RowTemplate }[];
}

/** false: the parent is not there any more, so the values of all channels are needed. */
export async function checkpoint(
  calls: SessionCalls,
  owner: string,
  sessionId: string,
  write: CheckpointWrite,
): Promise<boolean> {
  const key = calls.historyKey(sessionId);
  const answer = await calls.run(
    "checkpoint",
    { owner, key, checkpoints: true },
    {
      name: write.name,
      keep: write.keep ?? "",
      lives: write.livesMs ?? "",
      parent: write.parent ?? "",
      unchanged: write.unchanged.join("\n"),
      fields: write.fields.length,
      values: [...write.fields.flat(), ...write.messages.flatMap(({ id, row }) => [id, row.head, row.tail])],
    },
  );
  if (answer.code === "PARENT") return false;
  if (answer.code === "NOT_FOUND") throw notFound();
  if (write.messages.length > 0) calls.note(owner, key, headOf(text(answer.head)));
  return true;
}
