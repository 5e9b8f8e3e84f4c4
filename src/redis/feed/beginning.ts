import { parseAnchor, invalidCursor } from "../../conversation/message/cursor.ts";
import type { MessagePage, PageRequest, Session } from "../../conversation/session.ts";
import type { Entry } from "./follower.ts";

/** Of the row in front of what retention has left; no row has it. */
const noMark = "0".repeat(16);

const emptyPage: MessagePage = { rows: [], hasNextPage: false, hasPreviousPage: false };

/** The session before its first message: who waited for it is told of all that has come since. */
export function beginningOf(session: Session): Session {
  return {
    ...session,
    end: session.base,
    tipMark: session.base === 0 ? "" : noMark,
    messageCount: 0,
    readCount: 0,
    summary: null,
    usage: { inputTokens: 0, outputTokens: 0, totalTokens: 0 },
    activeRun: null,
    lastRun: null,
    queuedRuns: [],
    pages: [],
    sequence: -1,
    state: "",
  };
}

/** The same with the pages that a reader has asked for. */
export function withEmptyPages(session: Session, requests: readonly PageRequest[]): Session {
  const isPlace = (given: string | null) =>
    given === null || given === "" || parseAnchor(session.sessionId, session.historyKey, given) !== null;
  const pages = requests.map(({ after, before }) => (isPlace(after) && isPlace(before) ? emptyPage : invalidCursor()));
  return { ...session, pages };
}

/** `sequence`: of the write before the first that is told. */
export function startedBy(session: Session, sequence: number): Entry & { readonly kind: "started" } {
  return { kind: "started", session: beginningOf(session), sequence, generation: session.generation };
}
