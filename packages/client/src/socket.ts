import { errorOf, ParleyError, waitMs } from "./error.ts";
import type { Answer } from "./error.ts";
import type { Link, LinkOptions, LinkSink } from "./link.ts";

/** Subscriptions by the protocol graphql-transport-ws: one socket for all, opened at the first, closed a while after the last. */

interface Stream {
  readonly query: string;
  readonly variables: () => object;
  readonly sink: LinkSink;
}

interface Frame {
  readonly id?: string;
  readonly type: string;
  readonly payload?: unknown;
}

export type SocketConstructor = new (url: string, protocol: string) => object;

/** After the last stream has ended the socket stays for this long, for a next one. */
const idleMs = 3000;
const open = 1; // WebSocket.OPEN

export function createSocketLink({ url, token, onEvent, silenceMs }: LinkOptions, custom?: SocketConstructor): Link {
  const streams = new Map<string, Stream>();
  let socket: WebSocket | null = null;
  /** Whether the gateway has taken connection_init. */
  let ready = false;
  let tries = 0;
  let count = 0;
  let retry: ReturnType<typeof setTimeout> | undefined;
  let silence: ReturnType<typeof setTimeout> | undefined;
  let idle: ReturnType<typeof setTimeout> | undefined;

  function send(frame: Frame): void {
    if (socket?.readyState === open) socket.send(JSON.stringify(frame));
  }
  function start(id: string, { query, variables }: Stream): void {
    send({ id, type: "subscribe", payload: { query, variables: variables() } });
  }

  function connect(): void {
    retry = undefined;
    if (streams.size === 0) return;
    // Taken when it is needed: where a server renders there may be none.
    const Socket = (custom ?? globalThis.WebSocket) as typeof WebSocket | undefined; // or one of the same interface
    if (Socket === undefined) throw new Error('There is no WebSocket here: give the option webSocket, or live: "sse"');
    const own = new Socket(url().replace(/^http/, "ws"), "graphql-transport-ws");
    socket = own;
    listen(own);
    own.onopen = () => {
      onEvent({ kind: "open", text: own.url });
      token().then(
        (bearer) => {
          if (own === socket)
            send({ type: "connection_init", payload: bearer ? { authorization: `Bearer ${bearer}` } : {} });
        },
        () => own.close(),
      );
    };
    own.onmessage = ({ data }) => {
      if (own !== socket) return;
      const text = String(data);
      listen(own);
      onEvent({ kind: "message", text });
      receive(JSON.parse(text) as Frame); // the protocol's
    };
    own.onclose = ({ code, reason }) => drop(own, code, reason);
    // The close event follows.
    own.onerror = () => undefined;
  }

  /** A connection that died without a word is noticed only by who asks. Its close event may come minutes later. */
  function listen(own: WebSocket): void {
    clearTimeout(silence);
    silence = setTimeout(() => {
      send({ type: "ping" });
      silence = setTimeout(() => {
        drop(own, 1006, "No answer");
        own.close();
      }, silenceMs / 3);
    }, silenceMs / 2);
  }

  function receive({ id = "", type, payload }: Frame): void {
    const stream = streams.get(id);
    switch (type) {
      case "connection_ack":
        ready = true;
        tries = 0;
        for (const [key, one] of streams) start(key, one);
        break;
      case "ping":
        send({ type: "pong" });
        break;
      case "next":
        stream?.sink.next(payload as Answer); // GraphQL's result
        break;
      case "error":
      case "complete":
        streams.delete(id);
        stream?.sink.end(type === "error" ? errorOf(payload as Answer["errors"]) : null);
        rest();
    }
  }

  function drop(own: WebSocket, code: number, reason: string): void {
    if (own !== socket) return;
    socket = null;
    ready = false;
    clearTimeout(silence);
    onEvent({ kind: "lost", text: `${code} ${reason}` });
    // 4408 and 4429 say "not now", the other codes from 4400 on that another try would end the same way.
    if (code >= 4400 && code < 4500 && code !== 4408 && code !== 4429) {
      const isToken = code === 4401 || code === 4403;
      const error = new ParleyError(isToken ? "UNAUTHENTICATED" : "CONNECTION_REFUSED", `${reason} (${code})`);
      const all = [...streams.values()];
      streams.clear();
      for (const { sink } of all) sink.end(error);
    } else if (streams.size > 0) {
      retry = setTimeout(connect, waitMs(tries++));
      for (const { sink } of [...streams.values()]) sink.lost();
    }
  }

  /** Closes the socket if nobody needs it for a while. */
  function rest(): void {
    clearTimeout(idle);
    if (streams.size === 0) idle = setTimeout(close, idleMs);
  }
  function close(): void {
    for (const timer of [retry, silence, idle]) clearTimeout(timer);
    retry = undefined;
    const own = socket;
    socket = null;
    ready = false;
    own?.close(1000);
  }

  return {
    follow(query, variables, sink) {
      const id = String(count++);
      const stream = { query, variables, sink };
      streams.set(id, stream);
      clearTimeout(idle);
      if (ready) start(id, stream);
      else if (socket === null && retry === undefined) connect();
      return () => {
        if (!streams.delete(id)) return;
        if (ready) send({ id, type: "complete" });
        rest();
      };
    },
    close() {
      streams.clear();
      close();
    },
  };
}
