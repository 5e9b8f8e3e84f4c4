import type {
  AddMessages,
  Conversations,
  CreateSession,
  ForkSession,
  IfMissing,
  ReadRequest,
  RegenerateReply,
  SendMessage,
  TurnResult,
  UpdateSession,
} from "./api.ts";
import { makeSessionId, mayReach, mayUse, mustUse, reachableChanges } from "./access.ts";
import { parseCursor } from "./cursor.ts";
import { placed, type PlacedMessage, type SessionChange, type SessionEvent } from "./events.ts";
import type { Feeds, WhenAbsent } from "./feeds.ts";
import { localMessageId, parseLocalId } from "./ids.ts";
import { InputChecks, type InputLimits } from "./input-checks.ts";
import { listSessions } from "./listing.ts";
import type { Live, LiveMessages } from "./live.ts";
import { MessagesOnly } from "./messages-only.ts";
import { keyedOp } from "./ops.ts";
import { OwnedSessions } from "./owned-sessions.ts";
import type { ModelChoice, Replies } from "./replies.ts";
import type { Run, RunError } from "./run.ts";
import { Sending, type SendingSettings } from "./sending.ts";
import type { MemorySettings, PageRequest, Session, SessionFilter, SessionPage, Viewer } from "./session.ts";
import type { Reading, SessionStore } from "./store.ts";
import { decodeStoredMessage } from "./stored-message.ts";
import { beginning, type Titles } from "./titles.ts";
import type { Turns } from "./turns.ts";

export interface ConversationSettings extends InputLimits, SendingSettings {
  readonly model: string;
  readonly memory: MemorySettings;
}

/** How far around its hint a message of the gateway's is looked for. */
const around = 100;

/** The use cases over the ports. */
export class StoredConversations implements Conversations {
  readonly models: readonly ModelChoice[];
  readonly defaults: { readonly model: string; readonly memory: MemorySettings };
  readonly #store: SessionStore;
  readonly #feeds: Feeds;
  readonly #titles: Titles;
  readonly #sessions: OwnedSessions;
  readonly #checks: InputChecks;
  readonly #sending: Sending;
  readonly #settings: ConversationSettings;

  constructor(
    store: SessionStore,
    feeds: Feeds,
    replies: Replies,
    turns: Turns,
    titles: Titles,
    settings: ConversationSettings,
  ) {
    this.models = replies.models;
    this.defaults = { model: settings.model, memory: settings.memory };
    this.#store = store;
    this.#feeds = feeds;
    this.#titles = titles;
    this.#settings = settings;
    this.#sessions = new OwnedSessions(store, settings.historyKeyPrefix);
    this.#checks = new InputChecks(replies.models, settings);
    this.#sending = new Sending(store, this.#sessions, this.#checks, turns, settings);
  }

