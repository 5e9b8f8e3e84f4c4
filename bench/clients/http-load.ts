import { machineMs, takeOrders } from "../orders.ts";
import { quantile } from "../statistics.ts";
import { HttpConnection } from "./http-connection.ts";

export interface HttpRequest {
  readonly url: string;
  readonly path: string;
  /** Taken in turn; `UNIQUE` in one is replaced by something new in each request. */
  readonly bodies: readonly string[];
}

export interface LoadResult {
  readonly requests: number;
  readonly ms: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
}

let made = 0;
/**
 * Of each server, by its URL, how many bodies it was sent: each load goes on where the one before ended, so that each body has
 * its turn. Counted together, one server's requests would move the next one's turns, and a body could come back early.
 */
const turns = new Map<string, number>();
let connections: readonly HttpConnection[] = [];

function bodyOf(text: string): string {
  return text.includes("UNIQUE") ? text.replaceAll("UNIQUE", `${process.pid}-${++made}`) : text;
}

export const orders = {
  /** Each body once; gives the answers. */
  async answers({ url, path, bodies }: HttpRequest): Promise<readonly { status: number; text: string }[]> {
    const connection = await HttpConnection.open(url);
    const answers = [];
    for (const body of bodies) {
      const answer = await connection.post(path, bodyOf(body));
      answers.push({ status: answer.status, text: answer.body.toString("utf8") });
    }
    connection.close();
    return answers;
  },

  /** Opens connections and asks on each once, so that opening them is not what load() is measured at. */
  async connect({ url, path, bodies, count }: HttpRequest & { readonly count: number }): Promise<void> {
    connections = await Promise.all(Array.from({ length: count }, () => HttpConnection.open(url)));
    await Promise.all(connections.map((one, i) => one.post(path, bodyOf(bodies[i % bodies.length] ?? ""))));
  },

  /**
   * As many requests as the connections can have answered within `ms`, or `requests` of them. Each answer must have
   * status 200 and, where they are given, the length that the answer to this body has.
   */
  async load(
    request: HttpRequest & {
      readonly ms?: number;
      readonly requests?: number;
      readonly lengths?: readonly number[];
    },
  ): Promise<LoadResult> {
    const { url, path, bodies, ms = Infinity, requests = Infinity, lengths } = request;
    const latencies: number[] = [];
    let sent = 0;
    const startedAt = machineMs();
    const work = async (connection: HttpConnection) => {
      for (let now = startedAt; now - startedAt < ms && sent < requests;) {
        const turn = turns.get(url) ?? 0;
        turns.set(url, turn + 1);
        const which = turn % bodies.length;
        sent += 1;
        const { status, body } = await connection.post(path, bodyOf(bodies[which] ?? ""));
        const then = machineMs();
        latencies.push(then - now);
        now = then;
        if (status !== 200 || (lengths && body.length !== lengths[which]))
          throw new Error(`Answered ${status}: ${body.toString("utf8").slice(0, 500)}`);
      }
    };
    await Promise.all(connections.map(work));
    return {
      requests: sent,
      ms: machineMs() - startedAt,
      p50Ms: quantile(latencies, 0.5),
      p99Ms: quantile(latencies, 0.99),
    };
  },

  disconnect(): void {
    for (const connection of connections) connection.close();
    connections = [];
  },
};

export type HttpLoad = typeof orders;

takeOrders(orders);
