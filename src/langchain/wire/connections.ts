import diagnostics from "node:diagnostics_channel";
import type { Socket } from "node:net";
import { Agent, getGlobalDispatcher, type Dispatcher } from "undici";

/**
 * Connections to providers stay open between two turns of a chat: `fetch` alone closes them after 4 s, and each turn would
 * begin with a handshake. A server that says how long it keeps them (`Keep-Alive: timeout=…`) is believed, less a second.
 */
const kept = new Agent({ keepAliveTimeout: 120_000, keepAliveMaxTimeout: 600_000, keepAliveTimeoutThreshold: 1000 });
/** Nothing is sent over one of its connections twice. */
const fresh = new Agent({ pipelining: 0 });

interface Sent {
  readonly socket: Socket;
  /** What had come over the socket before. */
  readonly bytesRead: number;
}

const sent = new WeakMap<object, Sent>();
const stale = new WeakSet<Error>();

// undici's documented channels: they alone tell which socket a request went over.
diagnostics.subscribe("undici:client:sendHeaders", (message) => {
  const { request, socket } = message as { readonly request: object; readonly socket: Socket };
  sent.set(request, { socket, bytesRead: socket.bytesRead });
});
diagnostics.subscribe("undici:request:error", (message) => {
  const { request, error } = message as { readonly request: object; readonly error: Error };
  const before = sent.get(request);
  if (before !== undefined && before.bytesRead > 0 && before.socket.bytesRead === before.bytesRead) stale.add(error);
});

/**
 * `fetch` over connections that are kept. Where one that was used before ends without a byte of the answer, its server had
 * closed it meanwhile: the request is sent once more, over a new one, and `onStale` is told. Never behind a byte.
 * A process that sends its requests its own way (a proxy, `setGlobalDispatcher`) keeps doing so.
 */
export async function fetchKept(
  input: Parameters<typeof fetch>[0],
  init: RequestInit,
  onStale: () => void,
): Promise<Response> {
  if (!isPlain(getGlobalDispatcher())) return await fetch(input, init);
  // Node's types of fetch don't know the option that Node's fetch has.
  const over = (dispatcher: Agent) => ({ ...init, dispatcher });
  try {
    return await fetch(input, over(kept));
  } catch (error) {
    if (!(error instanceof Error && error.cause instanceof Error && stale.has(error.cause))) throw error;
    onStale();
    return await fetch(input, over(fresh));
  }
}

/** By its name: Node's own is of another copy of undici. */
function isPlain(dispatcher: Dispatcher): boolean {
  return dispatcher.constructor.name === "Agent";
}