  async readSession(viewer: Viewer, sessionId: string, read: ReadRequest): Promise<Session | null> {
    return (await this.#sessions.read(viewer, sessionId, read))?.session ?? null;
  }

  listSessions(viewer: Viewer, page: PageRequest, filter: SessionFilter, read: ReadRequest): Promise<SessionPage> {
    const mine = (sessionId: string) => mayReach(viewer, sessionId);
    return listSessions(this.#store, viewer.subject, page, filter, read, mine);
  }

  async readMessage(viewer: Viewer, sessionId: string, local: string): Promise<PlacedMessage | null> {
    const id = parseLocalId(local);
    if (!id) return null;
    const read = (op: string, ranges: readonly (readonly [number, number])[]) =>
      this.#sessions.read(viewer, sessionId, { pages: [], op, ranges });
    const pick = (reading: Reading | null): PlacedMessage | null => {
      const { session, ranges } = reading ?? {};
      if (!session || !ranges) return null;
      const row = ranges
        .flat()
        .find((one) => localMessageId(session.historyKey, one, decodeStoredMessage(one.raw)) === local);
      return row ? placed(session, row) : null;
    };
    if (id.kind === "place") return pick(await read("", [[id.position, id.position]]));
    if (id.kind === "named") {
      const reading = await read("", [[id.hint - around, id.hint + around]]);
      const found = pick(reading);
      if (found || !reading) return found;
      // A reply that was made anew in the middle moves what was added meanwhile: the newest rows are looked through.
      const { end } = reading.session;
      return pick(await read("", [[end - 2 * around, end - 1]]));
    }
    const reading = await read(`m:${id.messageId}`, []);
    if (!reading) return null;
    const result = reading.op?.result ?? "";
    if (result.startsWith("run:")) {
      const run = await this.readRun(viewer, sessionId, result.slice(4));
      if (run?.userRow) return placed(reading.session, run.userRow);
    }
    // Its op names the place; where that is forgotten the newest rows are looked through.
    const position = /^(\d+) /.exec(result)?.[1];
    const { end } = reading.session;
    return pick(
      await read("", [position === undefined ? [end - 2 * around, end - 1] : [Number(position), Number(position)]]),
    );
  }

  readRun(viewer: Viewer, sessionId: string, runId: string): Promise<Run | null> {
    return this.#sessions.readRun(viewer, sessionId, runId);
  }

  async createSession(viewer: Viewer, input: CreateSession, read: ReadRequest): Promise<Session> {
    const { idempotencyKey, title, instructions, model, memory, metadata, ttlSeconds } = input;
    const sessionId = input.sessionId ?? makeSessionId(viewer, "create", idempotencyKey, this.#settings.now());
    mustUse(viewer, sessionId);
    this.#checks.sessionId(sessionId);
    this.#checks.settings(input);
    const record = { title, instructions, model, memory, metadata, ttlSeconds };
    const op = keyedOp("create", idempotencyKey, [input.sessionId, record]);
    await this.#store.create(viewer.subject, sessionId, record, op);
    return this.#sessions.mustRead(viewer, sessionId, read);
  }

  async updateSession(viewer: Viewer, input: UpdateSession, read: ReadRequest): Promise<Session> {
    const { sessionId, archived, ...change } = input;
    this.#sessions.mustExist(viewer, sessionId);
    this.#checks.settings(change);
    const record = { ...change, archived: archived === null ? false : archived };
    await this.#sessions.owning(viewer, sessionId, () => this.#store.update(viewer.subject, sessionId, record));
    return this.#sessions.mustRead(viewer, sessionId, read);
  }

  async markRead(viewer: Viewer, sessionId: string, through: string | null, read: ReadRequest): Promise<Session> {
    this.#sessions.mustExist(viewer, sessionId);
    const place = this.#checks.cursor(sessionId, through, "input.through");
    await this.#sessions.owning(viewer, sessionId, () => this.#store.markRead(viewer.subject, sessionId, place));
    return this.#sessions.mustRead(viewer, sessionId, read);
  }

  async generateTitle(
    viewer: Viewer,
    sessionId: string,
    model: string | null,
    read: ReadRequest,
  ): Promise<{ readonly session: Session; readonly error: RunError | null }> {
    this.#checks.model(model);
    const before = await this.#sessions.mustRead(viewer, sessionId, { pages: [beginning] });
    const result = await this.#titles.ask(before, model);
    if ("title" in result) await this.#store.update(viewer.subject, sessionId, { title: result.title });
    return {
      session: await this.#sessions.mustRead(viewer, sessionId, read),
      error: "error" in result ? result.error : null,
    };
  }

  async deleteSession(viewer: Viewer, sessionId: string): Promise<void> {
    this.#sessions.mustExist(viewer, sessionId);
    await this.#sessions.owning(viewer, sessionId, () => this.#store.remove(viewer.subject, sessionId));
  }

  async clearHistory(viewer: Viewer, sessionId: string, read: ReadRequest): Promise<Session> {
    this.#sessions.mustExist(viewer, sessionId);
    await this.#sessions.owning(viewer, sessionId, () => this.#store.clear(viewer.subject, sessionId));
    return this.#sessions.mustRead(viewer, sessionId, read);
  }

  async forkSession(viewer: Viewer, input: ForkSession, read: ReadRequest): Promise<Session> {
    const { idempotencyKey, newSessionId, title } = input;
    const sessionId =
      newSessionId ?? makeSessionId(viewer, `fork ${input.sessionId}`, idempotencyKey, this.#settings.now());
    mustUse(viewer, sessionId);
    this.#checks.sessionId(sessionId, "input.newSessionId");
    this.#checks.settings({ title });
    const through = this.#checks.cursor(input.sessionId, input.through, "input.through");
    // The cursor is checked by the store: a page behind it is asked for.
    const pages = input.through === null ? [] : [{ first: 1, after: input.through, last: null, before: null }];
    const source = await this.#sessions.mustRead(viewer, input.sessionId, { pages });
    for (const page of source.pages) if (page instanceof Error) throw page;
    const op = keyedOp("fork", idempotencyKey, [input.sessionId, input.through, newSessionId, title]);
    await this.#store.fork(viewer.subject, source, through, sessionId, title ?? source.title, op);
    return this.#sessions.mustRead(viewer, sessionId, read);
  }

  addMessages(
    viewer: Viewer,
    input: AddMessages,
    read: ReadRequest,
  ): Promise<{ readonly messages: readonly PlacedMessage[]; readonly session: Session }> {
    return this.#sending.addMessages(viewer, input, read);
  }

  sendMessage(
    viewer: Viewer,
    input: SendMessage,
    read: ReadRequest | null,
    wait: boolean,
    signal: AbortSignal,
  ): Promise<TurnResult> {
    return this.#sending.sendMessage(viewer, input, read, wait, signal);
  }

  regenerateReply(
    viewer: Viewer,
    input: RegenerateReply,
    read: ReadRequest | null,
    wait: boolean,
    signal: AbortSignal,
  ): Promise<TurnResult> {
    return this.#sending.regenerateReply(viewer, input, read, wait, signal);
  }

  cancelRun(viewer: Viewer, sessionId: string, runId: string): Promise<Run> {
    return this.#sending.cancelRun(viewer, sessionId, runId);
  }

  awaitRun(viewer: Viewer, sessionId: string, runId: string, signal: AbortSignal): Promise<Run> {
    return this.#sending.awaitRun(viewer, sessionId, runId, signal);
  }

  async sessionEvents(
    viewer: Viewer,
    sessionId: string,
    after: string | null,
    ifMissing: IfMissing,
    read: ReadRequest,
    signal: AbortSignal,
  ): Promise<Live<SessionEvent>> {
    this.#sessions.mustExist(viewer, sessionId);
    const open = (absent: WhenAbsent) => this.#feeds.open(viewer.subject, sessionId, after, absent, read, signal);
    // Only where the viewer may start it: of all other ids nobody learns whether there is anything.
    if (!mayUse(viewer, sessionId)) return open("refuse");
    const absent = !this.#isStart(sessionId, after) ? "end" : ifMissing === "WAIT" ? "wait" : "refuse";
    if (!viewer.granted) return open(absent);
    const otherwise = absent === "refuse" ? undefined : () => open(absent);
    return this.#sessions.owning(viewer, sessionId, () => open("refuse"), otherwise);
  }

  /** Whether a stream behind it misses nothing of a session that has yet to begin. */
  #isStart(sessionId: string, after: string | null): boolean {
    if (after === null || after === "") return true;
    const cursor = parseCursor(this.#settings.historyKeyPrefix + sessionId, after);
    return cursor !== null && cursor.position < 0;
  }

  async messageAdded(
    viewer: Viewer,
    sessionId: string,
    after: string | null,
    ifMissing: IfMissing,
    signal: AbortSignal,
  ): Promise<LiveMessages> {
    return MessagesOnly.of(await this.sessionEvents(viewer, sessionId, after, ifMissing, { pages: [] }, signal));
  }

  async sessionChanged(
    viewer: Viewer,
    read: ReadRequest,
    signal: AbortSignal,
  ): Promise<AsyncIterableIterator<SessionChange>> {
    return reachableChanges(viewer, await this.#feeds.changes(viewer.subject, read, signal));
  }
}
