import type { IncomingHttpHeaders, IncomingMessage } from "node:http";

import type { RequestHeaders } from "../../operations/identity.ts";

// What is read of a request: headers and target of Node's, the body of Node's or the platform's.

/** The headers of a request as Node has them: by lower-case name, nothing is made of them that nobody asks for. */
export class IncomingHeaders implements RequestHeaders {
  readonly given: IncomingHttpHeaders;

  constructor(given: IncomingHttpHeaders) {
    this.given = given;
  }

  get(name: string): string | null {
    const value: unknown = this.given[name] ?? this.given[name.toLowerCase()];
    if (typeof value === "string") return value;
    // "constructor" and the like are names of headers, too, but of no header that was sent.
    return Array.isArray(value) ? value.join(", ") : null;
  }
}

/**
 * The path and query of a request's target (RFC 9112, section 3.2): as it was sent, or what stands behind the host where a
 * client sends the whole URL, as to a proxy. null: the request names several hosts.
 */
export function targetOf({ url = "/", headers, rawHeaders }: IncomingMessage): string | null {
  if (hasSeveralHosts(rawHeaders)) return null;
  if (url.startsWith("/")) return url;
  const [, authority, rest = ""] = /^https?:\/\/([^/?#]*)(.*)$/is.exec(url) ?? [];
  if (authority === undefined) return url;
  if (authority.toLowerCase() !== headers.host?.toLowerCase()) return null;
  return rest.startsWith("/") ? rest : `/${rest}`;
}

/** Node takes the first, whoever stands in front perhaps the last. */
function hasSeveralHosts(rawHeaders: readonly string[]): boolean {
  let hosts = 0;
  for (let i = 0; i < rawHeaders.length; i += 2) if (rawHeaders[i]?.toLowerCase() === "host") hosts += 1;
  return hosts > 1;
}

/**
 * Reads a request's body, never more than the limit. (Yoga's own limit sends each body through a stream pipeline, which
 * costs more than half of a small request's CPU.)
 * @returns null where the body is longer than `maxBytes`
 */
export async function readBody(
  chunks: AsyncIterable<Uint8Array> | null,
  contentLength: string | null,
  maxBytes: number,
): Promise<string | null> {
  if (isTooLong(contentLength, maxBytes)) return null;
  const parts: Uint8Array[] = [];
  let bytes = 0;
  for await (const chunk of chunks ?? []) {
    bytes += chunk.byteLength;
    if (bytes > maxBytes) return null;
    parts.push(chunk);
  }
  return Buffer.concat(parts, bytes).toString("utf8");
}

/**
 * The same from a socket, by events: an async iterator costs as much as the rest of a small request. What is left of a
 * body that is too long stays unread.
 */
export function readIncoming(request: IncomingMessage, maxBytes: number): Promise<string | null> {
  if (isTooLong(request.headers["content-length"] ?? null, maxBytes)) return Promise.resolve(null);
  return new Promise((resolve, reject) => {
    const parts: Buffer[] = [];
    let bytes = 0;
    const settle = (act: () => void) => {
      request.off("data", onData).off("end", onEnd).off("error", onGone).off("close", onGone);
      act();
    };
    const onData = (chunk: Buffer) => {
      bytes += chunk.byteLength;
      if (bytes <= maxBytes) parts.push(chunk);
      else settle(() => resolve(null));
    };
    const onEnd = () => {
      const [only] = parts;
      const body = parts.length === 1 && only !== undefined ? only : Buffer.concat(parts, bytes);
      settle(() => resolve(body.toString("utf8")));
    };
    const onGone = (error: unknown) => settle(() => reject(error instanceof Error ? error : new Error("aborted")));
    request.on("data", onData).on("end", onEnd).on("error", onGone).on("close", onGone);
  });
}

/** Refused before a byte is read. A header that lies, or none, is caught by the count. */
function isTooLong(contentLength: string | null, maxBytes: number): boolean {
  return contentLength !== null && Number(contentLength) > maxBytes;
}
