import type { Recorder } from "./recorder.ts";

/** The page's way to the gateway: all of it is recorded, and a button cuts it. */
export class Network {
  readonly #recorder: Recorder;
  readonly #sockets = new Set<WebSocket>();
  readonly #requests = new Set<AbortController>();
  #isCut = false;

  constructor(recorder: Recorder) {
    this.#recorder = recorder;
  }

  /** Closes what is open, as a network does that fails: nobody says goodbye. The client connects again by itself. */
  readonly cut = (): void => {
    for (const socket of this.#sockets) socket.close();
    for (const request of this.#requests) request.abort();
  };

  /** true: nothing gets through until it is false again. */
  readonly keepCut = (isCut: boolean): void => {
    this.#isCut = isCut;
    if (isCut) this.cut();
  };

  readonly fetch: typeof fetch = async (input, init) => {
    const answered = this.#recorder.operation(init?.body as string); // the client's
    const request = new AbortController();
    const end = () => request.abort();
    init?.signal?.addEventListener("abort", end);
    this.#requests.add(request);
    try {
      if (this.#isCut) throw new TypeError("the connection is cut");
      const response = await fetch(input, { ...init, signal: request.signal });
      const text = await response.text();
      answered(codeOf(text));
      return new Response(text, response);
    } catch (error) {
      answered("UNREACHABLE");
      throw error;
    } finally {
      this.#requests.delete(request);
      init?.signal?.removeEventListener("abort", end);
    }
  };

  /** For the client's option `webSocket`. */
  get socket(): new (url: string, protocol: string) => object {
    const open = (url: string, protocol: string) => (this.#isCut ? noSocket() : this.#open(url, protocol));
    // What a constructor returns is what `new` gives.
    return function Socket(url: string, protocol: string) {
      return open(url, protocol);
    } as unknown as new (url: string, protocol: string) => object;
  }

  #open(url: string, protocol: string): WebSocket {
    const socket = new WebSocket(url, protocol);
    this.#sockets.add(socket);
    socket.addEventListener("close", () => this.#sockets.delete(socket));
    const send = socket.send.bind(socket);
    socket.send = (data) => {
      send(data);
      const { type, payload } = JSON.parse(data as string) as { readonly type: string; readonly payload?: unknown }; // the client's
      if (type === "subscribe") this.#recorder.operation(JSON.stringify(payload));
    };
    return socket;
  }
}

/** What a browser gives where there is no network: a socket that closes. */
function noSocket(): object {
  const socket = {
    readyState: 3,
    onclose: null as ((event: { readonly code: number; readonly reason: string }) => void) | null, // the client sets it
    send: () => undefined,
    close: () => undefined,
  };
  setTimeout(() => socket.onclose?.({ code: 1006, reason: "" }));
  return socket;
}

function codeOf(answer: string): string | null {
  const { errors } = JSON.parse(answer) as {
    readonly errors?: readonly { readonly extensions?: { readonly code?: string } }[];
  }; // GraphQL's
  return errors === undefined ? null : (errors[0]?.extensions?.code ?? "UNKNOWN");
}
