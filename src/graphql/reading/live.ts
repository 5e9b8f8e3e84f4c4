import type { Live } from "../../conversation/ports/live.ts";
import { beginEvent } from "../context.ts";
import type { Context } from "../context.ts";

/**
 * What a subscription's events come from, for a transport that executes one event for several subscribers. Where the
 * operation, its variables and the viewer are the same, so is what parentOf() makes; `after` says only where the stream
 * of one subscriber begins, and counts for no event.
 */
export interface LiveSource {
  readonly events: Live<object>;
  /** What the fields of the event are resolved from, made anew with each call. */
  parentOf(event: object): unknown;
  /** What a reader can resume from behind the event; null: what held before it. */
  cursorOf(event: object): string | null;
}

const sources = new WeakMap<Context, LiveSource>();

/** The source that the operation of this context subscribed to, if it is one whose events can be shared. */
export function liveSource(context: Context): LiveSource | null {
  return sources.get(context) ?? null;
}

/**
 * The events as an iterator of what their fields are resolved from. Not an async generator: it would queue return()
 * behind a next() that waits for an event, and so leak at each disconnect.
 */
export function liveParents<Event extends object, Parent>(
  context: Context,
  events: Live<Event>,
  parentOf: (event: Event) => Parent,
  cursorOf: (event: Event) => string | null,
): AsyncIterableIterator<Parent> {
  const source: { events: Live<Event>; parentOf(event: Event): Parent; cursorOf(event: Event): string | null } = {
    events,
    parentOf,
    cursorOf,
  };
  sources.set(context, source);
  const { resume } = context;
  const parents: AsyncIterableIterator<Parent> = {
    [Symbol.asyncIterator]: () => parents,
    async next() {
      const result: IteratorResult<Event> = await events.next();
      if (result.done === true) return { done: true, value: undefined };
      resume.cursor = cursorOf(result.value) ?? resume.cursor;
      beginEvent(context);
      return { done: false, value: parentOf(result.value) };
    },
    async return() {
      await events.return?.();
      return { done: true, value: undefined };
    },
  };
  return parents;
}
