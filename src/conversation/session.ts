import type { Row, TokenUsage } from "./message/message.ts";
import type { Run } from "./run.ts";

export type MemoryStrategy = "BUFFER" | "WINDOW" | "TOKEN_BUFFER" | "SUMMARY_BUFFER";

export interface MemorySettings {
  readonly strategy: MemoryStrategy;
  /** WINDOW: how many turns (a USER message and what answers it) the model sees. */
  readonly maxTurns: number | null;
  /** TOKEN_BUFFER, SUMMARY_BUFFER: how many tokens of history the model sees. */
  readonly maxTokens: number | null;
}

/** The caller. Without authentication there is one subject, `anonymous`, with every scope. */
export interface Viewer {
  readonly subject: string;
  readonly scopes: readonly string[];
  /** Patterns of the session ids that the viewer may choose, `*` for any text; null: every id. */
  readonly sessions: readonly string[] | null;
  /**
   * The credentials name the patterns themselves. They then bound what the viewer reaches, and histories of foreign code
   * that match and are nobody's become the viewer's.
   */
  readonly granted: boolean;
  /** Patterns of the names of models and agents that the viewer may choose; null: all that there are. */
  readonly models: readonly string[] | null;
}

export const anonymous: Viewer = {
  subject: "anonymous",
  scopes: ["chat:read", "chat:write", "admin"],
  sessions: null,
  granted: false,
  models: null,
};

/** A page of a history as asked for: Relay's arguments, already checked (at most one of first and last is required). */
export interface PageRequest {
  readonly first: number | null;
  readonly after: string | null;
  readonly last: number | null;
  readonly before: string | null;
}

export interface MessagePage {
  /** Oldest first. */
  readonly rows: readonly Row[];
  readonly hasNextPage: boolean;
  readonly hasPreviousPage: boolean;
  /** Where the message lies that `after` named by its id; left out where it was no id. */
  readonly after?: { readonly position: number; readonly mark: string } | null;
}

/**
 * One reading of a session, made by one script: everything in it agrees. `pages` answers the page requests of the
 * reading, in their order; a cursor that does not hold makes that page an error, not the reading.
 */
export interface Session {
  readonly sessionId: string;
  readonly historyKey: string;
  readonly owner: string;
  readonly title: string | null;
  readonly instructions: string | null;
  /** null: the gateway's default. */
  readonly model: string | null;
  /** null: the gateway's default. */
  readonly memory: MemorySettings | null;
  readonly summary: string | null;
  readonly metadata: Readonly<Record<string, unknown>>;
  readonly archived: boolean;
  readonly createdAt: number | null;
  readonly updatedAt: number;
  readonly ttlSeconds: number | null;
  readonly expiresAt: number | null;
  /** The generation of the history, part of the cursors of its rows. It ends where the history is rewound, cleared or lost. */
  readonly generation: number;
  /** Position of the oldest stored row (grows when retention trims). */
  readonly base: number;
  /** Position behind the newest row: the number of messages there ever were since it began. */
  readonly end: number;
  /** Mark of the newest row, "" while empty. */
  readonly tipMark: string;
  readonly messageCount: number;
  readonly readCount: number;
  readonly usage: TokenUsage;
  readonly activeRun: Run | null;
  readonly lastRun: Run | null;
  readonly queuedRuns: readonly Run[];
  readonly forkedFrom: string | null;
  readonly pages: readonly (MessagePage | Error)[];
  /** Number of the newest publication that this reading includes. */
  readonly sequence: number;
  /** What the store knows this reading again by, for as long as another one would show the same; "": not known. */
  readonly state: string;
}

export interface SessionFilter {
  readonly titleContains: string | null;
  /** null: both. */
  readonly archived: boolean | null;
  readonly metadata: Readonly<Record<string, unknown>> | null;
  /** Milliseconds since the epoch. */
  readonly updatedAfter: number | null;
}

export interface SessionPage {
  /** Newest updatedAt first, each with its cursor. */
  readonly items: readonly { readonly cursor: string; readonly session: Session }[];
  readonly hasNextPage: boolean;
  readonly hasPreviousPage: boolean;
  /** Of the first item, or where looking for more ended: then there may be fewer items than were asked for, or none. */
  readonly startCursor: string | null;
  readonly endCursor: string | null;
}
