import { createHash, randomUUID } from "node:crypto";
import type {
  AddMessages,
  Conversations,
  CreateSession,
  ForkSession,
  ReadRequest,
  RegenerateReply,
  SendMessage,
  TurnResult,
  UpdateSession,
} from "./api.ts";
import { makeSessionId, mayReach, mayUse, mustUse, reachableChanges } from "./access.ts";
import { parseCursor, type Cursor } from "./cursor.ts";
import { badInput, notFound, ParleyError } from "./errors.ts";
import type { PlacedMessage, SessionChange, SessionEvent } from "./events.ts";
import type { Feeds } from "./feeds.ts";
import { joinLocal, localMessageId, parseLocalId, sessionTag, uuidv7 } from "./ids.ts";
import { listSessions } from "./listing.ts";
import type { NewMessage, Row } from "./message.ts";
import { messagesOnly } from "./messages-only.ts";
import type { ModelChoice, Replies } from "./replies.ts";
import { isFinal, type Run, type RunError } from "./run.ts";
import { checkSessionId, historyKeyProblem } from "./session-id.ts";
import type { MemorySettings, PageRequest, Session, SessionFilter, SessionPage, Viewer } from "./session.ts";
import type { BeginAnswer, BeginTurn, Reading, SessionStore, StoreRead } from "./store.ts";
import {
  contentFingerprint,
  decodeStoredMessage,
  templateOfMessage,
  templateOfPartial,
  type RowTemplate,
} from "./stored-message.ts";
import type { Turns } from "./turns.ts";

export interface ConversationSettings {
  readonly historyKeyPrefix: string;
  readonly model: string;
  readonly memory: MemorySettings;
  readonly maxMessageChars: number;
  readonly maxTitleChars: number;
  readonly maxMetadataBytes: number;
  readonly maxMessagesPerAdd: number;
  /** How long a mutation waits for `reply`, in ms. */
  readonly replyWaitMs: number;
  readonly now: () => number;
}

/** How far around its hint a message of the gateway's is looked for. */
const around = 100;
const titleRows = 20;

/** The use cases over the ports. */
export class ConversationService implements Conversations {
  readonly models: readonly ModelChoice[];
  readonly defaults: { readonly model: string; readonly memory: MemorySettings };
  readonly #store: SessionStore;
  readonly #feeds: Feeds;
  readonly #replies: Replies;
  readonly #turns: Turns;
  readonly #settings: ConversationSettings;

  constructor(store: SessionStore, feeds: Feeds, replies: Replies, turns: Turns, settings: ConversationSettings) {
    this.models = replies.models;
    this.defaults = { model: settings.model, memory: settings.memory };
    this.#store = store;
    this.#feeds = feeds;
    this.#replies = replies;
    this.#turns = turns;
    this.#settings = settings;
  }

