import { notFound, PageTooLarge } from "../../conversation/errors.ts";
import { joinLocal } from "../../conversation/message/ids.ts";
import type { MessagePage, PageRequest, Session, Viewer } from "../../conversation/session.ts";
import type { Run } from "../../conversation/run.ts";
import type { KnownReading, ReadRequest } from "../../conversation/conversations/api.ts";
import type { Conversations } from "../../conversation/conversations/conversations.ts";
import type { AnswerBudget } from "../answer-budget.ts";
import { samePage } from "./paging.ts";

// What the three nodes are resolved from. Each carries the readings of its operation (or event), so that wherever the
// way leads back to a session, it leads to the reading that was made already: all fields agree.

export interface SessionParent extends Session {
  /** The reading itself: the parent is a copy of it. */
  readonly session: Session;
  /** What session.pages answers, in this order. */
  readonly requests: readonly PageRequest[];
  readonly readings: Readings;
}

export interface RunParent {
  readonly run: Run;
  readonly readings: Readings;
}

/** What an answer was made of before: where it is the same, so is the answer. */
export interface KnownSession extends KnownReading {
  readonly sessionId: string;
}

/** As much of an operation's context as a reading needs. */
interface Asker {
  readonly conversations: Conversations;
  readonly viewer: Viewer;
  readonly answer?: AnswerBudget;
  readonly known?: KnownSession;
}

/** The sessions and runs read within one operation or event, each once. */
export class Readings {
  readonly #sessions = new Map<string, Promise<SessionParent | null>>();
  readonly #runs = new Map<string, Promise<Run | null>>();
  readonly #viewer: Viewer | null;

  /** `viewer`: as whom what hangs on it is read; left out: as the operation's. */
  constructor(viewer: Viewer | null = null) {
    this.#viewer = viewer;
  }

  viewer(context: Asker): Viewer {
    return this.#viewer ?? context.viewer;
  }

  /** Takes a reading that a use case brought along. */
  give(session: Session, requests: readonly PageRequest[]): SessionParent {
    const parent = { ...session, session, requests, readings: this };
    this.#sessions.set(session.sessionId, Promise.resolve(parent));
    return parent;
  }

  /** The run that the rest of the answer is of. */
  giveRun(run: Run): void {
    this.#runs.set(joinLocal(run.sessionId, run.runId), Promise.resolve(run));
  }

  /** The reading that is here, else a new one with these pages. null: there is no such session. */
  read(context: Asker, sessionId: string, pages: () => readonly PageRequest[]): Promise<SessionParent | null> {
    const known = this.#sessions.get(sessionId);
    if (known !== undefined) return known;
    const reading = this.#read(context, sessionId, pages());
    this.#sessions.set(sessionId, reading);
    return reading;
  }

  /** What was read, where that is one session. */
  get only(): Promise<SessionParent | null> | undefined {
    return this.#sessions.size === 1 ? [...this.#sessions.values()][0] : undefined;
  }

  async #read(context: Asker, sessionId: string, requests: readonly PageRequest[]): Promise<SessionParent | null> {
    const { conversations, known } = context;
    const viewer = this.viewer(context);
    const request = requestOf(context, requests, known?.sessionId === sessionId ? known : undefined);
    const session = await conversations.readSession(viewer, sessionId, request);
    return session === null ? null : { ...session, session, requests, readings: this };
  }

  /** @throws NOT_FOUND: the session went while the operation was under way. */
  async require(context: Asker, sessionId: string, pages: () => readonly PageRequest[]): Promise<SessionParent> {
    const parent = await this.read(context, sessionId, pages);
    if (parent === null) throw notFound();
    return parent;
  }

  /** A page's messages name the same runs again and again, and often those that the session's reading holds. */
  readRun(context: Asker, sessionId: string, runId: string): Promise<Run | null> {
    const key = joinLocal(sessionId, runId);
    const reading = this.#runs.get(key) ?? this.#findRun(context, sessionId, runId);
    this.#runs.set(key, reading);
    return reading;
  }

  async #findRun(context: Asker, sessionId: string, runId: string): Promise<Run | null> {
    const session = (await this.#sessions.get(sessionId))?.session;
    const runs = session === undefined ? [] : [session.activeRun, session.lastRun, ...session.queuedRuns];
    const known = runs.find((run) => run?.runId === runId);
    return known ?? context.conversations.readRun(this.viewer(context), sessionId, runId);
  }
}

/** A query is one reading from end to end; a mutation field or an event has its own, `new Readings()`. */
export function readingsOfQuery(context: { readings?: Readings }): Readings {
  return (context.readings ??= new Readings());
}

/** What a reading shall hold: of its rows, no more is sent than the answer may hold. */
export function requestOf({ answer }: Asker, pages: readonly PageRequest[], known?: KnownReading): ReadRequest {
  return { pages, mostBytes: answer?.most, known };
}

/** Counts its rows. @throws what is wrong with this page: INVALID_CURSOR, CURSOR_EXPIRED, TOO_COMPLEX. */
export async function pageOf(context: Asker, parent: SessionParent, request: PageRequest): Promise<MessagePage> {
  const { session, requests } = parent;
  const { answer } = context;
  let page =
    session.pages[requests.findIndex((other) => samePage(other, request))] ??
    // Not foreseen by the reading, as where two fields led to the same session and asked for different pages.
    (await readPage(context, parent, request));
  // Beside others that were read for other parts of the operation, which may not be answered: by itself it may do.
  while (page instanceof PageTooLarge && answer !== undefined) {
    page = await answer.expect(page.bytes, () => readPage(context, parent, request));
  }
  if (page instanceof Error) throw page;
  answer?.read(page.rows);
  return page;
}

async function readPage(
  context: Asker,
  { session: { sessionId }, readings }: SessionParent,
  request: PageRequest,
): Promise<MessagePage | Error> {
  const session = await context.conversations.readSession(
    readings.viewer(context),
    sessionId,
    requestOf(context, [request]),
  );
  return session?.pages[0] ?? notFound();
}
