import { notFound, ParleyError } from "./errors.ts";
import type { PlacedMessage, SessionEvent } from "./events.ts";
import type { Live } from "./live.ts";

/**
 * The messages of a stream of session events; ends with CURSOR_EXPIRED at a reset and NOT_FOUND when the session goes.
 * Not an async generator: one that is parked on a pending next() could not be ended.
 */
export function messagesOnly(events: Live<SessionEvent>): Live<PlacedMessage> {
  /** What ended it, met by a poll: the next next() says so. */
  let failure: ParleyError | null = null;
  const end = async (): Promise<IteratorResult<PlacedMessage>> => {
    await events.return?.();
    return { done: true, value: undefined };
  };
  const messages: Live<PlacedMessage> = {
    [Symbol.asyncIterator]: () => messages,
    poll() {
      while (failure === null) {
        const event = events.poll();
        if (event === null) return null;
        if (event.kind === "message") return event.message;
        failure = failureOf(event);
      }
      return null;
    },
    wait: (wake) => failure === null && events.wait(wake),
    async next() {
      while (failure === null) {
        const result: IteratorResult<SessionEvent> = await events.next();
        if (result.done) return { done: true, value: undefined };
        if (result.value.kind === "message") return { done: false, value: result.value.message };
        failure = failureOf(result.value);
      }
      const error = failure;
      failure = null;
      await end();
      throw error;
    },
    return: end,
    async throw(error: unknown) {
      await end();
      throw error;
    },
  };
  return messages;
}

/** Why there are no messages behind this event, or null. */
function failureOf({ kind }: SessionEvent): ParleyError | null {
  if (kind === "removed") return notFound();
  if (kind !== "reset") return null;
  return new ParleyError(
    "CURSOR_EXPIRED",
    "The history was cleared, rewound or lost. Read the session's messages anew and subscribe from its cursor.",
  );
}
