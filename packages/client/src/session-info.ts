import type { SessionRow } from "./documents.ts";

/** A session without its messages, as a sidebar shows it. */
export interface SessionInfo {
  /** Global id. */
  readonly id: string;
  /** The id that LangChain code uses. */
  readonly sessionId: string;
  readonly title: string | null;
  readonly model: string;
  readonly archived: boolean;
  readonly messageCount: number;
  readonly readCount: number;
  readonly updatedAt: string | null;
  readonly metadata: Readonly<Record<string, unknown>>;
  /** Whether a reply is being made. */
  readonly running: boolean;
  /** Whether it is held up until somebody decides on calls of tools. */
  readonly waiting: boolean;
}

export interface SessionSettings {
  readonly title?: string | null;
  readonly model?: string | null;
  /** The system prompt. */
  readonly instructions?: string | null;
  readonly metadata?: Readonly<Record<string, unknown>> | null;
}

export function infoOf(row: SessionRow): SessionInfo {
  const { id, sessionId, title, model, archived, messageCount, readCount, updatedAt, metadata, activeRun } = row;
  return {
    ...{ id, sessionId, title, model, archived, messageCount, readCount, updatedAt, metadata },
    running: activeRun !== null,
    waiting: activeRun?.status === "WAITING",
  };
}
