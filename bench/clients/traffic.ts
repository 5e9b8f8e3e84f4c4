import { setTimeout as sleep } from "node:timers/promises";
import { machineMs, takeOrders } from "../orders.ts";
import { sum } from "../statistics.ts";
import { HttpConnection } from "./http-connection.ts";

export interface TrafficRequest {
  /** `NOW` in it is replaced by machineMs(). */
  readonly body: string;
  /** Sent when the one before of the same name is answered: two gateways don't know which of two messages was meant first. */
  readonly after: string | null;
}

export interface Traffic {
  /** Of the servers, taken in turn. */
  readonly urls: readonly string[];
  /** Sent in this order, evenly over time. */
  readonly requests: readonly TrafficRequest[];
  readonly perSecond: number;
}

/** As many connections to a server as there are requests at a time. */
class Connections {
  readonly #free = new Map<string, HttpConnection[]>();

  async post(url: string, body: string): Promise<number> {
    const free = this.#free.get(url) ?? [];
    this.#free.set(url, free);
    const connection = free.pop() ?? (await HttpConnection.open(url));
    const { status, body: answer } = await connection.post("/graphql", body);
    free.push(connection);
    if (status !== 200 || answer.includes('"errors"')) throw new Error(`${status}: ${answer.toString("utf8")}`);
    return answer.length;
  }

  close(): void {
    for (const connection of [...this.#free.values()].flat()) connection.close();
  }
}

const orders = {
  /** Resolves when all are answered, with how many bytes the answers' bodies had. */
  async send({ urls, requests, perSecond }: Traffic): Promise<number> {
    const connections = new Connections();
    const startedAt = machineMs();
    const answers: Promise<number>[] = [];
    const newest = new Map<string, Promise<number>>();
    for (const [i, { body, after }] of requests.entries()) {
      const waitMs = startedAt + (i * 1000) / perSecond - machineMs();
      if (waitMs > 0) await sleep(waitMs);
      const post = () => connections.post(urls[i % urls.length] ?? "", body.replace("NOW", machineMs().toFixed(3)));
      const answer = ((after === null ? null : newest.get(after)) ?? Promise.resolve(0)).then(post);
      if (after !== null) newest.set(after, answer);
      answers.push(answer);
    }
    const bytes = await Promise.all(answers);
    connections.close();
    return sum(bytes);
  },
};

export type TrafficOrders = typeof orders;

takeOrders(orders);
