import { hash, randomUUID } from "node:crypto";
import { makeSessionId, mayUse, OwnedSessions } from "./access.ts";
import {
  recordOnly,
  type AddMessages,
  type Caller,
  type ReadRequest,
  type RegenerateReply,
  type SendMessage,
  type TurnResult,
} from "./api.ts";
import { ParleyError, badInput, messageIdReused, notFound } from "../errors.ts";
import { placed, type PlacedMessage } from "../events.ts";
import { joinLocal, markOf, sessionTag, uuidv7 } from "../message/ids.ts";
import { InputChecks, type InputLimits } from "./input-checks.ts";
import { rateLimited, type Quotas } from "../ports/quotas.ts";
import type { NewMessage, Row } from "../message/message.ts";
import type { Replies } from "../ports/model.ts";
import { isFinal, type Run } from "../run.ts";
import type { Session, Viewer } from "../session.ts";
import type { BeginAnswer, BeginTurn, SessionStore, Op } from "../ports/store.ts";
import {
  contentFingerprint,
  fillMessage,
  templateOfMessage,
  templateOfPartial,
  type RowTemplate,
} from "../message/stored-message.ts";
import { type Telemetry } from "../ports/telemetry.ts";
import { Responding, type Decision } from "./responding.ts";
import type { Turns } from "./turns.ts";

export interface SendingSettings extends InputLimits {
  /** Of sessions that have none of their own. */
  readonly model: string;
  /** How long a mutation waits for `reply`, in ms. */
  readonly replyWaitMs: number;
  readonly telemetry: Telemetry;
  readonly quotas: Quotas;
  /** What is kept of a run's parts beside its text, in bytes. */
  readonly partsBytes: number;
  readonly now: () => number;
}

/** A run's rows lie in the history of its own generation. */
function turnResult(run: Run, session: Session | null): TurnResult {
  return {
    run,
    session,
    userMessage: run.userRow && placed(run, run.userRow),
    reply: isFinal(run.status) && run.replyRow ? placed(run, run.replyRow) : null,
  };
}

/** The use cases by which messages come into a session: added as they are, or sent for a reply, with the runs that make it. */
export abstract class Sending {
  protected readonly store: SessionStore;
  protected readonly sessions: OwnedSessions;
  protected readonly checks: InputChecks;
  protected readonly settings: SendingSettings;
  readonly #turns: Turns;
  readonly #responding: Responding;

