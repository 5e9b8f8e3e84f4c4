import type { ReadRequest, UpdateSession, WhenBusy } from "../conversations/api.ts";
import type { Anchor, Cursor } from "../message/cursor.ts";
import type { ParleyError } from "../errors.ts";
import type { PageTool } from "./model.ts";
import type { Refusal } from "./quotas.ts";
import type { Row, TokenUsage } from "../message/message.ts";
import type { Run, RunError } from "../run.ts";
import type { MemorySettings, MessagePage, PageRequest, Session } from "../session.ts";
import type { PartialTemplate, RowTemplate } from "../message/stored-message.ts";

/**
 * The port to the conversations in Redis. Every write is one atomic script; a write that is sent twice with the same op
 * writes once (P2). Methods reject with ParleyError STORE_UNAVAILABLE where Redis could not be asked in time, and with
 * NOT_FOUND where there is no such session for this owner.
 */
export interface SessionStore {
  /** null: no such session for this owner, or it is as `request.known`. A history of foreign code is adopted where that is allowed. */
  read(owner: string, sessionId: string, request: StoreRead): Promise<Reading | null>;
  begin(owner: string, sessionId: string, turn: BeginTurn): Promise<BeginAnswer>;
  /**
   * Closes a run whose lease ended, then starts the next that waits: this process' own, or anybody's with `takeAny`. A run that
   * has waited and whose calls nobody has claimed is carried on instead of being closed.
   */
  attend(historyKey: string, takeAny: boolean): Promise<Attended>;
  /** Adds text behind `offset`, and lines to the part log. */
  progress(turn: TurnToken, offset: number, text: string, log?: LogBatch): Promise<ProgressAnswer>;
  /** Opens a step and claims its calls. Until each has its answer no other can be opened, and nothing of it is in the history. */
  step(turn: StartedTurn, step: OpenStep, log: LogBatch): Promise<StepReply>;
  /** The same, but that no call is claimed: the run waits for decisions on them, and is this process' no more. */
  wait(turn: StartedTurn, step: WaitingStep, log: LogBatch): Promise<StepReply>;
  /** What a run waits for; "known": the op was done. Throws NOT_FOUND where there is no such run. */
  waiting(owner: string, sessionId: string, runId: string, opId: string): Promise<Waiting>;
  /** Takes decisions, all of them or none. The last one starts the run again, for this process. */
  respond(owner: string, sessionId: string, response: RunResponse, op: Op): Promise<RespondAnswer>;
  /** Claims the calls (all of its) of the step that a run has waited with. false: the run is closed. */
  claimCalls(turn: StartedTurn, calls: readonly LostCall[], op: string): Promise<boolean>;
  /** The last answer appends the step: the reply, then the answers in the order of the calls. */
  answer(turn: StartedTurn, answer: StepAnswer, log: LogBatch, op: string): Promise<StepReply>;
  /** false: the run is closed. */
  renew(turn: TurnToken): Promise<boolean>;
  /** Resolves when the run has ended, be it by this call. */
  finish(turn: StartedTurn, end: TurnEnd, op: string): Promise<FinishedTurn>;
  cancel(owner: string, sessionId: string, runId: string): Promise<void>;
  /** `existingOnly`: an unknown session is NOT_FOUND instead of being started. */
  append(
    owner: string,
    sessionId: string,
    messages: readonly AppendMessage[],
    op: Op,
    existingOnly?: boolean,
  ): Promise<readonly Place[]>;
  create(owner: string, sessionId: string, record: NewRecord, op: Op): Promise<void>;
  update(owner: string, sessionId: string, change: RecordChange): Promise<void>;
  markRead(owner: string, sessionId: string, through: Anchor | null): Promise<void>;
  /** A title that was made of the history of this generation. Nothing happens where the session has a title by now, or is gone. */
  giveTitle(owner: string, sessionId: string, generation: number, title: string): Promise<void>;
  saveSummary(historyKey: string, at: Cursor, text: string): Promise<void>;
  clear(owner: string, sessionId: string): Promise<void>;
  remove(owner: string, sessionId: string): Promise<void>;
  /** Copies the rows up to and including `through` (null: all) and the settings of `source` into a new session. */
  fork(
    owner: string,
    source: Session,
    through: Place | null,
    sessionId: string,
    title: string | null,
    op: Op,
  ): Promise<void>;
  /** Gives a history of foreign code that is nobody's to this owner. false: there is none, or it is somebody's. */
  claim(owner: string, sessionId: string): Promise<boolean>;
  /** Takes a session that is gone out of its owner's list. */
  forget(owner: string, sessionId: string): void;
  list(owner: string, query: ListQuery): Promise<readonly ListPlace[]>;
  /**
   * Resolves when what was written to the session so far, by whatever process, is as safe as an acknowledged write; where
   * replicas must hold those and did not follow in time, it rejects with STORE_UNAVAILABLE.
   */
  settle(sessionId: string): Promise<void>;
}

