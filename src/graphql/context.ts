import type { Caller } from "../conversation/conversations/api.ts";
import type { Conversations } from "../conversation/conversations/conversations.ts";
import type { SessionEvent } from "../conversation/events.ts";
import type { Live } from "../conversation/ports/live.ts";
import type { AnswerBudget } from "./answer-budget.ts";
import type { KnownSession, Readings } from "./reading/readings.ts";

/** What a resolver knows of its operation. The transport makes one for each operation. */
export interface Context extends Caller {
  readonly conversations: Conversations;
  readonly resume: Resume;
  /** How often `conversations` was asked for; left out where nobody counts. */
  readonly asked?: number;
  /** What the answer may hold; left out where nobody counts. Each event of a subscription has one of its own. */
  answer?: AnswerBudget;
  /** What a query has read so far: readingsOfQuery(). */
  readings?: Readings;
  /** Of which session what was read before would do. */
  known?: KnownSession;
  /** What a subscription's events come from, where several subscribers can share them. Its field sets it. */
  live?: LiveSource;
}

/** The answers before are nothing to that of the next event. */
export function beginEvent(context: Context): void {
  if (context.answer !== undefined) context.answer = context.answer.anew();
}

/**
 * How an SSE stream is resumed: `lastEventId` (the request's Last-Event-ID, null elsewhere) takes the place of `after`,
 * and a subscription notes at `cursor` what the event that it delivers now can be resumed from.
 */
export interface Resume {
  readonly lastEventId: string | null;
  cursor: string | null;
}

/**
 * The events of a subscription, for operations/live, which executes an event once for all subscribers with the same
 * operation, variables and viewer. For these parentOf() gives the same; `after` says only where a stream begins.
 */
export interface LiveSource {
  readonly events: Live<SessionEvent>;
  /** What the fields of the event are resolved from, made anew with each call; null: the subscription passes it by. */
  parentOf(event: SessionEvent): object | null;
}
