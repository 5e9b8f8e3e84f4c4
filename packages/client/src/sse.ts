import { errorOf, waitMs } from "./error.ts";
import type { Answer } from "./error.ts";
import type { Link, LinkOptions, LinkSink } from "./link.ts";

export type Post = (query: string, variables: object, accept: string, signal: AbortSignal) => Promise<Response>;

/** Subscriptions as server-sent events: a request each. */
type Options = Pick<LinkOptions, "onEvent" | "silenceMs">;

export function createSseLink(post: Post, options: Options): Link {
  const streams = new Set<() => void>();
  return {
    follow(query, variables, sink) {
      const stop = follow(post, options, query, variables, sink);
      const end = () => {
        streams.delete(end);
        stop();
      };
      streams.add(end);
      return end;
    },
    close() {
      for (const end of [...streams]) end();
    },
  };
}

function follow(
  post: Post,
  { onEvent, silenceMs }: Options,
  query: string,
  variables: () => object,
  sink: LinkSink,
): () => void {
  let ended = false;
  let request = new AbortController();
  let timer: ReturnType<typeof setTimeout> | undefined;
  let tries = 0;

  /** A connection that died without a word is noticed by its silence. */
  function listen(): void {
    clearTimeout(timer);
    timer = setTimeout(() => request.abort(), silenceMs);
  }
  function end(error: Parameters<LinkSink["end"]>[0]): void {
    if (!ended) sink.end(error);
    stop();
  }
  function stop(): void {
    ended = true;
    clearTimeout(timer);
    request.abort();
  }
  async function connect(): Promise<void> {
    request = new AbortController();
    listen();
    try {
      const response = await post(query, variables(), "text/event-stream", request.signal);
      const { body } = response;
      if (body === null || response.headers.get("content-type")?.startsWith("text/event-stream") !== true) {
        const { errors } = (await response.json()) as Answer; // what is no GraphQL answer throws, and is tried again
        end(errorOf(errors));
        return;
      }
      onEvent({ kind: "open", text: response.url });
      for await (const { event, data } of eventsOf(body, listen)) {
        if (event === "complete") end(null);
        if (ended) return;
        tries = 0;
        onEvent({ kind: "message", text: data });
        sink.next(JSON.parse(data) as Answer); // GraphQL's result
      }
    } catch (error) {
      onEvent({ kind: "lost", text: String(error) });
    }
    // Without `complete` it was cut off.
    if (ended) return;
    sink.lost();
    clearTimeout(timer);
    timer = setTimeout(() => void connect(), waitMs(tries++));
  }

  void connect();
  return stop;
}

async function* eventsOf(
  body: ReadableStream<Uint8Array>,
  onBytes: () => void,
): AsyncGenerator<{ readonly event: string; readonly data: string }> {
  const reader = body.getReader();
  const decoder = new TextDecoder();
  try {
    for (let rest = ""; ;) {
      const { done, value } = await reader.read();
      if (done) return;
      onBytes();
      const parts = (rest + decoder.decode(value, { stream: true })).split("\n\n");
      rest = parts.pop() ?? "";
      for (const part of parts) {
        const field = (name: string) => new RegExp(`^${name}: ?(.*)$`, "m").exec(part)?.[1] ?? "";
        const event = field("event");
        if (event !== "") yield { event, data: field("data") };
      }
    }
  } finally {
    reader.cancel().catch(() => undefined); // it may have failed already
  }
}
