import { notFound, ParleyError } from "./errors.ts";
import type { PlacedMessage, SessionEvent } from "./events.ts";

/**
 * The messages of a stream of session events; ends with CURSOR_EXPIRED at a reset and NOT_FOUND when the session goes.
 * Not an async generator: one that is parked on a pending next() could not be ended.
 */
export function messagesOnly(events: AsyncIterableIterator<SessionEvent>): AsyncIterableIterator<PlacedMessage> {
  const end = async (): Promise<IteratorResult<PlacedMessage>> => {
    await events.return?.();
    return { done: true, value: undefined };
  };
  const messages: AsyncIterableIterator<PlacedMessage> = {
    [Symbol.asyncIterator]: () => messages,
    async next() {
      for (;;) {
        const result: IteratorResult<SessionEvent> = await events.next();
        if (result.done) return { done: true, value: undefined };
        const event = result.value;
        if (event.kind === "message") return { done: false, value: event.message };
        if (event.kind === "reset") {
          await end();
          throw new ParleyError(
            "CURSOR_EXPIRED",
            "The history was cleared, rewound or lost. Read the session's messages anew and subscribe from its cursor.",
          );
        }
        if (event.kind === "removed") {
          await end();
          throw notFound();
        }
      }
    },
    return: end,
    async throw(error: unknown) {
      await end();
      throw error;
    },
  };
  return messages;
}
