import type { PlacedMessage } from "../events.ts";
import type { ContentBlock, NewMessage } from "../message/message.ts";
import type { PageTool } from "../ports/model.ts";
import type { Run } from "../run.ts";
import type { MemorySettings, PageRequest, Session, Viewer } from "../session.ts";

/** What a reading of a session shall hold beside the record: pages of its history, answered by Session.pages in this order. */
export interface ReadRequest {
  readonly pages: readonly PageRequest[];
  /** How many bytes the rows of these pages may hold together: a page beyond that is PageTooLarge. Left out: any number. */
  readonly mostBytes?: number | undefined;
  /** Left out: what it gives was not read before. */
  readonly known?: KnownReading | undefined;
}

/** An earlier reading, which was asked for the same. */
export interface KnownReading {
  /** Its Session.state. */
  readonly state: string;
  /** Set by the reading: it would show what this one has shown, and gives nothing. */
  isSame: boolean;
}

export const recordOnly: ReadRequest = { pages: [] };

/** The client that waits for the answer of one operation. The transport makes one for each operation. */
export interface Caller {
  readonly viewer: Viewer;
  /** Aborts when the client goes away, the operation is complete, or the caller's credentials end. */
  readonly signal: AbortSignal;
  /** The token that the caller has shown, for tools that act as the user; null, or left out: none. */
  readonly userToken?: string | null;
  /**
   * Does work that only waits for others: meanwhile the operation does not count as one that is being executed. Throws
   * UNAUTHENTICATED where the caller's credentials have ended by then.
   */
  whileWaiting<Result>(work: () => Promise<Result>): Promise<Result>;
}

export interface CreateSession {
  readonly sessionId: string | null;
  readonly title: string | null;
  readonly instructions: string | null;
  readonly model: string | null;
  readonly memory: MemorySettings | null;
  /** undefined: the configured default; null: never expires. */
  readonly ttlSeconds: number | null | undefined;
  readonly metadata: Readonly<Record<string, unknown>> | null;
  readonly idempotencyKey: string | null;
}

/** undefined: unchanged; null: back to the default. */
export interface UpdateSession {
  readonly sessionId: string;
  readonly title?: string | null | undefined;
  readonly instructions?: string | null | undefined;
  readonly model?: string | null | undefined;
  readonly memory?: MemorySettings | null | undefined;
  readonly ttlSeconds?: number | null | undefined;
  readonly metadata?: Readonly<Record<string, unknown>> | null | undefined;
  readonly archived?: boolean | null | undefined;
}

export interface ForkSession {
  readonly sessionId: string;
  /** Cursor or id of a message; that one included. null: the whole history. */
  readonly through: string | null;
  readonly newSessionId: string | null;
  readonly title: string | null;
  readonly idempotencyKey: string | null;
}

export interface AddMessages {
  readonly sessionId: string;
  readonly messages: readonly NewMessage[];
  readonly idempotencyKey: string | null;
}

/** What becomes of a stream from the beginning, or from now on, of a session that there is not. */
export type IfMissing = "WAIT" | "REFUSE";

export type WhenBusy = "QUEUE" | "REJECT" | "INTERRUPT";

/** How a session is to be that begins with a message. */
export interface NewSession {
  readonly title: string | null;
  readonly instructions: string | null;
  readonly model: string | null;
  readonly metadata: Readonly<Record<string, unknown>> | null;
}

export interface SendMessage {
  /** null: a session of its own, the same one for the same messageId. */
  readonly sessionId: string | null;
  /** Counts for nothing in a session that is there already. */
  readonly newSession: NewSession | null;
  readonly content: readonly ContentBlock[];
  readonly messageId: string | null;
  /** Makes a call without messageId safe to repeat, and one that edits a message and keeps its id. */
  readonly idempotencyKey: string | null;
  readonly whenBusy: WhenBusy;
  /** Cursor or id of a message: drop it and all after it first. */
  readonly replaceFrom: string | null;
  readonly model: string | null;
  readonly context?: NonNullable<NewMessage["context"]>;
  /** The page's own, for an agent that takes them. */
  readonly tools?: readonly PageTool[];
}

export interface RegenerateReply {
  readonly sessionId: string;
  /** Cursor or id of the reply to make anew; null: all after the last USER message. */
  readonly replaceFrom: string | null;
  readonly idempotencyKey: string | null;
  readonly model: string | null;
  readonly whenBusy: WhenBusy;
  readonly tools?: readonly PageTool[];
}

export interface TurnResult {
  readonly run: Run;
  /** null while queued. */
  readonly userMessage: PlacedMessage | null;
  readonly reply: PlacedMessage | null;
  /** All of it is of one reading then; null where nothing of the session was asked for. */
  readonly session: Session | null;
}
