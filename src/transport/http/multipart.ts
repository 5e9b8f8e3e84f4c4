import type { ExecutionResult } from "graphql";

import type { Resume } from "../../graphql/context.ts";
import type { Framing } from "./streams.ts";

export const multipartHeaders = {
  "content-type": 'multipart/mixed; boundary="-"',
  "cache-control": "no-store, no-transform",
  "x-accel-buffering": "no",
} as const;

/** multipart/mixed, as Apollo, urql and Relay read the parts of a deferred result. */
export function multipartFraming(stringify: (result: unknown) => string): Framing {
  return {
    opening: "\r\n---",
    keepAlive: null,
    result(result) {
      const json = stringify(result);
      const head = `Content-Type: application/json; charset=utf-8\r\nContent-Length: ${Buffer.byteLength(json)}`;
      return `\r\n${head}\r\n\r\n${json}\r\n---`;
    },
    closing: "--\r\n",
  };
}

/** With the cursor that the stream starts from, where that is known: as the first id of an SSE stream. */
export function subscriptionHeaders({ cursor }: Resume): Record<string, string> {
  return {
    ...multipartHeaders,
    "content-type": 'multipart/mixed;boundary="graphql";subscriptionSpec=1.0',
    ...(cursor === null ? {} : { "last-event-id": cursor }),
  };
}

/**
 * A subscription's events as Apollo's clients read them over plain HTTP (subscriptionSpec=1.0). What SSE tells as an
 * event's id stands in the payload's extensions: clients hand those on, and headers of a part Apollo iOS does not take. A
 * stream that is cut off (the gateway stops) lacks the last boundary, which clients tell as an error.
 */
export function subscriptionFraming(
  resume: Resume,
  stringify: (result: unknown) => string,
  keepAliveMs: number,
): Framing {
  const part = (json: string) => `\r\nContent-Type: application/json\r\n\r\n${json}\r\n--graphql`;
  const heartbeat = part("{}");
  return {
    opening: `\r\n--graphql${heartbeat}`,
    keepAlive: { comment: heartbeat, everyMs: keepAliveMs },
    result(result) {
      const { cursor } = resume;
      const json = stringify(result);
      const { data, extensions } = result as ExecutionResult; // what executors give
      // No event, but what ended the stream: only there Apollo's clients take it as an end.
      if (data === undefined) return part(`{"payload":null,${json.slice(1)}`);
      if (cursor === null || extensions !== undefined) return part(`{"payload":${json}}`);
      return part(`{"payload":${json.slice(0, -1)},"extensions":${JSON.stringify({ lastEventId: cursor })}}}`);
    },
    closing: "--\r\n",
  };
}
