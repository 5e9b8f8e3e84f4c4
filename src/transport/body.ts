/**
 * Reads a request's body, never more than the limit. (Yoga's own limit sends each body through a stream pipeline, which
 * costs more than half of a small request's CPU.)
 * @returns null where the body is longer than `maxBytes`
 */
export async function readBody(
  chunks: AsyncIterable<Uint8Array>,
  contentLength: string | null,
  maxBytes: number,
): Promise<string | null> {
  // Refused before a byte is read. A header that lies, or none, is caught by the count.
  if (contentLength !== null && Number(contentLength) > maxBytes) return null;
  const parts: Uint8Array[] = [];
  let bytes = 0;
  for await (const chunk of chunks) {
    bytes += chunk.byteLength;
    if (bytes > maxBytes) return null;
    parts.push(chunk);
  }
  return Buffer.concat(parts, bytes).toString("utf8");
}
