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
