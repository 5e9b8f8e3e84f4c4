import { encodeCursor, ExpiredCursor, type Cursor, type Kept } from "../../conversation/message/cursor.ts";
import type { Run } from "../../conversation/run.ts";
import type { Session } from "../../conversation/session.ts";
import type { StoreRead } from "../../conversation/ports/store.ts";
import type { Entry, Follower } from "./follower.ts";
import type { RedisSessionStore } from "../store/session-store.ts";

/** The most rows of one reading; a reader that is farther behind catches up by itself. */
export const pageRows = 200;

/** Who can read a session for a follower. */
export interface Reader {
  read(request: StoreRead): ReturnType<RedisSessionStore["read"]>;
}

/**
 * Reads until the follower stands at the tip of one reading, and gives the entries that lead there; at most a page, then
 * the follower is somewhere on the way and is called again.
 */
export async function catchUp(
  follower: Follower,
  reader: Reader,
  touch: (witness: Cursor) => Promise<unknown>,
): Promise<readonly Entry[]> {
  let rewound: { readonly to: Kept; readonly generation: number } | null = null;
  for (let attempt = 0; ; attempt++) {
    const { generation } = rewound ?? follower;
    const { position, mark } = rewound?.to ?? { position: follower.end, mark: follower.tipMark };
    const place = { generation, position: position - 1, mark: position === 0 ? "" : mark };
    const page = { first: pageRows, after: encodeCursor(follower.historyKey, place), last: null, before: null };
    const reading = await reader.read({ pages: [page] });
    if (!reading) return [{ kind: "removed", sequence: follower.sequence + 1, generation: follower.generation }];
    const { session } = reading;
    const behind = session.pages[0];
    if (behind === undefined || behind instanceof Error) {
      const expired = behind instanceof ExpiredCursor && attempt < 5 ? behind : null;
      // Redis forgot the place although it must hold. Told to the session, so that all hear of it (P4).
      if (expired?.lost) await touch(place);
      else if (expired?.kept) rewound = { to: expired.kept, generation: session.generation };
      // Rewound once more, and farther: asked for anew with what was told.
      else if (expired && rewound) rewound = null;
      else return follower.reconcile(session, null, await endedRuns(follower, session, reader));
      continue;
    }
    if (!rewound && behind.rows.length === 0 && isAsKnown(follower, session)) {
      follower.confirm(session);
      return [];
    }
    const kept = rewound?.to ?? null;
    if (behind.hasNextPage) return follower.reconcile(partial(session), behind, [], kept);
    return follower.reconcile(session, behind, await endedRuns(follower, session, reader), kept);
  }
}

/** A reading of which only the rows are told yet. */
function partial(session: Session): Session {
  return { ...session, activeRun: null, lastRun: null, queuedRuns: [] };
}

function isAsKnown(follower: Follower, session: Session): boolean {
  return (
    session.sequence === follower.sequence &&
    session.generation === follower.generation &&
    (session.activeRun?.text.length ?? 0) === (follower.text?.text.length ?? 0) &&
    (session.activeRun?.log.length ?? 0) === (follower.text?.log.length ?? 0)
  );
}

/** Runs that the follower knows as open and that the reading shows no more. */
async function endedRuns(follower: Follower, session: Session, reader: Reader): Promise<readonly Run[]> {
  const shown = new Set([session.activeRun, session.lastRun, ...session.queuedRuns].map((run) => run?.runId));
  const ended: Run[] = [];
  for (const runId of follower.open.keys()) {
    if (shown.has(runId)) continue;
    const run = (await reader.read({ pages: [], runId }))?.run;
    if (run) ended.push(run);
    else follower.open.delete(runId);
  }
  return ended;
}

export function placeCursor(historyKey: string, generation: number, position: number, mark: string): string {
  return encodeCursor(historyKey, { generation, position, mark: position < 0 ? "" : mark });
}