export interface StoreRead extends ReadRequest {
  readonly runId?: string;
  /** One page more, whatever its rows hold. */
  readonly next?: PageRequest | undefined;
  /** Rows of these positions (both included), whatever lies there. */
  readonly ranges?: readonly (readonly [from: number, to: number])[];
  /** One message. */
  readonly at?: Anchor;
}

export interface Reading {
  readonly session: Session;
  readonly run: Run | null;
  /** null: none was asked for. */
  readonly next: MessagePage | Error | null;
  readonly ranges: readonly (readonly Row[])[];
  /** The message that `at` names, where it lies; an error where there is none (null: none was asked for). */
  readonly at: Found | ParleyError | null;
}

export interface Found extends Place {
  /** null: retention has trimmed it, and nothing behind it. */
  readonly row: Row | null;
}

/** What makes a write safe to repeat: an id, and a fingerprint of what it does, to tell a retry from a reuse. */
export interface Op {
  readonly id: string;
  readonly fingerprint: string;
}

export interface Place {
  readonly position: number;
  readonly mark: string;
}

interface InputId {
  readonly messageId: string;
  /** By the caller; else its global id holds a hint of its place, too. */
  readonly chosen: boolean;
}

export interface BeginTurn {
  readonly op: Op;
  /** By the caller's key, beside that of the message's id: the op of an edit that keeps the id of the message it replaces. */
  readonly keyOp?: Op | null;
  readonly runId: string;
  /** null: the session's. */
  readonly model: string | null;
  /** null: regenerate. A hint of 0 in a row's note is replaced by its position. */
  readonly input: RowTemplate | null;
  /** The id of the input's message; null: regenerate. */
  readonly inputId: InputId | null;
  readonly partial: PartialTemplate;
  readonly replyMessageId: string;
  /** Where in which trace it was asked for, so that the process that carries it out goes on with that trace. */
  readonly origin?: string | null;
  readonly replaceFrom: Anchor | null;
  readonly whenBusy: WhenBusy;
  /** The page's, for an agent that takes them. */
  readonly tools?: readonly PageTool[];
  /** How the session is to be where it begins with this turn; left out: with the defaults. */
  readonly newSession?: RecordChange | null;
  /** An unknown session is not started: notFound. */
  readonly existingOnly?: boolean;
}

export interface TurnToken {
  readonly sessionId: string;
  readonly historyKey: string;
  readonly runId: string;
  /** Fencing: a run started later in the session has a higher one. */
  readonly token: number;
}

/** The state of a run as its script wrote it. */
export interface RunState {
  readonly runId: string;
  readonly status: Run["status"];
  readonly model: string;
  readonly replyMessageId: string;
  /** The traceparent of the request that asked for it. */
  readonly origin: string | null;
  /** The position that was expected of the reply, part of its id. */
  readonly replyHint: number;
  readonly replyPosition: number | null;
}

export interface StartedTurn extends TurnToken {
  readonly kind: "started";
  /** Left out: it begins. */
  readonly resumed?: Resumed;
  readonly owner: string;
  readonly state: RunState;
  /** As the script left it. */
  readonly run: Run;
  readonly inputRow: string;
  readonly memory: MemorySettings;
  readonly instructions: string | null;
  readonly summary: string | null;
  /** Position of the first of `rows`. */
  readonly low: number;
  /** Rows below the user's, oldest first, as many as the memory strategy may need. */
  readonly rows: readonly string[];
  /** The page's, as the turn was given them. */
  readonly tools: readonly PageTool[];
}

export interface FinishedTurn {
  /** As this call ended it; null where somebody was quicker, or it is gone. */
  readonly run: Run | null;
  /** It was the first reply of a session that is to get a title by itself. No other process is told so. */
  readonly wantsTitle: boolean;
}

export interface Attended {
  readonly turn: StartedTurn | null;
  /** When the session's runs need somebody again, in ms since the epoch; 0: they don't. */
  readonly dueAt: number;
}

export type BeginAnswer =
  | StartedTurn
  | { readonly kind: "queued"; readonly runId: string; readonly run: Run }
  | { readonly kind: "known"; readonly fingerprint: string; readonly runId: string | null }
  | { readonly kind: "busy"; readonly runId: string; readonly status: "RUNNING" | "WAITING" }
  | { readonly kind: "full" }
  /** An edit keeps the id of the message that it replaces, and has no key. */
  | { readonly kind: "keyless" }
  /** The owner has had as much as it may have: nothing was written. */
  | { readonly kind: "limited"; readonly refusal: Refusal }
  | { readonly kind: "expired" }
  | { readonly kind: "nothing" }
  | { readonly kind: "notFound" };

