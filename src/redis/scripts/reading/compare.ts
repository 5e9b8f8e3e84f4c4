import { number, text } from "../replies.ts";
import type { SessionCalls } from "../session-calls.ts";

/** A followed session, and the state that its follower knows. */
export interface Followed {
  readonly historyKey: string;
  readonly sessionKey: string;
  /** "": it is another, whatever it is. */
  readonly known: string;
}

/** Which of these are no longer as their followers know them: their places in the list, and their states. */
export async function compare(
  calls: SessionCalls,
  sessions: readonly Followed[],
): Promise<ReadonlyMap<number, string>> {
  const keys = sessions.flatMap(({ historyKey, sessionKey }) => [historyKey, sessionKey]);
  const { changed } = await calls.runPlain("compare", keys, { known: sessions.map(({ known }) => known) });
  const states = new Map<number, string>();
  for (let i = 0; i < changed.length; i += 2) states.set(number(changed[i]) - 1, text(changed[i + 1]));
  return states;
}
