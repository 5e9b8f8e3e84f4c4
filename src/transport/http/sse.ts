import type { Resume } from "../../graphql/context.ts";
import type { Framing } from "./streams.ts";

/** What EventSource and graphql-sse (distinct connections) read. */
export const sseHeaders = {
  "content-type": "text/event-stream; charset=utf-8",
  "cache-control": "no-store, no-transform",
  // nginx would gather the events otherwise.
  "x-accel-buffering": "no",
} as const;

/**
 * Server-sent events. Each carries as its `id:` the cursor that the subscription noted when it delivered the event, and
 * the opening the one that the stream starts from, where that is known; EventSource sends the last one back as
 * Last-Event-ID when it reconnects by itself. A stream that is cut off (the gateway stops) has no `complete` event, and
 * that is what makes clients reconnect.
 */
export function sseFraming(resume: Resume, stringify: (result: unknown) => string, keepAliveMs: number): Framing {
  const comment = ":\n\n";
  return {
    // An id alone is no event for clients, but they take it over.
    opening: resume.cursor === null ? comment : `id: ${resume.cursor}\n\n`,
    keepAlive: { comment, everyMs: keepAliveMs },
    result(result) {
      const { cursor } = resume;
      return `${cursor === null ? "" : `id: ${cursor}\n`}event: next\ndata: ${stringify(result)}\n\n`;
    },
    closing: "event: complete\ndata:\n\n",
  };
}
