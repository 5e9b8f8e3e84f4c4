import type { Caller, Conversations } from "../conversation/conversations/api.ts";
import type { AnswerBudget } from "./answer-budget.ts";
import type { Readings } from "./reading/readings.ts";

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
