import { createClient } from "graphql-ws";
import { WebSocket } from "ws";

// A client as a frontend has it, over real sockets. The type parameters say what the test's document selects.

export interface ErrorShape {
  readonly message: string;
  readonly path?: readonly (string | number)[];
  readonly extensions?: {
    readonly code?: string;
    readonly field?: string;
    readonly runId?: string;
    readonly retryAfterSeconds?: number;
  };
}

export interface Result<Data> {
  readonly data?: Data | null;
  readonly errors?: readonly ErrorShape[];
}

export type Variables = Readonly<Record<string, unknown>>;

function post(url: string, query: string, variables: Variables, accept: string, signal?: AbortSignal) {
  return fetch(url, {
    method: "POST",
    headers: { "content-type": "application/json", accept },
    body: JSON.stringify({ query, variables }),
    ...(signal === undefined ? {} : { signal }),
  });
}

/** One operation over HTTP POST. `signal` closes the connection, as a page that is left does. */
export async function request<Data>(
  url: string,
  query: string,
  variables: Variables = {},
  signal?: AbortSignal,
): Promise<Result<Data>> {
  const response = await post(url, query, variables, "application/json", signal);
  return (await response.json()) as Result<Data>; // the test says what its document selects
}

/** The data of an operation that must have no error. */
export async function execute<Data>(url: string, query: string, variables: Variables = {}): Promise<Data> {
  const { data, errors } = await request<Data>(url, query, variables);
  if (errors !== undefined || data === undefined || data === null) {
    throw new Error(`The operation failed: ${JSON.stringify(errors)}`);
  }
  return data;
}

/** The first error of an operation that must be refused. */
export async function refusal(url: string, query: string, variables: Variables = {}): Promise<ErrorShape> {
  const { data, errors } = await request(url, query, variables);
  const [error] = errors ?? [];
  if (error === undefined) throw new Error(`The operation was not refused: ${JSON.stringify(data)}`);
  return error;
}

/** The parts of an incremental answer (@defer), each as it arrives. */
export async function* requestParts(url: string, query: string, variables: Variables = {}): AsyncGenerator {
  const response = await post(url, query, variables, "multipart/mixed");
  const boundary = /boundary="?([^";]+)/.exec(response.headers.get("content-type") ?? "")?.[1];
  if (boundary === undefined || response.body === null) throw new Error("The answer does not come in parts");
  let text = "";
  for await (const chunk of response.body.pipeThrough(new TextDecoderStream())) {
    text += chunk;
    const parts = text.split(`--${boundary}`);
    text = parts.pop() ?? "";
    for (const part of parts) {
      const body = part.slice(part.indexOf("\r\n\r\n") + 4).trim();
      if (body.startsWith("{")) yield JSON.parse(body);
    }
  }
}

/** A subscription's events as they came. */
export interface Collector<Event> {
  readonly events: readonly Event[];
  /** What ended it: null while it goes on, and where it was completed without an error. */
  readonly error: ErrorShape | null;
  readonly ended: boolean;
  /** The first event that fits, also among those that came before; rejects where the stream ends or 20 s pass before. */
  waitFor(fits: (event: Event) => boolean, what?: string): Promise<Event>;
  /** Resolves when so many events that fit have come. */
  waitForCount(count: number, fits?: (event: Event) => boolean): Promise<readonly Event[]>;
  /** Resolves when the server has ended it. */
  waitForEnd(): Promise<void>;
  /** Completes it and closes its socket. */
  close(): void;
}

const limitMs = 60_000;

/** Subscribes over a WebSocket of its own; `Data` holds the one root field, `name` says which. */
export function subscribe<Event>(url: string, query: string, variables: Variables = {}): Collector<Event> {
  const client = createClient({ url: url.replace(/^http/, "ws"), webSocketImpl: WebSocket, retryAttempts: 0 });
  const events: Event[] = [];
  const looking = new Set<() => void>();
  const look = () => [...looking].forEach((one) => one());
  let error: ErrorShape | null = null;
  let ended = false;
  const stop = client.subscribe<Record<string, Event>>(
    { query, variables },
    {
      next({ data, errors }) {
        events.push(...Object.values(data ?? {}));
        error = errors?.[0] ?? error;
        look();
      },
      error(cause) {
        error = shapeOf(cause);
        ended = true;
        look();
      },
      complete() {
        ended = true;
        look();
      },
    },
  );
  const until = (holds: () => boolean, what: string, unlessEnded: boolean) =>
    new Promise<void>((resolve, reject) => {
      const settle = (settled: () => void) => {
        clearTimeout(limit);
        looking.delete(check);
        settled();
      };
      const fail = (why: string) =>
        settle(() =>
          reject(new Error(`${why}: ${what}; error ${JSON.stringify(error)}; came ${JSON.stringify(events)}`)),
        );
      const check = () => {
        if (holds()) settle(resolve);
        else if (ended && unlessEnded) fail("The stream ended before");
      };
      const limit = setTimeout(() => fail(`Not within ${limitMs / 1000} s`), limitMs);
      looking.add(check);
      check();
    });
  return {
    events,
    get error() {
      return error;
    },
    get ended() {
      return ended;
    },
    async waitFor(fits, what = fits.toString()) {
      let found: { readonly event: Event } | undefined;
      const find = () => {
        const at = events.findIndex(fits);
        if (at >= 0) found = { event: events[at] as Event }; // there is one at `at`
        return at >= 0;
      };
      await until(find, what, true);
      if (found === undefined) throw new Error(what);
      return found.event;
    },
    async waitForCount(count, fits = () => true) {
      await until(() => events.filter(fits).length >= count, `${count} events ${fits.toString()}`, true);
      return events.filter(fits);
    },
    waitForEnd: () => until(() => ended, "the stream's end", false),
    close() {
      stop();
      void client.dispose();
    },
  };
}

/** graphql-ws hands over the errors of an error message as an array, and a CloseEvent where the socket closed. */
function shapeOf(cause: unknown): ErrorShape {
  if (Array.isArray(cause)) return cause[0] as ErrorShape; // the protocol's error message
  if (typeof cause === "object" && cause !== null && "code" in cause && "reason" in cause) {
    return { message: `The socket closed with ${String(cause.code)} ${String(cause.reason)}` };
  }
  return { message: cause instanceof Error ? cause.message : String(cause) };
}
