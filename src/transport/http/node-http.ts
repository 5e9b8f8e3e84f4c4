import { once as event } from "node:events";
import type { ServerResponse } from "node:http";
import { StallWatch } from "../websocket/stall.ts";
import { isStream } from "./streams.ts";
import { PlainAnswer } from "./plain-answer.ts";

/** Notes that so many bytes wait for their reader. Returns what to call when they do not any more. */
type Hold = (bytes: number) => () => void;

/** Small enough that a slow reader shows progress, large enough not to cost. */
const pieceBytes = 64 * 1024;

/**
 * Writes a response as fast as its reader reads, and no faster: each piece waits until the one before was taken. A
 * reader that takes nothing for `slowReaderMs` is disconnected (P10).
 */
export async function writeResponse(
  response: Response | PlainAnswer,
  to: ServerResponse,
  slowReaderMs: number,
  hold: Hold,
): Promise<void> {
  if (response instanceof PlainAnswer) {
    if (!to.destroyed) await writeBody(response.status, response.headers, response.body, to, slowReaderMs, hold);
    return;
  }
  if (to.destroyed) {
    await response.body?.cancel();
    return;
  }
  if (isStream(response)) {
    to.writeHead(response.status, headerList(response.headers));
    to.flushHeaders();
    // Events are small and wait for nothing to be sent along with.
    to.socket?.setNoDelay(true);
    await writePieces(response.body, to, slowReaderMs, hold);
    return;
  }
  const body = response.headers.has("content-encoding")
    ? Buffer.from(await response.arrayBuffer())
    : await response.text();
  await writeBody(response.status, response.headers, body, to, slowReaderMs, hold);
}

type HeaderEntries = Iterable<readonly [name: string, value: string]>;

/**
 * Names and values in turn: Node checks them and writes them as they are, and keeps nothing of them. Some makers of
 * responses tell a length that is told here, too.
 */
function headerList(headers: HeaderEntries): string[] {
  const list: string[] = [];
  for (const [name, value] of headers) if (name.toLowerCase() !== "content-length") list.push(name, value);
  return list;
}

/** As text where it is one, for Node sends that along with the headers in one piece. */
async function writeBody(
  status: number,
  headers: HeaderEntries,
  body: string | Buffer,
  to: ServerResponse,
  slowReaderMs: number,
  hold: Hold,
): Promise<void> {
  const bytes = Buffer.byteLength(body);
  const list = headerList(headers);
  // No content has no length either (RFC 9110, 8.6).
  if (status !== 204) list.push("content-length", String(bytes));
  to.writeHead(status, list);
  // Of ASCII the bytes are the same, and are taken as they are.
  if (to.req.method === "HEAD" || bytes <= pieceBytes) {
    to.end(body, bytes === body.length ? "latin1" : "utf8");
    watchLast(to, slowReaderMs);
  } else await writePieces([Buffer.from(body)], to, slowReaderMs, hold);
}

/** What is left when all is written is a piece at most, and is to be taken in the time of one. */
function watchLast(to: ServerResponse, slowReaderMs: number): void {
  if (to.writableLength === 0) return;
  const watch = new StallWatch(slowReaderMs, () => to.destroy());
  watch.waiting();
  to.once("close", () => watch.stop());
}

async function writePieces(
  chunks: AsyncIterable<Uint8Array> | Iterable<Uint8Array> | null,
  to: ServerResponse,
  slowReaderMs: number,
  hold: Hold,
): Promise<void> {
  const watch = new StallWatch(slowReaderMs, () => to.destroy());
  const closed = new AbortController();
  to.once("close", () => closed.abort());
  try {
    for await (const chunk of chunks ?? []) {
      const taken = hold(chunk.byteLength);
      try {
        for (let at = 0; at < chunk.byteLength; at += pieceBytes) {
          if (to.write(chunk.subarray(at, at + pieceBytes))) continue;
          watch.waiting();
          await event(to, "drain", { signal: closed.signal });
          watch.taken();
        }
      } finally {
        taken();
      }
    }
    to.end();
    watchLast(to, slowReaderMs);
  } catch (error) {
    // The reader went: its response's `close` has ended the operation already. Anything else cuts the stream off,
    // which is how the client can tell it from one that came to its end.
    if (!closed.signal.aborted) {
      to.destroy();
      throw error;
    }
  } finally {
    watch.stop();
  }
}
