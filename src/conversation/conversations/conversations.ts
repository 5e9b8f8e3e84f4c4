import {
  recordOnly,
  type CreateSession,
  type ForkSession,
  type IfMissing,
  type ReadRequest,
  type UpdateSession,
} from "./api.ts";
import { makeSessionId, mayReach, mayUse, mustUse, reachableChanges } from "./access.ts";
import { parseAnchor } from "../message/cursor.ts";
import { notFound } from "../errors.ts";
import { placed, type PlacedMessage, type SessionChange, type SessionEvent } from "../events.ts";
import type { Feeds, WhenAbsent } from "../ports/feeds.ts";
import { localMessageId, ownNote, parseLocalId } from "../message/ids.ts";
import { listSessions } from "./listing.ts";
import type { Live } from "../ports/live.ts";
import { beginMessages, messagesOf } from "./messages-only.ts";
import { keyedOp, Sending, type SendingSettings } from "./sending.ts";
import type { ModelChoice, Replies } from "../ports/model.ts";
import type { Run, RunError } from "../run.ts";
import type { MemorySettings, PageRequest, Session, SessionFilter, SessionPage, Viewer } from "../session.ts";
import type { SessionStore } from "../ports/store.ts";
import { decodeStoredMessage } from "../message/stored-message.ts";
import { beginning, type Titles } from "./titles.ts";
import type { Turns } from "./turns.ts";

/**
 * The use cases. Every method checks what it is given, throws ParleyError for a refusal, and treats another owner's
 * session as one that does not exist (P11). Times are milliseconds since the epoch.
 */
export type Conversations = Pick<StoredConversations, keyof StoredConversations>;

interface ConversationSettings extends SendingSettings {
  readonly memory: MemorySettings;
}

export class StoredConversations extends Sending {
  readonly defaults: { readonly model: string; readonly memory: MemorySettings };
  readonly #feeds: Feeds;
  readonly #titles: Titles;

  constructor(
    store: SessionStore,
    feeds: Feeds,
    replies: Replies,
    turns: Turns,
    titles: Titles,
    settings: ConversationSettings,
  ) {
    super(store, replies, turns, settings);
    this.defaults = { model: settings.model, memory: settings.memory };
    this.#feeds = feeds;
    this.#titles = titles;
  }

  /** Whether a page may give tools of its own with its next message to this session; null: one that is still to begin. */
  takesPageTools(session: Session | null): boolean {
    return this.checks.takesTools(session?.model ?? this.settings.model);
  }

  /** The models that the viewer may choose, the default first. */
  models(viewer: Viewer): readonly ModelChoice[] {
    return this.checks.modelsOf(viewer);
  }

  async readSession(viewer: Viewer, sessionId: string, read: ReadRequest): Promise<Session | null> {
    return (await this.sessions.read(viewer, sessionId, read))?.session ?? null;
  }

  listSessions(viewer: Viewer, page: PageRequest, filter: SessionFilter, read: ReadRequest): Promise<SessionPage> {
    const mine = (sessionId: string) => mayReach(viewer, sessionId);
    return listSessions(this.store, viewer.subject, page, filter, read, mine);
  }

  /** By the local part of a Message.id (what follows "<sessionId>:"). */
  async readMessage(viewer: Viewer, sessionId: string, local: string): Promise<PlacedMessage | null> {
    const at = parseLocalId(local);
    const reading = at && (await this.sessions.read(viewer, sessionId, { pages: [], at }));
    const row = reading?.at && !(reading.at instanceof Error) ? reading.at.row : null;
    if (!reading || !row) return null;
    const { session } = reading;
    // A row of the gateway's may lie where an id says that one of foreign code does.
    return localMessageId(session.historyKey, row, decodeStoredMessage(row.raw)) === local
      ? placed(session, row)
      : null;
  }

  readRun(viewer: Viewer, sessionId: string, runId: string): Promise<Run | null> {
    return this.sessions.readRun(viewer, sessionId, runId);
  }

  async messagesOfRun(viewer: Viewer, { runId, sessionId, historyKey, rows }: Run): Promise<readonly PlacedMessage[]> {
    if (rows === null) return [];
    const reading = await this.sessions.read(viewer, sessionId, { pages: [], ranges: [[rows.first, rows.last]] });
    const [found = []] = reading?.ranges ?? [];
    // Others may have appended in between, and what lies there by now may be another's.
    const own = found.filter((row) => ownNote(historyKey, row, decodeStoredMessage(row.raw))?.runId === runId);
    return reading === null ? [] : own.map((row) => placed(reading.session, row));
  }

  async createSession(viewer: Viewer, input: CreateSession, read: ReadRequest): Promise<Session> {
    const { idempotencyKey, title, instructions, model, memory, metadata, ttlSeconds } = input;
    const sessionId = input.sessionId ?? makeSessionId(viewer, "create", idempotencyKey, this.settings.now());
    mustUse(viewer, sessionId);
    this.checks.sessionId(sessionId);
    this.checks.settings(viewer, input);
    const record = { title, instructions, model, memory, metadata, ttlSeconds };
    const op = keyedOp("create", idempotencyKey, [input.sessionId, record]);
    await this.store.create(viewer.subject, sessionId, record, op);
    return this.sessions.mustRead(viewer, sessionId, read);
  }

  async updateSession(viewer: Viewer, input: UpdateSession, read: ReadRequest): Promise<Session> {
    const { sessionId, archived, ...change } = input;
    this.sessions.mustExist(viewer, sessionId);
    this.checks.settings(viewer, change);
    const record = { ...change, archived: archived === null ? false : archived };
    await this.sessions.owning(viewer, sessionId, () => this.store.update(viewer.subject, sessionId, record));
    return this.sessions.mustRead(viewer, sessionId, read);
  }

