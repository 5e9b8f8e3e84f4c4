import { errorOf, isPassing, ParleyError, waitMs } from "./error.ts";
import type { Answer } from "./error.ts";
import type { RawEvent } from "./link.ts";
import { createSocketLink } from "./socket.ts";
import type { SocketConstructor } from "./socket.ts";
import { createSseLink } from "./sse.ts";

type Token = string | null | undefined;

export interface TransportOptions {
  /** Of the endpoint; in a page also "/graphql". */
  readonly url: string;
  /** A bearer token, or what gives a fresh one: it is asked at each request and each connection. */
  readonly token?: Token | (() => Token | Promise<Token>);
  /** More headers, for requests over HTTP. A browser's WebSocket cannot send any. */
  readonly headers?: Readonly<Record<string, string>>;
  /** What carries live events: "websocket" unless said. */
  readonly live?: "websocket" | "sse";
  readonly fetch?: typeof fetch;
  /** Where there is no WebSocket (Node 20): the one of the package ws. */
  readonly webSocket?: SocketConstructor;
  /** After so many milliseconds without a byte a connection is taken for dead: 30,000 unless said. The gateway sends something every 12 s. */
  readonly silenceMs?: number;
  /** For a page that shows what goes over the wire. */
  readonly onEvent?: (event: RawEvent) => void;
}

export interface Sink<T> {
  next(data: T): void;
  /** The connection is lost; another try is under way. */
  lost(): void;
  /** Nothing more will come. null: the gateway said so. */
  end(error: ParleyError | null): void;
}

export interface Transport {
  /** What may not be sent twice is tried once. */
  readonly request: <T>(query: string, variables: object, tries?: number) => Promise<T>;
  /** At the gateway, with the client's headers and token; a path is one of the gateway's. It is tried once. */
  readonly fetch: (path: string, init: RequestInit) => Promise<Response>;
  /** Goes on over cuts. `variables` are asked for anew at each connect. Returns what ends it. */
  readonly follow: <T>(query: string, variables: () => object, sink: Sink<T>) => () => void;
  /** Ends all that goes on. What is asked for afterwards connects again. */
  readonly close: () => void;
}

const requestMs = 60_000;
const requestTries = 5;

export function createTransport(options: TransportOptions): Transport {
  const { onEvent = () => undefined, silenceMs = 30_000 } = options;
  let closing = new AbortController();
  const canRenew = typeof options.token === "function";
  const token = async () => (typeof options.token === "function" ? options.token() : options.token);
  // Resolved when it is needed: a server that renders has no address of a page.
  const address = () => new URL(options.url, (globalThis as { location?: { href: string } }).location?.href).href;

  const send: Transport["fetch"] = async (path, init) => {
    const bearer = await token();
    const headers = new Headers({ ...options.headers, ...(bearer ? { authorization: `Bearer ${bearer}` } : {}) });
    new Headers(init.headers).forEach((value, name) => headers.set(name, value));
    return (options.fetch ?? fetch)(new URL(path, address()).href, { ...init, headers });
  };
  const post = (query: string, variables: object, accept: string, signal: AbortSignal) =>
    send("", {
      method: "POST",
      headers: { "content-type": "application/json", accept },
      body: JSON.stringify({ query, variables }),
      signal,
    });

  /** Its data, or why there is none. */
  async function attempt(query: string, variables: object): Promise<{ readonly data: unknown } | ParleyError> {
    const ending = new AbortController();
    const end = () => ending.abort();
    const timer = setTimeout(end, requestMs);
    const { signal } = closing;
    signal.addEventListener("abort", end);
    try {
      const response = await post(query, variables, "application/json", ending.signal);
      const { data, errors } = (await response.json()) as Answer; // what is no GraphQL answer throws
      return errors === undefined && data !== undefined ? { data } : errorOf(errors);
    } catch (error) {
      return new ParleyError("UNREACHABLE", `The gateway cannot be reached: ${String(error)}`);
    } finally {
      clearTimeout(timer);
      signal.removeEventListener("abort", end);
    }
  }

  async function request<T>(query: string, variables: object, most = requestTries): Promise<T> {
    const { signal } = closing;
    for (let tries = 1; ; tries++) {
      const answer = await attempt(query, variables);
      if (!(answer instanceof ParleyError)) return answer.data as T; // as the document selects it
      const isOver = answer.code === "UNAUTHENTICATED" && canRenew && tries === 1;
      const isShort =
        answer.code === "UNREACHABLE" || answer.code === "STORE_UNAVAILABLE" || answer.code === "OVERLOADED";
      if (tries >= most || signal.aborted || !(isOver || isShort)) throw answer;
      if (isShort) await new Promise((resolve) => setTimeout(resolve, waitMs(tries - 1, answer)));
    }
  }

  const link =
    options.live === "sse"
      ? createSseLink(post, { onEvent, silenceMs })
      : createSocketLink({ url: address, token, onEvent, silenceMs }, options.webSocket);

  function follow<T>(query: string, variables: () => object, sink: Sink<T>): () => void {
    let stop: (() => void) | undefined;
    let timer: ReturnType<typeof setTimeout> | undefined;
    let tries = 0;
    const open = () => {
      let refusal: ParleyError | null = null;
      stop = link.follow(query, variables, {
        next({ data, errors }) {
          // A refused subscription comes as a result with errors and without data, then its end.
          if (errors !== undefined) refusal = errorOf(errors);
          if (data == null) return;
          tries = 0;
          sink.next(data as T); // as the document selects it
        },
        lost: () => sink.lost(),
        end(error) {
          const why = error ?? refusal;
          // A token may have expired on its way: once more, with a fresh one.
          const isOver = why?.code === "UNAUTHENTICATED" && canRenew && tries === 0;
          if (why === null || !(isOver || isPassing(why))) {
            sink.end(why);
            return;
          }
          sink.lost();
          timer = setTimeout(open, waitMs(tries++, why));
        },
      });
    };
    open();
    return () => {
      clearTimeout(timer);
      stop?.();
    };
  }

  return {
    request,
    fetch: send,
    follow,
    close() {
      closing.abort();
      closing = new AbortController();
      link.close();
    },
  };
}
