import { encodeCursor, type Cursor } from "../conversation/cursor.ts";
import type { Run } from "../conversation/run.ts";
import type { Session } from "../conversation/session.ts";
import type { StoreRead } from "../conversation/store.ts";
import type { Entry, Follower } from "./follower.ts";
import type { RedisSessionStore } from "./session-store.ts";

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
  for (let attempt = 0; ; attempt++) {
    const place = {
      generation: follower.generation,
      position: follower.end - 1,
      mark: follower.end === 0 ? "" : follower.tipMark,
    };
    const reading = await reader.read({
      pages: [{ first: pageRows, after: encodeCursor(follower.historyKey, place), last: null, before: null }],
    });
    if (!reading) return [{ kind: "removed", sequence: follower.sequence + 1, generation: follower.generation }];
    const { session } = reading;
    const page = session.pages[0];
    if (page === undefined || page instanceof Error) {
      // The place is gone although its generation stands: Redis forgot. Told to the session, so that all hear of it (P4).
      // Below the base it is retention that took what lies behind it, and only this reader has missed something.
      if (session.generation === follower.generation && place.position >= session.base && attempt < 3) {
        await touch(place);
        continue;
      }
      return follower.reconcile(session, null, await endedRuns(follower, session, reader));
    }
    if (page.rows.length === 0 && session.sequence === follower.sequence && sameText(follower, session)) return [];
    if (page.hasNextPage) return follower.reconcile(partial(session), page, []);
    return follower.reconcile(session, page, await endedRuns(follower, session, reader));
  }
}

/** A reading of which only the rows are told yet. */
function partial(session: Session): Session {
  return { ...session, activeRun: null, lastRun: null, queuedRuns: [] };
}

function sameText(follower: Follower, session: Session): boolean {
  return (session.activeRun?.text.length ?? 0) === (follower.text?.text.length ?? 0);
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
