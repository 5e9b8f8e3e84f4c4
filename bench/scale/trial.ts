import { setTimeout as sleep } from "node:timers/promises";
import { randomInt } from "node:crypto";
import { Redis } from "ioredis";
import type { Stage } from "../benchmark.ts";
import type { Readers } from "../clients/readers.ts";
import type { TrafficOrders, TrafficRequest } from "../clients/traffic.ts";
import { replyText } from "../model.ts";
import type { BenchProcess } from "../processes.ts";
import { addMutation, chatSubscription, graphqlBody, pageQuery, turnMutation } from "../queries.ts";
import { redisUsage } from "../redis-usage.ts";
import { fillSessions } from "../sessions.ts";
import { sum } from "../statistics.ts";
import type { Load, Rates } from "./model.ts";

/** A reply as people get them: 50 tokens a second, as long as a window. */
export const windowSeconds = 5;
/** Where there is nothing to do: until each socket was pinged once. */
const idleSeconds = 25;
const tokenMs = 20;
const tokens = (windowSeconds * 1000) / tokenMs;
export const pace = { tokens, firstTokenMs: 100, tokenMs };

export interface Measured extends Rates {
  /** The busiest gateway's share of the work of all. */
  readonly busiest: number;
  /** Of messages, from their being sent to their being with a subscriber; NaN where none were. */
  readonly p99Ms: number;
}

/** Several gateways on one Redis, with clients in processes of their own. */
export class World {
  readonly #stage: Stage;
  readonly #gateways: readonly BenchProcess[];
  readonly #traffic: BenchProcess<TrafficOrders>;
  readonly #redis: Redis;
  #trials = 0;

  private constructor(stage: Stage, gateways: readonly BenchProcess[], traffic: BenchProcess<TrafficOrders>) {
    this.#stage = stage;
    this.#gateways = gateways;
    this.#traffic = traffic;
    this.#redis = new Redis(stage.redisUrl);
  }

  /** Its gateways have run for a while: what is measured is what V8 makes of their code then. */
  static async open(stage: Stage, gateways: number): Promise<World> {
    const started: BenchProcess[] = [];
    for (let i = 0; i < gateways; i++) started.push(await stage.start("parley.ts", { pace }));
    const world = new World(stage, started, await stage.start<TrafficOrders>("clients/traffic.ts"));
    const hot = { sessions: 100, fanOut: 10, writesPerSecond: 200, replies: 10, pagesPerSecond: 100 };
    for (let i = 0; i < gateways; i++) await world.trial(hot);
    return world;
  }

  async close(): Promise<void> {
    this.#redis.disconnect();
    await Promise.all([...this.#gateways, this.#traffic].map((one) => one.stop()));
  }

  /** The load, once to warm up and then measured. Every subscriber must get all that is its, once and in order. */
  async trial(load: Omit<Load, "gateways">): Promise<Measured> {
    const trial = ++this.#trials;
    const name = (kind: string, count: number) => Array.from({ length: count }, (_, i) => `${kind}-${trial}-${i}`);
    const sessions = name("chat", load.sessions);
    const replying = name("reply", load.replies);
    await fillSessions(this.#stage.redisUrl, [...sessions, ...replying], 50);
    const chats = await this.#follow(sessions, load.fanOut);
    const readers = await this.#follow(replying, load.fanOut);
    const works = load.writesPerSecond + load.pagesPerSecond + load.replies > 0;
    let rounds = 0;
    const once = async (): Promise<{ readonly pageBytes: number }> => {
      const perSession = Math.round((load.writesPerSecond * windowSeconds) / load.sessions);
      const writes = Array.from({ length: perSession }, (_, k) =>
        sessions.map((sessionId) => ({ body: addBody(sessionId, rounds + k + 1), after: sessionId })),
      ).flat();
      rounds += perSession;
      const pages = Array.from({ length: load.pagesPerSecond * windowSeconds }, (_, i) => ({
        body: graphqlBody(pageQuery, { sessionId: sessions[i % sessions.length] }),
        after: null,
      }));
      const turns = replying.map((sessionId) => ({ body: graphqlBody(turnMutation, { sessionId }), after: null }));
      // The turns at once, so that all replies go on for the whole window.
      const [, pageBytes] = await Promise.all([
        this.#send(writes, load.writesPerSecond),
        this.#send(pages, load.pagesPerSecond),
        this.#send(turns, 1000),
        sleep((works ? windowSeconds : idleSeconds) * 1000),
      ]);
      if (turns.length > 0) await readers.order("reply", { text: replyText(tokens), limitMs: 20_000 });
      return { pageBytes };
    };
    if (works) await once();
    await this.#arrived(chats, rounds);
    await this.#arrived(readers, 0);
    const windows = [];
    for (let i = 0; i < (works ? 2 : 1); i++) {
      const before = await this.#usage();
      const [redisBefore, startedAt] = [await redisUsage(this.#redis), performance.now()];
      const { pageBytes } = await once();
      const { bytes, p99Ms } = await this.#arrived(chats, rounds);
      // A window's work is that of so many seconds, also where a busy machine took longer.
      const seconds = works ? windowSeconds : (performance.now() - startedAt) / 1000;
      const after = await this.#usage();
      const redisAfter = await redisUsage(this.#redis);
      const text = await this.#arrived(readers, 0);
      const cpu = after.map(({ cpuUs }, k) => cpuUs - (before[k]?.cpuUs ?? 0));
      windows.push({
        gateway: sum(cpu) / seconds,
        redis: (redisAfter.cpuUs - redisBefore.cpuUs) / seconds,
        clientBytes: (bytes + text.bytes + pageBytes) / seconds,
        redisBytes: (redisAfter.outBytes - redisBefore.outBytes) / seconds,
        busiest: (Math.max(...cpu) / sum(cpu)) * cpu.length,
        p99Ms,
      });
    }
    await Promise.all([chats.stop(), readers.stop()]);
    // Of two windows the one that took less: what else the machine does only adds to it.
    return windows.reduce((one, other) => (other.gateway < one.gateway ? other : one));
  }

  /** Each subscriber goes to any gateway, as behind a load balancer; resolves when all streams are open. */
  async #follow(sessionIds: readonly string[], fanOut: number): Promise<BenchProcess<Readers>> {
    const readers = await this.#stage.start<Readers>("clients/readers.ts");
    const all = sessionIds.flatMap((sessionId) => Array.from({ length: fanOut }, () => ({ sessionId })));
    const shares = this.#gateways.map((): (typeof all)[number][] => []);
    for (const one of all) shares[randomInt(shares.length)]?.push(one);
    for (const [i, variables] of shares.entries()) {
      const url = `${this.#gateways[i]?.url ?? ""}/graphql`;
      await readers.order("open", { url, count: variables.length, query: chatSubscription, variables });
    }
    while ((await readers.order("answered", undefined)) < all.length) await sleep(20);
    return readers;
  }

  #arrived(readers: BenchProcess<Readers>, through: number) {
    return readers.order("deliveries", { through });
  }

  #send(requests: readonly TrafficRequest[], perSecond: number): Promise<number> {
    const urls = this.#gateways.map(({ url }) => url);
    return requests.length === 0 ? Promise.resolve(0) : this.#traffic.order("send", { urls, requests, perSecond });
  }

  #usage() {
    return Promise.all(this.#gateways.map((gateway) => gateway.usage()));
  }
}

function addBody(sessionId: string, seq: number): string {
  const text = `#${seq} NOW ${"and so it goes on. ".repeat(12)}`.slice(0, 200);
  return graphqlBody(addMutation, { sessionId, text });
}
