import { notFound, ParleyError } from "../errors.ts";
import type { PlacedMessage, SessionEvent } from "../events.ts";
import { mapped } from "../mapped.ts";
import type { Live } from "../ports/live.ts";

/**
 * The message that an event brings; null: it brings none.
 * @throws {ParleyError} where a stream of messages ends: CURSOR_EXPIRED at a reset, NOT_FOUND when the session goes
 */
export function messageOf(event: SessionEvent): PlacedMessage | null {
  if (event.kind === "removed") throw notFound();
  if (event.kind === "reset") {
    throw new ParleyError(
      "CURSOR_EXPIRED",
      "The history was cleared, rewound or lost. Read the session's messages anew and subscribe from its cursor.",
    );
  }
  return event.kind === "message" ? event.message : null;
}

/**
 * Takes the first event of a new stream, and gives the cursor that the stream starts behind; null: it is not known.
 * @throws {ParleyError} NOT_FOUND where the session is gone; the stream is ended then
 */
export async function beginMessages(events: Live<SessionEvent>): Promise<string | null> {
  const first = events.poll();
  try {
    if (first !== null) messageOf(first);
  } catch (error) {
    await events.return?.();
    throw error;
  }
  return first !== null && "cursor" in first ? first.cursor : null;
}

export function messagesOf(events: Live<SessionEvent>): AsyncIterableIterator<PlacedMessage> {
  return mapped(events, messageOf);
}