  async readSession(viewer: Viewer, sessionId: string, read: ReadRequest): Promise<Session | null> {
    return (await this.#read(viewer, sessionId, read))?.session ?? null;
  }

  listSessions(viewer: Viewer, page: PageRequest, filter: SessionFilter, read: ReadRequest): Promise<SessionPage> {
    const mine = (sessionId: string) => mayReach(viewer, sessionId);
    return listSessions(this.#store, viewer.subject, page, filter, read, mine);
  }

  async readMessage(viewer: Viewer, sessionId: string, local: string): Promise<PlacedMessage | null> {
    const id = parseLocalId(local);
    if (!id) return null;
    const read = (op: string, ranges: readonly (readonly [number, number])[]) =>
      this.#read(viewer, sessionId, { pages: [], op, ranges });
    const pick = (reading: Reading | null): PlacedMessage | null => {
      const { session, ranges } = reading ?? {};
      if (!session || !ranges) return null;
      const row = ranges
        .flat()
        .find((one) => localMessageId(session.historyKey, one, decodeStoredMessage(one.raw)) === local);
      return row ? placed(session, row) : null;
    };
    if (id.kind === "place") return pick(await read("", [[id.position, id.position]]));
    if (id.kind === "named") return pick(await read("", [[id.hint - around, id.hint + around]]));
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

  async readRun(viewer: Viewer, sessionId: string, runId: string): Promise<Run | null> {
    return (await this.#read(viewer, sessionId, { pages: [], runId }))?.run ?? null;
  }

  async createSession(viewer: Viewer, input: CreateSession, read: ReadRequest): Promise<Session> {
    const { idempotencyKey, title, instructions, model, memory, metadata, ttlSeconds } = input;
    const sessionId = input.sessionId ?? makeSessionId(viewer, "create", idempotencyKey, this.#settings.now());
    mustUse(viewer, sessionId);
    this.#checkId(sessionId);
    this.#checkSettings(input);
    const record = { title, instructions, model, memory, metadata, ttlSeconds };
    const op = keyedOp("create", idempotencyKey, [input.sessionId, record]);
    await this.#store.create(viewer.subject, sessionId, record, op);
    return this.#mustRead(viewer, sessionId, read);
  }

  async updateSession(viewer: Viewer, input: UpdateSession, read: ReadRequest): Promise<Session> {
    const { sessionId, archived, ...change } = input;
    this.#mustExist(viewer, sessionId);
    this.#checkSettings(change);
    const record = { ...change, archived: archived === null ? false : archived };
    await this.#owning(viewer, sessionId, () => this.#store.update(viewer.subject, sessionId, record));
    return this.#mustRead(viewer, sessionId, read);
  }

  async markRead(viewer: Viewer, sessionId: string, through: string | null, read: ReadRequest): Promise<Session> {
    this.#mustExist(viewer, sessionId);
    const place = this.#cursor(sessionId, through, "input.through");
    await this.#owning(viewer, sessionId, () => this.#store.markRead(viewer.subject, sessionId, place));
    return this.#mustRead(viewer, sessionId, read);
  }

  async generateTitle(
    viewer: Viewer,
    sessionId: string,
    model: string | null,
    read: ReadRequest,
  ): Promise<{ readonly session: Session; readonly error: RunError | null }> {
    this.#checkModel(model);
    const page = { first: titleRows, after: null, last: null, before: null };
    const before = await this.#mustRead(viewer, sessionId, { pages: [page] });
    const [rows] = before.pages;
    const texts = rows && !(rows instanceof Error) ? rows.rows.map((row) => row.raw) : [];
    if (texts.length === 0)
      throw badInput("input.sessionId", "The session has no messages yet that a title could be made of.");
    const result = await this.#replies.title({
      model: model ?? before.model ?? this.#settings.model,
      rows: texts,
      signal: AbortSignal.timeout(this.#settings.replyWaitMs),
    });
    if ("title" in result) await this.#store.update(viewer.subject, sessionId, { title: result.title });
    return { session: await this.#mustRead(viewer, sessionId, read), error: "error" in result ? result.error : null };
  }

  async deleteSession(viewer: Viewer, sessionId: string): Promise<void> {
    this.#mustExist(viewer, sessionId);
    await this.#owning(viewer, sessionId, () => this.#store.remove(viewer.subject, sessionId));
  }

  async clearHistory(viewer: Viewer, sessionId: string, read: ReadRequest): Promise<Session> {
    this.#mustExist(viewer, sessionId);
    await this.#owning(viewer, sessionId, () => this.#store.clear(viewer.subject, sessionId));
    return this.#mustRead(viewer, sessionId, read);
  }

  async forkSession(viewer: Viewer, input: ForkSession, read: ReadRequest): Promise<Session> {
    const { idempotencyKey, newSessionId, title } = input;
    const sessionId =
      newSessionId ?? makeSessionId(viewer, `fork ${input.sessionId}`, idempotencyKey, this.#settings.now());
    mustUse(viewer, sessionId);
    this.#checkId(sessionId, "input.newSessionId");
    this.#checkSettings({ title });
    const through = this.#cursor(input.sessionId, input.through, "input.through");
    // The cursor is checked by the store: a page behind it is asked for.
    const pages = input.through === null ? [] : [{ first: 1, after: input.through, last: null, before: null }];
    const source = await this.#mustRead(viewer, input.sessionId, { pages });
    for (const page of source.pages) if (page instanceof Error) throw page;
    const op = keyedOp("fork", idempotencyKey, [input.sessionId, input.through, newSessionId, title]);
    await this.#store.fork(viewer.subject, source, through, sessionId, title ?? source.title, op);
    return this.#mustRead(viewer, sessionId, read);
  }

  async addMessages(
    viewer: Viewer,
    input: AddMessages,
    read: ReadRequest,
  ): Promise<{ readonly messages: readonly PlacedMessage[]; readonly session: Session }> {
    const { sessionId, messages, idempotencyKey } = input;
    this.#checkId(sessionId);
    this.#mustExist(viewer, sessionId);
    const { maxMessagesPerAdd } = this.#settings;
    if (messages.length === 0) throw badInput("input.messages", "input.messages must hold at least one message.");
    if (messages.length > maxMessagesPerAdd) {
      throw badInput("input.messages", `input.messages must hold at most ${maxMessagesPerAdd} messages.`);
    }
    messages.forEach((message, i) => this.#checkLength(message, `input.messages.${i}`));
    const chosen = messages.flatMap((message) => message.messageId ?? []);
    if (new Set(chosen).size < chosen.length)
      throw badInput("input.messages", "Each messageId must be used once only.");
    const rows = messages.map((message) => ({
      op:
        message.messageId === null ? null : { id: `m:${message.messageId}`, fingerprint: contentFingerprint(message) },
      row: this.#row(sessionId, message, null).row,
    }));
    const op = keyedOp("add", idempotencyKey, messages.map(contentFingerprint));
    const existingOnly = !mayUse(viewer, sessionId);
    const places = await this.#owning(viewer, sessionId, () =>
      this.#store.append(viewer.subject, sessionId, rows, op, existingOnly),
    );
    const ranges = places.map(({ position }) => [position, position] as const);
    const reading = await this.#read(viewer, sessionId, { ...read, ranges });
    if (!reading) throw notFound();
    const { session } = reading;
    return { messages: reading.ranges.flat().map((row) => placed(session, row)), session };
  }

  async sendMessage(
    viewer: Viewer,
    input: SendMessage,
    read: ReadRequest,
    wait: boolean,
    signal: AbortSignal,
  ): Promise<TurnResult> {
    const { sessionId, content, messageId, whenBusy, model } = input;
    this.#checkId(sessionId);
    this.#mustExist(viewer, sessionId);
    this.#checkModel(model);
    const message: NewMessage = {
      role: "USER",
      content,
      messageId,
      name: null,
      toolCallId: null,
      toolFailed: null,
      toolCalls: [],
    };
    this.#checkLength(message, "input");
    const runId = uuidv7(this.#settings.now());
    const { row } = this.#row(sessionId, message, runId);
    const op =
      messageId === null
        ? keyedOp("send", null, [])
        : { id: `m:${messageId}`, fingerprint: contentFingerprint(message) };
    const replaceFrom = this.#cursor(sessionId, input.replaceFrom, "input.replaceFrom");
    const existingOnly = !mayUse(viewer, sessionId);
    const turn = this.#turn(sessionId, runId, { op, model, input: row, replaceFrom, whenBusy, existingOnly });
    return this.#begin(viewer, sessionId, turn, read, wait, signal);
  }

  async regenerateReply(
    viewer: Viewer,
    input: RegenerateReply,
    read: ReadRequest,
    wait: boolean,
    signal: AbortSignal,
  ): Promise<TurnResult> {
    const { sessionId, idempotencyKey, model, whenBusy } = input;
    this.#mustExist(viewer, sessionId);
    this.#checkModel(model);
    const runId = uuidv7(this.#settings.now());
    const replaceFrom = this.#cursor(sessionId, input.replaceFrom, "input.replaceFrom");
    const op = keyedOp("regenerate", idempotencyKey, [input.replaceFrom, model]);
    const turn = this.#turn(sessionId, runId, {
      op,
      model,
      input: null,
      replaceFrom,
      whenBusy,
      existingOnly: !mayUse(viewer, sessionId),
    });
    return this.#begin(viewer, sessionId, turn, read, wait, signal);
  }

  async cancelRun(viewer: Viewer, sessionId: string, runId: string): Promise<Run> {
    if (!this.#canExist(viewer, sessionId)) throw notFound("run");
    await this.#owning(viewer, sessionId, () => this.#store.cancel(viewer.subject, sessionId, runId));
    return (await this.readRun(viewer, sessionId, runId)) ?? raise(notFound("run"));
  }

  async awaitRun(viewer: Viewer, sessionId: string, runId: string, signal: AbortSignal): Promise<Run> {
    if (!this.#canExist(viewer, sessionId)) throw notFound("run");
    const historyKey = this.#settings.historyKeyPrefix + sessionId;
    await this.#turns.ended(viewer.subject, sessionId, historyKey, runId, this.#settings.replyWaitMs, signal);
    return (await this.readRun(viewer, sessionId, runId)) ?? raise(notFound("run"));
  }

  async sessionEvents(
    viewer: Viewer,
    sessionId: string,
    after: string | null,
    read: ReadRequest,
    signal: AbortSignal,
  ): Promise<AsyncIterableIterator<SessionEvent>> {
    this.#mustExist(viewer, sessionId);
    return this.#owning(viewer, sessionId, () => this.#feeds.open(viewer.subject, sessionId, after, read, signal));
  }

  async messageAdded(
    viewer: Viewer,
    sessionId: string,
    after: string | null,
    signal: AbortSignal,
  ): Promise<AsyncIterableIterator<PlacedMessage>> {
    return messagesOnly(await this.sessionEvents(viewer, sessionId, after, { pages: [] }, signal));
  }

  async sessionChanged(
    viewer: Viewer,
    read: ReadRequest,
    signal: AbortSignal,
  ): Promise<AsyncIterableIterator<SessionChange>> {
    return reachableChanges(viewer, await this.#feeds.changes(viewer.subject, read, signal));
  }

  /** Begins a turn and answers: at once, or with `wait` when the run has ended. */
  async #begin(
    viewer: Viewer,
    sessionId: string,
    turn: BeginTurn,
    read: ReadRequest,
    wait: boolean,
    signal: AbortSignal,
  ): Promise<TurnResult> {
    const answer = await this.#owning(viewer, sessionId, async () => {
      const begun = await this.#store.begin(viewer.subject, sessionId, turn);
      if (begun.kind === "notFound") throw notFound();
      return begun;
    });
    const runId = this.#accepted(sessionId, turn, answer);
    const historyKey = this.#settings.historyKeyPrefix + sessionId;
    if (answer.kind === "started") this.#turns.start(answer);
    if (answer.kind === "queued") this.#turns.enqueued(historyKey, runId);
    if (wait) await this.#turns.ended(viewer.subject, sessionId, historyKey, runId, this.#settings.replyWaitMs, signal);
    const reading = await this.#read(viewer, sessionId, { ...read, runId });
    if (!reading?.run) throw notFound(reading ? "run" : "session");
    const { run, session } = reading;
    return {
      run,
      session,
      userMessage: run.userRow && placed(session, run.userRow),
      reply: isFinal(run.status) && run.replyRow ? placed(session, run.replyRow) : null,
    };
  }

  #accepted(sessionId: string, turn: BeginTurn, answer: Exclude<BeginAnswer, { readonly kind: "notFound" }>): string {
    switch (answer.kind) {
      case "started":
      case "queued":
        return answer.runId;
      case "known":
        if (answer.fingerprint === turn.op.fingerprint && answer.runId !== null) return answer.runId;
        throw new ParleyError(
          "MESSAGE_ID_REUSED",
          "This messageId or idempotencyKey was used with other content. Choose a new one for a new message.",
        );
      case "busy":
        throw new ParleyError(
          "SESSION_BUSY",
          "Another reply is being made in this session. Wait for it, cancel it, or send with whenBusy QUEUE or INTERRUPT.",
          {
            runId: joinLocal(sessionId, answer.runId),
          },
        );
      case "full":
        throw new ParleyError(
          "QUEUE_FULL",
          "Too many messages wait for a reply in this session. Try again when some were answered.",
          {
            retryAfterSeconds: 5,
          },
        );
      case "expired":
        throw new ParleyError(
          "CURSOR_EXPIRED",
          "The message to replace from is gone or has changed. Read the session's messages anew.",
        );
      case "nothing":
        throw badInput("input.sessionId", "The session has no USER message that could be answered.");
    }
  }

  #turn(sessionId: string, runId: string, rest: Omit<BeginTurn, "runId" | "partial" | "replyMessageId">): BeginTurn {
    const now = this.#settings.now();
    const replyMessageId = uuidv7(now);
    const session = sessionTag(this.#settings.historyKeyPrefix + sessionId);
    return {
      ...rest,
      runId,
      replyMessageId,
      partial: templateOfPartial(replyMessageId, { session, runId, hint: 0, createdAt: now }),
    };
  }

  /** A row to append; a message that has no id of the caller's gets one, with a hint that the script fills in. */
  #row(sessionId: string, message: NewMessage, runId: string | null): { readonly row: RowTemplate } {
    const now = this.#settings.now();
    const session = sessionTag(this.#settings.historyKeyPrefix + sessionId);
    const hint = message.messageId === null ? 0 : null;
    return {
      row: templateOfMessage(message, message.messageId ?? uuidv7(now), { session, runId, hint, createdAt: now }),
    };
  }

  async #mustRead(viewer: Viewer, sessionId: string, read: ReadRequest): Promise<Session> {
    return (await this.readSession(viewer, sessionId, read)) ?? raise(notFound());
  }

  /** null: no such session of the viewer's. */
  async #read(viewer: Viewer, sessionId: string, request: StoreRead): Promise<Reading | null> {
    if (!this.#canExist(viewer, sessionId)) return null;
    const read = () => this.#store.read(viewer.subject, sessionId, request);
    const reading = await read();
    return reading === null && (await this.#claims(viewer, sessionId)) ? await read() : reading;
  }

  /** Does what is NOT_FOUND for a history of foreign code once more when the viewer's credentials bring that along. */
  async #owning<T>(viewer: Viewer, sessionId: string, act: () => Promise<T>): Promise<T> {
    try {
      return await act();
    } catch (error) {
      const missing = error instanceof ParleyError && error.code === "NOT_FOUND";
      if (!missing || !(await this.#claims(viewer, sessionId))) throw error;
      return await act();
    }
  }

  /** Whether a history that was nobody's is the viewer's from now on. */
  async #claims(viewer: Viewer, sessionId: string): Promise<boolean> {
    return viewer.granted && (await this.#store.claim(viewer.subject, sessionId));
  }

  /** An id that no session can have, or none of the viewer's, is answered as one that none has. */
  #canExist(viewer: Viewer, sessionId: string): boolean {
    if (sessionId === "" || !mayReach(viewer, sessionId)) return false;
    return historyKeyProblem(this.#settings.historyKeyPrefix + sessionId) === null;
  }

  #mustExist(viewer: Viewer, sessionId: string): void {
    if (!this.#canExist(viewer, sessionId)) throw notFound();
  }

  #checkId(sessionId: string, field = "input.sessionId"): void {
    checkSessionId(field, this.#settings.historyKeyPrefix, sessionId);
  }

  #cursor(sessionId: string, text: string | null, field: string): Cursor | null {
    if (text === null) return null;
    const cursor = parseCursor(this.#settings.historyKeyPrefix + sessionId, text);
    if (!cursor || cursor.position < 0) {
      throw new ParleyError(
        "INVALID_CURSOR",
        "This is not a cursor of a message of this session. Use a cursor that it gave out, unchanged.",
        { field },
      );
    }
    return cursor;
  }

  #checkModel(model: string | null | undefined, field = "input.model"): void {
    if (model === null || model === undefined || this.models.some((choice) => choice.name === model)) return;
    const names = this.models.map((choice) => choice.name).join(", ");
    throw badInput(field, `There is no model of this name to choose. Choose one of: ${names}.`);
  }

  #checkLength(message: NewMessage, field: string): void {
    const { maxMessageChars } = this.#settings;
    const chars = message.content.reduce(
      (sum, block) => sum + (block.kind === "text" ? block.text.length : JSON.stringify(block).length),
      0,
    );
    const [only] = message.content;
    const where = message.content.length === 1 && only?.kind === "text" ? "text" : "content";
    if (chars > maxMessageChars)
      throw badInput(
        `${field}.${where}`,
        `A message may have at most ${maxMessageChars} characters; this has ${chars}.`,
      );
  }

  #checkSettings(settings: CheckedSettings): void {
    const { maxTitleChars, maxMessageChars, maxMetadataBytes } = this.#settings;
    const { title, instructions, model, metadata } = settings;
    this.#checkModel(model);
    if (title && title.length > maxTitleChars)
      throw badInput("input.title", `A title may have at most ${maxTitleChars} characters.`);
    if (instructions && instructions.length > maxMessageChars) {
      throw badInput("input.instructions", `Instructions may have at most ${maxMessageChars} characters.`);
    }
    if (metadata && Buffer.byteLength(JSON.stringify(metadata)) > maxMetadataBytes) {
      throw badInput("input.metadata", `Metadata may have at most ${maxMetadataBytes} bytes as JSON.`);
    }
  }
}

interface CheckedSettings {
  readonly title?: string | null | undefined;
  readonly instructions?: string | null | undefined;
  readonly model?: string | null | undefined;
  readonly metadata?: Readonly<Record<string, unknown>> | null | undefined;
}

function placed(session: Session, row: Row): PlacedMessage {
  return { sessionId: session.sessionId, historyKey: session.historyKey, generation: session.generation, row };
}

/** The op of a call: by the caller's key, else one that only guards against a command sent twice. */
function keyedOp(
  what: string,
  idempotencyKey: string | null,
  content: unknown,
): { readonly id: string; readonly fingerprint: string } {
  const fingerprint = createHash("sha256").update(JSON.stringify(content)).digest("hex").slice(0, 32);
  return { id: idempotencyKey === null ? `i:${randomUUID()}` : `k:${what}:${idempotencyKey}`, fingerprint };
}

function raise(error: Error): never {
  throw error;
}