/** Lines for a run's part log (part-log.ts), and how long it is expected to be before them, in UTF-16 units. */
export interface LogBatch {
  readonly offset: number;
  readonly lines: string;
}

export interface LostCall {
  readonly callId: string;
  /** Stands in for an answer which is lost; where the step waits, for that to a call which was not begun. */
  readonly lost: RowTemplate;
}

/** A reply that calls tools. */
export interface OpenStep {
  readonly row: RowTemplate;
  readonly calls: readonly LostCall[];
  /** The message that the run makes next. */
  readonly next: {
    readonly localId: string;
    /** The position that is expected of it, part of its id. */
    readonly hint: number;
    readonly partial: PartialTemplate;
  };
}

export interface WaitingStep extends OpenStep {
  /** The text of the reply alone, as a row; null: it has none. */
  readonly said: RowTemplate | null;
  /** What who carries the run on needs to know. */
  readonly state: string;
}

export type Waiting =
  /** `decisions`: of each call of its step, in order; null: none yet. */
  | {
      readonly kind: "waiting";
      readonly run: RunState;
      readonly log: string;
      readonly state: string;
      readonly decisions: readonly (string | null)[];
    }
  | { readonly kind: "known"; readonly fingerprint: string }
  | { readonly kind: "notWaiting" };

export interface RunResponse {
  readonly runId: string;
  /** How many calls wait for a decision behind this. */
  readonly left: number;
  /** The reply's row with the arguments that were edited; null: it is as it was. */
  readonly row: RowTemplate | null;
  readonly log: LogBatch;
  readonly decisions: readonly {
    /** Of the call in its step, from 1. */
    readonly number: number;
    readonly callId: string;
    readonly decision: string;
    /** What answers the call; or, where it begins by this ("call"), stands in for an answer which is lost. null: neither. */
    readonly row: { readonly is: "answer" | "call"; readonly row: RowTemplate } | null;
  }[];
}

/** What a run that has waited goes on with. */
export interface Resumed {
  readonly log: string;
  readonly state: string;
  readonly decisions: readonly string[];
}

export type RespondAnswer =
  | (StartedTurn & { readonly resumed: Resumed })
  | { readonly kind: "ok" }
  | { readonly kind: "known"; readonly fingerprint: string }
  /** Somebody else has decided meanwhile. */
  | { readonly kind: "changed" }
  | { readonly kind: "notWaiting" };

export interface StepAnswer {
  /** Of the call in its step, from 1. */
  readonly number: number;
  readonly row: RowTemplate;
}

export type StepReply =
  | { readonly kind: "ok" }
  /** The log is not as long as was expected, but so: nothing was written. */
  | { readonly kind: "length"; readonly logLength: number }
  | { readonly kind: "closed" };

export type ProgressAnswer =
  | { readonly kind: "ok" }
  /** Text or log are not as long as was expected, but so. */
  | { readonly kind: "length"; readonly length: number; readonly logLength: number }
  | { readonly kind: "closed" };

export type TurnEnd = {
  readonly text: string;
  readonly notes?: readonly string[];
  /** The whole part log, where there is one. */
  readonly log?: string;
} & (
  | {
      readonly kind: "completed";
      readonly reply: RowTemplate;
      readonly usage: TokenUsage | null;
      /** The text is the object that an agent was to give, as JSON. */
      readonly isStructured?: boolean;
    }
  | { readonly kind: "failed"; readonly error: RunError }
);

export interface AppendMessage {
  /** The op of a message whose id the caller chose. */
  readonly op: Op | null;
  readonly row: RowTemplate;
}

export interface NewRecord {
  readonly title: string | null;
  readonly instructions: string | null;
  readonly model: string | null;
  readonly memory: MemorySettings | null;
  readonly metadata: Readonly<Record<string, unknown>> | null;
  /** undefined: the configured default; null: never expires. */
  readonly ttlSeconds: number | null | undefined;
}

/** undefined: unchanged; null: back to the default. */
export interface RecordChange extends Omit<UpdateSession, "sessionId" | "archived"> {
  readonly archived?: boolean | undefined;
}

/** A stretch of an owner's sessions by updatedAt, from a place on (exclusive), newest first or oldest first. */
export interface ListQuery {
  readonly direction: "older" | "newer";
  readonly from: ListPlace | null;
  readonly count: number;
}

export interface ListPlace {
  /** Milliseconds since the epoch. */
  readonly updatedAt: number;
  readonly sessionId: string;
}