  async markRead(viewer: Viewer, sessionId: string, through: string | null, read: ReadRequest): Promise<Session> {
    this.sessions.mustExist(viewer, sessionId);
    const place = this.checks.anchor(sessionId, through, "input.through");
    await this.sessions.owning(viewer, sessionId, () => this.store.markRead(viewer.subject, sessionId, place));
    return this.sessions.mustRead(viewer, sessionId, read);
  }

  async generateTitle(
    viewer: Viewer,
    sessionId: string,
    model: string | null,
    read: ReadRequest,
  ): Promise<{ readonly session: Session; readonly error: RunError | null }> {
    this.checks.model(viewer, model);
    const before = await this.sessions.mustRead(viewer, sessionId, { pages: [beginning] });
    this.checks.unnamedModel(viewer, model ?? before.model ?? this.defaults.model);
    const result = await this.#titles.ask(before, model);
    if ("title" in result) await this.store.update(viewer.subject, sessionId, { title: result.title });
    return {
      session: await this.sessions.mustRead(viewer, sessionId, read),
      error: "error" in result ? result.error : null,
    };
  }

  async deleteSession(viewer: Viewer, sessionId: string): Promise<void> {
    this.sessions.mustExist(viewer, sessionId);
    await this.#freeing(viewer, sessionId, () => this.store.remove(viewer.subject, sessionId));
  }

  async clearHistory(viewer: Viewer, sessionId: string, read: ReadRequest): Promise<Session> {
    this.sessions.mustExist(viewer, sessionId);
    await this.#freeing(viewer, sessionId, () => this.store.clear(viewer.subject, sessionId));
    return this.sessions.mustRead(viewer, sessionId, read);
  }

  /** Does what ends the session's run; the place of one that waits nobody else frees. */
  async #freeing(viewer: Viewer, sessionId: string, act: () => Promise<void>): Promise<void> {
    const reading = await this.sessions.read(viewer, sessionId, recordOnly);
    await this.sessions.owning(viewer, sessionId, act);
    const run = reading?.session.activeRun;
    if (run?.status === "WAITING") this.settings.quotas.drop(viewer.subject, run.runId, false);
  }

  async forkSession(viewer: Viewer, input: ForkSession, read: ReadRequest): Promise<Session> {
    const { idempotencyKey, newSessionId, title } = input;
    const sessionId =
      newSessionId ?? makeSessionId(viewer, `fork ${input.sessionId}`, idempotencyKey, this.settings.now());
    mustUse(viewer, sessionId);
    this.checks.sessionId(sessionId, "input.newSessionId");
    this.checks.settings(viewer, { title });
    const at = this.checks.anchor(input.sessionId, input.through, "input.through");
    const reading = await this.sessions.read(viewer, input.sessionId, { pages: [], ...(at ? { at } : {}) });
    if (!reading) throw notFound();
    const { session: source, at: through } = reading;
    if (through instanceof Error) throw through;
    const op = keyedOp("fork", idempotencyKey, [input.sessionId, input.through, newSessionId, title]);
    await this.store.fork(viewer.subject, source, through, sessionId, title ?? source.title, op);
    return this.sessions.mustRead(viewer, sessionId, read);
  }

  /**
   * Resolves (or rejects: NOT_FOUND, INVALID_CURSOR) once nothing can be missed; the first event is `opened`. Of a session
   * that there is not it is `waiting`, as `ifMissing` says, or `removed` where `after` is the place of a message. It ends
   * when `signal` aborts, or by its return().
   */
  async sessionEvents(
    viewer: Viewer,
    sessionId: string,
    after: string | null,
    ifMissing: IfMissing,
    read: ReadRequest,
    signal?: AbortSignal,
  ): Promise<Live<SessionEvent>> {
    this.sessions.mustExist(viewer, sessionId);
    const open = (absent: WhenAbsent) => this.#feeds.open(viewer.subject, sessionId, after, absent, read, signal);
    // Only where the viewer may start it: of all other ids nobody learns whether there is anything.
    if (!mayUse(viewer, sessionId)) return open("refuse");
    const absent = !this.#isStart(sessionId, after) ? "end" : ifMissing === "WAIT" ? "wait" : "refuse";
    if (!viewer.granted) return open(absent);
    const otherwise = absent === "refuse" ? undefined : () => open(absent);
    return this.sessions.owning(viewer, sessionId, () => open("refuse"), otherwise);
  }

  /** Whether a stream behind it misses nothing of a session that has yet to begin. */
  #isStart(sessionId: string, after: string | null): boolean {
    if (after === null || after === "") return true;
    const anchor = parseAnchor(sessionId, this.settings.historyKeyPrefix + sessionId, after);
    return anchor !== null && "generation" in anchor && anchor.position < 0;
  }

  /** Messages only; ends with CURSOR_EXPIRED at a reset and NOT_FOUND when the session goes. */
  async messageAdded(
    viewer: Viewer,
    sessionId: string,
    after: string | null,
    ifMissing: IfMissing,
    signal: AbortSignal,
  ): Promise<AsyncIterableIterator<PlacedMessage>> {
    const events = await this.sessionEvents(viewer, sessionId, after, ifMissing, { pages: [] }, signal);
    await beginMessages(events);
    return messagesOf(events);
  }

  async sessionChanged(
    viewer: Viewer,
    read: ReadRequest,
    signal: AbortSignal,
  ): Promise<AsyncIterableIterator<SessionChange>> {
    return reachableChanges(viewer, await this.#feeds.changes(viewer.subject, read, signal));
  }
}