  constructor(store: SessionStore, replies: Replies, turns: Turns, settings: SendingSettings) {
    this.store = store;
    this.sessions = new OwnedSessions(store, settings.historyKeyPrefix);
    this.checks = new InputChecks(replies.models, settings);
    this.settings = settings;
    this.#turns = turns;
    this.#responding = new Responding({
      ...{ ...settings, store },
      takes: (...given) => replies.takes(...given),
      clipped: (...given) => replies.clipped(...given),
    });
  }

  async addMessages(
    viewer: Viewer,
    input: AddMessages,
    read: ReadRequest,
  ): Promise<{ readonly messages: readonly PlacedMessage[]; readonly session: Session }> {
    const { sessionId, messages, idempotencyKey } = input;
    this.checks.sessionId(sessionId);
    this.sessions.mustExist(viewer, sessionId);
    this.checks.messages(messages);
    const given = messages.map((message) => ({
      op:
        message.messageId === null ? null : { id: `m:${message.messageId}`, fingerprint: contentFingerprint(message) },
      row: this.#row(sessionId, message, message.messageId ?? uuidv7(this.settings.now()), null),
    }));
    const op = keyedOp("add", idempotencyKey, messages.map(contentFingerprint));
    const existingOnly = !mayUse(viewer, sessionId);
    const places = await this.sessions.owning(viewer, sessionId, () =>
      this.store.append(viewer.subject, sessionId, given, op, existingOnly),
    );
    // What this call has written it knows, also what retention trims at once; what an earlier one has is read.
    const written = places.map(({ position, mark }, i): Row | null => {
      const row = given[i]?.row;
      const raw = row === undefined ? "" : fillMessage(row, position);
      return markOf(raw) === mark ? { position, mark, raw } : null;
    });
    const earlier = places.filter((_, i) => written[i] === null);
    const ranges = earlier.map(({ position }) => [position, position] as const);
    const reading = await this.sessions.read(viewer, sessionId, { ...read, ranges });
    if (!reading) throw notFound();
    const { session } = reading;
    // They may be gone, and others may lie where they lay.
    const found = reading.ranges.flatMap((range, i) => range.filter(({ mark }) => mark === earlier[i]?.mark));
    const rows = [...written.filter((row) => row !== null), ...found];
    return { messages: rows.map((row) => placed(session, row)), session };
  }

  /**
   * With `wait`, resolves when the run has ended (or the configured limit or the caller's signal comes first), else as soon
   * as the message is stored or queued. `read` null: nothing of the session is wanted, which spares most turns a reading.
   */
  async sendMessage(caller: Caller, input: SendMessage, read: ReadRequest | null, wait: boolean): Promise<TurnResult> {
    const { viewer } = caller;
    const { content, messageId, idempotencyKey, whenBusy, model, newSession } = input;
    // A messageId and an idempotencyKey of the same text are two calls' own.
    const what = messageId === null ? "send by key" : "send";
    const sessionId = input.sessionId ?? makeSessionId(viewer, what, messageId ?? idempotencyKey, this.settings.now());
    this.checks.sessionId(sessionId);
    this.sessions.mustExist(viewer, sessionId);
    this.checks.model(viewer, model);
    const message: NewMessage = {
      role: "USER",
      content,
      messageId,
      name: null,
      toolCallId: null,
      toolFailed: null,
      toolCalls: [],
      ...(input.context === undefined ? {} : { context: input.context }),
    };
    this.checks.length(message, "input");
    if (newSession) this.checks.settings(viewer, newSession, "input.newSession");
    const runId = uuidv7(this.settings.now());
    const inputId = { messageId: messageId ?? uuidv7(this.settings.now()), chosen: messageId !== null };
    const row = this.#row(sessionId, message, inputId.messageId, runId);
    const fingerprint = contentFingerprint(message);
    const keyOp = keyedOp("send", idempotencyKey, [fingerprint, messageId]);
    const op = messageId === null ? keyOp : { id: `m:${messageId}`, fingerprint };
    const replaceFrom = this.checks.anchor(sessionId, input.replaceFrom, "input.replaceFrom");
    const existingOnly = !mayUse(viewer, sessionId);
    const turn = this.#turn(sessionId, runId, {
      op,
      keyOp: messageId === null || idempotencyKey === null ? null : keyOp,
      ...(await this.#answering(caller, sessionId, input, newSession?.model ?? null)),
      input: row,
      inputId,
      replaceFrom,
      whenBusy,
      newSession,
      existingOnly,
    });
    return this.#begin(caller, sessionId, turn, read, wait);
  }

  async regenerateReply(
    caller: Caller,
    input: RegenerateReply,
    read: ReadRequest | null,
    wait: boolean,
  ): Promise<TurnResult> {
    const { viewer } = caller;
    const { sessionId, idempotencyKey, model, whenBusy } = input;
    this.sessions.mustExist(viewer, sessionId);
    this.checks.model(viewer, model);
    const runId = uuidv7(this.settings.now());
    const replaceFrom = this.checks.anchor(sessionId, input.replaceFrom, "input.replaceFrom");
    const op = keyedOp("regenerate", idempotencyKey, [input.replaceFrom, model]);
    const turn = this.#turn(sessionId, runId, {
      op,
      ...(await this.#answering(caller, sessionId, input, null)),
      input: null,
      inputId: null,
      replaceFrom,
      whenBusy,
      existingOnly: !mayUse(viewer, sessionId),
    });
    return this.#begin(caller, sessionId, turn, read, wait);
  }

  async cancelRun(viewer: Viewer, sessionId: string, runId: string): Promise<Run> {
    if (!this.sessions.canExist(viewer, sessionId)) throw notFound("run");
    await this.sessions.owning(viewer, sessionId, () => this.store.cancel(viewer.subject, sessionId, runId));
    // Of one that waited nobody else does.
    this.settings.quotas.drop(viewer.subject, runId, false);
    return this.#settled(await this.sessions.mustReadRun(viewer, sessionId, runId));
  }

  /** All of the decisions are taken, or none. With the last one that it waits for the run goes on, here. */
  async respondToRun(
    { viewer, userToken = null }: Pick<Caller, "viewer" | "userToken">,
    sessionId: string,
    runId: string,
    decisions: readonly Decision[],
    idempotencyKey: string | null,
    read: ReadRequest,
  ): Promise<{ readonly run: Run; readonly session: Session }> {
    if (!this.sessions.canExist(viewer, sessionId)) throw notFound("run");
    const op = keyedOp("respond", idempotencyKey, [runId, decisions]);
    const turn = await this.sessions.owning(viewer, sessionId, () =>
      this.#responding.respond(viewer.subject, sessionId, runId, decisions, op),
    );
    if (turn !== null) {
      this.settings.quotas.drop(turn.owner, runId, true);
      this.#turns.start(turn, userToken);
    }
    const reading = await this.sessions.read(viewer, sessionId, { ...read, runId });
    if (!reading?.run) throw notFound(reading ? "run" : "session");
    return { run: await this.#settled(reading.run), session: reading.session };
  }

  /**
   * Resolves when the run has ended or waits for decisions, or with the run as it is when the configured limit or the caller's signal comes first.
   * NOT_FOUND when it is gone.
   */
  async awaitRun(caller: Caller, sessionId: string, runId: string): Promise<Run> {
    const { viewer } = caller;
    if (!this.sessions.canExist(viewer, sessionId)) throw notFound("run");
    await this.#ended(caller, sessionId, runId);
    return this.#settled(await this.sessions.mustReadRun(viewer, sessionId, runId));
  }

  /**
   * What is to answer, with the page's tools. A model of null: the session's own, or the gateway's. Where the viewer may not
   * choose all that there are, or the page gives tools, it is named: what the session says may change before the turn
   * begins, and others may have said it.
   */
  async #answering(
    { viewer, signal }: Caller,
    sessionId: string,
    { model, tools = [] }: Pick<SendMessage, "model" | "tools">,
    ofNewSession: string | null,
  ): Promise<Pick<BeginTurn, "model" | "tools">> {
    if (tools.length === 0 && (model !== null || viewer.models === null)) return { model };
    this.checks.toolsForm(tools);
    const reading = model === null ? await this.sessions.read(viewer, sessionId, recordOnly) : null;
    const used = model ?? (reading === null ? ofNewSession : reading.session.model) ?? this.settings.model;
    if (model === null) this.checks.unnamedModel(viewer, used);
    await this.checks.toolsOf(used, tools, signal);
    return { model: used, tools };
  }

  #ended(caller: Caller, sessionId: string, runId: string): Promise<Run | null> {
    const { viewer, signal } = caller;
    const { historyKeyPrefix, replyWaitMs } = this.settings;
    const historyKey = historyKeyPrefix + sessionId;
    return caller.whileWaiting(() =>
      this.#turns.ended(viewer.subject, sessionId, historyKey, runId, replyWaitMs, signal),
    );
  }

  /** A run's end may be another process' write, which its caller is about to be told of as done. */
  async #settled(run: Run): Promise<Run> {
    if (isFinal(run.status)) await this.store.settle(run.sessionId);
    return run;
  }

  /** Begins a turn and answers: at once, or with `wait` when the run has ended. */
  async #begin(
    caller: Caller,
    sessionId: string,
    turn: BeginTurn,
    read: ReadRequest | null,
    wait: boolean,
  ): Promise<TurnResult> {
    const { viewer, userToken = null } = caller;
    const answer = await this.sessions.owning(viewer, sessionId, async () => {
      const begun = await this.store.begin(viewer.subject, sessionId, turn);
      if (begun.kind === "notFound") throw notFound();
      return begun;
    });
    const runId = this.#accepted(sessionId, turn, answer);
    if (answer.kind === "started") this.#turns.start(answer, userToken);
    if (answer.kind === "queued") {
      const historyKey = this.settings.historyKeyPrefix + sessionId;
      this.#turns.enqueued(viewer.subject, sessionId, historyKey, runId, userToken);
    }
    const begun = answer.kind === "started" || answer.kind === "queued" ? answer.run : null;
    const written = wait ? await this.#ended(caller, sessionId, runId) : begun;
    // What this process wrote itself, as safely as it is to be, it need not read back.
    if (read === null && written !== null) return turnResult(written, null);
    const reading = await this.sessions.read(viewer, sessionId, { ...(read ?? recordOnly), runId });
    if (!reading?.run) throw notFound(reading ? "run" : "session");
    await this.#settled(reading.run);
    return turnResult(reading.run, read && reading.session);
  }

  #accepted(sessionId: string, turn: BeginTurn, answer: Exclude<BeginAnswer, { readonly kind: "notFound" }>): string {
    switch (answer.kind) {
      case "started":
      case "queued":
        return answer.runId;
      case "known":
        if ([turn.op, turn.keyOp].some((op) => op?.fingerprint === answer.fingerprint) && answer.runId !== null)
          return answer.runId;
        throw messageIdReused();
      case "busy":
        throw new ParleyError(
          "SESSION_BUSY",
          "Another reply is being made in this session. Wait for it, cancel it, or send with whenBusy QUEUE or INTERRUPT.",
          {
            runId: joinLocal(sessionId, answer.runId),
            status: answer.status,
          },
        );
      case "limited":
        this.settings.telemetry.limited(answer.refusal.limit);
        throw rateLimited(answer.refusal);
      case "full":
        throw new ParleyError(
          "QUEUE_FULL",
          "Too many messages wait for a reply in this session. Try again when some were answered.",
          {
            retryAfterSeconds: 5,
          },
        );
      case "keyless":
        throw badInput(
          "input.idempotencyKey",
          "An edit that keeps the messageId of the message it replaces needs an idempotencyKey: the messageId is the first send's.",
        );
      case "expired":
        throw new ParleyError(
          "CURSOR_EXPIRED",
          turn.replaceFrom && "kind" in turn.replaceFrom
            ? "The message to replace from is gone, or its place is forgotten and it is older than the newest 2,000. Send its cursor."
            : "The message to replace from is gone or has changed. Read the session's messages anew.",
        );
      case "nothing":
        throw badInput("input.sessionId", "The session has no USER message that could be answered.");
    }
  }

  #turn(sessionId: string, runId: string, rest: Omit<BeginTurn, "runId" | "partial" | "replyMessageId">): BeginTurn {
    const now = this.settings.now();
    const replyMessageId = uuidv7(now);
    const session = sessionTag(this.settings.historyKeyPrefix + sessionId);
    return {
      ...rest,
      runId,
      replyMessageId,
      origin: this.settings.telemetry.here()?.traceparent ?? null,
      partial: templateOfPartial(replyMessageId, { session, runId, hint: 0, createdAt: now }),
    };
  }

  /** A row to append; where the caller did not choose the id, with a hint that the script fills in. */
  #row(sessionId: string, message: NewMessage, messageId: string, runId: string | null): RowTemplate {
    const now = this.settings.now();
    const session = sessionTag(this.settings.historyKeyPrefix + sessionId);
    const hint = message.messageId === null ? 0 : null;
    return templateOfMessage(message, messageId, { session, runId, hint, createdAt: now });
  }
}

/** The op of a call: by the caller's key, else one that only guards against a command sent twice. */
export function keyedOp(what: string, idempotencyKey: string | null, content: unknown): Op {
  const fingerprint = hash("sha256", JSON.stringify(content)).slice(0, 32);
  return { id: idempotencyKey === null ? `i:${randomUUID()}` : `k:${what}:${idempotencyKey}`, fingerprint };
}
