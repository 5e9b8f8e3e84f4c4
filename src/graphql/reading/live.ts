import type { SessionEvent } from "../../conversation/events.ts";
import { mapped } from "../../conversation/mapped.ts";
import type { Live } from "../../conversation/ports/live.ts";
import { beginEvent } from "../context.ts";
import type { Context } from "../context.ts";

/** The cursor that a client resumes from behind the event; null: the one before it holds on. */
export function resumesFrom(event: SessionEvent): string | null {
  return "cursor" in event ? event.cursor : null;
}

/** The events as an iterator of what their fields are resolved from. Who executes them otherwise finds them at context.live. */
export function liveParents<Parent extends object>(
  context: Context,
  events: Live<SessionEvent>,
  parentOf: (event: SessionEvent) => Parent | null,
): AsyncIterableIterator<Parent> {
  context.live = { events, parentOf };
  return mapped(events, (event) => {
    context.resume.cursor = resumesFrom(event) ?? context.resume.cursor;
    beginEvent(context);
    return parentOf(event);
  });
}
