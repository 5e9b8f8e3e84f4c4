import { WebSocket } from "ws";
import { machineMs, takeOrders } from "../orders.ts";
import { median, quantile } from "../statistics.ts";

export interface Subscribe {
  readonly url: string;
  readonly count: number;
  readonly query: string;
  /** One for all, or as many as there are readers. */
  readonly variables: readonly object[];
}

export interface Deliveries {
  readonly deliveries: number;
  /** From the moment at which a message was about to be written to each reader's having it. */
  readonly p50Ms: number;
  readonly p99Ms: number;
  /** Until the last of the readers had a message; the median of the messages. */
  readonly lastMs: number;
  /** Of all that has come over the sockets since, above TCP. */
  readonly bytes: number;
}

/** What a subscriber has got. Numbered messages must come each once and in order. */
class Reader {
  readonly socket: WebSocket;
  last = 0;
  text = "";
  textAtMs = 0;
  answered = false;

  constructor(socket: WebSocket) {
    this.socket = socket;
  }

  message(text: string, at: number): void {
    const [, number, sentAt = ""] = /^#(\d+) (\S+)/.exec(text) ?? [];
    // What a turn brings has no number.
    if (number === undefined) return;
    const seq = Number(number);
    if (this.last > 0 && seq !== this.last + 1) problems.push(`message ${seq} came behind ${this.last}`);
    this.last = seq;
    const delay = at - Number(sentAt);
    delays.push(delay);
    slowest.set(seq, Math.max(slowest.get(seq) ?? 0, delay));
  }

  piece({ offset, text }: { readonly offset: number; readonly text: string }, at: number): void {
    if (offset > this.text.length) problems.push(`text at ${offset} came behind ${this.text.length}`);
    this.text = this.text.slice(0, offset) + text;
    this.textAtMs = at;
  }

  take(data: string): void {
    const at = machineMs();
    // The frame's head is 2 bytes long, 4 where the text does not fit in 125.
    bytes += data.length + (data.length > 125 ? 4 : 2);
    // Safe: the servers of the benchmarks speak graphql-transport-ws, and the fields are those of the benchmarks' queries.
    const { type, payload } = JSON.parse(data) as {
      readonly type: string;
      readonly payload?: {
        readonly errors?: unknown;
        readonly data?: {
          readonly messageAdded?: { readonly text: string };
          readonly sessionEvents?: {
            readonly offset?: number;
            readonly text?: string;
            readonly message?: { readonly text: string };
          };
          readonly tokenAdded?: { readonly offset: number; readonly text: string };
        };
      };
    };
    if (type !== "next") {
      if (type !== "ping") problems.push(`${type}: ${data.slice(0, 300)}`);
      return;
    }
    this.answered = true;
    const { messageAdded, sessionEvents, tokenAdded } = payload?.data ?? {};
    if (payload?.errors !== undefined) problems.push(data.slice(0, 300));
    if (messageAdded) this.message(messageAdded.text, at);
    if (sessionEvents?.message) this.message(sessionEvents.message.text, at);
    if (tokenAdded) this.piece(tokenAdded, at);
    if (sessionEvents?.offset !== undefined && sessionEvents.text !== undefined)
      this.piece({ offset: sessionEvents.offset, text: sessionEvents.text }, at);
    look();
  }
}

let readers: Reader[] = [];
let delays: number[] = [];
let problems: string[] = [];
const slowest = new Map<number, number>();
let bytes = 0;
let look = (): void => undefined;

/** Resolves when it holds; looked at with each message. */
async function until(what: string, limitMs: number, holds: () => boolean): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    const fail = () => reject(new Error(`No ${what} within ${limitMs} ms: ${problems.slice(0, 3).join("; ")}`));
    const limit = setTimeout(fail, limitMs);
    look = () => {
      if (!holds()) return;
      clearTimeout(limit);
      look = () => undefined;
      resolve();
    };
    look();
  });
  if (problems.length > 0) throw new Error(`${problems.length} wrong, first: ${problems.slice(0, 3).join("; ")}`);
}

async function openReader({ url, query, variables }: Subscribe, i: number): Promise<Reader> {
  const socket = new WebSocket(url.replace(/^http/, "ws"), "graphql-transport-ws", { perMessageDeflate: false });
  const reader = new Reader(socket);
  await new Promise<void>((resolve, reject) => {
    socket.once("error", reject);
    socket.once("open", () => socket.send('{"type":"connection_init"}'));
    socket.once("message", () => resolve());
    socket.once("close", (code) => {
      problems.push(`a socket was closed with ${code}`);
      reject(new Error(`Closed with ${code}`));
    });
  });
  // Safe: without binaryType a text message comes as a Buffer.
  socket.on("message", (data) => reader.take((data as Buffer).toString("utf8")));
  const payload = { query, variables: variables[i % variables.length] };
  socket.send(JSON.stringify({ id: "1", type: "subscribe", payload }));
  return reader;
}

export const orders = {
  async open(subscribe: Subscribe): Promise<void> {
    for (let i = 0; i < subscribe.count; i += 50) {
      const few = Array.from({ length: Math.min(50, subscribe.count - i) }, (_, k) => openReader(subscribe, i + k));
      readers.push(...(await Promise.all(few)));
    }
  },

  /** How many have got anything yet. */
  answered(): number {
    return readers.filter((reader) => reader.answered).length;
  },

  /** Waits until all have message number `through`, and tells of the messages since it was asked last. */
  async deliveries({ through }: { readonly through: number }): Promise<Deliveries> {
    await until(`message ${through}`, 30_000, () => readers.every(({ last }) => last >= through));
    const result = {
      deliveries: delays.length,
      p50Ms: quantile(delays, 0.5),
      p99Ms: quantile(delays, 0.99),
      lastMs: median([...slowest.values()]),
      bytes,
    };
    bytes = 0;
    delays = [];
    slowest.clear();
    return result;
  },

  /** Waits until each has exactly this text; gives when the last of them had it, of machineMs(). Then they begin anew. */
  async reply({ text, limitMs }: { readonly text: string; readonly limitMs: number }): Promise<number> {
    await until("whole reply", limitMs, () => readers.every((reader) => reader.text.length >= text.length));
    const wrong = readers.filter((reader) => reader.text !== text);
    if (wrong.length > 0) throw new Error(`${wrong.length} readers have another text: ${wrong[0]?.text.slice(0, 100)}`);
    const last = Math.max(...readers.map(({ textAtMs }) => textAtMs));
    for (const reader of readers) reader.text = "";
    return last;
  },

  async close(): Promise<void> {
    const gone = readers.map(({ socket }) => new Promise((resolve) => socket.once("close", resolve)));
    for (const { socket } of readers) socket.close();
    await Promise.all(gone);
    readers = [];
    problems = [];
  },
};

export type Readers = typeof orders;

takeOrders(orders);
