import type { ArchivedSession } from "../../../conversation/message/archive.ts";
import { headOf } from "../replies.ts";
import { ownOp, type SessionCalls } from "../session-calls.ts";

/** Rows of an archived session, copied into its slot. */
interface StagedCopy {
  readonly staging: string;
  readonly rows: number;
  readonly digest: string;
  readonly replace: boolean;
  /** When the list is to expire, in ms since the epoch, where that is not the session's own sliding life. */
  readonly livesUntil: number | null;
  /** The session's count of writes at which it has these rows already; null: it has others, or is not there. */
  readonly sameAt: number | null;
}

/** Puts an archived session, whose rows lie at `staging`, in its place. */
export async function restore(
  calls: SessionCalls,
  owner: string,
  { sessionId, generation, base, record }: ArchivedSession,
  { staging, rows, digest, replace, livesUntil, sameAt }: StagedCopy,
): Promise<"restored" | "known" | "refused"> {
  const target = { owner, key: calls.historyKey(sessionId), op: ownOp(), staging };
  const answer = await calls.run("restore", target, {
    rows,
    digest,
    replace: replace ? 1 : 0,
    archivedGeneration: generation,
    base,
    livesUntil: livesUntil ?? "",
    sameAt: sameAt ?? "",
    record: Object.entries(record).flat(),
  });
  switch (answer.code) {
    case "OK":
      calls.note(owner, target.key, headOf(answer.head));
      return "restored";
    case "KNOWN":
      return "known";
    case "STAGING":
      throw new Error("The copy of a session is not whole. Import it again.");
    case "EXISTS":
      return "refused";
  }
}
