import type { Row } from "./message/message.ts";
import type { RunPart, ToolPart } from "./part-log.ts";
import type { Run } from "./run.ts";
import type { Session } from "./session.ts";

/** A message in its session: what the GraphQL type Message is resolved from. */
export interface PlacedMessage {
  readonly sessionId: string;
  readonly historyKey: string;
  readonly generation: number;
  readonly row: Row;
}

/** `where`: the reading that the row is of. */
export function placed(where: Session | Run, row: Row): PlacedMessage {
  return { sessionId: where.sessionId, historyKey: where.historyKey, generation: where.generation, row };
}

/** What sessionEvents delivers; `cursor` (where present) is what a client resumes from. */
export type SessionEvent =
  /** There is no such session yet; `opened` comes once somebody starts it. */
  | { readonly kind: "waiting"; readonly cursor: string; readonly sessionId: string }
  | { readonly kind: "opened"; readonly cursor: string; readonly session: Session }
  | { readonly kind: "message"; readonly cursor: string; readonly message: PlacedMessage }
  | {
      readonly kind: "progress";
      readonly sessionId: string;
      readonly runId: string;
      readonly replyLocalId: string;
      /** Of the part that the text goes into, among the run's. */
      readonly index: number;
      /** UTF-16 units, in the reply's whole text. */
      readonly offset: number;
      readonly text: string;
    }
  | {
      readonly kind: "partAdded";
      readonly sessionId: string;
      readonly runId: string;
      readonly index: number;
      readonly part: RunPart;
    }
  | {
      readonly kind: "partChanged";
      readonly sessionId: string;
      readonly runId: string;
      readonly index: number;
      readonly part: ToolPart;
    }
  | {
      readonly kind: "partProgress";
      readonly sessionId: string;
      readonly runId: string;
      readonly index: number;
      /** UTF-16 units, in the part. */
      readonly offset: number;
      readonly text: string;
    }
  | { readonly kind: "run"; readonly run: Run }
  | { readonly kind: "updated"; readonly session: Session }
  | { readonly kind: "reset"; readonly kept: number; readonly cursor: string; readonly session: Session }
  | { readonly kind: "removed"; readonly sessionId: string };

/** What sessionChanged delivers. */
export type SessionChange =
  | { readonly kind: "opened"; readonly openedAt: number }
  | { readonly kind: "added"; readonly session: Session }
  | { readonly kind: "updated"; readonly session: Session }
  | { readonly kind: "removed"; readonly sessionId: string };
